// @ts-check
// The form of the console: where to connect, and with which key.

import { all, el, fill, one } from "./dom.js";

/** @typedef {{number: number, name: string, pattern: string, parameters: string[], scopes: string[], secured: boolean, api_key_header: string}} Topic */
/** @typedef {{id: string, title: string, host: string, user: string, header: string, addresses: string[], topics: Topic[], test_keys: boolean}} Target */

const SECRET = /auth|cookie|key|token|secret|password/i;
const PARAMETER = /\{([^{}/]*)\}/g;

export class ConnectForm {
  /** @param {HTMLElement} root @param {Target} target @param {() => void} changed */
  constructor(root, target, changed) {
    this.root = root;
    this.target = target;
    this.changed = changed;
    /** @type {Record<string, string>} */
    this.values = {};
    const topics = this.select("topic");
    fill(topics, target.topics.map((topic, at) => el("option", { value: at }, topic.name)));
    fill(this.select("address"), target.addresses.map((address) => el("option", { value: address }, address)));
    topics.addEventListener("change", () => this.showTopic());
    root.addEventListener("input", () => this.refresh());
    this.showTopic();
  }

  /** @param {string} name @returns {any} */
  field(name) {
    return one(`[name="${name}"]`, this.root);
  }

  /** @param {string} name @returns {HTMLSelectElement} */
  select(name) {
    return this.field(name);
  }

  get topic() {
    return this.target.topics[Number(this.select("topic").value)] ?? this.target.topics[0];
  }

  get way() {
    return this.field("way").value;
  }

  /** @param {string} name */
  choose(name) {
    const at = this.target.topics.findIndex((topic) => topic.name === name);
    if (at < 0) return false;
    this.select("topic").value = String(at);
    this.showTopic();
    return true;
  }

  /** Show the fields of the topic: its parameters, the rest of a wildcard, its scopes. */
  showTopic() {
    const { name, parameters, scopes, secured } = this.topic;
    const names = [...parameters, ...(name.endsWith("/*") ? ["*"] : [])];
    const box = /** @type {HTMLElement} */ (one("[data-parameters]", this.root));
    fill(box, names.map((each) => {
      const input = el("input", { name: `p-${each}`, value: this.values[each] ?? "", autocomplete: "off", spellcheck: "false", placeholder: each === "*" ? "any/further/path" : "" });
      input.addEventListener("input", () => (this.values[each] = input.value));
      return el("div", { class: "field" }, el("label", null, each === "*" ? "Further path (*)" : `{${each}}`, input), el("span", { class: "error", data: { error: each }, hidden: true }));
    }));
    const all = [...new Set(this.target.topics.flatMap((topic) => topic.scopes))].sort();
    fill(/** @type {HTMLElement} */ (one("[data-scopes]", this.root)), all.map((scope) =>
      el("label", { class: "tick" }, el("input", { type: "checkbox", name: "scope", value: scope, checked: scopes.includes(scope) }), el("span", { class: "mono" }, scope))));
    /** @type {HTMLElement} */ (one("[data-scopes-box]", this.root)).hidden = !all.length;
    const key = this.select("key");
    if (!secured) key.value = "none";
    else if (key.value === "none" || !key.value) key.value = this.target.test_keys ? "test" : "token";
    this.refresh();
  }

  /** Put the example of a parameter into its field, if that is empty. @param {{name: string, example?: string, enum?: string[]}} known */
  suggest(known) {
    const input = this.field(`p-${known.name}`);
    if (!input || input.value || !known.example) return;
    input.value = this.values[known.name] = known.example;
    if (known.enum?.length) input.title = `one of ${known.enum.join(", ")}`;
    this.refresh();
  }

  /** Show the URL, what is wrong with the parameters, and the fields of the chosen key. */
  refresh() {
    const { url, faults } = this.place();
    /** @type {HTMLElement} */ (one("[data-url]", this.root)).textContent = url;
    for (const node of all("[data-error]", this.root)) {
      const fault = faults[node.dataset.error ?? ""];
      node.textContent = fault ?? "";
      node.hidden = !fault || !((node.dataset.error ?? "") in this.values);
    }
    const kind = this.select("key").value;
    for (const node of all("[data-for-key]", this.root)) node.hidden = !(node.dataset.forKey ?? "").split(" ").includes(kind);
    this.changed();
  }

  /** The URL, its parts, and a fault for each parameter that is missing or not possible. */
  place() {
    /** @type {Record<string, string>} */
    const faults = {};
    const take = (/** @type {string} */ name) => {
      const value = this.field(`p-${name}`)?.value ?? "";
      if (!value) faults[name] = "is missing";
      else if (name === "*" ? value.split("/").some((part) => part === "." || part === "..") : /^\.\.?$/.test(value)) faults[name] = "must not be . or ..";
      return value;
    };
    let path = this.topic.pattern.replace(PARAMETER, (whole, name) => {
      const value = take(name);
      return value ? encodeURIComponent(value) : whole;
    });
    if (this.topic.name.endsWith("/*")) {
      path = path.slice(0, -1) + take("*").split("/").map(encodeURIComponent).join("/");
      delete faults["*"]; // an empty path matches, too
    }
    const query = this.field("query").value.replace(/^\?/, "").replace(/[^!-~]|[#"'<>\\^`{|}]/gu, (/** @type {string} */ each) => (each === "'" ? "%27" : encodeURIComponent(each)));
    const address = this.select("address").value;
    return { address, path, query, url: `${address}${path}${query ? `?${query}` : ""}`, faults };
  }

  get headers() {
    return this.field("headers").value.split("\n").map((/** @type {string} */ line) => line.trim()).filter(Boolean)
      .map((/** @type {string} */ line) => [line.split(":", 1)[0].trim(), line.slice(line.indexOf(":") + 1).trim()]);
  }

  get protocols() {
    return this.field("protocols").value.split(/[\s,]+/).filter(Boolean);
  }

  get key() {
    const scopes = all('[name="scope"]', this.root).filter((each) => /** @type {any} */ (each).checked).map((each) => /** @type {any} */ (each).value);
    const kind = this.select("key").value;
    return { kind, value: kind === "token" || kind === "api-key" ? this.field("value").value.trim() : "", scopes, key_type: this.select("key_type").value, seconds: 900 };
  }

  /** What is sent to the gateway to connect; null, and the field with the fault in focus, if that is not possible. */
  asked() {
    const { address, path, query, faults } = this.place();
    const names = Object.keys(faults);
    if (names.length) {
      for (const name of names) this.values[name] ??= "";
      this.refresh();
      this.field(`p-${names[0]}`)?.focus();
      return null;
    }
    const host = new URL(address.replace(/^ws/, "http")).host;
    return { host, path, query, key: this.key, protocols: this.protocols, headers: this.headers, compress: this.field("compress").checked };
  }

  /** The settings without any secret, for the history. */
  settings() {
    const parameters = Object.fromEntries(all("[data-parameters] input", this.root).map((each) => [/** @type {any} */ (each).name.slice(2), /** @type {any} */ (each).value]));
    const { kind, scopes, key_type } = this.key;
    const query = this.field("query").value.split("&").filter((/** @type {string} */ each) => !SECRET.test(each.split("=")[0])).join("&");
    return {
      topic: this.topic.name, parameters, query, kind, scopes, key_type, address: this.select("address").value,
      protocols: this.field("protocols").value, compress: this.field("compress").checked, way: this.way,
      headers: this.headers.filter(([name]) => !SECRET.test(name)).map((each) => each.join(": ")).join("\n"),
    };
  }

  /** @param {ReturnType<ConnectForm["settings"]>} from */
  restore(from) {
    Object.assign(this.values, from.parameters);
    if (!this.choose(from.topic)) return;
    for (const name of ["query", "protocols", "headers", "key_type", "way"]) this.field(name).value = /** @type {any} */ (from)[name] ?? "";
    if (this.target.addresses.includes(from.address)) this.select("address").value = from.address;
    this.select("key").value = from.kind;
    this.field("compress").checked = Boolean(from.compress);
    for (const each of all('[name="scope"]', this.root)) /** @type {any} */ (each).checked = from.scopes?.includes(/** @type {any} */ (each).value);
    this.refresh();
  }
}
