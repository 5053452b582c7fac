"""What a phone number does when it is dialled. SIMULATED: no call is made anywhere.

    daily.lines["+12025550101"] = PhoneLine(answers=0.2, talks=1.0)
    daily.lines["+12025550102"] = [PhoneLine(busy=True), PhoneLine(answers=0.1)]

Lines that are made by a rule (voicemail, trunks, chance, hours) are in `_line_scripts.py`.

Source of what can happen: docs.daily.co/reference/daily-js/events/telephony-events, docs.daily.co/reference/rest-api/rooms/dialout
and what users of Daily have published about failed calls.
"""

from __future__ import annotations

import math
import re
from collections import UserDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple, Self, TypeAlias, get_args

from telstate.control._webhooks import NEEDED
from telstate.testing._refusals import Refusal

__all__ = [
    "DIALIN_FAILED",
    "DIALOUT_FAILED",
    "Answerer",
    "Dial",
    "LinePlan",
    "LineScript",
    "PhoneLine",
    "PhoneLines",
    "check_plan",
    "line_at",
]

DIALOUT_FAILED = "DialOut failed with error: process error, Channel closed"
DIALIN_FAILED = "SDP negotiation failed"
"""The example in docs.daily.co/reference/daily-js/events/telephony-events."""
Answerer = Literal["person", "voicemail", "ivr", "trunk"]
"""Who or what answers a call. An `ivr` is a menu; a `trunk` is the caller's own carrier, which accepts the call before anybody picks up."""
_DESTINATION = re.compile(r"\+[1-9][0-9]{1,14}|sip:.+", re.DOTALL)


@dataclass(frozen=True)
class PhoneLine:
    """What happens when a number or a SIP URI is dialled once. All times are real seconds; None: it does not happen.

    A line that is `busy`, `gives_up` or `fails` is never answered, even with `answers`.

    Attributes:
        rings: from the dial to dialout.connected.
        answers: from the dial to dialout.answered. A voicemail answers too.
        answered_by: who or what answers. No event and no answer of Daily's says it: ask `FakeDaily.simulated_answerer`.
        put_through: from the answer until a person is on the line, where something else has answered; None: nobody comes.
            No event says that either.
        talks: from the answer until the called party hangs up; None: until the call is stopped.
        busy: the call stops 0.05 s after it rang: for busy and declined, Daily sends only a dialout.stopped.
        gives_up: from the dial to dialout.stopped, unanswered.
        fails: from the dial to dialout.error: the start was accepted, and the call fails later. Reports mention 5
            to 60 seconds. No stopped follows: nothing documents whether one does.
        error: the text of dialout.error, or of dialin.error and dialin.warning.
        warns: from the dial to a dialout.warning; the call goes on.
        keeps_caller: a caller who is transferred here stays in their room until the answer, as reports of failed transfers
            say: without an answer they talk on. By default they leave their room at once, as Daily's pages say.
        refuses: the start is refused: see `telstate.testing.refusals`.
        answer_after: seconds by which the HTTP answer to the start is delayed; the call is in progress meanwhile.
        answer_lost: the call is made, but the connection breaks before the HTTP answer is complete.
        start_lost: the connection breaks, and no call is made. For a request that hangs, use `FakeDaily.faults`.
        loses: types of webhooks that are never sent for this call, for example `{"dialout.stopped"}`: a lost
            hang-up.
        delays: seconds of delay by type of webhook; other webhooks do not wait.
        twice: types of webhooks that are sent twice, with the same id.

    Raises:
        ValueError: if a time is not a number of seconds, the line is answered before it rings, there is no such answerer, a person is
            put through to a person, or a type of webhook does not exist.
        TypeError: if `loses` or `twice` is a single type, or `refuses` is not a `Refusal`.
    """

    rings: float | None = 0.0
    answers: float | None = 0.05
    answered_by: Answerer = "person"
    put_through: float | None = None
    talks: float | None = None
    busy: bool = False
    gives_up: float | None = None
    fails: float | None = None
    error: str = DIALOUT_FAILED
    warns: float | None = None
    keeps_caller: bool = False

    refuses: Refusal | None = None
    answer_after: float = 0.0
    answer_lost: bool = False
    start_lost: bool = False

    loses: Collection[str] = field(default_factory=frozenset)
    delays: Mapping[str, float] = field(default_factory=dict)
    twice: Collection[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        """Check the options."""
        if isinstance(self.loses, str) or isinstance(self.twice, str):
            raise TypeError("loses= and twice= take a set of types: {'dialout.stopped'}")
        for name, types in (("loses", self.loses), ("twice", self.twice), ("delays", self.delays)):
            for one in types:
                if one not in NEEDED:
                    near = get_close_matches(str(one), NEEDED, 1) or NEEDED[:3]
                    raise ValueError(f"{name}: {one!r} is not a type of webhook; they are spelled as in {near[0]!r}")
        if self.answered_by not in get_args(Answerer):
            raise ValueError(f"answered_by= is one of {', '.join(get_args(Answerer))}, not {self.answered_by!r}")
        if self.put_through is not None and self.answered_by == "person":
            raise ValueError("put_through= needs another answerer than a person: answered_by='trunk'")
        if self.refuses is not None and not isinstance(self.refuses, Refusal):
            raise TypeError(
                f"refuses= takes a Refusal, such as those in telstate.testing.refusals, not {self.refuses!r}"
            )
        times = {each.name: getattr(self, each.name) for each in fields(self) if "float" in str(each.type)}
        times.pop("delays")
        for name, seconds in {**times, **self.delays}.items():
            if seconds is not None and (isinstance(seconds, bool) or not 0 <= seconds < math.inf):
                raise ValueError(f"{name} is a number of seconds from 0 on, not {seconds!r}")
        if self.is_answered and self.rings is not None and (self.answers or 0.0) < self.rings:
            raise ValueError(f"a line that is answered after {self.answers} s cannot ring after {self.rings} s")

    @property
    def is_answered(self) -> bool:
        """True if the call is answered, provided that it lasts that long."""
        return self.answers is not None and not self.busy and self.gives_up is None and self.fails is None


class Dial(NamedTuple):
    """One dial of a destination, for a `LineScript`."""

    destination: str
    number: int
    """Which of its dials it is: 0 is the first. Refused ones count."""


LineScript: TypeAlias = Callable[[Dial], PhoneLine]
"""Decides what happens at each dial: see `telstate.testing.lines`. It is called in the fake's thread."""
LinePlan: TypeAlias = PhoneLine | Sequence[PhoneLine] | LineScript
"""The same at every dial; one line for each dial, the last for all further ones; or as a script decides."""


class PhoneLines(UserDict[str, LinePlan]):
    """Lines by number or SIP URI.

    Args:
        default: the line of all other numbers; each of them has its own count of dials.

    Raises:
        TypeError: if the default is not such a line.
    """

    def __init__(self, default: LinePlan) -> None:
        check_plan("line= takes", default)
        self.default: LinePlan = default
        self._dials: dict[str, int] = {}
        super().__init__()

    def __ior__(self, others: Any) -> Self:  # type: ignore[override,misc]
        """Check each, as `update` does."""
        self.update(others)
        return self

    def __setitem__(self, destination: str, line: LinePlan) -> None:
        """Set what a destination does from its next dial on.

        Raises:
            ValueError: if no request could dial the destination.
            TypeError: if it is not a `PhoneLine`, a sequence of them, or a script.
        """
        if not _DESTINATION.fullmatch(str(destination)):
            raise ValueError(f"{destination!r} cannot be dialled: use a number in E.164 (+12025550101), or a sip: URI")
        check_plan(f"{destination} takes", line)
        self._dials.pop(destination, None)
        super().__setitem__(destination, line)

    def dial(self, destination: str) -> PhoneLine:
        """Return the line for the next dial of a destination; refused dials count.

        Raises:
            TypeError: if a script returns no `PhoneLine`.
        """
        # Headers may be appended to a SIP URI; they select no other line.
        key = destination if destination in self else destination.partition("?")[0]
        number = self._dials.get(key, 0)
        self._dials[key] = number + 1
        return line_at(self.get(key, self.default), Dial(key, number))


def line_at(plan: LinePlan, dial: Dial) -> PhoneLine:
    """Return what happens at one dial.

    Raises:
        TypeError: if a script returns no `PhoneLine`.
    """
    if isinstance(plan, PhoneLine):
        return plan
    if not callable(plan):
        return plan[min(dial.number, len(plan) - 1)]
    line = plan(dial)
    if not isinstance(line, PhoneLine):
        raise TypeError(f"a script of lines must return a PhoneLine, not {line!r}")
    return line


def check_plan(what: str, plan: object) -> None:
    """Check what a program gives as a plan.

    Raises:
        TypeError: if it is none.
    """
    if callable(plan) and not isinstance(plan, type):
        return
    each: list[object] = list(plan) if isinstance(plan, list | tuple) else [plan]
    if not each or not all(isinstance(one, PhoneLine) for one in each):
        raise TypeError(
            f"{what} a PhoneLine, or one for each dial, or a script of telstate.testing.lines, not {plan!r}: PhoneLine(busy=True)"
        )
