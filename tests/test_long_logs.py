"""Long logs: memory does not grow with them, and calls whose end was lost end by a limit."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from telstate import Caller, Cause, Dialect, Engine, Session, Unmatched, parse
from telstate.testing import simulate
from tests.terminal import Watched, watch

pytestmark = pytest.mark.long
SIZES = {Dialect.WEBHOOK: (200_000, 1_000_000), Dialect.DAILY_JS: (100_000, 500_000)}
"""A short log and a long one. Webhooks are what services receive, so theirs is the longest."""


def write_log(path: Path, size: int, dialect: Dialect) -> None:
    """Write at least `size` simulated events: one busy hour, repeated with new ids and times.

    Simulating a million events would take longer than replaying them. The engine tells sessions apart only by ids and times.
    """
    template = [sent.line() for sent in simulate(1, calls=4000, dialects=[dialect], span=3600.0)]
    written = 0
    with path.open("wb") as file:
        for again in range(size):
            for line in template:
                line = line.replace(b'"event_ts":179', b'"event_ts":%d' % (179 + again)) if again else line  # noqa: PLW2901
                file.write(renamed(line, again))
            written += len(template)
            if written >= size:
                return


def renamed(line: bytes, again: int) -> bytes:
    """Give a line new ids: every UUID version 4 contains `-4`, and gets a number before it."""
    return line.replace(b"-4", b"-%03x4" % again).replace(b'"sipCallId":"', b'"sipCallId":"%d' % again)


def replay(log: Path) -> tuple[Watched, dict[str, int]]:
    """Replay on a terminal; return what was shown there, and the summary."""
    out = log.with_suffix(".out")
    seen = watch([sys.executable, "-m", "telstate", "replay", "--json", str(log)], out)
    assert seen.returncode == 0
    with out.open("rb") as lines:
        *_, last = lines
    return seen, json.loads(last)["summary"]


@pytest.mark.parametrize("dialect", SIZES)
def test_a_million_events(dialect: Dialect, tmp_path: Path) -> None:
    """With and without times in the log: memory peaks below 1.5 times that of a fifth of it, and the progress bar moves."""
    log, (few, many) = tmp_path / "log", SIZES[dialect]
    write_log(log, few, dialect)
    small, _ = replay(log)
    write_log(log, many, dialect)
    large, summary = replay(log)
    assert summary["received"] >= many
    assert summary["invalid"] == summary["unmatched"] == summary["duplicate"] == 0
    assert 0 < large.peak < 1.5 * small.peak, f"{small.peak} KiB for {few} events, {large.peak} KiB for {many}"
    assert b"lines" in large.shown
    assert large.updates > 20
    assert large.longest_pause < 5.0, "a bar that stands still moves no more until the end"


def test_every_call_ends_if_a_sixth_of_the_ends_are_lost() -> None:
    """A burst of ten thousand calls: each ends with its cause, and leaves nothing in memory."""
    engine = Engine()
    sent = list(simulate(7, calls=10_000, span=600.0, dialects=[Dialect.WEBHOOK]))
    ends = [
        one
        for one in sent
        if one.payload.get("type") in ("dialin.stopped", "dialout.stopped", "dialin.error", "dialout.error")
    ]
    lost = {id(one) for one in ends[::6]}
    departed: list[Session | Unmatched | Caller] = []
    known = set()
    for one in sent:
        if id(one) not in lost:
            outcome = engine.receive(parse(one.payload), one.at)
            departed += outcome.departed
            if outcome.session is not None:
                known.add(outcome.session.session_id)
    still = {session.session_id for session in engine.live()}
    assert 1200 < len(still) < 1700
    while (due := engine.next_deadline()) is not None:
        for limit in engine.passed(due):
            departed += engine.receive(limit, due).departed
        departed += engine.advance(due)
    sessions = [gone for gone in departed if isinstance(gone, Session)]
    assert {session.session_id for session in sessions} == known
    assert 9_800 < len(sessions) == len(known)  # a busy call has no event but its end
    assert all(session.ended for session in sessions)
    assert {session.cause for session in sessions if session.session_id in still} == {
        Cause.COMPLETED,  # the participant left
        Cause.EXPIRED,
        Cause.TRANSFERRED,
    }
    assert set(engine.sizes().values()) == {0}
