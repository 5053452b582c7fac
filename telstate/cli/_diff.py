"""`telstate diff`: whether two logs tell of the same calls, and where each call first differs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any

import typer

from telstate.calls._caller import Caller
from telstate.calls._outcome import Unmatched
from telstate.calls._session import Session
from telstate.cli._filters import with_filters
from telstate.cli._kept_calls import CallKey, KeptCalls, digest_of
from telstate.cli._log_run import Gone, LogRun, record_of
from telstate.cli._logs import find_files
from telstate.cli._terminal import announce_stdin, misuse, tidy_exit
from telstate.sources._log_lines import STDIN
from telstate.views import Selection
from telstate.views._difference import Difference, essence, first_difference
from telstate.views._text import printable

__all__ = ["diff"]


@with_filters
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A log; - is standard input.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another log of the same calls.")],
    *,
    tolerance: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="By how much durations may differ.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON Lines instead of text.")] = False,
    selection: Selection,
) -> None:
    """Compare the calls of two logs: the first difference of each call, and the calls that only one of them has.

    It compares the states, the events that led to them, cause and end, transfers, legs and durations. Times count from the start of the
    call, so the same calls on another day do not differ. It compares no numbers, names and texts, and not how often an event was
    reported. So the log of a bot can be compared with that of the webhooks, and a log with its redacted copy.

    The exit code is 0 if they do not differ, 1 if they do, 2 for misuse.

    Example: telstate diff before.jsonl after.jsonl --tolerance 5
    """
    if a == b == STDIN:
        misuse("only one of the two logs can be standard input")
    with tidy_exit():
        find_files([a, b])  # both, before one is read
        announce_stdin([a, b])
        differs = _Diff(a, b, tolerance, selection, as_json=as_json).run()
    if differs:
        raise typer.Exit(1)


class _Diff:
    """One run of `telstate diff`."""

    def __init__(self, a: str, b: str, tolerance: float, selection: Selection, *, as_json: bool) -> None:
        self._names = (a, b)
        self._tolerance = tolerance
        self._selection = selection
        self._as_json = as_json
        self._left = KeptCalls()
        """The calls of A that were not found in B yet."""
        self._counts: Counter[str] = Counter()

    def run(self) -> bool:
        """Read both and print the differences; return whether there are any."""
        with self._left:
            self._read(self._names[0], self._keep)
            second = self._read(self._names[1], self._compare)
            for key, record in self._left.rest():
                self._print_only(second, "a", key, record)
        counts = self._counts
        differs = bool(counts["different"] or counts["only_a"] or counts["only_b"])
        totals = {name: counts[name] for name in ("same", "different", "only_a", "only_b")}
        second.print(json.dumps({"summary": totals}) if self._as_json else _summary(counts))
        return differs

    def _read(self, name: str, take: Callable[[LogRun, CallKey, dict[str, Any]], None]) -> LogRun:
        """Replay one log, and hand on what is compared of each call."""
        seen: Counter[bytes] = Counter()

        def gone(one: Gone) -> None:
            if isinstance(one, Unmatched):
                return
            record = record_of(run, one)
            if self._selection.admits(record):
                place = _place_of(one)
                known = digest_of((*place, 0))
                take(run, (*place, seen[known]), essence(record))
                seen[known] += 1

        run = LogRun([name], gone=gone)
        run.run()
        if run.invalid and run.invalid == run.lines:
            misuse(f"no line of {name} could be read: give a log with one JSON object per line, or a service's journal")
        return run

    def _keep(self, _: LogRun, key: CallKey, record: dict[str, Any]) -> None:
        self._left.add(key, record)

    def _compare(self, run: LogRun, key: CallKey, record: dict[str, Any]) -> None:
        before = self._left.pop(key)
        if before is None:
            self._print_only(run, "b", key, record)
            return
        found = first_difference(before, json.loads(json.dumps(record)), self._tolerance)
        self._counts["same" if found is None else "different"] += 1
        if found is not None:
            run.print(self._difference(key, found))

    def _difference(self, key: CallKey, found: Difference) -> str:
        kind, name, _ = key
        if self._as_json:
            return json.dumps({"difference": {f"{kind}_id": name, "what": found.what, "a": found.a, "b": found.b}})
        return printable(f"{_shown(key)}: {found.what}: {_value(found.a)} in A, {_value(found.b)} in B")

    def _print_only(self, run: LogRun, side: str, key: CallKey, record: dict[str, Any]) -> None:
        self._counts[f"only_{side}"] += 1
        kind, name, _ = key
        what = record["cause"] or record["state"]
        if self._as_json:
            run.print(json.dumps({"only": {"in": side, f"{kind}_id": name, "direction": record["direction"], "state": record["state"], "cause": record["cause"]}}))  # fmt: skip
        else:
            run.print(printable(f"{_shown(key)}: only in {side.upper()} ({what})"))


def _place_of(one: Session | Caller) -> tuple[str, str]:
    return ("session", one.session_id) if isinstance(one, Session) else ("caller", one.call_id)


def _shown(key: CallKey) -> str:
    kind, name, number = key
    again = f" (call {number + 1} with this id)" if number else ""
    return f"{name}{again}" if kind == "session" else f"caller on hold {name}{again}"


def _value(value: Any) -> str:
    """A value as people read it; a step as `connected > answered by dialout-answered`."""
    if value is None or value == []:
        return "nothing"
    if isinstance(value, list) and len(value) == 3 and all(isinstance(one, str) for one in value):
        source, target, event = value
        return f"{source} > {target} by {event}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g} s" if isinstance(value, float) else str(value)


def _summary(counts: Counter[str]) -> str:
    if not counts.total():
        return "No calls in either log that could be compared."
    if counts["same"] == counts.total():
        return f"Identical: {counts['same']:,} call{'' if counts['same'] == 1 else 's'}."
    if not counts["same"] and not counts["different"]:
        return (
            f"No call is in both logs: {counts['only_a']:,} are only in A, {counts['only_b']:,} only in B. To compare two days, compare"
            " what `telstate calls` says of each."
        )
    return (
        f"{counts['different']:,} of {counts.total():,} calls differ, {counts['only_a']:,} are only in A,"
        f" {counts['only_b']:,} only in B."
    )
