// The pool and the steps' time, each as one bar divided among the LLMs.

import { element, byId, setColor, setLabel, setText } from "./dom.js";
import { count, percent } from "./format.js";
import { Keyed } from "./keyed.js";

const width = (node, share) => node.style.setProperty("width", `${(100 * share).toFixed(2)}%`);

// A part's claim to the width of its bar; without one it leaves no gap either.
function grow(node, size) {
  node.style.setProperty("flex-grow", String(size));
  node.hidden = size <= 0;
}

// What an LLM may hold, with what it holds in it: up to what is due to it plain, beyond that striped.
export class PoolPart {
  constructor() {
    this.node = element("div", "part");
    this.extra = this.node.appendChild(element("i", "extra"));
    this.held = this.node.appendChild(element("i", "held"));
    this.borrowed = this.node.appendChild(element("i", "borrowed"));
  }

  // `size` is how many blocks the whole part stands for.
  update(llm, size) {
    const due = Math.min(llm.blocks_entitled, size);
    const held = Math.min(llm.blocks_used, due);
    const places = [[this.extra, due, size], [this.held, 0, held], [this.borrowed, due, Math.max(llm.blocks_used, due)]];
    for (const [node, from, to] of places) {
      node.style.setProperty("left", `${((100 * from) / size || 0).toFixed(2)}%`);
      width(node, (to - from) / size || 0);
    }
  }
}

class Region {
  constructor(name, index) {
    this.node = element("div", "region");
    this.part = new PoolPart();
    this.node.append(this.part.node, element("span", "label", name));
    this.node.title = name;
    setColor(this.node, index);
  }

  update(llm, size) {
    grow(this.node, size(llm));
    this.part.update(llm, size(llm));
  }
}

export class PoolBar {
  constructor(node) {
    this.node = node;
    this.regions = new Keyed(node, (name, index) => new Region(name, index));
    this.others = node.appendChild(element("div", "region others", element("div", "part"), element("span", "label", "others")));
    this.rest = node.appendChild(element("div", "rest"));
  }

  update({ unit }) {
    const { llms, blocks_total: total, blocks_free: free } = unit;
    const claimed = (llm) => Math.max(llm.blocks_quota, llm.blocks_used);
    // Quotas that promise more than there is divide nothing: then the bar shows what is held.
    const size = sum(llms, claimed) <= total ? claimed : (llm) => llm.blocks_used;
    this.regions.update(llms, size);
    const used = total - free;
    const others = used - sum(llms, (llm) => llm.blocks_used); // of LLMs that this viewer may not see
    grow(this.others, others);
    grow(this.rest, total - others - sum(llms, size));
    setText(byId("pool-figures"), `${count(used)} of ${count(total)} head blocks held · ${percent(total ? used / total : 0)}`);
    const each = llms.map((llm) => `${llm.name} holds ${count(llm.blocks_used)} of its quota of ${count(llm.blocks_quota)}`);
    setLabel(this.node, `${count(used)} of ${count(total)} head blocks are held. ${each.join("; ")}.`);
  }
}

class Slice {
  constructor(name, index) {
    this.node = element("div", "region");
    this.part = element("div", "part");
    this.prefill = this.part.appendChild(element("i", "prefill"));
    this.decode = this.part.appendChild(element("i", "decode"));
    this.node.append(this.part, element("span", "label", name));
    this.node.title = name;
    setColor(this.node, index);
  }

  update(llm, busy) {
    const share = llm.prefill_share + llm.decode_share;
    grow(this.node, share * busy);
    width(this.prefill, share ? llm.prefill_share / share : 0);
    width(this.decode, share ? llm.decode_share / share : 0);
  }
}

export class StepsBar {
  constructor(node) {
    this.node = node;
    this.slices = new Keyed(node, (name, index) => new Slice(name, index));
    this.idle = node.appendChild(element("div", "rest"));
  }

  update({ unit }) {
    const { llms, busy } = unit;
    const shown = busy * sum(llms, (llm) => llm.prefill_share + llm.decode_share);
    this.slices.update(llms, busy);
    grow(this.idle, 1 - shown);
    setText(byId("steps-figures"), `steps ran in ${percent(busy)} of the last 10 s`);
    const each = llms.map((llm) => `${llm.name} prefill ${percent(llm.prefill_share)}, decode ${percent(llm.decode_share)}`);
    setLabel(this.node, `Steps ran in ${percent(busy)} of the time. Of that: ${each.join("; ")}.`);
  }
}

const sum = (llms, figure) => llms.reduce((total, llm) => total + figure(llm), 0);
