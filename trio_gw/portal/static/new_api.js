// @ts-check
// The page that makes an API: what is typed becomes a project, which is checked as it is typed.

import { ApiError, request } from "./api.js";
import { say } from "./common.js";
import { all, byId, debounce, el, fill } from "./dom.js";
import { apiAddress, remember } from "./landed.js";
import { hasErrors, problemList } from "./problems.js";

const MOST = 2 * 1024 * 1024;
const FIELDS = ["text", "server", "backend", "name", "context", "version", "topics"];
const form = byId("new-api");
const deploy = /** @type {HTMLButtonElement} */ (byId("deploy"));
const toEditor = /** @type {HTMLButtonElement | null} */ (document.getElementById("to-editor"));
/** @param {string} id */
const field = (id) => /** @type {HTMLInputElement} */ (byId(id));

/** Fields that the user has filled in; the others follow what is known. */
const own = new Set();
/** @type {any} The last project that was made, with what the check said. */
let made = null;
/** @type {Promise<void> | null} */
let making = null;
let asked = 0;

const source = () => form.dataset.source ?? "backend";

/** @param {string} key */
function choose(key) {
  form.dataset.source = key;
  for (const tab of all("#sources [data-source]")) {
    if (tab.dataset.source === key) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  for (const part of all("[data-only]")) part.hidden = part.dataset.only !== key;
  for (const part of all("[data-not]")) part.hidden = part.dataset.not === key;
  history.replaceState(null, "", `/portal/new?from=${key}`);
  field(key === "asyncapi" ? "text" : key === "nothing" ? "name" : "backend").focus();
  changed();
}

function given() {
  const typed = (/** @type {string} */ id) => (own.has(id) ? field(id).value.trim() : "");
  const kind = source();
  const backend = field("backend").value.trim();
  return {
    from: kind,
    text: kind === "asyncapi" ? field("text").value : "",
    backend: kind === "nothing" && !backend ? form.dataset.echo || "ws://localhost:8080" : backend,
    server: field("server").value.trim(),
    name: typed("name"),
    context: typed("context"),
    version: typed("version"),
    topics: field("topics").value.split("\n").map((line) => line.trim()).filter(Boolean),
  };
}

/** Say what is wrong with a field; empty for nothing. @param {string} id @param {string} what */
function fault(id, what) {
  const shown = document.getElementById(`${id}-error`);
  if (!shown) return;
  shown.textContent = what;
  shown.hidden = !what;
  field(id).setAttribute("aria-invalid", String(Boolean(what)));
}

/** Make the project of what is typed, and check it. */
async function make() {
  const number = ++asked;
  const body = given();
  const begun = body.from === "asyncapi" ? body.text : body.from === "backend" ? body.backend : body.name || body.backend;
  for (const id of FIELDS) fault(id, "");
  if (!begun) {
    made = null;
    show();
    return;
  }
  let project = null;
  let refused = null;
  try {
    project = await request("POST", "/projects", body);
    const checked = await request("POST", "/check", { files: project.files });
    project = { ...project, ...checked, problems: [...project.problems, ...checked.problems, ...checked.conflicts] };
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    refused = error;
  }
  if (number !== asked) return;
  made = project;
  if (refused) {
    const id = /** @type {any} */ (refused.body).field;
    if (id === "server") byId("server-field").hidden = false;
    if (FIELDS.includes(id)) fault(id, refused.message);
    show(refused);
    return;
  }
  for (const id of ["name", "context", "version"]) {
    if (!own.has(id)) field(id).value = project[id];
  }
  show();
}

/** @param {ApiError | null} [refused] */
function show(refused = null) {
  const preview = byId("preview");
  const good = Boolean(made) && !hasErrors(made.problems);
  if (toEditor) toEditor.disabled = false;
  deploy.setAttribute("aria-disabled", String(!good));
  toEditor?.setAttribute("aria-disabled", String(!made));
  if (!made) {
    fill(preview, el("p", { class: "muted" }, refused ? refused.message : "Fill in a backend to see it."));
    fill(byId("found"), refused?.problems.length ? problemList(refused.problems) : null);
    return;
  }
  const hosts = made.hosts.length ? made.hosts : ["localhost"];
  const urls = /** @type {string[]} */ (JSON.parse(preview.dataset.urls ?? "[]"));
  const shown = urls.flatMap((url) => hosts.map((/** @type {string} */ host) => {
    const base = host === "localhost" || host.startsWith("*") ? url : url.replace(/\/\/[^/]*?(:\d+)?$/, `//${host}$1`);
    return `${base}${made.base_path}${made.topics[0].replace(/\/\*$/, "/…")}`;
  }));
  fill(preview,
    el("ul", { class: "will" }, shown.map((url) => el("li", null, el("code", null, url)))),
    el("p", { class: "muted small" },
      `${made.topics.length} ${made.topics.length === 1 ? "topic" : "topics"}, `,
      made.routes.every((/** @type {any} */ one) => one.secured) ? "a token is needed. " : "not all ask for a token. ",
      `Goes to ${made.routes[0]?.production[0] ?? "the document's server"}.`),
    made.messages.map((/** @type {string} */ text) => el("p", { class: "small" }, text)));
  fill(byId("found"), made.problems.length ? problemList(made.problems) : null);
}

const soon = debounce(() => { making = make().finally(() => (making = null)); }, 200);

function changed() {
  asked += 1;
  soon();
}

/** The project of what is typed now. */
async function current() {
  asked += 1;
  if (making) await making;
  await make();
  return made;
}

/** @param {unknown} error */
function tell(error) {
  const box = byId("faults");
  const problems = error instanceof ApiError ? error.problems : [];
  const text = error instanceof Error ? error.message : String(error);
  fill(box, el("p", null, el("strong", null, text)), problems.length > 0 && problemList(problems));
  box.hidden = false;
  box.focus();
}

async function create() {
  byId("faults").hidden = true;
  deploy.setAttribute("aria-busy", "true");
  try {
    const project = await current();
    if (!project || hasErrors(project.problems)) {
      const first = FIELDS.find((id) => field(id).getAttribute("aria-invalid") === "true");
      field(first ?? (source() === "asyncapi" ? "text" : "backend")).focus();
      say("Not deployed: there are problems");
      return;
    }
    const done = await request("POST", "/deployments", { files: project.files, publish: true });
    const topics = `${project.topics.length} ${project.topics.length === 1 ? "topic" : "topics"}`;
    const text = `Live on ${done.hosts.join(", ")}, ${topics}, ${done.ms} ms`;
    remember({ id: done.id, text, topic: project.topics[0], host: done.hosts[0], problems: done.problems });
    location.assign(apiAddress(done.id, form.dataset.after));
  } catch (error) {
    tell(error);
  } finally {
    deploy.removeAttribute("aria-busy");
  }
}

/** @param {File | undefined} file */
async function take(file) {
  if (!file) return;
  if (file.size > MOST) {
    fault("text", `${file.name} has more than 2 MiB`);
    return;
  }
  field("text").value = await file.text();
  byId("file-hint").textContent = file.name;
  if (source() !== "asyncapi") choose("asyncapi");
  else changed();
}

for (const tab of all("#sources [data-source]")) {
  tab.addEventListener("click", (event) => {
    event.preventDefault();
    choose(tab.dataset.source ?? "backend");
  });
}
for (const id of FIELDS) {
  field(id).addEventListener("input", () => {
    if (field(id).value) own.add(id);
    else own.delete(id);
    changed();
  });
}
form.addEventListener("submit", (event) => {
  event.preventDefault();
  create();
});
document.getElementById("use-echo")?.addEventListener("click", () => {
  field("backend").value = form.dataset.echo ?? "";
  if (!own.has("name")) {
    field("name").value = "MyEcho";
    own.add("name");
  }
  changed();
  deploy.focus();
});
toEditor?.addEventListener("click", async () => {
  const project = await current();
  if (!project) return;
  try {
    await request("PUT", "/drafts/new", { files: project.files });
    location.assign("/portal/new/edit");
  } catch (error) {
    tell(error);
  }
});
field("file").addEventListener("change", () => take(field("file").files?.[0]));
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    byId("text").classList.add("over");
  });
}
document.addEventListener("dragleave", () => byId("text").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  byId("text").classList.remove("over");
  take(event.dataTransfer?.files[0]);
});
deploy.disabled = false;
if (field("backend").value || field("text").value) changed();
