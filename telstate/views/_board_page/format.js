// How times, numbers and texts from events are shown.

const LONGEST = 160;
// Controls, marks of direction, and separators of lines: they would change what stands beside them.
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** A text from an event, harmless and not too long. */
export function plain(text, longest = LONGEST) {
  const cut = String(text ?? "").slice(0, longest + 1);
  return (cut.length > longest ? `${cut.slice(0, longest)}…` : cut).replace(UNPRINTABLE, "\ufffd");
}

const two = (number) => String(number).padStart(2, "0");

/** Seconds as a clock: `0:07`, `12:45`, `1:02:03`. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** Seconds in words, for what has ended: `7 s`, `2 min 5 s`. */
export function spoken(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min${whole % 60 ? ` ${whole % 60} s` : ""}`;
  return `${Math.floor(whole / 3600)} h ${Math.floor(whole / 60) % 60} min`;
}

/** The time of day, UTC. */
export function timeOfDay(at, withSeconds = true) {
  if (typeof at !== "number" || !(Math.abs(at) < 8e12)) return "";
  return new Date(at * 1000).toISOString().slice(11, withSeconds ? 19 : 16);
}

export function day(at) {
  return typeof at === "number" && Math.abs(at) < 8e12 ? new Date(at * 1000).toISOString().slice(0, 10) : "";
}

export const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

/** Who is on the phone: an address without `sip:`, or a name. */
export function who(record) {
  if (record.call_id !== undefined) return address(record.from) || "unknown caller";
  const party = record.direction === "dialout" ? record.destination : record.caller || record.sip_from;
  return address(party) || plain(record.display_name, 60) || "unknown number";
}

/** Their name, where it says more. */
export function nameOf(record) {
  const name = plain(record.display_name, 60);
  return name && name !== who(record) ? name : "";
}

/** An address without `sip:`, and a phone number without the host of its carrier. */
export function address(text) {
  return text ? plain(String(text).replace(/^(?:sips?|tel):/i, "").replace(/^(\+[\d•]+)@.*$/, "$1"), 80) : "";
}

export const way = (record) => (record.call_id !== undefined ? "in" : record.direction === "dialin" ? "in" : "out");
