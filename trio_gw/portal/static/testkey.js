// @ts-check
// Test keys: gets one, shows it with its claims and the time that it has left, and revokes it.
// A key is kept by the page in memory only.

import { ApiError, request } from "./api.js";
import { all, el, fill } from "./dom.js";
import { clock, duration } from "./format.js";

/** @typedef {{token: string, id: string, expires: number, claims: Record<string, any>}} TestKey */

/**
 * Get a test key. Raises `ApiError` 409 if no issuer trusts it.
 * @param {{api: string, host?: string, scopes?: string[], key_type?: string, seconds?: number}} asked
 * @returns {Promise<TestKey>}
 */
export const mint = (asked) => request("POST", "/test-keys", asked);

/**
 * Revoke a test key: open connections with it end, too.
 * @param {TestKey} key
 */
export const revoke = (key) => request("POST", "/revocations", { jti: key.id });

/**
 * Show a key: copy, claims, countdown, and *Revoke* if that is possible here. Returns a function that
 * stops the countdown.
 * @param {HTMLElement} place
 * @param {TestKey} key
 * @param {boolean} [revocable]
 */
export function show(place, key, revocable = true) {
  const left = el("span", null);
  const count = () => {
    const seconds = key.expires - Date.now() / 1000;
    left.textContent = seconds > 0
      ? `ends in ${duration(seconds)}, at ${clock(new Date(key.expires * 1000))}`
      : "has ended";
    if (seconds <= 0) clearInterval(timer);
  };
  const timer = setInterval(count, 1000);
  const field = el("textarea", {
    class: "mono", rows: 4, readonly: true, value: key.token, id: "testkey-token", spellcheck: "false",
  });
  const gone = el("button", { type: "button", class: "button danger" }, "Revoke");
  const state = el("p", { role: "status" });
  gone.addEventListener("click", async () => {
    gone.disabled = true;
    try {
      await revoke(key);
      clearInterval(timer);
      left.textContent = "is revoked";
      state.textContent = "The key is revoked. Connections that it opened are closed.";
    } catch (error) {
      gone.disabled = false;
      state.textContent = error instanceof Error ? error.message : String(error);
    }
  });
  fill(
    place,
    el("div", { class: "field" }, el("label", { for: "testkey-token" }, "The key"), field),
    el("p", { class: "row" },
      el("button", { type: "button", class: "copy", "data-copy-from": "testkey-token" }, "Copy"),
      revocable && gone, el("span", { class: "muted" }, "This key ", left)),
    state,
    el("details", null, el("summary", null, "Claims"),
      el("pre", { tabindex: "0" }, JSON.stringify(key.claims, null, 2))),
  );
  count();
  field.focus();
  field.select();
  return () => clearInterval(timer);
}

/**
 * Make the panel of `testkey.html` work.
 * @param {HTMLElement} panel
 */
function start(panel) {
  const form = /** @type {HTMLFormElement | null} */ (panel.querySelector("[data-testkey-form]"));
  const result = /** @type {HTMLElement | null} */ (panel.querySelector("[data-testkey-result]"));
  if (!form || !result) return;
  let stop = () => {};
  form.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const fields = new FormData(form);
    try {
      const key = await mint({
        api: panel.dataset.api ?? "",
        host: panel.dataset.host ?? "",
        scopes: fields.getAll("scope").map(String),
        key_type: String(fields.get("key_type")),
        seconds: 60 * Number(fields.get("minutes")),
      });
      stop();
      stop = show(result, key, "revocable" in panel.dataset);
      panel.dispatchEvent(new CustomEvent("testkey", { detail: key, bubbles: true }));
    } catch (error) {
      const message = error instanceof ApiError ? error.message : "The gateway does not answer.";
      fill(result, el("div", { class: "notice bad" }, el("p", null, message)));
    }
  });
}

for (const panel of all("[data-testkey]")) start(panel);
