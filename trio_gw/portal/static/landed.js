// @ts-check
// Carries what a deployment did to the page that is shown after it.

import { el, fill } from "./dom.js";

const KEY = "landed";

/**
 * Remember what happened, for the page of the API.
 * @param {{id: string, text: string, topic: string, host: string, problems: any[]}} what
 */
export function remember(what) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(what));
  } catch {
    // Then the page of the API says nothing of it.
  }
}

/** The address of a page of an API. @param {string} id @param {string} [page] @param {string} [host] */
export const apiAddress = (id, page = "", host = "") =>
  `/portal/apis/${encodeURIComponent(id)}${page && `/${page}`}${host && `?host=${encodeURIComponent(host)}`}`;

/** Show it once, where the page has a place for it. */
function show() {
  const bar = document.getElementById("landed");
  if (!bar) return;
  let what = null;
  try {
    what = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
    sessionStorage.removeItem(KEY);
  } catch {
    return;
  }
  if (!what || what.id !== bar.dataset.api) return;
  const canTry = bar.dataset.try === "1";
  const query = what.topic ? `?topic=${encodeURIComponent(what.topic)}` : "";
  fill(bar, el("div", { class: "row" },
    el("strong", null, what.text),
    canTry && el("a", { class: "button small primary end", href: apiAddress(what.id, "try") + query }, "Try it")));
  bar.hidden = false;
}

show();
