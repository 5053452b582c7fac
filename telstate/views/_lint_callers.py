"""What can be wrong with a caller on hold who got to no session: rules T207 and T208."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from telstate.calls._caller import Caller, CallerState
from telstate.views._findings import Found, Rule, Severity, address, quoted, spoken

__all__ = ["CALLER_RULES", "CallerSeen"]

ERROR, INFO = Severity.ERROR, Severity.INFO

_HOLD_LIMIT = 600.0
"""Seconds on hold after which a caller has given up, as in `Settings.hold_limit`."""


class CallerSeen(NamedTuple):
    """A caller on hold who got to no session."""

    caller: Caller
    now: float | None
    """The log's own time."""


def _lost(seen: CallerSeen) -> Iterator[Found]:
    caller, waited = seen.caller, _waited(seen)
    for_how_long = "" if waited is None else f" {spoken(waited)} ago" if caller.held_s is None else ""
    who = (address(caller.from_), address(caller.to))
    if caller.state is CallerState.FAILED:
        text = "A caller on hold, {0} to {1}, could not be forwarded, and was lost: {2}."
        yield Found(text, (*who, quoted(caller.error or "Daily gave no reason")))
    elif caller.state is CallerState.GAVE_UP:
        yield Found("A caller on hold, {0} to {1}, got to no room, and gave up.", who)
    elif caller.state in (CallerState.WAITING, CallerState.FORWARDED) and (waited or 0) >= _HOLD_LIMIT:
        did = "was forwarded, but " if caller.state is CallerState.FORWARDED else ""
        yield Found(f"A caller on hold, {{0}} to {{1}}, {did}got to no room: they called{for_how_long}.", who)


def _on_hold(seen: CallerSeen) -> Iterator[Found]:
    caller, waited = seen.caller, _waited(seen)
    who = (address(caller.from_), address(caller.to))
    if caller.state is CallerState.UNKNOWN:
        yield Found("It is not known whether the caller on hold, {0} to {1}, got to a room.", who)
    elif caller.state in (CallerState.WAITING, CallerState.FORWARDED) and (waited or 0) < _HOLD_LIMIT:
        if waited is None:  # Daily's request has no time of its own
            yield Found("A caller on hold, {0} to {1}, got to no room that the log knows of.", who)
        else:
            yield Found(f"A caller, {{0}} to {{1}}, is on hold when the log ends, for {spoken(waited)}.", who)


def _waited(seen: CallerSeen) -> float | None:
    began = seen.caller.started_at
    return None if began is None or seen.now is None else max(0.0, seen.now - began)


CALLER_RULES: tuple[Rule, ...] = (
    Rule(
        "T207",
        ERROR,
        "a caller was lost on hold",
        "Forward callers at `dialin-ready`, within seconds: `on_caller_lost` tells whom to call back.",
        "A caller on hold (pinless dial-in) never became a session.",
        (
            "no bot came, so nobody forwarded the call",
            "Daily refused to forward it",
            "the caller hung up while waiting",
        ),
        _lost,
    ),
    Rule(
        "T208",
        INFO,
        "a caller is still on hold, or it is not known what became of them",
        "Nothing, if the log was copied while they waited; else look whether a dial-in came from their number.",
        "A caller on hold (pinless dial-in) did not become a session in this log, and it is not known that they waited too long.",
        (
            "the log was copied meanwhile",
            "which session they became cannot be told",
            "the log has no time of their call",
        ),
        _on_hold,
    ),
)
"""In the order of their codes."""
