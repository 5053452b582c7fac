"""Only for the type checker, which runs over all tests: what a user's editor knows of handlers and answers.

Every `type: ignore` here must be needed: the checker is told to complain of those that are not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, assert_type

from telstate import DialoutAnswered, DialoutStopped, Dispatcher, Outcome, Router, Session, State

router = Router()


@router.on(DialoutAnswered)
async def greet(event: DialoutAnswered, session: Session) -> None:
    """The decorator gives back the very function, and the event is what it was registered for."""
    assert_type(event.destination, str | None)
    assert_type(session.state, State)


@router.on_state("answered")
async def count(outcome: Outcome) -> int:
    """What a handler returns is nobody's business."""
    return len(outcome.moves)


assert_type(greet, Callable[[DialoutAnswered, Session], Coroutine[Any, Any, None]])  # type: ignore[assert-type]
kept: Callable[[DialoutAnswered, Session], Coroutine[Any, Any, None]] = greet


@router.on(DialoutAnswered)
@router.on(DialoutStopped)
async def both(event: DialoutAnswered | DialoutStopped) -> None:
    """One handler for two events. A decorator whose type refused a handler of another event could not give back the very
    function, and then these two could not stand one above the other; so that is refused at registration instead."""


def sync(event: DialoutAnswered) -> None:
    """Not async."""


router.on(DialoutAnswered)(sync)  # type: ignore[type-var]
router.on(5)  # type: ignore[arg-type]
router.on_state(State.ANSWERED)(sync)  # type: ignore[type-var]


async def answers(calls: Dispatcher) -> None:
    """What the dispatcher gives."""
    assert_type(await calls.receive(b"{}"), Outcome)
    assert_type(await calls.wait_for("s", State.ANSWERED), Session)
    assert_type(calls.session("s"), Session | None)
    assert_type(calls.legs("s"), list[Session])
    assert_type(calls.changes(), AsyncIterator[Outcome])
    await calls.receive(5)  # type: ignore[arg-type]
