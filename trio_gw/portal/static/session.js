// @ts-check
// Log in again in a dialog when the session is over. The page and its forms stay as they are.

import { el } from "./dom.js";

/** @type {Promise<boolean> | null} */
let open = null;

/**
 * Ask for the password. Answers whether there is a session again; all callers share one dialog.
 * @returns {Promise<boolean>}
 */
export function logIn() {
  open ??= ask().finally(() => (open = null));
  return open;
}

/** @returns {Promise<boolean>} */
function ask() {
  return new Promise((resolve) => {
    const user = el("input", { id: "again-user", autocomplete: "username", required: true, value: document.body.dataset.user ?? "" });
    const password = el("input", { id: "again-password", type: "password", autocomplete: "current-password", required: true, autofocus: true });
    const error = el("p", { class: "bad", role: "alert", id: "again-error" });
    const send = el("button", { class: "button primary" }, "Log in");
    const form = el("form", { method: "dialog" },
      el("h2", { id: "again-title" }, "Your session is over"),
      el("p", { class: "muted" }, "Log in again to go on. Nothing you typed is lost."),
      el("div", { class: "field" }, el("label", { for: "again-user" }, "User"), user),
      el("div", { class: "field" }, el("label", { for: "again-password" }, "Password"), password),
      error,
      el("div", { class: "dialog-end" },
        el("button", { class: "button", type: "button", on: { click: () => dialog.close() } }, "Not now"), send));
    const dialog = el("dialog", { "aria-labelledby": "again-title" }, form);
    let done = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      send.disabled = true;
      error.textContent = "";
      const body = new URLSearchParams({ user: user.value, password: password.value });
      try {
        const response = await fetch("/portal/login", { method: "POST", body, headers: { Accept: "application/json" } });
        done = response.ok;
        if (done) return dialog.close();
        const fault = await response.json().catch(() => null);
        error.textContent = fault?.message ?? "The gateway refused that.";
      } catch {
        error.textContent = "The gateway does not answer.";
      } finally {
        send.disabled = false;
      }
      password.select();
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(done);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
