// @ts-check
// The topics of a draft as a form.

import { el } from "./dom.js";
import { part, select, text, tick, words } from "./form_fields.js";

const DIRECTIONS = /** @type {[string, string][]} */ ([["send", "clients send"], ["receive", "clients receive"], ["both", "both"]]);

/** What a mapping makes of an example path. @param {any} topic */
function outcome(topic) {
  const example = (/** @type {string} */ name) => topic.parameters.find((/** @type {any} */ one) => one.name === name)?.values[0] ?? "7";
  const path = topic.name.replace(/\{([^{}/]+)\}/g, (/** @type {string} */ _, /** @type {string} */ name) => example(name));
  if (topic.mapping) {
    const made = topic.mapping.replace(/\{uri\.var\.([^{}]*)\}/g, (/** @type {string} */ _, /** @type {string} */ name) => example(name));
    return `${path} goes to ${made.startsWith("/") ? "" : "/"}${made} at the backend`;
  }
  return topic.pass_path ? `${path} goes to the same path at the backend` : `${path} goes to the backend's URL as it is`;
}

/**
 * @param {any} topic
 * @param {any} choices
 * @param {(operation: any) => void} change
 * @param {Set<string>} opened names of the topics that are shown in full
 */
function one(topic, choices, change, opened) {
  const name = topic.name;
  const set = (/** @type {any} */ values) => change({ op: "topic", name, ...values });
  const box = el("details", { class: "sub-card", open: opened.has(name), data: { topic: name } },
    el("summary", null, el("code", null, name), " ",
      el("span", { class: "badge" }, DIRECTIONS.find(([key]) => key === topic.direction)?.[1] ?? ""), " ",
      !topic.secured && el("span", { class: "badge bad" }, "open"),
      topic.scopes.map((/** @type {string} */ scope) => el("span", { class: "badge" }, scope))));
  box.addEventListener("toggle", () => (box.open ? opened.add(name) : opened.delete(name)));
  if (topic.locked) {
    box.append(el("p", { class: "muted" }, `It can only be changed in the text: ${topic.locked}.`));
    return box;
  }
  const tiers = [["", "none of its own"], ...Object.entries(choices.tiers).map(([tier, what]) => [tier, `${tier}: ${what}`])];
  box.append(el("div", { class: "form" },
    el("div", { class: "pair" },
      text("Path", name, (to) => {
        if (opened.delete(name)) opened.add(to);
        change({ op: "rename_topic", name, to });
      }, { mono: true, name: `path:${name}` }),
      select("Direction", DIRECTIONS, topic.direction, (direction) => set({ direction }), `direction:${name}`)),
    el("div", { class: "pair" },
      words("Scopes", topic.scopes, (scopes) => set({ scopes }), { hint: "A token needs one of them", name: `scopes:${name}` }),
      select("Tier", /** @type {[string, string][]} */ (tiers), topic.tier, (tier) => set({ tier }), `tier:${name}`)),
    text("Path at the backend", topic.mapping, (mapping) => set({ mapping }), { mono: true, placeholder: "/rooms?id={uri.var.room}", hint: outcome(topic), name: `mapping:${name}` }),
    tick("Pass the path of the client", topic.pass_path, (pass_path) => set({ pass_path }), `pass:${name}`),
    tick("A token is needed", topic.secured, (secured) => set({ secured }), `secured:${name}`),
    tick("Plain HTTP requests, too", topic.plain_http, (plain_http) => set({ plain_http }), `plain:${name}`),
    text("Largest message in bytes", topic.max_message === null ? "" : String(topic.max_message),
      (value) => set({ max_message: value.trim() ? Number(value) : null }), { type: "number", name: `max:${name}` }),
    topic.parameters.map((/** @type {any} */ given) => el("div", { class: "pair" },
      text(`{${given.name}}: description`, given.description, (description) => set({ parameter: { ...given, description } }), { name: `about:${name}:${given.name}` }),
      words(`{${given.name}}: allowed values`, given.values, (values) => set({ parameter: { ...given, values } }), { hint: "Empty for any", name: `values:${name}:${given.name}` }))),
    el("div", null, el("button", { type: "button", class: "button small danger", on: { click: () => change({ op: "remove_topic", name }) } }, `Remove ${name}`))));
  return box;
}

/**
 * @param {any} form
 * @param {any} choices
 * @param {(operation: any) => void} change
 * @param {Set<string>} opened
 */
export function topicPart(form, choices, change, opened) {
  const add = el("form", { class: "row", on: { submit: (/** @type {Event} */ event) => {
    event.preventDefault();
    const field = /** @type {HTMLInputElement} */ (add.querySelector("input"));
    const name = field.value.trim();
    if (!name) return;
    opened.add(name);
    change({ op: "add_topic", name });
  } } },
  el("label", { class: "hidden-text", for: "f-new-topic" }, "Path of a new topic"),
  el("input", { id: "f-new-topic", class: "input mono", placeholder: "/rooms/{room}", autocomplete: "off", spellcheck: "false", maxlength: "500" }),
  el("button", { class: "button" }, "Add topic"));
  return part("Topics", el("div", { class: "stack tight" }, form.topics.map((/** @type {any} */ topic) => one(topic, choices, change, opened))), add);
}
