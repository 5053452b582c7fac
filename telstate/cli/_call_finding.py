"""Two readings of logs that show whole calls: the first finds which calls are wanted, the second keeps their events."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from telstate.calls._outcome import Outcome, Unmatched
from telstate.cli._log_run import Gone, LogRun, record_of
from telstate.cli._nats import is_nats, without_password
from telstate.cli._no_match import OtherCalls
from telstate.events._dialects.journal import unwrap
from telstate.journals._database import is_sqlite
from telstate.sources._log_lines import STDIN, LogLine
from telstate.views import Selection
from telstate.views._call_groups import CallGroups, CallIds
from telstate.views._call_trace import CallTrace
from telstate.views._call_traces import CallTraces
from telstate.views._ladder import Ladder
from telstate.views._ladder_building import HandlerWork, build_ladder

if TYPE_CHECKING:
    from telstate.routing._ports import KeptLetter

__all__ = ["CallFinder", "call_ladders", "journals_among", "see_step", "work_of"]


class CallFinder:
    """The first reading: which calls a selection admits, each with all its legs.

    Args:
        names: the logs.
        selection: admits a call if it admits one of its legs, or its caller on hold.
        limit: how many calls are kept; the others are counted.
        settings: of the replay, in place of the log's own.
    """

    def __init__(
        self,
        names: list[str],
        selection: Selection,
        limit: int | None = None,
        *,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.run = LogRun(names, settings=settings, gone=self._take)
        self._selection = selection
        self.groups = CallGroups(limit)
        self.others = OtherCalls()

    def find(self) -> list[CallIds]:
        """Read everything; return the calls in the order in which their first legs left memory.

        Raises:
            OSError: if a file cannot be read.
            JournalError: if a database is not a journal, or is damaged.
        """
        self.run.run()
        return self.groups.calls()

    def _take(self, gone: Gone) -> None:
        if isinstance(gone, Unmatched):
            return
        record = record_of(self.run, gone)
        self.others.add(record)
        if self._selection.admits(record):
            self.groups.add(record)


def call_ladders(
    names: list[str], calls: Iterable[CallIds], *, numbers: bool = False, settings: dict[str, Any] | None = None
) -> list[Ladder]:
    """The second reading: return the ladders of calls, in the order in which they began in the logs.

    Args:
        names: the logs, which can be read twice: see `rereadable`.
        calls: the wanted ones. Only their events are kept in memory.
        numbers: show phone numbers, SIP users and names in full.
        settings: of the replay, as in the first reading.

    Raises:
        OSError: if a file cannot be read.
        JournalError: if a database is not a journal, or is damaged.
    """
    traces = CallTraces(calls, lambda: run.replay.engine)
    journals = journals_among(names)

    def depart(gone: Gone) -> None:
        if not isinstance(gone, Unmatched):
            traces.depart(gone, record_of(run, gone))

    run = LogRun(
        names,
        settings=settings,
        gone=depart,
        stepped=lambda line, outcome: see_step(traces, run, journals, line, outcome),
        inferred=traces.infer,
    )
    run.run()
    shown = sorted(
        (trace for trace in traces.traces if trace.seen), key=lambda trace: min(seen.number for seen in trace.seen)
    )
    work = work_of(shown, journals)
    return [build_ladder(trace, work, numbers=numbers) for trace in shown]


def journals_among(names: Iterable[str]) -> dict[str, str]:
    """Return the logs that are journals, by their names as they are shown: they know about handlers."""
    return {without_password(name): name for name in names if is_nats(name) or (name != STDIN and is_sqlite(name))}


def see_step(traces: CallTraces, run: LogRun, journals: Container[str], line: LogLine, outcome: Outcome) -> None:
    """Keep the event of a line, if it may concern one of the calls."""
    if traces.wants(outcome):
        record = unwrap(line.raw) if line.file in journals else None
        key = None if record is None else (line.file, record.seq)
        traces.see(outcome, run.replay.at, run.replay.dialect, key)


def work_of(traces: Iterable[CallTrace], journals: Mapping[str, str]) -> HandlerWork:
    """Ask the journals about the handlers of the calls' events. A log does not have them."""
    if not journals:
        return HandlerWork()
    keys = {seen.key for trace in traces for seen in trace.seen if seen.key is not None}
    unfinished: set[Any] = set()
    letters: dict[Any, list[KeptLetter]] = {}
    for shown, name in journals.items():
        seqs = sorted(seq for file, seq in keys if file == shown)
        if not seqs:
            continue
        done, given_up = _work_in_stream(name, seqs) if is_nats(name) else _work_in_database(name, seqs)
        unfinished |= {(shown, seq) for seq in seqs if seq not in done}
        for kept in given_up:
            key = (shown, abs(kept.letter.seq))  # below zero: the retirement of the session that this event opened
            if key in keys:
                letters.setdefault(key, []).append(kept)
    return HandlerWork(unfinished, letters)


def _work_in_stream(name: str, seqs: list[int]) -> tuple[set[int], Iterator[KeptLetter]]:
    from telstate.cli._nats_log import finished_in_stream, letters_of_stream  # noqa: PLC0415 - few logs are streams

    return finished_in_stream(name, seqs), letters_of_stream(name)


def _work_in_database(name: str, seqs: list[int]) -> tuple[set[int], Iterator[KeptLetter]]:
    from telstate.journals import _queries as queries  # noqa: PLC0415 - most logs are files of JSON Lines, and it takes a while
    from telstate.journals._sqlite import query  # noqa: PLC0415

    def letters() -> Iterator[KeptLetter]:
        last = 0
        while found := query(name, partial(queries.dead_letters, after=last)):
            yield from found
            last = found[-1].number

    return query(name, partial(queries.finished, seqs=seqs)), letters()
