// What needs attention, and what ended lately: two lists of calls with a reason.

import { make, setClass, setText } from "./dom.js";
import { clock, nameOf, plain, timeOfDay, way, who } from "./format.js";
import { isOver } from "./store.js";

const SEVERITIES = { error: "Error", warning: "Warning" };
const words = (text) => plain(text, 300).replaceAll("`", "");

/** @param {import("./store.js").Store} store */
export function troubleItem(store, open) {
  return () => {
    let trouble = null;
    const cell = (name) => make("span", { class: name });
    const [severity, text, time, fix, party, code] = ["severity", "text", "time", "fix", "party", "code"].map(cell);
    const button = make("button", { class: "row trouble", type: "button" }, severity, time, text, party, fix, code);
    button.addEventListener("click", () => open(trouble.record, button));
    const item = make("li", {}, button);
    const tick = () => setText(time, timeOf(trouble, store.now()));
    return {
      item,
      show(entry) {
        trouble = entry;
        setClass(item, entry.severity);
        setText(severity, `${SEVERITIES[entry.severity]}: `);
        setText(text, entry.times > 1 ? `${entry.times.toLocaleString("en")} × ${words(entry.text)}` : words(entry.text));
        setText(party, partyOf(entry.record));
        setText(fix, words(entry.fix));
        setText(code, entry.code);
        tick();
      },
    };
  };
}

function timeOf(trouble, now) {
  if (trouble.since === null || now === null) return "";
  return isOver(trouble.record) ? `at ${timeOfDay(trouble.since, false)}` : clock(now - trouble.since);
}

function partyOf(record) {
  const [name, room] = [nameOf(record), plain(record.room, 60)];
  return [`${way(record)} ${who(record)}`, name, room].filter(Boolean).join(" · ");
}

export function endedItem(open) {
  return () => {
    let record = null;
    const cell = (name) => make("span", { class: name });
    const [time, direction, party, cause, talk] = ["time", "way", "party", "cause", "talk"].map(cell);
    const button = make("button", { class: "row", type: "button" }, time, direction, party, cause, talk);
    button.addEventListener("click", () => open(record, button));
    const item = make("li", {}, button);
    return {
      item,
      show(entry) {
        record = entry;
        setClass(item, BAD.has(causeOf(entry)) ? "error" : "");
        setText(time, timeOfDay(entry.ended_at ?? entry.started_at));
        setText(direction, way(entry));
        setText(party, who(entry));
        setText(cause, causeOf(entry));
        setText(talk, typeof entry.talk_s === "number" && entry.talk_s > 0 ? clock(entry.talk_s) : "");
      },
    };
  };
}

const BAD = new Set(["failed", "refused", "gave up", "lost on hold"]);

export function causeOf(record) {
  return plain(record.call_id === undefined ? record.cause : record.state === "failed" ? "lost on hold" : "gave up", 40).replace("-", " ");
}
