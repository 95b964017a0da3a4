// @ts-check
// Live values: one event stream for this tab, open only while the tab is visible.

import { request } from "./api.js";
import { found, lost } from "./connection.js";
import { el } from "./dom.js";
import { clock } from "./format.js";

const FIRST = 1000;
const LONGEST = 15000;
const ACTIVE = 14 * 60_000; // somebody who used the page so lately keeps the session

/** @type {Map<string, Set<(data: any) => void>>} */
const handlers = new Map();
/** @type {EventSource | null} */
let stream = null;
let opened = "";
let wait = FIRST;
let timer = 0;
let after = "";
let used = Date.now();

/**
 * Call `handler` with the data of each event of a topic: stats, apis, problems or endings.
 * Returns a function that ends that. `from` is the id of the last ending that is known.
 * @param {string} topic
 * @param {(data: any) => void} handler
 * @param {{from?: string}} [options]
 */
export function live(topic, handler, options = {}) {
  if (options.from) after = options.from;
  const known = handlers.get(topic) ?? new Set();
  handlers.set(topic, known.add(handler));
  queueMicrotask(open);
  return () => {
    known.delete(handler);
    if (!known.size) handlers.delete(topic);
    queueMicrotask(open);
  };
}

function open() {
  const topics = [...handlers.keys()].sort().join(",");
  if (document.hidden || !topics) return close();
  if (stream && opened === topics) return;
  close();
  opened = topics;
  const query = new URLSearchParams({ topics });
  if (after) query.set("after", after);
  const made = new EventSource(`/portal/events?${query}`);
  stream = made;
  made.addEventListener("open", () => {
    wait = FIRST;
    found();
  });
  made.addEventListener("error", () => again(made));
  made.addEventListener("session", (event) => session(JSON.parse(/** @type {MessageEvent} */ (event).data)));
  for (const topic of handlers.keys()) {
    made.addEventListener(topic, (event) => {
      const { data, lastEventId } = /** @type {MessageEvent} */ (event);
      if (lastEventId) after = lastEventId;
      for (const handler of handlers.get(topic) ?? []) handler(JSON.parse(data));
    });
  }
}

function close() {
  clearTimeout(timer);
  stream?.close();
  stream = null;
  opened = "";
}

/** The stream broke or was refused: ask why, and connect again later and later. @param {EventSource} made */
function again(made) {
  if (made !== stream) return;
  close();
  timer = setTimeout(async () => {
    try {
      await request("GET", "/session"); // shows the banner, or asks to log in
    } catch {
      // It is shown already.
    }
    open();
  }, wait * (0.75 + Math.random() / 2));
  wait = Math.min(wait * 2, LONGEST);
}

/** @param {{expires: number | null}} data */
async function session(data) {
  const active = Date.now() - used < ACTIVE;
  if (data.expires === null || active) return renew();
  const button = el("button", { class: "button small", on: { click: () => (toast.remove(), renew()) } }, "Stay logged in");
  const toast = el("div", { class: "toast row", role: "status" },
    `Your session ends at ${clock(new Date(data.expires * 1000))}.`, button);
  document.body.append(el("div", { class: "toasts" }, toast));
}

/** Use the session, which makes it last longer, and go on with a stream of the new one. */
async function renew() {
  close();
  try {
    await request("GET", "/session");
  } catch {
    lost();
  }
  open();
}

document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
document.addEventListener("portal:found", () => stream ?? open());
addEventListener("pagehide", close);
addEventListener("pageshow", open);
for (const name of ["pointerdown", "keydown"]) addEventListener(name, () => (used = Date.now()), { passive: true });
