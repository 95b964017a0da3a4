// @ts-check
// One console: its form, log and composer, and the connection that they share.

import { request } from "./api.js";
import { el, fill, one } from "./dom.js";
import { ConnectForm } from "./console-form.js";
import { BrowserLink, GatewayLink, fromBase64 } from "./console-link.js";
import { Detail } from "./console-detail.js";
import { Log } from "./console-log.js";
import { Composer } from "./console-send.js";
import { CopyAs } from "./console-copy.js";
import { Trips } from "./console-trips.js";

const WHO = /** @type {Record<string, string>} */ ({ you: "you", client: "you", gateway: "the gateway", backend: "the backend" });

export class Panel {
  /**
   * @param {HTMLElement} root
   * @param {import("./console-form.js").Target} target
   * @param {import("./console-history.js").Memory} memory
   * @param {string} topic the name of the first one to show
   */
  constructor(root, target, memory, topic) {
    this.root = root;
    this.target = target;
    this.memory = memory;
    /** @type {any} */
    this.asked = null;
    /** @type {"idle" | "opening" | "open" | "closing"} */
    this.state = "idle";
    this.trips = new Trips();
    /** @type {Map<string, Promise<any>>} */
    this.topics = new Map();
    /** @type {import("./console-log.js").Row | null} */
    this.waiting = null;
    const listener = (/** @type {any} */ event) => this.on(event);
    this.links = { gateway: new GatewayLink(listener), browser: new BrowserLink(listener) };
    /** @type {GatewayLink | BrowserLink} */
    this.link = this.links.gateway;
    this.detail = new Detail(this.part("detail"), {
      again: (row) => this.send(row.text === undefined ? { base64: row.base64 } : { text: row.text }),
      more: (row) => {
        this.waiting = row;
        this.link.more(row.n ?? 0);
      },
      rows: () => this.log.rows,
    });
    this.log = new Log(this.part("log"), (row) => this.detail.show(row));
    this.composer = new Composer(/** @type {HTMLElement} */ (one(".composer", root)), {
      send: (message) => this.send(message), ping: (text) => this.link.ping(text),
      close: (code, reason) => this.close(code, reason), say: (text) => this.log.note(text, "bad"),
    });
    const form = /** @type {HTMLFormElement} */ (one(".connect", root));
    this.topic = "";
    this.form = new ConnectForm(form, target, () => this.changed());
    if (topic) this.form.choose(topic);
    this.copy = new CopyAs(root, this.form, this.composer);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.state === "idle") this.connect();
    });
    one('[data-act="disconnect"]', root)?.addEventListener("click", () => this.close(1000, ""));
    this.recent = /** @type {HTMLSelectElement} */ (one("[name=recent]", root));
    this.recent.addEventListener("change", () => {
      if (this.recent.value === "forget") this.memory.forget();
      else this.form.restore(this.memory.held.settings[Number(this.recent.value)]);
      this.remembered();
    });
    this.remembered();
    this.show("idle");
    this.changed();
  }

  /** @param {string} name */
  part(name) {
    return /** @type {HTMLElement} */ (one(`[data-${name}]`, this.root));
  }

  /** The topic or something else in the form is new. */
  changed() {
    if (!this.form) return;
    if (this.form.topic && this.topic !== this.form.topic.name) {
      this.topic = this.form.topic.name;
      this.examples();
    }
    this.copy?.draw();
  }

  /** Offer the examples of the topic, and its schemas to compare with. */
  async examples() {
    const { number, name } = this.form.topic;
    const path = `/apis/${encodeURIComponent(this.target.id)}/topics/${number}?host=${encodeURIComponent(this.target.host)}`;
    if (!this.topics.has(name)) this.topics.set(name, request("GET", path).catch(() => ({})));
    const view = await this.topics.get(name);
    if (this.topic !== name) return;
    for (const one of view.parameters ?? []) this.form.suggest(one);
    const messages = (view.operations ?? []).filter((/** @type {any} */ each) => each.way === "send").flatMap((/** @type {any} */ each) => each.messages);
    const examples = messages.flatMap((/** @type {any} */ message) => (message.examples ?? []).map((/** @type {any} */ each) => ({
      label: [message.title || message.name, each.name || each.summary, each.made_up ? "made up" : ""].filter(Boolean).join(", "), text: each.payload,
    })));
    const schemas = messages.map((/** @type {any} */ each) => each.payload).filter(Boolean);
    this.composer.offer(examples, this.memory.held.messages, schemas);
  }

  remembered() {
    const { settings } = this.memory.held;
    fill(this.recent, el("option", { value: "" }, settings.length ? "Earlier…" : "No history"),
      settings.map((each, at) => el("option", { value: at }, `${each.topic} ${Object.values(each.parameters ?? {}).join(" ")} (${each.kind})`)),
      settings.length ? el("option", { value: "forget" }, "Forget the history") : null);
    this.recent.disabled = !settings.length;
  }

  async connect() {
    const asked = this.form.asked();
    if (!asked) return;
    this.asked = asked;
    this.part("end").hidden = true;
    this.memory.connected(this.form.settings());
    this.remembered();
    this.show("opening");
    if (this.form.way === "gateway") {
      this.link = this.links.gateway;
      this.link.connect(asked);
      return;
    }
    try {
      const token = await this.token(asked.key);
      this.link = this.links.browser;
      this.log.note(`straight from this browser to ${this.form.place().url}`);
      this.link.connect({ url: this.form.place().url, protocols: [...(token ? ["bearer", token] : []), ...asked.protocols] });
    } catch (error) {
      this.log.note(/** @type {Error} */ (error).message, "bad");
      this.show("idle");
    }
  }

  /** The token for a connection of the browser itself. @param {any} key */
  async token(key) {
    if (key.kind === "api-key") throw new Error("a browser cannot send an API key in a header; connect through the gateway");
    if (key.kind !== "test") return key.value;
    const { scopes, key_type, seconds } = key;
    return (await request("POST", "/test-keys", { api: this.target.id, host: this.target.host, scopes, key_type, seconds })).token;
  }

  /** @param {{text?: string, base64?: string}} message */
  send(message) {
    if (this.state !== "open") return;
    this.link.send(message);
    this.memory.sent(message.text, this.asked?.key.value ?? "");
  }

  /** @param {number} code @param {string} reason */
  close(code, reason) {
    this.link.close(code, reason);
    if (this.state === "open") this.show("closing");
  }

  /** @param {typeof this.state} state @param {string} [text] @param {string} [tone] */
  show(state, text = "", tone = "") {
    this.state = state;
    const badge = this.part("state");
    badge.textContent = text || { idle: "not connected", opening: "connecting", open: "open", closing: "closing" }[state];
    badge.className = `end badge state ${tone || { idle: "hollow", opening: "warn", open: "good", closing: "warn" }[state]}`;
    /** @type {any} */ (one('[data-act="connect"]', this.root)).disabled = state !== "idle";
    /** @type {any} */ (one('[data-act="disconnect"]', this.root)).disabled = state === "idle";
    this.composer.enable(state === "open", this.link === this.links.browser);
  }

  /** @param {any} event */
  on(event) {
    const { log } = this;
    switch (event.type) {
      case "dialing":
        this.head = `GET ${event.target} HTTP/1.1\n${lines(event.headers)}\n\n`;
        break;
      case "opened":
        log.since = event.at;
        this.trips = new Trips();
        log.note(`open: ${event.status} in ${event.ms.toFixed(1)} ms${event.protocol ? `, subprotocol ${event.protocol}` : ""}${event.extensions ? `, ${event.extensions}` : ""}`, "good", event.at);
        this.show("open", `${event.status} in ${event.ms.toFixed(0)} ms`);
        if (!event.browser) this.handshake(`HTTP/1.1 ${event.status}\n${lines(event.headers)}`);
        break;
      case "refused":
        log.note(`refused: ${event.status} ${event.phrase}`, "bad", event.at);
        this.show("idle", `refused: ${event.status}`, "bad");
        this.handshake(`HTTP/1.1 ${event.status} ${event.phrase}\n${lines(event.headers)}\n\n${event.body}${event.cut ? "…" : ""}`);
        this.end(event.explained, `${event.status} ${event.phrase}`, [event.body, event.request_id && `request id ${event.request_id}`, this.steps()]);
        break;
      case "frame":
        log.add(event);
        if (this.trips.take(event)) this.trips.draw(this.part("trips"));
        break;
      case "rest":
        if (this.waiting?.n === event.n) this.whole(event);
        break;
      case "pong":
        log.note(`pong after ${event.ms.toFixed(1)} ms`, "", event.at);
        break;
      case "skipped":
        log.note(`${event.frames} frames (${event.bytes} bytes) came faster than this page could show: counted only`, "warn");
        break;
      case "closed":
        this.closed(event);
        break;
      case "lost":
        log.note(`the console's own connection to the gateway ended ${event.reason}`, "bad", event.at);
        this.show("idle", "console lost", "bad");
        break;
      default:
        log.note(event.message, "bad");
        if (this.state === "opening" && event.type === "fault") this.failed();
    }
  }

  /** A link to the page that explains a handshake step by step, if there is one. */
  steps() {
    if (!one("[data-explain]")) return null;
    const given = new URLSearchParams({ host: this.asked.host.replace(/:\d+$/, ""), path: this.asked.path });
    return el("p", null, el("a", { href: `/portal/explain?${given}` }, "Check a token step by step"));
  }

  /** A fault before the handshake began: nothing is connected. */
  failed() {
    this.links.gateway.live = false;
    this.show("idle");
  }

  /** @param {any} event */
  closed(event) {
    const text = `${event.code}${event.reason ? ` ${event.reason}` : ""}`;
    const who = event.by ? ` by ${WHO[event.by] ?? event.by}` : "";
    this.log.note(`closed: ${text}${who}${event.clean ? "" : ", not cleanly"}`, event.code === 1000 ? "" : "warn", event.at);
    this.show("idle", `closed: ${event.code}`, event.code === 1000 ? "hollow" : "warn");
    if (event.browser && event.unopened) {
      const why = el("button", { type: "button", class: "button small" }, "Why? Ask through the gateway, once");
      why.addEventListener("click", () => {
        this.form.field("way").value = "gateway";
        this.form.refresh();
        this.connect();
      });
      this.end({ what: "The connection was not opened. A browser tells no reason: it may be a refusal, a certificate that it does not trust, or an address that it blocks.", advice: "" }, "1006", [why]);
    } else this.end(event.explained ?? { what: event.clean ? "Closed." : "Ended without a Close frame.", advice: "" }, text, []);
  }

  /** Say how it ended, and what to do. @param {any} explained @param {string} title @param {any[]} more */
  end(explained, title, more) {
    const node = this.part("end");
    const who = WHO[explained.who];
    fill(node, el("p", null, el("strong", null, title), who ? el("span", { class: "muted" }, ` · ${who === "you" ? "on your side" : `by ${who}`}`) : null,
      explained.code && !title.startsWith(explained.code) ? el("span", { class: "muted" }, ` · code ${explained.code}`) : null),
    el("p", null, explained.what), explained.advice ? el("p", { class: "muted" }, explained.advice) : null,
    more.filter(Boolean).map((each) => (typeof each === "string" ? el("p", { class: "mono small" }, each) : each)));
    node.className = `notice ${/^(1000|1001|1005|4)/.test(title) && !/^4\d\d /.test(title) ? "" : "bad"}`;
    node.hidden = false;
  }

  /** The rest of a frame that was cut. @param {{n: number, base64: string, cut: boolean}} event */
  whole(event) {
    const row = /** @type {import("./console-log.js").Row} */ (this.waiting);
    this.waiting = null;
    row.cut = event.cut;
    if (row.text !== undefined) row.text = new TextDecoder().decode(fromBase64(event.base64));
    else row.base64 = event.base64;
    this.detail.show(row);
  }

  /** @param {string} answer */
  handshake(answer) {
    /** @type {HTMLElement} */ (one("[data-head]", this.root)).textContent = `${this.head ?? ""}${answer}`;
    this.part("handshake").hidden = false;
  }

  /** Let go of everything: the page or this console is closed. */
  leave() {
    this.composer.stop();
    this.links.gateway.drop();
    this.links.browser.drop();
  }
}

/** @param {string[][]} headers */
const lines = (headers) => headers.map((each) => each.join(": ")).join("\n");
