// @ts-check
// What is sent: text, JSON or octets; templates; repeated; pings; Close.

import { all, debounce, el, fill, one } from "./dom.js";
import { toBase64 } from "./console-link.js";
import { check } from "./schema-check.js";

const MOST = 1 << 20;

/** @typedef {{text?: string, base64?: string}} Message */

export class Composer {
  /**
   * @param {HTMLElement} root
   * @param {{send: (message: Message) => void, ping: (text: string) => void, close: (code: number, reason: string) => void, say: (text: string) => void}} acts
   */
  constructor(root, acts) {
    this.root = root;
    this.acts = acts;
    this.mode = "text";
    this.count = 0;
    this.timer = 0;
    /** @type {any[]} */
    this.schemas = [];
    /** @type {{label: string, text: string}[]} */
    this.templates = [];
    /** @type {Uint8Array | null} */
    this.file = null;
    this.body = /** @type {HTMLTextAreaElement} */ (one("[name=body]", root));
    this.hint = /** @type {HTMLElement} */ (one("[data-check]", root));
    for (const button of all("[data-mode]", root)) button.addEventListener("click", () => this.use(button.dataset.mode ?? "text"));
    const act = (/** @type {string} */ name, /** @type {() => void} */ run) => one(`[data-act="${name}"]`, root)?.addEventListener("click", run);
    act("send", () => this.send());
    act("ping", () => acts.ping(this.field("ping").value));
    act("close", () => acts.close(Number(this.field("code").value) || 1005, this.field("reason").value));
    act("repeat", () => this.repeat());
    this.body.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        this.send();
      }
    });
    this.body.addEventListener("input", debounce(() => this.check(), 150));
    this.field("template").addEventListener("change", () => {
      const chosen = this.templates[Number(this.field("template").value)];
      if (chosen) this.put(chosen.text);
      this.field("template").value = "";
    });
    this.field("file").addEventListener("change", () => this.take());
    this.use("text");
  }

  /** @param {string} name @returns {any} */
  field(name) {
    return one(`[name="${name}"]`, this.root);
  }

  /** @param {string} mode */
  use(mode) {
    this.mode = mode;
    for (const button of all("[data-mode]", this.root)) button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
    for (const node of all("[data-for-mode]", this.root)) node.hidden = node.dataset.forMode !== mode;
    this.body.placeholder = mode === "binary" ? "Octets: 48 65 6c 6c 6f, or base64" : mode === "json" ? '{"hello": "{{now}}"}' : "A message; {{uuid}}, {{now}} and {{n}} are filled in";
    this.check();
  }

  /** @param {string} text */
  put(text) {
    this.body.value = text;
    if (this.mode !== "binary") {
      try {
        const value = JSON.parse(text);
        if (value !== null && typeof value === "object") this.use("json");
      } catch {
        // It is text.
      }
    }
    this.check();
  }

  /** @param {{label: string, text: string}[]} examples @param {string[]} sent @param {any[]} schemas */
  offer(examples, sent, schemas) {
    this.schemas = schemas;
    this.templates = [...examples, ...sent.map((text) => ({ label: `Sent: ${text.slice(0, 60)}`, text }))];
    fill(this.field("template"), el("option", { value: "" }, this.templates.length ? "Examples and sent messages…" : "No examples"),
      this.templates.map((each, at) => el("option", { value: at }, each.label)));
    this.field("template").disabled = !this.templates.length;
    if (!this.body.value && examples.length) this.put(examples[0].text);
  }

  /** Say what is wrong with JSON or octets. A message that does not fit the schema can be sent nevertheless. */
  check() {
    let text = "";
    let tone = "";
    if (this.mode === "json" && this.body.value.trim()) {
      try {
        const value = JSON.parse(this.filled());
        const faults = this.schemas.map((schema) => check(schema, value));
        if (faults.length && faults.every((each) => each.length)) {
          text = `Does not fit the payload's schema: ${faults[0].slice(0, 3).join("; ")}. It can be sent nevertheless.`;
          tone = "warn";
        } else text = faults.length ? "Valid JSON, fits the schema" : "Valid JSON";
      } catch (error) {
        [text, tone] = [`Not JSON yet: ${/** @type {Error} */ (error).message}`, "bad"];
      }
    } else if (this.mode === "binary") {
      const octets = this.octets();
      if (octets) text = `${octets.length} bytes`;
      else [text, tone] = ["Neither hex nor base64", "bad"];
    }
    this.hint.textContent = text;
    this.hint.className = `small ${tone || "muted"}`;
  }

  /** The message with {{uuid}}, {{now}} and {{n}} filled in. */
  filled() {
    return this.body.value.replace(/\{\{(uuid|now|n)\}\}/g, (_, name) =>
      name === "uuid" ? crypto.randomUUID() : name === "now" ? new Date().toISOString() : String(this.count));
  }

  /** @returns {Uint8Array | null} */
  octets() {
    if (this.file) return this.file;
    const text = this.body.value.trim();
    const plain = text.replace(/0x|[\s,:]/g, "");
    if (/^([0-9a-f]{2})*$/i.test(plain)) return Uint8Array.from(plain.match(/../g) ?? [], (each) => parseInt(each, 16));
    try {
      return Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (each) => each.charCodeAt(0));
    } catch {
      return null;
    }
  }

  async take() {
    const file = this.field("file").files?.[0];
    this.file = null;
    if (file && file.size > MOST) this.acts.say("A file may have 1 MiB at most.");
    else if (file) this.file = new Uint8Array(await file.arrayBuffer());
    this.check();
  }

  /** @returns {Message | null} */
  message() {
    if (this.mode !== "binary") return { text: this.filled() };
    const octets = this.octets();
    return octets && { base64: toBase64(octets) };
  }

  send() {
    this.count += 1;
    const message = this.message();
    if (message) this.acts.send(message);
    else this.acts.say("These octets are neither hex nor base64.");
  }

  /** Send several times; a second press stops. */
  repeat() {
    const button = /** @type {HTMLElement} */ (one('[data-act="repeat"]', this.root));
    if (this.timer) return this.stop();
    let left = Math.min(1000, Math.max(1, Number(this.field("times_to").value) || 1));
    const wait = Math.max(10, Number(this.field("every").value) || 100);
    button.textContent = "Stop";
    const next = () => {
      this.send();
      left -= 1;
      if (left) this.timer = setTimeout(next, wait);
      else this.stop();
    };
    this.timer = setTimeout(next, 0);
  }

  stop() {
    clearTimeout(this.timer);
    this.timer = 0;
    /** @type {HTMLElement} */ (one('[data-act="repeat"]', this.root)).textContent = "Repeat";
  }

  /** @param {boolean} open @param {boolean} browser */
  enable(open, browser) {
    for (const name of ["send", "repeat", "ping", "close"]) {
      const button = /** @type {HTMLButtonElement} */ (one(`[data-act="${name}"]`, this.root));
      button.disabled = !open || (name === "ping" && browser);
    }
    if (!open) this.stop();
  }
}
