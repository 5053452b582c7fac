"""What is known of a handler: read once, when it is registered. Everything wrong with it is said here and then."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Coroutine, Iterable
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

from telstate.calls._outcome import OutcomeKind
from telstate.calls._table import State
from telstate.errors import DefinitionError
from telstate.events import Direction, Event, UnknownEvent, event_types
from telstate.routing._retry import Retry, checked

__all__ = ["Filters", "Handler", "Moment", "Registration", "is_async", "member_of", "names_of", "register"]

Handler = Callable[..., Coroutine[Any, Any, object]]


class Moment(IntEnum):
    """When a handler runs, in the order in which the moments of one event come."""

    START = 0
    EVENT = 1
    STATE = 2
    END = 3
    RETIRED = 4
    UNMATCHED = 5
    ERROR = 6
    MIDDLEWARE = 7


_GIVEN: dict[Moment, tuple[str, ...]] = {
    Moment.START: ("event", "session", "outcome", "calls"),
    Moment.EVENT: ("event", "session", "outcome", "calls"),
    Moment.STATE: ("event", "session", "outcome", "calls"),
    Moment.END: ("event", "session", "outcome", "calls"),
    Moment.RETIRED: ("session", "calls"),
    Moment.UNMATCHED: ("event", "outcome", "calls"),
    Moment.ERROR: ("error", "handler", "event", "session", "outcome", "calls"),
    Moment.MIDDLEWARE: ("call_next", "handler", "event", "session", "outcome", "calls"),
}
"""What each moment can give to a handler, by name."""

NEWS = frozenset({OutcomeKind.MOVED, OutcomeKind.NOTED})


class Filters(NamedTuple):
    """What must hold for a handler to run; it is looked at when the event is stepped, not when the handler's turn comes."""

    direction: Direction | None = None
    state: State | None = None
    provider: str | None = None
    where: Callable[..., bool] | None = None
    wants: tuple[str, ...] = ()
    """What the predicate takes, by name."""


class Registration(NamedTuple):
    """A handler, and when it runs."""

    handler: Handler
    moment: Moment
    wants: tuple[str, ...]
    """What it takes, by name."""
    events: tuple[str, ...] = ()
    """Daily's names of the events it is for."""
    state: State | None = None
    """The state whose entering it is for."""
    filters: Filters = Filters()
    outcomes: frozenset[OutcomeKind] = NEWS
    live_only: bool = False
    retry: Retry | None = None

    @property
    def name(self) -> str:
        """The handler's name, for logs."""
        return getattr(self.handler, "__qualname__", repr(self.handler))


def register(
    handler: Handler,
    moment: Moment,
    *,
    event: type[Event] | str | None = None,
    state: State | None = None,
    filters: Filters | None = None,
    outcomes: Iterable[OutcomeKind | str] = NEWS,
    live_only: bool = False,
    retry: Retry | int | None = None,
) -> Registration:
    """Read a handler's signature and check that it can ever be called.

    Raises:
        DefinitionError: if it is no async function, takes what its moment cannot give, or is annotated for another event.
    """
    if not is_async(handler):
        raise DefinitionError(f"{_name(handler)} is not an async function: write `async def {_name(handler)}(…)`")
    wants = _wants(handler, _GIVEN[moment])
    if moment is Moment.MIDDLEWARE and "call_next" not in wants:
        raise DefinitionError(f"{_name(handler)} is a middleware and must take `call_next`, and await it")
    events = names_of(event) if event is not None else ()
    if events:
        _check_annotation(handler, events)
    asked = _outcomes(outcomes, handler)
    return Registration(handler, moment, wants, events, state, filters or Filters(), asked, live_only, checked(retry))


def names_of(event: type[Event] | str) -> tuple[str, ...]:
    """Daily's names of an event type: of one, of all below a base class, or of the name itself.

    Raises:
        DefinitionError: if there is no such event; the message names the nearest.
    """
    known = event_types()
    if isinstance(event, str):
        if event not in known:
            near = ", ".join(sorted(known, key=lambda name: _distance(name, event))[:3])
            raise DefinitionError(
                f"there is no event {event!r}; the nearest are {near}. For types new to telstate: UnknownEvent"
            )
        return (event,)
    given: Any = event
    if not (isinstance(given, type) and issubclass(given, Event)):
        raise DefinitionError(
            f"on() takes an event type or Daily's name of one, as in @on(DialoutAnswered), not {event!r}"
        )
    if event is UnknownEvent:
        return ("",)
    names = tuple(name for name, cls in known.items() if issubclass(cls, event))
    return (*names, "") if issubclass(UnknownEvent, event) else names


def filters_of(
    direction: Direction | str | None,
    state: State | str | None,
    provider: str | None,
    where: Callable[..., bool] | None,
) -> Filters:
    """Check the filters of a registration."""
    if where is not None and not callable(where):
        raise DefinitionError(f"where= takes a predicate, not {where!r}")
    if where is not None and is_async(where):
        raise DefinitionError(f"where={_name(where)} is async: a filter answers at once, about the state as it is then")
    return Filters(
        member_of(Direction, direction, "direction"),
        member_of(State, state, "state"),
        provider,
        where,
        _wants(where, ("event", "session", "outcome")) if where is not None else (),
    )


def member_of(enum: Any, value: Any, name: str) -> Any:
    """A value that may be written as its text; None stays None.

    Raises:
        DefinitionError: if there is none such.
    """
    try:
        return None if value is None else enum(value)
    except ValueError:
        raise DefinitionError(f"{name}= takes one of {', '.join(enum)}, not {value!r}") from None


def _outcomes(outcomes: Iterable[OutcomeKind | str], handler: Handler) -> frozenset[OutcomeKind]:
    if isinstance(outcomes, str):
        raise DefinitionError(
            f"outcomes= of {_name(handler)} takes a set, such as {{OutcomeKind.LATE}}, not {outcomes!r}"
        )
    return frozenset(member_of(OutcomeKind, kind, "outcomes") for kind in outcomes)


def is_async(function: Any) -> bool:
    """An async function, or an object whose call is one, seen through functools.partial."""
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _wants(function: Callable[..., Any], given: tuple[str, ...]) -> tuple[str, ...]:
    """Which of the given names a function takes; a parameter it cannot be given is refused, unless it has a default."""
    wants = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            return given
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            raise DefinitionError(
                f"{_name(function)} takes {name} by position; handlers are given {', '.join(given)} by name"
            )
        if name in given:
            wants.append(name)
        elif parameter.default is parameter.empty:
            raise DefinitionError(f"{_name(function)} takes {name!r}; here it can be given {', '.join(given)}")
    return tuple(wants)


def _check_annotation(handler: Handler, events: tuple[str, ...]) -> None:
    """A handler annotated for one event and registered for another is a slip."""
    try:
        hints = typing.get_type_hints(inspect.unwrap(handler))
    except (NameError, TypeError, AttributeError, SyntaxError):
        return  # annotations that cannot be read say nothing
    wanted = hints.get("event")
    kinds = tuple(kind for kind in (typing.get_args(wanted) or (wanted,)) if isinstance(kind, type) and kind is not Any)
    if not kinds:
        return
    for name in events:
        cls = event_types().get(name, UnknownEvent)
        if not issubclass(cls, kinds):
            raise DefinitionError(
                f"{_name(handler)} takes event: {' | '.join(kind.__name__ for kind in kinds)}, but is registered for {cls.__name__}"
            )


def _name(function: Any) -> str:
    return getattr(function, "__name__", None) or repr(function)


def _distance(one: str, other: str) -> int:
    """How many letters two names do not share; enough to find a slip of the finger."""
    return len(set(one) ^ set(other)) + abs(len(one) - len(other))
