// @ts-check
// Limits, backends and problems: whichever of their lists this page has is kept up to date.

import { request } from "./api.js";
import { el, fill } from "./dom.js";
import { bytes, date, duration, number } from "./format.js";
import { live } from "./live.js";
import { badge, repeat, time } from "./operate_parts.js";

const ACTIONS = /** @type {Record<string, string>} */ ({ drop: "messages are dropped", close: "connections are closed", pause: "messages wait" });
const has = (/** @type {string} */ id) => document.getElementById(id) !== null;

/** @param {string} id @param {any[]} rows @param {(one: any) => Node} row */
function list(id, rows, row) {
  const body = document.getElementById(id);
  if (!body) return;
  fill(body, rows.map(row));
  const none = document.getElementById(`${id}-none`);
  if (none) none.hidden = rows.length > 0;
}

/** @param {string} label @param {any} value @param {string} [kind] */
const cell = (label, value, kind = "") => el("td", { class: kind, "data-label": label }, value);
const head = (/** @type {any} */ value, kind = "") => el("th", { scope: "row", class: kind }, value);

async function limits() {
  const found = await request("GET", "/limits");
  list("tiers", found.tiers, (one) => el("tr", null, head(one.level), el("td", { class: "whole wrap mono" }, one.key),
    el("td", { "data-label": "Tier" }, one.tier, el("span", { class: "sub" }, one.rule)),
    cell("What happens", ACTIONS[one.action] ?? one.action), cell("Until", el("span", null, time(one.until), el("span", { class: "sub" }, `${duration(Math.max(0, Math.round(one.until - found.now)))} more`)), "number")));
  list("caps", found.caps, (one) => el("tr", null, head(one.level), el("td", { class: "whole wrap mono" }, one.key || "–"), cell("Open", number(one.open), "number"), cell("Most", number(one.most), "number")));
  list("gauges", found.gauges, (one) => {
    const shown = one.unit === "bytes" ? bytes : number;
    return el("tr", null, head(one.name), cell("Worker", one.worker),
      el("td", { class: "whole" }, el("progress", { class: "use", max: one.most, value: one.used, "aria-label": `${one.name}, worker ${one.worker}` })),
      cell("Used", shown(one.used), "number"), cell("Most", shown(one.most), "number"));
  });
}

async function backends() {
  const found = await request("GET", "/backends");
  list("backends", found.backends, (one) => el("tr", null, head(one.origin, "mono wrap"),
    el("td", { "data-label": "State" }, badge(one.healthy ? "up" : "down", one.healthy ? "good state" : "bad state"),
      one.healthy ? null : el("span", { class: "sub" }, `${one.failures} failures in a row${one.up.length ? `; up for worker ${one.up.join(", ")}` : ""}`)),
    cell("Since", el("time", { datetime: new Date(one.since * 1000).toISOString() }, date(new Date(one.since * 1000)))),
    cell("Known by", one.checked ? "health checks" : "connections"), cell("APIs", one.apis.join(", "), "wrap")));
}

async function problems() {
  const found = await request("GET", "/problems");
  found.sort((/** @type {any} */ a, /** @type {any} */ b) => Number(b.severity === "error") - Number(a.severity === "error") || a.file.localeCompare(b.file) || a.line - b.line);
  list("problems", found, (one) => el("li", { class: one.severity },
    el("span", { class: "place" }, `${one.file}${one.line ? `:${one.line}${one.column ? `:${one.column}` : ""}` : ""}`),
    el("div", null, el("strong", null, one.severity === "error" ? "Error: " : "Warning: "), one.what),
    one.hint ? el("div", { class: "muted" }, one.hint) : null));
}

if (has("tiers")) repeat(limits, 2);
if (has("backends")) repeat(backends, 3);
if (has("problems")) live("problems", () => problems().catch(() => undefined));
