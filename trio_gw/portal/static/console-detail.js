// @ts-check
// One row of the log in full: pretty, text, hex, raw, and the difference to the row before.

import { all, el, fill, one } from "./dom.js";
import { bytes } from "./format.js";
import { visible } from "./console-log.js";

const MOST_LINES = 1000;
const MOST_HEX = 16384;

/** @typedef {import("./console-log.js").Row} Row */

export class Detail {
  /**
   * @param {HTMLElement} root
   * @param {{again: (row: Row) => void, more: (row: Row) => void, rows: () => Row[]}} acts
   */
  constructor(root, acts) {
    this.root = root;
    this.acts = acts;
    /** @type {Row | null} */
    this.row = null;
    this.form = "pretty";
    for (const button of all("[data-form]", root)) {
      button.addEventListener("click", () => {
        this.form = button.dataset.form ?? "pretty";
        this.draw();
      });
    }
    one('[data-act="again"]', root)?.addEventListener("click", () => this.row && acts.again(this.row));
    one('[data-act="more"]', root)?.addEventListener("click", () => this.row && acts.more(this.row));
    one('[data-act="hide"]', root)?.addEventListener("click", () => (root.hidden = true));
  }

  /** @param {Row} row */
  show(row) {
    this.row = row;
    this.root.hidden = false;
    this.draw();
  }

  draw() {
    const row = this.row;
    if (!row) return;
    for (const button of all("[data-form]", this.root)) button.setAttribute("aria-pressed", String(button.dataset.form === this.form));
    const what = `${row.way === "out" ? "Sent" : "Received"}: ${row.kind}, ${bytes(row.size)}${row.compressed ? " compressed" : ""}${row.fin === false ? ", more frames follow" : ""}`;
    /** @type {HTMLElement} */ (one("[data-title]", this.root)).textContent = what;
    /** @type {HTMLElement} */ (one('[data-act="more"]', this.root)).hidden = !row.cut;
    /** @type {HTMLElement} */ (one('[data-act="again"]', this.root)).hidden = !/text|binary/.test(row.kind);
    const body = /** @type {HTMLElement} */ (one("[data-body]", this.root));
    if (this.form === "diff") fill(body, this.diff(row));
    else body.textContent = this.text(row);
    const copy = /** @type {HTMLElement} */ (one("[data-copy]", this.root));
    copy.dataset.copy = this.form === "diff" ? body.textContent ?? "" : this.text(row);
  }

  /** @param {Row} row */
  text(row) {
    if (row.kind === "close") return `code ${row.code}\nreason ${row.reason ?? ""}`;
    if (this.form === "hex") return hex(octetsOf(row));
    if (this.form === "raw") return row.text ?? row.base64 ?? "";
    if (row.text === undefined) return hex(octetsOf(row));
    return this.form === "pretty" ? pretty(row.text) : visible(row.text);
  }

  /** @param {Row} row */
  diff(row) {
    const rows = this.acts.rows();
    const earlier = rows.slice(0, rows.indexOf(row)).reverse();
    const other = earlier.find((each) => each.way === row.way && each.kind === row.kind);
    if (!other) return [el("p", { class: "muted" }, "There is no earlier row of this kind and direction.")];
    const [a, b] = [other, row].map((each) => pretty(each.text ?? hex(octetsOf(each))).split("\n"));
    if (a.length > MOST_LINES || b.length > MOST_LINES) return [el("p", { class: "muted" }, `More than ${MOST_LINES} lines: export the log and compare there.`)];
    return difference(a, b).map(([sign, line]) => el(sign === "+" ? "ins" : sign === "-" ? "del" : "span", null, `${sign} ${line}\n`));
  }
}

/** @param {Row} row @returns {Uint8Array} */
function octetsOf(row) {
  if (row.base64 !== undefined) return Uint8Array.from(atob(row.base64), (each) => each.charCodeAt(0));
  return new TextEncoder().encode(row.text ?? "");
}

/** JSON with indentation; another text as it is. Numbers stay as they are written. @param {string} text */
export function pretty(text) {
  try {
    const value = JSON.parse(text);
    if (value === null || typeof value !== "object") return visible(text);
    return visible(JSON.stringify(value, null, 2));
  } catch {
    return visible(text);
  }
}

/** Offset, octets, characters. @param {Uint8Array} octets */
export function hex(octets) {
  const lines = [];
  for (let at = 0; at < Math.min(octets.length, MOST_HEX); at += 16) {
    const part = [...octets.subarray(at, at + 16)];
    const codes = part.map((each) => each.toString(16).padStart(2, "0")).join(" ");
    const text = part.map((each) => (each > 31 && each < 127 ? String.fromCharCode(each) : ".")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${codes.padEnd(47)}  ${text}`);
  }
  if (octets.length > MOST_HEX) lines.push(`… ${octets.length - MOST_HEX} bytes more`);
  return lines.join("\n");
}

/**
 * Compare lines: the longest common subsequence.
 * @param {string[]} a
 * @param {string[]} b
 * @returns {[string, string][]}
 */
export function difference(a, b) {
  const width = b.length + 1;
  const table = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      table[i * width + j] = a[i] === b[j] ? table[(i + 1) * width + j + 1] + 1 : Math.max(table[(i + 1) * width + j], table[i * width + j + 1]);
    }
  }
  /** @type {[string, string][]} */
  const found = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      found.push([" ", a[i++]]);
      j++;
    } else if (j >= b.length || (i < a.length && table[(i + 1) * width + j] >= table[i * width + j + 1])) found.push(["-", a[i++]]);
    else found.push(["+", b[j++]]);
  }
  return found;
}
