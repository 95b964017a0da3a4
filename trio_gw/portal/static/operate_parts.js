// @ts-check
// Parts of the operator's pages: times, dialogs, and asking again while the page is visible.

import { request } from "./api.js";
import { el } from "./dom.js";
import { clock, date } from "./format.js";

/** A time of the day; date and UTC on hover. @param {number} seconds */
export function time(seconds) {
  const when = new Date(seconds * 1000);
  return el("time", { datetime: when.toISOString(), title: `${date(when)} (${when.toISOString()})` }, clock(when));
}

/** A badge. @param {string} text @param {string} [kind] */
export const badge = (text, kind = "") => el("span", { class: `badge ${kind}` }, text);

/**
 * Call `load` now and every `seconds` while the page is visible; one call at a time.
 * @param {() => Promise<void>} load @param {number} seconds
 * @returns {() => Promise<void>} a function that does so at once
 */
export function repeat(load, seconds) {
  let busy = false;
  const now = async () => {
    if (busy || document.hidden) return;
    busy = true;
    await load().catch(() => undefined);
    busy = false;
  };
  setInterval(now, seconds * 1000);
  document.addEventListener("visibilitychange", now);
  document.addEventListener("portal:found", now);
  now();
  return now;
}

/**
 * Ask in a dialog with fields; answers their values, or null. `run` does it and may raise; its
 * error is shown and the dialog stays.
 * @param {string} title @param {(Node | string | null)[]} parts @param {string} action
 * @param {(form: HTMLFormElement) => Promise<void>} run
 */
export function dialog(title, parts, action, run) {
  const wrong = el("p", { class: "bad", role: "alert" });
  const go = el("button", { class: "button danger" }, action);
  const form = el("form", { method: "dialog" }, el("h2", { id: "dialog-title" }, title), parts, wrong,
    el("div", { class: "dialog-end" }, el("button", { type: "button", class: "button", on: { click: () => box.close() } }, "Cancel"), go));
  const box = el("dialog", { "aria-labelledby": "dialog-title" }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    wrong.textContent = "";
    try {
      await run(form);
      box.close();
    } catch (error) {
      wrong.textContent = error instanceof Error ? error.message : String(error);
    }
    go.disabled = false;
  });
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
  return { box, go, wrong };
}

/** A field. @param {string} name @param {string} label @param {Record<string, any>} props @param {string} [hint] */
export function field(name, label, props, hint = "") {
  return el("div", { class: "field" }, el("label", { for: `field-${name}` }, label),
    el("input", { id: `field-${name}`, name, ...props, "aria-describedby": hint ? `field-${name}-hint` : null }),
    hint ? el("span", { class: "hint", id: `field-${name}-hint` }, hint) : null);
}

/** Code and reason of a Close. @returns {Node[]} */
export const closeFields = () => [
  field("code", "Close code", { type: "number", value: "1008", min: 1000, max: 4999, required: true }, "1008 policy, 1012 restart, 1013 try again, or your own from 3000 to 4999"),
  field("reason", "Reason, which the client sees", { value: "closed by an administrator", maxlength: 100 }),
];

/** Deny a caller: ask for the reason, then add a line. @param {string} kind @param {string} key */
export function deny(kind, key) {
  dialog(`Deny ${kind} ${key}?`, [
    el("p", null, "New connections are refused with 403, open ones are closed. Adds one line to the file of deny conditions."),
    field("reason", "Reason, for the log", { maxlength: 200, value: "" }),
  ], "Deny", async (form) => {
    const reason = /** @type {HTMLInputElement} */ (form.elements.namedItem("reason")).value;
    await request("POST", "/denials", { kind, key, reason });
    toast(`${kind} ${key} is denied`);
  });
}

/** Say that something is done. @param {string} text */
export function toast(text) {
  let box = document.querySelector(".toasts");
  if (!box) document.body.append((box = el("div", { class: "toasts", role: "status" })));
  const one = el("div", { class: "toast" }, text);
  box.append(one);
  setTimeout(() => one.remove(), 5000);
}
