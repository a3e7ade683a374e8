// A line of the last minute, from zero up; two series are drawn as a line with the spread above it.

import { svg } from "./dom.js";

const [WIDTH, HEIGHT, TOP] = [100, 24, 2];

export class Sparkline {
  constructor(className = "") {
    this.node = svg("svg", {
      class: `spark ${className}`,
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
    this.area = svg("path", { class: "area" });
    this.line = svg("path", { class: "line" });
    this.node.append(this.area, this.line);
  }

  // Nulls are gaps. `length` is how many points the full width holds: a short history begins in the middle.
  update(values, { upper = null, top = 0, length = values.length } = {}) {
    const highest = Math.max(top, ...numbers(values), ...numbers(upper ?? [])) || 1;
    const x = (index) => WIDTH - ((values.length - 1 - index) * WIDTH) / Math.max(length - 1, 1);
    const y = (value) => HEIGHT - 1 - (value / highest) * (HEIGHT - 1 - TOP);
    const runs = unbroken(values);
    this.line.setAttribute("d", runs.map((run) => path(run, (i) => [x(i), y(values[i])])).join(""));
    this.area.setAttribute("d", runs.map((run) => outline(run, x, (i) => y((upper ?? values)[i]), (i) => (upper ? y(values[i]) : HEIGHT))).join(""));
  }
}

const numbers = (values) => values.filter((value) => value !== null);

function unbroken(values) {
  const runs = [];
  values.forEach((value, index) => {
    if (value === null) return;
    if (index === 0 || values[index - 1] === null) runs.push([]);
    runs.at(-1).push(index);
  });
  return runs;
}

const path = (run, at) => run.map((index, i) => `${i ? "L" : "M"}${at(index).map((v) => v.toFixed(1)).join(" ")}`).join("");

function outline(run, x, above, below) {
  const there = path(run, (i) => [x(i), above(i)]);
  const back = path([...run].reverse(), (i) => [x(i), below(i)]);
  return `${there}${back.replace("M", "L")}Z`;
}
