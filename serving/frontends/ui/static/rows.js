// The table: one row for each LLM.

import { PoolPart } from "./bars.js";
import { element, setColor, setText, setLabel } from "./dom.js";
import { count, percent, rate, together, seconds } from "./format.js";
import { Keyed } from "./keyed.js";
import { Sparkline } from "./sparkline.js";

const LENGTH = 60; // samples across a sparkline
const COLUMNS = 8;

export class Rows {
  constructor(body) {
    this.body = body;
    this.rows = new Keyed(body, (name, index) => new Row(name, index));
  }

  update({ unit, history }) {
    const widest = Math.max(1, ...unit.llms.map((llm) => Math.max(llm.blocks_quota, llm.blocks_entitled, llm.blocks_used)));
    this.body.classList.toggle("many", unit.llms.length > 10);
    this.rows.update(unit.llms, history, widest);
  }
}

class Row {
  constructor(name, index) {
    this.name = element("span", "name", name);
    this.name.title = name;
    this.state = element("span", "state");
    const head = element("th", "", element("i", "swatch"), this.name, this.state);
    head.scope = "row";
    head.setAttribute("role", "rowheader");
    this.cells = [new Requests(), new PoolCell(), new Steps(), new Tokens(), new Latency("First token", "ttft"), new Latency("Per token", "tpot"), new Attainment()];
    this.error = cell("error", "");
    this.error.colSpan = COLUMNS - 1;
    this.node = element("tr", "", head, ...this.cells.map((part) => part.node), this.error);
    this.node.setAttribute("role", "row");
    setColor(this.node, index);
  }

  update(llm, history, widest) {
    const failed = llm.state === "failed";
    this.node.dataset.state = llm.state;
    const words = llm.state === "compiling" ? `compiling ${llm.programs_compiled}/${llm.programs_needed}` : llm.state;
    setText(this.state, llm.errors ? `${words} · ${count(llm.errors)} error${llm.errors === 1 ? "" : "s"}` : words);
    this.error.hidden = !failed;
    setText(this.error, failed ? (llm.error ?? "failed") : "");
    for (const part of this.cells) {
      part.node.hidden = failed;
      part.update(llm, history[llm.name], widest);
    }
  }
}

function cell(className, label, ...children) {
  const made = element("td", className, ...children);
  made.setAttribute("role", "cell");
  if (label) made.dataset.label = label;
  return made;
}

class Requests {
  constructor() {
    this.figures = element("span", "figures");
    this.note = element("span", "note");
    this.spark = new Sparkline();
    this.node = cell("", "Requests", this.figures, this.note, this.spark.node);
  }

  update(llm, history) {
    setText(this.figures, `${count(llm.running)} · ${count(llm.waiting)}`);
    setLabel(this.figures, `${count(llm.running)} running, ${count(llm.waiting)} waiting`);
    setText(this.note, llm.preemptions ? `${count(llm.preemptions)} preempted` : "");
    const both = history.running.map((running, i) => (running === null ? null : running + history.waiting[i]));
    this.spark.update(history.running, { upper: both, length: LENGTH, top: 4 });
  }
}

class PoolCell {
  constructor() {
    this.figures = element("span", "figures");
    this.note = element("span", "note");
    this.part = new PoolPart();
    this.track = element("div", "track", this.part.node);
    this.due = this.track.appendChild(element("i", "due"));
    this.track.setAttribute("aria-hidden", "true");
    this.node = cell("", "Pool", this.figures, this.note, this.track);
  }

  update(llm, _, widest) {
    const borrowed = llm.blocks_quota - llm.blocks_entitled;
    setText(this.figures, `${count(llm.blocks_used)} of ${count(llm.blocks_quota)}`);
    setText(this.note, borrowed > 0 ? `borrows ${count(borrowed)}` : borrowed < 0 ? `lends ${count(-borrowed)}` : "");
    const size = Math.max(llm.blocks_quota, llm.blocks_used);
    this.part.node.style.setProperty("width", `${(100 * size) / widest}%`);
    this.part.update(llm, size);
    this.due.style.setProperty("left", `${(100 * llm.blocks_entitled) / widest}%`);
  }
}

class Steps {
  constructor() {
    this.figures = element("span", "figures");
    this.prefill = element("i", "prefill");
    this.decode = element("i", "decode");
    const track = element("div", "track steps", this.prefill, this.decode);
    track.setAttribute("aria-hidden", "true");
    this.node = cell("", "Steps", this.figures, element("span", "note"), track);
  }

  update(llm) {
    setText(this.figures, `${percent(llm.prefill_share)} · ${percent(llm.decode_share)}`);
    setLabel(this.figures, `prefill ${percent(llm.prefill_share)}, decode ${percent(llm.decode_share)} of the steps' time`);
    this.prefill.style.setProperty("width", `${100 * llm.prefill_share}%`);
    this.decode.style.setProperty("width", `${100 * llm.decode_share}%`);
  }
}

class Tokens {
  constructor() {
    this.figures = element("span", "figures");
    this.note = element("span", "note");
    this.spark = new Sparkline();
    this.node = cell("", "Tokens/s", this.figures, this.note, this.spark.node);
  }

  update(llm, history) {
    setText(this.figures, rate(llm.tokens_per_second));
    setText(this.note, llm.prompt_tokens ? `${count(llm.prompt_tokens)} in, ${count(llm.generated_tokens)} out` : "");
    this.spark.update(history.tokens_per_second, { length: LENGTH, top: 1 });
  }
}

// The median, with the way up to the 99th percentile shaded above it.
class Latency {
  constructor(label, key) {
    this.key = key;
    this.figures = element("span", "figures");
    this.note = element("span", "note");
    this.spark = new Sparkline("spread");
    this.node = cell("", label, this.figures, this.note, this.spark.node);
  }

  update(llm, history) {
    const [recent, target] = [llm[this.key], llm.slo?.[this.key] ?? null];
    setText(this.figures, together(recent && [recent.p50, recent.p90, recent.p99]));
    const missed = target !== null && recent !== null && recent.p90 > target;
    setText(this.note, target === null ? "" : `${missed ? "p90 >" : "≤"} ${seconds(target)}`);
    this.note.classList.toggle("missed", missed);
    this.spark.update(history[`${this.key}_p50`], { upper: history[`${this.key}_p99`], length: LENGTH });
  }
}

class Attainment {
  constructor() {
    this.figures = element("span", "figures");
    this.note = element("span", "note");
    this.spark = new Sparkline();
    this.node = cell("slo", "SLO", this.figures, this.note, this.spark.node);
  }

  update(llm, history) {
    const attained = llm.slo_attainment;
    setText(this.figures, percent(attained));
    setText(this.note, llm.slo === null ? "none set" : "");
    this.figures.dataset.level = attained === null ? "" : attained >= 0.99 ? "good" : attained >= 0.9 ? "fair" : "poor";
    this.spark.update(history.slo_attainment, { length: LENGTH, top: 1 });
  }
}
