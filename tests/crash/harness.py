"""Kills the child again and again, lets it finish, and compares what it promised with what it kept."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import anyio
from pydantic_core import to_jsonable_python

from telstate import Outcome, Replay, Session, State
from telstate.events._dialects.journal import header_line, unwrap, wrap
from telstate.journals._pruning import pruned_below
from telstate.journals._sqlite import archive_end, query
from telstate.routing._clock import SystemClock
from telstate.routing._handlers import HandlerTable
from telstate.routing._ports import KeptLetter, Record
from tests.crash.child import ARCHIVE, FEEDERS, SETTINGS, digest, is_to_fail, journal_in, lines_of, router_of
from tests.crash.receiver import SECRET, Receiver
from tests.json_values import differences

__all__ = ["Report", "check", "torment"]

ROOT = Path(__file__).parents[2]
_KILLS_OF_RECEIVER = 0.5
"""How often the receiver is killed, for each kill of the child."""
_DURING_START = 0.2
"""The share of kills during the start, when the child recovers."""
_LIVES, _LIVES_PRUNING = 0.5, 2.5
"""Seconds that a child lives at most: sessions must leave memory before it can prune."""
_TROUBLE = (
    "checkpoint.",
    "deliveries.",
    "journal.",
    "dead_letter.",
    "dead_letters.",
    "filter.",
    "dispatcher.left_unfinished",
)
"""Prefixes of log lines that no kill may cause."""


@dataclass
class Report:
    """The result of a run."""

    kills: int
    facts: dict[str, int] = field(default_factory=dict)
    """How much was checked."""
    broken: list[str] = field(default_factory=list)
    """The promises that did not hold, one sentence each."""

    def expect_none(self, promise: str, violations: Iterable[object]) -> None:
        """Note the violations of a promise, if there are any."""
        found = list(violations)
        if found:
            self.broken.append(f"{promise}: {len(found)} violations, such as {found[:3]}")


def torment(
    folder: Path,
    kills: int,
    seed: int,
    progress: Callable[[int], None] = lambda _: None,
    *,
    prunes: bool = False,
    receiver: Receiver | None = None,
) -> Report:
    """Kill the child so many times, let it finish, and check everything.

    Args:
        folder: an empty one.
        kills: how many times.
        seed: decides what is sent and when the child is killed; not how far it is then.
        progress: called after each kill with their number.
        prunes: let the journal move events to an archive meanwhile.
        receiver: is told about every call, and killed at random too.
    """
    rng, more = Random(seed), ["--prune"] if prunes else []
    more += [] if receiver is None else ["--notify", receiver.url]
    report = Report(kills)
    for number in range(kills):
        if receiver is not None and rng.random() < _KILLS_OF_RECEIVER:
            receiver.kill()
        with _child(folder, seed, *more, "--backend", rng.choice(["asyncio", "trio"])) as child:
            if rng.random() < _DURING_START:
                time.sleep(rng.uniform(0.3, 1.0))
            else:
                assert child.stdout is not None
                child.stdout.readline()  # "ready", or nothing if it died
                time.sleep(rng.uniform(0.05, _LIVES_PRUNING if prunes else _LIVES))
            if receiver is not None:
                receiver.keep_alive()  # it may be away while the child runs, or both are gone at once
            died = child.poll()
            child.kill()
        if died is not None:
            report.broken.append(f"after {number} kills it could not start: {_end_of_log(folder)}")
            return report
        progress(number + 1)
    with _child(folder, seed, *more, "--finish") as child:
        code = child.wait(120)
    if code:
        report.broken.append(f"it could not finish: {_end_of_log(folder)}")
    else:
        check(folder, report, prunes=prunes)
        if receiver is not None:
            check_messages(folder, report, receiver, prunes=prunes)
    return report


def _child(folder: Path, seed: int, *more: str) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with (folder / "log.jsonl").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.crash.child", str(folder), str(seed), *more],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path, "TELSTATE_NOTIFY_SECRET": SECRET},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )


def _end_of_log(folder: Path) -> str:
    return (folder / "log.jsonl").read_bytes()[-2000:].decode("utf-8", "replace")


class _Kept(NamedTuple):
    """Everything in the journal and its archive."""

    id: str
    archived: list[Record]
    records: list[Record]
    letters: list[KeptLetter]
    finished: set[int]
    pruned_below: int


async def _read(folder: Path, *, prunes: bool) -> _Kept:
    journal = journal_in(folder, prunes=prunes)
    await journal.open(SETTINGS.model_dump())
    try:
        records = [record async for record in journal.read()]
        letters = [kept async for kept in journal.dead_letters()]
        retirements = await journal.finished([-record.seq for record in records])
        finished = retirements | {record.seq for record in records if record.done}
        below = query(folder / "calls.db", pruned_below)
        return _Kept(journal.id, _archived(folder), records, letters, finished, below)
    finally:
        await journal.aclose()


def _archived(folder: Path) -> list[Record]:
    """Return what the journal knows to be in its archive: the next run cuts off what a kill has left after it."""
    end = query(folder / "calls.db", archive_end)
    if end is None:
        return []
    text = gzip.decompress((folder / ARCHIVE).read_bytes()[: end.length])
    found = filter(None, map(unwrap, text.splitlines()))
    return [Record(one.seq, one.at or 0.0, one.dialect, one.payload, True) for one in found]


class _Fold:
    """What should have happened: all events folded again, and the handlers that are due, as (number, handler)."""

    told: list[tuple[str, str, int]]
    """The messages that are due: the call, the kind, and the number of the work."""

    def __init__(self, kept: _Kept, now: float) -> None:
        replay, handlers = Replay(), HandlerTable(router_of(lambda *_: None).walk(), None, SystemClock())
        self.due: set[tuple[int, str]] = set()
        self.retired: set[int] = set()
        self.told = []
        seq = 0
        replay.feed(header_line(kept.id, SETTINGS.model_dump()))
        for record in (*kept.archived, *kept.records):
            outcome = replay.feed(wrap(record.seq, record.at, record.dialect, record.payload))
            if outcome is not None:
                seq += 1
                self.due |= {(seq, _short(handler.name)) for handler in handlers.find(outcome)}
                self._retire(outcome.departed)
                self._tell(outcome, record.seq)
        self._retire(replay.engine.advance(now))
        self.engine = to_jsonable_python(replay.engine.snapshot())

    def _tell(self, outcome: Outcome, seq: int) -> None:
        if (session := outcome.session) is not None:
            answered = any(move.target is State.ANSWERED for move in outcome.moves)
            kinds = {"call.started": outcome.opened, "call.answered": answered, "call.ended": outcome.ended}
            self.told += [(session.session_id, kind, seq) for kind, holds in kinds.items() if holds]
        if outcome.lost_caller is not None:
            self.told.append((outcome.lost_caller.call_id, "caller.lost", seq))

    def _retire(self, departed: Iterable[object]) -> None:
        gone = {-session.opened for session in departed if isinstance(session, Session)}
        self.told += [(one.session_id, "call.retired", one.opened) for one in departed if isinstance(one, Session)]
        self.retired |= gone
        self.due |= {(number, "retired") for number in gone}


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def check(folder: Path, report: Report, *, prunes: bool = False) -> None:
    """Compare everything, and note in the report what does not hold."""
    kept = anyio.run(partial(_read, folder, prunes=prunes))
    acks, runs, log = (lines_of(folder / name) for name in ("acks.jsonl", "runs.jsonl", "log.jsonl"))
    end = json.loads((folder / "end.json").read_text())
    fold = _Fold(kept, end["now"])
    report.facts = {
        "events": len(kept.archived) + len(kept.records),
        "archived": len(kept.archived),
        "acknowledged": len(acks),
        "handler runs": len(runs),
        "run again": sum(run["again"] is True for run in runs),
        "retired": len(fold.retired),
        "dead letters": len(kept.letters),
    }
    _check_events(kept, acks, report)
    report.expect_none("the state at the end is the fold of the journal", differences(end["engine"], fold.engine))
    _check_runs(kept, fold, runs, report)
    _check_marks(kept, fold, report)
    report.expect_none(
        "a kill causes no errors in the log", [line for line in log if line.get("event", "").startswith(_TROUBLE)]
    )


def check_messages(folder: Path, report: Report, receiver: Receiver, *, prunes: bool = False) -> None:
    """Compare what the receiver got, verified and kept with what it should have been told."""
    kept = anyio.run(partial(_read, folder, prunes=prunes))
    fold = _Fold(kept, json.loads((folder / "end.json").read_text())["now"])
    got = receiver.messages()
    ids = {message_id for message_id, _, _ in got}
    due = {f"msg_{kept.id}_{seq}_{kind.replace('.', '-')}": (call, kind) for call, kind, seq in fold.told}
    report.facts |= {"told": len(due), "told again": receiver.repeats()}
    report.expect_none("everybody is told", sorted(due.keys() - ids))
    report.expect_none("nothing else is told", sorted(ids - due.keys()))
    report.expect_none("every signature is valid", range(receiver.refused()))
    order: dict[str, list[str]] = {}
    for call, kind, _ in fold.told:
        order.setdefault(call, []).append(kind)
    told: dict[str, list[str]] = {}
    for _, kind, body in got:
        record = next(iter(json.loads(body)["data"].values()))
        told.setdefault(record.get("session_id") or record["call_id"], []).append(kind)
    report.expect_none(
        "the messages of a call come in order",
        [(call, kinds) for call, kinds in told.items() if order.get(call) != kinds],
    )


def _check_events(kept: _Kept, acks: list[dict[str, Any]], report: Report) -> None:
    """Acknowledged events are kept once, as they were sent. At each kill one more event of each feeder may be kept."""
    records = [*kept.archived, *kept.records]
    payloads = {f"{kept.id}:{record.seq}": digest(record.payload) for record in records}
    report.expect_none("what is acknowledged is kept", [ack for ack in acks if payloads.get(ack["id"]) != ack["sent"]])
    report.expect_none("numbers have no gap", [n for n, record in enumerate(records, 1) if record.seq != n])
    report.expect_none("an id is given once", [key for key, n in Counter(ack["id"] for ack in acks).items() if n > 1])
    sent = Counter(ack["sent"] for ack in acks)
    ours = [event for event in payloads.values() if event in sent]
    if len(ours) - len(acks) > FEEDERS * report.kills:
        report.broken.append(
            f"{len(ours)} events are kept, but only {len(acks)} were acknowledged, and a few more at each kill"
        )


def _check_runs(kept: _Kept, fold: _Fold, runs: list[dict[str, Any]], report: Report) -> None:
    """Every handler that is due has finished, no other has, and a second run is marked as redelivered."""
    ran = [(_number(kept.id, run["id"]), run["handler"]) for run in runs]
    report.expect_none("handlers that are due run", sorted(fold.due - set(ran)))
    report.expect_none("no other handler runs", sorted(set(ran) - fold.due))
    seen: set[tuple[int, str]] = set()
    unmarked = []
    for one, run in zip(ran, runs, strict=True):
        if one in seen and run["again"] is False:
            unmarked.append(one)
        seen.add(one)
    report.expect_none("a second run is marked as redelivered", unmarked)


def _number(journal: str, event_id: str) -> int:
    """The number of an event or a retirement; 0, which none has, if it belongs to another journal."""
    name, _, number = event_id.partition(":")
    return int(number) if name == journal else 0


def _check_marks(kept: _Kept, fold: _Fold, report: Report) -> None:
    """When everything is drained, all work is marked, and every handler that raised is a dead letter."""
    first = kept.pruned_below
    numbers = {number for number in {record.seq for record in kept.records} | fold.retired if abs(number) >= first}
    finished = {number for number in kept.finished if abs(number) >= first}  # the rest counts as finished
    report.expect_none("finished work is marked", sorted(numbers - finished))
    report.expect_none("nothing else is marked", sorted(finished - numbers))
    letters = {(letter.seq, _short(str(letter.handler))) for _, letter, _ in kept.letters}
    failing = {(number, handler) for number, handler in fold.due if is_to_fail(f"{kept.id}:{number}", handler)}
    report.expect_none("a handler that raised is a dead letter", sorted(failing - letters))
    report.expect_none("nothing else is a dead letter", sorted(letters - failing))
