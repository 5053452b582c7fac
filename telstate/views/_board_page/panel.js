// One call: its ladder, drawn by the service, and what is wrong with it. It follows the call while it is open.

import { byId, make, setHidden, setText } from "./dom.js";
import { clock, nameOf, plain, timeOfDay, way, who } from "./format.js";
import { idOf, isOver, sinceOf } from "./store.js";
import { ask } from "./stream.js";
import { causeOf } from "./attention.js";

const words = (text) => plain(text, 400).replaceAll("`", "");
const PAUSE = 1000; // ms between two ladders of a call that goes on

// The markup of a ladder is the service's own, in which everything from events is escaped. Nothing else on this page becomes markup:
// the policy of the page names this one place.
const trusted = window.trustedTypes
  ? window.trustedTypes.createPolicy("telstate-ladder", { createHTML: (markup) => markup })
  : { createHTML: (markup) => markup };

export class Panel {
  /** @param {import("./store.js").Store} store */
  constructor(store) {
    this.store = store;
    this.dialog = /** @type {HTMLDialogElement} */ (byId("panel"));
    this.id = "";
    this.isStale = false;
    this.isAsking = false;
    this.dialog.addEventListener("close", () => this.closed());
    byId("panel-close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) this.dialog.close(); // beside it
    });
  }

  open(record, from) {
    this.from = from;
    this.id = idOf(record);
    byId("panel-ladder").replaceChildren();
    byId("panel-steps").replaceChildren();
    byId("panel-note").textContent = "Reading the events of this call …";
    this.show(record);
    this.dialog.showModal();
    byId("panel-title").focus();
    this.dialog.scrollTop = 0;
    this.isStale = true;
    this.refresh();
  }

  closed() {
    this.id = "";
    const row = this.from?.isConnected ? this.from : document.querySelector("button.row");
    row?.focus();
  }

  /** Calls changed: is it this one? */
  changed(ids) {
    if (this.id !== "" && ids.includes(this.id)) this.isStale = true;
  }

  /** Once a second. */
  tick() {
    if (this.id === "") return;
    const record = this.store.sessions.get(this.id) ?? this.store.callers.get(this.id);
    if (record !== undefined) this.show(record);
    this.refresh();
  }

  show(record) {
    const now = this.store.now();
    const since = sinceOf(record);
    const name = nameOf(record);
    setText(byId("panel-title"), `${way(record) === "in" ? "From" : "To"} ${who(record)}${name ? `, ${name}` : ""}`);
    const state = isOver(record)
      ? `${causeOf(record)}${record.ended_at ? ` at ${timeOfDay(record.ended_at)} UTC` : ""}`
      : `${plain(record.state, 20)}${since !== null && now !== null ? ` for ${clock(now - since)}` : ""}`;
    setText(byId("panel-state"), [state, plain(record.room, 60), plain(idOf(record), 60)].filter(Boolean).join(" · "));
    const findings = this.store.findings.get(idOf(record)) ?? [];
    const key = JSON.stringify(findings);
    if (key !== this.shownFindings) {
      this.shownFindings = key;
      byId("panel-findings").replaceChildren(...findings.map((one) => make("li", { class: one.severity },
        make("span", { class: "text", text: words(one.text) }), make("span", { class: "fix", text: words(one.fix) }), make("span", { class: "code", text: one.code }))));
    }
    setHidden(byId("panel-findings"), findings.length === 0);
  }

  async refresh() {
    if (!this.isStale || this.isAsking) return;
    this.isStale = false;
    this.isAsking = true;
    const id = this.id;
    try {
      const { html, steps, lacks } = await ask("board/ladder", { id });
      if (id === this.id) this.draw(html, steps, lacks);
    } catch (error) {
      if (id === this.id) {
        byId("panel-note").textContent = /** @type {Error} */ (error).message;
        if (!(/** @type {any} */ (error).status)) this.isStale = true; // try again when the service is back
      }
    }
    setTimeout(() => { this.isAsking = false; }, PAUSE);
  }

  draw(html, steps, lacks) {
    const place = byId("panel-ladder");
    const opened = [...place.querySelectorAll("details")].map((one) => one.open);
    const left = place.querySelector(".picture")?.scrollLeft ?? 0;
    const parsed = new DOMParser().parseFromString(/** @type {any} */ (trusted.createHTML(html)), "text/html");
    place.replaceChildren(...[...parsed.body.childNodes].map((node) => document.importNode(node, true)));
    place.querySelectorAll("details").forEach((one, at) => { one.open = opened[at] ?? false; });
    const picture = place.querySelector(".picture");
    if (picture) {
      picture.scrollLeft = left;
      picture.setAttribute("tabindex", "0");
      picture.setAttribute("role", "region");
      picture.setAttribute("aria-label", "The steps of the call");
    }
    byId("panel-steps").replaceChildren(...steps.map(stepItem));
    byId("panel-note").textContent = lacks ?? "";
  }
}

/** A step in words: for narrow screens, and for those who do not see the picture. */
function stepItem(step) {
  const text = (name, value) => (value ? [make("span", { class: name, text: plain(value, 300) })] : []);
  return make("li", { class: step.kind }, ...text("at", step.at), ...text("label", step.label), ...text("states", step.states), ...text("way", step.way),
    ...step.notes.flatMap((note) => text("note", note)));
}
