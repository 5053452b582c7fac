"""Lines of a `FakeDaily` that answer as telephones do: voicemail, trunks that answer for people, chance, hours. SIMULATED.

    daily.lines["+12025550101"] = lines.voicemail(rings=4)
    daily.lines["+12025550102"] = lines.flaky([(0.3, PhoneLine(busy=True)), (0.7, PhoneLine())], seed=7)

No event says who or what has answered; nor does it at Daily. A program's bot hears it, and a test asks
`FakeDaily.simulated_answerer`. Results that are given for each dial need no script: `[PhoneLine(busy=True), PhoneLine()]`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from datetime import datetime, time
from itertools import accumulate
from random import Random
from time import time as unix_time
from zoneinfo import ZoneInfo

from telstate.testing._phone_lines import Dial, LinePlan, LineScript, PhoneLine, check_plan, line_at

__all__ = ["flaky", "local_hours", "trunk", "voicemail"]

_RING = 6.0
"""Seconds from ring to ring in North America: 2 of tone, 4 of silence (ITU-T E.180, supplement 2)."""
_ACCEPTED = 0.05
_NIGHT = PhoneLine(answers=None)


def voicemail(*, rings: int = 4, ring: float = _RING, records: float | None = 60.0) -> PhoneLine:
    """A line that nobody answers, and whose voicemail does: for Daily it is answered.

    Args:
        rings: how often it rings before.
        ring: seconds from ring to ring; small numbers make tests fast.
        records: seconds from the answer until the voicemail hangs up; None: never.

    Raises:
        ValueError: if a number is below 0.
    """
    return PhoneLine(answers=rings * ring, talks=records, answered_by="voicemail")


def trunk(*, person: float | None = None, gives_up: float = 30.0, talks: float | None = None) -> PhoneLine:
    """A line behind a trunk that answers at once for its carrier, while the phone behind it rings.

    A Twilio SIP domain does so unless its `<Dial>` has `answerOnBridge="true"` (pipecat-examples, pull request 105).

    Args:
        person: seconds from the trunk's answer until a person picks up; None: nobody does.
        gives_up: seconds from the trunk's answer until it hangs up, if nobody has picked up by then.
        talks: seconds from the person's answer until they hang up; None: until the call is stopped.

    Raises:
        ValueError: if a number is below 0.
    """
    if person is None or person > gives_up:
        return PhoneLine(answers=_ACCEPTED, answered_by="trunk", talks=gives_up)
    ends = None if talks is None else person + talks
    return PhoneLine(answers=_ACCEPTED, answered_by="trunk", put_through=person, talks=ends)


def flaky(shares: Sequence[tuple[float, PhoneLine]], *, seed: int = 0) -> LineScript:
    """A line on which each dial meets one of several, by chance.

    The same seed gives each dial of each number the same line, whatever else is dialled, and in whichever order.

    Args:
        shares: how often each line is met, in proportion to the others.
        seed: of the random numbers.

    Raises:
        ValueError: if a share is below 0, or none is above it.
        TypeError: if there is something else than a `PhoneLine`.
    """
    weights = [weight for weight, _ in shares]
    if not weights or min(weights) < 0 or not sum(weights) > 0:
        raise ValueError(f"shares are numbers from 0 on, and one is above it, not {weights}")
    each = [line for _, line in shares]
    check_plan("flaky() takes", each)
    sums = list(accumulate(weights))

    def script(dial: Dial) -> PhoneLine:
        drawn = Random(f"{seed} {dial.destination} {dial.number}").random() * sums[-1]  # noqa: S311 - a simulation
        return each[bisect_right(sums, drawn)]

    return script


def local_hours(
    zone: str,
    *,
    opens: time = time(9),
    closes: time = time(21),
    day: LinePlan | None = None,
    night: LinePlan = _NIGHT,
    clock: Callable[[], float] = unix_time,
) -> LineScript:
    """A line that does one thing in its local daytime, and another at night.

    Args:
        zone: its time zone, such as `America/New_York`.
        opens: when its day begins there.
        closes: when it ends; before `opens`, it ends on the next day.
        day: what it does by day; by default it answers.
        night: what it does at night; by default it rings, and nobody answers.
        clock: returns Unix seconds: `FakeClock().now` for the clock of a test.

    Raises:
        ValueError: if there is no such time zone on this machine.
        TypeError: if `day` or `night` is no line.
    """
    try:
        where = ZoneInfo(zone)
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(
            f"{zone!r} is not a time zone of this machine: use a name such as America/New_York; without any zones here, pip install tzdata"
        ) from error
    by_day = PhoneLine() if day is None else day
    for what, plan in (("day= takes", by_day), ("night= takes", night)):
        check_plan(what, plan)

    def script(dial: Dial) -> PhoneLine:
        now = datetime.fromtimestamp(clock(), where).time()
        is_day = opens <= now < closes if opens <= closes else not closes <= now < opens
        return line_at(by_day if is_day else night, dial)

    return script
