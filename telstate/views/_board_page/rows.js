// The rows of calls. Each is a button in a list. Of a long list only what is near the screen is there.

import { arrange, make, setClass, setHidden, setText } from "./dom.js";
import { nameOf, plain, timeOfDay, way, who } from "./format.js";
import { idOf } from "./store.js";
import { clockOf } from "./trouble.js";

const LONG = 80; // rows: shorter lists are there as a whole
const SPARE = 15; // rows beyond the screen, above and below

/** One row. */
class Row {
  constructor(store, open) {
    this.store = store;
    this.record = null;
    const cell = (name) => make("span", { class: name });
    this.time = cell("time");
    this.way = cell("way");
    this.who = cell("who");
    this.name = cell("name");
    this.room = cell("room");
    this.extra = cell("extra");
    this.began = cell("began");
    this.button = make("button", { class: "row", type: "button" }, this.time, this.way, make("span", { class: "party" }, this.who, this.name), this.room, this.extra, this.began);
    this.button.addEventListener("click", () => open(this.record, this.button));
    this.item = make("li", {}, this.button);
  }
  show(record, mark) {
    if (record !== this.record) {
      this.record = record;
      setText(this.way, way(record));
      setText(this.who, who(record));
      setText(this.name, nameOf(record));
      setText(this.room, plain(record.room, 60));
      const legs = (record.legs ?? []).length + 1;
      const warned = (record.warnings ?? []).length ? "warned" : "";
      setText(this.extra, legs > 1 ? `${legs} legs` : record.state === "forwarded" ? "forwarded" : warned);
      setText(this.began, timeOfDay(record.started_at));
    }
    setClass(this.item, mark);
    this.tick();
  }
  /** Say where it stands, for those who do not see the list. */
  place(number, size) {
    if (number === this.number && size === this.size) return;
    [this.number, this.size] = [number, size];
    this.item.setAttribute("aria-posinset", String(number));
    this.item.setAttribute("aria-setsize", String(size));
  }
  tick() {
    if (this.record !== null) setText(this.time, clockOf(this.record, this.store.now()));
  }
}

/** Lists of calls in groups, by the kind of each. */
export class Groups {
  /**
   * @param {HTMLElement} root
   * @param {import("./store.js").Store} store
   * @param {(record: any, button: HTMLElement) => void} open
   */
  constructor(root, store, open) {
    this.root = root;
    this.store = store;
    this.open = open;
    /** @type {Map<string, Row>} */
    this.rows = new Map();
    this.groups = new Map();
    this.height = 37; // of a row, in pixels; it is measured
  }

  /**
   * @param {[string, string, any[]][]} groups kind, title, and the records in their order
   * @param {Map<string, string>} marks the severity of what is wrong with a call, by its id
   */
  show(groups, marks) {
    const focused = /** @type {HTMLElement} */ (document.activeElement);
    const windows = this.windows(groups);
    const used = new Set();
    const sections = [];
    for (const [kind, title, records] of groups) {
      if (records.length === 0) continue;
      const group = this.group(kind, title);
      setText(group.count, records.length.toLocaleString("en"));
      const [from, to] = windows.get(kind) ?? [0, records.length];
      setSpace(group.list, from * this.height, (records.length - to) * this.height);
      arrange(group.list, records.slice(from, to).map((record, at) => {
        const id = idOf(record);
        used.add(id);
        let row = this.rows.get(id);
        if (row === undefined) this.rows.set(id, (row = new Row(this.store, this.open)));
        row.show(record, marks.get(id) ?? "");
        row.place(from + at + 1, records.length);
        return row.item;
      }));
      sections.push(group.section);
    }
    arrange(this.root, sections);
    if (focused !== document.activeElement && this.root.contains(focused)) focused.focus({ preventScroll: true }); // it changed its group
    for (const [id, row] of this.rows) {
      if (!used.has(id)) this.rows.delete(id);
    }
  }

  /** Let the clocks go on. */
  tick() {
    for (const row of this.rows.values()) row.tick();
  }

  /** Which rows of the long lists are near the screen, by the kind of the group. It only reads, before anything is changed. */
  windows(groups) {
    const found = new Map();
    const long = groups.filter(([, , records]) => records.length > LONG);
    if (long.length === 0) return found;
    const first = this.rows.values().next().value;
    this.height = first?.item.isConnected ? first.item.offsetHeight || this.height : this.height;
    for (const [kind, , records] of long) {
      const group = this.groups.get(kind);
      const top = group?.section.isConnected ? group.list.getBoundingClientRect().top : innerHeight;
      const row = (y) => Math.floor((y - top) / this.height);
      const from = Math.min(Math.max(0, row(0) - SPARE), records.length - 1);
      found.set(kind, [from, Math.min(records.length, Math.max(from + 1, row(innerHeight) + SPARE))]);
    }
    return found;
  }

  group(kind, title) {
    let group = this.groups.get(kind);
    if (group === undefined) {
      const [count, name] = [make("span", { class: "count" }), make("span")];
      const list = make("ul", { class: "rows" });
      const label = (text) => make("span", { "aria-hidden": "true", class: `label ${text.toLowerCase()}`, text });
      const head = make("div", { class: "head" }, make("h3", { id: `group-${kind}` }, name, count), label("Room"), label("Began"));
      const section = make("section", { class: `group group-${kind}`, "aria-labelledby": `group-${kind}` }, head, list);
      this.groups.set(kind, (group = { section, list, count, name }));
    }
    setText(group.name, title);
    return group;
  }
}

function setSpace(list, above, below) {
  const [top, bottom] = [`${above}px`, `${below}px`];
  if (list.style.paddingTop !== top) list.style.paddingTop = top;
  if (list.style.paddingBottom !== bottom) list.style.paddingBottom = bottom;
}

/** A list that is small enough to be written anew for each entry that changed. */
export class Entries {
  /**
   * @param {HTMLElement} root
   * @param {(entry: any) => { item: HTMLElement, show: (entry: any) => void }} create
   */
  constructor(root, create) {
    this.root = root;
    this.create = create;
    this.entries = new Map();
  }

  /** @param {[string, any][]} wanted key and entry */
  show(wanted) {
    const keys = new Set(wanted.map(([key]) => key));
    for (const key of this.entries.keys()) if (!keys.has(key)) this.entries.delete(key);
    arrange(this.root, wanted.map(([key, entry]) => {
      let shown = this.entries.get(key);
      if (shown === undefined) this.entries.set(key, (shown = this.create(entry)));
      shown.show(entry);
      return shown.item;
    }));
    setHidden(this.root, wanted.length === 0);
  }
}
