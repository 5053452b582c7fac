"""What a partition's dispatcher knows of the other partitions, and how it acts there: views to read, their streams to append to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import aclosing, suppress
from time import time
from typing import TypeVar
from uuid import uuid4

from pydantic_core import from_json

from telstate.calls._caller import Caller, CallerState
from telstate.calls._endpoints import Endpoint
from telstate.calls._intents import Intent
from telstate.calls._session import Session
from telstate.errors import JournalError
from telstate.events import ActionAnswered, ActionRequested, ActionWithdrawn, Dialect, Event
from telstate.journals.nats._connection import NatsConnection
from telstate.journals.nats._errors import NatsUnavailable
from telstate.journals.nats._marks import read_all
from telstate.journals.nats._records import message_of
from telstate.journals.nats._streams import Streams
from telstate.journals.nats._view import (
    ANSWER,
    CALLER,
    INTENT,
    SESSION,
    Key,
    View,
    answer_from,
    caller_from,
    endpoint_from,
    intent_from,
    key_of_endpoint,
    session_from,
)
from telstate.journals.nats._views import Views
from telstate.routing._log import Log
from telstate.routing._ports import Entry, Place

__all__ = ["OtherPartitions"]

_PUBLISH_WITHIN = 15.0
_BEGUN = b'"action":"action-begun"'
T = TypeVar("T")
_WAITING = (CallerState.WAITING, CallerState.FORWARDED)


class OtherPartitions:
    """The other partitions, as one of them sees them. An `Elsewhere` for its dispatcher.

    Args:
        connection: open.
        streams: theirs.
        partition: the number of the one that asks.
        views: what all of them show.
        by: names the worker.
    """

    def __init__(self, connection: NatsConnection, streams: Streams, partition: int, views: Views, by: str) -> None:
        self._connection = connection
        self._streams = streams
        self._partition = partition
        self._views = views
        self._by = by
        self._log = Log(burst=2, every=10.0)

    def _find(self, key: Key) -> View | None:
        view = self._views.find(key)
        return None if view is None or view.partition == self._partition else view

    def _read(self, view: View | None, read: Callable[[bytes], T]) -> T | None:
        """Read a view. One of a newer telstate may have states that this one does not know."""
        if view is None:
            return None
        try:
            return read(view.content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            hint = "it is as if it were not known; run the same telstate everywhere"
            self._log.warning(
                "views.unreadable", kind=view.key[0], partition=view.partition, error=str(error), hint=hint
            )
            return None

    # --- asking ---------------------------------------------------------------------------------------------------

    def session(self, session_id: str) -> Session | None:
        """Find a session of another partition."""
        return self._read(self._find((SESSION, session_id)), session_from)

    def legs(self, ids: Collection[str]) -> list[Session]:
        """Find the sessions that are legs of one call with any of these ids."""
        legs = (self._read(view, session_from) for view in self._views.legs(set(ids)))
        return [leg for leg in legs if leg is not None]

    def waiting(self) -> list[Caller]:
        """List the callers on hold of other partitions."""
        views = (view for view in self._views.callers() if view.partition != self._partition)
        callers = (self._read(view, caller_from) for view in views)
        return [caller for caller in callers if caller is not None and caller.state in _WAITING]

    def caller(self, call_id: str) -> Caller | None:
        """Find a caller of another partition."""
        return self._read(self._find((CALLER, call_id)), caller_from)

    def endpoint(self, uri: str) -> Endpoint | None:
        """Find a SIP endpoint of another partition."""
        return self._read(self._find(key_of_endpoint(uri)), endpoint_from)

    def watch_session(self, session_id: str, changed: Callable[[], None]) -> Callable[[], None]:
        """Call a function with each news of a session. Returns a function that ends it."""
        return self._views.watch((SESSION, session_id), lambda _: changed())

    def watch_endpoint(self, uri: str, changed: Callable[[], None]) -> Callable[[], None]:
        """Call a function with each news of an endpoint. Returns a function that ends it."""
        return self._views.watch(key_of_endpoint(uri), lambda _: changed())

    def intent(self, name: str) -> tuple[Intent, int] | None:
        """Find an intent of another partition, and the number of the last event of that which it has."""
        view = self._find((INTENT, name))
        intent = self._read(view, intent_from)
        return None if view is None or intent is None else (intent, view.seq)

    def watch_intent(self, name: str, changed: Callable[[], None]) -> Callable[[], None]:
        """Call a function with each news of an intent. Returns a function that ends it."""
        return self._views.watch((INTENT, name), lambda _: changed())

    def has_room(self, room: str) -> bool:
        """Return whether another partition has the events of a room."""
        return self._streams.partition(room) != self._partition

    def sessions_in(self, room: str) -> list[Session]:
        """List the sessions of a room that its partition has shown: those that live, and those of the last two hours."""
        found = (self._read(self._find((SESSION, one)), session_from) for one in self._views.rooms.sessions(room))
        return [session for session in found if session is not None]

    def watch_room(self, room: str, changed: Callable[[Session], None]) -> Callable[[], None]:
        """Call a function with each session of a room of which there is news. Returns a function that ends it."""

        def read(view: View) -> None:
            if (session := self._read(view, session_from)) is not None:
                changed(session)

        return self._views.rooms.watch(room, read)

    # --- acting ---------------------------------------------------------------------------------------------------

    async def publish(self, place: Place, event: Event) -> int:
        """Append an event to the partition that shows a session, a caller or an endpoint, or that of a room. Returns its number.

        Raises:
            JournalError: if that failed; where no answer came, it may be there all the same.
        """
        return await self._append(self._partition_of(place), event)

    async def ask(self, place: Session | str, request: ActionRequested, within: float) -> ActionAnswered | None:
        """Append a request to the partition of a session, or of a room, and wait for the answer.

        What nobody has begun in that time is withdrawn. Returns None if nobody knows whether it was carried out.

        Raises:
            JournalError: if it cannot be stored: it is never carried out.
        """
        if not self._connection.is_connected:
            raise NatsUnavailable(
                f"there is no connection to NATS at {self._connection.where}: nothing was sent, try again"
            )
        partition, seq = self._partition_of(place), 0
        answered: asyncio.Future[View] = asyncio.get_running_loop().create_future()
        key = (ANSWER, request.request_id)
        ends = self._views.watch(key, lambda view: _settle(answered, view))
        if (known := self._views.find(key)) is not None:
            _settle(answered, known)
        try:
            async with asyncio.timeout(within):
                with suppress(NatsUnavailable):  # it may be there all the same, and then it is answered
                    seq = await self._append(partition, request)
                return answer_from((await answered).content, request.request_id)
        except TimeoutError:
            return await self._withdraw(partition, request, seq)
        finally:
            ends()

    async def _withdraw(self, partition: int, request: ActionRequested, seq: int) -> ActionAnswered | None:
        """Withdraw a request. Of that and its beginning, what the stream has first counts."""
        try:
            end = await self._append(partition, ActionWithdrawn(request_id=request.request_id))
            if not seq or await self._was_begun(partition, request.request_id, seq, end):
                return None
        except JournalError:
            return None
        text = f"{request.verb}: no worker that owns partition {partition} has begun it, so it was withdrawn: nothing was sent, try again"
        return ActionAnswered(request_id=request.request_id, failure={"type": "TemporarilyNotAvailable", "text": text})

    async def _was_begun(self, partition: int, request_id: str, after: int, before: int) -> bool:
        subject = self._streams.names.events_of(partition)
        async with aclosing(read_all(self._connection, self._streams.names.events, subject, after)) as messages:
            async for message in messages:
                if message.seq >= before:
                    return False
                if _BEGUN in message.data and from_json(message.data).get("requestId") == request_id:
                    return True
        return False

    def _partition_of(self, place: Place) -> int:
        if isinstance(place, str):
            return self._streams.partition(place)
        view = self._views.find(_key_of(place))
        if view is None:
            raise JournalError(f"{place!r} is not known any more: its partition shows it no longer")
        return view.partition

    async def _append(self, partition: int, event: Event) -> int:
        entry = Entry(time(), Dialect.DAILY_JS, None, event)
        message = message_of(self._streams.names.events_own(partition), entry, uuid4().hex, self._by)
        return await self._connection.publish(*message, within=_PUBLISH_WITHIN)


def _key_of(place: Session | Caller | Endpoint) -> Key:
    if isinstance(place, Session):
        return SESSION, place.session_id
    return (CALLER, place.call_id) if isinstance(place, Caller) else key_of_endpoint(place.uri)


def _settle(answered: asyncio.Future[View], view: View) -> None:
    if not answered.done() and view.content:
        answered.set_result(view)
