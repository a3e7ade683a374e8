// Asks the server for its status once a second, and shows it.

import { byId, setText } from "./dom.js";
import { highlightOnHover } from "./highlight.js";
import { forgetKey, headers, askForKey } from "./key.js";
import { PoolBar, StepsBar } from "./bars.js";
import { Rows } from "./rows.js";
import { Summary } from "./summary.js";

const SECOND = 1000;
const PATIENCE = 5 * SECOND; // for one answer, and between attempts

const connection = byId("connection");
const views = [new Summary(), new PoolBar(byId("pool")), new StepsBar(byId("steps")), new Rows(byId("llms").tBodies[0])];
let lastSeen = null;

function show(overview) {
  lastSeen = Date.now();
  for (const view of views) view.update(overview);
  byId("main").hidden = false;
  setConnection("live", "live");
}

function showLost() {
  const ago = lastSeen === null ? "" : ` · last seen ${Math.round((Date.now() - lastSeen) / SECOND)} s ago`;
  setConnection("lost", `connection lost${ago} · trying again`);
}

function setConnection(state, words) {
  connection.dataset.state = document.body.dataset.state = state;
  setText(connection, words);
}

async function ask() {
  const response = await fetch("status.json", { headers: headers(), signal: AbortSignal.timeout(PATIENCE) });
  if (response.status === 401 || response.status === 403) {
    forgetKey();
    setConnection("locked", "locked");
    byId("main").hidden = true;
    await askForKey(response.status);
    return ask();
  }
  if (!response.ok) throw new Error(`status ${response.status}`);
  return response.json();
}

const pause = (milliseconds) => new Promise((resume) => setTimeout(resume, milliseconds));

function visible() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resume) => document.addEventListener("visibilitychange", resume, { once: true })).then(visible);
}

highlightOnHover(byId("main"));
for (;;) {
  await visible();
  try {
    show(await ask());
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof DOMException)) console.error(error);
    showLost();
  }
  await pause(SECOND);
}
