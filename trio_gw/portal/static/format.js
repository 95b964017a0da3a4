// @ts-check
// Numbers and times as the reader's language writes them.

const WHOLE = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 3 });
const DATE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const AGO = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const STEPS = /** @type {[Intl.RelativeTimeFormatUnit, number][]} */ ([
  ["second", 60], ["minute", 60], ["hour", 24], ["day", 30], ["month", 12], ["year", Infinity],
]);

/** A whole number, such as 12,034. @param {number} value */
export const number = (value) => WHOLE.format(value);

/** A rate with three digits, such as 0.25 or 1,230. @param {number} value */
export const rate = (value) => SHORT.format(value);

/** Bytes in binary units. @param {number} value */
export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let place = 0;
  while (value >= 1024 && place < units.length - 1) {
    value /= 1024;
    place += 1;
  }
  return `${SHORT.format(value)} ${units[place]}`;
}

/** A duration of seconds, in its two largest units. @param {number} seconds */
export function duration(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  const parts = /** @type {[number, string][]} */ ([[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]);
  const from = parts.findIndex(([size]) => seconds >= size);
  const [[size, unit], next] = [parts[from], parts[from + 1]];
  const rest = next ? Math.floor((seconds % size) / next[0]) : 0;
  return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${next[1]}` : ""}`;
}

/** Date and time here. @param {Date} when */
export const date = (when) => DATE.format(when);

/** The time of the day here. @param {Date} when */
export const clock = (when) => CLOCK.format(when);

/** How long ago, in words. @param {Date} when */
export function ago(when) {
  let amount = (when.getTime() - Date.now()) / 1000;
  for (const [unit, size] of STEPS) {
    if (Math.abs(amount) < size) return AGO.format(Math.round(amount), unit);
    amount /= size;
  }
  return date(when);
}

/**
 * Write the times and numbers of a part of the page in local form; UTC is shown on hover.
 * @param {ParentNode} [within]
 */
export function localize(within = document) {
  for (const node of within.querySelectorAll("time[datetime]")) {
    const written = node.getAttribute("datetime") ?? "";
    const when = new Date(written);
    if (Number.isNaN(when.getTime())) continue;
    const how = node.getAttribute("data-how");
    node.textContent = how === "ago" ? ago(when) : how === "time" ? clock(when) : date(when);
    node.setAttribute("title", how === "ago" ? `${date(when)} (${written})` : written);
  }
  for (const node of within.querySelectorAll("[data-number]")) {
    node.textContent = number(Number(node.getAttribute("data-number")));
  }
}
