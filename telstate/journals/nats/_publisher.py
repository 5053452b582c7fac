"""A publisher: puts the events that a source has received into the stream, and leaves the rest to the workers.

    async with Publisher(NatsConnection("nats://localhost:4222")) as publisher, serve_webhooks(publisher, secrets=[SECRET]):
        ...

It keeps nothing itself, so there may be any number of them, and none is missed when it goes. It needs no permission but to publish
`<prefix>.in.*`, and to get the answers: it can neither read events nor say what only an owner of a partition may.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from types import TracebackType
from typing import NamedTuple, Self
from uuid import uuid4

import anyio

from telstate.errors import DefinitionError, JournalError, NotRunning, ParseError
from telstate.events import Dialect, Event
from telstate.events._masking import mask
from telstate.journals.nats._connection import Message, NatsConnection
from telstate.journals.nats._errors import MessageTooLarge, NatsNotPermitted, NatsRefused, StreamFull
from telstate.journals.nats._names import Names, room_token
from telstate.journals.nats._records import UNREADABLE, message_of
from telstate.routing._clock import SystemClock
from telstate.routing._instruments import Instruments
from telstate.routing._log import Log, text_of
from telstate.routing._payload import Payload, is_own, read_entry
from telstate.routing._ports import Entry, Instrument

__all__ = ["Published", "Publisher"]

_WITHIN = 30.0
"""Seconds for which an event is published again while nothing answers."""
_ANSWER_WITHIN = 1.0
"""Seconds to wait for one answer: a call on a SIP trunk has to be answered within three."""
_LOOK_EVERY = 2.0
"""Seconds between two looks at the stream, while nothing is published."""
_FULL_FOR = 10.0
"""Seconds after which a full stream is tried again: only an event can tell whether it has room."""
_NOBODY = "-"
"""The name of no stream: a message that expects to be stored there is refused, and stored nowhere."""
_OTHER_STREAM = 10060
_HINT = "the senders are asked to retry. If there is no stream yet, `telstate work` declares it"
_LOOKING = "looking"
"""Instead of a room, for messages that are never stored."""
_BY = "receiver"


class Published(NamedTuple):
    """What is known of an event that the stream has. There is no outcome: the partition's owner steps it, in another process."""

    seq: int
    """Its sequence number. It is the number of the event's `event_id` too."""
    kind: str = "published"


class Publisher:
    """Publishes events, each to the partition of its room. Use it as `async with`; on asyncio only.

    It fits wherever a source takes a dispatcher: `webhook_app(publisher, …)`, `serve_webhooks`, daily-python's and pipecat's sources.

    Args:
        connection: where to. It is opened, and closed when the block is left, unless it is open already.
        names: the app and the environment whose streams these are. A worker declares them.
    """

    def __init__(self, connection: NatsConnection, names: Names = Names()) -> None:  # noqa: B008 - it is frozen
        self._connection = connection
        self._names = names
        self._clock = SystemClock()
        self._is_open = self._is_connecting = self._is_stopping = self._is_own = False
        self._problem: str | None = "it has not looked yet"
        self._full_until = self._kept_at = 0.0
        self._instruments = Instruments((), self)
        self._looking: asyncio.Task[None] | None = None
        self._log = Log(burst=1, every=10.0)

    def __repr__(self) -> str:
        return f"<Publisher to {self._names.events}: {self.not_ready or 'ready'}>"

    async def __aenter__(self) -> Self:
        """Connect, and look whether there is a stream. Without one it starts all the same, and is not ready until there is.

        Raises:
            JournalError: if no server answers, or none lets this user in or publish.
        """
        self._is_own = not self._connection.is_connected
        self._is_connecting = True
        try:
            await self._connection.open()
        finally:
            self._is_connecting = False
        self._is_open, self._is_stopping = True, False
        try:
            await self._look()
        except BaseException:
            await self._close()
            raise
        self._looking = asyncio.create_task(self._look_again(), name="telstate publisher")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shut_down()
        await self._close()

    async def _close(self) -> None:
        self._is_open = False
        looking, self._looking = self._looking, None
        with anyio.CancelScope(shield=True):
            if looking is not None:
                looking.cancel()
                await asyncio.wait([looking])
            if self._is_own:
                await self._connection.aclose()

    def shut_down(self) -> None:
        """Be asked to stop: new callers should go elsewhere. Events are published until the block is left."""
        self._is_stopping = True

    @property
    def is_open(self) -> bool:
        """True inside the `async with`."""
        return self._is_open

    @property
    def is_stopping(self) -> bool:
        """True from when it is asked to stop."""
        return self._is_stopping

    @property
    def not_ready(self) -> str | None:
        """Why it should get no events now, in words; None if it is ready. What `/ready` shows."""
        if self._is_connecting:
            return f"no NATS server has answered at {self._connection.where} yet"
        if not self._is_open:
            return "it is not connected: it has not started, or has stopped"
        if self._is_stopping:
            return "it is stopping"
        if not self._connection.is_connected:
            return f"no NATS server answers at {self._connection.where}"
        return self._problem

    # --- publishing -----------------------------------------------------------------------------------------------

    async def receive(
        self, payload: Payload, dialect: Dialect | str | None = None, *, scope: str | None = None
    ) -> Published:
        """Publish one event; the stream has it on return.

        An event that names no room, and no call id of a caller on hold, should have a `scope`. Without one it is published under its
        call client's or its session's id, and the log says so: if other events of that session do name a room, two owners see a part of the session each.

        Args:
            payload: an event, or what can be parsed.
            dialect: its spelling; None to find out.
            scope: what decides on the partition in place of the event's room. Always the same for all events of a session.

        Raises:
            ParseError: if it is not an event, or one that only the owner of a partition may write. Nothing was published.
            EventTooLarge: if it is larger than the server's `max_payload`.
            JournalError: if the stream is full, has no leader, or does not answer, for 30 seconds. In the last case it may have the
                event all the same. At once, if no stream has been seen yet.
            NotRunning: outside the `async with`.
        """
        entry = read_entry(payload, dialect, self._clock.now(), live=True)
        event = entry.event
        if is_own(event):
            expected = "an event of Daily's: what only this side knows is written by the owner of its partition"
            raise ParseError("action", expected, event.action)
        token = room_token(scope or _scope_of(event) or self._park(event))
        published = Published(await self._publish(self._message(token, entry, _BY)))
        self._instruments.published(event, entry.dialect)
        return published

    def instrument(self, instrument: Instrument) -> None:
        """Let an object count what is published, as `Dispatcher.instrument`. It sees each event once a stream has it.

        Raises:
            DefinitionError: inside the `async with`.
        """
        if self._is_open:
            raise DefinitionError("switch metrics on before `async with`: what was published so far would be missing")
        self._instruments = Instruments([*self._instruments, instrument], self)

    async def add_dead_letter(self, payload: bytes, error: ParseError, dialect: Dialect | str) -> None:
        """Publish a payload that could not be read. The stream has it on return, and an owner makes it a dead letter.

        Raises:
            JournalError, NotRunning: as `receive`.
        """
        facts = {"field": mask(error.field)[:100], "expected": mask(error.expected)[:200], "size": len(payload)}
        self._log.error("publisher.unreadable", dialect=str(dialect), **facts, hint="it becomes a dead letter")
        entry = Entry(self._clock.now(), dialect, payload)
        await self._publish(self._message(UNREADABLE, entry, UNREADABLE))

    def _message(self, token: str, entry: Entry, by: str) -> Message:
        return message_of(self._names.received(token), entry, uuid4().hex, by)

    async def _publish(self, message: Message) -> int:
        if not self._is_open:
            raise NotRunning("a publisher publishes inside its `async with` only")
        within = _WITHIN if self._kept_at else 0.0  # where there never was a stream, a wait would make senders wait
        try:
            found = await self._connection.publish(*message, within=within, answer_within=_ANSWER_WITHIN)
        except MessageTooLarge as error:  # all others can be kept
            hint = "raise max_payload on the server"
            self._log.error("publisher.too_large", size=len(message.data), error=str(error), hint=hint)
            raise
        except JournalError as error:
            self._failed(error)
            raise
        self._kept()
        return found

    def _park(self, event: Event) -> str:
        """Return what an event is published under that names neither a room nor a caller, and say so."""
        # What a call client knows concerns all its sessions, so they are together.
        found = event.call_client_id or event.session_id or event.sip_call_id or event.domain_id or "unscoped"
        hint = "events of one session in two partitions split it: pass scope=, or let the source say its room"
        self._log.warning(
            "publisher.without_room", action=event.action, session_id=event.session_id, scope=found, hint=hint
        )
        return found

    # --- looking --------------------------------------------------------------------------------------------------

    async def _look_again(self) -> None:
        while True:
            await anyio.sleep(_LOOK_EVERY)
            if monotonic() - self._kept_at >= _LOOK_EVERY:
                try:
                    await self._look()
                except JournalError as error:
                    self._failed(error)

    async def _look(self) -> None:
        """Find out whether the stream answers, without storing anything.

        Raises:
            NatsNotPermitted: if this user may not publish to it.
        """
        subject, expected = self._names.received(_LOOKING), {"Nats-Expected-Stream": _NOBODY}
        try:
            await self._connection.publish(subject, b"", expected, within=0, answer_within=_LOOK_EVERY)
        except NatsNotPermitted:
            raise
        except NatsRefused as error:
            if error.code != _OTHER_STREAM:
                self._failed(error)
            elif monotonic() >= self._full_until:
                self._kept()
        except JournalError as error:
            self._failed(error)

    def _failed(self, error: JournalError) -> None:
        """Remember why events cannot be kept, and say so; every ten seconds while it goes on."""
        self._problem = mask(text_of(error))
        self._full_until = monotonic() + _FULL_FOR if isinstance(error, StreamFull) else 0.0
        self._log.error("publisher.cannot_publish", reason=self._problem, hint=_HINT)

    def _kept(self) -> None:
        self._kept_at, self._full_until = monotonic(), 0.0
        if self._problem is not None:
            self._problem = None
            self._log.info("publisher.ready", stream=self._names.events)


def _scope_of(event: Event) -> str | None:
    """Return the room of an event, or the call id of a caller who is in no room yet."""
    return event.room or getattr(event, "call_id", None)
