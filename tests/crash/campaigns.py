"""A campaign by a process that is killed again and again, on a SQLite journal, against a fake of Daily in another process over HTTP.

    python -m tests.crash.campaigns [--numbers 200] [--kills 5] [--seeds 20] [--first 0] [--once] [--freezes]

With `--once` Daily gives an event up after three tries, so that what came while the process was down is lost; with `--freezes` the process
also stands still now and then. It says for each seed what was promised and did not hold, and figures of all. The calls are simulated, the kills are not.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Event, Thread
from typing import Any, Literal

from telstate.testing import FakeDaily, PhoneLine, refusals
from telstate.testing._rooms import Leg
from tests.crash.campaign_child import AT_ONCE, PLAN, ROOM, SECRET
from tests.ports import free_port

__all__ = ["Torment", "torment"]

ROOT = Path(__file__).parents[2]
PATIENT, IMPATIENT = (0.1, 0.3, 1.0, *[1.5] * 60), (0.1, 0.2)
"""Pauses between the tries of an event."""
FATES: tuple[dict[str, Any], ...] = (
    *({"answers": at, "talks": talks} for at in (0.1, 0.3, 0.9) for talks in (0.3, 1.5)),
    *({"busy": True},) * 2,
    *({"answers": None},) * 2,
    {"fails": 0.2},
    {"gives_up": 0.6},
    {"refuses": refusals.TEMPORARILY_NOT_AVAILABLE},
)
LOSSES: tuple[dict[str, Any], ...] = (
    *({},) * 12,
    {"answer_after": 0.8},
    {"answer_lost": True},
    {"start_lost": True},
    {"loses": frozenset({"dialout.connected"})},
    {"loses": frozenset({"dialout.stopped"})},
    {"delays": {"dialout.answered": 0.5}},
    {"twice": frozenset({"dialout.answered", "dialout.stopped"})},
)
Said = dict[str, list[dict[str, Any]]]


@dataclass
class Torment:
    """What came of one seed.

    Attributes:
        broken: what was promised and did not hold.
        outcomes: how many numbers came to which.
        facts: what else was counted.
        seconds: how long it took.
    """

    broken: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    facts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def torment(folder: Path, seed: int, numbers: int, kills: int, *, once: bool = False, freezes: bool = False) -> Torment:
    """Run a campaign of so many numbers, kill it so often, and let it end; then run it again."""
    random, began, found = Random(seed), time.monotonic(), Torment()
    people = [f"+1202555{place:04}" for place in range(numbers)]
    (folder / "people.csv").write_text("number\n" + "\n".join(people) + "\n")
    presence: Literal["on", "none"] = random.choice(["on", "on", "none"])
    port = free_port()
    said: list[Said] = []
    pauses = IMPATIENT if once else PATIENT
    with FakeDaily(f"http://127.0.0.1:{port}/webhooks", SECRET, pauses=pauses, presence=presence) as daily:
        daily.host(ROOM, max_sip_pstn_sessions_per_room=1000)
        for number in people:
            daily.lines[number] = [PhoneLine(**random.choice(FATES), **random.choice(LOSSES)) for _ in range(4)]
        arguments = [str(folder / "calls.db"), str(port), daily.url, str(folder / "people.csv")]
        frozen = random if freezes else None
        for _ in range(kills):
            said.append(killed(arguments, random.uniform(0.2, 3.0), frozen))
            time.sleep(random.choice([0.0, 1.5]))
        said += [ended(arguments, frozen), ended(arguments)]
        check(found, daily, people, said)
    found.facts["kills"] = kills
    found.facts["without presence"] = presence == "none"
    found.seconds = time.monotonic() - began
    return found


def started(arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start the process."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-m", "tests.crash.campaign_child", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


@contextmanager
def freezing(process: subprocess.Popen[bytes], random: Random | None) -> Iterator[None]:
    """Let it stand still at random, for up to 1.8 s each time."""
    is_over, seed = Event(), None if random is None else random.random()

    def freeze(random: Random) -> None:
        while not is_over.wait(random.uniform(0.2, 1.5)):
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGSTOP)
                is_over.wait(random.uniform(0.1, 1.8))
                process.send_signal(signal.SIGCONT)

    freezer = Thread(target=freeze, args=[Random(seed)])
    if random is not None:
        freezer.start()
    try:
        yield
    finally:
        is_over.set()
        if random is not None:
            freezer.join()


def killed(arguments: list[str], seconds: float, frozen: Random | None = None) -> Said:
    """Run it for so long from its begin on, and kill it; return what it said."""
    with started(arguments) as process, freezing(process, frozen):
        assert process.stdout is not None
        assert process.stdout.readline() == b"{}\n"
        time.sleep(seconds)
        process.kill()
        return results(process.stdout.read())


def ended(arguments: list[str], frozen: Random | None = None) -> Said:
    """Run it to its end; return what it said."""
    with started(arguments) as process, freezing(process, frozen):
        return results(process.communicate(timeout=300)[0])


def results(said: bytes) -> Said:
    """What a process said, by number. The last line may have been cut."""
    found: Said = {}
    for line in said.splitlines():
        if line.startswith(b"{") and line.endswith(b"}") and line != b"{}":
            record = json.loads(line)
            found.setdefault(record["number"], []).append(record)
    return found


def check(found: Torment, daily: FakeDaily, people: list[str], said: list[Said]) -> None:
    """Compare what was said with what really happened."""
    last, again = said[-2], said[-1]
    requested = Counter(
        one.body.get("phoneNumber")
        for one in daily.seen
        if isinstance(one.body, dict) and one.path.endswith("/dialOut/start")
    )
    legs: dict[str, list[Leg]] = {}
    for leg in daily.sessions:
        legs.setdefault(leg.destination or "", []).append(leg)
    unsure = set()
    for number in people:
        promise = _Promises(found, number)
        one = last.get(number, [])
        promise("has exactly one result", len(one) == 1)
        if not one:
            continue
        result = one[0]
        is_unsure = any(attempt["outcome"] == "unknown" for attempt in result["attempts"])
        unsure |= {number} if is_unsure else set()
        promise("has the same result after a restart", again.get(number) == one)
        earlier = [each[number][0] for each in said[:-2] if number in each]
        promise("kept a result that was final before a kill", all(each == result for each in earlier))
        promise("has one call at a time", daily.most_at_once(number) <= 1)
        promise("has no more starts than planned", requested[number] <= result["starts"] <= PLAN.attempts)
        told = [leg for leg in legs.get(number, []) if leg.answered_at is not None]
        promise("is reached once", len(told) <= 1)
        is_left = any(leg.live for leg in legs.get(number, []))
        promise("has no call that goes on", is_unsure or result["outcome"] == "answered" or not is_left)
        found.outcomes[result["outcome"]] += 1
        found.facts["starts"] += result["starts"]
        found.facts["known before a kill"] += bool(earlier)
        found.facts["numbers"] += 1
    sure = [leg for number, some in legs.items() if number not in unsure for leg in some]
    most = max(
        (sum(each.started_at <= leg.started_at < (each.ended_at or 1e12) for each in sure) for leg in sure), default=0
    )
    found.facts["most at once"] = most
    if most > AT_ONCE:
        found.broken.append(f"{most} calls at once, of {AT_ONCE}")


class _Promises:
    """Notes what did not hold of a number."""

    def __init__(self, found: Torment, number: str) -> None:
        self._found = found
        self._number = number

    def __call__(self, promise: str, holds: bool) -> None:
        if not holds:
            self._found.broken.append(f"not every number {promise}: …{self._number[-4:]}")


def main() -> int:
    """Torment, and report; return 1 if a promise did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.campaigns", description=__doc__)
    parser.add_argument("--numbers", type=int, default=200)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--once", action="store_true", help="Daily gives up what it cannot deliver at once")
    parser.add_argument("--freezes", action="store_true", help="the process stands still now and then")
    options = parser.parse_args()
    how = {"once": options.once, "freezes": options.freezes}
    every = Torment()
    for seed in range(options.first, options.first + options.seeds):
        with tempfile.TemporaryDirectory(prefix="telstate-campaign-") as folder:
            one = torment(Path(folder), seed, options.numbers, options.kills, **how)
        every.outcomes += one.outcomes
        every.facts["most at once"] = max(every.facts["most at once"], one.facts.pop("most at once"))
        every.facts.update(one.facts)
        every.broken += one.broken
        verdict = "every promise held" if not one.broken else "BROKEN " + "; ".join(one.broken[:5])
        sys.stdout.write(f"seed {seed}: {one.seconds:.0f} s, {dict(one.outcomes)}: {verdict}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{dict(every.facts)} {dict(every.outcomes)}: {len(every.broken)} broken\n")
    return int(bool(every.broken))


if __name__ == "__main__":
    sys.exit(main())
