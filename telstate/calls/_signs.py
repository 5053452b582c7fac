"""Signs of an end: what ends a session of which no event reports the end, and when that was.

Times decide, never the order of arrival. A session keeps each sign with its time, and the time of its last sign of life. Whether
a sign still holds, which one counts, and when the call ended all follow from these whenever they are asked for. So they converge
like the state: the same events in any order give the same answer.

- The leaving of a participant whose stay is known (`joined_at`) holds unless a later stay is known.
- Every other sign holds unless there was life after it. Without a time on either side it holds.
- The earliest sign that holds is the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from telstate.calls._table import EndSign

if TYPE_CHECKING:
    from telstate.calls._session import Session

__all__ = [
    "End",
    "Sign",
    "add_sign",
    "end_of",
    "has_left_before",
    "latest",
    "latest_signs",
    "learned_at",
    "load_sign",
    "without",
]

_CLOCKS_DIFFER = 5.0
"""Seconds by which two clocks may differ: Daily's (webhooks round to whole seconds) and the local one."""
_NEXT_CALLER_WITHIN = 600.0
"""Seconds after the last sign of life for which the next caller on an endpoint says when the call before them ended."""
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
    """Of a participant who left: when they had joined. Of a client that left: which one. Of the next caller: their session."""


class End(NamedTuple):
    """The end of a session, as it is inferred."""

    sign: EndSign
    at: float | None


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
    found = [(_time_of(sign, session), sign.kind) for sign in signs if _holds(sign, session)]
    if not found:
        return None
    at, kind = min(found, key=lambda end: (end[0] is None, end[0], end[1]))
    return End(EndSign(kind), at)


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
        return rejoined is None or at is None or rejoined <= at + _CLOCKS_DIFFER
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
    return (same is not None and same > at) or (other is not None and other > at + _CLOCKS_DIFFER)


def _time_of(sign: Sign, session: Session) -> float | None:
    """Return when a session ended according to a sign."""
    last = session.alive_at
    if sign.kind == _GONE:
        return session.started_at if last is None else last
    if sign.kind == _NEXT_CALLER and last is not None and sign.at is not None and sign.at > last + _NEXT_CALLER_WITHIN:
        return last
    return sign.at


def _order(sign: Sign) -> tuple[bool, float, str, str]:
    return (sign.at is not None, sign.at or 0.0, sign.kind, repr(sign.of))
