"""The router: it registers handlers, and nothing else. It knows no engine, no journal and no running task.

    router = Router()

    @router.on(DialoutAnswered)
    async def greet(event: DialoutAnswered, session: Session) -> None: ...

Handlers are async functions that take any of `event`, `session`, `outcome` and `calls` by name. All that match run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from telstate.calls._outcome import OutcomeKind
from telstate.calls._table import State
from telstate.errors import DefinitionError
from telstate.events import Direction, Event
from telstate.routing._handler_timeout import checked_timeout
from telstate.routing._handlers import NEWS, Handler, Hook, Registration, filters_of, names_of, register
from telstate.routing._retry import Retry

__all__ = ["Router", "check_router"]

H = TypeVar("H", bound=Handler)


class Router:
    """Handlers in order of registration, then those of included routers.

    Args:
        name: for error messages.
        timeout: seconds after which a handler of this router is cancelled, unless its registration has a `timeout=` of its own; also for
            included routers that have none. See `on`.
    """

    def __init__(self, name: str = "router", *, timeout: float | None = None) -> None:
        self.name = name
        self._timeout = checked_timeout(timeout)
        self._registrations: list[Registration] = []
        self._middlewares: list[Registration] = []
        self._included: list[Router] = []
        self._parent: Router | None = None
        self._in_use = 0

    def __repr__(self) -> str:
        return f"<Router {self.name}: {len(self._registrations)} handlers, {len(self._included)} routers>"

    # --- registering ----------------------------------------------------------------------------------------------

    def on(
        self,
        event: type[Event] | str,
        *,
        direction: Direction | str | None = None,
        state: State | str | None = None,
        provider: str | None = None,
        where: Callable[..., bool] | None = None,
        outcomes: Iterable[OutcomeKind | str] = NEWS,
        live_only: bool = False,
        retry: Retry | int | None = None,
        timeout: float | None = None,
    ) -> Callable[[H], H]:
        """Run a handler for events of a type.

        Args:
            event: an event class, a base class of several (`DialoutEvent`, `Event`), or Daily's name in any dialect:
                "dialout-answered", "dialout.answered" or "on_dialout_answered".
            direction: only for sessions of this direction.
            state: only if the session is in this state after the event.
            provider: only for sessions of this provider.
            where: a predicate, taking any of `event`, `session`, `outcome` by name.
            outcomes: run it for these outcomes; by default for `moved` and `noted`.
            live_only: not started if the session has ended, cancelled when it ends.
            retry: try the handler again if it raises, before it becomes a dead letter; a number means so many attempts.
            timeout: seconds after which the handler is cancelled, its retries included, by the dispatcher's clock. It becomes a dead
                letter with the reason `HandlerTimeout`. None for the router's timeout, `math.inf` for none. What runs in a thread
                (`anyio.to_thread`) or blocks the event loop cannot be cancelled.

        Raises:
            DefinitionError: if the handler or a filter cannot be right; also at all other registrations.
        """
        names_of(event)  # now, not when it decorates: `@router.on` without parentheses would lose the handler
        filters = filters_of(direction, state, provider, where)
        return self._decorator(
            lambda handler: register(
                handler,
                Hook.EVENT,
                event=event,
                filters=filters,
                outcomes=outcomes,
                live_only=live_only,
                retry=retry,
                timeout=timeout,
            )
        )

    def on_start(
        self,
        bare: None = None,
        /,
        *,
        direction: Direction | str | None = None,
        where: Callable[..., bool] | None = None,
        retry: Retry | int | None = None,
        timeout: float | None = None,
    ) -> Callable[[H], H]:
        """Run a handler at the first sight of a session."""
        _refuse("on_start", bare)
        filters = filters_of(direction, None, None, where)
        return self._decorator(
            lambda handler: register(handler, Hook.START, filters=filters, retry=retry, timeout=timeout)
        )

    def on_state(
        self,
        state: State | str,
        *,
        direction: Direction | str | None = None,
        where: Callable[..., bool] | None = None,
        live_only: bool = False,
        retry: Retry | int | None = None,
        timeout: float | None = None,
    ) -> Callable[[H], H]:
        """Run a handler when a session enters a state. A jump (idle → answered) enters the target only."""
        filters = filters_of(direction, state, None, where)
        entered = filters.state
        filters = filters._replace(
            state=None
        )  # the state is entered, and later moves of the same event may have left it
        return self._decorator(
            lambda handler: register(
                handler, Hook.STATE, state=entered, filters=filters, live_only=live_only, retry=retry, timeout=timeout
            )
        )

    def on_end(
        self,
        bare: None = None,
        /,
        *,
        direction: Direction | str | None = None,
        where: Callable[..., bool] | None = None,
        retry: Retry | int | None = None,
        timeout: float | None = None,
    ) -> Callable[[H], H]:
        """Run a handler at the first terminal state of a session, once. Later evidence only amends the session."""
        _refuse("on_end", bare)
        filters = filters_of(direction, None, None, where)
        return self._decorator(
            lambda handler: register(handler, Hook.END, filters=filters, retry=retry, timeout=timeout)
        )

    def on_retired(
        self, bare: None = None, /, *, retry: Retry | int | None = None, timeout: float | None = None
    ) -> Callable[[H], H]:
        """Run a handler when a session leaves memory, with the final word on it: write call records here."""
        _refuse("on_retired", bare)
        return self._decorator(lambda handler: register(handler, Hook.RETIRED, retry=retry, timeout=timeout))

    def on_caller_lost(
        self, bare: None = None, /, *, retry: Retry | int | None = None, timeout: float | None = None
    ) -> Callable[[H], H]:
        """Run a handler when a caller on hold is lost: they got to no session within the `hold_limit`, or Daily refused to forward them.

        It takes any of `caller` (a `Caller`) and `calls`, and runs once for each caller.
        """
        _refuse("on_caller_lost", bare)
        return self._decorator(lambda handler: register(handler, Hook.CALLER_LOST, retry=retry, timeout=timeout))

    def on_unmatched(
        self, bare: None = None, /, *, retry: Retry | int | None = None, timeout: float | None = None
    ) -> Callable[[H], H]:
        """Run a handler for an event about a session that nothing names."""
        _refuse("on_unmatched", bare)
        return self._decorator(lambda handler: register(handler, Hook.UNMATCHED, retry=retry, timeout=timeout))

    def on_handler_error(self, bare: None = None, /, *, timeout: float | None = None) -> Callable[[H], H]:
        """Run a handler when another handler raises. It can also take `error` and `handler`, the name of the other."""
        _refuse("on_handler_error", bare)
        return self._decorator(lambda handler: register(handler, Hook.ERROR, timeout=timeout))

    def middleware(self, middleware: H) -> H:
        """Wrap every handler of this router and of the routers included in it. An outer router's middleware is the outer one.

        A middleware takes `call_next` and awaits it. It can also take `handler` (its name), `event`, `session`, `outcome`, `calls`.
        """
        self._check_open()
        self._middlewares.append(register(middleware, Hook.MIDDLEWARE))
        return middleware

    def include(self, router: Router) -> None:
        """Add another router's handlers after this router's own.

        Raises:
            DefinitionError: if that would be a circle, or the other router is included already.
        """
        self._check_open()
        if not isinstance(router, Router):
            raise DefinitionError(f"include() takes a Router, not {router!r}")
        above: Router | None = self
        while above is not None:
            if above is router:
                raise DefinitionError(f"{router.name} cannot be included in {self.name}: that would be a circle")
            above = above._parent
        if router._parent is not None:
            raise DefinitionError(f"{router.name} is included in {router._parent.name} already; make a second router")
        router._parent = self
        self._included.append(router)

    def _decorator(self, make: Callable[[Handler], Registration]) -> Callable[[H], H]:
        self._check_open()

        def decorate(handler: H) -> H:
            self._check_open()
            self._registrations.append(make(handler))
            return handler

        return decorate

    def _check_open(self) -> None:
        above: Router | None = self
        while above is not None:
            if above._in_use:
                raise DefinitionError(f"{above.name} runs already: register all handlers before the dispatcher starts")
            above = above._parent

    # --- what the dispatcher reads --------------------------------------------------------------------------------

    def start(self) -> None:
        """Refuse registrations: a dispatcher runs."""
        self._in_use += 1

    def stop(self) -> None:
        """Accept registrations again."""
        self._in_use -= 1

    def walk(
        self, outer: tuple[Registration, ...] = (), timeout: float | None = None
    ) -> Iterator[tuple[Registration, tuple[Registration, ...]]]:
        """Yield every handler with the middlewares around it, outermost first, in the order in which handlers run.

        Args:
            outer: the middlewares of the routers above.
            timeout: theirs, where this router and a registration have none.
        """
        around = (*outer, *self._middlewares)
        timeout = self._timeout if self._timeout is not None else timeout
        for registration in self._registrations:
            yield (registration if registration.timeout is not None else registration._replace(timeout=timeout)), around
        for router in self._included:
            yield from router.walk(around, timeout)


def check_router(router: object) -> None:
    """Raise TypeError if something else stands where a router belongs: a list of handlers, or a module that has one."""
    if not isinstance(router, Router):
        raise TypeError(f"expected a telstate.Router with the handlers first, got {router!r}")


def _refuse(decorator: str, bare: object) -> None:
    """Refuse a decorator without parentheses, and say so."""
    if bare is not None:
        raise DefinitionError(
            f"{decorator} needs parentheses, and accepts keyword arguments only: @router.{decorator}()"
        )
