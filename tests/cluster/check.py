"""Compares what a storm's handlers did with what the stream says that they should have done."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import to_jsonable_python

from telstate import DeadlinePassed, Engine, Outcome, OutcomeKind, Session, Settings, SourceGap, parse
from telstate.journals.nats import NatsConnection, NatsJournal, Streams, find
from telstate.routing._checkpoint_codec import decode_checkpoint
from telstate.routing._clock import SystemClock
from telstate.routing._handlers import HandlerTable
from tests.cluster.fleet import Fault
from tests.cluster.worker import NAMES, router_of
from tests.json_values import differences

__all__ = ["Fold", "Report", "Run", "check", "fold_of", "runs_in"]

Work = tuple[int, str]
"""The number of an event or a retirement, and the handler."""


class Run(NamedTuple):
    """One run of a handler."""

    pid: int
    work: Work
    lane: str
    start: float
    end: float | None
    """None if it did not come to its end."""
    again: bool


@dataclass
class Report:
    """The result of a storm."""

    seed: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    """The promises that did not hold, one sentence each."""

    def expect_none(self, promise: str, violations: Iterable[object]) -> None:
        """Note the violations of a promise, if there are any."""
        found = list(violations)
        if found:
            self.broken.append(f"{promise}: {len(found)} violations, such as {found[:3]}")


def runs_in(folder: Path) -> list[Run]:
    """Read what all processes wrote down, in order of the start."""
    found: list[Run] = []
    for path in folder.glob("runs-*.jsonl"):
        pid, open_runs = int(path.stem.partition("-")[2]), dict[Work, list[Any]]()
        for line in path.read_bytes().splitlines():
            try:
                what, number, handler, lane, at, again = json.loads(line)
            except ValueError:
                continue  # torn by a kill
            if what == "marked":
                continue
            if what == "start":
                if (number, handler) in open_runs:  # it was cut off, and runs in this process once more
                    found.append(Run(pid, (number, handler), lane, *open_runs.pop((number, handler))))
                open_runs[number, handler] = [at, None, again]
            else:
                begun = open_runs.pop((number, handler))
                found.append(Run(pid, (number, handler), lane, begun[0], at, begun[2]))
        found += [Run(pid, work, "?", *begun) for work, begun in open_runs.items()]
    return sorted(found, key=lambda run: run.start)


def marks_in(folder: Path) -> dict[int, float]:
    """Read when the server first answered that work is marked, by its number."""
    found: dict[int, float] = {}
    for path in folder.glob("runs-*.jsonl"):
        for line in path.read_bytes().splitlines():
            if line.startswith(b'["marked"'):
                try:
                    _, number, _, _, at, _ = json.loads(line)
                except ValueError:
                    continue  # torn by a kill
                found[number] = min(at, found.get(number, at))
    return found


@dataclass
class Fold:
    """What the stream says."""

    due: set[Work] = field(default_factory=set)
    """All that should have run, without retirements."""
    retired: set[Work] = field(default_factory=set)
    engines: list[Engine] = field(default_factory=list)
    deadlines: Counter[tuple[str | None, str]] = field(default_factory=Counter)
    """How often handlers should have been told of a deadline of a session."""
    gaps: int = 0
    records: int = 0
    sessions: set[str] = field(default_factory=set)
    payloads: Counter[bytes] = field(default_factory=Counter)


async def fold_of(connection: NatsConnection, streams: Streams, times: list[float] | None = None) -> Fold:
    """Fold every partition of the stream.

    Args:
        connection: open.
        streams: theirs.
        times: for each partition how far time has passed; without it, to its last event.
    """
    fold = Fold()
    handlers = HandlerTable(router_of(None).walk(), None, SystemClock())
    for partition in range(streams.partitions):
        journal = NatsJournal(connection, streams, partition)
        head = await connection.last(NAMES.state, NAMES.head(partition))
        settings = Settings() if head is None else Settings.model_validate(json.loads(head.data)["settings"])
        engine = Engine(settings)
        async with aclosing(journal.read()) as records:
            async for record in records:
                event = parse(record.payload, record.dialect)
                outcome = engine.receive(event, record.at, record.seq, record.dialect)
                outcome.seq = record.seq
                _note(fold, outcome, handlers, record.payload)
        if times is not None:
            _note_retired(fold, engine.advance(times[partition]))
        fold.engines.append(engine)
    return fold


def _note(fold: Fold, outcome: Outcome, handlers: HandlerTable, payload: bytes) -> None:
    fold.records += 1
    fold.payloads[payload] += 1
    fold.due |= {(outcome.seq, handler.name.rpartition(".")[2]) for handler in handlers.find(outcome)}
    fold.gaps += type(outcome.event) is SourceGap
    if outcome.session is not None:
        fold.sessions.add(outcome.session.session_id)
    if type(outcome.event) is DeadlinePassed and outcome.kind in {OutcomeKind.MOVED, OutcomeKind.NOTED}:
        fold.deadlines[outcome.event.session_id, str(outcome.event.deadline)] += 1
    _note_retired(fold, outcome.departed)


def _note_retired(fold: Fold, departed: Iterable[object]) -> None:
    fold.retired |= {(-gone.opened, "retired") for gone in departed if isinstance(gone, Session)}


async def check(url: str | list[str], folder: Path, sent: Counter[bytes], faults: list[Fault], report: Report) -> None:
    """Compare everything, and note in the report what does not hold. All workers have ended in order."""
    async with NatsConnection(url) as connection:
        streams = await find(connection, NAMES)
        states = [await _checkpoint(connection, streams, partition) for partition in range(streams.partitions)]
        fold = await fold_of(connection, streams, [float(state["now"] or 0.0) for state in states])
    runs = runs_in(folder)
    report.expect_none("what is acknowledged is in the stream", list((sent - fold.payloads).elements()))
    for partition, (state, engine) in enumerate(zip(states, fold.engines, strict=True)):
        promise = f"the state of partition {partition} is the fold of the stream"
        report.expect_none(promise, differences(state["engine"], to_jsonable_python(engine.snapshot())))
    finished = {run.work for run in runs if run.end is not None}
    report.expect_none("every handler that is due has finished", sorted((fold.due | fold.retired) - finished))
    # A checkpoint is as of its last event, and more have retired since.
    for engine in fold.engines:
        _note_retired(fold, engine.advance(time.time()))
    report.expect_none("no other handler ran", sorted(finished - fold.due - fold.retired))
    report.expect_none("no gap is said", [fold.gaps] if fold.gaps else [])
    report.expect_none("a deadline is told once", [key for key, count in fold.deadlines.items() if count > 1])
    report.expect_none("a session's events are handled in order", _out_of_order(runs))
    overlaps = list(_overlaps(runs, faults))
    report.expect_none("no handlers of a session overlap", [one for one, frozen in overlaps if not frozen])
    marks = marks_in(folder)
    extra = list(_extra(runs, marks, faults))
    report.expect_none("what is marked does not run again", [run for run, reason in extra if not reason])
    report.facts |= {
        "events": fold.records,
        "sessions": len(fold.sessions),
        "runs": len(runs),
        "retired": len(fold.retired),
        "deadlines": sum(fold.deadlines.values()),
        "extra runs": len(extra),
        "ms until marked": _until_marked(runs, marks),
        "overlaps inside a freeze": sum(frozen for _, frozen in overlaps),
        "faults": dict(Counter(fault.kind for fault in faults)),
    }


async def _checkpoint(connection: NatsConnection, streams: Streams, partition: int) -> dict[str, Any]:
    """The state that the last owner of a partition has saved, with the time of its engine."""
    kept = await NatsJournal(connection, streams, partition).load("engine")
    if kept is None:
        return {"engine": to_jsonable_python(Engine(Settings()).snapshot()), "now": 0.0}
    engine = decode_checkpoint(kept[0])["engine"]
    return {"engine": engine, "now": Engine.restore(engine).now}


def _out_of_order(runs: list[Run]) -> Iterator[tuple[Run, Run]]:
    """The runs that began for the first time after a later event's did."""
    seen: set[Work] = set()
    latest: dict[str, Run] = {}
    for run in runs:
        number = run.work[0]
        if number < 0 or run.work in seen or run.lane in {"-", "?"}:
            continue
        seen.add(run.work)
        last = latest.get(run.lane)
        if last is not None and last.work[0] > number:
            yield last, run
        else:
            latest[run.lane] = run


def _overlaps(runs: list[Run], faults: list[Fault]) -> Iterator[tuple[tuple[Run, Run], bool]]:
    """Runs of one session at the same time, and whether one of them was inside a frozen worker then."""
    deaths = {fault.pid: fault.begin for fault in faults if fault.kind == "kill"}
    lanes: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.lane not in {"-", "?"}:
            lanes[run.lane].append(run)
    for several in lanes.values():
        for place, run in enumerate(several):
            end = run.end if run.end is not None else deaths.get(run.pid, run.start)
            for other in several[place + 1 :]:
                if other.start >= end:
                    break
                yield (
                    (run, other),
                    _was_frozen(run, end, faults) or _was_frozen(other, other.end or other.start, faults),
                )


def _was_frozen(run: Run, end: float, faults: list[Fault]) -> bool:
    return any(
        fault.kind == "freeze" and fault.pid == run.pid and run.start <= fault.end and fault.begin <= end
        for fault in faults
    )


def _until_marked(runs: list[Run], marks: dict[int, float]) -> str:
    """The time from the end of a handler that does nothing to the answer that its work is marked: in the middle and at the 99th percentile."""
    retired = [run for run in runs if run.work[1] == "retired" and run.end is not None and run.work[0] in marks]
    waits = sorted(1000 * (marks[run.work[0]] - (run.end or 0.0)) for run in retired)
    return "-" if not waits else f"{waits[len(waits) // 2]:.0f} and {waits[int(0.99 * (len(waits) - 1))]:.0f}"


def _extra(runs: list[Run], marks: dict[int, float], faults: list[Fault]) -> Iterator[tuple[Run, str]]:
    """Every run after the first of its work, and what explains it; an empty string if nothing does.

    The handlers of one event run again together: none of them is marked before all have finished.
    """
    seen: set[Work] = set()
    earlier: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        number = run.work[0]
        if run.work in seen:
            if marks.get(number, run.start) >= run.start:
                yield run, "it was not marked yet"
            else:  # a frozen owner marks what it finished after another one has taken over
                frozen = any(_was_frozen(one, marks[number], faults) for one in earlier[number])
                yield run, "it was marked after a freeze" if frozen else ""
        seen.add(run.work)
        earlier[number].append(run)
