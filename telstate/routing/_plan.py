"""Which handlers an outcome calls for, in which order. Made once, when the dispatcher starts; then it is look-ups."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, NamedTuple

from telstate.calls._outcome import Outcome, OutcomeKind
from telstate.calls._table import State
from telstate.routing._registration import Filters, Handler, Moment, Registration
from telstate.routing._retry import retrying
from telstate.routing._router import Router

__all__ = ["Call", "Plan"]

Given = Mapping[str, Any]


class Call(NamedTuple):
    """One handler with its middlewares around it."""

    name: str
    run: Callable[[Given], Coroutine[Any, Any, object]]
    """Called with everything that can be given; it takes what it wants."""
    registration: Registration
    live_only: bool
    plain: bool
    """True if it has no filters: most have none."""


class Plan:
    """The handlers of a router and all it includes, by what calls for them."""

    def __init__(self, router: Router) -> None:
        self._calls = [_call(registration, around) for registration, around in router.walk()]
        self._plain = all(call.plain for call in self._calls)
        self._on: dict[str, dict[OutcomeKind, tuple[Call, ...]]] = {}
        for call in self._of(Moment.EVENT):
            for name in call.registration.events:
                by_kind = self._on.setdefault(name, dict.fromkeys(OutcomeKind, ()))
                for kind in call.registration.outcomes:
                    by_kind[kind] += (call,)
        self._start = self._of(Moment.START)
        self._end = self._of(Moment.END)
        self._state = {
            state: tuple(call for call in self._of(Moment.STATE) if call.registration.state is state) for state in State
        }
        self.retired = self._of(Moment.RETIRED)
        self.errors = self._of(Moment.ERROR)
        self._unmatched = self._of(Moment.UNMATCHED)
        self._only_events = not (self._start or self._end or self._unmatched or any(self._state.values()))
        """True if all handlers are of events: then there is little to ask."""

    def _of(self, moment: Moment) -> tuple[Call, ...]:
        return tuple(call for call in self._calls if call.registration.moment is moment)

    def calls_for(self, outcome: Outcome, failed: Callable[[Call, Exception], None]) -> tuple[Call, ...]:
        """The handlers an outcome calls for: start, event, states, end; within each in order of registration.

        Args:
            outcome: what became of an event, just now: filters see the state as it is.
            failed: told of a predicate that raised; its handler does not run.
        """
        found = self._candidates(outcome)
        if self._plain or not found:
            return found
        return tuple(call for call in found if call.plain or _passes(call, outcome, failed))

    def named(self, outcome: Outcome | None, names: Collection[str]) -> tuple[Call, ...]:
        """Of the handlers that an outcome calls for (none: those of a retirement) the named ones: they passed their filters
        when it was stepped."""
        found = self.retired if outcome is None else self._candidates(outcome)
        return tuple(call for call in found if call.name in names)

    def _candidates(self, outcome: Outcome) -> tuple[Call, ...]:
        on = self._on.get(outcome.event.name)
        found = () if on is None else on[outcome.kind]
        if self._only_events:
            return found
        if outcome.opened:
            found = self._start + found
        for move in outcome.moves:
            found += self._state[move.target]
        if outcome.ended:
            found += self._end
        if outcome.kind is OutcomeKind.UNMATCHED:
            found += self._unmatched
        return found


def _passes(call: Call, outcome: Outcome, failed: Callable[[Call, Exception], None]) -> bool:
    """Hold a call's filters against the moment."""
    filters, event, session = call.registration.filters, outcome.event, outcome.session
    direction = session.direction if session is not None else event.direction
    if filters.direction is not None and filters.direction is not direction:
        return False
    if filters.state is not None and (session is None or session.state is not filters.state):
        return False
    if filters.provider is not None and (session is None or session.provider != filters.provider):
        return False
    if filters.where is None:
        return True
    given = {"event": event, "session": session, "outcome": outcome}
    try:
        return bool(filters.where(**{name: given.get(name) for name in filters.wants}))
    except Exception as error:
        failed(call, error)
        return False


def _call(registration: Registration, around: tuple[Registration, ...]) -> Call:
    """Fold the middlewares around a handler, the outermost outside."""
    run = _bind(registration.handler, registration.wants)
    for middleware in reversed(around):
        run = _wrap(middleware, run, registration.name)
    if registration.retry is not None:
        run = retrying(run, registration.retry, registration.name)
    return Call(registration.name, run, registration, registration.live_only, registration.filters == Filters())


def _bind(handler: Handler, wants: tuple[str, ...]) -> Callable[[Given], Coroutine[Any, Any, object]]:
    """A call that takes everything and gives the handler what it wants. Most want one or two things."""
    if not wants:
        return lambda _: handler()
    if len(wants) == 1:
        (only,) = wants
        return lambda given: handler(**{only: given[only]})
    return lambda given: handler(**{name: given[name] for name in wants})


def _wrap(
    middleware: Registration, inner: Callable[[Given], Coroutine[Any, Any, object]], name: str
) -> Callable[[Given], Coroutine[Any, Any, object]]:
    def run(given: Given) -> Coroutine[Any, Any, object]:
        more = {**given, "handler": name, "call_next": lambda: inner(given)}
        return middleware.handler(**{want: more.get(want) for want in middleware.wants})

    return run
