"""Which dial-in a caller on hold became, by forwards, rooms, numbers and times. Pure functions: `_caller_links.py` says when they are asked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from telstate.calls._caller import Caller
from telstate.calls._caller_numbers import agree, may_agree, user_of
from telstate.calls._evidence import Evidence
from telstate.calls._session import Session
from telstate.calls._signs import CLOCKS_DIFFER, latest

__all__ = [
    "LATE",
    "ROUNDING",
    "CouldBe",
    "Span",
    "after_limit",
    "began",
    "connected_time",
    "differ",
    "forwarded_before",
    "groups_of",
    "is_in_another_room",
    "is_near",
    "may_be_of_one",
    "pairs_of",
    "since_called",
    "slack_of",
    "span_of",
    "waits_since",
]

ROUNDING = 1.0
"""Webhooks have whole seconds, so a connected may seem this much earlier than what caused it."""
_ANSWER = 60.0
"""Seconds by which Daily's answer to a forward may be later than the connection itself."""
_USUAL_ANSWER = 2.0
"""Seconds by which it usually is later at most."""
_ABANDONED = 30.0
"""Seconds after a forward from which the caller has probably hung up, if nobody connected."""
_NEW = 60.0
"""Two dial-ins within so many seconds are both new: which of them is the caller is not known."""
LATE = 60.0
"""Seconds by which a trunk's webhook without a time may be received after the caller connected."""
_AFTER_LIMIT = 60.0
"""Seconds after the limit within which a dial-in that nobody else can be is still the caller. The limit runs by the local clock, and
the times of the events are Daily's, in whole seconds: they alone never say that the limit was first. The journal does."""
_PATIENCE = 600.0
"""Seconds for which callers may wait, however early the program wants to hear that they seem to be lost."""
_NEVER = float("inf")
CouldBe = Callable[[Caller, Session], bool]
Span = tuple[float, float]
"""From when to when."""
_Forward = tuple[tuple[float, int], Caller]
"""A forward by its time and the number of its event, and whose it is."""


def after_limit(limit: float) -> float:
    """Return how many seconds after the limit of a caller a dial-in that nobody else can be is still them."""
    return max(_AFTER_LIMIT, _PATIENCE - limit)


def pairs_of(callers: list[Caller], dialins: list[Session], could_be: CouldBe, window: float) -> dict[str, str]:
    """Find the callers among dial-ins in order of time: return the session of each who can be only one, and it only them.

    A room or a number can have thousands of both within retention, so each dial-in is compared only with those around it.
    """
    if len(callers) == len(dialins) == 1:  # as most are
        return {callers[0].call_id: dialins[0].session_id} if could_be(callers[0], dialins[0]) else {}
    found: dict[str, str] = {}
    taken: set[str] = set()
    pending = sorted(callers, key=began, reverse=True)
    waiting: list[Caller] = []
    over_at = {caller.call_id: _over_at(caller, window) or _NEVER for caller in callers}
    untimed = [place for place, session in enumerate(dialins) if connected_time(session) is None]
    for place, session in enumerate(dialins):
        waiting += _take_begun(pending, session)
        if (time := connected_time(session)) is not None:
            waiting = [caller for caller in waiting if over_at[caller.call_id] >= time]
        candidates = (caller for caller in waiting if could_be(caller, session))
        caller = next(candidates, None)
        if caller is None or next(candidates, None) is not None:
            continue
        before = [*_soon(dialins, place, -1), *(dialins[one] for one in untimed if one < place)]
        if any(one.session_id not in taken and could_be(caller, one) for one in before):
            continue
        later = [one for one in _soon(dialins, place, 1) if could_be(caller, one)]
        others = [one for one in waiting if one is not caller]
        if not later or _are_explained(later, [*others, *_take_begun(pending[:], later[-1])], could_be):
            found[caller.call_id] = session.session_id
            taken.add(session.session_id)
            waiting = others
    return found


def span_of(caller: Caller, window: float) -> Span | None:
    """Return from when to when a dial-in can connect that is found by the number of a caller; None if they have no time."""
    if (until := _over_at(caller, window)) is None:
        return None
    if _is_undated(caller):
        return began(caller)[0] - LATE, until
    called = until - window if caller.started_at is None else caller.started_at
    return called - max(ROUNDING, CLOCKS_DIFFER), until


def groups_of(
    callers: Mapping[str, Span | None], dialins: Mapping[str, float | None], near: Collection[Span] | None
) -> list[tuple[list[str], list[str]]]:
    """Split the callers and the dial-ins of a number into groups that are so far from each other that each can be matched alone.

    Args:
        callers: the span of each, by call id.
        dialins: the time of each, by session id.
        near: only the groups that one of these spans touches; None for all.

    Returns:
        The call ids and session ids of each group; one group of all if a span or a time is unknown.
    """
    spans, times = callers.values(), dialins.values()
    if None in spans or None in times:
        return [([*callers], [*dialins])]
    return [
        (
            [call_id for call_id, span in callers.items() if span is not None and low <= span[0] <= high],
            [session_id for session_id, time in dialins.items() if time is not None and low <= time <= high],
        )
        for low, high in _merged(span for span in spans if span is not None)
        if near is None or any(start <= high and low <= end for start, end in near)
    ]


def _merged(spans: Iterable[Span]) -> list[Span]:
    """Make one span of those that overlap."""
    merged: list[Span] = []
    for low, high in sorted(spans):
        if merged and low <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(high, merged[-1][1])
        else:
            merged.append((low, high))
    return merged


def forwarded_before(
    session: Session, forwarded: list[Caller], found: Mapping[str, str], window: float
) -> Caller | None:
    """Return the caller that a session on their endpoint is: the one forwarded to it last, and not another session already."""
    time = connected_time(session)
    before: list[_Forward] = []
    after: list[_Forward] = []
    for caller in forwarded:
        assert caller._forward is not None  # noqa: S101 - it is among the forwarded
        at, number, _ = caller._forward
        if time is None or at is None:
            rank = (0.0, number)
            if number < session.opened:
                before.append((rank, caller))
            elif caller._number < session.opened:
                after.append((rank, caller))
            continue
        rank = (at, number)
        if caller.started_at is not None and caller.started_at > time + slack_of(caller, session):
            continue  # they called later
        if at <= time + ROUNDING:
            before.append((rank, caller))
        elif at <= time + _ANSWER:
            after.append((rank, caller))
    free = [(rank, caller) for rank, caller in before if caller.call_id not in found]
    agreeing = [entry for entry in free if entry[1].from_ is not None and agree(entry[1].from_, session.sip_from)]
    last = max(before, key=_rank, default=None)
    best = max(agreeing, key=_rank, default=last if last in free else None)
    later = [entry for entry in after if entry[1].call_id not in found]
    if best is not None and is_within(best[1], time, window + ROUNDING) and not _is_abandoned(best[1], later, time):
        return best[1]
    if later:
        return min(later, key=_rank)[1]
    return best[1] if best is not None and is_within(best[1], time, window + after_limit(window)) else None


def _is_abandoned(before: Caller, later: list[_Forward], time: float | None) -> bool:
    """Return True if a forward was long before the connection, and another one was answered just after it: that one counts."""
    if time is None or is_within(before, time, _ABANDONED):
        return False
    return any(0 < rank[0] <= time + _USUAL_ANSWER for rank, _ in later)


def slack_of(caller: Caller, session: Session) -> float:
    """Return by how many seconds a session may seem to have connected before they called."""
    is_other_clock = not caller._is_told and session._evidence & Evidence.CONNECTED_BY_DAILY
    return CLOCKS_DIFFER if is_other_clock else ROUNDING


def may_be_of_one(caller: Caller, session: Session) -> bool:
    """Return whether the numbers can be of one caller. In the room that Daily made for them, only another number contradicts:
    a carrier may show a number here and the name of a SIP user there."""
    if may_agree(caller.from_, session.sip_from):
        return True
    are_numbers = (user_of(caller.from_).isdigit(), user_of(session.sip_from).isdigit())
    return caller.room is not None and caller.room == session.room and are_numbers in ((True, False), (False, True))


def is_in_another_room(caller: Caller, session: Session) -> bool:
    """Return whether a session is in another room than the one that Daily made for a caller, or in another domain's."""
    if caller.room is None:
        return False
    if session.room is not None and session.room != caller.room:
        return True
    return differ(caller._domain_id, session.domain_id)


def differ(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one != other


def since_called(callers: list[Caller], dialins: list[Session]) -> list[Session]:
    """Leave out the dial-ins that connected long before the first of the callers called: they can be none of them."""
    earliest = min((began(caller)[0] for caller in callers), default=0.0) - LATE
    return [session for session in dialins if (time := connected_time(session)) is None or time >= earliest]


def _take_begun(pending: list[Caller], session: Session) -> list[Caller]:
    """Take the callers off the end of `pending`, the latest first, who may have called before a dial-in."""
    time, begun = connected_time(session), []
    while pending and (time is None or began(pending[-1])[0] <= time + LATE):
        begun.append(pending.pop())
    return begun


def _over_at(caller: Caller, window: float) -> float | None:
    """Return the latest time at which a dial-in that is this caller can connect, as far as that is known."""
    since = waits_since(caller)
    return (_NEVER if _is_undated(caller) else None) if since is None else since + window


def waits_since(caller: Caller) -> float | None:
    """Return since when the limit of a caller runs by the times of the events: they called, or were forwarded later."""
    since = latest(caller.started_at, caller._forward and caller._forward[0])
    return caller._before if since is None and caller._forward is None else since


def _is_undated(caller: Caller) -> bool:
    """Return True if only the lines around theirs say when they called, or were forwarded."""
    return caller.started_at is None and caller._after is not None and not (caller._forward and caller._forward[0])


def _soon(dialins: list[Session], place: int, step: int) -> Iterator[Session]:
    """Yield the dial-ins after one, or with a step of -1 before it, that connected so soon that both are new. They are in order of time."""
    one = dialins[place]
    place += step
    while 0 <= place < len(dialins):
        other = dialins[place]
        if not (_is_soon_after(one, other) if step > 0 else _is_soon_after(other, one)):
            return
        yield other
        place += step


def _are_explained(dialins: Iterable[Session], callers: list[Caller], could_be: CouldBe) -> bool:
    """Return whether there is another caller for each of these dial-ins."""
    left = sorted(callers, key=began)
    for session in dialins:
        caller = next((caller for caller in left if could_be(caller, session)), None)
        if caller is None:
            return False
        left.remove(caller)
    return True


def is_within(caller: Caller, time: float | None, window: float) -> bool:
    """Return whether a time is at most so many seconds after the last forward of a caller, as far as both are known."""
    at = None if caller._forward is None else caller._forward[0]
    return time is None or at is None or time <= at + window


def is_near(caller: Caller, session: Session, window: float) -> bool:
    """Return whether a session is near in time to the last forward of a caller: what is not need not be looked at."""
    at, time = None if caller._forward is None else caller._forward[0], connected_time(session)
    return at is None or time is None or -_ANSWER <= time - at <= window + after_limit(window)


def _rank(entry: _Forward) -> tuple[float, str]:
    (at, number), caller = entry
    return (at, caller.call_id) if at else (float(number), caller.call_id)


def began(caller: Caller) -> tuple[float, str]:
    return (caller.started_at or caller._after or 0.0, caller.call_id)


def connected_time(session: Session) -> float | None:
    """Return when a dial-in connected, as far as that is known."""
    return session.started_at if session.connected_at is None else session.connected_at


def _is_soon_after(session: Session, other: Session) -> bool:
    """Return whether another dial-in connected so soon after this one that both are new."""
    one, two = connected_time(session), connected_time(other)
    return one is None or two is None or two - one <= _NEW
