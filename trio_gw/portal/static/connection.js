// @ts-check
// The banner of a lost connection: shown by `lost`, gone with `found`. It tries again by itself.

import { clock } from "./format.js";

const FIRST = 1000;
const LONGEST = 15000;
/** @type {Date | null} */
let since = null;
let wait = FIRST;

/** Tell the reader that the gateway does not answer. */
export function lost() {
  if (since) return;
  since = new Date();
  wait = FIRST;
  const banner = document.getElementById("connection");
  if (banner) {
    banner.textContent = `Not connected since ${clock(since)}. Trying again; nothing you typed is lost.`;
    banner.hidden = false;
  }
  document.body.classList.add("stale");
  setTimeout(retry, wait);
}

/** The gateway has answered. */
export function found() {
  if (!since) return;
  since = null;
  const banner = document.getElementById("connection");
  if (banner) banner.hidden = true;
  document.body.classList.remove("stale");
  document.dispatchEvent(new Event("portal:found"));
}

async function retry() {
  if (!since) return;
  try {
    await fetch("/portal/api/session", { headers: { "X-Trio-GW": "1" }, cache: "no-store" });
    found();
  } catch {
    wait = Math.min(wait * 2, LONGEST);
    setTimeout(retry, wait);
  }
}
