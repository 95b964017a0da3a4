// @ts-check
// Fields of the editor's form. Each change becomes one operation on the text of the draft.

import { el } from "./dom.js";

let count = 0;
let quiet = false;

/** Replace fields: what they hold then is not sent. @param {() => void} replace */
export function quietly(replace) {
  quiet = true;
  try {
    replace();
  } finally {
    quiet = false;
  }
}

/**
 * A labelled field. `change` is called with its new value when it is left.
 * @param {string} label
 * @param {string} value
 * @param {(value: string) => void} change
 * @param {{hint?: string, type?: string, rows?: number, list?: string, mono?: boolean, placeholder?: string, name?: string}} [options]
 */
export function text(label, value, change, options = {}) {
  const id = options.name ? `f-${options.name}` : `f${++count}`;
  let sent = value;
  const send = (/** @type {Event} */ event) => {
    const now = /** @type {HTMLInputElement} */ (event.target).value;
    if (quiet || now === sent) return;
    sent = now;
    change(now);
  };
  const props = {
    id, value, autocomplete: options.type === "password" ? "new-password" : "off", autocapitalize: "none", spellcheck: "false",
    placeholder: options.placeholder, list: options.list, maxlength: "4000",
    "aria-describedby": options.hint ? `${id}-hint` : null,
    // A field whose text was put back after the form was drawn anew tells no change.
    on: { change: send, blur: send },
  };
  const control = options.rows
    ? el("textarea", { ...props, rows: options.rows, class: "mono short" })
    : el("input", { ...props, type: options.type ?? "text", class: options.mono ? "mono" : null });
  return el("div", { class: "field" }, el("label", { for: id }, label), control,
    options.hint && el("span", { class: "hint", id: `${id}-hint` }, options.hint));
}

/** Several values, one on a line. @param {string} label @param {string[]} values @param {(values: string[]) => void} change @param {{hint?: string, name?: string}} [options] */
export const lines = (label, values, change, options = {}) =>
  text(label, values.join("\n"), (value) => change(value.split("\n").map((line) => line.trim()).filter(Boolean)), { rows: 2, ...options });

/** Words in one line. @param {string} label @param {string[]} values @param {(values: string[]) => void} change @param {{hint?: string, name?: string}} [options] */
export const words = (label, values, change, options = {}) =>
  text(label, values.join(" "), (value) => change(value.split(/[\s,]+/).filter(Boolean)), options);

/** @param {string} label @param {boolean} on @param {(on: boolean) => void} change @param {string} [name] */
export function tick(label, on, change, name = "") {
  const input = el("input", { type: "checkbox", checked: on, id: name ? `f-${name}` : null, on: { change: (/** @type {Event} */ event) => change(/** @type {HTMLInputElement} */ (event.target).checked) } });
  return el("label", { class: "tick" }, input, el("span", null, label));
}

/**
 * @param {string} label
 * @param {[string, string][]} pairs values and labels
 * @param {string} chosen
 * @param {(value: string) => void} change
 * @param {string} [name]
 */
export function select(label, pairs, chosen, change, name = "") {
  const id = name ? `f-${name}` : `f${++count}`;
  const known = pairs.some(([value]) => value === chosen) ? pairs : [...pairs, /** @type {[string, string]} */ ([chosen, chosen])];
  return el("div", { class: "field" }, el("label", { for: id }, label),
    el("select", { id, on: { change: (/** @type {Event} */ event) => change(/** @type {HTMLSelectElement} */ (event.target).value) } },
      known.map(([value, shown]) => el("option", { value, selected: value === chosen }, shown))));
}

/** A part of the form. @param {string} title @param {...any} children */
export function part(title, ...children) {
  const id = `part-${title.toLowerCase()}`;
  return el("section", { class: "card", "aria-labelledby": id }, el("h2", { id }, title), el("div", { class: "form" }, children.flat(2)));
}

/** Why a part can only be edited as text. @param {string} title @param {string} why */
export const off = (title, why) =>
  part(title, el("p", { class: "muted" }, `This part can only be changed in the text: ${why}.`));
