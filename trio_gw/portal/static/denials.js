// @ts-check
// Deny conditions: add a line to the file, remove one.

import { query, request } from "./api.js";
import { byId, el, fill } from "./dom.js";
import { dialog, repeat, toast } from "./operate_parts.js";

const form = /** @type {HTMLFormElement} */ (byId("deny"));
const kind = /** @type {HTMLSelectElement} */ (byId("kind"));
const key = /** @type {HTMLInputElement} */ (byId("key"));
const reason = /** @type {HTMLInputElement} */ (byId("reason"));
const file = byId("denials").dataset.file;
const EXAMPLES = /** @type {Record<string, string>} */ ({
  address: "203.0.113.7 or 203.0.113.0/24", user: "alice@carbon.super", application: "alice:Chat client",
  api: "/chat/1.0.0", subscription: "/chat/1.0.0:1.0.0:alice-Chat client:PRODUCTION",
});
let shown = "";

async function load() {
  const found = await request("GET", `/denials${query({ limit: 1000 })}`);
  const written = JSON.stringify(found);
  if (written === shown) return;
  shown = written;
  byId("denials-none").hidden = found.conditions.length > 0;
  fill(byId("denials"), found.conditions.map((/** @type {any} */ one) => el("tr", null,
    el("td", { "data-label": "What" }, one.kind),
    el("th", { scope: "row", class: "mono wrap" }, `${one.invert ? "any but " : ""}${one.names}`),
    el("td", { class: "wrap", "data-label": "Reason" }, one.reason),
    el("td", { "data-label": "From" }, one.source),
    el("td", { class: "acts" }, one.source === file ? el("button", { type: "button", class: "button quiet small", "aria-label": `Remove ${one.kind} ${one.names}`, on: { click: () => remove(one) } }, "Remove") : null))));
}

/** @param {any} one */
function remove(one) {
  dialog("Remove this condition?", [el("p", null, `${one.kind} ${one.invert ? "any but " : ""}${one.names} may connect again.`)], "Remove", async () => {
    await request("DELETE", `/denials${query({ kind: one.kind, key: one.names, invert: one.invert ? "true" : "" })}`);
    toast("The condition is removed");
    again();
  });
}

form.hidden = false;
kind.addEventListener("change", () => (key.placeholder = EXAMPLES[kind.value] ?? ""));
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  byId("wrong").textContent = "";
  const value = key.value.trim();
  const invert = kind.value === "address" && value.startsWith("!");
  try {
    await request("POST", "/denials", { kind: kind.value, key: invert ? value.slice(1) : value, invert, reason: reason.value });
    form.reset();
    toast("The condition is in force");
    again();
  } catch (error) {
    byId("wrong").textContent = /** @type {Error} */ (error).message;
    key.focus();
  }
});
const again = repeat(load, 3);
