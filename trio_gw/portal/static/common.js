// @ts-check
// What every page has: themes, copy buttons, local times, keyboard, menus, the offline banner.

import { lost, found } from "./connection.js";
import { all, el, one } from "./dom.js";
import { localize } from "./format.js";

/** Colours: the system's, or a choice that this browser keeps. */
function themes() {
  const root = document.documentElement;
  const choices = all("[data-theme-choice]");
  const mark = () => {
    for (const choice of choices) {
      choice.setAttribute("aria-pressed", String(choice.dataset.themeChoice === (root.dataset.theme ?? "")));
    }
  };
  for (const choice of choices) {
    choice.addEventListener("click", () => {
      const theme = choice.dataset.themeChoice ?? "";
      if (theme) root.dataset.theme = theme;
      else delete root.dataset.theme;
      try {
        if (theme) localStorage.setItem("theme", theme);
        else localStorage.removeItem("theme");
      } catch {
        // Storage may be forbidden; the choice then holds for this page.
      }
      mark();
    });
  }
  for (const group of all("[data-themes]")) group.hidden = false;
  mark();
}

/** Copy buttons work wherever they are, also in parts made later. */
function copying() {
  for (const button of all(".copy")) button.hidden = false;
  document.addEventListener("click", async (event) => {
    const button = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest?.("[data-copy], [data-copy-from]"));
    if (!button) return;
    const from = button.dataset.copyFrom;
    const source = from ? document.getElementById(from) : null;
    const text = button.dataset.copy ?? /** @type {any} */ (source)?.value ?? source?.textContent ?? "";
    const before = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      say("Copied");
      button.textContent = "Copied";
      button.classList.add("done");
    } catch {
      button.textContent = "Not allowed";
    }
    setTimeout(() => {
      button.textContent = before;
      button.classList.remove("done");
    }, 1500);
  });
}

/**
 * Tell something to people who do not see the page.
 * @param {string} text
 */
export function say(text) {
  let region = document.getElementById("spoken");
  if (!region) {
    region = el("div", { id: "spoken", class: "hidden-text", "aria-live": "polite" });
    document.body.append(region);
  }
  region.textContent = "";
  requestAnimationFrame(() => (/** @type {HTMLElement} */ (region).textContent = text));
}

/** Whether keys belong to a text that is being written. @param {EventTarget | null} target */
const writes = (target) =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

/** `/` goes to the search field, `?` shows the shortcuts, Escape closes menus. */
function keyboard() {
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      for (const menu of all("details.menu[open]")) {
        menu.removeAttribute("open");
        one("summary", menu)?.focus();
      }
      if (event.target instanceof HTMLElement && event.target.matches("[data-search]")) event.target.blur();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || writes(event.target)) return;
    if (event.key === "/") {
      event.preventDefault();
      const search = one("[data-search]");
      if (search) search.focus();
      else location.assign("/portal/#search");
    } else if (event.key === "?") {
      event.preventDefault();
      help();
    }
  });
  for (const button of all("[data-help]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      button.closest("details")?.removeAttribute("open");
      help();
    });
  }
  for (const hint of all("[data-hint]")) hint.hidden = false;
  document.addEventListener("click", (event) => {
    for (const menu of all("details.menu[open]")) {
      if (!menu.contains(/** @type {Node} */ (event.target))) menu.removeAttribute("open");
    }
  });
}

/** The shortcuts of this page: its own ones are in elements with `data-key` and `data-key-help`. */
function help() {
  if (document.getElementById("help")) return;
  const keys = [["/", "Search APIs"], ["?", "This list"], ["Esc", "Close a menu or dialog"]];
  for (const node of all("[data-key][data-key-help]")) {
    keys.push([node.dataset.key ?? "", node.dataset.keyHelp ?? ""]);
  }
  const dialog = el("dialog", { id: "help", "aria-labelledby": "help-title" },
    el("div", null,
      el("h2", { id: "help-title" }, "Keyboard shortcuts"),
      el("dl", { class: "keys" }, keys.flatMap(([key, what]) => [el("dt", null, el("kbd", null, key)), el("dd", null, what)])),
      el("form", { method: "dialog", class: "dialog-end" }, el("button", { class: "button", autofocus: true }, "Close"))));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

themes();
copying();
keyboard();
localize();
if (location.hash === "#search") one("[data-search]")?.focus();
one("#login-error")?.focus();
addEventListener("offline", lost);
addEventListener("online", found);
