// @ts-check
// The last log lines, asked for again every two seconds.

import { query, request } from "./api.js";
import { byId, debounce, el, fill } from "./dom.js";
import { repeat, time } from "./operate_parts.js";

const match = /** @type {HTMLInputElement} */ (byId("match"));
const level = /** @type {HTMLSelectElement} */ (byId("level"));
const logger = /** @type {HTMLSelectElement} */ (byId("logger"));
const follow = /** @type {HTMLInputElement} */ (byId("follow"));
const box = byId("lines");
let shown = "";

async function load() {
  if (!follow.checked && shown) return;
  const found = await request("GET", `/log${query({ match: match.value.trim(), level: level.value, logger: logger.value })}`);
  const last = found.lines[found.lines.length - 1];
  const state = JSON.stringify([found.lines.length, last, match.value, level.value, logger.value]);
  if (state === shown) return;
  shown = state;
  const several = new Set(found.lines.map((/** @type {any} */ line) => line.worker)).size > 1;
  byId("none").hidden = found.lines.length > 0;
  byId("none").textContent = "No line matches.";
  box.hidden = !found.lines.length;
  fill(box, found.lines.map((/** @type {any} */ line) => el("div", { class: line.level >= 40 ? "error" : line.level >= 30 ? "warning" : null },
    el("span", { class: "when" }, time(line.at), ` ${several ? `worker ${line.worker} ` : ""}${line.logger} `),
    line.level >= 40 ? "error: " : line.level >= 30 ? "warning: " : "", line.text)));
  box.scrollTop = box.scrollHeight;
}

byId("filter").hidden = byId("follow-box").hidden = false;
byId("filter").addEventListener("submit", (event) => event.preventDefault());
const again = repeat(load, 2);
const now = () => ((shown = ""), again());
match.addEventListener("input", debounce(now, 150));
for (const each of [level, logger, follow]) each.addEventListener("change", now);
box.scrollTop = box.scrollHeight;
