"""The instruments of one run of a dispatcher: metrics and traces. Where there are none, nothing costs more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from telstate.calls._outcome import Outcome
from telstate.events import Event
from telstate.routing._handlers import Around
from telstate.routing._log import Log, text_of
from telstate.routing._log_context import binding_session
from telstate.routing._ports import Instrument
from telstate.routing._sequencer import Receive, Sequencer

__all__ = ["Instruments"]


class Instruments:
    """Lets instruments see a run, and keeps them from harming it.

    Args:
        instruments: of the dispatcher.
        calls: the dispatcher.
    """

    def __init__(self, instruments: Sequence[Instrument], calls: Any) -> None:
        self._instruments = tuple(instruments)
        self._calls = calls
        self._log = Log()

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self._instruments)

    @property
    def around(self) -> list[Around]:
        """What puts something around handlers."""
        return [*(one.around for one in self._instruments), binding_session]

    def open(self, sequencer: Sequencer) -> None:
        """The run begins: what its journal has is restored."""
        if self._instruments:
            self._each(lambda one: one.opened(self._calls))
            sequencer.measure(self._around)

    def close(self) -> None:
        """The run is over."""
        self._each(lambda one: one.closed(self._calls))

    def published(self, event: Event, dialect: str) -> None:
        """A publisher has stored an event."""
        self._each(lambda one: one.published(event, dialect))

    def _around(self, receive: Receive) -> Receive:
        calls, stepped = self._calls, [one.stepped for one in self._instruments]

        def step(event: Event, at: float | None, number: int | None, dialect: str | None) -> Outcome:
            outcome = receive(event, at, number, dialect)
            for show in stepped:
                try:
                    show(calls, outcome, at, dialect or "")
                except Exception as error:
                    self._failed(show, error)
            return outcome

        return step

    def _each(self, show: Callable[[Instrument], None]) -> None:
        for one in self._instruments:
            try:
                show(one)
            except Exception as error:
                self._failed(one, error)

    def _failed(self, what: Any, error: Exception) -> None:
        name = type(getattr(what, "__self__", what)).__name__
        self._log.error(
            "instrument.failed", handler=name, error=text_of(error), hint="events go on; what it shows may be wrong"
        )
