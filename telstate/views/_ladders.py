"""Ladders of all calls of lines that are in memory, as tests have them. For logs of any length there is `telstate ladder`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from telstate.calls._caller import Caller
from telstate.calls._outcome import Outcome
from telstate.calls._replay import Replay
from telstate.calls._session import Session
from telstate.views._call_groups import CallGroups
from telstate.views._call_traces import CallTraces
from telstate.views._ladder import Ladder
from telstate.views._ladder_building import build_ladder

__all__ = ["ladders_of"]


def ladders_of(lines: Sequence[bytes], *, numbers: bool = False) -> list[Ladder]:
    """Return the ladders of all calls, in the order in which they began.

    Args:
        lines: of a log, in any dialect.
        numbers: show phone numbers, SIP users and names in full.

    Raises:
        ParseError: if a line cannot be read.
    """
    groups = CallGroups()
    first = _Reading(lambda gone, reading: groups.add(reading.record(gone)))
    first.read(lines)
    second = _Reading(lambda gone, reading: traces.depart(gone, reading.record(gone)))
    traces = CallTraces(groups.calls(), lambda: second.replay.engine)
    second.read(lines, traces)
    begun = [trace for trace in traces.traces if trace.seen]
    begun.sort(key=lambda trace: min(seen.number for seen in trace.seen))
    return [build_ladder(trace, numbers=numbers) for trace in begun]


class _Reading:
    """One reading of the lines.

    Args:
        gone: called with each session and caller that leaves memory, and at the end with all that are left.
    """

    def __init__(self, gone: Callable[[Session | Caller, _Reading], None]) -> None:
        self.replay = Replay()
        self._gone = gone

    def read(self, lines: Sequence[bytes], traces: CallTraces | None = None) -> None:
        for raw in lines:
            outcome = self.replay.feed(raw)
            if outcome is None:
                continue
            if traces is not None and traces.wants(outcome):
                traces.see(outcome, self.replay.at, self.replay.dialect)
            self._end(outcome, self.replay.inferred, traces)
        for end in self.replay.finish():
            self._end(end, [end], traces)
        engine = self.replay.engine
        left: list[Session | Caller] = [*engine.sessions(), *engine.unconnected()]
        for one in left:
            self._gone(one, self)

    def record(self, one: Session | Caller) -> dict[str, object]:
        return self.replay.engine.record(one) if isinstance(one, Session) else one.to_dict()

    def _end(self, outcome: Outcome, inferred: list[Outcome], traces: CallTraces | None) -> None:
        if traces is not None:
            for end in inferred:
                traces.infer(end)
        for gone in outcome.departed:
            if isinstance(gone, (Session, Caller)):
                self._gone(gone, self)
