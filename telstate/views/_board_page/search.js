// The search: what stands in the rows is found here, a phone number in any spelling by the service, which knows the numbers behind the masks.

import { byId } from "./dom.js";
import { idOf } from "./store.js";
import { ask } from "./stream.js";

const WAIT = 250; // ms after the last key
const AGAIN = 10_000; // ms until the service is asked for calls that came since
const FIELDS = [
  "session_id", "call_id", "sip_call_id", "pinless_call_id", "room", "display_name", "user_id", "provider", "cause", "error", "destination", "origin",
  "caller_id", "sip_from", "caller", "called", "from", "to", "transferred_to",
];

export class Search {
  /** @param {() => void} changed */
  constructor(changed) {
    this.changed = changed;
    this.text = "";
    /** @type {Set<string>} */
    this.found = new Set();
    this.askedAt = 0;
    this.timer = 0;
    this.input = /** @type {HTMLInputElement} */ (byId("search"));
    this.input.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.search(this.input.value), WAIT);
    });
  }

  get isActive() {
    return this.text !== "";
  }

  clear() {
    this.input.value = "";
    this.search("");
  }

  search(text) {
    this.text = text.trim().toLowerCase();
    this.found = new Set();
    this.say("");
    this.changed();
    this.ask();
  }

  /** Once a second: calls may have come since. */
  tick() {
    if (this.isActive && performance.now() - this.askedAt > AGAIN) this.ask();
  }

  async ask() {
    const text = this.text;
    if (!isLikeANumber(text)) return;
    this.askedAt = performance.now();
    try {
      const { sessions, callers, hint } = await ask("board/search", { text });
      if (text !== this.text) return;
      this.found = new Set([...sessions, ...callers]);
      this.say(hint ?? "");
    } catch (error) {
      if (text !== this.text) return;
      this.say(/** @type {Error} */ (error).message);
    }
    this.changed();
  }

  say(text) {
    byId("search-hint").textContent = text;
  }

  matches(record) {
    if (!this.isActive) return true;
    if (this.found.has(idOf(record))) return true;
    return FIELDS.some((name) => typeof record[name] === "string" && record[name].slice(0, 1000).toLowerCase().includes(this.text));
  }
}

function isLikeANumber(text) {
  return (text.match(/\p{Nd}/gu) ?? []).length >= 4 || text.includes("@");
}
