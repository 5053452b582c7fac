"""Signs of an end: what ends a session of which no event reports the end, and when that was.

Times decide, never the order of arrival. A session keeps each sign with its time, and the time of its last sign of life. Whether
a sign still holds, which one counts, and when the call ended all follow from these whenever they are asked for. So they converge
like the state: the same events in any order give the same answer.

- The leaving of a participant whose stay is known (`joined_at`) holds unless a later stay is known.
- Every other sign holds unless there was life after it. Without a time on either side it holds.
- The earliest sign that holds is the end.
- A sign may only say by when the call had ended: nobody is there any more when somebody asks, or the next caller comes much later. If it is the
  earliest, the last sign of life is the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from telstate.calls._table import EndSign

if TYPE_CHECKING:
    from telstate.calls._session import Session

__all__ = [
    "CLOCKS_DIFFER",
    "End",
    "Sign",
    "add_sign",
    "end_of",
    "has_left_before",
    "latest",
    "latest_signs",
    "learned_at",
    "load_sign",
    "meeting_of",
    "without",
]

CLOCKS_DIFFER = 5.0
"""Seconds by which two clocks may differ: Daily's (webhooks round to whole seconds) and the local one."""
_NEXT_WITHIN = 600.0
"""Seconds after the last sign of life for which the next caller on an endpoint, or the next meeting in a room, says when a call before ended."""
_SETTING_UP = 60.0
"""Seconds after the last sign of life from which a meeting that begins is the next one, and not that of a call that is being set up."""
_LEFT_WITHIN = 5.0
"""Seconds after our client's leaving within which a reported end is its consequence."""
_MAX_SIGNS = 8

_PARTICIPANT_LEFT, _MEETING_ENDED, _CLIENT_LEFT, _NEXT_CALLER, _GONE = EndSign
_OF_OTHERS = (_MEETING_ENDED, _CLIENT_LEFT)


class Sign(NamedTuple):
    """One sign that a session ended."""

    kind: str
    """An `EndSign`."""
    at: float | None
    """When it was, in Unix seconds; None if unknown."""
    by_daily: bool
    """Whether that is Daily's time, not that of the receipt."""
    learned: float
    """When this program learned of it."""
    of: Any = None
    """Of a participant who left: when they had joined. Of a client that left: which one. Of the next caller: their session. Of a
    meeting: its domain and when it began, see `meeting_of`."""


class End(NamedTuple):
    """The end of a session, as it is inferred."""

    sign: EndSign
    at: float | None
    """When it was."""
    by: float | None
    """By when it had been: later than `at` where the sign says only that."""


def add_sign(signs: tuple[Sign, ...], sign: Sign, session: Session) -> tuple[Sign, ...]:
    """Add a sign of a session, once. Of more than eight the earliest that hold are kept, as they count, and the latest."""
    if not signs:
        return (sign,)
    if is_known(signs, sign):
        return signs
    kept = (*signs, sign)
    if len(kept) <= _MAX_SIGNS:
        return kept
    ranked = sorted(kept, key=lambda one: (not _holds(one, session), _order(one)))
    last = max(kept, key=_order)
    return (*[one for one in ranked if one is not last][: _MAX_SIGNS - 1], last)


def latest_signs(signs: Iterable[Sign], sign: Sign, limit: int) -> tuple[Sign, ...]:
    """Add a sign, once, and keep the latest."""
    known = tuple(signs)
    return known if is_known(known, sign) else tuple(sorted((*known, sign), key=_order)[-limit:])


def is_known(signs: Iterable[Sign], sign: Sign) -> bool:
    """Return whether a sign is among others; when they were learned does not matter."""
    facts = sign[:3], sign.of
    return any((one[:3], one.of) == facts for one in signs)


def load_sign(dumped: Iterable[Any]) -> Sign:
    """Make a sign from its values, as JSON has them."""
    kind, at, by_daily, learned, of = dumped
    return Sign(kind, at, by_daily, learned, tuple(of) if isinstance(of, list) else of)


def meeting_of(sign: Sign) -> tuple[str | None, float | None]:
    """Return the domain of a meeting that ended, and when it had begun. Older snapshots have only the domain."""
    domain, start = sign.of if isinstance(sign.of, tuple) else (sign.of, None)
    return domain, start


def learned_at(signs: Iterable[Sign], session: Session) -> float | None:
    """Return when the first of the signs that hold was learned; None if none holds."""
    first = None
    for sign in signs:
        if _holds(sign, session) and (first is None or sign.learned < first):
            first = sign.learned
    return first


def without(signs: tuple[Sign, ...], kind: EndSign) -> tuple[Sign, ...]:
    """Remove the signs of a kind."""
    return tuple(sign for sign in signs if sign.kind != kind)


def end_of(signs: Iterable[Sign], session: Session) -> End | None:
    """Return the end that the signs tell: the earliest that holds; None if none does."""
    found = [_end_by(sign, session) for sign in signs if _holds(sign, session)]
    return min(found, key=lambda end: (end.by is None, end.by, end.at != end.by, end.sign), default=None)


def has_left_before(signs: Iterable[Sign], told_at: float | None) -> bool:
    """Return whether a reported end is the consequence of our own client's leaving."""
    return told_at is not None and any(
        sign.kind == _CLIENT_LEFT and sign.at is not None and 0 <= told_at - sign.at <= _LEFT_WITHIN for sign in signs
    )


def latest(one: float | None, other: float | None) -> float | None:
    """Return the later of two times."""
    if one is None or other is None:
        return one if other is None else other
    return max(one, other)


def _holds(sign: Sign, session: Session) -> bool:
    kind, at, by_daily, _, of = sign
    if kind == _PARTICIPANT_LEFT and of is not None:
        if session._joined is not None and session._joined > of:
            return False  # they joined again
        rejoined = session._joined_by_receipt
        return rejoined is None or at is None or rejoined <= at + CLOCKS_DIFFER
    if kind == _GONE:
        return True
    if at is None:
        return True
    if kind in _OF_OTHERS and session.started_at is not None and session.started_at > at:
        return False  # it began after that
    return not _lives_after(session, at, by_daily=by_daily)


def _lives_after(session: Session, at: float, *, by_daily: bool) -> bool:
    """Return whether there was life after a time. Where two clocks are compared, they may differ."""
    same, other = session._alive, session._alive_by_receipt
    if not by_daily:
        same, other = other, same
    return (same is not None and same > at) or (other is not None and other > at + CLOCKS_DIFFER)


def _end_by(sign: Sign, session: Session) -> End:
    """Return the end that one sign tells."""
    kind, by, last = EndSign(sign.kind), sign.at, session.alive_at
    if kind is _GONE:
        return End(kind, session.started_at if last is None else last, by)
    if last is None or by is None:
        return End(kind, by, by)
    is_next = kind is _NEXT_CALLER
    if kind is _MEETING_ENDED and (start := meeting_of(sign)[1]) is not None and start > last + _SETTING_UP:
        is_next, by = True, start  # it was in a meeting before that one
    return End(kind, last if is_next and by > last + _NEXT_WITHIN else by, by)


def _order(sign: Sign) -> tuple[bool, float, str, str]:
    return (sign.at is not None, sign.at or 0.0, sign.kind, repr(sign.of))
