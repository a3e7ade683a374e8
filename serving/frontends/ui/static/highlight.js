// Whatever shows one LLM carries its name in data-llm: pointing at one of them dims the other LLMs.

export function highlightOnHover(root) {
  let current = null;
  const set = (name) => {
    if (name === current) return;
    current = name;
    root.classList.toggle("highlighting", name !== null);
    for (const node of root.querySelectorAll("[data-llm]")) node.classList.toggle("highlighted", node.dataset.llm === name);
  };
  root.addEventListener("pointerover", (event) => set(event.target.closest("[data-llm]")?.dataset.llm ?? null));
  root.addEventListener("pointerleave", () => set(null));
}
