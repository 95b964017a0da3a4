// @ts-check
// Round trips: how long until the same bytes come back. Last, median, 95th percentile, a small curve.

import { fill, svg } from "./dom.js";

const PENDING = 500;
const KEPT = 500;
const [WIDTH, HEIGHT] = [96, 24];

export class Trips {
  constructor() {
    /** @type {Map<string, number[]>} */
    this.pending = new Map();
    /** @type {number[]} */
    this.times = [];
  }

  /** @param {any} frame */
  take(frame) {
    if (frame.kind !== "text" && frame.kind !== "binary") return false;
    const key = `${frame.size} ${frame.text ?? frame.base64}`;
    const sent = this.pending.get(key);
    if (frame.way === "out") {
      if (this.pending.size >= PENDING) this.pending.delete(/** @type {string} */ (this.pending.keys().next().value));
      if (sent) sent.push(frame.at);
      else this.pending.set(key, [frame.at]);
      return false;
    }
    if (!sent) return false;
    this.times.push(frame.at - /** @type {number} */ (sent.shift()));
    if (!sent.length) this.pending.delete(key);
    if (this.times.length > KEPT) this.times.shift();
    return true;
  }

  /** @param {number} share */
  quantile(share) {
    const sorted = [...this.times].sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  }

  /** @param {HTMLElement} node */
  draw(node) {
    node.hidden = !this.times.length;
    if (!this.times.length) return;
    const [last, median, high] = [/** @type {number} */ (this.times.at(-1)), this.quantile(0.5), this.quantile(0.95)];
    const text = `round trip ${last.toFixed(1)} ms · median ${median.toFixed(1)} · p95 ${high.toFixed(1)}`;
    const shown = this.times.slice(-60);
    const most = Math.max(...shown, 0.1);
    const points = shown.map((each, at) => `${((at / Math.max(shown.length - 1, 1)) * WIDTH).toFixed(1)},${(HEIGHT - 2 - (each / most) * (HEIGHT - 4)).toFixed(1)}`);
    fill(node, text, svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, role: "img", "aria-label": `The last ${shown.length} round trips, at most ${most.toFixed(1)} ms` },
      svg("polyline", { points: points.join(" "), fill: "none", stroke: "currentColor", "stroke-width": 1.5 })));
  }
}
