// @ts-check
// Explains a refusal: asks the gateway, and shows each check with what to do.

import { ApiError, request } from "./api.js";
import { all, el, fill } from "./dom.js";

/** @typedef {{step: string, ok: boolean | null, what: string, advice: string, code: string}} Step */

/**
 * Explain a handshake.
 * @param {{host: string, path: string, token?: string, api_key?: string, protocols?: string[],
 *   headers?: [string, string][], tls?: boolean}} asked
 * @returns {Promise<{status: number, steps: Step[]}>}
 */
export const explain = (asked) => request("POST", "/explain", asked);

/**
 * Show the steps of an explanation.
 * @param {HTMLElement} place
 * @param {{status: number, steps: Step[]}} found
 */
export function show(place, found) {
  const sentence = found.status === 101
    ? "The gateway would let this in."
    : `The gateway refuses this with ${found.status}.`;
  fill(
    place,
    el("p", null, el("strong", null, sentence)),
    el("ol", { class: "problems" }, found.steps.map((step) =>
      el("li", { class: step.ok === false ? "error" : step.ok ? "passed" : "" },
        el("p", null, badge(step.ok), " ", el("strong", null, step.step)),
        el("p", { dir: "auto" }, step.what),
        step.advice && el("p", null, step.advice)))),
  );
}

/** @param {boolean | null} ok */
function badge(ok) {
  if (ok === null) return el("span", { class: "badge" }, "– not checked");
  return ok ? el("span", { class: "badge good" }, "✓ passes") : el("span", { class: "badge bad" }, "✗ fails");
}

/** @param {HTMLElement} panel */
function start(panel) {
  const form = /** @type {HTMLFormElement} */ (panel.querySelector("[data-explain-form]"));
  const result = /** @type {HTMLElement} */ (panel.querySelector("[data-explain-result]"));
  // A key that the page has just made is explained next.
  document.addEventListener("testkey", (event) => {
    const field = /** @type {HTMLTextAreaElement} */ (form.elements.namedItem("token"));
    field.value = /** @type {CustomEvent} */ (event).detail.token;
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const fields = new FormData(form);
    const text = (/** @type {string} */ name) => String(fields.get(name) ?? "").trim();
    try {
      show(result, await explain({ host: text("host"), path: text("path"), token: text("token") }));
    } catch (error) {
      const message = error instanceof ApiError ? error.message : "The gateway does not answer.";
      fill(result, el("div", { class: "notice bad" }, el("p", null, message)));
    }
  });
}

for (const panel of all("[data-explain]")) start(panel);
