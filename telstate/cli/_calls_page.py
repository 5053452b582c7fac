"""The HTML report of `telstate calls`, in two readings: the first finds the calls and counts, the second writes each call as it ends.

So a log may be larger than memory: kept are the ids of the calls in the list, the events of those that live, and a few hundred calls that
are compressed together.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any, TextIO

from telstate.calls._caller import Caller
from telstate.calls._engine import Engine
from telstate.calls._outcome import Unmatched
from telstate.cli._call_finding import journals_among, see_step, work_of
from telstate.cli._log_run import Gone, LogRun, record_of
from telstate.views._call import CallGrouping, WholeCall
from telstate.views._call_groups import CallIds
from telstate.views._call_totals import CallTotals, GroupBy
from telstate.views._call_trace import CallTrace
from telstate.views._call_traces import CallTraces
from telstate.views._calls_html import CallsHtml, ListedCall
from telstate.views._ladder_building import build_ladder
from telstate.views._ladder_svg import ladder_svg

__all__ = ["Chosen", "write_page"]

_TOGETHER = 200
"""Calls that are compressed together. Their ladders are unpacked together too, when one of them is looked at."""


class Chosen:
    """What the first reading prints its calls with: it keeps their ids, in the order of the list."""

    def __init__(self) -> None:
        self.calls: list[CallIds] = []

    def head(self) -> None:
        """There is none."""

    def call(self, call: WholeCall) -> str:
        """Return the ids of a call."""
        if call.caller is not None:
            return json.dumps([[], [call.call_id]])
        sessions = [session for session, _ in call.legs]
        callers = [one.pinless_call_id for one in sessions if one.pinless_call_id is not None]
        return json.dumps([[one.session_id for one in sessions], list(dict.fromkeys(callers))])

    def take(self, text: str | None) -> None:
        """Take in the ids of the next call in the list."""
        if text is not None:
            self.calls.append(CallIds(*json.loads(text)))

    def groups(self, by: GroupBy, records: list[dict[str, Any]]) -> str:  # noqa: ARG002 - as the reports have it
        """There are none."""
        return ""

    def totals(self, totals: CallTotals, engine: Engine, invalid: int) -> None:
        """They come with the page."""


def write_page(
    file: TextIO, chosen: list[CallIds], first: LogRun, totals: CallTotals, names: list[str], *, numbers: bool
) -> None:
    """Make the second reading, and write the report.

    Args:
        file: to write to.
        chosen: the calls in the list.
        first: the first reading.
        totals: what it counted.
        names: the logs, as they are shown.
        numbers: show phone numbers, SIP users and names in full.
    """
    html = CallsHtml(names, numbers=numbers)
    file.write(f"{html.head()}\n")
    if chosen:
        _Writing(file, html, chosen, first.names, numbers=numbers).run()
    shown = html.totals(totals, events=first.replay.engine.received, invalid=first.invalid, listed=len(chosen))
    file.write(f"{shown}\n")


class _Writing:
    """The second reading."""

    def __init__(
        self, file: TextIO, html: CallsHtml, chosen: list[CallIds], names: list[str], *, numbers: bool
    ) -> None:
        self._file = file
        self._html = html
        self._numbers = numbers
        self._journals = journals_among(names)
        self._places: dict[str, deque[int]] = {}
        """By the id of the call. An id may have been used again."""
        for place, ids in enumerate(chosen):
            self._places.setdefault(ids.name, deque()).append(place)
        self._traces = CallTraces(chosen, lambda: self._run.replay.engine)
        self._run = LogRun(names, gone=self._gone, stepped=self._see, inferred=self._traces.infer)
        self._grouping = CallGrouping()
        self._ready: list[tuple[int, WholeCall, CallTrace | None]] = []

    def run(self) -> None:
        """Read everything, and write the calls."""
        self._run.run()
        for call in self._grouping.rest():
            self._take(call)
        self._write()

    def _see(self, line: Any, outcome: Any) -> None:
        see_step(self._traces, self._run, self._journals, line, outcome)

    def _gone(self, gone: Gone) -> None:
        if isinstance(gone, Unmatched):
            return
        record = record_of(self._run, gone)
        self._traces.depart(gone, record)
        if isinstance(gone, Caller):
            self._take(WholeCall(caller=(gone, record)))
        elif (call := self._grouping.add(gone, record)) is not None:
            self._take(call)

    def _take(self, call: WholeCall) -> None:
        places = self._places.get(call.call_id)
        if not places:
            return
        place, trace = places.popleft(), self._traces.take(call.call_id)
        if places and trace is not None:
            self._traces.want(CallIds(trace.ids.sessions, trace.ids.callers))
        self._ready.append((place, call, trace))
        if len(self._ready) >= _TOGETHER:
            self._write()

    def _write(self) -> None:
        work = work_of([trace for _, _, trace in self._ready if trace is not None], self._journals)
        listed = [
            ListedCall(
                place,
                call,
                None
                if trace is None or not trace.seen
                else ladder_svg(build_ladder(trace, work, numbers=self._numbers), standalone=False),
            )
            for place, call, trace in self._ready
        ]
        if listed:
            self._file.write(f"{self._html.calls(listed)}\n")
        self._ready = []
