"""Logs in NATS for commands, which are not async: a thread runs the event loop that keeps the connection."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from telstate.cli._nats import read_address

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from telstate.journals.nats._reading import StreamLog
    from telstate.routing._ports import KeptLetter

__all__ = [
    "StreamFollower",
    "change_letters",
    "check_stream",
    "export_stream",
    "finished_in_stream",
    "letters_of_stream",
    "lines_of_stream",
]

T = TypeVar("T")


def check_stream(name: str) -> None:
    """Connect once, so that what is wrong is said before anything is printed.

    Raises:
        JournalError: if no server answers, or lets this user read nothing.
        DefinitionError: if there are no such streams.
    """
    with _opened(name):
        pass


def lines_of_stream(name: str) -> Iterator[bytes]:
    """Yield a header, then the events that are there now, in the order of their numbers.

    Raises:
        JournalError: if reading fails.
    """
    return _each(name, lambda log: log.lines())


def export_stream(name: str) -> Iterator[bytes]:
    """Yield everything that there is now but checkpoints: a header, the events, the marks, and the dead letters."""
    return _each(name, lambda log: log.export())


def letters_of_stream(name: str) -> Iterator[KeptLetter]:
    """Yield the dead letters of all partitions."""

    async def in_pieces(log: StreamLog) -> AsyncGenerator[list[KeptLetter], None]:
        async for kept in log.letters():
            yield [kept]

    return _each(name, in_pieces)


def finished_in_stream(name: str, seqs: Sequence[int]) -> set[int]:
    """Return which of these events are marked as done."""
    with _opened(name) as (portal, log):
        return portal.call(log.finished, seqs)


def change_letters(name: str, change: Callable[[StreamLog], Awaitable[None]]) -> None:
    """Retry or drop dead letters."""
    with _opened(name) as (portal, log):
        portal.call(partial(change, log))


class StreamFollower:
    """Reads what is new, one look at a time: as the follower of a file.

    Args:
        name: the address.
    """

    missing = False
    """A server that is away comes back, and the log says that it is."""

    def __init__(self, name: str) -> None:
        self._stack = ExitStack()
        self._portal, self._log = self._stack.enter_context(_opened(name))
        self.at_end = False
        """True if the last look found nothing: wait before the next."""

    def look(self) -> list[bytes]:
        """Look once: return the next lines.

        Raises:
            JournalError: if reading can never work.
        """
        found = self._portal.call(self._log.more)
        self.at_end = not found
        return found

    def close(self) -> None:
        """Close the connection."""
        self._stack.close()


def _each(name: str, read: Callable[[StreamLog], AsyncGenerator[list[T], None]]) -> Iterator[T]:
    with _opened(name) as (portal, log):
        pieces = read(log)
        while (piece := portal.call(anext, pieces, None)) is not None:
            yield from piece


@contextmanager
def _opened(name: str) -> Iterator[tuple[BlockingPortal, StreamLog]]:
    from anyio.from_thread import start_blocking_portal  # noqa: PLC0415 - few commands read streams

    address = read_address(name)
    connection = address.connection("telstate reader")
    from telstate.journals.nats._reading import StreamLog  # noqa: PLC0415 - an extra

    with start_blocking_portal("asyncio") as portal:
        log = None
        try:
            log = portal.call(StreamLog.open, connection, address.names, address.partition)
            yield portal, log
        finally:
            if log is not None:
                portal.call(log.aclose)
            portal.call(connection.aclose)
