// @ts-check
// The form of a draft: general, topics, endpoints, security, limits, CORS, deployment.

import { ApiError, request } from "./api.js";
import { el, fill } from "./dom.js";
import { lines, off, part, quietly, select, text, tick, words } from "./form_fields.js";
import { topicPart } from "./topic_form.js";

/** Names of topics that are shown in full. @type {Set<string>} */
const opened = new Set();

/** @param {any} api @param {(operation: any) => void} change */
function general(api, change) {
  const set = (/** @type {any} */ values) => change({ op: "general", ...values });
  return part("General",
    text("Name", api.name, (name) => set({ name }), { name: "name" }),
    el("div", { class: "pair" },
      text("Path", api.context, (context) => set({ context }), { mono: true, name: "context" }),
      text("Version", api.version, (version) => set({ version }), { name: "version" })),
    tick("Default version: clients may leave the version out", api.default_version, (on) => set({ default_version: on }), "default"),
    words("Tags", api.tags, (tags) => set({ tags }), { name: "tags" }));
}

/** @param {string} side @param {any} given @param {(operation: any) => void} change @param {any} draft */
function backends(side, given, change, draft) {
  const title = side === "production" ? "Production" : "Sandbox";
  const whole = (/** @type {string} */ value) => (value.trim() ? Math.max(0, Math.trunc(Number(value)) || 0) : null);
  const results = el("div", { role: "status" });
  const probe = async (/** @type {string} */ endpoint) => {
    fill(results, el("p", { class: "muted" }, `Asking ${endpoint} …`));
    try {
      const found = await request("POST", "/probe", { files: draft.files, endpoint, api: draft.api, host: draft.host });
      const times = [found.tcp_ms !== null && `TCP ${found.tcp_ms} ms`, found.tls && `${found.tls} ${found.tls_ms} ms`,
        found.status && `answer ${found.status} in ${found.upgrade_ms} ms`].filter(Boolean).join(" · ");
      fill(results, el("div", { class: `notice ${found.good ? "good" : "bad"}` },
        el("p", null, el("strong", null, found.what)), !found.good && found.hint && el("p", null, found.hint), el("p", { class: "small muted" }, times)));
    } catch (error) {
      fill(results, el("div", { class: "notice bad" }, el("p", null, error instanceof ApiError ? error.message : "no answer")));
    }
  };
  const urls = [...given.urls, ...given.failovers].filter(Boolean);
  return el("details", { class: "sub-card", open: side === "production" || given.urls.length > 0 },
    el("summary", null, title),
    el("div", { class: "form" },
      lines("Backends, one on a line", given.urls, (value) => change({ op: "endpoints", side, urls: value }), { hint: "Several take turns", name: `urls:${side}` }),
      lines("Called while the first is down", given.failovers, (value) => change({ op: "endpoints", side, failovers: value }), { name: `failovers:${side}` }),
      given.urls.length > 0 && el("div", { class: "pair" },
        text("Timeout in ms", given.timeout === null ? "" : String(given.timeout), (value) => change({ op: "calling", side, timeout: whole(value) }), { type: "number", name: `timeout:${side}` }),
        text("Retries", given.retries === null ? "" : String(given.retries), (value) => change({ op: "calling", side, retries: whole(value) }), { type: "number", name: `retries:${side}` })),
      credential(side, given, change),
      urls.some((url) => url.startsWith("wss:")) && certificate(urls.filter((url) => url.startsWith("wss:")), change),
      el("div", { class: "probe" }, urls.slice(0, 8).map((url) => el("button", { type: "button", class: "button small", on: { click: () => probe(url) } }, `Probe ${url}`))),
      results));
}

/** User and password go together, so they have a button of their own. @param {string} side @param {any} given @param {(operation: any) => void} change */
function credential(side, given, change) {
  const user = text("User sent to the backend", given.username, () => {}, { name: `user:${side}` });
  const word = text(given.has_password ? "Password (kept; type a new one to change it)" : "Password", "", () => {}, { type: "password", name: `password:${side}` });
  const value = (/** @type {HTMLElement} */ field) => /** @type {HTMLInputElement} */ (field.querySelector("input")).value;
  return el("div", { class: "stack tight" }, el("div", { class: "pair" }, user, word),
    el("div", null, el("button", { type: "button", class: "button small", on: { click: () => change({ op: "credential", side, username: value(user), password: value(word) }) } }, "Set credential")));
}

/** @param {string[]} urls @param {(operation: any) => void} change */
function certificate(urls, change) {
  const take = async (/** @type {Event} */ event) => {
    const file = /** @type {HTMLInputElement} */ (event.target).files?.[0];
    if (file && file.size < 1 << 20) change({ op: "certificate", endpoint: urls[0], name: file.name, pem: await file.text() });
  };
  return el("div", { class: "field" }, el("label", { for: "f-ca" }, `CA certificate for ${urls[0]}`),
    el("input", { id: "f-ca", type: "file", accept: ".pem,.crt", on: { change: take } }));
}

/** @param {any} form @param {(operation: any) => void} change */
function security(form, change) {
  const api = form.api;
  const set = (/** @type {any} */ values) => change({ op: "security", ...values });
  const scopes = Object.entries(form.scopes).map(([name, what]) => (what ? `${name} ${what}` : name));
  const all = form.topics?.every((/** @type {any} */ topic) => topic.secured);
  return part("Security",
    form.topics && tick("All topics need a token", all, (secured) => set({ secured }), "all-secured"),
    text("Header of the token", api.token_header, (token_header) => set({ token_header }), { placeholder: "that of the settings", name: "header" }),
    select("Client certificates", [["ignored", "not used"], ["optional", "optional"], ["required", "required"]], api.mutual_tls, (mutual_tls) => set({ mutual_tls }), "mtls"),
    form.topics && lines("Scopes, each with its description behind it", scopes, (given) => change({ op: "scopes",
      scopes: Object.fromEntries(given.map((line) => [line.split(" ")[0], line.split(" ").slice(1).join(" ")])) }), { name: "scopes" }));
}

/** @param {any} api @param {(operation: any) => void} change */
function cors(api, change) {
  const set = (/** @type {any} */ values) => change({ op: "cors", ...values });
  return part("CORS",
    tick("Own rules for web pages, instead of those of the settings", api.cors, (own) => set({ own }), "cors"),
    api.cors && lines("Origins that may connect", api.cors_origins, (origins) => set({ origins }), { hint: "https://app.example, one on a line; * for any", name: "origins" }),
    api.cors && tick("With cookies", api.cors_credentials, (credentials) => set({ credentials }), "cors-cookies"));
}

/** @param {any} form @param {any} choices @param {(operation: any) => void} change */
function deployment(form, choices, change) {
  const known = Object.entries(choices.environments);
  const chosen = new Map(form.deployments.map((/** @type {any} */ one) => [one.environment, one.vhost]));
  const send = () => change({ op: "deployments", deployments: [...chosen].map(([environment, vhost]) => ({ environment, vhost })) });
  if (!chosen.size) chosen.set("Default", "");
  return part("Deployment", el("p", { class: "small muted" }, "Environments of this gateway that serve it."),
    known.map(([name, host]) => tick(`${name} on ${chosen.get(name) || host}`, chosen.has(name), (on) => {
      if (on) chosen.set(name, "");
      else chosen.delete(name);
      send();
    }, `environment:${name}`)));
}

/**
 * Show the form of a draft. The focus stays where it was.
 * @param {HTMLElement} place
 * @param {any} draft
 * @param {(operation: any) => void} change
 */
export function showForm(place, draft, change) {
  const { form, choices } = draft;
  const focused = /** @type {HTMLInputElement} */ (document.activeElement);
  const { id, value, selectionStart, selectionEnd } = focused;
  const typed = id.startsWith("f-") && focused.matches("textarea, input:not([type=checkbox], [type=file])");
  const tiers = /** @type {[string, string][]} */ (Object.entries(choices.tiers).map(([tier, what]) => [tier, `${tier}: ${what}`]));
  quietly(() => fill(place,
    form.api ? general(form.api, change) : off("General", form.off.api),
    form.topics ? topicPart(form, choices, change, opened) : off("Topics", form.off.asyncapi),
    form.api && part("Endpoints", backends("production", form.api.production, change, draft), backends("sandbox", form.api.sandbox, change, draft)),
    form.api && security(form, change),
    form.api && part("Limits", select("Tier of the API", tiers, form.api.tier, (tier) => change({ op: "general", tier }), "tier")),
    form.api && cors(form.api, change),
    form.deployments ? deployment(form, choices, change) : off("Deployment", form.off.deployments)));
  const again = /** @type {HTMLInputElement | null} */ (id.startsWith("f-") ? document.getElementById(id) : null);
  again?.focus();
  if (!again || !typed) return;
  // What was typed while the answer was on its way is not lost.
  again.value = value;
  if (selectionStart !== null) again.setSelectionRange(selectionStart, selectionEnd);
}
