"""nats-py's client without three faults of version 2.16.

- It forgets the socket of an attempt to connect that fails after the server has accepted it, and that of a lost connection to which
  something was still to be written. They stay open until the garbage collector finds them. A client whose server comes and goes would
  have ever more of them.
- Without a TLS context of the program's own it makes one for each connection, in the event loop. That reads all root certificates, which
  takes 20 ms or more, in which no call goes on.
- It takes a server that ends before it has let the client in for one that did. Nothing is heard from it then, for good.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

from nats.aio.client import Client
from nats.errors import UnexpectedEOF

if TYPE_CHECKING:
    from nats.aio.client import Srv

__all__ = ["PatchedClient"]


class PatchedClient(Client):
    """A client that has one socket at most, and none once it is closed. What checks certificates is made once, and in a thread."""

    _ended: bool = False
    """Set for good. nats-py's status also says `CLOSED` between two first attempts to connect."""

    async def _connect_to_server(self, s: Srv) -> None:
        """Connect to a server. What is left of the attempt before would be overwritten."""
        self._drop_socket()
        if s.uri.scheme == "wss":
            await self._prepare_tls()
        await super()._connect_to_server(s)
        if self._ended:  # meanwhile: on Python 3.11 an attempt may not hear that it was cancelled
            self._drop_socket()
            raise asyncio.CancelledError

    async def _process_connect_init(self) -> None:
        """Ask to be let in."""
        await super()._process_connect_init()
        if self._status != Client.CONNECTED:  # in place of the answer came the end
            for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
                if task is not None:
                    task.cancel()
            raise UnexpectedEOF

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Take in what a server says of itself, before TLS begins."""
        if info.get("tls_required"):
            await self._prepare_tls()
        await super()._process_info(info, initial_connection)

    async def _prepare_tls(self) -> None:
        if "tls" not in self.options:
            self.options["tls"] = await asyncio.to_thread(ssl.create_default_context)

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        """Close the connection, whatever state it is in. All ways to the end come through here, the server's refusals too."""
        self._ended = self._ended or status == Client.CLOSED
        try:
            await super()._close(status, do_cbs)
        finally:
            attempt = self._reconnection_task
            if attempt is not None and attempt is not asyncio.current_task():
                attempt.cancel()
            self._drop_socket()

    def _drop_socket(self) -> None:
        """Close the socket at once: nothing more is to be sent. That of a WebSocket is aiohttp's to close."""
        writer: asyncio.StreamWriter | None = getattr(self._transport, "_bare_io_writer", None)
        if writer is None:
            return
        socket = writer.get_extra_info("socket")
        if socket is not None and socket.fileno() >= 0:
            writer.transport.abort()  # asyncio cannot do that where the last bytes were written after `close`
