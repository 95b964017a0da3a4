// @ts-check
// The log of a console: 5,000 rows are kept, 500 drawn. Rows are frames and notes.

import { el, fill, one } from "./dom.js";
import { bytes } from "./format.js";

const KEPT = 5000;
const DRAWN = 500;
const PREVIEW = 200;
const WORDS = /** @type {Record<string, [string, string]>} */ ({ in: ["←", "received"], out: ["→", "sent"], note: ["·", "note"] });

/** @typedef {{id: number, at: number, way: string, kind: string, size: number, since?: number, text?: string, base64?: string, cut?: boolean, n?: number, fin?: boolean, compressed?: boolean, tone?: string, code?: number, reason?: string}} Row */

export class Log {
  /** @param {HTMLElement} root @param {(row: Row) => void} picked */
  constructor(root, picked) {
    this.root = root;
    this.list = /** @type {HTMLElement} */ (one("[data-list]", root));
    this.picked = picked;
    /** @type {Row[]} */
    this.rows = [];
    /** @type {Row[]} */
    this.fresh = [];
    this.ids = 0;
    this.since = 0;
    this.dropped = 0;
    this.paused = false;
    this.drawing = false;
    this.counts = /** @type {HTMLElement} */ (one("[data-counts]", root));
    for (const name of ["filter", "direction", "kind", "times"]) this.field(name).addEventListener("input", () => this.redraw());
    this.button("pause").addEventListener("click", () => this.pause(!this.paused));
    this.button("clear").addEventListener("click", () => this.clear());
    this.button("export").addEventListener("click", () => this.export());
    this.list.addEventListener("click", (event) => this.pick(/** @type {Element} */ (event.target).closest("[data-row]")));
    this.list.addEventListener("keydown", (event) => this.step(event));
    this.clear();
  }

  /** @param {string} name @returns {any} */
  field(name) {
    return one(`[name="${name}"]`, this.root);
  }

  /** @param {string} name */
  button(name) {
    return /** @type {HTMLElement} */ (one(`[data-act="${name}"]`, this.root));
  }

  /** @param {Omit<Row, "id">} row */
  add(row) {
    const before = this.rows.at(-1);
    const whole = { ...row, id: ++this.ids, since: before ? row.at - before.at : 0 };
    this.rows.push(whole);
    if (this.rows.length > KEPT + 200) {
      this.dropped += this.rows.length - KEPT;
      this.rows.splice(0, this.rows.length - KEPT);
    }
    this.fresh.push(whole);
    if (this.fresh.length > DRAWN) this.fresh.splice(0, this.fresh.length - DRAWN);
    this.later();
    return whole;
  }

  /** @param {string} text @param {string} [tone] @param {number} [at] */
  note(text, tone = "", at = Date.now()) {
    this.add({ at, way: "note", kind: "note", size: 0, text, tone });
  }

  later() {
    if (this.drawing || this.paused) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      if (!this.paused) this.append();
    });
  }

  /** Draw what is new, and keep to the end if the reader is there. */
  append() {
    const filter = this.filter();
    const atEnd = this.list.scrollTop + this.list.clientHeight >= this.list.scrollHeight - 40;
    const rows = this.fresh.filter(filter);
    this.fresh = [];
    if (rows.length) one("[data-empty]", this.list)?.remove();
    this.list.append(...rows.map((row) => this.draw(row)));
    while (this.list.children.length > DRAWN) this.list.firstElementChild?.remove();
    if (atEnd) this.list.scrollTop = this.list.scrollHeight;
    this.count();
  }

  redraw() {
    const filter = this.filter();
    this.fresh = [];
    fill(this.list, this.rows.filter(filter).slice(-DRAWN).map((row) => this.draw(row)));
    if (!this.list.children.length) this.list.append(el("li", { class: "log-empty muted", data: { empty: "" } }, this.rows.length ? "No row fits the filter." : "Connect, then send something. Frames appear here."));
    this.list.scrollTop = this.list.scrollHeight;
    this.count();
  }

  /** @returns {(row: Row) => boolean} */
  filter() {
    const words = this.field("filter").value;
    const [way, kind] = [this.field("direction").value, this.field("kind").value];
    const pattern = /^\/(.+)\/([ims]*)$/.exec(words);
    /** @type {(text: string) => boolean} */
    let fits = (text) => text.toLowerCase().includes(words.toLowerCase());
    let fault = "";
    if (pattern) {
      try {
        const found = new RegExp(pattern[1], pattern[2]);
        fits = (text) => found.test(text.slice(0, 2000));
      } catch (error) {
        fault = /** @type {Error} */ (error).message;
      }
    }
    this.field("filter").setCustomValidity(fault);
    this.field("filter").setAttribute("aria-invalid", String(Boolean(fault)));
    return (row) => (!way || row.way === way) && (!kind || row.kind === kind || (kind === "control" && /ping|pong|close/.test(row.kind))) && (!words || fits(preview(row, 8192)));
  }

  /** @param {Row} row */
  draw(row) {
    const [arrow, word] = WORDS[row.way];
    const note = row.way === "note";
    return el("li", { class: `frame ${row.way} ${row.tone ?? ""}` },
      el("button", { type: "button", data: { row: row.id }, tabindex: "-1", disabled: note },
        el("span", { class: "at", title: this.delta(row) }, this.time(row)),
        el("span", { class: "way" }, el("span", { "aria-hidden": "true" }, arrow), el("span", { class: "word" }, word)),
        note ? null : el("span", { class: "kind" }, row.kind + (row.fin === false ? "…" : "")),
        note ? null : el("span", { class: "size" }, bytes(row.size)),
        el("span", { class: "preview" }, preview(row, PREVIEW))));
  }

  /** @param {Row} row */
  time(row) {
    if (this.field("times").value === "since" && this.since) return `+${((row.at - this.since) / 1000).toFixed(3)}`;
    const when = new Date(row.at);
    return `${when.toTimeString().slice(0, 8)}.${String(when.getMilliseconds()).padStart(3, "0")}`;
  }

  /** @param {Row} row */
  delta(row) {
    return `${new Date(row.at).toISOString()}${row.since ? `, ${row.since.toFixed(1)} ms after the row before` : ""}`;
  }

  /** @param {Element | null} target */
  pick(target) {
    const row = this.rows.find((each) => each.id === Number(/** @type {any} */ (target)?.dataset.row));
    if (!row || !target) return;
    for (const each of this.list.querySelectorAll("[aria-current]")) each.removeAttribute("aria-current");
    target.setAttribute("aria-current", "true");
    this.picked(row);
  }

  /** Arrow keys go through the rows. @param {KeyboardEvent} event */
  step(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const way = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (!way) return;
    event.preventDefault();
    const inside = target.closest("li");
    let next = inside ? /** @type {any} */ (inside)[way] : this.list.lastElementChild;
    while (next && !next.querySelector("button:enabled")) next = way === "nextElementSibling" ? next.nextElementSibling : next.previousElementSibling;
    const button = next?.querySelector("button");
    button?.focus();
    this.pick(button ?? null);
  }

  /** @param {boolean} paused */
  pause(paused) {
    this.paused = paused;
    this.button("pause").textContent = paused ? "Resume" : "Pause";
    this.button("pause").setAttribute("aria-pressed", String(paused));
    if (!paused) this.redraw();
  }

  clear() {
    this.rows = [];
    this.dropped = 0;
    this.redraw();
  }

  count() {
    const old = this.dropped ? `, ${this.dropped} older ones dropped` : "";
    this.counts.textContent = `${this.rows.length} row${this.rows.length === 1 ? "" : "s"}${old}${this.paused ? ", paused" : ""}`;
  }

  /** Save all rows as lines of JSON. */
  export() {
    const lines = this.rows.map((row) => JSON.stringify({ ...row, at: new Date(row.at).toISOString(), id: undefined, type: undefined, tone: undefined, since: undefined }));
    const url = URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "application/x-ndjson" }));
    const link = el("a", { href: url, download: `console-${new Date().toISOString().slice(0, 19).replace(/:/g, "")}.ndjson` });
    link.click();
    URL.revokeObjectURL(url);
  }
}

/** The beginning of a row as text. @param {Row} row @param {number} most */
export function preview(row, most) {
  if (row.kind === "close") return row.code === 1005 ? "no code" : `${row.code} ${row.reason ?? ""}`;
  if (row.text !== undefined) return visible(row.text.slice(0, most));
  if (row.base64 === undefined) return "";
  return [...atob(row.base64.slice(0, 88))].map((each) => each.charCodeAt(0).toString(16).padStart(2, "0")).join(" ");
}

/** Make control and direction characters visible. @param {string} text */
export const visible = (text) => text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, (each) => {
  if ("\t\n\u200d".includes(each)) return each;
  const code = each.codePointAt(0) ?? 0;
  return code < 32 ? String.fromCharCode(0x2400 + code) : `\\u${code.toString(16).padStart(4, "0")}`;
});
