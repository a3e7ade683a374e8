// The few ways in which this page touches its document. Text goes in as text: an LLM's name is never markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function element(tag, className = "", ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

export function svg(tag, attributes = {}) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// Writes only what changed, so that selections stay and nothing is laid out in vain.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setLabel(node, text) {
  if (node.getAttribute("aria-label") !== text) node.setAttribute("aria-label", text);
}

// Golden angle: neighbours in the list differ most, however many there are.
export function setColor(node, index) {
  node.style.setProperty("--hue", String(Math.round(255 + index * 137.508) % 360));
  node.classList.toggle("second-round", index % 2 === 1);
}
