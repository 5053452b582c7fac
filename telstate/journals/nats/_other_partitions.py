"""What a partition's dispatcher knows of the other partitions, and how it acts there: views to read, their streams to append to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from time import time
from typing import TypeVar
from uuid import uuid4

from telstate.calls._callers import Caller, CallerState
from telstate.calls._endpoints import Endpoint
from telstate.calls._session import Session
from telstate.errors import JournalError
from telstate.events import ActionAnswered, ActionRequested, Dialect, Event
from telstate.journals.nats._connection import NatsConnection
from telstate.journals.nats._errors import NatsUnavailable
from telstate.journals.nats._records import message_of
from telstate.journals.nats._streams import Streams
from telstate.journals.nats._view import (
    ANSWER,
    CALLER,
    SESSION,
    Key,
    View,
    answer_from,
    caller_from,
    endpoint_from,
    key_of_endpoint,
    session_from,
)
from telstate.journals.nats._views import Views
from telstate.routing._log import Log
from telstate.routing._ports import Entry

__all__ = ["OtherPartitions"]

_PUBLISH_WITHIN = 15.0
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

    def problem_with(self, room: str | None) -> str | None:
        """Return why calls of a room cannot be started here, in words; None if they can."""
        if room is None:
            return "a room's events go to one partition, so the room has to be named: dial(…, room=…)"
        partition = self._streams.partition(room)
        if partition == self._partition:
            return None
        return (
            f"the events of the room {room!r} are in partition {partition}, and this is partition {self._partition}: dial in a handler of an"
            " event of that room"
        )

    # --- acting ---------------------------------------------------------------------------------------------------

    async def publish(self, place: Session | Caller | Endpoint, event: Event) -> int:
        """Append an event to the partition that shows a session, a caller or an endpoint. Returns its number.

        Raises:
            JournalError: if that failed; where no answer came, it may be there all the same.
        """
        return await self._append(self._partition_of(place), event)

    async def ask(self, session: Session, request: ActionRequested, within: float) -> ActionAnswered | None:
        """Append a request to the partition of a session, and wait for the answer; None if none came in time.

        Raises:
            JournalError: if it cannot be stored.
        """
        answered: asyncio.Future[View] = asyncio.get_running_loop().create_future()
        key = (ANSWER, request.request_id)
        ends = self._views.watch(key, lambda view: _settle(answered, view))
        if (known := self._views.find(key)) is not None:
            _settle(answered, known)
        try:
            async with asyncio.timeout(within):
                with suppress(NatsUnavailable):  # it may be there all the same, and then it is answered
                    await self._append(self._partition_of(session), request)
                failure = answer_from((await answered).content)
                return ActionAnswered(request_id=request.request_id, failure=failure)
        except TimeoutError:
            return None
        finally:
            ends()

    def _partition_of(self, place: Session | Caller | Endpoint) -> int:
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
