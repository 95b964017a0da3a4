// @ts-check
// Keys of an application. A secret is shown once, in this page only, and kept nowhere.

import { ApiError, request } from "./api.js";
import { all, byId, el, fill } from "./dom.js";

const panel = byId("key-panel");
const shown = byId("key-shown");
const fault = byId("key-fault");
const base = `/applications/${encodeURIComponent(panel.dataset.uuid ?? "")}`;
const scopes = panel.dataset.scopes ?? "";

/** @param {string} text */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/**
 * Write the command that fetches a token.
 * @param {string} credentials
 */
function curl(credentials, url = panel.dataset.url ?? "") {
  const scope = scopes ? ` -d ${quoted(`scope=${scopes}`)}` : "";
  return `curl -u ${credentials} -d grant_type=client_credentials${scope} ${url}`;
}

/**
 * @param {string} label
 * @param {string} text
 */
function row(label, text) {
  const copy = el("button", { type: "button", class: "copy", data: { copy: text } }, "Copy");
  return [el("dt", null, label), el("dd", null, el("span", { class: "url" }, el("code", null, text), copy))];
}

/** @param {unknown} error */
function refuse(error) {
  fault.hidden = false;
  fill(fault, error instanceof ApiError ? error.message : "The gateway does not answer.");
}

/** @param {{consumer_key: string, consumer_secret: string, key_type: string, token_url: string}} made */
function show(made) {
  const command = curl(quoted(`${made.consumer_key}:${made.consumer_secret}`), made.token_url);
  for (const form of all("form[data-key]", panel)) form.hidden = true; // until it is copied
  shown.hidden = false;
  fill(
    shown,
    el("h3", null, `Secret of the ${made.key_type.toLowerCase()} key`),
    el("p", null, el("strong", null, "Copy it now: it is not shown again.")),
    el("dl", { class: "facts" }, row("Consumer key", made.consumer_key), row("Consumer secret", made.consumer_secret)),
    el("p", { class: "small muted" }, "This fetches a token:"),
    el("div", { class: "url" }, el("code", null, command), el("button", { type: "button", class: "copy", data: { copy: command } }, "Copy")),
    el("p", null, el("a", { class: "button small", href: location.pathname }, "I have copied it")),
  );
  shown.focus();
}

/**
 * @param {HTMLFormElement} form
 * @param {() => Promise<void>} act
 */
async function busy(form, act) {
  const buttons = /** @type {HTMLButtonElement[]} */ (all("button", form));
  fault.hidden = true;
  for (const button of buttons) button.disabled = true;
  try {
    await act();
  } catch (error) {
    refuse(error);
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

/**
 * Ask in the button itself: the second press within some seconds acts.
 * @param {HTMLButtonElement} button
 */
function sure(button) {
  if (button.dataset.sure) return true;
  const before = button.textContent;
  button.dataset.sure = "1";
  button.textContent = "Press again";
  setTimeout(() => {
    delete button.dataset.sure;
    button.textContent = before;
  }, 4000);
  return false;
}

for (const node of all("form[data-key]", panel)) {
  const form = /** @type {HTMLFormElement} */ (node);
  const kind = form.dataset.key ?? "";
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const button = /** @type {HTMLButtonElement} */ (/** @type {SubmitEvent} */ (event).submitter);
    if (form.dataset.name && button && !sure(button)) return;
    const given = new FormData(form);
    const body = { validity: Number(given.get("validity")), keep_tokens: given.has("keep") };
    busy(form, async () => show(await request("POST", `${base}/keys/${kind}`, body)));
  });
  for (const one of all("button[data-do]", form)) {
    const button = /** @type {HTMLButtonElement} */ (one);
    button.addEventListener("click", () => {
      if (!sure(button)) return;
      busy(form, async () => {
        if (button.dataset.do === "remove") await request("DELETE", `${base}/keys/${kind}`);
        else await request("POST", "/revocations", { consumer_key: form.dataset.name });
        location.reload();
      });
    });
  }
}

for (const code of all("code[data-curl]")) {
  code.textContent = curl(`"${code.dataset.curl}:$CONSUMER_SECRET"`);
}

/**
 * Return the id of a token, or the text itself if it is no token.
 * @param {string} text
 */
function idOf(text) {
  const part = text.trim().split(".")[1];
  if (!part) return text.trim();
  try {
    return String(JSON.parse(atob(part.replaceAll("-", "+").replaceAll("_", "/"))).jti ?? "");
  } catch {
    return "";
  }
}

const revoking = /** @type {HTMLFormElement | null} */ (document.getElementById("revoke-form"));
revoking?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = /** @type {HTMLInputElement} */ (byId("revoke-token"));
  const said = byId("revoke-said");
  const jti = idOf(field.value);
  try {
    if (!jti) throw new ApiError(422, { message: "This token has no id." }, new Headers());
    await request("POST", "/revocations", { jti });
    field.value = "";
    fill(said, "Revoked.");
  } catch (error) {
    fill(said, error instanceof ApiError ? error.message : "The gateway does not answer.");
  }
});
