// One child of `parent` for each LLM, in their order; children stay while their LLM does.

export class Keyed {
  constructor(parent, make) {
    this.parent = parent;
    this.make = make;
    this.children = new Map();
  }

  update(llms, ...context) {
    const names = new Set(llms.map((llm) => llm.name));
    for (const [name, child] of this.children) {
      if (names.has(name)) continue;
      child.node.remove();
      this.children.delete(name);
    }
    llms.forEach((llm, index) => {
      let child = this.children.get(llm.name);
      if (!child) {
        child = this.make(llm.name, index);
        child.node.dataset.llm = llm.name;
        this.children.set(llm.name, child);
      }
      if (this.parent.children[index] !== child.node) this.parent.insertBefore(child.node, this.parent.children[index] ?? null);
      child.update(llm, ...context);
    });
  }
}
