// @ts-check
// The connection of the form as a command or program to copy.

import { el, fill, one } from "./dom.js";
import { SNIPPETS, shell } from "./snippets.js";

export class CopyAs {
  /**
   * @param {HTMLElement} root
   * @param {import("./console-form.js").ConnectForm} form
   * @param {import("./console-send.js").Composer} composer
   */
  constructor(root, form, composer) {
    this.form = form;
    this.composer = composer;
    this.language = /** @type {HTMLSelectElement} */ (one("[name=language]", root));
    this.secret = /** @type {HTMLInputElement} */ (one("[name=with_token]", root));
    this.text = /** @type {HTMLElement} */ (one(".copy-as pre", root));
    fill(this.language, Object.keys(SNIPPETS).map((name) => el("option", null, name)));
    for (const node of [this.language, this.secret]) node.addEventListener("input", () => this.draw());
    composer.body.addEventListener("input", () => this.draw());
    one(".copy-as", root)?.addEventListener("toggle", () => this.draw());
  }

  draw() {
    const { form } = this;
    const key = form.key;
    const known = key.kind === "token" || key.kind === "api-key";
    this.secret.disabled = !known || !key.value;
    const [listener] = form.target.addresses;
    const scopes = key.scopes.join(" ");
    const testkey = `${listener.replace(/^ws/, "http")}/testkey`;
    const headers = form.headers;
    this.text.textContent = SNIPPETS[this.language.value]({
      url: form.place().url,
      protocols: form.protocols,
      headers,
      header: key.kind === "api-key" ? form.topic.api_key_header || "apikey" : form.target.header,
      scheme: key.kind === "api-key" ? "" : "Bearer ",
      token: key.kind !== "none",
      secret: this.secret.checked && known ? key.value : "",
      get: key.kind === "test" ? `TOKEN=$(curl -sS${testkey.startsWith("https") ? "k" : ""} -u ${shell(form.target.user)}${scopes ? ` --data-urlencode ${shell(`scope=${scopes}`)}` : " -X POST"} ${shell(testkey)})` : "",
      message: this.composer.mode === "binary" ? "" : this.composer.filled(),
    });
  }
}
