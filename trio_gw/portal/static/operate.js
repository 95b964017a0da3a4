// @ts-check
// The overview: what needs attention, charts of the last 5 minutes, hour or day, the busiest APIs.

import { query, request } from "./api.js";
import { Chart } from "./chart.js";
import { all, byId, el, fill, one } from "./dom.js";
import { ago, bytes, duration, number, rate } from "./format.js";
import { live } from "./live.js";

/** @typedef {import("./chart.js").Series} Series */

const LENGTHS = /** @type {Record<string, number>} */ ({ "5m": 300, "1h": 360, "24h": 1440 });
const REFRESH = /** @type {Record<string, number>} */ ({ "5m": 0, "1h": 10, "24h": 60 });
const ATTENTION = 5000;
const BUSIEST = 12;
const COUNTS = ["opened", "closed", "refused", "throttled", "messages_in", "messages_out", "bytes_in", "bytes_out", "cpu"];

/** @param {string} id @param {string} title @param {import("./chart.js").Line[]} lines @param {(value: number) => string} format @param {number} least */
const chart = (id, title, lines, format, least) => new Chart(byId(id), { title, lines, format, least, binary: least >= 1024 });
const perSecond = (/** @type {number} */ value) => `${rate(value)}/s`;
const charts = document.getElementById("chart-open") ? [
  chart("chart-open", "Open connections", [{ name: "Open", key: "open" }], number, 4),
  chart("chart-messages", "Messages", [{ name: "In", key: "messages_in" }, { name: "Out", key: "messages_out" }], perSecond, 4),
  chart("chart-bytes", "Traffic", [{ name: "In", key: "bytes_in" }, { name: "Out", key: "bytes_out" }], (value) => `${bytes(value)}/s`, 1024),
  chart("chart-handshakes", "Handshakes", [{ name: "Accepted", key: "opened" }, { name: "Refused", key: "refused" }], perSecond, 1),
  chart("chart-throttled", "Throttled messages", [{ name: "Throttled", key: "throttled" }], perSecond, 1),
  chart("chart-lag", "Event loop lag", [{ name: "Most", key: "lag" }], (value) => duration(value || 0), 0.01),
  chart("chart-cpu", "Processor time", [{ name: "Cores", key: "cpu" }], (value) => `${rate(value * 100)} %`, 0.1),
  chart("chart-memory", "Memory", [{ name: "Resident", key: "memory" }], bytes, 1 << 20),
] : [];

const state = {
  span: sessionStorage.getItem("span") ?? "5m",
  api: new URLSearchParams(location.search).get("api") ?? "",
  /** @type {Series | null} */
  series: null,
  loaded: 0,
};

/** Make rates of what was counted in each step. @param {Series} series @returns {Series} */
function rates(series) {
  for (const name of COUNTS) {
    const column = series.columns[name];
    if (column) series.columns[name] = column.map((value) => (value === null ? null : value / series.step));
  }
  return series;
}

/** Fetch the span that is shown. */
async function load() {
  const { span, api } = state;
  state.loaded = Date.now();
  const found = await request("GET", `/history${query({ span: api ? "1h" : span, api })}`).catch(() => null);
  if (!found?.series || span !== state.span) return;
  state.series = rates(found.series);
  one("#since")?.setAttribute("datetime", new Date(found.since * 1000).toISOString());
  draw();
}

function draw() {
  const { series } = state;
  if (series) for (const each of charts) each.set(series);
}

/** Append the last second. @param {any} data */
function second(data) {
  const { series, span, api } = state;
  if (!api && span === "5m" && series && data.at > series.last) {
    const missed = Math.min(data.at - series.last - 1, LENGTHS["5m"]);
    if (missed > 5) return load();
    for (const [name, column] of Object.entries(series.columns)) {
      for (let gap = 0; gap < missed; gap += 1) column.push(null);
      column.push(data.totals[name] ?? null);
      column.splice(0, Math.max(0, column.length - LENGTHS["5m"]));
    }
    series.last = data.at;
    draw();
  } else if (span !== "5m" && Date.now() - state.loaded > REFRESH[span] * 1000) load();
}

/** @type {Map<string, number[]>} */
const apis = new Map();

/** The busiest APIs. @param {any} data */
function busiest(data) {
  for (const [name, row] of Object.entries(data.apis ?? {})) {
    if (row[0] || row[1]) apis.set(name, row);
    else apis.delete(name);
  }
  const rows = [...apis].sort((a, b) => b[1][2] - a[1][2] || b[1][0] - a[1][0]).slice(0, BUSIEST);
  byId("busiest-none").hidden = rows.length > 0;
  fill(byId("busiest"), rows.map(([name, [held, messages, octets]]) => el("tr", null,
    el("th", { scope: "row" }, el("a", { href: `/portal/operate${query({ api: name })}` }, name)),
    el("td", { class: "number", "data-label": "Open" }, el("a", { href: `/portal/operate/connections${query({ match: `api:"${name}"` })}` }, number(held))),
    el("td", { class: "number", "data-label": "Messages" }, perSecond(messages)),
    el("td", { class: "number", "data-label": "Traffic" }, `${bytes(octets)}/s`))));
}

/** What needs attention. */
async function attend() {
  if (document.hidden) return;
  const found = await request("GET", "/attention").catch(() => null);
  if (!found) return;
  const wanted = found.items.map((/** @type {any} */ item) => `${item.severity} ${item.what} ${item.more}`).join("\n");
  const list = byId("attention");
  if (list.dataset.shown === wanted) return;
  list.dataset.shown = wanted;
  byId("all-well").hidden = found.items.length > 0;
  fill(list, found.items.map((/** @type {any} */ item) => el("li", { class: `notice ${item.severity}` },
    el("a", { href: item.href }, el("strong", null, item.what)),
    item.since ? el("span", { class: "muted" }, ` ${ago(new Date(item.since * 1000))}`) : null,
    item.more ? el("div", { class: "muted small" }, item.more) : null)));
}

for (const button of all("[data-span]")) {
  const mark = () => {
    for (const each of all("[data-span]")) each.setAttribute("aria-pressed", String(each.dataset.span === state.span));
  };
  button.addEventListener("click", () => {
    state.span = button.dataset.span ?? "5m";
    sessionStorage.setItem("span", state.span);
    mark();
    load();
  });
  mark();
}
for (const each of all("[data-only]")) each.hidden = state.api !== "";
for (const each of all("[data-of-api]")) each.hidden = state.api === "";
if (state.api) byId("of-api").textContent = state.api;
if (charts.length) {
  load();
  live("stats", (data) => {
    if (state.api && Date.now() - state.loaded > 10_000) load();
    second(data);
    busiest(data);
  });
  live("problems", attend);
}
setInterval(attend, ATTENTION);
document.addEventListener("portal:found", load);
