// @ts-check
// What this browser remembers of one API: the last settings and messages. Never a key or token.

const SETTINGS = 20;
const MESSAGES = 50;
const LONGEST = 8192;

export class Memory {
  /** @param {string} id */
  constructor(id) {
    this.name = `try ${id}`;
    /** @type {{settings: any[], messages: string[]}} */
    this.held = { settings: [], messages: [] };
    try {
      const found = JSON.parse(localStorage.getItem(this.name) ?? "{}");
      if (Array.isArray(found.settings)) this.held.settings = found.settings.slice(0, SETTINGS);
      if (Array.isArray(found.messages)) this.held.messages = found.messages.filter((/** @type {any} */ each) => typeof each === "string").slice(0, MESSAGES);
    } catch {
      // Storage is forbidden or damaged: begin anew.
    }
  }

  /** @param {any} settings */
  connected(settings) {
    const text = JSON.stringify(settings);
    this.held.settings = [settings, ...this.held.settings.filter((each) => JSON.stringify(each) !== text)].slice(0, SETTINGS);
    this.save();
  }

  /** Remember a message, unless it holds the secret. @param {string | undefined} text @param {string} secret */
  sent(text, secret) {
    if (!text || text.length > LONGEST || (secret && text.includes(secret))) return;
    this.held.messages = [text, ...this.held.messages.filter((each) => each !== text)].slice(0, MESSAGES);
    this.save();
  }

  forget() {
    this.held = { settings: [], messages: [] };
    try {
      localStorage.removeItem(this.name);
    } catch {
      // Nothing was kept then.
    }
  }

  save() {
    try {
      localStorage.setItem(this.name, JSON.stringify(this.held));
    } catch {
      // Full or forbidden: it is kept for this page only.
    }
  }
}
