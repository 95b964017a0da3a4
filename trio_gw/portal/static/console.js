// @ts-check
// The try-out console: one, or two side by side, such as the publisher and subscriber of a room.

import { request } from "./api.js";
import { all, byId, el } from "./dom.js";
import { Memory } from "./console-history.js";
import { Panel } from "./console-panel.js";

const box = byId("consoles");
const { api = "", host = "", topic = "" } = box.dataset;
const second = byId("second");
/** @type {Panel[]} */
const panels = [];

/** @param {import("./console-form.js").Target} target @param {Memory} memory */
function open(target, memory) {
  const made = /** @type {HTMLTemplateElement} */ (byId("console")).content.cloneNode(true);
  const root = /** @type {HTMLElement} */ (/** @type {DocumentFragment} */ (made).firstElementChild);
  const suffix = panels.length ? "-2" : "-1";
  for (const node of all("[id], [for], [data-copy-from]", root)) {
    if (node.id) node.id += suffix;
    if (node.hasAttribute("for")) node.setAttribute("for", node.getAttribute("for") + suffix);
    if (node.dataset.copyFrom) node.dataset.copyFrom += suffix;
  }
  for (const button of all(".copy", root)) button.hidden = false;
  root.setAttribute("aria-label", panels.length ? "Second console" : "Console");
  box.append(root);
  const panel = new Panel(root, target, memory);
  if (topic) panel.form.choose(topic);
  panels.push(panel);
}

async function start() {
  /** @type {import("./console-form.js").Target} */
  let target;
  try {
    target = await request("GET", `/apis/${encodeURIComponent(api)}/try?host=${encodeURIComponent(host)}`);
  } catch (error) {
    box.append(el("p", { class: "notice bad" }, /** @type {Error} */ (error).message));
    return;
  }
  const memory = new Memory(api);
  open(target, memory);
  second.hidden = false;
  second.addEventListener("click", () => {
    if (panels.length === 1) open(target, memory);
    else {
      panels[1].leave();
      panels[1].root.remove();
      panels.pop();
    }
    box.classList.toggle("two", panels.length === 2);
    second.setAttribute("aria-pressed", String(panels.length === 2));
  });
  addEventListener("pagehide", () => panels.forEach((panel) => panel.leave()));
}

start();
