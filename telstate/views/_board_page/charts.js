// The last hour: how many calls ended in each minute, how many of them were answered, and why they ended. Inline SVG.

import { arrange, draw, make, setText } from "./dom.js";
import { count, timeOfDay } from "./format.js";

const MINUTES = 60;
const WIDTH = 360;
const HEIGHT = 96;
const TOP = 6;
const FOOT = 18;
const GROUND = HEIGHT - FOOT;
const STEP = WIDTH / MINUTES;
const FAILURES = new Set(["failed", "refused", "lost on hold"]);

/** @typedef {{ calls: number, answered: number, failed: number }} Minute */

/** The sums of the hour, from what the service counted. */
export function sumsOf(minutes) {
  const sums = { calls: 0, answered: 0, lost: 0, in: { calls: 0, answered: 0 }, out: { calls: 0, answered: 0 }, causes: new Map() };
  for (const [, kinds] of minutes) {
    for (const [way, answered, cause, number] of kinds) {
      sums.causes.set(cause, (sums.causes.get(cause) ?? 0) + number);
      if (way === "hold") {
        sums.lost += number;
        continue;
      }
      sums.calls += number;
      sums[way].calls += number;
      if (answered) {
        sums.answered += number;
        sums[way].answered += number;
      }
    }
  }
  return sums;
}

export const share = (part, whole) => (whole ? `${Math.round((100 * part) / whole)}\u202f%` : "–");

export class HourChart {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.bars = Array.from({ length: MINUTES }, (_, at) => {
      const rect = (name) => draw("rect", { class: name, x: (at * STEP + 0.6).toFixed(2), width: (STEP - 1.2).toFixed(2), y: GROUND, height: 0, rx: 0.8 });
      const bar = { answered: rect("answered"), other: rect("other"), failed: rect("failed"), title: draw("title") };
      return { ...bar, group: draw("g", {}, bar.title, bar.answered, bar.other, bar.failed) };
    });
    this.ticks = [0, 15, 30, 45].map((at) => draw("text", { x: at * STEP + 0.6, y: HEIGHT - 4, class: "tick" }));
    this.most = draw("text", { x: WIDTH, y: TOP + 4, class: "tick most", "text-anchor": "end" });
    const ground = draw("line", { class: "ground", x1: 0, x2: WIDTH, y1: GROUND + 0.5, y2: GROUND + 0.5 });
    this.svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "hour-chart" }, ground, ...this.bars.map((bar) => bar.group), ...this.ticks, this.most);
    this.rates = make("p", { class: "rates" });
    const key = (name, text) => make("span", { class: "key" }, make("i", { class: name }), text);
    const legend = make("p", { class: "legend" }, key("answered", "answered"), key("other", "not answered"), key("failed", "failed or lost"));
    root.append(this.rates, this.svg, legend);
  }

  /** @param {[number, any[]][]} minutes @param {number | null} now */
  show(minutes, now) {
    const last = now === null ? (minutes.at(-1)?.[0] ?? 0) : now;
    const first = Math.floor(last / 60) * 60 - (MINUTES - 1) * 60;
    /** @type {Map<number, any[]>} */
    const known = new Map(minutes);
    const shown = this.bars.map((_, at) => minuteOf(known.get(first + at * 60) ?? []));
    const most = Math.max(1, ...shown.map((one) => one.calls));
    const scale = (GROUND - TOP) / most;
    shown.forEach((one, at) => {
      const bar = this.bars[at];
      const other = one.calls - one.answered - one.failed;
      let y = GROUND;
      for (const [rect, number] of [[bar.answered, one.answered], [bar.other, other], [bar.failed, one.failed]]) {
        y -= number * scale;
        set(rect, "y", y.toFixed(1));
        set(rect, "height", (number * scale).toFixed(1));
      }
      setText(bar.title, `${timeOfDay(first + at * 60, false)}: ${count(one.calls, "call")} ended, ${one.answered} answered, ${one.failed} failed`);
    });
    this.ticks.forEach((tick, at) => setText(tick, timeOfDay(first + at * 15 * 60, false)));
    const sums = sumsOf(minutes);
    setText(this.most, sums.calls ? `${most.toLocaleString("en")} a minute at most` : "");
    set(this.svg, "aria-label", `${count(sums.calls, "call")} ended in the last hour, ${share(sums.answered, sums.calls)} of them answered`);
    setText(this.rates, sums.calls === 0 ? "No call has ended." : `${count(sums.calls, "call")}. Answered: ${share(sums.in.answered, sums.in.calls)} in, ${share(sums.out.answered, sums.out.calls)} out.`);
  }
}

/** @returns {Minute} */
function minuteOf(kinds) {
  const minute = { calls: 0, answered: 0, failed: 0 };
  for (const [, answered, cause, number] of kinds) {
    minute.calls += number;
    if (FAILURES.has(cause)) minute.failed += number;
    else if (answered) minute.answered += number;
  }
  return minute;
}

export class CausesChart {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.none = make("p", { class: "calm", text: "No call ended in the last hour." });
    this.body = make("tbody");
    this.table = make("table", { class: "causes" }, make("caption", { class: "hidden", text: "Calls of the last hour by the cause of their end" }), this.body);
    root.append(this.none, this.table);
    this.rows = new Map();
  }

  show(minutes) {
    const causes = [...sumsOf(minutes).causes].sort((a, b) => b[1] - a[1]);
    const most = Math.max(1, ...causes.map(([, number]) => number));
    arrange(this.body, causes.map(([cause, number]) => {
      const row = this.row(cause);
      setText(row.number, number.toLocaleString("en"));
      set(row.bar, "width", ((100 * number) / most).toFixed(1));
      return row.item;
    }));
    this.none.hidden = causes.length > 0;
  }

  row(cause) {
    let row = this.rows.get(cause);
    if (row === undefined) {
      const bar = draw("rect", { class: FAILURES.has(cause) ? "failed" : "plain", height: 8, rx: 1 });
      const number = make("td");
      const svg = draw("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" }, bar);
      const item = make("tr", {}, make("th", { scope: "row", text: cause }), number, make("td", {}, svg));
      this.rows.set(cause, (row = { item, number, bar }));
    }
    return row;
  }
}

function set(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}
