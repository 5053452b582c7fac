"""Those that see every outcome: live views and metrics. While there are none, a step costs nothing more."""

from __future__ import annotations

from collections.abc import Callable

from telstate.calls._outcome import Outcome
from telstate.routing._log import Log, text_of
from telstate.routing._ports import Observer
from telstate.routing._sequencer import Sequencer

__all__ = ["Observers"]


class Observers:
    """The observers of one run of a dispatcher.

    Args:
        sequencer: whose steps they see.
    """

    def __init__(self, sequencer: Sequencer) -> None:
        self._sequencer = sequencer
        self._observers: tuple[Observer, ...] = ()
        self._log = Log()

    def add(self, observer: Observer) -> Callable[[], None]:
        """Let an observer see each outcome from now on. Returns a function that ends it."""
        self._set((*self._observers, observer))
        return lambda: self._remove(observer)

    def close(self) -> None:
        """No outcome will come any more."""
        observers = self._observers
        self._set(())
        for observer in observers:
            observer.closed()

    def _remove(self, observer: Observer) -> None:
        self._set(tuple(other for other in self._observers if other is not observer))

    def _set(self, observers: tuple[Observer, ...]) -> None:
        self._observers = observers
        self._sequencer.set_observer(self._show if observers else None)

    def _show(self, outcome: Outcome) -> None:
        """Show an outcome to all. One that raises is a bug, and sees no more: it must not stop the events."""
        for observer in self._observers:
            try:
                observer.stepped(outcome)
            except Exception as error:
                self._log.error("observer.failed", observer=type(observer).__name__, error=text_of(error))
                self._remove(observer)
                observer.closed()
