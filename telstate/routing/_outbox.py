"""The outbox: what receivers outside are to be told about calls, kept until it is sent.

A message is made in the step of its event, when the record is as that event left it. It is written before the event is marked as
handled, and before a checkpoint that has the event. So a recovery makes the messages of those events again that are not marked and
are beyond the last one whose messages were written, and no others. From then on a message has nothing to do with its event: it
may wait for a receiver for a day, and neither handlers nor the journal's events wait with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, cast

import anyio

from telstate.calls._caller import Caller
from telstate.calls._engine import Engine
from telstate.calls._outcome import Outcome, Unmatched
from telstate.calls._session import Session
from telstate.calls._table import State
from telstate.routing._log import Log, traceback_of
from telstate.routing._ports import (
    Clock,
    DeadLetter,
    Journal,
    KeptLetter,
    KeptNotification,
    Messenger,
    Notification,
    OutboxJournal,
)
from telstate.routing._sequencer import Listener
from telstate.routing._work_log import UNDELIVERED, WorkLog

__all__ = ["NotificationKind", "Outbox", "notification_in"]

_COUNT_EVERY = 5.0
"""Seconds between two looks at how many messages wait."""


class NotificationKind(StrEnum):
    """What a message is about. Its record is complete: `session.to_dict()`, or that of the caller."""

    CALL_STARTED = "call.started"
    """The first event of a session."""
    CALL_ANSWERED = "call.answered"
    CALL_ENDED = "call.ended"
    """The first terminal state, also where no event reported the end. Once for each session."""
    CALL_RETIRED = "call.retired"
    """The session left memory: the record is final. Once for each session."""
    CALLER_LOST = "caller.lost"
    """A caller on hold got to no session."""


class Outbox:
    """Makes messages, and works as the `OutgoingMessages` of a messenger.

    Args:
        journal: keeps the messages; an `OutboxJournal`.
        messenger: sends them.
        work_log: writes them.
        clock: governs the pauses between attempts.
    """

    def __init__(self, journal: Journal, messenger: Messenger, work_log: WorkLog, clock: Clock) -> None:
        self._journal = cast("OutboxJournal", journal)
        self._messenger = messenger
        self._work_log = work_log
        self._written = 0
        """The last event whose messages the journal had at the start."""
        self.clock: Clock = clock
        self.counts: Mapping[str, int] = {}
        """How many messages wait for each target, as of the last look."""
        self._log = Log()
        work_log.posted = self._posted

    # --- making messages ------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Read how far the last run has come."""
        self._written = await self._journal.outbox_seq()
        await self._count()

    def before(self, listener: Listener, engine: Callable[[], Engine]) -> Listener:
        """Return a listener that makes the messages of each step, then calls another one, which may mark it as done."""

        def listen(outcome: Outcome | None, departed: tuple[Session | Unmatched | Caller, ...]) -> None:
            for gone in departed:  # first: the event may have opened a new session of the same id
                if isinstance(gone, Session):
                    self.post(self.last_messages_of(gone, engine()))
            if outcome is not None:
                self.post(self.messages_of(outcome, engine()))
            listener(outcome, departed)

        return listen

    def messages_of(self, outcome: Outcome, engine: Engine) -> list[Notification]:
        """Make the messages of an event that was just stepped."""
        if outcome.seq <= self._written:
            return []
        made: list[Notification] = []
        if (session := outcome.session) is not None:
            if outcome.opened:
                made += self._make(NotificationKind.CALL_STARTED, session, outcome.seq, engine)
            if any(move.target is State.ANSWERED for move in outcome.moves):
                made += self._make(NotificationKind.CALL_ANSWERED, session, outcome.seq, engine)
            if outcome.ended:
                made += self._make(NotificationKind.CALL_ENDED, session, outcome.seq, engine)
        if outcome.lost_caller is not None:
            made += self._make(NotificationKind.CALLER_LOST, outcome.lost_caller, outcome.seq, engine)
        return made

    def last_messages_of(self, session: Session, engine: Engine) -> list[Notification]:
        """Make the messages of a session that left memory."""
        return self._make(NotificationKind.CALL_RETIRED, session, -session.opened, engine)

    def post(self, messages: list[Notification]) -> None:
        """Keep messages, and let them be sent."""
        if messages:
            self._work_log.post(messages)

    def _make(self, kind: NotificationKind, one: Session | Caller, seq: int, engine: Engine) -> list[Notification]:
        if not self._messenger.wants_kind(kind):
            return []
        try:
            return self._made(kind, one, seq, engine)
        except Exception as error:  # inside a step, nothing may raise
            self._log.error("notify.not_made", kind=str(kind), exception=traceback_of(error))
            return []

    def _made(self, kind: NotificationKind, one: Session | Caller, seq: int, engine: Engine) -> list[Notification]:
        if isinstance(one, Session):
            name, lane = "session", one.session_id
            record = one.to_dict() if kind is NotificationKind.CALL_RETIRED else engine.record(one)
        else:
            name, lane, record = "caller", f"caller {one.call_id}", one.to_dict()
        targets = self._messenger.wants(kind, record)
        if not targets:
            return []
        at = engine.now or 0.0
        sent = {"type": kind, "timestamp": datetime.fromtimestamp(at, UTC).isoformat(), "data": {name: record}}
        body = _encoded(sent)
        message_id = f"msg_{self._journal.id}_{abs(seq)}_{kind.replace('.', '-')}"
        return [Notification(target, message_id, lane, seq, at, body) for target in targets]

    # --- sending them ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Let the messenger send until cancelled, and count now and then what waits."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._keep_counting)
            await self._messenger.run(self)
            group.cancel_scope.cancel()

    async def _keep_counting(self) -> None:
        while True:
            await anyio.sleep(_COUNT_EVERY)
            with suppress(Exception):  # the journal says elsewhere what is wrong with it
                await self._count()

    async def _count(self) -> None:
        self.counts = {**dict.fromkeys(self.counts, 0), **await self._journal.count_messages()}

    async def drain(self) -> None:
        """Wait until what is due is sent, except to receivers that fail."""
        await self._work_log.flush()
        await self._messenger.drain()

    async def waiting(self) -> dict[str, int]:
        """Return how many messages wait for each target."""
        return await self._journal.count_messages()

    async def first(self, target: str, limit: int) -> list[KeptNotification]:
        """Return the first message of each lane of a target, those due first in front."""
        return await self._journal.first_messages(target, limit)

    async def sent(self, kept: KeptNotification) -> None:
        """Forget a message: it has arrived."""
        await self._journal.remove_messages([kept.number])

    async def postpone(self, kept: KeptNotification, seconds: float) -> None:
        """Try a message again after so many seconds."""
        await self._journal.postpone_message(kept.number, kept.attempts + 1, self._now() + seconds)

    async def hasten(self, target: str) -> None:
        """Try now what waits for its next attempt."""
        await self._journal.hasten_messages(target, self._now())

    async def give_up(self, kept: KeptNotification, reason: str, detail: str) -> None:
        """Make a message a dead letter."""
        await self._work_log.add_now(_letter_of(kept.message, reason, detail, self._now()), UNDELIVERED)
        await self._journal.remove_messages([kept.number])
        facts: dict[str, Any] = {
            "target": kept.message.target,
            "id": kept.message.id,
            "reason": reason,
            "see": self._work_log.see,
        }
        self._log.error("notify.dead_letter", **facts, detail=detail)

    def retry(self, kept: KeptLetter) -> bool:
        """Send the message of a dead letter again, after what waits by now; return False if its receiver is not known."""
        message = notification_in(kept.letter)
        if message is None or not self._messenger.has(message.target):
            return False
        self._work_log.post([message._replace(at=self._now())])  # it has the whole time again
        self._work_log.forget(kept.number)
        return True

    def _posted(self, messages: Sequence[Notification]) -> None:
        self._messenger.posted({message.target for message in messages})

    def _now(self) -> float:
        return self.clock.now() or 0.0


def _encoded(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def notification_in(letter: DeadLetter) -> Notification | None:
    """Return the message that a dead letter is about; None for any other letter."""
    fields: dict[str, Any] | None = (letter.facts or {}).get("notification")
    return None if fields is None else Notification(**{**fields, "body": _encoded(fields["body"])})


def _letter_of(message: Notification, reason: str, detail: str, at: float) -> DeadLetter:
    fields = {
        **message._asdict(),
        "body": json.loads(message.body),
    }  # as JSON: masks and pseudonyms find what is private
    facts: dict[str, Any] = {"session": None, "outcome": None, "handlers": [], "notification": fields}
    return DeadLetter(message.seq, reason, f"notify {message.target}", detail, at, facts=facts)
