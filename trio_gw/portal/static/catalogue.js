// @ts-check
// Search as you type. The list is that of the server; the address of the page holds the query.

import { query, request } from "./api.js";
import { all, byId, debounce, el, fill, one } from "./dom.js";
import { number } from "./format.js";

const KINDS = { PUBLISHED: "good", PROTOTYPED: "bad", DEPRECATED: "warn", BLOCKED: "bad", CREATED: "hollow", RETIRED: "hollow" };
const SOURCES = { apis: "apis/", control_plane: "control plane" };

const form = /** @type {HTMLFormElement | null} */ (one("#filters"));
let running = new AbortController();

/** @returns {Record<string, string>} */
function asked() {
  const values = Object.fromEntries([...new FormData(/** @type {HTMLFormElement} */ (form))].map(([name, value]) => [name, String(value)]));
  if (values.sort === "name") delete values.sort;
  return values;
}

async function search(page = 1) {
  running.abort();
  running = new AbortController();
  const values = { ...asked(), page: page > 1 ? page : "" };
  history.replaceState(null, "", `/portal/${query(values)}`);
  try {
    show(await request("GET", `/apis${query(values)}`, undefined, { signal: running.signal }), values);
  } catch (error) {
    if (!(error instanceof DOMException && error.name === "AbortError")) throw error;
  }
}

/**
 * @param {{total: number, page: number, pages: number, items: any[]}} found
 * @param {Record<string, any>} values
 */
function show(found, values) {
  const { publishes, rates } = byId("apis").dataset;
  fill(byId("rows"), found.items.map((item) => row(item, publishes === "1", rates === "1")));
  byId("none").hidden = found.items.length > 0;
  byId("count").textContent = `${number(found.total)} found`;
  const link = (/** @type {number} */ page, /** @type {string} */ label, /** @type {string} */ rel) =>
    el("a", { class: "button small", rel, href: `/portal/${query({ ...values, page })}` }, label);
  fill(byId("pager"), el("nav", { class: "pager", "aria-label": "Pages" },
    el("span", { class: "muted small" },
      `${number(found.total)} ${found.total === 1 ? "API" : "APIs"}${found.pages > 1 ? `, page ${found.page} of ${found.pages}` : ""}`),
    found.pages > 1 && el("span", { class: "row" },
      found.page > 1 && link(found.page - 1, "Previous", "prev"),
      found.page < found.pages && link(found.page + 1, "Next", "next"))));
}

/**
 * @param {any} item
 * @param {boolean} publishes
 * @param {boolean} rates
 */
function row(item, publishes, rates) {
  const kind = KINDS[/** @type {keyof KINDS} */ (item.state)] ?? "";
  const state = item.state.toLowerCase() + (item.state === "PROTOTYPED" ? ", open" : "");
  return el("tr", { data: { api: item.title } },
    el("th", { scope: "row" }, el("a", { href: item.address, dir: "auto" }, item.title),
      el("code", { class: "sub" }, item.host + item.path),
      item.hit && el("span", { class: "sub", dir: "auto" }, item.hit)),
    el("td", { "data-label": "State", class: "whole" }, el("span", { class: "row" }, el("span", { class: `badge state ${kind}` }, state),
      !item.secured && item.state !== "PROTOTYPED" && el("span", { class: "badge warn", title: "Topics that ask for no token" }, "some topics open"),
      item.problems > 0 && el("span", { class: "badge bad" }, `${item.problems} ${item.problems > 1 ? "problems" : "problem"}`))),
    el("td", { "data-label": "Topics", class: "number" }, number(item.topics)),
    publishes && el("td", { "data-label": "Open", class: "number live", "data-open": true }, number(item.open)),
    rates && el("td", { "data-label": "Messages/s", class: "number live", "data-rate": true }, "–"),
    publishes && el("td", { "data-label": "Source" }, el("span", { class: "badge" }, SOURCES[/** @type {keyof SOURCES} */ (item.source)] ?? item.source)));
}

if (form) {
  for (const button of all("[data-no-script]")) button.hidden = true;
  byId("q").addEventListener("input", debounce(() => search(), 150));
  for (const select of all("select", form)) select.addEventListener("change", () => search());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    // Enter opens the only API that is left.
    const links = all("#rows a");
    if (links.length === 1) links[0].click();
    else search();
  });
}
