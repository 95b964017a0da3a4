// @ts-check
// Open connections: filter, order, details, close one, close all that match, deny.

import { query, request } from "./api.js";
import { byId, debounce, el, fill } from "./dom.js";
import { bytes, date, duration, number, rate } from "./format.js";
import { closeFields, deny, dialog, repeat, toast } from "./operate_parts.js";

const MOST = 200;
const match = /** @type {HTMLInputElement} */ (byId("match"));
const sort = /** @type {HTMLSelectElement} */ (byId("sort"));
const closeAll = /** @type {HTMLButtonElement} */ (byId("close-all"));
/** @type {AbortController | null} */
let asking = null;
/** @type {HTMLDialogElement | null} */
let drawer = null;
let shownId = "";

async function load() {
  asking?.abort();
  asking = new AbortController();
  const sample = sort.value === "rate" ? 1000 : "";
  const wrong = byId("wrong");
  try {
    const found = await request("GET", `/connections${query({ match: match.value.trim(), sort: sort.value, limit: MOST, sample })}`, undefined, { signal: asking.signal });
    wrong.hidden = true;
    show(found);
  } catch (error) {
    if (/** @type {Error} */ (error).name === "AbortError") return;
    wrong.hidden = false;
    wrong.textContent = /** @type {Error} */ (error).message;
  }
}

/** @param {any} found */
function show(found) {
  const shown = found.connections.length;
  byId("counts").textContent = `${number(found.matching)} of ${number(found.total)}${shown < found.matching ? `, the first ${shown} shown` : ""}`;
  closeAll.hidden = !found.matching;
  byId("none").hidden = shown > 0;
  const focused = document.activeElement?.closest("tr")?.dataset.id;
  const place = document.activeElement?.getAttribute("data-act");
  const rows = found.connections.map(row);
  fill(byId("rows"), rows);
  if (focused) rows.find((/** @type {HTMLElement} */ one) => one.dataset.id === focused)?.querySelector(`[data-act="${place}"]`)?.focus();
  const open = found.connections.find((/** @type {any} */ one) => one.id === shownId);
  if (drawer && open) fill(drawer, details(open));
}

/** @param {any} way @param {"messages" | "bytes"} what */
function moved(way, what) {
  const now = way[`${what}_per_second`];
  const text = what === "bytes" ? bytes(way.bytes) : number(way.messages);
  return now === undefined ? text : `${text} (${what === "bytes" ? bytes(now) : rate(now)}/s)`;
}

/** @param {any} one */
function row(one) {
  return el("tr", { data: { id: one.id } },
    el("th", { scope: "row", class: "mono" }, one.address || one.peer),
    el("td", { class: "whole wrap" }, one.api, el("span", { class: "sub" }, one.request)),
    el("td", { class: "wrap", "data-label": "User" }, one.subject, one.application ? el("span", { class: "sub" }, one.application) : null),
    el("td", { class: "number", "data-label": "Age" }, duration(one.seconds)),
    el("td", { class: "number", "data-label": "Messages" }, `${moved(one.publish, "messages")} / ${moved(one.subscribe, "messages")}`, one.dropped ? el("span", { class: "sub bad" }, `${number(one.dropped)} dropped`) : null),
    el("td", { class: "number", "data-label": "Bytes" }, `${moved(one.publish, "bytes")} / ${moved(one.subscribe, "bytes")}`),
    el("td", { class: "acts" },
      el("button", { class: "button quiet small", type: "button", data: { act: "details" }, "aria-label": `Details of ${one.peer} ${one.request}`, on: { click: () => open(one) } }, "Details"),
      one.closing ? el("span", { class: "badge warn" }, "closing") : el("button", { class: "button quiet small", type: "button", data: { act: "close" }, "aria-label": `Close ${one.peer} ${one.request}`, on: { click: () => close(one) } }, "Close")));
}

/** @param {any} one */
function open(one) {
  shownId = one.id;
  drawer = el("dialog", { class: "drawer", "aria-labelledby": "details-title" });
  fill(drawer, details(one));
  drawer.addEventListener("close", () => {
    drawer?.remove();
    drawer = null;
    shownId = "";
  });
  document.body.append(drawer);
  drawer.showModal();
}

/** @param {any} one */
function details(one) {
  const facts = /** @type {[string, any][]} */ ([
    ["Id", el("code", null, one.id)], ["Client", one.peer], ["Address", one.address !== one.peer && one.address], ["Request", el("code", null, one.request)],
    ["API", one.api], ["Topic", one.topic], ["User", one.subject], ["Application", one.application],
    ["Token ends", one.expires && date(new Date(one.expires))], ["Opened", date(new Date(one.since))], ["Age", duration(one.seconds)],
    ["Backend", one.backend], ["User agent", one.user_agent], ["Worker", one.worker],
    ["In", `${number(one.publish.messages)} messages, ${number(one.publish.frames)} frames, ${bytes(one.publish.bytes)}`],
    ["Out", `${number(one.subscribe.messages)} messages, ${number(one.subscribe.frames)} frames, ${bytes(one.subscribe.bytes)}`],
    ["Dropped", one.dropped ? number(one.dropped) : 0],
  ]);
  return el("div", null,
    el("div", { class: "row" }, el("h2", { id: "details-title" }, "Connection"), el("button", { type: "button", class: "button small end", on: { click: () => drawer?.close() } }, "Back")),
    el("dl", { class: "facts" }, facts.filter(([, value]) => value || value === 0).flatMap(([name, value]) => [el("dt", null, name), el("dd", null, value)])),
    el("div", { class: "row" },
      el("button", { type: "button", class: "button danger", on: { click: () => close(one) } }, "Close…"),
      el("button", { type: "button", class: "button", on: { click: () => deny("address", one.address || one.peer) } }, "Deny address…"),
      one.subject ? el("button", { type: "button", class: "button", on: { click: () => deny("user", one.subject) } }, "Deny user…") : null));
}

/** @param {HTMLFormElement} form */
function how(form) {
  const value = (/** @type {string} */ name) => /** @type {HTMLInputElement} */ (form.elements.namedItem(name)).value;
  return { code: Number(value("code")), reason: value("reason") };
}

/** @param {any} one */
function close(one) {
  dialog("Close this connection?", [el("p", null, `${one.peer} ${one.request}`), ...closeFields()], "Close connection", async (form) => {
    await request("DELETE", `/connections/${encodeURIComponent(one.id)}${query(how(form))}`);
    drawer?.close();
    toast("The connection is being closed");
    again();
  });
}

/** Close all that match: the number is counted first, and must still be the same. */
async function many() {
  const wanted = match.value.trim();
  const count = async () => (await request("POST", "/connections/close", { match: wanted, dry_run: true })).matching;
  let expect = await count();
  const line = el("p", null);
  const say = () => fill(line, "This closes ", el("strong", null, `${number(expect)} connections`), wanted ? ` that match ${wanted}.` : ": all of them.", " Their clients will connect again unless they are denied.");
  say();
  const { go } = dialog("Close all that match?", [line, ...closeFields()], `Close ${number(expect)}`, async (form) => {
    try {
      const { closed } = await request("POST", "/connections/close", { match: wanted, expect, ...how(form) });
      toast(`${number(closed)} connections are closed`);
      again();
    } catch (error) {
      if (/** @type {any} */ (error).status === 409) {
        expect = await count();
        say();
        go.textContent = `Close ${number(expect)}`;
      }
      throw error;
    }
  });
}

const address = () => history.replaceState(null, "", `${location.pathname}${query({ match: match.value.trim() })}`);
const again = repeat(load, 3);
match.addEventListener("input", debounce(() => (address(), load()), 150));
sort.addEventListener("change", () => load());
byId("filter").addEventListener("submit", (event) => (event.preventDefault(), load()));
byId("apply").hidden = true;
closeAll.addEventListener("click", () => many().catch((error) => toast(error.message)));
