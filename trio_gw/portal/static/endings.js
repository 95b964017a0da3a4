// @ts-check
// Connections that ended: the newest first, as they end.

import { request } from "./api.js";
import { byId, debounce, el, fill } from "./dom.js";
import { duration, number } from "./format.js";
import { live } from "./live.js";
import { badge, deny, time } from "./operate_parts.js";

const KEPT = 1000;
const STEP = 100;
const NORMAL = new Set([1000, 1001, 1005, 1012]);
const match = /** @type {HTMLInputElement} */ (byId("match"));
const kind = /** @type {HTMLSelectElement} */ (byId("kind"));
const by = /** @type {HTMLSelectElement} */ (byId("by"));
const pause = byId("pause");
/** @type {any[]} */
let rows = [];
let paused = false;
let lost = 0;
let most = STEP;
let fresh = new Set();

const closed = (/** @type {any} */ one) => one.code > 0;
const bad = (/** @type {any} */ one) => (closed(one) ? !NORMAL.has(one.code) && one.code < 3000 : true);

/** @param {any} one */
function wanted(one) {
  if (by.value && one.by !== by.value) return false;
  if (kind.value === "closed" && !closed(one)) return false;
  if (kind.value === "refused" && closed(one)) return false;
  if (kind.value === "bad" && !bad(one)) return false;
  const text = `${one.api}:${one.version} ${one.topic} ${one.request} ${one.reason} ${one.code || one.status} ${one.error} ${one.subject} ${one.application} ${one.peer} ${one.address} ${one.id} ${one.phase}`;
  return text.toLowerCase().includes(match.value.trim().toLowerCase());
}

function draw() {
  const found = rows.filter(wanted);
  byId("none").hidden = found.length > 0;
  byId("none").textContent = rows.length ? "No ending matches." : "No connection has ended yet.";
  fill(byId("rows"), found.slice(0, most).map(row));
  byId("more").hidden = found.length <= most;
  byId("more").textContent = `Show more of ${number(found.length)}`;
  fresh = new Set();
}

/** @param {any} one */
function row(one) {
  const end = closed(one) ? badge(String(one.code), bad(one) ? "bad" : "good") : one.status ? badge(String(one.status), "warn") : badge("left", "");
  return el("tr", { class: fresh.has(one) ? "fresh" : null },
    el("td", { "data-label": "When" }, time(one.at)),
    el("td", { "data-label": "End" }, end, el("span", { class: "sub" }, `${one.phase}${one.error ? ` ${one.error}` : ""}`)),
    el("td", { "data-label": "By" }, one.by),
    el("td", { class: "whole wrap" }, one.reason || "–"),
    el("td", { class: "whole wrap" }, one.api && `${one.api}:${one.version}`, el("span", { class: "sub" }, one.request)),
    el("td", { class: "wrap", "data-label": "Client" }, el("button", { type: "button", class: "button quiet small mono", title: "Deny this address", on: { click: () => deny("address", one.address || one.peer) } }, one.address || one.peer), one.subject ? el("span", { class: "sub" }, one.subject) : null),
    el("td", { class: "number", "data-label": "Lasted" }, duration(one.seconds), closed(one) ? el("span", { class: "sub" }, `${number(one.messages_in)} in, ${number(one.messages_out)} out`) : null));
}

/** @param {any} data */
function add(data) {
  lost += data.lost;
  if (lost) {
    byId("lost").hidden = false;
    byId("lost").textContent = `${number(lost)} endings came too fast to be kept.`;
  }
  if (!data.rows.length) return;
  const known = new Set(rows.map((one) => `${one.worker} ${one.serial}`));
  const more = data.rows.filter((/** @type {any} */ one) => !known.has(`${one.worker} ${one.serial}`)).reverse();
  rows = [...more, ...rows].slice(0, KEPT);
  for (const one of more) fresh.add(one);
  if (!paused) draw();
}

byId("filter").hidden = false;
pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  pause.textContent = paused ? "Go on" : "Pause";
  if (!paused) draw();
});
byId("more").addEventListener("click", () => ((most += STEP), draw()));
for (const each of [kind, by]) each.addEventListener("change", draw);
match.addEventListener("input", debounce(draw, 100));
request("GET", "/endings").then((found) => {
  rows = found.endings;
  draw();
  live("endings", add, { from: byId("rows").dataset.after });
}, () => undefined);
