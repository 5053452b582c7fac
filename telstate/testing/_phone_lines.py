"""What a called number does, and how Daily refuses to call it. SIMULATED: no call is made anywhere.

    daily.lines["+12025550101"] = PhoneLine(answers=0.2, talks=1.0)
    daily.lines["+12025550102"] = [PhoneLine(busy=True), PhoneLine(answers=0.1)]

Source of what can happen: docs.daily.co/reference/daily-js/events/telephony-events, docs.daily.co/reference/rest-api/rooms/dialout
and what users of Daily have published of calls that went wrong.
"""

from __future__ import annotations

import math
import re
from collections import UserDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Self

from telstate.control._webhooks import NEEDED

__all__ = [
    "ALREADY_STARTED",
    "CALL_CLOSED",
    "DIALIN_FAILED",
    "DIALOUT_FAILED",
    "DIALOUT_IN_PROGRESS",
    "INTERNATIONAL_NOT_SUPPORTED",
    "NOT_ALLOWED",
    "NOT_ENABLED_FOR_ROOM",
    "NOT_HOSTING",
    "NUMBERS_NOT_ENABLED",
    "TEMPORARILY_NOT_AVAILABLE",
    "TOO_MANY_REQUESTS",
    "TOO_MANY_SESSIONS",
    "PhoneLine",
    "PhoneLines",
    "Refusal",
    "Refused",
]

_INVALID = "invalid-request-error"
DIALOUT_FAILED = "DialOut failed with error: process error, Channel closed"
DIALIN_FAILED = "SDP negotiation failed"
"""That of the example in docs.daily.co/reference/daily-js/events/telephony-events."""
_DESTINATION = re.compile(r"\+[1-9][0-9]{1,14}|sip:.+", re.DOTALL)


@dataclass(frozen=True)
class Refusal:
    """An answer that refuses: the body is `{"error": …, "info": …}`, Daily's usual form (docs.daily.co/docs/rest-api/errors).

    No page shows the body of a telephony error, so that it has this form is inferred.
    """

    status: int
    """Of HTTP."""
    error: str
    """Daily's name of the error."""
    info: str = ""
    """What Daily says about it."""

    def __post_init__(self) -> None:
        """Refuse what refuses nothing."""
        if not 400 <= self.status <= 599:
            raise ValueError(f"a refusal has a status from 400 to 599, not {self.status!r}")


class Refused(Exception):
    """Raised inside the fake where Daily would refuse a request; over HTTP it is that answer."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(f"{refusal.status} {refusal.error}: {refusal.info}")


# Texts that Daily or its users have published for REST.
NOT_HOSTING = Refusal(404, "not-found", "Room is not hosting a call")
"""Nobody is in the room, so nobody can be called from there."""
ALREADY_STARTED = Refusal(400, _INVALID, "dialOut already started")
"""Daily's text for a dial-out too many."""
CALL_CLOSED = Refusal(400, _INVALID, "Call closed before command could be delivered")
"""The meeting ended under the request."""
NOT_ENABLED_FOR_ROOM = Refusal(400, _INVALID, "dial-out not enabled for room. add enable_dialout property to room")
"""The room lacks `enable_dialout`."""
NUMBERS_NOT_ENABLED = Refusal(
    400, _INVALID, "dial-out to PhoneNumber is not enabled for domain. Contact support to enable it for your domain"
)
"""The domain may call SIP URIs only."""
INTERNATIONAL_NOT_SUPPORTED = Refusal(
    400, _INVALID, "International dialout not supported. Contact sales to enable it for your domain"
)
"""The domain may not call that country."""

# The names are those of daily-js's startDialOut(); that REST tells them in this way, and the statuses, are SIMULATED.
NOT_ALLOWED = Refusal(400, "NOT_ALLOWED", "SIP/PSTN is not enabled for the room")
"""Not enabled: it makes no sense to try again."""
DIALOUT_IN_PROGRESS = Refusal(400, "DIALOUT_IN_PROGRESS", "a dial-out is under way")
"""One is under way already."""
TEMPORARILY_NOT_AVAILABLE = Refusal(503, "TEMPORARILY_NOT_AVAILABLE", "no workers available")
"""Daily has no worker free: a later try may succeed."""
TOO_MANY_REQUESTS = Refusal(429, "rate-limit-error", "too many requests")
"""Not carried out; docs.daily.co/reference/rest-api#rate-limits."""
TOO_MANY_SESSIONS = Refusal(400, _INVALID, "max_sip_pstn_sessions_per_room reached")
"""SIMULATED: that there is this limit is documented, how Daily refuses is not."""


@dataclass(frozen=True)
class PhoneLine:
    """What happens when a number or a SIP URI is dialled once. All times are real seconds.

    A line that is `busy`, `gives_up` or `fails` is never answered, whatever `answers` says. What is None does not happen.

    Raises:
        ValueError: if a time is none, the line is answered before it rings, or there is no such type of webhook.
        TypeError: if `loses` or `twice` is a single type, or `refuses` no Refusal.
    """

    rings: float | None = 0.0
    """From the dial to dialout.connected."""
    answers: float | None = 0.05
    """From the dial to dialout.answered. A voicemail answers too."""
    talks: float | None = None
    """From the answer until the called party hangs up; None: until somebody stops it."""
    busy: bool = False
    """Stopped soon after it rang (0.05 s): busy and declined come as a bare dialout.stopped."""
    gives_up: float | None = None
    """From the dial to dialout.stopped, unanswered."""
    fails: float | None = None
    """From the dial to dialout.error: the start was accepted, and fails after all. On record are 5 to 60 seconds. No stopped
    follows: nothing documents whether one does."""
    error: str = DIALOUT_FAILED
    """What dialout.error, or dialin.error and dialin.warning, says."""
    warns: float | None = None
    """From the dial to a dialout.warning; the call goes on."""

    refuses: Refusal | None = None
    """The start is refused, and nothing dialled."""
    answer_after: float = 0.0
    """The answer to the start comes so late; the call is under way meanwhile."""
    answer_lost: bool = False
    """The call is made, but the connection breaks before the answer is whole."""
    start_lost: bool = False
    """The connection breaks likewise, and no call is made. For a request that hangs there are `FakeDaily.faults`."""

    loses: Collection[str] = field(default_factory=frozenset)
    """Types of webhooks that are never sent for this call, for example `{"dialout.stopped"}`: a lost hang-up."""
    delays: Mapping[str, float] = field(default_factory=dict)
    """Types that are sent so late; nothing waits for them."""
    twice: Collection[str] = field(default_factory=frozenset)
    """Types that are sent once more, with the same id."""

    def __post_init__(self) -> None:
        """Refuse times that are none."""
        if isinstance(self.loses, str) or isinstance(self.twice, str):
            raise TypeError("loses= and twice= take a set of types: {'dialout.stopped'}")
        for name, types in (("loses", self.loses), ("twice", self.twice), ("delays", self.delays)):
            for one in types:
                if one not in NEEDED:
                    near = get_close_matches(str(one), NEEDED, 1) or NEEDED[:3]
                    raise ValueError(f"{name}: {one!r} is no type of webhook; they are spelled as in {near[0]!r}")
        if self.refuses is not None and not isinstance(self.refuses, Refusal):
            raise TypeError(
                f"refuses= takes a Refusal, such as those in telstate.testing._phone_lines, not {self.refuses!r}"
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
        """Whether somebody picks up, if the call lasts so long."""
        return self.answers is not None and not self.busy and self.gives_up is None and self.fails is None


class PhoneLines(UserDict[str, "PhoneLine | Sequence[PhoneLine]"]):
    """The lines by number or SIP URI. A sequence has one for each dial, and its last for all further ones.

    Args:
        default: what numbers do that are not in here.
    """

    def __init__(self, default: PhoneLine) -> None:
        self.default = default
        self._dials: dict[str, int] = {}
        super().__init__()

    def __ior__(self, others: Any) -> Self:  # type: ignore[override,misc]
        """As `update`, each checked."""
        self.update(others)
        return self

    def __setitem__(self, destination: str, line: PhoneLine | Sequence[PhoneLine]) -> None:
        """Say what a destination does from its next dial on.

        Raises:
            ValueError: if the destination is none: nobody could ever dial it.
            TypeError: if it is no line.
        """
        if not _DESTINATION.fullmatch(str(destination)):
            raise ValueError(
                f"{destination!r} is nobody to call: write a number in E.164 (+12025550101), or a sip: URI"
            )
        each: list[object] = list(line) if isinstance(line, list | tuple) else [line]
        if not each or not all(isinstance(one, PhoneLine) for one in each):
            raise TypeError(
                f"what {destination} does is a PhoneLine, or one for each dial, not {line!r}: PhoneLine(busy=True)"
            )
        self._dials.pop(destination, None)
        super().__setitem__(destination, line)

    def dial(self, destination: str) -> PhoneLine:
        """The line for the next dial of a destination; refused ones count."""
        # Headers for the far side may be appended to a SIP URI: they tell no other line.
        key = destination if destination in self else destination.partition("?")[0]
        line = self.get(key, self.default)
        if isinstance(line, PhoneLine):
            return line
        number = self._dials.get(key, 0)
        self._dials[key] = number + 1
        return line[min(number, len(line) - 1)] if line else self.default
