// @ts-check
// The try-out console: one, or two side by side, such as the publisher and subscriber of a room.

import { request } from "./api.js";
import { all, byId, el, one } from "./dom.js";
import { Memory } from "./console-history.js";
import { Panel } from "./console-panel.js";

/**
 * Open a console in a box with the data `api`, `host` and `topic`.
 * @param {HTMLElement} box
 * @param {HTMLElement | null} second the button that opens another one
 * @returns {Promise<() => void>} what closes the connections
 */
export async function openConsole(box, second) {
  const { api = "", host = "", topic = "" } = box.dataset;
  /** @type {Panel[]} */
  const panels = [];
  const leave = () => panels.forEach((panel) => panel.leave());
  /** @type {import("./console-form.js").Target} */
  let target;
  try {
    target = await request("GET", `/apis/${encodeURIComponent(api)}/try?host=${encodeURIComponent(host)}`);
  } catch (error) {
    box.append(el("p", { class: "notice bad" }, /** @type {Error} */ (error).message));
    return leave;
  }
  const memory = new Memory(api);
  const open = () => {
    const root = copyOf(panels.length ? "-2" : "-1");
    root.setAttribute("aria-label", panels.length ? "Second console" : "Console");
    box.append(root);
    panels.push(new Panel(root, target, memory, topic));
  };
  open();
  if (second) {
    second.hidden = false;
    second.addEventListener("click", () => {
      if (panels.length === 1) open();
      else {
        panels[1].leave();
        panels[1].root.remove();
        panels.pop();
      }
      box.classList.toggle("two", panels.length === 2);
      second.setAttribute("aria-pressed", String(panels.length === 2));
    });
  }
  addEventListener("pagehide", leave);
  return leave;
}

/** Copy the template; its ids end with the suffix. @param {string} suffix */
function copyOf(suffix) {
  const made = /** @type {HTMLTemplateElement} */ (byId("console")).content.cloneNode(true);
  const root = /** @type {HTMLElement} */ (/** @type {DocumentFragment} */ (made).firstElementChild);
  for (const node of all("[id], [for], [data-copy-from]", root)) {
    if (node.id) node.id += suffix;
    if (node.hasAttribute("for")) node.setAttribute("for", node.getAttribute("for") + suffix);
    if (node.dataset.copyFrom) node.dataset.copyFrom += suffix;
  }
  for (const button of all(".copy", root)) button.hidden = false;
  return root;
}

const page = one("#consoles");
if (page) openConsole(page, one("#second"));
