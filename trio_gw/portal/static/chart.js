// @ts-check
// Line charts of our own in SVG: gaps, axes, a cursor for pointer and keyboard, a text and a table.

import { el, fill, svg } from "./dom.js";
import { clock } from "./format.js";

/** @typedef {{name: string, key: string}} Line */
/** @typedef {{step: number, last: number, columns: Record<string, (number | null)[]>}} Series */

const HEIGHT = 132;
const EDGE = { top: 8, right: 8, bottom: 20, left: 52 };
const ROWS = 60; // of the table

export class Chart {
  /**
   * @param {HTMLElement} host
   * @param {{title: string, lines: Line[], format: (value: number) => string, least?: number, binary?: boolean}} options
   *   `least` is the smallest upper end of the axis; with `binary` its values are round in KiB.
   */
  constructor(host, options) {
    this.options = options;
    /** @type {Series} */
    this.series = { step: 1, last: 0, columns: {} };
    this.count = 0;
    /** @type {number | null} */
    this.at = null;
    this.plot = svg("svg", { class: "plot", height: HEIGHT, "aria-hidden": "true" });
    this.tip = el("div", { class: "tip", hidden: true });
    this.text = el("p", { class: "hidden-text" });
    this.spoken = el("p", { class: "hidden-text", "aria-live": "polite" });
    this.area = el("div", {
      class: "area", tabindex: "0", role: "group", "aria-roledescription": "chart", "aria-label": options.title,
    }, this.plot, this.tip, this.text, this.spoken);
    this.table = el("div", { class: "values", hidden: true, tabindex: "0", role: "region", "aria-label": `${options.title}, values` });
    const toggle = el("button", { type: "button", class: "button quiet small", "aria-expanded": "false" }, "Table");
    toggle.addEventListener("click", () => {
      this.table.hidden = !this.table.hidden;
      toggle.setAttribute("aria-expanded", String(!this.table.hidden));
      this.list();
    });
    this.now = options.lines.map(() => el("b", null, "–"));
    const several = options.lines.length > 1;
    const legend = el("p", { class: "legend" }, options.lines.map((line, place) =>
      el("span", { class: several ? `key line-${place}` : null }, several ? `${line.name} ` : null, this.now[place])));
    fill(host, el("header", null, el("h3", null, options.title), el("span", { class: "end" }, toggle)), legend, this.area, this.table);
    this.area.addEventListener("pointermove", (event) => this.point(this.nearest(event.clientX)));
    this.area.addEventListener("pointerleave", () => this.point(null));
    this.area.addEventListener("blur", () => this.point(null));
    this.area.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.area);
  }

  /** Show other numbers. @param {Series} series */
  set(series) {
    this.series = series;
    this.count = Math.max(...this.options.lines.map(({ key }) => series.columns[key]?.length ?? 0));
    this.draw();
  }

  /** @returns {(number | null)[][]} */
  get values() {
    return this.options.lines.map(({ key }) => this.series.columns[key] ?? []);
  }

  draw() {
    const width = this.area.clientWidth;
    if (!width || !this.count) return;
    const { top, right, bottom, left } = EDGE;
    const known = this.values.flat().filter((value) => value !== null);
    const most = nice(Math.max(this.options.least ?? 0, ...known), this.options.binary ? 1024 : 1000);
    /** @param {number} place */
    this.x = (place) => left + (place / Math.max(1, this.count - 1)) * (width - left - right);
    /** @param {number} value */
    this.y = (value) => HEIGHT - bottom - (value / most) * (HEIGHT - top - bottom);
    this.plot.setAttribute("width", String(width));
    const marks = [0, most / 2, most].map((value) => [
      svg("line", { class: "rule", x1: left, x2: width - right, y1: this.y(value), y2: this.y(value) }),
      svg("text", { class: "tick-y", x: left - 6, y: this.y(value) + 4 }, this.options.format(value)),
    ]);
    const hours = width < 420 ? [0, 1] : [0, 0.5, 1];
    const times = hours.map((part) => svg("text", {
      class: `tick-x ${part === 0 ? "first" : part === 1 ? "last" : ""}`, x: this.x(part * (this.count - 1)), y: HEIGHT - 4,
    }, this.time(Math.round(part * (this.count - 1)), true)));
    const paths = this.values.map((column, place) => {
      const runs = runsOf(column);
      const path = runs.map((run) => `M${run.map(([at, value]) => `${this.x(at).toFixed(1)} ${this.y(value).toFixed(1)}`).join("L")}`);
      const fills = runs.map((run, index) => `${path[index]}L${this.x(run[run.length - 1][0]).toFixed(1)} ${this.y(0)}L${this.x(run[0][0]).toFixed(1)} ${this.y(0)}Z`);
      return [svg("path", { class: `fill line-${place}`, d: fills.join("") }), svg("path", { class: `stroke line-${place}`, d: path.join("") })];
    });
    this.cursor = svg("g", { class: "cursor" });
    fill(this.plot, ...marks.flat(), ...times, ...paths.flat(), this.cursor);
    this.describe(known);
    if (this.at !== null) this.point(Math.min(this.at, this.count - 1));
  }

  /** @param {number[]} known */
  describe(known) {
    const last = this.values.map((column) => column.findLast((value) => value !== null) ?? null);
    this.now.forEach((node, place) => {
      const value = last[place];
      node.textContent = value === null ? "–" : this.options.format(value);
    });
    const parts = this.options.lines.map(({ name }, place) => {
      const column = this.values[place].filter((value) => value !== null);
      if (!column.length) return `${name}: nothing measured`;
      return `${name}: last ${this.options.format(column[column.length - 1])}, least ${this.options.format(Math.min(...column))}, most ${this.options.format(Math.max(...column))}`;
    });
    this.text.textContent = known.length ? `${this.time(0)} to ${this.time(this.count - 1)}. ${parts.join(". ")}. Arrow keys read single values.` : "Nothing measured yet.";
    if (!this.table.hidden && !this.table.matches(":focus, :hover")) this.list();
  }

  /** @param {number} place @param {boolean} [short] */
  time(place, short = false) {
    const when = new Date((this.series.last - this.count + 1 + place) * this.series.step * 1000);
    if (!short || this.series.step === 1) return clock(when);
    return when.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
  }

  /** @param {number} clientX */
  nearest(clientX) {
    const { left: from, width } = this.area.getBoundingClientRect();
    const part = (clientX - from - EDGE.left) / (width - EDGE.left - EDGE.right);
    return Math.max(0, Math.min(this.count - 1, Math.round(part * (this.count - 1))));
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const far = event.shiftKey ? 10 : 1;
    const from = this.at ?? this.count;
    /** @type {Record<string, number | null>} */
    const moves = { ArrowLeft: from - far, ArrowRight: from + far, Home: 0, End: this.count - 1, Escape: null };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const to = moves[event.key];
    this.point(to === null ? null : Math.max(0, Math.min(this.count - 1, to)));
    this.spoken.textContent = this.at === null ? "" : this.said(this.at);
  }

  /** @param {number} at */
  said(at) {
    const parts = this.options.lines.map(({ name }, place) => `${name} ${this.shown(place, at)}`);
    return `${this.time(at)}: ${parts.join(", ")}`;
  }

  /** @param {number} place @param {number} at */
  shown(place, at) {
    const value = this.values[place][at];
    return value === null || value === undefined ? "not measured" : this.options.format(value);
  }

  /** Show the values at one place; null: none. @param {number | null} at */
  point(at) {
    this.at = this.count ? at : null;
    this.tip.hidden = this.at === null;
    if (this.at === null || !this.cursor || !this.x || !this.y) return this.cursor?.replaceChildren();
    const place = this.at;
    const x = this.x(place);
    const dots = this.values.map((column, line) => {
      const value = column[place];
      return value === null || value === undefined ? null : svg("circle", { class: `dot line-${line}`, r: 3.5, cx: x, cy: this.y?.(value) });
    });
    fill(this.cursor, svg("line", { x1: x, x2: x, y1: EDGE.top, y2: HEIGHT - EDGE.bottom }), ...dots);
    fill(this.tip, el("span", { class: "muted" }, this.time(place)),
      this.options.lines.map(({ name }, line) => el("span", { class: `key line-${line}` }, `${name} `, el("b", null, this.shown(line, place)))));
    const room = this.area.clientWidth - this.tip.offsetWidth;
    this.tip.style.left = `${Math.max(0, Math.min(room, x + 12 > room ? x - this.tip.offsetWidth - 12 : x + 12))}px`;
  }

  /** Write the values as a table: at most `ROWS`, the last first. */
  list() {
    if (this.table.hidden) return;
    const every = Math.max(1, Math.ceil(this.count / ROWS));
    const rows = [];
    for (let at = this.count - 1; at >= 0; at -= every) {
      rows.push(el("tr", null, el("th", { scope: "row" }, this.time(at)), this.options.lines.map((_, line) => el("td", { class: "number" }, this.shown(line, at)))));
    }
    fill(this.table, el("table", null,
      el("thead", null, el("tr", null, el("th", { scope: "col" }, "Time"), this.options.lines.map(({ name }) => el("th", { scope: "col", class: "number" }, name)))),
      el("tbody", null, rows)));
  }
}

/** A round number that is not below, in units of powers of `base`. @param {number} value @param {number} base */
function nice(value, base) {
  if (!(value > 0)) return 1;
  const unit = base ** Math.floor(Math.log(value) / Math.log(base));
  const power = 10 ** Math.floor(Math.log10(value / unit));
  return ([1, 2, 4, 5, 6, 8, 10].find((step) => step * power * unit >= value) ?? 10) * power * unit;
}

/** Parts without gaps. @param {(number | null)[]} column @returns {[number, number][][]} */
function runsOf(column) {
  /** @type {[number, number][][]} */
  const runs = [[]];
  column.forEach((value, at) => {
    if (value !== null) runs[runs.length - 1].push([at, value]);
    else if (runs[runs.length - 1].length) runs.push([]);
  });
  return runs.filter((run) => run.length);
}
