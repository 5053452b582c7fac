"""Kills the child again and again, lets it finish, and holds what it promised against what it kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import anyio
from pydantic_core import to_jsonable_python

from telstate import Replay, Session
from telstate.journals._sqlite import lines as lines_of_database
from telstate.routing._plan import Plan
from telstate.routing._ports import KeptLetter, Record
from tests.crash.child import FEEDERS, SETTINGS, digest, is_to_fail, journal_in, lines_of, router_of

__all__ = ["Report", "check", "torment"]

ROOT = Path(__file__).parents[2]
_DURING_START = 0.2
"""The share of kills that come while the child starts, and so while it recovers."""
_TROUBLE = ("checkpoint.", "journal.", "letter.", "letters.", "filter.", "dispatcher.left_unfinished")
"""Beginnings of log lines that no kill may cause."""


@dataclass
class Report:
    """What came of a run."""

    kind: str
    kills: int
    facts: dict[str, int] = field(default_factory=dict)
    """How much there was to look at."""
    broken: list[str] = field(default_factory=list)
    """The promises that did not hold, a sentence each."""

    def hold(self, promise: str, against: Iterable[object]) -> None:
        """Note what speaks against a promise, if anything does."""
        found = list(against)
        if found:
            self.broken.append(f"{promise}: {len(found)} times not, such as {found[:3]}")


def torment(folder: Path, kind: str, kills: int, seed: int, progress: Callable[[int], None] = lambda _: None) -> Report:
    """Kill the child so many times, let it finish, and check everything.

    Args:
        folder: an empty one.
        kind: the journal: `jsonl` or `sqlite`.
        kills: how many times.
        seed: what is sent and when is killed follow from it; where the child is then does not.
        progress: told after each kill how many there were.
    """
    rng = Random(seed)
    report = Report(kind, kills)
    for number in range(kills):
        with _child(folder, kind, seed, "--backend", rng.choice(["asyncio", "trio"])) as child:
            if rng.random() < _DURING_START:
                time.sleep(rng.uniform(0.3, 1.0))
            else:
                assert child.stdout is not None
                child.stdout.readline()  # "ready"; nothing if it died
                time.sleep(rng.uniform(0.05, 0.5))
            died = child.poll()
            child.kill()
        if died is not None:
            report.broken.append(f"after {number} kills it could not go on: {_last_words(folder)}")
            return report
        progress(number + 1)
    with _child(folder, kind, seed, "--finish") as child:
        code = child.wait(120)
    if code:
        report.broken.append(f"it could not finish: {_last_words(folder)}")
    else:
        check(folder, report)
    return report


def _child(folder: Path, kind: str, seed: int, *more: str) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with (folder / "log.jsonl").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.crash.child", str(folder), kind, str(seed), *more],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )


def _last_words(folder: Path) -> str:
    return (folder / "log.jsonl").read_bytes()[-2000:].decode("utf-8", "replace")


class _Kept(NamedTuple):
    """All that the journal has."""

    id: str
    records: list[Record]
    letters: list[KeptLetter]
    finished: set[int]


async def _read(folder: Path, kind: str) -> _Kept:
    journal = journal_in(folder, kind)
    await journal.open(SETTINGS.model_dump())
    try:
        records = [record async for record in journal.read()]
        letters = [kept async for kept in journal.dead_letters()]
        retirements = await journal.finished([-record.seq for record in records])
        return _Kept(journal.id, records, letters, retirements | {record.seq for record in records if record.done})
    finally:
        await journal.aclose()


class _Fold:
    """What should have been: the whole journal folded anew, and what that calls for, as (number, handler)."""

    def __init__(self, folder: Path, kind: str, now: float) -> None:
        replay, plan = Replay(), Plan(router_of(lambda *_: None))
        self.due: set[tuple[int, str]] = set()
        self.retired: set[int] = set()
        self.unread: list[str] = []
        seq = 0
        for line in _lines(folder, kind):
            outcome = replay.feed(line)
            if outcome is not None:
                seq += 1
                calls = plan.calls_for(outcome, lambda call, error: self.unread.append(f"{call.name}: {error!r}"))
                self.due |= {(seq, _short(call.name)) for call in calls}
                self._retire(outcome.departed)
        self._retire(replay.engine.advance(now))
        self.engine = to_jsonable_python(replay.engine.snapshot())

    def _retire(self, departed: Iterable[object]) -> None:
        gone = {-session.opened for session in departed if isinstance(session, Session)}
        self.retired |= gone
        self.due |= {(number, "retired") for number in gone}


def _lines(folder: Path, kind: str) -> Iterator[bytes]:
    if kind == "jsonl":
        return iter((folder / "calls.jsonl").read_bytes().splitlines())
    return lines_of_database(folder / "calls.db")


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def check(folder: Path, report: Report) -> None:
    """Hold everything against everything, and note in the report what does not hold."""
    kept = anyio.run(_read, folder, report.kind)
    acks, runs, log = (lines_of(folder / name) for name in ("acks.jsonl", "runs.jsonl", "log.jsonl"))
    end = json.loads((folder / "end.json").read_text())
    fold = _Fold(folder, report.kind, end["now"])
    report.facts = {
        "events": len(kept.records),
        "acknowledged": len(acks),
        "handler runs": len(runs),
        "run again": sum(run["again"] is True for run in runs),
        "retired": len(fold.retired),
        "dead letters": len(kept.letters),
    }
    _check_events(kept, acks, report)
    report.hold("the state at the end is the fold of the journal", _differences(end["engine"], fold.engine))
    _check_runs(kept, fold, runs, report)
    _check_marks(kept, fold, report)
    report.hold("a kill causes no trouble", [line for line in log if line.get("event", "").startswith(_TROUBLE)])


def _check_events(kept: _Kept, acks: list[dict[str, Any]], report: Report) -> None:
    """What was acknowledged is kept, as it was sent, and once; of what was not, one event a feeder may be kept."""
    payloads = {f"{kept.id}:{record.seq}": digest(record.payload) for record in kept.records}
    report.hold("what is acknowledged is kept", [ack for ack in acks if payloads.get(ack["id"]) != ack["sent"]])
    report.hold("numbers rise one by one", [n for n, record in enumerate(kept.records, 1) if record.seq != n])
    report.hold("an id is given once", [key for key, n in Counter(ack["id"] for ack in acks).items() if n > 1])
    sent = Counter(ack["sent"] for ack in acks)
    ours = [event for event in payloads.values() if event in sent]
    if len(ours) - len(acks) > FEEDERS * report.kills:
        report.broken.append(f"{len(ours)} events are kept of {len(acks)} that were sent, and a few at each kill")


def _check_runs(kept: _Kept, fold: _Fold, runs: list[dict[str, Any]], report: Report) -> None:
    """Every handler that an event calls for has finished, no other has, and a second time it was told so."""
    ran = [(_number(kept.id, run["id"]), run["handler"]) for run in runs]
    report.hold("handlers that are called for run", sorted(fold.due - set(ran)))
    report.hold("no handler runs that is not called for", sorted(set(ran) - fold.due))
    seen: set[tuple[int, str]] = set()
    untold = []
    for one, run in zip(ran, runs, strict=True):
        if one in seen and run["again"] is False:
            untold.append(one)
        seen.add(one)
    report.hold("what runs again is told so", untold)


def _number(journal: str, event_id: str) -> int:
    """The number of an event or a retirement; 0, which none has, if it is of another journal."""
    name, _, number = event_id.partition(":")
    return int(number) if name == journal else 0


def _check_marks(kept: _Kept, fold: _Fold, report: Report) -> None:
    """Once all is drained, everything is marked, and what raised is a dead letter."""
    numbers = {record.seq for record in kept.records} | fold.retired
    report.hold("what is done is marked", sorted(numbers - kept.finished))
    report.hold("nothing else is marked", sorted(kept.finished - numbers))
    letters = {(letter.seq, _short(str(letter.handler))) for _, letter, _ in kept.letters}
    failing = {(number, handler) for number, handler in fold.due if is_to_fail(f"{kept.id}:{number}", handler)}
    report.hold("what raised is a dead letter", sorted(failing - letters))
    report.hold("nothing else is a dead letter", sorted(letters - failing))


def _differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Where two JSON values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from _differences(one.get(key), other.get(key), f"{path}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from _differences(left, right, f"{path}[{number}]")
    elif one != other:
        yield f"{path}: {str(one)[:200]} is not {str(other)[:200]}"
