"""What each event says on a ladder: from which lane to which it goes, and its label. What is not listed is a mark in Daily's lane."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from telstate.calls._evidence import EndedBy
from telstate.events import DeadlinePassed, Event, SessionsLinked
from telstate.events._base import Subject
from telstate.views._call_trace import Seen
from telstate.views._ladder import LaneKind
from telstate.views._shown import Shown
from telstate.views._text import utc_time

__all__ = ["FAILURES", "label_of", "way_of"]

PHONE, DAILY, ROOM, PROGRAM = LaneKind

_WAYS: Mapping[str, tuple[LaneKind, LaneKind]] = {
    "dialin-ready": (ROOM, DAILY),
    "dialin-connected": (PHONE, DAILY),
    "dialout-requested": (PROGRAM, DAILY),
    "dialout-refused": (DAILY, PROGRAM),
    "dialout-connected": (DAILY, PHONE),
    "dialout-answered": (PHONE, DAILY),
    "participant-joined": (DAILY, ROOM),
    "participant-left": (ROOM, DAILY),
    "dtmf-event": (PHONE, ROOM),
    "pinless-dialin": (PHONE, DAILY),
    "pinless-forwarded": (PROGRAM, DAILY),
    "forward-refused": (DAILY, PROGRAM),
    "stop-requested": (PROGRAM, DAILY),
    "transfer-requested": (PROGRAM, DAILY),
    "presence-checked": (DAILY, PROGRAM),
    "deadline-passed": (PROGRAM, PROGRAM),
    "transfer-failed": (PROGRAM, PROGRAM),
    "session-annotated": (PROGRAM, PROGRAM),
    "sessions-linked": (PROGRAM, PROGRAM),
    "settings-changed": (PROGRAM, PROGRAM),
    "source-gap": (PROGRAM, PROGRAM),
    "meeting-ended": (ROOM, ROOM),
    "left-meeting": (ROOM, ROOM),
    "network-connection": (ROOM, ROOM),
}
_ENDS = frozenset({"dialin-stopped", "dialout-stopped", "dialin-error", "dialout-error"})
FAILURES = frozenset({"dialin-error", "dialout-error", "dialout-refused", "forward-refused", "transfer-failed"})
"""The events that say that something failed."""


def way_of(seen: Seen, *, own: bool) -> tuple[LaneKind, LaneKind, bool]:
    """Return the lanes between which an event goes, and whether it has a head: Daily's end does not say who hung up.

    Args:
        seen: an event of a call.
        own: whether it names a session of the call.
    """
    event = seen.event
    if seen.foreign:
        return DAILY, DAILY, True
    if event.name in _ENDS:
        if event.session_id is None and seen.session is None:
            return DAILY, DAILY, True
        by = None if seen.after is None or event.name in FAILURES else seen.after.ended_by
        if by == EndedBy.LOCAL:
            return DAILY, PHONE, True
        return PHONE, DAILY, by == EndedBy.REMOTE
    if type(event)._subject is Subject.PARTICIPANT and not own:
        return ROOM, ROOM, True  # somebody in the room who is on no telephone
    return *_WAYS.get(event.name, (PHONE, DAILY) if _is_new_caller(event) else (DAILY, DAILY)), True


def label_of(seen: Seen, shown: Shown, tag: Callable[[str], str]) -> str:
    """Return what an event says: its name and what is worth reading at two in the morning.

    Args:
        seen: an event of a call.
        shown: shows texts, addresses and names.
        tag: returns how a session is called on the ladder, by its id.
    """
    event = seen.event
    if seen.kind is None:
        return "end inferred"
    name = shown.text(event.action)
    if seen.foreign:
        return f"{name} of {tag(seen.session_id or '')}"
    show: Callable[[Any, Shown], str] = _DETAILS.get(event.name, _caller if _is_new_caller(event) else _no_detail)
    detail = show(event, shown)
    if isinstance(event, SessionsLinked):
        detail = f" {'no more ' if event.withdrawn else ''}with {tag(event.other_session_id)}"
    elif isinstance(event, DeadlinePassed):
        detail = f": {shown.text(event.deadline)}"
        if seen.at is None or abs(seen.at - event.due_at) >= 1:
            detail += f", due at {utc_time(event.due_at)[11:]}"
    return f"{name}{detail}"


def _is_new_caller(event: Event) -> bool:
    """Return whether Daily says that somebody calls, who is in no room yet."""
    return type(event)._subject is Subject.CALLER and not event.local


def _no_detail(event: Event, shown: Shown) -> str:  # noqa: ARG001 - all have these parameters
    return ""


def _text(*fields: str) -> Callable[[Any, Shown], str]:
    """Show the first of some fields that has a value, as text."""

    def show(event: Any, shown: Shown) -> str:
        text = next((value for name in fields if (value := getattr(event, name, None))), None)
        return f": {shown.text(str(text))}" if text is not None else ""

    return show


def _to(field: str) -> Callable[[Any, Shown], str]:
    """Show an address after `to`."""
    return lambda event, shown: f" to {shown.address(value)}" if (value := getattr(event, field, None)) else ""


def _caller(event: Any, shown: Shown) -> str:
    from_, to = getattr(event, "from_", None), getattr(event, "to", None)
    return (f" from {shown.address(from_)}" if from_ else "") + (f" to {shown.address(to)}" if to else "")


def _failed_transfer(event: Any, shown: Shown) -> str:
    return _to("to_endpoint")(event, shown) + _text("reason")(event, shown)


def _participant(event: Any, shown: Shown) -> str:
    reason = getattr(event, "reason", None)
    name = event.participant.user_name
    return (f" {shown.name(name)}" if name else "") + (f": {shown.text(reason)}" if reason else "")


def _connection(event: Any, shown: Shown) -> str:
    words = " ".join(filter(None, (event.connection, event.status)))
    return f": {shown.text(words)}" if words else ""


_DETAILS: Mapping[str, Callable[[Any, Shown], str]] = {
    "dialin-ready": lambda event, shown: f" {shown.address(event.sip_endpoint)}",
    "dialout-requested": _to("destination"),
    "dialout-refused": _text("error_msg"),
    **dict.fromkeys(
        ("dialin-stopped", "dialout-stopped", "dialin-error", "dialout-error", "dialin-warning", "dialout-warning"),
        _text("error_msg"),
    ),
    "participant-joined": _participant,
    "participant-left": _participant,
    **dict.fromkeys(
        (
            "transfer-requested",
            "calltransfer-triggered",
            "calltransfer-initiated",
            "calltransfer-answered",
            "calltransfer-completed",
        ),
        _to("to_endpoint"),
    ),
    "transfer-failed": _failed_transfer,
    "stop-requested": _text("reason"),
    "session-annotated": lambda event, shown: f": {shown.values(event.notes)}",
    "presence-checked": _text("presence"),
    "pinless-dialin": _caller,
    "pinless-forwarded": _to("sip_endpoint"),
    "forward-refused": _text("error"),
    "source-gap": _text("reason"),
    "network-connection": _connection,
}
"""Which keys were pressed is never shown: people type PINs."""
