// What is known of all calls. It follows the messages of the stream, and knows the time of the service.

const ENDED_FOR = 900; // seconds for which a call that ended is kept
const MOST_ENDED = 400;

/**
 * @typedef {Record<string, any>} Record_
 * A record of a session or of a caller on hold, as `telstate replay --json` has it. Callers have `call_id`.
 */

export class Store {
  constructor() {
    /** @type {Map<string, Record_>} */
    this.sessions = new Map();
    /** @type {Map<string, Record_>} */
    this.callers = new Map();
    /** @type {Map<string, any[]>} */
    this.findings = new Map();
    /** @type {Map<string, number>} since when a live session is uncertain */
    this.doubts = new Map();
    /** @type {[number, [string, boolean, string, number][]][]} */
    this.minutes = [];
    this.service = { now: null, pace: 1, replay: null, not_ready: null, long: { hold: 30, ring: 45, media: 15, setup: 30, give_up: 600 } };
    this.hasNumbers = false;
    /** Whether any dial-in has reported media: many services receive no such event. */
    this.hasMedia = false;
    this.isComplete = false;
    this.isFrozen = false;
    this.version = 0;
    /** @type {{ sessions: Map<string, Record_>, callers: Map<string, Record_>, findings: Map<string, any[]> } | null} */
    this.next = null; // the calls as they are now, while they come in
    this.readAt = performance.now();
    this.frozenAt = /** @type {number | null} */ (null);
    /** Called with the ids of a call that changed. */
    this.changed = (/** @type {string[]} */ _ids) => {};
  }

  /** The time of the service, or of the log, in Unix seconds; null if it is not known. */
  now() {
    if (this.frozenAt !== null) return this.frozenAt;
    const { now, pace } = this.service;
    return now === null ? null : now + ((performance.now() - this.readAt) / 1000) * pace;
  }

  /** Let all clocks stand: what is shown is what was known last. */
  freeze() {
    if (!this.isFrozen) this.frozenAt = this.now();
    this.isFrozen = true;
  }

  apply(kind, data) {
    this.version += 1;
    switch (kind) {
      case "hello":
        this.hasNumbers = data.numbers;
        if (!data.resumed) this.next = { sessions: new Map(), callers: new Map(), findings: new Map() };
        this.isFrozen = false;
        this.frozenAt = null;
        break;
      case "service":
        this.service = data;
        this.readAt = performance.now();
        break;
      case "hour":
        this.minutes = data.minutes;
        this.hasMedia ||= data.minutes.some(([, kinds]) => kinds.some(([way, answered]) => way === "in" && answered));
        break;
      case "session":
        this.putSession(data.session);
        break;
      case "caller":
        this.putCaller(data.caller);
        break;
      case "findings":
        put(this.into.findings, data.of, data.findings.length ? data.findings : null);
        this.changed([data.of]);
        break;
      case "live":
        if (this.next !== null) Object.assign(this, this.next);
        this.next = null;
        this.isComplete = true;
        this.doubts.clear();
        this.changed([...this.sessions.keys(), ...this.callers.keys()]);
        break;
      case "outcome":
        if (data.session) this.putSession(data.session);
        if (data.caller) this.putCaller(data.caller);
        break;
    }
  }

  get into() {
    return this.next ?? this;
  }

  putSession(record) {
    const { sessions, callers } = this.into;
    sessions.set(record.session_id, record);
    if (record.direction === "dialin" && record.answered_at !== null) this.hasMedia = true;
    if (record.pinless_call_id) callers.delete(record.pinless_call_id); // that is them
    if (!record.uncertain || record.ended_at !== null) this.doubts.delete(record.session_id);
    else if (!this.doubts.has(record.session_id)) this.doubts.set(record.session_id, this.now() ?? 0);
    this.changed([record.session_id, record.sip_call_id, ...(record.legs ?? [])]);
  }

  putCaller(record) {
    const { callers } = this.into;
    // Daily's request has no time of its own, and a log may have none either: then it is when it was first seen.
    record.started_at ??= callers.get(record.call_id)?.started_at ?? this.now();
    if (record.state === "connected" || record.state === "unknown") callers.delete(record.call_id);
    else callers.set(record.call_id, record);
    this.changed([record.call_id]);
  }

  /** Forget the calls that ended long ago. */
  forget() {
    const now = this.now();
    const ended = [...this.sessions.values()].filter(isOver);
    const lost = [...this.callers.values()].filter((one) => isOver(one));
    const old = (one) => now !== null && (endOf(one) ?? 0) < now - ENDED_FOR;
    const beyond = new Set(ended.length > MOST_ENDED ? ended.sort((a, b) => (endOf(b) ?? 0) - (endOf(a) ?? 0)).slice(MOST_ENDED) : []);
    for (const one of ended) if (old(one) || beyond.has(one)) this.drop(this.sessions, one.session_id);
    if (this.service.replay !== null) this.forgetWaiting(now);
    for (const one of lost) if (old(one)) this.drop(this.callers, one.call_id);
  }

  /** No timer runs in a log that is played, so nobody says that a caller gave up. */
  forgetWaiting(now) {
    for (const one of [...this.callers.values()]) {
      if (!isOver(one) && now !== null && one.started_at !== null && now - one.started_at > this.service.long.give_up) this.drop(this.callers, one.call_id);
    }
  }

  drop(map, id) {
    map.delete(id);
    this.findings.delete(id);
    this.version += 1;
  }
}

const OVER = new Set(["stopped", "error", "gave-up", "failed"]);

export const isOver = (record) => OVER.has(record.state);

export const idOf = (record) => record.session_id ?? record.call_id;

/** When it ended; of a caller who gave up, nobody says when. */
export const endOf = (record) => record.ended_at ?? record.started_at;

/** Since when a live call is in its state. */
export function sinceOf(record) {
  if (record.call_id !== undefined) return record.started_at;
  if (record.state === "answered") return record.answered_at ?? record.connected_at ?? record.started_at;
  if (record.state === "connected") return record.connected_at ?? record.started_at;
  return record.requested_at ?? record.started_at;
}

function put(map, key, value) {
  if (value === null) map.delete(key);
  else map.set(key, value);
}
