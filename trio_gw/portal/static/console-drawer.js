// @ts-check
// The console beside a topic, in a drawer. With a modifier key the link opens its page, as links do.

import { el, one } from "./dom.js";

const link = /** @type {HTMLAnchorElement | null} */ (one("[data-try]"));
link?.addEventListener("click", async (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const { openConsole } = await import("./console.js");
  const box = el("div", { class: "consoles", data: { ...link.dataset } });
  const close = el("button", { type: "button", class: "button small" }, "Close");
  const drawer = el("dialog", { class: "drawer console-drawer", "aria-label": `Try ${link.dataset.topic}` },
    el("div", { class: "row drawer-head" }, el("h2", null, "Try"), el("a", { class: "button small end", href: link.href }, "Open as a page"), close), box);
  document.body.append(drawer);
  drawer.showModal();
  close.addEventListener("click", () => drawer.close());
  const leave = openConsole(box, null);
  drawer.addEventListener("close", async () => {
    drawer.remove();
    (await leave)();
    link.focus();
  });
});
