// @ts-check
// Finds settings by key or value.

import { all, byId } from "./dom.js";

const match = /** @type {HTMLInputElement} */ (byId("match"));
const changed = /** @type {HTMLInputElement} */ (byId("changed"));

function show() {
  const wanted = match.value.toLowerCase();
  for (const row of all("#settings tr")) {
    row.hidden = (changed.checked && row.dataset.changed === undefined) || !(row.textContent ?? "").toLowerCase().includes(wanted);
  }
}

byId("filter").hidden = false;
match.addEventListener("input", show);
changed.addEventListener("change", show);
