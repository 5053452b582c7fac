"""What systemd is told of a service: that it is ready, still works, stops (sd_notify(3); `Type=notify` and `WatchdogSec=` of a unit).

    manager = ServiceManager(os.environ)      # tells nobody, unless systemd has started this process with such a unit
    async with manager.informed(lambda: calls.not_ready, is_alive):
        ...

A message is one datagram to the socket that the environment names. systemd promises to keep that protocol, and its manual suggests to write it out
in place of linking a library for it; the packages there are have not changed for years, or need a C compiler.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager, suppress

from telstate.errors import printable
from telstate.routing._log import Log, text_of

__all__ = ["ServiceManager"]

_SIGNS = 4
"""How many signs of life are sent in the time after which systemd misses them: one that is late or lost must not be the end."""
_LOOK_EVERY = 0.2
"""Seconds between two looks while it starts, or where no signs of life are wanted."""
_PATIENCE = 1.0
"""Seconds that the message about the end of the start may wait until systemd has read those before."""


class ServiceManager:
    """The service manager that started this process, if it wants to hear of it; else nobody.

    Args:
        environment: has `NOTIFY_SOCKET`, and `WATCHDOG_USEC` where signs of life are wanted. They are removed: processes that handlers start
            must not speak for this one.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        address, microseconds, pid = (
            environment.pop(name, "") for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        )
        self._address = f"\0{address[1:]}" if address.startswith("@") else address  # @ is for Linux's abstract sockets
        is_watched = bool(address) and microseconds.isdecimal() and pid in {"", str(os.getpid())}
        self.watchdog_s: float | None = int(microseconds) / 1e6 if is_watched else None
        """The seconds after which a service without a sign of life is started anew; None if it may be silent."""
        self._was_ready = self._is_stopping = False
        self._log = Log(burst=1, every=60.0)

    @asynccontextmanager
    async def informed(self, not_ready: Callable[[], str | None], is_alive: Callable[[], bool]) -> AsyncIterator[None]:
        """Tell it inside the block how the service is. The start is over when the service is ready for the first time.

        Args:
            not_ready: says in words why no new calls should come; `systemctl status` shows it. It is no reason to be silent.
            is_alive: False where only a restart can help: then no sign of life is sent, nor while the event loop does not turn.
        """
        task = (
            asyncio.create_task(self._inform(not_ready, is_alive), name="telstate systemd") if self._address else None
        )
        try:
            yield
        finally:
            self.stopping()
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    def stopping(self) -> None:
        """Say that it has begun to stop, once."""
        if not self._is_stopping:
            self._is_stopping = True
            self._tell("STOPPING=1")

    async def _inform(self, not_ready: Callable[[], str | None], is_alive: Callable[[], bool]) -> None:
        said = None
        while True:
            status, lines = not_ready() or "ready", []
            if status == "ready" and not self._was_ready:
                self._was_ready = True
                lines.append("READY=1")
            if self.watchdog_s is not None and is_alive():
                lines.append("WATCHDOG=1")
            if lines or status != said:
                self._tell(*lines, f"STATUS={status}")
                said = status
            await asyncio.sleep(self._pause())

    def _pause(self) -> float:
        """Return how long to wait before the next look: systemd expects signs of life from the end of the start on."""
        return _LOOK_EVERY if self.watchdog_s is None or not self._was_ready else self.watchdog_s / _SIGNS

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        message = "\n".join(map(printable, lines)).encode()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(_PATIENCE if "READY=1" in lines else 0.0)
                sender.sendto(message, self._address)
        except OSError as error:
            hint = "systemd does not hear of this service, which goes on all the same"
            self._log.warning("systemd.not_told", message=lines[0], error=text_of(error), hint=hint)
