"""Legs in other partitions: which events a partition is missing to know what the others show of its calls.

Where many partitions share the calls, each appends such events to its own journal, so that a replay of it alone knows the same. They say
what is, not what changed: whoever compares again, after a crash or with the same news twice, finds nothing missing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from telstate.calls._far_leg import (
    FarLeg,
    Window,
    can_be_leg,
    is_within,
    known_leg,
    leg_of,
    order_of,
    plain_address,
    window_of,
)
from telstate.calls._session import Session, rare
from telstate.calls._transfers import targets_of
from telstate.events import SessionsLinked

__all__ = ["chosen_legs", "missing_far_legs", "missing_links", "targets_at"]


def targets_at(near: Session) -> list[str]:
    """List the plain addresses to which a session was transferred, as far as they are known."""
    return [plain for plain in targets_of(rare(near, "transfers")) if plain]


def chosen_legs(near: Session) -> list[str]:
    """List the far legs of a session's transfers."""
    targets = (rare(near, "transfers") or {}).values()
    return [leg[0] for target in targets if (leg := target.get("leg"))]


def missing_far_legs(
    near: Session,
    is_known: Callable[[str], bool],
    arrived: Callable[[str, Window], Iterable[Session]],
    find: Callable[[str], Session | None],
) -> Iterator[SessionsLinked]:
    """Yield what the transfers of a session do not know of their far legs in other partitions.

    Args:
        near: the session.
        is_known: whether its own partition has a session.
        arrived: finds the dial-ins of other partitions that came by an endpoint and began in a window.
        find: finds a session of another partition.
    """
    for plain, target in targets_of(rare(near, "transfers")).items():
        if not plain:
            continue
        window, known = window_of(near, target), known_leg(target)
        if known is not None and not is_known(known.session_id) and (shown := find(known.session_id)) is not None:
            current = known.with_more(leg_of(shown)) if plain_address(shown) == plain else None
            if current != known:
                yield _event(near, plain, current or known, withdrawn=current is None)
            known = current if current is not None and is_within(window, current.first) else None
        arrivals = (leg_of(far) for far in arrived(plain, window))
        best = min((leg for leg in arrivals if can_be_leg(near, leg)), key=order_of, default=None)
        if best is not None and (known is None or order_of(best) < order_of(known)):
            yield _event(near, plain, best)


def _event(near: Session, plain: str, leg: FarLeg, *, withdrawn: bool = False) -> SessionsLinked:
    facts = {"other_started_at": leg.first, "other_picked_up": leg.picked_up, "other_ended": leg.ended}
    return _link(near, leg.session_id, withdrawn=withdrawn, other_endpoint=plain, **({} if withdrawn else facts))


def missing_links(
    session: Session, known: Collection[str], call: Collection[str], is_shown: Callable[[str], bool]
) -> Iterator[SessionsLinked]:
    """Yield the links of a session that its record lacks, and those in it that hold no more.

    Args:
        session: the session.
        known: the ids of its legs that its own partition knows, by itself or from others.
        call: the ids of the legs of its call, as all partitions show them.
        is_shown: whether a partition still shows a session. Without it nobody can say that a link holds no more.
    """
    for other in sorted(set(call) - {session.session_id, *known}):
        yield _link(session, other)
    withdrawn = sorted(set(rare(session, "linked") or ()) - set(call))
    if withdrawn and all(map(is_shown, {*known, *call})):
        for other in withdrawn:
            yield _link(session, other, withdrawn=True)


def _link(session: Session, other: str, **more: Any) -> SessionsLinked:
    known = {name: value for name, value in more.items() if value}
    return SessionsLinked(session_id=session.session_id, other_session_id=other, elsewhere=True, derived=True, **known)
