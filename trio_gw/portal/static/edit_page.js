// @ts-check
// The editor of an API: form and text of one draft, which is kept by the server and checked as it changes.

import { ApiError, answer, request } from "./api.js";
import { say } from "./common.js";
import { byId, debounce, el, fill } from "./dom.js";
import { showForm } from "./edit_form.js";
import { clock } from "./format.js";
import { apiAddress, remember } from "./landed.js";
import { problemList } from "./problems.js";
import { diffList, meaningList, routeList } from "./review.js";
import { TextEditor } from "./text_editor.js";

const root = byId("editor");
const { api = "", host = "", key = "" } = root.dataset;
const review = /** @type {HTMLButtonElement} */ (byId("to-review"));
const discard = /** @type {HTMLButtonElement} */ (byId("discard"));
const files = /** @type {HTMLSelectElement} */ (byId("file"));
const draftPath = `/drafts/${encodeURIComponent(key)}`;
const sourcePath = api ? `/apis/${encodeURIComponent(api)}/source${host && `?host=${encodeURIComponent(host)}`}` : "/new";

/** The draft. `base` is the tag of what it began with, `tag` the version that the server has. */
const draft = { api, host, files: /** @type {Record<string, string>} */ ({}),
  base: "", tag: "", form: /** @type {any} */ (null), choices: /** @type {any} */ (null) };
/** @type {any} */
let checked = null;
let checking = 0;
let queue = Promise.resolve();
const code = new TextEditor(byId("code"), () => {
  draft.files[files.value] = code.text;
  changed();
});

/** @param {string} text */
const status = (text) => (byId("saved").textContent = text);

/** @param {string} kind @param {...any} children */
function notice(kind, ...children) {
  const box = el("div", { class: `notice ${kind}`, role: "alert", tabindex: "-1" }, children);
  fill(byId("notices"), box);
  box.focus();
}

/** @param {unknown} error */
function tell(error) {
  const problems = error instanceof ApiError ? error.problems : [];
  notice("bad", el("p", null, el("strong", null, error instanceof Error ? error.message : String(error))), problems.length > 0 && problemList(problems, go));
}

/** Keep the draft. @param {boolean} [anyway] also over a version that another page made */
async function save(anyway = false) {
  /** @type {Record<string, string>} */
  const headers = anyway ? {} : draft.tag ? { "If-Match": `"${draft.tag}"` } : { "If-None-Match": "*" };
  try {
    const kept = await request("PUT", draftPath, { files: draft.files, base: draft.base }, { headers });
    draft.tag = kept.tag;
    discard.disabled = false;
    status(`Draft kept ${clock(new Date())}`);
  } catch (error) {
    status("Draft not kept");
    if (error instanceof ApiError && error.status === 412) {
      notice("warn", el("p", null, el("strong", null, "Another page has changed this draft.")),
        el("div", { class: "row" },
          el("button", { type: "button", class: "button small", on: { click: () => location.reload() } }, "Take that version"),
          el("button", { type: "button", class: "button small", on: { click: () => { fill(byId("notices")); save(true); } } }, "Keep mine")));
    } else tell(error);
  }
}

async function check() {
  const number = ++checking;
  try {
    const found = await request("POST", "/check", { files: draft.files, api, host });
    if (number !== checking) return;
    checked = found;
    showChecked();
  } catch (error) {
    if (number === checking) tell(error);
  }
}

function showChecked() {
  const problems = [...checked.problems, ...checked.conflicts];
  fill(byId("problems"), problems.length ? problemList(problems, go) : el("p", { class: "good" }, "None. It can be deployed."));
  fill(byId("routes"), routeList(checked.routes));
  review.disabled = false;
  code.mark(problems.filter((one) => one.file === files.value));
}

const keepSoon = debounce(() => save(), 1000);
const checkSoon = debounce(() => check(), 500);
const changed = () => {
  checking += 1;
  status("Changed");
  keepSoon();
  checkSoon();
};

/** Go to the place of a problem, in the text. @param {{file: string, line: number, column: number}} problem */
function go(problem) {
  if (!(problem.file in draft.files)) return;
  showText(problem.file);
  code.go(problem.line, problem.column);
}

/** @param {string} [path] */
function showText(path = files.value) {
  byId("review").hidden = true;
  byId("editing").hidden = false;
  fill(files, Object.keys(draft.files).sort().map((name) => el("option", { value: name, selected: name === path }, name)));
  byId("form").hidden = true;
  byId("text").hidden = false;
  byId("as-form").setAttribute("aria-pressed", "false");
  byId("as-text").setAttribute("aria-pressed", "true");
  code.show(draft.files[files.value] ?? "");
  if (checked) showChecked();
}

/** Send operations one after the other; the form follows what the text says then. @param {any[]} operations */
function edit(operations) {
  queue = queue.then(async () => {
    try {
      const done = await request("POST", "/edit", { files: draft.files, operations });
      draft.form = done.form;
      draft.files = done.files;
      if (operations.length) fill(byId("notices"));
    } catch (error) {
      tell(error);
    }
    showForm(byId("form"), draft, (operation) => edit([operation]));
    if (operations.length) changed();
  });
  return queue;
}

async function asForm() {
  byId("form").hidden = false;
  byId("text").hidden = true;
  byId("review").hidden = true;
  byId("editing").hidden = false;
  byId("as-form").setAttribute("aria-pressed", "true");
  byId("as-text").setAttribute("aria-pressed", "false");
  await edit([]);
}

async function showReview() {
  await queue;
  await check();
  if (!checked) return;
  const place = byId("review");
  const problems = [...checked.problems, ...checked.conflicts];
  const unpublished = !api || ["CREATED", "PROTOTYPED"].includes(root.dataset.state ?? "");
  const publish = el("input", { type: "checkbox", checked: !api });
  const note = el("input", { id: "note", class: "input", maxlength: "200", autocomplete: "off" });
  const deploy = el("button", { class: "button primary", disabled: !checked.good }, "Deploy");
  const send = async (/** @type {Event} */ event) => {
    event.preventDefault();
    deploy.setAttribute("aria-busy", "true");
    await put(note.value, unpublished && publish.checked);
    deploy.removeAttribute("aria-busy");
  };
  fill(place,
    el("h2", { id: "review-title", tabindex: "-1" }, "Review"),
    problems.length > 0 && el("div", { class: "card" }, problemList(problems, go)),
    el("div", { class: "card" }, el("h3", null, "What it means"), meaningList(checked)),
    el("h3", null, "What differs"), diffList(checked.diff),
    el("form", { class: "card form", on: { submit: send } },
      el("div", { class: "field" }, el("label", { for: "note" }, "Note for the list of revisions"), note),
      api && el("p", { class: "small muted" }, "It goes into the gateway's own store and takes the place of this API; files in apis/ and git are not written."),
      unpublished && el("label", { class: "tick" }, publish, el("span", null, "Publish it, so that consumers see it")),
      !checked.good && el("p", { class: "bad" }, "It cannot be deployed before the errors are corrected."),
      el("div", { class: "row" }, deploy, el("button", { type: "button", class: "button", on: { click: asForm } }, "Back to the form"))));
  byId("editing").hidden = true;
  place.hidden = false;
  byId("review-title").focus();
}

/** @param {string} note @param {boolean} publish */
async function put(note, publish) {
  /** @type {Record<string, string>} */
  const headers = draft.base ? { "If-Match": `"${draft.base}"` } : {};
  try {
    const done = await request("POST", "/deployments", { files: draft.files, api, note, publish, override: Boolean(api) }, { headers });
    await request("DELETE", draftPath, {}).catch(() => null);
    const topics = `${checked.routes.length} ${checked.routes.length === 1 ? "topic" : "topics"}`;
    remember({ id: done.id, text: `${done.revision} is live on ${done.hosts.join(", ")}, ${topics}, ${done.ms} ms`, topic: checked.routes[0]?.topic ?? "", host: "", problems: done.problems });
    location.assign(apiAddress(done.id, root.dataset.after));
  } catch (error) {
    if (error instanceof ApiError && error.status === 412) await threeWay(error);
    else tell(error);
  }
}

/** Somebody deployed meanwhile: show theirs beside mine. @param {ApiError} error */
async function threeWay(error) {
  const theirs = await answer("GET", sourcePath);
  const found = await request("POST", "/check", { files: draft.files, api, host, since: draft.base });
  const over = () => {
    draft.base = theirs.body.base;
    fill(byId("notices"));
    changed();
    showReview();
  };
  const drop = async () => {
    await request("DELETE", draftPath, {}).catch(() => null);
    location.reload();
  };
  notice("warn", el("p", null, el("strong", null, `Not deployed: ${error.message}.`)),
    el("h2", null, "What they changed since you began"), diffList(found.theirs),
    el("h2", null, "What your draft would change of theirs"), diffList(found.diff),
    el("div", { class: "row" },
      el("button", { type: "button", class: "button small", on: { click: over } }, "Review mine against theirs"),
      el("button", { type: "button", class: "button small danger", on: { click: drop } }, "Drop mine, take theirs")));
}

async function load() {
  const source = (await request("GET", sourcePath));
  draft.choices = { tiers: source.tiers, environments: source.environments };
  draft.files = source.files;
  draft.base = source.base;
  try {
    const kept = await answer("GET", draftPath);
    draft.tag = (kept.headers.get("etag") ?? "").replaceAll('"', "");
    draft.files = kept.body.files;
    discard.disabled = false;
    status(`Draft of ${clock(new Date(kept.body.saved * 1000))}`);
    if (kept.body.base !== source.base) {
      draft.base = kept.body.base;
      notice("warn", el("p", null, "This API was deployed after your draft began. A review shows both."));
    }
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 404)) throw error;
    status(api ? "As deployed" : "Nothing to edit yet");
  }
  if (!Object.keys(draft.files).length) {
    location.replace("/portal/new");
    return;
  }
  fill(files, Object.keys(draft.files).sort().map((name) => el("option", { value: name }, name)));
  await asForm();
  await check();
}

byId("as-form").addEventListener("click", asForm);
byId("as-text").addEventListener("click", () => showText());
files.addEventListener("change", () => showText(files.value));
review.addEventListener("click", showReview);
discard.addEventListener("click", async () => {
  await request("DELETE", draftPath, {}).catch(() => null);
  say("Draft discarded");
  location.reload();
});
document.getElementById("to-original")?.addEventListener("click", () => {
  const back = async () => {
    try {
      await request("DELETE", `/deployments/${encodeURIComponent(api)}?copy=true`, {});
      await request("DELETE", draftPath, {}).catch(() => null);
      location.assign(apiAddress(api, root.dataset.after));
    } catch (error) {
      tell(error);
    }
  };
  notice("warn", el("p", null, "The copy that was deployed here is taken away, and the version of the folder or of git is served. Revisions are kept."),
    el("div", { class: "row" },
      el("button", { type: "button", class: "button small danger", on: { click: back } }, "Serve the folder's version"),
      el("button", { type: "button", class: "button small", on: { click: () => fill(byId("notices")) } }, "Cancel")));
});
byId("upload").addEventListener("change", async (event) => {
  const file = /** @type {HTMLInputElement} */ (event.target).files?.[0];
  if (!file || file.size > 2 * 1024 * 1024) return;
  draft.files[files.value] = await file.text();
  showText();
  changed();
});
load().catch(tell);
