"""How SIGTERM and Ctrl-C stop a service: `telstate serve` and `telstate work`.

with StopSignals(stop, patience=1, manager=manager, writer=writer):
    ...
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import TracebackType
from typing import Self

from telstate.cli._log_writer import LineWriter
from telstate.cli._systemd import ServiceManager

__all__ = ["StopSignals"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Handles the signals inside its block. After `patience + 1` of them, and after the block, a signal has the system's default effect.

    Args:
        stop: called at each signal, with the number of signals so far.
        patience: how many signals may wait for what still runs. The one after them should cut that off.
        manager: systemd, which is notified.
        writer: writes a line for each signal: without one, the log of a service that ends looks like that of a kill.
    """

    def __init__(
        self, stop: Callable[[int], None], *, patience: int, manager: ServiceManager, writer: LineWriter
    ) -> None:
        self._stop = stop
        self._patience = patience
        self._manager = manager
        self._writer = writer
        self.count: int = 0
        """How many signals came."""

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._take, number)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Only a handler's thread can still run then, and nothing can stop that.
        for number in _SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)
        _have_default_effect()

    def _take(self, number: signal.Signals) -> None:
        self.count += 1
        self._writer.write(f"telstate: {number.name} asks it to stop")
        self._manager.stopping()
        self._stop(self.count)
        if self.count > self._patience:
            _have_default_effect()


def _have_default_effect() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
