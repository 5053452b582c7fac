"""Showing: the owner of a partition publishes what others may want to know of it, whenever that changes.

It observes the steps, and only notes what has changed. A task publishes that at once, or a tick after it did so last: of each key the
state as it is by then, so a session whose events come faster is written more rarely. After a takeover it compares what the partition knows
with what was shown, and publishes the difference.

It waits for no answer. What it has published comes back to it, as to all who follow the views; what does not come back in time is published
again with the state that it has by then, and now the answer says what is wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import islice
from time import monotonic
from typing import NamedTuple

from telstate.calls._engine import Engine
from telstate.calls._outcome import Outcome
from telstate.calls._session import Session
from telstate.errors import JournalError
from telstate.events import (
    ActionAnswered,
    AttemptBegun,
    AttemptEnded,
    CampaignPaused,
    CampaignResumed,
    CampaignStopped,
    DeadlinePassed,
    DialinReady,
    ForwardRefused,
    IntentClaimed,
    IntentHeld,
    IntentReleased,
    MeetingEnded,
    PinlessForwarded,
    SessionAnnotated,
    SessionsLinked,
    StopRequested,
    TransferEvent,
    TransferFailed,
    TransferRequested,
)
from telstate.events._sessionless import WaitingCaller
from telstate.journals.nats._connection import NatsConnection
from telstate.journals.nats._errors import NatsRefused, NatsUnavailable, StreamFull
from telstate.journals.nats._names import Names, room_token
from telstate.journals.nats._streams import VIEWS_FOR
from telstate.journals.nats._view import (
    ANSWER,
    CALLER,
    ENDPOINT,
    INTENT,
    SESSION,
    Key,
    View,
    key_of_endpoint,
    session_from,
    show_answer,
    show_caller,
    show_endpoint,
    show_intent,
    show_session,
    ties_of,
    write_view,
)
from telstate.journals.nats._views import Views
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._log import Log

__all__ = ["Showing"]

_AT_ONCE = 256
"""Messages on their way at a time."""
_TICK = 0.005
"""Seconds between two times at which anything is published: under load many messages go together, and cost less."""
_BACK_WITHIN = 5.0
"""Seconds within which what was published should have come back."""
_YIELD_EVERY = 100
_PAUSE = 1.0
_LOOK_EVERY = 60.0
"""Seconds between two looks for what was shown so long ago that the stream will forget it."""
_AGAIN_AFTER = VIEWS_FOR.total_seconds() / 2
_ALWAYS_SHOWN = (StopRequested, TransferRequested, TransferEvent, TransferFailed)
"""What moves no session, and others must know: a dialer what this program did, the partition of a far leg that it is one."""
_OF_INTENTS = (
    *(IntentClaimed, AttemptBegun, AttemptEnded, IntentReleased, IntentHeld),
    *(CampaignPaused, CampaignResumed, CampaignStopped),
)
_OF_CALLERS = (WaitingCaller, PinlessForwarded, ForwardRefused, DeadlinePassed, SessionAnnotated)


class _Shown(NamedTuple):
    """When something that lives was shown last, and some of its facts."""

    at: float
    facts: tuple[str | float | None, ...] = ()


class _Sent(NamedTuple):
    """What was published, and has not come back yet."""

    at: float
    seq: int


class Showing:
    """Shows one partition, from its opening to its end.

    Args:
        connection: open.
        names: say where.
        partition: its number.
        calls: its dispatcher, open.
        views: what is shown by now.
        by: names the worker.
    """

    def __init__(  # noqa: PLR0917 - made in one place
        self, connection: NatsConnection, names: Names, partition: int, calls: Dispatcher, views: Views, by: str
    ) -> None:
        self._connection = connection
        self._names = names
        self._partition = partition
        self._calls = calls
        self._views = views
        self._by = by
        self._due: dict[Key, None] = {}
        """What is to be published, in this order."""
        self._sent: dict[Key, _Sent] = {}
        """In this order."""
        self._filled = asyncio.Event()
        self._live: dict[Key, _Shown] = {}
        """What is shown again before the stream forgets it."""
        self._looked_at = 0.0
        self._log = Log(burst=2, every=10.0)

    @property
    def _engine(self) -> Engine:
        return self._calls._sequencer.engine

    async def run(self) -> None:
        """Show what changes, until cancelled; first what was not shown yet."""
        ends = [self._calls.observe(self), self._views.own(self._partition, self._compare)]
        try:
            await self._views.synced.wait()
            await self._take_over()
            while True:
                await self._wait()
                await self._send_some()
                await self._publish_again()
                await asyncio.sleep(_TICK)
        finally:
            for end in ends:
                end()

    async def _wait(self) -> None:
        """Wait for something to publish, and for room, or until something should have come back."""
        self._note_old()
        while not self._is_overdue() and (not self._due or len(self._sent) >= _AT_ONCE):
            self._filled.clear()
            timer = asyncio.get_running_loop().call_later(_BACK_WITHIN if self._sent else _LOOK_EVERY, self._filled.set)
            try:
                await self._filled.wait()
            finally:
                timer.cancel()
            self._note_old()

    def _note_old(self) -> None:
        """Note now and then what was shown so long ago that the stream will forget it."""
        now = monotonic()
        if now < self._looked_at + _LOOK_EVERY:
            return
        self._looked_at = now
        for key, shown in self._live.items():
            if now >= shown.at + _AGAIN_AFTER:
                self._due[key] = None

    def _note(self, kind: str, name: str) -> None:
        self._due[kind, name] = None
        self._filled.set()

    # --- what changes ---------------------------------------------------------------------------------------------

    def stepped(self, outcome: Outcome) -> None:
        """Note what an event has changed."""
        event, session = outcome.event, outcome.session
        if session is not None:
            if outcome.moves or outcome.opened or isinstance(event, _ALWAYS_SHOWN) or self._has_new_facts(session):
                self._note_session(session)
            if type(event) is SessionsLinked:
                self._note(SESSION, event.session_id)
                self._note(SESSION, event.other_session_id)
        elif isinstance(event, _OF_INTENTS):
            self._note(INTENT, event.intent)
        elif type(event) is ActionAnswered:
            self._note(ANSWER, event.request_id)
        elif type(event) is DialinReady:
            self._note(*key_of_endpoint(event.sip_endpoint))
            self._note_placed(event.room)
        elif type(event) is MeetingEnded:
            for (kind, name), shown in self._live.items():
                if kind == ENDPOINT and event.room in shown.facts:
                    self._note(kind, name)
        elif isinstance(event, _OF_CALLERS) and event.call_id is not None:
            self._note(CALLER, event.call_id)
        elif isinstance(event, WaitingCaller) and (caller := self._engine.caller_of(event)) is not None:
            self._note(CALLER, caller.call_id)
        for changed in outcome.changed:
            self._note(SESSION, changed.session_id)
        for session_id in self._engine.take_relinked():
            self._note(SESSION, session_id)

    def closed(self) -> None:
        """No outcome will come any more."""

    def _note_session(self, session: Session) -> None:
        self._note(SESSION, session.session_id)
        if session.sip_endpoint is not None:
            self._note(*key_of_endpoint(session.sip_endpoint))
        if session.pinless_call_id is not None:
            self._note(CALLER, session.pinless_call_id)

    def _has_new_facts(self, session: Session) -> bool:
        shown = self._live.get((SESSION, session.session_id))
        if shown is not None:
            return shown.facts != _facts_of(session)
        return session.ended and self._is_tied_otherwise(session)

    def _is_tied_otherwise(self, session: Session) -> bool:
        """Return whether a session has other ties than its view says: evidence after the end may bring them."""
        shown, ties = self._views.ties.ties(session.session_id), ties_of(session, ())
        if (shown.sip_call_id, shown.endpoint) != (ties.sip_call_id, ties.endpoint):
            return True
        return ties.endpoint is not None and shown.started_at != ties.started_at

    def _note_placed(self, room: str | None) -> None:
        """Note the dial-ins of a room whose endpoint has become known, or is a guess no more."""
        for session_id in () if room is None else self._engine.dialins_of(room):
            session = self._engine.session(session_id)
            if session is not None and self._is_tied_otherwise(session):
                self._note(SESSION, session_id)

    def _compare(self, view: View) -> None:
        """A view of this partition arrived: our own, or one that an owner before had on its way for long, and that replaced ours."""
        sent = self._sent.get(view.key)
        if view.by == self._by:
            if sent is not None and view.seq >= sent.seq:
                del self._sent[view.key]
                if len(self._sent) == _AT_ONCE - 1:
                    self._filled.set()
        elif view.seq < self._calls._sequencer.seq and view.content != self._content(view.key):
            self._note(*view.key)

    # --- taking over ----------------------------------------------------------------------------------------------

    async def _take_over(self) -> None:
        """Note what differs from what the owner before has shown."""
        engine, known = self._engine, {view.key: view for view in self._views.of_partition(self._partition)}
        for view in known.values():
            if view.key[0] in (CALLER, ENDPOINT) or (view.key[0] == SESSION and not _has_ended(view)):
                self._due[view.key] = None
        for key in self._keys(engine):
            self._due[key] = None
        for count, key in enumerate(list(self._due), 1):
            content, shown = self._content(key), known.get(key)
            if (b"" if shown is None else shown.content) == content and not self._is_open_intent(key):
                del self._due[key]
                self._remember(key, content)
            if not count % _YIELD_EVERY:
                await asyncio.sleep(0)

    def _is_open_intent(self, key: Key) -> bool:
        """Return whether a dialer may wait for what comes of its last event, also where that has changed nothing: its number is shown."""
        intent = self._engine.intent(key[1]) if key[0] == INTENT else None
        return intent is not None and intent.outcome is None

    @staticmethod
    def _keys(engine: Engine) -> Iterable[Key]:
        yield from ((SESSION, session.session_id) for session in engine.sessions())
        yield from ((CALLER, caller.call_id) for caller in engine.waiting())
        yield from ((INTENT, name) for name in engine.intents())
        yield from ((ANSWER, request_id) for request_id in engine.answered_requests())
        yield from (key_of_endpoint(endpoint.uri) for endpoint in engine.endpoints())

    # --- publishing -----------------------------------------------------------------------------------------------

    def _content(self, key: Key) -> bytes:
        """Return what is to be shown; empty if there is no such thing."""
        (kind, name), engine = key, self._engine
        if kind == SESSION:
            session = engine.session(name)
            return b"" if session is None else show_session(session, engine.declared_legs(name))
        if kind == CALLER:
            caller = engine.caller(name)
            return b"" if caller is None or caller.is_elsewhere else show_caller(caller)
        if kind == ANSWER:
            request = engine.request(name)
            return b"" if request is None or not request.is_answered else show_answer(request)
        if kind == INTENT:
            intent = engine.intent(name)
            return b"" if intent is None else show_intent(intent)
        endpoint = engine.endpoint(name)
        return b"" if endpoint is None else show_endpoint(endpoint)

    async def _send_some(self) -> None:
        """Send what is due, as far as there is room on the way."""
        for key in list(islice(self._due, max(0, _AT_ONCE - len(self._sent)))):
            del self._due[key]
            if (content := self._changed(key)) is None:
                continue
            seq = self._calls._sequencer.seq
            self._sent.pop(key, None)
            self._sent[key] = _Sent(monotonic(), seq)
            try:
                await self._connection.post(self._subject(key), write_view(key[1], seq, self._by, content))
            except NatsUnavailable:
                return  # what is on its way does not come back, and is published again
            except NatsRefused:
                del self._sent[key]
                await self._publish(key)  # which says why

    def _is_overdue(self) -> bool:
        oldest = next(iter(self._sent.values()), None)
        return oldest is not None and monotonic() >= oldest.at + _BACK_WITHIN

    async def _publish_again(self) -> None:
        """Publish what did not come back, and wait for the answers."""
        if not self._is_overdue():
            return
        late = monotonic() - _BACK_WITHIN
        keys = [key for key, sent in self._sent.items() if sent.at <= late]
        for key in keys:
            del self._sent[key]
            self._due.pop(key, None)
        failed = [key for key in await asyncio.gather(*map(self._publish, keys)) if key is not None]
        if failed:
            self._due.update(dict.fromkeys(failed))
            await asyncio.sleep(_PAUSE)

    def _changed(self, key: Key) -> bytes | None:
        """Return what to publish; None if there is no such thing, and none is shown."""
        content = self._content(key)
        view = self._views.find(key)
        is_shown = key in self._live or key in self._sent or (view is not None and view.partition == self._partition)
        if not content and not is_shown:
            return None
        self._remember(key, content)
        return content

    def _subject(self, key: Key) -> str:
        return self._names.view(self._partition, key[0], room_token(key[1]))

    async def _publish(self, key: Key) -> Key | None:
        """Publish one; return it if that is to be tried again."""
        if (content := self._changed(key)) is None:
            return None
        data = write_view(key[1], self._calls._sequencer.seq, self._by, content)
        try:
            await self._connection.publish(self._subject(key), data)
        except StreamFull as error:
            self._log.warning("views.not_published", partition=self._partition, error=str(error))
            return key
        except NatsRefused as error:
            hint = "others do not know of it; its own partition does"
            self._log.error("views.refused", partition=self._partition, kind=key[0], error=str(error), hint=hint)
        except JournalError as error:
            self._log.warning("views.not_published", partition=self._partition, error=str(error))
            return key
        return None

    def _remember(self, key: Key, content: bytes) -> None:
        """Remember what is to be shown again, for as long as it lives."""
        kind, name = key
        session = self._engine.session(name) if kind == SESSION else None
        caller = self._engine.caller(name) if kind == CALLER else None
        lives = kind == ENDPOINT or (session is not None and not session.ended)
        if content and (lives or (caller is not None and caller.ended_at is None)):
            endpoint = self._engine.endpoint(name) if kind == ENDPOINT else None
            facts = () if endpoint is None else endpoint.scope
            self._live[key] = _Shown(monotonic(), facts if session is None else _facts_of(session))
        else:
            self._live.pop(key, None)


def _has_ended(view: View) -> bool:
    """Return whether a view is of a session that has ended, as far as it can be read: a newer telstate may have written it."""
    try:
        return session_from(view.content).ended
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def _facts_of(session: Session) -> tuple[str | float | None, ...]:
    """Return what others need to find a session and act on it, and what may become known without a move."""
    return (
        *(session.room, session.domain_id, session.sip_call_id),
        *(session.call_client_id, session.sip_endpoint, session.pinless_call_id, session.started_at),
    )
