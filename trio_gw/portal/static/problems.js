// @ts-check
// Lists problems of a draft. Those with a place lead there.

import { el } from "./dom.js";

/** @typedef {{file: string, line: number, column: number, what: string, hint: string, severity: string}} Problem */

/**
 * Make a list of problems.
 * @param {Problem[]} problems
 * @param {((problem: Problem) => void) | null} [go] called with a problem that is chosen
 */
export function problemList(problems, go = null) {
  return el("ul", { class: "problems" }, problems.map((one) => {
    const place = one.line ? `${one.file}:${one.line}${one.column ? `:${one.column}` : ""}` : one.file;
    const shown = go && one.file
      ? el("button", { type: "button", class: "place link", on: { click: () => go(one) } }, place)
      : place && el("span", { class: "place" }, place);
    return el("li", { class: one.severity },
      shown,
      el("div", null, el("strong", null, one.severity === "error" ? "Error: " : "Warning: "), ticked(one.what)),
      one.hint && el("div", { class: "muted" }, ticked(one.hint)));
  }));
}

/** A text with the parts between backticks as code. @param {string} text */
export const ticked = (text) => text.split("`").map((part, index) => (index % 2 ? el("code", null, part) : part));

/** Whether one of the problems is an error. @param {Problem[]} problems */
export const hasErrors = (problems) => problems.some((one) => one.severity === "error");
