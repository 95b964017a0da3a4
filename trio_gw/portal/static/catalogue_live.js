// @ts-check
// Connections and messages of the listed APIs, as they are now.

import { all, one } from "./dom.js";
import { number, rate } from "./format.js";
import { live } from "./live.js";

const FEW = 2000;

live("stats", (data) => {
  for (const row of all("#rows [data-api]")) {
    const told = data.apis[row.dataset.api ?? ""];
    // Only the busiest APIs are told. Of a short list, the others have neither connections nor traffic.
    if (!told && Object.keys(data.apis).length >= FEW) continue;
    const [open, messages] = told ?? [0, 0];
    const [openCell, rateCell] = [one("[data-open]", row), one("[data-rate]", row)];
    if (openCell) openCell.textContent = number(open);
    if (rateCell) rateCell.textContent = messages ? rate(messages) : "–";
  }
});
