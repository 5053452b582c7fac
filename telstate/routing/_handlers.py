"""Handlers: what is known of each when it is registered, and which of them an outcome calls for, in which order.

A registration is read and checked once, where the decorator stands; everything wrong with it is said there. When a dispatcher
starts, it makes a table of them; from then on each event costs a few look-ups.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from telstate.calls._outcome import Outcome, OutcomeKind
from telstate.calls._table import State
from telstate.errors import DefinitionError
from telstate.events import Direction, Event, UnknownEvent, event_types
from telstate.routing._handler_timeout import checked_timeout, with_timeout
from telstate.routing._interruption import Interruption
from telstate.routing._log import Log, display_names, of_session, traceback_of
from telstate.routing._ports import Clock, HandlerRun
from telstate.routing._retry import Retry, checked, retrying

__all__ = [
    "NEWS",
    "Around",
    "BoundHandler",
    "Filters",
    "Handler",
    "HandlerTable",
    "Hook",
    "Registration",
    "filters_of",
    "is_async",
    "member_of",
    "names_of",
    "register",
]

Handler = Callable[..., Coroutine[Any, Any, object]]
Around = Callable[[str, HandlerRun], HandlerRun | None]


class Hook(IntEnum):
    """What a handler is registered for; those of one event run in this order."""

    START = 0
    EVENT = 1
    STATE = 2
    END = 3
    RETIRED = 4
    CALLER_LOST = 5
    UNMATCHED = 6
    ERROR = 7
    MIDDLEWARE = 8


_ARGUMENTS: dict[Hook, tuple[str, ...]] = {
    Hook.START: ("event", "session", "outcome", "calls"),
    Hook.EVENT: ("event", "session", "outcome", "calls"),
    Hook.STATE: ("event", "session", "outcome", "calls"),
    Hook.END: ("event", "session", "outcome", "calls"),
    Hook.RETIRED: ("session", "calls"),
    Hook.UNMATCHED: ("event", "outcome", "calls"),
    Hook.CALLER_LOST: ("caller", "calls"),
    Hook.ERROR: ("error", "handler", "event", "session", "outcome", "calls"),
    Hook.MIDDLEWARE: ("call_next", "handler", "event", "session", "outcome", "calls"),
}
"""The arguments that a handler of each hook can take, by name."""

NEWS = frozenset({OutcomeKind.MOVED, OutcomeKind.NOTED})


class Filters(NamedTuple):
    """The conditions for a handler to run. Checked after the event is applied, not when the handler's turn comes."""

    direction: Direction | None = None
    state: State | None = None
    provider: str | None = None
    where: Callable[..., bool] | None = None
    wants: tuple[str, ...] = ()
    """The arguments that `where` takes."""

    def pass_on(self, outcome: Outcome) -> bool:
        """Return whether the filters match the state as it is now. Raises any exception of `where`."""
        event, session = outcome.event, outcome.session
        direction = session.direction if session is not None else event.direction
        if self.direction is not None and self.direction is not direction:
            return False
        if self.state is not None and (session is None or session.state is not self.state):
            return False
        if self.provider is not None and (session is None or session.provider != self.provider):
            return False
        if self.where is None:
            return True
        arguments = {"event": event, "session": session, "outcome": outcome}
        return bool(self.where(**{name: arguments.get(name) for name in self.wants}))


class Registration(NamedTuple):
    """A handler, and what it is registered for."""

    handler: Handler
    hook: Hook
    wants: tuple[str, ...]
    """The arguments it takes, by name."""
    events: tuple[str, ...] = ()
    """Daily's names of the events it is for."""
    state: State | None = None
    """The state whose entering it is for."""
    filters: Filters = Filters()
    outcomes: frozenset[OutcomeKind] = NEWS
    live_only: bool = False
    retry: Retry | None = None
    timeout: float | None = None
    """Seconds after which it is cancelled; None for the router's."""

    @property
    def name(self) -> str:
        """The handler's module and name, for logs, checkpoints and dead letters: the same after a restart."""
        function = _unwrapped(self.handler)
        named = function if hasattr(function, "__qualname__") else type(function)
        return f"{_module_of(named)}.{named.__qualname__}"


class BoundHandler(NamedTuple):
    """A handler with its middlewares around it, ready to run."""

    name: str
    run: HandlerRun
    """Takes a job, and passes on what the handler wants."""
    registration: Registration
    live_only: bool
    has_filters: bool


_NOTHING: dict[OutcomeKind, tuple[BoundHandler, ...]] = dict.fromkeys(OutcomeKind, ())


class HandlerTable:
    """The handlers of a router and of all that it includes, by what calls for them.

    Args:
        registrations: each handler with the middlewares around it, outermost first, in the order in which they run.
        calls: what handlers get as `calls`.
        clock: governs the pauses between retries.
        interruption: learns of a KeyboardInterrupt of a filter.
        around: each puts something around a handler, given its name and what runs it; None leaves that as it is. The last one is outermost.
    """

    def __init__(
        self,
        registrations: Iterable[tuple[Registration, tuple[Registration, ...]]],
        calls: Any,
        clock: Clock,
        interruption: Interruption | None = None,
        around: Iterable[Around] = (),
    ) -> None:
        self._interruption = interruption or Interruption()
        names = Counter[str]()
        self._all = [
            _bind_all(_unique(registration.name, names), registration, around, calls, clock)
            for registration, around in registrations
        ]
        for wrap in around:
            self._all = [one._replace(run=wrap(one.name, one.run) or one.run) for one in self._all]
        self._has_filters = any(handler.has_filters for handler in self._all)
        self._on: dict[str, dict[OutcomeKind, tuple[BoundHandler, ...]]] = {}
        for handler in self._of(Hook.EVENT):
            for name in handler.registration.events:
                by_kind = self._on.setdefault(name, dict(_NOTHING))
                for kind in handler.registration.outcomes:
                    by_kind[kind] += (handler,)
        self._start = self._of(Hook.START)
        self._end = self._of(Hook.END)
        self._state = {
            state: tuple(handler for handler in self._of(Hook.STATE) if handler.registration.state is state)
            for state in State
        }
        self.retired: tuple[BoundHandler, ...] = self._of(Hook.RETIRED)
        self.errors: tuple[BoundHandler, ...] = self._of(Hook.ERROR)
        self._unmatched = self._of(Hook.UNMATCHED)
        self._caller_lost = self._of(Hook.CALLER_LOST)
        hooks = (self._start, self._end, self._unmatched, self._caller_lost, *self._state.values())
        self._only_events = not any(hooks)
        """True if all handlers are for events: then there is little to look up."""
        self._log = Log()

    def _of(self, hook: Hook) -> tuple[BoundHandler, ...]:
        return tuple(handler for handler in self._all if handler.registration.hook is hook)

    def find(self, outcome: Outcome) -> tuple[BoundHandler, ...]:
        """Return the handlers that an outcome calls for: start, event, states, end; within each in order of registration.

        Call it when the event has just been stepped: filters see the state as it is. A filter that raises is logged, and its
        handler does not run.
        """
        found = self._on.get(outcome.event.name, _NOTHING)[outcome.kind]
        if not self._only_events:
            found = self._with_hooks(found, outcome)
        if not self._has_filters or not found:
            return found
        return tuple(handler for handler in found if not handler.has_filters or self._passes(handler, outcome))

    def with_where(self, outcome: Outcome) -> tuple[BoundHandler, ...]:
        """Return those of an outcome's handlers that have a filter of the program (`where=`)."""
        if not self._has_filters:
            return ()
        return tuple(handler for handler in self._of_outcome(outcome) if handler.registration.filters.where is not None)

    def without_where(self, outcome: Outcome) -> tuple[BoundHandler, ...]:
        """Return the handlers that `find` would, except those that have a filter of the program: none is asked."""
        return tuple(
            handler
            for handler in self._of_outcome(outcome)
            if handler.registration.filters.where is None and handler.registration.filters.pass_on(outcome)
        )

    def _of_outcome(self, outcome: Outcome) -> tuple[BoundHandler, ...]:
        return self._with_hooks(self._on.get(outcome.event.name, _NOTHING)[outcome.kind], outcome)

    def named(self, outcome: Outcome | None, names: Collection[str]) -> tuple[BoundHandler, ...]:
        """Return the named ones of an outcome's handlers, or of a retirement's if there is no outcome.

        They passed their filters when the event was stepped.
        """
        found = self.retired if outcome is None else self._of_outcome(outcome)
        return tuple(handler for handler in found if handler.name in names)

    def _with_hooks(self, found: tuple[BoundHandler, ...], outcome: Outcome) -> tuple[BoundHandler, ...]:
        """Put the handlers of what else happened around those of the event."""
        if outcome.opened:
            found = self._start + found
        for move in outcome.moves:
            found += self._state[move.target]
        if outcome.ended:
            found += self._end
        if outcome.kind is OutcomeKind.UNMATCHED:
            found += self._unmatched
        if outcome.lost_caller is not None:
            found += self._caller_lost
        return found

    def _passes(self, handler: BoundHandler, outcome: Outcome) -> bool:
        try:
            return handler.registration.filters.pass_on(outcome)
        except BaseException as error:  # it runs while an event is stepped, also at every start: nothing may end that
            self._interruption.note(error, handler.name)
            exception = traceback_of(error, display_names(outcome.session, outcome.event))
            facts = {**of_session(outcome.session), "event_id": outcome.event_id, "exception": exception}
            self._log.error(
                "filter.failed", handler=handler.name, **facts, hint="its handler does not run for this event"
            )
            return False


def _unique(name: str, names: Counter[str]) -> str:
    """Number handlers that share a name, as functions that a factory makes do: a retry runs the one that failed."""
    names[name] += 1
    return name if names[name] == 1 else f"{name}#{names[name]}"


def _bind_all(
    name: str, registration: Registration, around: tuple[Registration, ...], calls: Any, clock: Clock
) -> BoundHandler:
    """Fold the middlewares around a handler, the outermost outside."""
    run = _bind(*_with_calls(registration, calls))
    for middleware in reversed(around):
        run = _wrap(*_with_calls(middleware, calls), run, name)
    if registration.retry is not None:
        run = retrying(run, registration.retry, name, clock)
    run = with_timeout(run, registration.timeout, name, clock)
    has_filters = registration.filters != Filters()
    return BoundHandler(name, run, registration, registration.live_only, has_filters)


def _with_calls(registration: Registration, calls: Any) -> tuple[Handler, tuple[str, ...]]:
    """Bind `calls`, which is the same for every job; return the handler and the arguments that it still wants."""
    if "calls" not in registration.wants:
        return registration.handler, registration.wants
    return partial(registration.handler, calls=calls), tuple(name for name in registration.wants if name != "calls")


def _bind(handler: Handler, wants: tuple[str, ...]) -> HandlerRun:
    """Take the arguments that a handler wants off a job. What most handlers want is spelled out: that is three times as fast."""
    if not wants:
        return lambda _: handler()
    if wants == ("event",):
        return lambda job: handler(event=job.event)
    if wants == ("session",):
        return lambda job: handler(session=job.session)
    if set(wants) == {"event", "session"}:
        return lambda job: handler(event=job.event, session=job.session)
    return lambda job: handler(**{name: getattr(job, name) for name in wants})


def _wrap(middleware: Handler, wants: tuple[str, ...], inner: HandlerRun, name: str) -> HandlerRun:
    def run(job: Any) -> Coroutine[Any, Any, object]:
        more = {"handler": name, "call_next": lambda: inner(job)}
        return middleware(**{want: more[want] if want in more else getattr(job, want) for want in wants})

    return run


# --- registering ------------------------------------------------------------------------------------------------------


def register(
    handler: Handler,
    hook: Hook,
    *,
    event: type[Event] | str | None = None,
    state: State | None = None,
    filters: Filters | None = None,
    outcomes: Iterable[OutcomeKind | str] = NEWS,
    live_only: bool = False,
    retry: Retry | int | None = None,
    timeout: float | None = None,
) -> Registration:
    """Read a handler's signature, and check that it can ever be called.

    Raises:
        DefinitionError: if it is not an async function, takes an argument that its hook does not have, or is annotated for
            another event.
    """
    if not is_async(handler):
        raise DefinitionError(f"{_name(handler)} is not an async function: write `async def {_name(handler)}(…)`")
    wants = _wanted(handler, _ARGUMENTS[hook])
    if hook is Hook.MIDDLEWARE and "call_next" not in wants:
        raise DefinitionError(f"{_name(handler)} is a middleware: it must take `call_next`, and await it")
    events = names_of(event) if event is not None else ()
    if events:
        _check_annotation(handler, events)
    return Registration(
        handler,
        hook,
        wants,
        events,
        state,
        filters or Filters(),
        _outcomes(outcomes, handler),
        live_only,
        checked(retry),
        checked_timeout(timeout),
    )


def names_of(event: type[Event] | str) -> tuple[str, ...]:
    """Return Daily's names of an event type: of the class, of all classes below a base class, or of a name in any dialect.

    Raises:
        DefinitionError: if there is no such event; the message names the nearest.
    """
    known = event_types()
    if isinstance(event, str):
        given_name = event
        event = event.removeprefix("on_").replace(".", "-").replace("_", "-")  # as webhooks and daily-python spell it
        if event not in known:
            near = ", ".join(sorted(known, key=lambda name: _distance(name, event))[:3])
            raise DefinitionError(
                f"there is no event {given_name!r}; the nearest are {near}. For types that telstate does not know: UnknownEvent"
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
    """Check the filters of a registration.

    Raises:
        DefinitionError: if one of them can never hold.
    """
    if where is not None and not callable(where):
        raise DefinitionError(f"where= takes a function that returns True or False, not {where!r}")
    if where is not None and is_async(where):
        raise DefinitionError(f"where={_name(where)} is async: a filter answers at once, about the state as it is then")
    return Filters(
        member_of(Direction, direction, "direction"),
        member_of(State, state, "state"),
        provider,
        where,
        _wanted(where, ("event", "session", "outcome")) if where is not None else (),
    )


def member_of(enum: Any, value: Any, name: str) -> Any:
    """Return the member of an enum that a value names; None stays None.

    Raises:
        DefinitionError: if there is none.
    """
    try:
        return None if value is None else enum(value)
    except ValueError:
        raise DefinitionError(f"{name}= takes one of {', '.join(enum)}, not {value!r}") from None


def is_async(function: Any) -> bool:
    """Return True for an async function, or an object whose call is one; `functools.partial` is looked through."""
    function = _unwrapped(function)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _unwrapped(function: Any) -> Any:
    while isinstance(function, partial):
        function = function.func
    return function


def _module_of(function: Any) -> str:
    """Return the module's name as an import spells it, so that `python app.py` and `telstate serve app` agree on a handler."""
    if function.__module__ != "__main__":
        return str(function.__module__)
    main = sys.modules["__main__"]
    if main.__spec__ is not None:
        return main.__spec__.name
    return Path(getattr(main, "__file__", None) or "__main__").stem


def _outcomes(outcomes: Iterable[OutcomeKind | str], handler: Handler) -> frozenset[OutcomeKind]:
    if isinstance(outcomes, str):
        raise DefinitionError(
            f"outcomes= of {_name(handler)} takes a set, such as {{OutcomeKind.LATE}}, not {outcomes!r}"
        )
    return frozenset(member_of(OutcomeKind, kind, "outcomes") for kind in outcomes)


def _wanted(function: Callable[..., Any], available: tuple[str, ...]) -> tuple[str, ...]:
    """Return which of the available arguments a function takes; refuse any other parameter without a default."""
    wants = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            return available
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            raise DefinitionError(
                f"{_name(function)} takes {name} by position; handlers get {', '.join(available)} by name"
            )
        if name in available:
            wants.append(name)
        elif parameter.default is parameter.empty:
            raise DefinitionError(f"{_name(function)} takes {name!r}; available here are {', '.join(available)}")
    return tuple(wants)


def _check_annotation(handler: Handler, events: tuple[str, ...]) -> None:
    """Refuse a handler that is annotated for one event and registered for another: that is a slip."""
    kinds, types = _annotated(handler), event_types()
    for cls in (types.get(name, UnknownEvent) for name in events):
        if kinds and not issubclass(cls, kinds):
            expected = " | ".join(kind.__name__ for kind in kinds)
            raise DefinitionError(f"{_name(handler)} takes event: {expected}, but is registered for {cls.__name__}")


def _annotated(handler: Handler) -> tuple[type, ...]:
    """Return the classes in the annotation of a handler's `event`; none where it cannot be read."""
    try:
        hints = typing.get_type_hints(inspect.unwrap(handler))
    except (NameError, TypeError, AttributeError, SyntaxError):
        return ()
    wanted = hints.get("event")
    return tuple(kind for kind in (typing.get_args(wanted) or (wanted,)) if isinstance(kind, type) and kind is not Any)


def _name(function: Any) -> str:
    return getattr(function, "__name__", None) or repr(function)


def _distance(one: str, other: str) -> int:
    """Count the letters that two names do not share: enough to find a typing error."""
    return len(set(one) ^ set(other)) + abs(len(one) - len(other))
