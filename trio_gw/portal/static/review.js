// @ts-check
// The review of a draft: what it means, what differs, and what others changed meanwhile.

import { el } from "./dom.js";
import { ticked } from "./problems.js";

/** Lines of a unified diff. @param {any} file */
function fileDiff(file) {
  const lines = file.lines.map((/** @type {string} */ line) => {
    const kind = line[0] === "+" ? "ins" : line[0] === "-" ? "del" : line[0] === "@" ? "at" : "";
    return el("span", { class: kind || null }, `${line}\n`);
  });
  const words = file.kind === "changed" ? "" : `, ${file.kind}`;
  return el("details", { class: "card flush", open: true },
    el("summary", { class: "diff-head" }, el("code", null, file.path), el("span", { class: "muted small" },
      ` ${file.added} ${file.added === 1 ? "line" : "lines"} added, ${file.removed} removed${words}`)),
    el("pre", { class: "diff", tabindex: "0", "aria-label": `Differences in ${file.path}` }, lines,
      file.cut && el("span", { class: "at" }, "The rest is too long to be shown here.\n")));
}

/** @param {any[]} files */
export const diffList = (files) =>
  files.length ? el("div", { class: "stack" }, files.map(fileDiff)) : el("p", { class: "muted" }, "The files are as they are deployed.");

/** What a change means. @param {any} checked */
export function meaningList(checked) {
  const counts = /** @type {Record<string, number>} */ (checked.connections ?? {});
  const total = Object.values(counts).reduce((sum, each) => sum + each, 0);
  const items = checked.meaning.map((/** @type {any} */ one) => {
    const open = one.topic ? counts[one.topic] ?? 0 : 0;
    const kept = open && one.kind !== "added" ? ` ${open} open ${open === 1 ? "connection keeps" : "connections keep"} what they have.` : "";
    return el("li", { class: one.grave ? "grave" : null },
      one.grave && el("span", { class: "badge bad" }, "look twice"),
      one.topic && el("code", null, one.topic), one.topic && " ", ticked(`${one.text}.${kept}`));
  });
  return el("div", { class: "stack tight" },
    items.length ? el("ul", { class: "meaning" }, items) : el("p", { class: "muted" }, "Nothing changes for clients."),
    el("p", { class: "small muted" }, total ? `${total} connections are open; they stay.` : "No connection is open."));
}

/** Routes as clients see them. @param {any[]} rows */
export function routeList(rows) {
  if (!rows.length) return el("p", { class: "muted" }, "None while there are errors.");
  return el("ul", { class: "will" }, rows.slice(0, 50).map((row) => el("li", null,
    el("code", null, row.path), " ",
    !row.secured && el("span", { class: "badge bad" }, "open"),
    row.scopes.map((/** @type {string} */ scope) => el("span", { class: "badge" }, scope)),
    el("span", { class: "small muted block" }, `to ${row.production[0] ?? row.sandbox[0] ?? "nowhere"}`))),
    rows.length > 50 && el("li", { class: "muted" }, `and ${rows.length - 50} more`));
}
