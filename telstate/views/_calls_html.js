"use strict";
// The list of calls: searched, sorted, and opened. Everything from the log goes through textContent: none of it is ever markup.
(async () => {
  const PAGE = 200;
  const byId = (id) => document.getElementById(id);
  byId("reading").hidden = false;
  if (!("DecompressionStream" in window)) {
    byId("reading").textContent = "This browser cannot unpack the list of calls: open the file in one of 2023 or later.";
    return;
  }
  async function unpack(script) {
    const bytes = Uint8Array.from(atob(script.textContent), (one) => one.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }
  const calls = [];
  for (const script of document.querySelectorAll("script.calls")) {
    const ladders = script.nextElementSibling;
    (await unpack(script)).forEach(([place, record], index) => {
      record.sessions = record.sessions || [];
      calls.push({ record, place, ladders, index });
    });
    script.remove();
  }
  calls.sort((one, other) => one.place - other.place);
  const COLUMNS = [
    { label: "Start, UTC", key: (c) => c.started_at, show: (c) => time(c.started_at) || "unknown" },
    { label: "Way", key: (c) => c.direction, show: (c) => (c.direction === "dialin" ? "in" : "out"), style: () => "way" },
    { label: "Who", key: (c) => c.phone_number, show: (c) => (c.phone_number || name(c) || "").replace(/^sips?:/i, ""), style: () => "who" },
    { label: "Room", key: (c) => c.room, show: (c) => c.room || "", style: () => "room" },
    { label: "End", key: (c) => c.cause, show: (c) => c.cause, style: (c) => `end end-${rank(c.cause)}` },
    { label: "Ring", key: (c) => c.ring_s, show: (c) => duration(c.ring_s), number: true },
    { label: "Talk", key: (c) => c.talk_s, show: (c) => duration(c.talk_s), number: true },
    { label: "Legs", key: (c) => c.sessions.length, show: (c) => String(c.sessions.length || "on hold"), number: true },
    { label: "Notes", key: (c) => notes(c), show: (c) => notes(c), style: () => "notes" },
  ];
  const state = { sort: null, down: false, words: [], end: "", way: "", shown: PAGE, found: [] };
  const body = byId("rows");

  function make(tag, props = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(props)) {
      if (key in node) node[key] = value; else node.setAttribute(key, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }
  function time(at) {
    if (typeof at !== "number") return "";
    return new Date(at * 1000).toISOString().slice(0, 19).replace("T", " ");
  }
  function duration(seconds) {
    if (typeof seconds !== "number") return "";
    if (seconds < 10) return `${seconds.toFixed(1)}s`;
    const whole = Math.round(seconds);
    if (whole < 60) return `${whole}s`;
    const two = (number) => String(number).padStart(2, "0");
    if (whole < 3600) return `${Math.floor(whole / 60)}m${two(whole % 60)}s`;
    return `${Math.floor(whole / 3600)}h${two(Math.floor((whole % 3600) / 60))}m`;
  }
  function rank(cause) {
    if (["completed", "transferred"].includes(cause)) return "good";
    return ["failed", "refused", "gave-up"].includes(cause) ? "bad" : "odd";
  }
  function name(call) {
    const named = call.sessions.find((one) => one.display_name);
    return named ? named.display_name : "";
  }
  function notes(call) {
    const found = [];
    for (const one of call.sessions) {
      if (one.error) found.push(`error: ${one.error}`);
      for (const [to, outcome] of one.transfers || []) found.push(`transfer to ${to || "an unknown target"}: ${outcome}`);
      found.push(...(one.anomalies || []).map((text) => `! ${text}`));
    }
    return found.join("; ");
  }

  // --- the list ---
  function haystack(call) {
    if (call.text === undefined) {
      const texts = [];
      const walk = (value) => {
        if (value && typeof value === "object") Object.values(value).forEach(walk);
        else if (typeof value === "string") texts.push(value);
      };
      walk(call.record);
      texts.push(time(call.record.started_at));
      call.text = texts.join("\n").toLowerCase();
      call.digits = call.text.replace(/[^\d\n]/g, "");
    }
    return call;
  }
  function matches(call) {
    if (state.end && call.record.cause !== state.end) return false;
    if (state.way && call.record.direction !== state.way) return false;
    return state.words.every((word) => {
      const { text, digits } = haystack(call);
      if (text.includes(word)) return true;
      const number = /^[+\d\-./()]+$/.test(word) ? word.replace(/\D/g, "").replace(/^0+/, "") : "";
      return number.length >= 4 && digits.includes(number);
    });
  }
  function compare(one, other) {
    const key = COLUMNS[state.sort].key;
    const [a, b] = [key(one.record), key(other.record)];
    const [none, nor] = [a === null || a === undefined || a === "", b === null || b === undefined || b === ""];
    if (none || nor) return none - nor || one.place - other.place;
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    return (state.down ? -order : order) || one.place - other.place;
  }
  function update() {
    state.found = calls.filter(matches);
    if (state.sort !== null) state.found.sort(compare);
    state.shown = PAGE;
    body.replaceChildren();
    append(0);
    COLUMNS.forEach((_, index) => {
      const order = index === state.sort ? (state.down ? "descending" : "ascending") : "none";
      head.children[index].setAttribute("aria-sort", order);
    });
    byId("order").value = state.sort === null ? "" : `${state.sort}${state.down ? "-" : ""}`;
  }
  function append(from) {
    const rows = document.createDocumentFragment();
    for (const call of state.found.slice(from, state.shown)) rows.append(row(call));
    body.append(rows);
    const number = state.found.length;
    byId("count").textContent = number === calls.length ? `${number} calls` : `${number} of ${calls.length} calls`;
    byId("none").hidden = number > 0;
    byId("more").hidden = number <= state.shown;
    byId("more").textContent = `Show ${Math.min(PAGE, number - state.shown)} more of ${number - state.shown}`;
  }
  function row(call) {
    const node = make("tr", { className: "call" });
    COLUMNS.forEach((column, index) => {
      const text = column.show(call.record);
      const classes = [column.number ? "num" : "", column.style ? column.style(call.record) : ""].join(" ").trim();
      const cell = make("td", { className: classes, "data-label": column.label });
      if (index === 0) cell.append(make("button", { className: "open", type: "button", "aria-expanded": "false" }, text));
      else cell.textContent = text;
      node.append(cell);
    });
    node.addEventListener("click", () => {
      if (!String(getSelection())) toggle(call, node);
    });
    call.row = node;
    return node;
  }

  // --- one call ---
  function toggle(call, node) {
    const open = node.querySelector("button").getAttribute("aria-expanded") !== "true";
    node.querySelector("button").setAttribute("aria-expanded", String(open));
    if (!open) node.nextElementSibling.remove();
    else node.after(make("tr", { className: "details" }, make("td", { colSpan: COLUMNS.length }, ...details(call))));
    history.replaceState(null, "", open ? `#${encodeURIComponent(call.record.call_id)}` : location.pathname + location.search);
  }
  let unpacked = { script: null, texts: null };
  async function ladderOf(call) {
    if (unpacked.script !== call.ladders) unpacked = { script: call.ladders, texts: unpack(call.ladders) };
    const text = (await unpacked.texts)[call.index];
    return text ? document.importNode(new DOMParser().parseFromString(text, "text/html").body.firstElementChild, true) : null;
  }
  function details(call) {
    const parts = [];
    const ladder = make("div", { className: "ladder" });
    ladderOf(call).then((svg) => { if (svg) ladder.append(svg); else ladder.remove(); });
    parts.push(ladder);
    for (const one of call.record.sessions) parts.push(leg(one));
    if (call.record.caller) parts.push(waiting(call.record.caller));
    return parts;
  }
  const TIMES = [
    ["started_at", "first event"], ["requested_at", "requested"], ["connected_at", "connected"],
    ["answered_at", "answered"], ["ended_at", "ended"],
  ];
  const SHOWN_ABOVE = new Set([...TIMES.map(([key]) => key), "session_id", "direction", "state", "cause", "transitions", "warnings", "anomalies", "error"]);
  function leg(one) {
    const path = (one.transitions || []).map(([, target, event]) => `${target} (${event})`).join(" → ") || "nothing yet";
    const odd = [...(one.error ? [`error: ${one.error}`] : []), ...(one.warnings || []).map((text) => `warning: ${text}`), ...(one.anomalies || []).map((text) => `! ${text}`)];
    return make("div", { className: "leg" },
      make("h3", {}, `${one.direction === "dialin" ? "Dial-in" : "Dial-out"} ${one.session_id}`),
      make("p", {}, `${one.state}${one.cause ? `, ${one.cause}` : ""}: ${path}`),
      ...timeline(one, TIMES),
      ...odd.map((text) => make("p", { className: "warn" }, text)),
      facts(one, SHOWN_ABOVE));
  }
  function waiting(one) {
    return make("div", { className: "leg" },
      make("h3", {}, `Caller on hold ${one.call_id}`),
      make("p", {}, `${one.state}; got to no session`),
      ...timeline(one, [["started_at", "called"], ["ended_at", "ended"]]),
      facts(one, new Set(["call_id", "state", "started_at", "ended_at"])));
  }
  function timeline(one, times) {
    const list = make("ol");
    const known = times.filter(([key]) => typeof one[key] === "number").sort((a, b) => one[a[0]] - one[b[0]]);
    if (known.length === 0) return [make("p", {}, "no times are known")];
    const day = time(one[known[0][0]]).slice(0, 10);
    let before = null;
    for (const [key, label] of known) {
      const at = one[key];
      const shown = time(at).startsWith(day) ? time(at).slice(11) : time(at);
      list.append(make("li", {}, make("span", {}, shown), make("span", {}, before === null ? "" : `+${duration(at - before)}`), make("span", {}, label)));
      before = at;
    }
    return [make("p", {}, `${day}, UTC`), list];
  }
  function facts(one, without) {
    const list = make("dl");
    for (const [key, value] of Object.entries(one)) {
      const empty = value === null || value === "" || value === 0 || value === false
        || (typeof value === "object" && Object.keys(value).length === 0);
      if (empty || without.has(key)) continue;
      const text = key.endsWith("_s") ? duration(value) : typeof value === "object" ? JSON.stringify(value) : String(value);
      list.append(make("dt", {}, key), make("dd", {}, text));
    }
    return list;
  }

  // --- the controls ---
  const head = byId("head");
  COLUMNS.forEach((column, index) => {
    const button = make("button", { type: "button" }, column.label);
    button.addEventListener("click", () => {
      state.down = state.sort === index ? !state.down : Boolean(column.number);
      state.sort = index;
      update();
    });
    head.append(make("th", { scope: "col", className: column.number ? "num" : "" }, button));
  });
  const order = byId("order");
  order.append(make("option", { value: "" }, "as in the log"));
  COLUMNS.forEach((column, index) => {
    order.append(make("option", { value: String(index) }, `${column.label} ▲`), make("option", { value: `${index}-` }, `${column.label} ▼`));
  });
  order.addEventListener("change", () => {
    state.sort = order.value === "" ? null : parseInt(order.value, 10);
    state.down = order.value.endsWith("-");
    update();
  });
  const ends = [...new Set(calls.map((call) => call.record.cause))].sort();
  byId("end").append(make("option", { value: "" }, "all"), ...ends.map((cause) => make("option", { value: cause }, cause)));
  byId("end").addEventListener("change", (event) => { state.end = event.target.value; update(); });
  byId("way").addEventListener("change", (event) => { state.way = event.target.value; update(); });
  let typing;
  byId("search").addEventListener("input", (event) => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      state.words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
      update();
    }, calls.length > 2000 ? 150 : 0);
  });
  byId("more").addEventListener("click", () => {
    const from = state.shown;
    state.shown += PAGE;
    append(from);
    state.found[from].row.querySelector("button").focus();
  });
  document.addEventListener("keydown", (event) => {
    const typingNow = event.target.matches("input, select");
    if (event.key === "/" && !typingNow) { event.preventDefault(); byId("search").focus(); return; }
    if (typingNow || !["ArrowDown", "ArrowUp"].includes(event.key) || !event.target.matches(".open")) return;
    const buttons = [...body.querySelectorAll(".open")];
    const next = buttons[buttons.indexOf(event.target) + (event.key === "ArrowDown" ? 1 : -1)];
    if (next) { event.preventDefault(); next.focus(); }
  });
  update();
  byId("reading").hidden = true;
  byId("list").hidden = false;
  const wanted = calls.find((call) => location.hash && `#${encodeURIComponent(call.record.call_id)}` === location.hash);
  if (wanted) {
    const place = state.found.indexOf(wanted);
    if (place >= state.shown) { const from = state.shown; state.shown = Math.ceil((place + 1) / PAGE) * PAGE; append(from); }
    toggle(wanted, wanted.row);
    wanted.row.scrollIntoView();
  }
})();
