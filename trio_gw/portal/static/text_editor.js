// @ts-check
// A text area with line numbers and marks. Tab indents, Escape and then Tab leaves.

import { el, fill } from "./dom.js";

const MOST_MARKS = 200;

export class TextEditor {
  /**
   * @param {HTMLElement} box holds the gutter and the text area
   * @param {() => void} changed called after each change by the user
   */
  constructor(box, changed) {
    this.area = /** @type {HTMLTextAreaElement} */ (box.querySelector("textarea"));
    this.gutter = /** @type {HTMLElement} */ (box.querySelector(".gutter"));
    this.numbers = el("pre", null);
    this.marks = el("div", { class: "marks" });
    this.gutter.append(this.numbers, this.marks);
    this.leaves = false;
    this.area.addEventListener("input", () => {
      this.number();
      changed();
    });
    this.area.addEventListener("scroll", () => this.follow());
    this.area.addEventListener("keydown", (event) => this.key(event));
    this.area.addEventListener("blur", () => (this.leaves = false));
  }

  get text() {
    return this.area.value;
  }

  /** Show another text; the place is kept if it is the same file. @param {string} text @param {boolean} keep */
  show(text, keep = false) {
    if (this.area.value === text) return;
    const { selectionStart, selectionEnd, scrollTop } = this.area;
    this.area.value = text;
    if (keep) this.area.setSelectionRange(selectionStart, selectionEnd);
    else this.area.setSelectionRange(0, 0);
    this.area.scrollTop = keep ? scrollTop : 0;
    this.number();
  }

  number() {
    const lines = this.area.value.split("\n").length;
    if (this.count !== lines) {
      this.count = lines;
      this.numbers.textContent = Array.from({ length: lines }, (_, index) => index + 1).join("\n");
    }
    this.follow();
  }

  follow() {
    this.numbers.style.transform = `translateY(${-this.area.scrollTop}px)`;
    this.marks.style.transform = `translateY(${-this.area.scrollTop}px)`;
  }

  height() {
    return parseFloat(getComputedStyle(this.area).lineHeight);
  }

  /** Mark lines. @param {{line: number, severity: string, what: string}[]} problems */
  mark(problems) {
    const height = this.height();
    fill(this.marks, problems.filter((one) => one.line).slice(0, MOST_MARKS).map((one) => {
      const mark = el("span", { class: `mark ${one.severity}`, title: one.what });
      mark.style.top = `${(one.line - 1) * height}px`;
      return mark;
    }));
  }

  /** Go to a place and select the rest of its line. @param {number} line @param {number} column */
  go(line, column) {
    const lines = this.area.value.split("\n");
    const at = Math.min(Math.max(line, 1), lines.length) - 1;
    const start = lines.slice(0, at).reduce((sum, each) => sum + each.length + 1, 0);
    const from = start + Math.min(Math.max(column - 1, 0), lines[at].length);
    this.area.focus();
    this.area.setSelectionRange(from, start + lines[at].length);
    this.area.scrollTop = Math.max(at - 4, 0) * this.height();
    this.area.scrollLeft = 0;
    this.follow();
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.key === "Escape") {
      this.leaves = true;
      event.stopPropagation();
    } else if (event.key === "Tab" && !this.leaves && !event.ctrlKey && !event.altKey && !event.metaKey) {
      event.preventDefault();
      this.indent(event.shiftKey);
    } else if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      const before = this.area.value.slice(0, this.area.selectionStart);
      const line = before.slice(before.lastIndexOf("\n") + 1);
      const deeper = /:\s*$/.test(line) ? "  " : "";
      this.insert(`\n${/^ */.exec(line)?.[0] ?? ""}${deeper}`);
    } else if (event.key !== "Shift" && event.key !== "Tab") this.leaves = false;
  }

  /** Indent the selected lines, or back. @param {boolean} back */
  indent(back) {
    const { selectionStart: from, selectionEnd: to, value } = this.area;
    if (from === to && !back) {
      this.insert("  ");
      return;
    }
    const start = value.lastIndexOf("\n", from - 1) + 1;
    const lines = value.slice(start, to).split("\n");
    const changed = lines.map((line) => (back ? line.replace(/^ {1,2}/, "") : line && `  ${line}`)).join("\n");
    this.area.setSelectionRange(start, to);
    this.insert(changed);
    this.area.setSelectionRange(from === to ? this.area.selectionEnd : start, start + changed.length);
  }

  /** Type a text: the browser's own undo keeps working. @param {string} text */
  insert(text) {
    const done = text ? document.execCommand("insertText", false, text) : document.execCommand("delete");
    if (!done) {
      this.area.setRangeText(text, this.area.selectionStart, this.area.selectionEnd, "end");
      this.area.dispatchEvent(new Event("input"));
    }
  }
}
