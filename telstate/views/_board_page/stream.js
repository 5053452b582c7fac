// The live stream: server-sent events over `fetch`, which says why it fails, and connects again where it was.

const SILENCE = 40_000; // ms: the service sends something every 15 s
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;

/**
 * @typedef {object} Listener
 * @property {(kind: string, data: any) => void} message
 * @property {(state: { kind: "connecting" | "open" | "lost" | "refused" | "sign-in", text?: string, retryAt?: number }) => void} state
 */

export class Stream {
  /** @param {string} url @param {Listener} listener */
  constructor(url, listener) {
    this.url = url;
    this.listener = listener;
    /** @type {string | null} */
    this.lastId = null;
    this.pause = FIRST_PAUSE;
    /** @type {AbortController | null} */
    this.open = null;
    this.timer = 0;
    this.isWanted = false;
  }

  start() {
    this.isWanted = true;
    this.connect();
  }

  /** Connect now, without waiting for the next attempt. */
  retry() {
    clearTimeout(this.timer);
    this.pause = FIRST_PAUSE;
    if (this.isWanted && this.open === null) this.connect();
  }

  async connect() {
    const open = (this.open = new AbortController());
    this.listener.state({ kind: "connecting" });
    let after = 0;
    let reason = "the service does not answer";
    try {
      const headers = { Accept: "text/event-stream", ...(this.lastId === null ? {} : { "Last-Event-ID": this.lastId }) };
      const answer = await fetch(this.url, { headers, cache: "no-store", signal: open.signal, redirect: "error" });
      if (answer.status === 200) {
        this.pause = FIRST_PAUSE;
        this.listener.state({ kind: "open" });
        reason = await this.read(answer, open);
      } else {
        reason = await reasonOf(answer);
        if (answer.status === 401) return this.stop({ kind: "sign-in" });
        if (answer.status === 403) return this.stop({ kind: "refused", text: reason });
        after = 1000 * Number(answer.headers.get("Retry-After") || 0);
      }
    } catch (error) {
      if (open.signal.reason === "silence") reason = "nothing came for 40 seconds";
    }
    this.open = null;
    if (this.isWanted) this.wait(reason, after);
  }

  stop(state) {
    this.isWanted = false;
    this.open = null;
    this.listener.state(state);
  }

  wait(reason, after) {
    const pause = Math.max(after, this.pause * (0.5 + Math.random() / 2)); // many readers must not return at once
    this.pause = Math.min(this.pause * 2, LONGEST_PAUSE);
    this.listener.state({ kind: "lost", text: reason, retryAt: performance.now() + pause });
    this.timer = setTimeout(() => this.connect(), pause);
  }

  /** Pass a message on. One that cannot be shown must not come again and again with each new connection. */
  tell(kind, data) {
    try {
      this.listener.message(kind, data);
    } catch (error) {
      console.error(kind, error);
    }
  }

  /** Read until the stream ends; return why it did. */
  async read(answer, open) {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    let end = "the service ended the stream";
    for (;;) {
      const silence = setTimeout(() => open.abort("silence"), SILENCE);
      const { done, value } = await reader.read().finally(() => clearTimeout(silence));
      if (done) return end;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop() ?? "";
      for (const part of parts) {
        const message = fieldsOf(part);
        if (message.event === undefined) continue; // a sign of life
        const data = JSON.parse(message.data ?? "{}");
        if (message.event === "end") end = data.text;
        else this.tell(message.event, data);
        if (message.id !== undefined) this.lastId = message.id; // not before it was taken
      }
    }
  }
}

function fieldsOf(part) {
  /** @type {Record<string, string>} */
  const fields = {};
  for (const line of part.split("\n")) {
    const at = line.indexOf(": ");
    if (at > 0) fields[line.slice(0, at)] = line.slice(at + 2);
  }
  return fields;
}

async function reasonOf(answer) {
  try {
    return String((await answer.json()).error);
  } catch {
    return `the service answers ${answer.status}`;
  }
}

/** Post a question to the service; return its answer, or throw an error with a text for people. */
export async function ask(url, body) {
  let answer;
  try {
    answer = await fetch(url, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), cache: "no-store", redirect: "error",
    });
  } catch {
    throw new Error("The service does not answer. Try again when it is back.");
  }
  if (!answer.ok) throw Object.assign(new Error(await reasonOf(answer)), { status: answer.status });
  return answer.status === 204 ? null : answer.json();
}
