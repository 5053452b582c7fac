"""The router: what is registered, and everything that is refused."""

from __future__ import annotations

import re
from functools import partial
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest

from telstate import (
    DefinitionError,
    DialinStopped,
    DialoutAnswered,
    DialoutEvent,
    DialoutStopped,
    Event,
    OutcomeKind,
    Router,
    Session,
    State,
    UnknownEvent,
)
from telstate.routing._handlers import Hook


async def anything() -> None:
    """A handler that wants nothing."""


def names(router: Router) -> list[tuple[str, ...]]:
    """The events of a router's handlers."""
    return [registration.events for registration, _ in router.walk()]


def test_a_decorator_returns_its_function() -> None:
    """So one function can have several, and be called in tests."""
    router = Router()

    @router.on("dialout-stopped")
    @router.on(DialoutAnswered)
    async def both(event: DialoutAnswered | DialoutStopped, session: Session) -> None:
        """Takes two."""

    assert both.__name__ == "both"
    assert names(router) == [("dialout-answered",), ("dialout-stopped",)]


def test_base_classes_stand_for_all_below() -> None:
    """All dial-out events, or all there are, the unknown among them."""
    router = Router()
    router.on(DialoutEvent)(anything)
    router.on(Event)(anything)
    router.on(UnknownEvent)(anything)
    out, everything, unknown = names(router)
    assert "dialout-refused" in out
    assert not any(name.startswith("dialin") for name in out)
    assert len(everything) > 25
    assert "" in everything
    assert unknown == ("",)


def test_the_order_is_that_of_registration_and_included_routers_come_after() -> None:
    """Whatever was included when."""
    parent, child, grandchild = Router("parent"), Router("child"), Router("grandchild")

    def handler(name: str) -> Any:
        async def run() -> None:
            """Does nothing."""

        run.__qualname__ = name
        return run

    child.include(grandchild)
    parent.include(child)
    grandchild.on_start()(handler("third"))
    child.on_start()(handler("second"))
    parent.on_start()(handler("first"))
    assert [registration.name for registration, _ in parent.walk()] == ["first", "second", "third"]


def test_every_moment_has_its_decorator() -> None:
    """Eight of them."""
    router = Router()
    for decorator in (
        router.on_start(),
        router.on("dialin-ready"),
        router.on_state(State.ANSWERED),
        router.on_end(direction="dialin"),
        router.on_retired(),
        router.on_unmatched(),
        router.on_handler_error(),
    ):
        decorator(anything)
    assert [registration.hook for registration, _ in router.walk()] == list(Hook)[:-1]
    assert "7 handlers" in repr(router)


def sync() -> None:
    """Not async."""


async def wants_more(event: Event, database: object) -> None:
    """Takes what nobody gives."""


async def by_position(event: Event, /) -> None:
    """Cannot be called by name."""


async def for_another(event: DialinStopped) -> None:
    """Annotated for another event."""


async def needs_session(session: Session) -> None:
    """Where there is none."""


async def needs_event(event: Event) -> None:
    """Where there is none."""


async def is_async(event: Event) -> bool:
    """No predicate."""
    return True


def no_predicate(calls: object) -> bool:
    """Takes what a filter is not given."""
    return True


def register(**options: Any) -> Any:
    """Register something with these options."""
    return Router().on(DialoutAnswered, **options)(anything)


WRONG: list[tuple[Any, str]] = [
    (lambda: Router().on(DialoutAnswered)(cast("Any", sync)), "sync is not an async function: write `async def sync"),
    (
        lambda: Router().on(DialoutAnswered)(wants_more),
        "takes 'database'; available here are event, session, outcome, calls",
    ),
    (lambda: Router().on(DialoutAnswered)(by_position), "takes event by position"),
    (
        lambda: Router().on(DialoutAnswered)(for_another),
        "takes event: DialinStopped, but is registered for DialoutAnswered",
    ),
    (lambda: Router().on("dialout-answerd")(anything), "no event 'dialout-answerd'; the nearest are dialout-answered"),
    (lambda: Router().on(cast("Any", int))(anything), "takes an event type"),
    (lambda: Router().on(cast("Any", anything)), "as in @on(DialoutAnswered)"),
    (lambda: Router().on_start(cast("Any", anything)), "on_start needs parentheses"),
    (lambda: Router().on_end(cast("Any", anything)), "takes nothing but names: @router.on_end()"),
    (lambda: Router().on_retired(cast("Any", anything)), "on_retired needs parentheses"),
    (lambda: Router().on_unmatched(cast("Any", anything)), "on_unmatched needs parentheses"),
    (lambda: Router().on_handler_error(cast("Any", anything)), "on_handler_error needs parentheses"),
    (lambda: Router().on_retired()(needs_event), "takes 'event'; available here are session, calls"),
    (lambda: Router().on_unmatched()(needs_session), "takes 'session'"),
    (lambda: Router().on_state("ringing")(anything), "state= takes one of idle, connected"),
    (lambda: register(direction="inbound"), "direction= takes one of dialin, dialout"),
    (lambda: register(outcomes="late"), "takes a set"),
    (lambda: register(outcomes=["lost"]), "outcomes= takes one of moved"),
    (lambda: register(where=5), "where= takes a function"),
    (lambda: register(where=is_async), "is async"),
    (lambda: register(where=no_predicate), "takes 'calls'; available here are event, session, outcome"),
    (lambda: Router().middleware(anything), "must take `call_next`"),
    (lambda: Router().include(cast("Any", 5)), "takes a Router"),
]


@pytest.mark.parametrize(("wrong", "complaint"), WRONG, ids=[complaint[:30] for _, complaint in WRONG])
def test_what_can_never_work_is_refused_at_registration(wrong: Any, complaint: str) -> None:
    """With a sentence that helps."""
    with pytest.raises(DefinitionError, match=re.escape(complaint)):
        wrong()


def test_what_can_be_called_is_not_refused() -> None:
    """Partials, objects, defaults, keyword-only parameters, and those who take all."""

    async def with_default(event: Event, limit: int = 5) -> None:
        """Brings its own."""

    async def takes_all(**given: Any) -> None:
        """Whatever there is."""

    class Callable:
        async def __call__(self, *, session: Session) -> None:
            """An object."""

    router = Router()
    for handler in (partial(wants_more, database=1), with_default, takes_all, Callable()):
        router.on(DialoutAnswered)(handler)
    wants = [registration.wants for registration, _ in router.walk()]
    assert wants == [("event",), ("event",), ("event", "session", "outcome", "calls"), ("session",)]


def test_circles_and_second_parents_are_refused() -> None:
    """A handler would run twice, or for ever."""
    one, two, three = Router("one"), Router("two"), Router("three")
    one.include(two)
    with pytest.raises(DefinitionError, match="circle"):
        two.include(one)
    with pytest.raises(DefinitionError, match="circle"):
        one.include(one)
    with pytest.raises(DefinitionError, match="included in one already"):
        three.include(two)


def test_odd_things_are_refused_or_taken_and_never_hang() -> None:
    """A mock has every attribute; annotations may be nonsense."""

    async def odd(event: "nonsense (") -> None:  # type: ignore[valid-type]  # noqa: F722
        """Its annotation cannot be read."""

    router = Router()
    router.on(DialoutAnswered)(odd)
    with pytest.raises(DefinitionError, match="by position"):
        router.on(DialoutAnswered)(AsyncMock())


def test_a_router_used_twice_stays_closed_until_both_are_done() -> None:
    """Two dispatchers may share it."""
    router = Router()
    router.start()
    router.start()
    router.stop()
    with pytest.raises(DefinitionError, match="runs already"):
        router.on_start()
    router.stop()
    router.on_start()(anything)


def test_nothing_is_registered_while_it_runs() -> None:
    """Nobody would know for which events it came too late."""
    parent, child = Router("parent"), Router("child")
    parent.include(child)
    parent.start()
    for refused in (child.on_start, lambda: parent.middleware(anything), lambda: parent.include(Router())):
        with pytest.raises(DefinitionError, match="parent runs already"):
            refused()
    parent.stop()
    child.on_start()(anything)


def test_outcomes_may_be_asked_for_by_name() -> None:
    """Late ones, say."""
    router = Router()
    router.on(DialoutAnswered, outcomes={OutcomeKind.LATE})(anything)
    router.on(DialoutAnswered, outcomes=["late", "duplicate"])(anything)
    asked = [registration.outcomes for registration, _ in router.walk()]
    assert asked == [{OutcomeKind.LATE}, {OutcomeKind.LATE, OutcomeKind.DUPLICATE}]
