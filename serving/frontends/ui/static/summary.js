// The header, and the figures of all LLMs together.

import { byId, element, setText } from "./dom.js";
import { count, duration, percent, rate } from "./format.js";

const TOTALS = [
  ["Tokens/s", ({ unit }) => rate(total(unit, "tokens_per_second"))],
  ["Running", ({ unit }) => count(total(unit, "running"))],
  ["Waiting", ({ unit }) => count(total(unit, "waiting"))],
  ["Lowest SLO attained", ({ unit }) => percent(lowest(unit.llms.map((llm) => llm.slo_attainment)))],
  ["Fairness gap", ({ unit }) => unit.fairness_gap.toFixed(2)],
  ["Steps", ({ unit }) => count(unit.steps)],
  ["Up", ({ uptime_seconds: uptime }) => duration(uptime)],
];

export class Summary {
  constructor() {
    this.values = TOTALS.map(([name]) => {
      const value = element("dd");
      byId("totals").append(element("div", "", element("dt", "", name), value));
      return value;
    });
  }

  update(overview) {
    TOTALS.forEach(([, figure], i) => setText(this.values[i], figure(overview)));
    setText(byId("version"), overview.version);
    setText(byId("summary"), states(overview.unit.llms));
    byId("empty").hidden = overview.unit.steps > 0;
  }
}

function states(llms) {
  const counts = new Map();
  for (const { state } of llms) counts.set(state, (counts.get(state) ?? 0) + 1);
  const words = [...counts].map(([state, number]) => `${number} ${state}`);
  return `${llms.length} LLM${llms.length === 1 ? "" : "s"}: ${words.join(", ")}`;
}

const total = (unit, figure) => unit.llms.reduce((sum, llm) => sum + llm[figure], 0);

function lowest(values) {
  const known = values.filter((value) => value !== null);
  return known.length ? Math.min(...known) : null;
}
