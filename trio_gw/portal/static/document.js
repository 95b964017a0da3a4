// @ts-check
// The document: colours by the CSS Custom Highlight API, without any mark-up, and finding.

const source = document.getElementById("source");
const TOKENS = {
  yaml: [
    ["comment", /(?:^|\s)#.*$/g],
    ["key", /^\s*(?:- )*(?:"[^"]*"|'[^']*'|[^\s#'"[\]{},:][^#:]*?)(?=\s*:(?:\s|$))|(?<=[{,]\s*)[\w$/.-]+(?=:\s)/g],
    ["ref", /(?<=\$ref['"]?:\s*)\S.*$/g],
    ["text", /(?<=[:\s[{,-])(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*')/g],
    ["number", /(?<=[:\s[,]\s*)(?:-?\d+(?:\.\d+)?|true|false|null|~)(?=\s*(?:[,\]}#]|$))/g],
  ],
  json: [
    ["key", /"(?:[^"\\]|\\.)*"(?=\s*:)/g],
    ["text", /"(?:[^"\\]|\\.)*"(?!\s*:)/g],
    ["number", /(?<=[:[,\s]|^)(?:-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null)(?=\s*[,\]}]|\s*$)/g],
  ],
};
const LONGEST = 1000; // characters of a line that is coloured

/** @returns {Text[]} the text of each line */
function lines() {
  const found = [];
  for (const code of source?.querySelectorAll("code") ?? []) {
    if (code.firstChild instanceof Text) found.push(code.firstChild);
  }
  return found;
}

/** @param {Text} node @param {number} start @param {number} end */
function range(node, start, end) {
  return new StaticRange({ startContainer: node, startOffset: start, endContainer: node, endOffset: end });
}

/** @param {string} name @param {AbstractRange[]} ranges */
function highlight(name, ranges) {
  const css = /** @type {any} */ (CSS);
  const kind = /** @type {any} */ (globalThis).Highlight;
  if (css.highlights && kind) css.highlights.set(`source-${name}`, new kind(...ranges));
}

/** Colour all lines, some at a time so that the page stays quick. @param {Text[]} texts */
function colour(texts) {
  const rules = TOKENS[/** @type {keyof typeof TOKENS} */ (source?.dataset.kind ?? "")];
  if (!rules) return;
  /** @type {Map<string, AbstractRange[]>} */
  const ranges = new Map(rules.map(([name]) => [String(name), []]));
  let at = 0;
  const some = () => {
    const until = performance.now() + 12;
    while (at < texts.length && performance.now() < until) mark(texts[at++]);
    if (at < texts.length) requestAnimationFrame(some);
    else for (const [name, list] of ranges) highlight(name, list);
  };
  /** @param {Text} node */
  const mark = (node) => {
    if (node.data.length > LONGEST) return;
    /** @type {[number, number][]} */
    const taken = [];
    for (const [name, pattern] of rules) {
      for (const found of node.data.matchAll(/** @type {RegExp} */ (pattern))) {
        const start = found.index + found[0].length - found[0].trimStart().length;
        const end = found.index + found[0].trimEnd().length;
        if (end <= start || taken.some(([a, b]) => start < b && a < end)) continue;
        taken.push([start, end]);
        ranges.get(String(name))?.push(range(node, start, end));
      }
    }
  };
  some();
}

/** Find as you type; Enter goes on, Shift+Enter back. @param {Text[]} texts */
function finding(texts) {
  const bar = /** @type {HTMLElement | null} */ (document.querySelector("[data-find]"));
  const field = /** @type {HTMLInputElement | null} */ (bar?.querySelector("input") ?? null);
  const output = bar?.querySelector("output");
  if (!bar || !field || !output) return;
  bar.hidden = false;
  /** @type {StaticRange[]} */
  let hits = [];
  let here = -1;
  const search = () => {
    const wanted = field.value.toLowerCase();
    hits = [];
    here = -1;
    for (const node of wanted ? texts : []) {
      const text = node.data.toLowerCase();
      for (let at = text.indexOf(wanted); at >= 0 && hits.length < 10000; at = text.indexOf(wanted, at + wanted.length)) {
        hits.push(range(node, at, at + wanted.length));
      }
    }
    highlight("hit", hits);
    step(1);
  };
  /** @param {number} by */
  const step = (by) => {
    output.textContent = field.value ? "none" : "";
    if (!hits.length) return highlight("here", []);
    here = (here + by + hits.length) % hits.length;
    output.textContent = `${here + 1} of ${hits.length}`;
    highlight("here", [hits[here]]);
    hits[here].startContainer.parentElement?.scrollIntoView({ block: "center" });
  };
  field.addEventListener("input", search);
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    step(event.shiftKey ? -1 : 1);
  });
  for (const button of bar.querySelectorAll("button")) {
    button.addEventListener("click", () => step(Number(button.dataset.step)));
  }
}

/** The choice to wrap lines is kept by this browser. */
function wrapping() {
  const wrap = /** @type {HTMLInputElement | null} */ (document.getElementById("wrap"));
  if (!wrap) return;
  try {
    wrap.checked = localStorage.getItem("wrap") !== "no";
    wrap.addEventListener("change", () => localStorage.setItem("wrap", wrap.checked ? "yes" : "no"));
  } catch {
    // Storage may be forbidden; the choice then holds for this page.
  }
}

const texts = lines();
colour(texts);
finding(texts);
wrapping();
