// What needs attention, the worst first: what takes too long, and what the service finds wrong with calls.

import { clock, spoken } from "./format.js";
import { endOf, idOf, isOver, sinceOf } from "./store.js";

const DOUBT_AFTER = 5; // seconds: between the last two events of an ordinary call there is doubt for a moment
const ENDED_ERROR_FOR = 600;
const ENDED_WARNING_FOR = 300;
const RANK = { error: 0, warning: 1 };
const URGENCY = ["hold", "silent", "ringing", "starting"]; // a caller who waits comes before a callee who does not pick up

/**
 * @typedef {object} Trouble
 * @property {string} key
 * @property {"error" | "warning"} severity
 * @property {number} rank the lower, the more urgent
 * @property {string} text what is wrong, in words
 * @property {string} fix what to do
 * @property {string} code of the rule of `telstate lint`; empty if it is a matter of time alone
 * @property {import("./store.js").Record_} record the latest call with it
 * @property {number | null} since
 * @property {number} times how many calls have it
 */

/** @param {import("./store.js").Store} store @returns {Trouble[]} */
export function troublesOf(store) {
  const now = store.now();
  /** @type {Map<string, Trouble>} */
  const found = new Map();
  const add = (trouble) => {
    const same = found.get(trouble.key);
    if (same === undefined) found.set(trouble.key, trouble);
    else {
      const later = (endOf(trouble.record) ?? 0) > (endOf(same.record) ?? 0);
      found.set(trouble.key, { ...(later ? trouble : same), times: same.times + 1 });
    }
  };
  for (const record of [...store.callers.values(), ...store.sessions.values()]) {
    const late = isOver(record) ? null : tooLong(record, store, now);
    if (late !== null) add(late);
    for (const finding of store.findings.get(idOf(record)) ?? []) {
      if (isWorthShowing(finding, record, store, now)) add(fromFinding(finding, record));
    }
  }
  return [...found.values()].sort(
    (a, b) => RANK[a.severity] - RANK[b.severity] || Number(isOver(a.record)) - Number(isOver(b.record)) || a.rank - b.rank
      || (isOver(a.record) ? (b.since ?? 0) - (a.since ?? 0) : (a.since ?? 0) - (b.since ?? 0)),
  );
}

function isWorthShowing(finding, record, store, now) {
  if (finding.severity === "info") return false; // it stands beside its call
  if (!isOver(record)) {
    if (finding.code !== "T105") return true;
    const since = store.doubts.get(record.session_id);
    return since !== undefined && now !== null && now - since >= DOUBT_AFTER;
  }
  const shownFor = finding.severity === "error" || record.cause === "failed" ? ENDED_ERROR_FOR : ENDED_WARNING_FOR;
  return now === null || now - (endOf(record) ?? 0) < shownFor;
}

function fromFinding(finding, record) {
  const over = isOver(record);
  const severity = record.cause === "failed" && finding.code === "T203" ? "error" : finding.severity;
  // Calls that failed for one reason are one trouble; each live call is one of its own.
  const key = over ? `${finding.code} ${finding.text.replace(/\d+/g, "#")}` : `${finding.code} ${idOf(record)}`;
  return { key, severity, text: finding.text, fix: finding.fix, code: finding.code, record, since: over ? endOf(record) : sinceOf(record), times: 1, rank: URGENCY.length };
}

function tooLong(record, store, now) {
  const since = sinceOf(record);
  if (now === null || since === null) return null;
  const passed = now - since;
  const kind = kindOf(record, store);
  const limit = { hold: store.service.long.hold, ringing: store.service.long.ring, silent: store.service.long.media, starting: store.service.long.setup }[kind];
  if (limit === undefined || passed < limit) return null;
  const [text, fix] = WORDS[kind](record, limit);
  const isCallerAlone = kind === "hold" || kind === "silent";
  const severity = isCallerAlone && passed >= 2 * limit ? "error" : "warning";
  return { key: `long ${idOf(record)}`, severity, text, fix, code: "", record, since, times: 1, rank: URGENCY.indexOf(kind) };
}

const WORDS = {
  hold: (record, limit) => record.state === "forwarded"
    ? ["Forwarded, and not connected yet", "Look at the room: is the bot in it, and its endpoint ready?"]
    : [`On hold for more than ${spoken(limit)}`, "Nobody has forwarded them: is a bot free, and does its handler run?"],
  ringing: (_, limit) => [`Ringing for more than ${spoken(limit)}`, "Nobody picks up. A `Dialer` with `ring_timeout` hangs up by itself."],
  silent: (_, limit) => [`Connected for more than ${spoken(limit)}, and no media yet`, "The caller probably hears nobody: has the bot joined the room?"],
  starting: (_, limit) => [`Requested more than ${spoken(limit)} ago, and not connected yet`, "Daily has not reported the call: look at the request, and whether events arrive."],
};

/**
 * The kind of a live call: in which group it stands.
 * @returns {"hold" | "starting" | "ringing" | "silent" | "connected" | "talking"}
 */
export function kindOf(record, store) {
  if (record.call_id !== undefined) return "hold";
  if (record.state === "answered") return "talking";
  if (record.state === "idle") return "starting";
  if (record.direction === "dialout") return "ringing";
  return store.hasMedia ? "silent" : "connected";
}

export const clockOf = (record, now) => {
  const since = sinceOf(record);
  return since === null || now === null ? "" : clock(now - since);
};
