// The live board: it reads the stream, and draws what it says once a frame.

import { Entries, Groups } from "./rows.js";
import { CausesChart, HourChart, share, sumsOf } from "./charts.js";
import { Panel } from "./panel.js";
import { PlaybackControls } from "./playback.js";
import { Search } from "./search.js";
import { Store, endOf, idOf, isOver, sinceOf } from "./store.js";
import { Stream } from "./stream.js";
import { endedItem, troubleItem } from "./attention.js";
import { byId, make, setClass, setHidden, setText } from "./dom.js";
import { clock, count, day, timeOfDay } from "./format.js";
import { kindOf, troublesOf } from "./trouble.js";
import { setUpSignIn, showSignIn } from "./sign_in.js";

const MOST_TROUBLES = 30;
const MOST_LATELY = 40;
const ANNOUNCE_EVERY = 10_000; // ms

const store = new Store();
const panel = new Panel(store);
const search = new Search(() => redraw());
const open = (record, button) => panel.open(record, button);
const troubles = new Entries(byId("trouble-list"), troubleItem(store, open));
const lately = new Entries(byId("lately"), endedItem(open));
const groups = new Groups(byId("groups"), store, open);
const hourChart = new HourChart(byId("hour"));
const causesChart = new CausesChart(byId("causes"));
const playback = new PlaybackControls(store);
store.changed = (ids) => panel.changed(ids);

// --- once a frame -------------------------------------------------------------------------------------------------

const DRAW_EVERY = 80; // ms: more often, nobody can read
let drawn = -1;
let drawnAt = -Infinity;
let isPlanned = false;

function redraw() {
  if (isPlanned) return;
  isPlanned = true;
  const wait = drawnAt + DRAW_EVERY - performance.now();
  if (wait > 0) setTimeout(() => requestAnimationFrame(draw), wait);
  else requestAnimationFrame(draw);
}

function draw() {
  isPlanned = false;
  drawn = store.version;
  drawnAt = performance.now();
  drawAll();
}

function drawAll() {
  if (!store.isComplete) return;
  const now = store.now();
  const found = troublesOf(store);
  const shown = found.filter((one) => search.matches(one.record));
  const live = new Map([...KINDS.keys()].map((kind) => [kind, /** @type {any[]} */ ([])]));
  const ended = [];
  for (const record of [...store.callers.values(), ...store.sessions.values()]) {
    if (isOver(record)) ended.push(record);
    else live.get(kindOf(record, store))?.push(record);
  }
  drawFigures(found, live, now);
  drawTroubles(shown);
  drawCalls(live, found);
  drawLately(ended);
  playback.show();
  setHidden(byId("main"), false);
}

const KINDS = new Map([
  ["hold", "On hold"], ["ringing", "Ringing"], ["silent", "Connecting, no media yet"], ["connected", "Connected"], ["starting", "Requested"], ["talking", "Talking"],
]);

function drawTroubles(shown) {
  troubles.show(shown.slice(0, MOST_TROUBLES).map((one) => [one.key, one]));
  setHidden(byId("trouble-none"), shown.length > 0);
  setText(byId("trouble-none"), search.isActive ? "Nothing is wrong with what you search for." : "Nothing. All calls go as they should.");
  setHidden(byId("trouble-more"), shown.length <= MOST_TROUBLES);
  setText(byId("trouble-more"), `and ${shown.length - MOST_TROUBLES} more`);
}

function drawCalls(live, found) {
  const marks = new Map();
  for (const one of found) if (!isOver(one.record) && marks.get(idOf(one.record)) !== "error") marks.set(idOf(one.record), one.severity);
  let number = 0;
  groups.show([...KINDS].map(([kind, title]) => {
    const records = (live.get(kind) ?? []).filter((record) => search.matches(record));
    records.sort((a, b) => (sinceOf(a) ?? 0) - (sinceOf(b) ?? 0)); // the longest first; what is new comes last, and moves nothing
    number += records.length;
    return [kind, title, records];
  }), marks);
  setHidden(byId("calls-none"), number > 0);
  setText(byId("calls-none"), search.isActive ? "No call now has all of that. Try fewer characters." : "Nobody is on the phone. A call stands here as soon as Daily reports it.");
}

function drawLately(ended) {
  const shown = ended.filter((record) => search.matches(record)).sort((a, b) => (endOf(b) ?? 0) - (endOf(a) ?? 0)).slice(0, MOST_LATELY);
  lately.show(shown.map((record) => [idOf(record), record]));
  setHidden(byId("lately-none"), shown.length > 0);
}

// --- figures ------------------------------------------------------------------------------------------------------

const figures = new Map(["attention", "live", "hold", "answered"].map((name) => {
  const [value, label, detail] = [make("dd", { class: "value" }), make("dt"), make("dd", { class: "detail" })];
  const box = make("div", { class: `figure ${name}` }, label, value, detail);
  byId("figures").append(box);
  return [name, { box, value, label, detail }];
}));

function figure(name, value, label, detail, mark = "") {
  const parts = figures.get(name);
  setText(parts.value, value);
  setText(parts.label, label);
  setText(parts.detail, detail);
  setClass(parts.box, `figure ${name} ${mark}`);
}

function drawFigures(found, live, now) {
  const errors = found.filter((one) => one.severity === "error").length;
  const size = (kind) => live.get(kind)?.length ?? 0;
  const serious = errors ? count(errors, "error") : "";
  const rest = found.length - errors ? count(found.length - errors, "warning") : "";
  figure("attention", String(found.length), found.length === 1 ? "needs attention" : "need attention", [serious, rest].filter(Boolean).join(", ") || "nothing is odd", errors ? "error" : found.length ? "warning" : "");
  const states = [["talking", "talking"], ["ringing", "ringing"], ["silent", "connecting"], ["connected", "connected"], ["starting", "requested"]]
    .filter(([kind]) => size(kind)).map(([kind, word]) => `${size(kind)} ${word}`);
  const sessions = size("talking") + size("ringing") + size("silent") + size("connected") + size("starting");
  figure("live", sessions.toLocaleString("en"), "live", states.join(", ") || "no call");
  const waits = (live.get("hold") ?? []).map(sinceOf).filter((at) => at !== null);
  const longest = waits.length && now !== null ? `longest ${clock(now - Math.min(...waits))}` : "nobody waits";
  figure("hold", String(size("hold")), "on hold", longest);
  const sums = sumsOf(store.minutes);
  figure("answered", share(sums.answered, sums.calls), "answered", sums.calls ? `of ${count(sums.calls, "call")} in an hour` : "no call in an hour");
}

// --- once a second ------------------------------------------------------------------------------------------------

function tick() {
  const now = store.now();
  setText(byId("clock"), now === null ? "" : `${store.service.replay ? `${day(now)} ` : ""}${timeOfDay(now)} UTC`);
  store.forget();
  search.tick();
  panel.tick();
  redraw(); // what takes too long may do so from now on
  const minute = now === null ? 0 : Math.floor(now / 60);
  if (minute !== shownMinute) drawHour();
  showConnection();
  announce();
}

let shownMinute = 0;

function drawHour() {
  const now = store.now();
  shownMinute = now === null ? 0 : Math.floor(now / 60);
  hourChart.show(store.minutes, now);
  causesChart.show(store.minutes);
}

let announcedAt = 0;
let announced = 0;

/** Say, not too often, how much needs attention. */
function announce() {
  if (!store.isComplete || performance.now() - announcedAt < ANNOUNCE_EVERY) return;
  const number = Number(figures.get("attention").value.textContent);
  document.title = number ? `(${number}) ${byId("title").textContent}` : byId("title").textContent;
  if (number === announced) return;
  [announced, announcedAt] = [number, performance.now()];
  setText(byId("announcer"), number === 1 ? "1 call needs attention." : `${number} calls need attention.`);
}

// --- the connection -----------------------------------------------------------------------------------------------

let connection = { kind: "connecting", text: "", retryAt: 0 };

function showConnection() {
  const { kind, text } = connection;
  const isLost = kind === "lost" || (kind === "connecting" && store.isFrozen);
  const problem = kind === "open" && store.service.not_ready ? `The service is not ready: ${store.service.not_ready}.` : "";
  const words = kind === "refused" ? `The service refuses: ${text}`
    : isLost ? `Connection lost: ${text || lostText}. ${store.isComplete ? `What you see is from ${timeOfDay(store.now())} UTC. ` : ""}${wait()}`
    : !store.isComplete && kind !== "sign-in" ? "Reading the calls …" : problem;
  setText(byId("connection-text"), words);
  setHidden(byId("connection"), words === "");
  setHidden(byId("try-now"), kind !== "lost");
  setClass(byId("connection"), `connection ${isLost || kind === "refused" || problem ? "lost" : ""}`);
}

let lostText = "";

function wait() {
  if (connection.kind !== "lost") return "Trying again …";
  const left = Math.ceil((connection.retryAt - performance.now()) / 1000);
  return left > 0 ? `Trying again in ${left} s.` : "Trying again …";
}

const stream = new Stream("board/live", {
  message(kind, data) {
    store.apply(kind, data);
    if (kind === "hello") {
      setText(byId("privacy"), data.numbers ? "Phone numbers and names are shown in full." : "Phone numbers and names are masked. A whole number can still be searched for.");
      showConnection();
    } else if (kind === "hour" || kind === "live") drawHour();
    if (kind === "service") {
      setHidden(byId("sign-out"), !data.signed_in);
      tick();
    }
    if (store.version !== drawn) redraw();
  },
  state(state) {
    connection = { text: "", retryAt: 0, ...state };
    if (state.kind === "lost") {
      lostText = state.text;
      store.freeze();
    }
    if (state.kind === "sign-in") showSignIn();
    showConnection();
  },
});

// --- the keyboard -------------------------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  if (panel.dialog.open || event.ctrlKey || event.metaKey || event.altKey) return;
  const isTyping = /** @type {HTMLElement} */ (event.target).matches("input, select, textarea");
  if (event.key === "/" && !isTyping) {
    event.preventDefault();
    search.input.focus();
    search.input.select();
  } else if (event.key === "Escape" && event.target === search.input) {
    search.clear();
    search.input.blur();
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    if (isTyping && event.target !== search.input) return;
    const rows = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("main button.row")]);
    const at = rows.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const next = at < 0 ? rows[0] : rows[at + (event.key === "ArrowDown" ? 1 : -1)];
    if (next) {
      event.preventDefault();
      next.focus();
    }
  }
});

// --- beginning ----------------------------------------------------------------------------------------------------

byId("try-now").addEventListener("click", () => stream.retry());
window.addEventListener("scroll", () => redraw(), { passive: true });
window.addEventListener("resize", () => redraw());
window.addEventListener("online", () => stream.retry());
setUpSignIn(() => stream.start());
showConnection();
stream.start();
(function everySecond() {
  setTimeout(() => {
    tick();
    everySecond();
  }, 1000 - (Date.now() % 1000));
})();
