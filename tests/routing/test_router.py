"""The router: what can be registered, and what is refused."""

from __future__ import annotations

import re
import sys
from functools import partial
from importlib.machinery import ModuleSpec
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
    """A handler without parameters."""


def names(router: Router) -> list[tuple[str, ...]]:
    """Return the event names of each handler of a router."""
    return [registration.events for registration, _ in router.walk()]


def test_a_decorator_returns_the_function() -> None:
    """Decorators can be stacked, and tests can call the function."""
    router = Router()

    @router.on("dialout-stopped")
    @router.on(DialoutAnswered)
    async def both(event: DialoutAnswered | DialoutStopped, session: Session) -> None:
        """Handles two event types."""

    assert both.__name__ == "both"
    assert names(router) == [("dialout-answered",), ("dialout-stopped",)]


def test_a_base_class_registers_for_all_its_subclasses() -> None:
    """`Event` includes unknown event types."""
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


def test_handlers_keep_registration_order_with_included_routers_after_their_parent() -> None:
    """The order of registering and including does not matter across routers."""
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
    assert [registration.name.removeprefix(f"{__name__}.") for registration, _ in parent.walk()] == [
        "first",
        "second",
        "third",
    ]


def test_a_handler_is_named_by_its_module_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a retry of `app.bill` would run `reports.bill` as well. A program run as a script has the name that an import has."""

    class Bill:
        async def __call__(self) -> None:
            """Does nothing."""

    def name_of(handler: Any) -> str:
        router = Router()
        router.on_end()(handler)
        ((registration, _),) = router.walk()
        return registration.name

    assert name_of(anything) == name_of(partial(anything)) == f"{__name__}.anything"
    assert name_of(Bill()).endswith("<locals>.Bill")
    main = sys.modules["__main__"]
    monkeypatch.setattr(anything, "__module__", "__main__")
    monkeypatch.setattr(main, "__spec__", None, raising=False)
    monkeypatch.setattr(main, "__file__", "/srv/app.py", raising=False)
    assert name_of(anything) == "app.anything"
    monkeypatch.setattr(main, "__spec__", ModuleSpec("shop.app", None), raising=False)
    assert name_of(anything) == "shop.app.anything"


def test_every_hook_has_a_decorator() -> None:
    """Middleware has its own method."""
    router = Router()
    for decorator in (
        router.on_start(),
        router.on("dialin-ready"),
        router.on_state(State.ANSWERED),
        router.on_end(direction="dialin"),
        router.on_retired(),
        router.on_caller_lost(),
        router.on_unmatched(),
        router.on_handler_error(),
    ):
        decorator(anything)
    assert [registration.hook for registration, _ in router.walk()] == list(Hook)[:-1]
    assert "8 handlers" in repr(router)


def sync() -> None:
    """Not async."""


async def wants_more(event: Event, database: object) -> None:
    """Takes an argument that no handler gets."""


async def by_position(event: Event, /) -> None:
    """Takes a positional-only argument."""


async def for_another(event: DialinStopped) -> None:
    """Annotated for another event type."""


async def needs_session(session: Session) -> None:
    """For a hook without a session."""


async def needs_event(event: Event) -> None:
    """For a hook without an event."""


async def is_async(event: Event) -> bool:
    """An async function, so not a predicate."""
    return True


def no_predicate(calls: object) -> bool:
    """Takes an argument that no filter gets."""
    return True


def register(**options: Any) -> Any:
    """Register a handler with these options."""
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
    (lambda: Router().on_end(cast("Any", anything)), "accepts keyword arguments only: @router.on_end()"),
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
def test_a_wrong_registration_raises_a_definition_error(wrong: Any, complaint: str) -> None:
    """The message says what is expected instead."""
    with pytest.raises(DefinitionError, match=re.escape(complaint)):
        wrong()


def test_every_kind_of_callable_can_be_registered() -> None:
    """Partials, objects, defaults, keyword-only parameters and `**kwargs`."""

    async def with_default(event: Event, limit: int = 5) -> None:
        """Has a parameter with a default."""

    async def takes_all(**given: Any) -> None:
        """Takes every argument."""

    class Callable:
        async def __call__(self, *, session: Session) -> None:
            """An async `__call__` with a keyword-only parameter."""

    router = Router()
    for handler in (partial(wants_more, database=1), with_default, takes_all, Callable()):
        router.on(DialoutAnswered)(handler)
    wants = [registration.wants for registration, _ in router.walk()]
    assert wants == [("event",), ("event",), ("event", "session", "outcome", "calls"), ("session",)]


def test_including_a_router_twice_or_in_a_circle_is_refused() -> None:
    """Its handlers would run twice."""
    one, two, three = Router("one"), Router("two"), Router("three")
    one.include(two)
    with pytest.raises(DefinitionError, match="circle"):
        two.include(one)
    with pytest.raises(DefinitionError, match="circle"):
        one.include(one)
    with pytest.raises(DefinitionError, match="included in one already"):
        three.include(two)


def test_an_unreadable_annotation_is_ignored_and_a_mock_is_refused() -> None:
    """A mock has every attribute: looking through `partial` must not loop."""

    async def odd(event: "nonsense (") -> None:  # type: ignore[valid-type]  # noqa: F722
        """Has an invalid annotation."""

    router = Router()
    router.on(DialoutAnswered)(odd)
    with pytest.raises(DefinitionError, match="by position"):
        router.on(DialoutAnswered)(AsyncMock())


def test_a_router_shared_by_two_dispatchers_is_closed_until_both_have_stopped() -> None:
    """Only then can handlers be registered again."""
    router = Router()
    router.start()
    router.start()
    router.stop()
    with pytest.raises(DefinitionError, match="runs already"):
        router.on_start()
    router.stop()
    router.on_start()(anything)


def test_registering_on_a_running_router_is_refused() -> None:
    """The running dispatcher would not see the handler. Included routers are closed too."""
    parent, child = Router("parent"), Router("child")
    parent.include(child)
    parent.start()
    for refused in (child.on_start, lambda: parent.middleware(anything), lambda: parent.include(Router())):
        with pytest.raises(DefinitionError, match="parent runs already"):
            refused()
    parent.stop()
    child.on_start()(anything)


def test_outcomes_can_be_given_by_name() -> None:
    """As members or as their values."""
    router = Router()
    router.on(DialoutAnswered, outcomes={OutcomeKind.LATE})(anything)
    router.on(DialoutAnswered, outcomes=["late", "duplicate"])(anything)
    asked = [registration.outcomes for registration, _ in router.walk()]
    assert asked == [{OutcomeKind.LATE}, {OutcomeKind.LATE, OutcomeKind.DUPLICATE}]


@pytest.mark.parametrize("name", ["dialout-answered", "dialout.answered", "on_dialout_answered"])
def test_an_event_is_named_as_any_dialect_names_it(name: str) -> None:
    """A webhook's user knows it with a dot, a daily-python user by the callback."""
    router = Router()

    @router.on(name)
    async def answered() -> None: ...

    assert [registration.events for registration, _ in router.walk()] == [("dialout-answered",)]
