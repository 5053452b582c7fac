"""For the type checker only, which runs over all tests: what an editor knows about handlers and results.

Every `type: ignore` here must be needed: mypy reports unused ones.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, assert_type

from telstate import DialoutAnswered, DialoutStopped, Dispatcher, Outcome, Router, Session, State
from telstate.options import Dtmf, Transfer
from telstate.routing._ports import KeptLetter

router = Router()


@router.on(DialoutAnswered)
async def greet(event: DialoutAnswered, session: Session) -> None:
    """The decorator returns the function with its own type."""
    assert_type(event.destination, str | None)
    assert_type(session.state, State)


@router.on_state("answered")
async def count(outcome: Outcome) -> int:
    """A handler may return anything."""
    return len(outcome.moves)


assert_type(greet, Callable[[DialoutAnswered, Session], Coroutine[Any, Any, None]])  # type: ignore[assert-type]
kept: Callable[[DialoutAnswered, Session], Coroutine[Any, Any, None]] = greet


@router.on(DialoutAnswered)
@router.on(DialoutStopped)
async def both(event: DialoutAnswered | DialoutStopped) -> None:
    """One handler for two events. If the decorator's type refused a handler annotated for another event, decorators could not
    be stacked; so that is checked at registration instead."""


def sync(event: DialoutAnswered) -> None:
    """Not async."""


router.on(DialoutAnswered)(sync)  # type: ignore[type-var]
router.on(5)  # type: ignore[arg-type]
router.on_state(State.ANSWERED)(sync)  # type: ignore[type-var]


async def results(calls: Dispatcher) -> None:
    """What the dispatcher returns."""
    assert_type(await calls.receive(b"{}"), Outcome)
    assert_type(await calls.wait_for("s", State.ANSWERED), Session)
    assert_type(calls.session("s"), Session | None)
    assert_type(calls.legs("s"), list[Session])
    assert_type(calls.sessions(), list[Session])
    assert_type(await calls.dead_letters.list(), list[KeptLetter])
    assert_type(calls.changes(), AsyncIterator[Outcome])
    await calls.receive(5)  # type: ignore[arg-type]
    await calls.transfer("s", Transfer(to_end_point="+12025550190"))
    await calls.transfer("s", "+12025550190", extension="1")  # type: ignore[call-arg]
    await calls.refer("s", Dtmf(tones="1"))  # type: ignore[arg-type]
    async with calls as entered:
        assert_type(entered, Dispatcher)
    with calls.as_handler():
        await calls.send_dtmf("s", Dtmf(tones="1"))
