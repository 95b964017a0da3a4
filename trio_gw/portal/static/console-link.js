// @ts-check
// The two ways to a topic. Both tell what happens by the same events: `opened`, `frame`, `closed` …

const ALIVE = 20000; // ms between two signs of life
const SHOWN = 65536;
const LONGEST = 3e6; // bytes of one message to the gateway

/** @typedef {Record<string, any> & {type: string}} Event */
/** @typedef {(event: Event) => void} Listener */

/** Through the gateway: the worker connects, and shows what a browser hides. */
export class GatewayLink {
  /** @param {Listener} on */
  constructor(on) {
    this.on = on;
    /** @type {WebSocket | null} */
    this.socket = null;
    this.timer = 0;
    this.live = false;
  }

  /** @param {Record<string, any>} asked */
  connect(asked) {
    this.live = true;
    if (this.socket?.readyState === WebSocket.OPEN) {
      this.tell({ type: "connect", ...asked });
      return;
    }
    const socket = (this.socket = new WebSocket(`${location.origin.replace("http", "ws")}/portal/try`));
    socket.onopen = () => {
      this.timer = setInterval(() => this.tell({ type: "alive" }), ALIVE);
      this.tell({ type: "connect", ...asked });
    };
    socket.onmessage = (message) => {
      const event = JSON.parse(message.data);
      if (event.type === "refused" || event.type === "closed") this.live = false;
      this.on(event);
    };
    socket.onclose = (end) => {
      clearInterval(this.timer);
      if (this.socket !== socket) return;
      this.socket = null;
      if (this.live) {
        this.live = false;
        this.on({ type: "lost", at: Date.now(), reason: end.reason });
      }
    };
  }

  /** @param {Record<string, any>} message */
  tell(message) {
    const text = JSON.stringify(message);
    if (text.length > LONGEST / 3 && new TextEncoder().encode(text).length > LONGEST) this.on({ type: "fault", message: "not sent: this message is too long" });
    else if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(text);
  }

  /** @param {{text?: string, base64?: string, fragments?: number}} message */
  send(message) {
    this.tell({ type: "send", ...message });
  }

  /** @param {string} text */
  ping(text) {
    this.tell({ type: "ping", text });
  }

  /** @param {number} code @param {string} reason */
  close(code, reason) {
    if (this.socket?.readyState === WebSocket.CONNECTING) this.drop();
    else this.tell({ type: "close", code, reason });
  }

  /** @param {number} n */
  more(n) {
    this.tell({ type: "more", n });
  }

  drop() {
    this.socket?.close();
  }
}

/** Straight from this browser, with what a browser tells: no status, no pings, no request id. */
export class BrowserLink {
  /** @param {Listener} on */
  constructor(on) {
    this.on = on;
    /** @type {WebSocket | null} */
    this.socket = null;
    this.live = false;
    this.n = 0;
    this.opened = false;
    /** @type {[number, string] | null} */
    this.asked = null;
    /** @type {Map<number, Uint8Array>} */
    this.kept = new Map();
  }

  /** @param {{url: string, protocols: string[]}} asked */
  connect(asked) {
    const from = performance.now();
    this.asked = null;
    this.opened = false;
    /** @type {WebSocket} */
    let socket;
    try {
      socket = new WebSocket(asked.url, asked.protocols);
    } catch (error) {
      this.on({ type: "fault", message: `the browser does not try: ${/** @type {Error} */ (error).message}` });
      this.on(ended(1006, "", "", false));
      return;
    }
    this.live = true;
    this.socket = socket;
    // A target that the page's policy does not list gives neither `open` nor `close`.
    const forbidden = (/** @type {SecurityPolicyViolationEvent} */ event) => {
      if (!event.blockedURI.startsWith("ws") || !this.live || this.opened) return;
      this.live = false;
      this.on({ type: "fault", message: "the security policy of this page does not list this address; connect through the gateway" });
      this.on(ended(1006, "", "", false));
    };
    document.addEventListener("securitypolicyviolation", forbidden, { once: true });
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.opened = true;
      this.on({
        type: "opened", ms: performance.now() - from, at: Date.now(), status: 101, headers: [],
        protocol: socket.protocol, extensions: socket.extensions, request_id: "", browser: true,
      });
    };
    socket.onmessage = (message) => this.show("in", message.data);
    socket.onclose = (end) => {
      document.removeEventListener("securitypolicyviolation", forbidden);
      if (!this.live) return;
      this.live = false;
      const by = this.asked ? "client" : "";
      this.on({ ...ended(end.code, end.reason, by, end.wasClean), browser: true, unopened: !this.opened });
    };
  }

  /** @param {"in" | "out"} way @param {string | ArrayBuffer | Uint8Array} data */
  show(way, data) {
    const text = typeof data === "string" ? data : undefined;
    const octets = text === undefined ? new Uint8Array(/** @type {ArrayBuffer} */ (data)) : new TextEncoder().encode(text);
    const n = ++this.n;
    const cut = octets.length > SHOWN;
    if (cut) {
      if (this.kept.size > 3) this.kept.delete(/** @type {number} */ (this.kept.keys().next().value));
      this.kept.set(n, octets);
    }
    const shown = text === undefined ? { base64: toBase64(octets.subarray(0, SHOWN)) } : { text: cut ? text.slice(0, SHOWN) : text };
    this.on({
      type: "frame", n, way, kind: text === undefined ? "binary" : "text", fin: true,
      size: octets.length, at: Date.now(), cut, ...shown,
    });
  }

  /** @param {{text?: string, base64?: string}} message */
  send(message) {
    const data = message.text ?? fromBase64(message.base64 ?? "");
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    this.socket.send(/** @type {any} */ (data));
    this.show("out", data);
  }

  ping() {
    this.on({ type: "fault", message: "a browser cannot send a Ping" });
  }

  /** @param {number} code @param {string} reason */
  close(code, reason) {
    this.asked = [code, reason];
    try {
      if (code === 1005) this.socket?.close();
      else this.socket?.close(code, reason);
    } catch {
      this.asked = null;
      this.on({ type: "fault", message: "a browser closes with 1000 or 3000 to 4999, and a reason of 123 bytes" });
    }
  }

  /** @param {number} n */
  more(n) {
    const octets = this.kept.get(n);
    if (octets) this.on({ type: "rest", n, base64: toBase64(octets), cut: false });
    else this.on({ type: "fault", message: "this message is not kept any more" });
  }

  drop() {
    this.socket?.close();
  }
}

/** @param {number} code @param {string} reason @param {string} by @param {boolean} clean */
const ended = (code, reason, by, clean) => ({ type: "closed", at: Date.now(), code, reason, by, clean, explained: null });

/** @param {Uint8Array} octets */
export function toBase64(octets) {
  let text = "";
  for (let at = 0; at < octets.length; at += 8192) text += String.fromCharCode(...octets.subarray(at, at + 8192));
  return btoa(text);
}

/** @param {string} text */
export const fromBase64 = (text) => Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
