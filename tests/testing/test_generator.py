"""Simulated days: the same seed gives the same day, with the promised contents."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from examples import make_logs
from telstate import Dialect, Engine, OutcomeKind, parse
from telstate.testing import SCRIPTS, Noise, Sent, simulate

LOGS = Path(__file__).parents[2] / "examples" / "logs"


def lines(sent: list[Sent]) -> list[bytes]:
    """Return the events as lines of a log."""
    return [one.line() for one in sent]


def test_the_same_seed_gives_the_same_day() -> None:
    """Another seed gives another one."""
    noise = Noise.of_a_bad_day()
    day = lines(list(simulate(5, calls=40, noise=noise)))
    assert day == lines(list(simulate(5, calls=40, noise=noise)))
    assert day != lines(list(simulate(6, calls=40, noise=noise)))


@pytest.mark.parametrize("dialect", Dialect)
def test_events_parse_in_their_dialect_and_calls_are_interleaved(dialect: Dialect) -> None:
    """In order of time, without anomalies."""
    sent = list(simulate(1, calls=120, dialects=[dialect], span=600))
    for one in sent:
        event = parse(one.payload, dialect)
        assert not event.anomalies
        assert event.name
        assert event.session_id in (None, one.call.session_id)
    assert all(before.at <= after.at for before, after in pairwise(sent))
    changes = sum(before.call is not after.call for before, after in pairwise(sent))
    assert changes > len(sent) / 3
    assert len({one.call.room for one in sent}) == 12


def test_every_script_is_played() -> None:
    """Both directions, unanswered, busy, errors, transfers."""
    sent = list(simulate(2, calls=400))
    assert {one.call.cause for one in sent} == {"completed", "unanswered", "failed", "transferred"}
    assert {one.call.direction for one in sent} == {"dialin", "dialout"}
    assert len(SCRIPTS) == 8


@pytest.mark.long
def test_noise_has_its_shares() -> None:
    """Within chance."""
    quiet = list(simulate(3, calls=800))
    count = len(quiet)
    lost = list(simulate(3, calls=800, noise=Noise(lost=0.3)))
    assert 0.6 * count < len(lost) < 0.8 * count
    twice = list(simulate(3, calls=800, noise=Noise(repeated=0.2)))
    assert 1.15 * count < len(twice) < 1.25 * count
    assert lines(quiet) == lines(list(simulate(3, calls=800, noise=Noise())))
    engine = Engine()
    for one in simulate(3, calls=800, dialects=[Dialect.WEBHOOK], noise=Noise(swapped=0.1, delayed=0.1, repeated=0.1)):
        engine.receive(parse(one.payload), one.at)
    assert engine.counts[OutcomeKind.LATE] > 50
    assert engine.counts[OutcomeKind.DUPLICATE] > 100


def test_wrong_arguments_raise() -> None:
    """A misspelled dialect must not pass as another."""
    (one, *_) = simulate(1, calls=1, dialects=["webhook"])
    assert "type" in one.payload or "To" in one.payload
    with pytest.raises(ValueError, match="pipecat"):
        list(simulate(1, calls=1, dialects=["pipecat"]))
    with pytest.raises(ValueError, match="lost is a share between 0 and 1, not 5"):
        Noise(lost=5)


def test_some_calls_are_reported_by_two_observers() -> None:
    """Each in its own dialect."""
    dialects_of: dict[str, set[str]] = {}
    dialects = [Dialect.DAILY_JS, Dialect.WEBHOOK]
    for one in simulate(4, calls=200, dialects=dialects, twice=0.5):
        dialects_of.setdefault(one.call.session_id, set()).add("type" if "type" in one.payload else "action")
    assert 0.3 < Counter(len(kinds) for kinds in dialects_of.values())[2] / len(dialects_of) < 0.7


def test_the_committed_logs_are_reproducible(tmp_path: Path) -> None:
    """`python examples/make_logs.py` makes them."""
    make_logs.make(tmp_path)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.jsonl")}
    kept = {path.relative_to(LOGS): path.read_bytes() for path in LOGS.rglob("*.jsonl")}
    assert made == kept, "run: python examples/make_logs.py"
    assert len(made) == 13


def test_documented_calls_have_unique_ids() -> None:
    """No two logs share a session id or a SIP Call-ID."""
    owner: dict[str, str] = {}
    for path in sorted((LOGS / "daily-docs").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            event = parse(json.loads(line))
            for key in filter(None, (event.session_id, event.sip_call_id)):
                assert owner.setdefault(key, path.name) == path.name
