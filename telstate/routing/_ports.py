"""What the routing asks of its edges: a journal, a clock, a way to act on calls. Any object with these methods fits.

One suite of tests holds every journal (`tests/contracts`), one every control.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeAlias

import anyio

from telstate.calls._caller import Caller
from telstate.calls._endpoints import Endpoint
from telstate.calls._intents import Intent
from telstate.calls._outcome import Outcome
from telstate.calls._session import Session
from telstate.errors import ParseError
from telstate.events import ActionAnswered, ActionRequested, Dialect, Event
from telstate.options import Dtmf, Refer, Transfer

__all__ = [
    "Base",
    "CampaignJournal",
    "CampaignRequest",
    "Clock",
    "Control",
    "DeadLetter",
    "Elsewhere",
    "Entry",
    "EventSink",
    "HandlerRun",
    "ImmediateJournal",
    "Instrument",
    "Journal",
    "JournalUsage",
    "KeptLetter",
    "KeptNotification",
    "MarkingJournal",
    "Measured",
    "Messenger",
    "Notification",
    "Observer",
    "OutboxJournal",
    "OutgoingMessages",
    "Place",
    "Receipt",
    "Record",
    "SharedJournal",
    "TendedJournal",
]


class Entry:
    """One payload to append, with the event it was read as, so that nobody parses it again.

    An event that the program made has no payload until a journal asks for it: most are never written.
    """

    __slots__ = ("_payload", "at", "dialect", "event")

    def __init__(self, at: float | None, dialect: str, payload: bytes | None, event: Event | None = None) -> None:
        self.at: float | None = at
        """When it was received, in Unix seconds; None only in a recorded log without times."""
        self.dialect: str = dialect
        self.event: Event = event  # type: ignore[assignment]  # only a test of a journal appends what nobody has read
        self._payload = payload

    @property
    def payload(self) -> bytes:
        """The JSON object as it came."""
        if self._payload is None:
            self._payload = self.event.to_json()
        return self._payload

    def __repr__(self) -> str:
        return f"<Entry at {self.at} {self.dialect}: {self.event!r}>"


class Record(NamedTuple):
    """One payload in a journal."""

    seq: int
    """Its sequence number. Numbers rise from 1; a journal that prunes itself leaves gaps."""
    at: float
    dialect: str
    payload: bytes
    done: bool
    """True if all its handlers are known to have finished."""
    is_received: bool = False
    """True if it came from outside, without this program's owner: then it cannot be an event that only this program knows of."""


class DeadLetter(NamedTuple):
    """Work that was given up, with everything it takes to look at it and to try it again."""

    seq: int
    """The number of the work: see `Journal`. 0 for a payload that no journal has as an event."""
    reason: str
    """`LaneFull`, `ProcessDied`, or the name of the exception."""
    handler: str | None
    """The handler that did not finish; None for all handlers of the event."""
    detail: str
    """The exception's text."""
    at: float
    """When it was given up, in Unix seconds."""
    dialect: str = "daily-js"
    payload: bytes = b""
    """The event; empty where a session was retired."""
    facts: dict[str, Any] | None = None
    """What else its handlers were given; only telstate reads it."""


class KeptLetter(NamedTuple):
    """A dead letter in a journal."""

    number: int
    """Its number in the journal, from 1."""
    letter: DeadLetter
    retry_requested: bool
    """True if somebody asked to try it again."""


class Notification(NamedTuple):
    """A message to one receiver outside: what it is to be told about a call."""

    target: str
    """The receiver, by its name."""
    id: str
    """The same for each repetition, and after a restart."""
    lane: str
    """Messages of one lane reach a receiver one after another: those about one session, or one caller."""
    seq: int
    """The number of the work that it is about: see `Journal`."""
    at: float
    """When that happened, in Unix seconds."""
    body: bytes


class KeptNotification(NamedTuple):
    """A message that a journal keeps until it is sent or given up."""

    number: int
    """Its number in the journal. Numbers rise."""
    message: Notification
    attempts: int
    """How often it was tried."""
    due_at: float
    """When it is to be tried next, in Unix seconds."""


class Base(NamedTuple):
    """A checkpoint from which a pruned journal can be read, as its first event once was."""

    seq: int
    """The last event that is in it."""
    at: float
    """The time of that event, in Unix seconds."""
    known: frozenset[int]
    """The numbers of the events that opened what is known as of then: sessions, callers on hold, parked events."""
    oldest: int
    """The lowest number that it needs: of what is known, and of work that is not done."""
    state: bytes
    """The checkpoint, as it was saved."""
    is_last: bool = False
    """True if nothing was finished since it was taken: the dispatcher is being left."""


class JournalUsage(NamedTuple):
    """How much a journal keeps. What it does not know is None."""

    size_bytes: int | None
    """On the disk, with everything that belongs to it."""
    records: int | None
    """How many events, at most: a journal that prunes itself leaves gaps, which count too."""
    free_bytes: int | None
    """What its disk has left."""


class Journal(Protocol):
    """An append-only log of payloads, with marks of what was handled, checkpoints and dead letters.

    Work has a number: n means the handlers of event n, and -n the handlers of the retirement of the session that event n
    opened.

    `read` and `dead_letters` also work without `open`, on a journal that another process is writing.

    Optional abilities have protocols of their own: `ImmediateJournal`, `MarkingJournal`, `OutboxJournal`, `SharedJournal` and
    `TendedJournal`. A journal that has a property `usage` (a `JournalUsage`, answered from memory) shows it in the metrics.
    """

    @property
    def id(self) -> str:
        """The journal's own name, made once. With a sequence number it names an event for good."""

    @property
    def settings(self) -> dict[str, Any] | None:
        """The settings that the journal began with; None before the first `open`."""

    @property
    def checkpoint_every(self) -> int | None:
        """How many events to step between two checkpoints, at least; None if a checkpoint is of no use."""

    async def open(self, settings: dict[str, Any]) -> None:
        """Make ready to append. A new journal keeps `settings` in its header.

        Raises:
            JournalError: if it cannot be opened, or somebody else writes it.
        """

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Append entries, all or none. They are durable on return. Returns their sequence numbers, which rise."""

    def read(self, after: int = 0) -> AsyncGenerator[Record, None]:
        """Yield the records after a sequence number, in order."""

    async def done(self, seqs: Sequence[int]) -> None:
        """Mark work as done. A crash may lose marks: the handlers then run again."""

    async def finished(self, seqs: Sequence[int]) -> set[int]:
        """Return which of these are marked as done."""

    async def save(self, key: str, state: bytes, revision: int | None) -> int:
        """Keep a checkpoint if its revision is still the one given (None: there is none yet). Returns the new revision.

        Raises:
            RevisionConflict: if somebody else saved since. The caller must not overwrite it.
        """

    async def load(self, key: str) -> tuple[bytes, int] | None:
        """Read a checkpoint and its revision."""

    async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters. They are durable on return."""

    def dead_letters(self, *, retry_requested: bool = False) -> AsyncGenerator[KeptLetter, None]:
        """Yield the dead letters that were not dropped, in order; or only those that somebody asked to retry."""

    async def request_retry(self, numbers: Sequence[int]) -> None:
        """Ask to try letters again. The dispatcher that runs the handlers does it."""

    async def drop_dead_letters(self, numbers: Sequence[int]) -> None:
        """Forget letters."""

    async def aclose(self) -> None:
        """Write what is left, and let go."""


class ImmediateJournal(Journal, Protocol):
    """A journal whose append never waits, as one in memory: events are then stepped without a turn of the event loop."""

    def append_now(self, entry: Entry) -> int:
        """Append one entry; return its sequence number."""

    def done_now(self, seq: int) -> None:
        """Mark work as done."""


class MarkingJournal(Journal, Protocol):
    """A journal whose append can mark work as done in the same write, which saves one for each."""

    def done_with_next(self, seqs: Sequence[int]) -> None:
        """Let the next `append` mark this work as done, in place of what was given before. If it fails, nothing is marked."""


class SharedJournal(Journal, Protocol):
    """A journal that others append to as well, as a stream of a message broker.

    The sequencer steps what `tail` yields, in that order, its own entries among them. `append` only publishes: the number it
    returns says which record of the tail is the caller's own. Because others append too, the caller can place nothing before
    or after their events; a limit is an entry like any other, and what the journal has first wins.

    A record that is older than `in_transit` says when `tail` yields it may find its session out of memory already, though a
    replay still finds it.
    """

    @property
    def in_transit(self) -> float | None:
        """The seconds by which the next record may be older than the time here. None while nobody can say, as while a server is away."""

    def tail(self, after: int) -> AsyncGenerator[Record, None]:
        """Yield every record after a sequence number, in order, and go on as they are appended. Never ends by itself."""

    async def probe(self) -> None:
        """Check that events can be kept now.

        Raises:
            JournalError: if not, with the reason.
        """


class TendedJournal(Journal, Protocol):
    """A journal that wants to be looked after now and then, as one that prunes itself."""

    async def tend(self, now: float | None) -> bool:
        """Check that it can still keep events, and remove some of what is too old. Called about once a second.

        Args:
            now: Unix seconds; None where no time is known.

        Returns:
            True if it needs a checkpoint to go on.

        Raises:
            JournalError: if it cannot keep events any more.
        """

    async def keep_base(self, base: Base) -> None:
        """Take note of a checkpoint that was just saved: the events before it may be removed once they are old enough."""

    async def base(self) -> Base | None:
        """Return the checkpoint that stands for the events that were removed; None if none were."""


class OutboxJournal(Journal, Protocol):
    """A journal that keeps messages to receivers outside until they are sent.

    Like a mark, a message may wait for the disk. But where a mark is durable, the messages that were added before it are, too.
    """

    async def outbox_seq(self) -> int:
        """Return the highest number of an event whose messages were added; 0 before the first."""

    async def add_messages(self, messages: Sequence[Notification]) -> None:
        """Keep messages, in this order. One whose target and id it has already is left out."""

    async def first_messages(self, target: str, limit: int) -> list[KeptNotification]:
        """Return the first message of each lane of a target, those due first in front."""

    async def postpone_message(self, number: int, attempts: int, due_at: float) -> None:
        """Try a message again later."""

    async def hasten_messages(self, target: str, now: float) -> None:
        """Try the first message of each lane of a target now."""

    async def remove_messages(self, numbers: Sequence[int]) -> None:
        """Forget messages: they were sent, or given up. The next ones of their lanes are due."""

    async def count_messages(self) -> dict[str, int]:
        """Return how many messages wait for each target."""


class CampaignRequest(NamedTuple):
    """What another process asked of a campaign."""

    number: int
    wish: str
    """One of `CAMPAIGN_WISHES`."""


class CampaignJournal(Journal, Protocol):
    """A journal by which other processes ask something of a campaign. Whoever runs that looks for it, and makes it an event."""

    async def campaign_requests(self, campaign: str) -> list[CampaignRequest]:
        """Return what was asked of a campaign and not dropped, in order."""

    async def drop_campaign_requests(self, numbers: Sequence[int]) -> None:
        """Forget what was asked: it was done."""


class OutgoingMessages(Protocol):
    """The messages of a dispatcher, as a `Messenger` works them off."""

    @property
    def clock(self) -> Clock:
        """Governs the pauses between attempts."""

    async def waiting(self) -> dict[str, int]:
        """Return how many messages wait for each target."""

    async def first(self, target: str, limit: int) -> list[KeptNotification]:
        """Return the first message of each lane of a target, those due first in front."""

    async def sent(self, kept: KeptNotification) -> None:
        """Forget a message: it has arrived."""

    async def postpone(self, kept: KeptNotification, seconds: float) -> None:
        """Try a message again after so many seconds."""

    async def hasten(self, target: str) -> None:
        """Try now what waits for its next attempt."""

    async def give_up(self, kept: KeptNotification, reason: str, detail: str) -> None:
        """Make a message a dead letter."""


class Messenger(Protocol):
    """What tells others outside about calls: see `telstate.control.Notifier`. A dispatcher keeps its messages until they are sent."""

    def wants(self, kind: str, record: Mapping[str, Any]) -> Sequence[str]:
        """Return the names of the receivers that want a message. It must not wait.

        Args:
            kind: `call.started`, `call.answered`, `call.ended`, `call.retired` or `caller.lost`.
            record: of the session or the caller.
        """

    def wants_kind(self, kind: str) -> bool:
        """Return whether any receiver may want messages of a kind: a record takes time to make."""

    def has(self, target: str) -> bool:
        """Return whether there is a receiver of this name."""

    def posted(self, targets: Collection[str]) -> None:
        """There are new messages for these receivers."""

    async def run(self, messages: OutgoingMessages) -> None:
        """Send messages until cancelled."""

    async def drain(self) -> None:
        """Wait until what is due is sent, except to receivers that fail."""


class Clock(Protocol):
    """The time, and all waiting for it: deadlines, timeouts, pauses between retries."""

    timers: bool
    """False for the time of a recorded log, which fires no timers."""

    def now(self) -> float | None:
        """Return the time in Unix seconds; None where none is known yet."""

    def follow(self, at: float | None) -> None:
        """Learn the time that a payload carries. Only the clock of a recorded log moves by it."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    def move_on_after(self, seconds: float | None) -> AbstractContextManager[anyio.CancelScope]:
        """Return a cancel scope that is cancelled after so many seconds; None for never. As `anyio.move_on_after`."""


class Control(Protocol):
    """A way to act on a call: Daily's REST API or a call client. See `telstate.control`.

    Every method returns once Daily has accepted. All raise:
        DailyError: if Daily refused; the subclass says why. `UnknownResult` if its answer was lost.
        NotSupported: if this way cannot carry it. Nothing was sent.
        ValueError: if Daily takes no such argument. Nothing was sent.
    """

    async def stop(self, session: Session) -> None:
        """End a session."""

    async def send_dtmf(self, session: Session, dtmf: Dtmf) -> None:
        """Press keys."""

    async def transfer(self, session: Session, transfer: Transfer) -> None:
        """Transfer a session to a SIP URI or a number. Daily stays in the call's path."""

    async def refer(self, session: Session, refer: Refer) -> None:
        """Transfer a SIP session to a SIP URI by REFER. Daily leaves the call's path."""

    async def forward(self, call_id: str, call_domain: str, sip_endpoint: str) -> None:
        """Connect a caller on hold to a SIP endpoint that is ready."""


Place: TypeAlias = Session | Caller | Endpoint | str
"""What one dispatcher has, where many share the calls; a text is the name of a room."""


class Elsewhere(Protocol):
    """What other dispatchers know, where many share the calls, and the way to act on their sessions.

    A dispatcher asks it about what it does not know itself. All questions are answered at once, from memory.
    """

    def session(self, session_id: str) -> Session | None:
        """Find a session of another dispatcher: as it was when that told of it last."""

    def legs(self, ids: Collection[str]) -> list[Session]:
        """Find the sessions of other dispatchers that are legs of one call with any of these session ids or SIP Call-IDs."""

    def waiting(self) -> list[Caller]:
        """List the callers on hold of other dispatchers."""

    def caller(self, call_id: str) -> Caller | None:
        """Find a caller of another dispatcher."""

    def endpoint(self, uri: str) -> Endpoint | None:
        """Find a SIP endpoint of another dispatcher."""

    def watch_session(self, session_id: str, changed: Callable[[], None]) -> Callable[[], None]:
        """Call a function whenever more is known of a session. Returns a function that ends it."""

    def watch_endpoint(self, uri: str, changed: Callable[[], None]) -> Callable[[], None]:
        """Call a function whenever more is known of an endpoint. Returns a function that ends it."""

    def intent(self, name: str) -> tuple[Intent, int] | None:
        """Find an intent whose ledger another dispatcher keeps, and the number of the last event of that which it has."""

    def watch_intent(self, name: str, changed: Callable[[], None]) -> Callable[[], None]:
        """Call a function whenever more is known of an intent. Returns a function that ends it."""

    def has_room(self, room: str) -> bool:
        """Return whether another dispatcher has the events of a room."""

    def sessions_in(self, room: str) -> list[Session]:
        """List the sessions of a room, live or ended, as far as other dispatchers have told."""

    def watch_room(self, room: str, changed: Callable[[Session], None]) -> Callable[[], None]:
        """Call a function with each session of a room of which more is known. Returns a function that ends it."""

    async def publish(self, place: Place, event: Event) -> int:
        """Append an event to the journal of the dispatcher that has a place. Returns its number.

        Raises:
            JournalError: if that could not keep it.
        """

    async def ask(self, place: Session | str, request: ActionRequested, within: float) -> ActionAnswered | None:
        """Append a request to the journal of the dispatcher of a session, or of a room, and wait for the answer.

        What nobody has begun in that time is withdrawn, and never begun. The answer then says so.

        Returns:
            None if nobody knows whether it was carried out.

        Raises:
            JournalError: if that could not keep it. Nothing is carried out then.
        """


class Receipt(Protocol):
    """What a sink knows of an event that it has taken in: a dispatcher its whole `Outcome`, a publisher no more than this."""

    @property
    def kind(self) -> str:
        """What became of it, in a word: `moved`, `duplicate`, … of an outcome, or `published`."""

    @property
    def seq(self) -> int:
        """Its sequence number in the journal."""


class EventSink(Protocol):
    """Where a source delivers events: a `Dispatcher`, or a publisher to a shared journal."""

    @property
    def is_open(self) -> bool:
        """True while events are accepted."""

    async def receive(self, payload: Any, dialect: Dialect | str | None = None) -> Receipt:
        """Take in one event; durable on return.

        Raises:
            ParseError: if it is not an event.
            JournalError: if it could not be kept, and the sender should try again.
        """

    async def add_dead_letter(self, payload: bytes, error: ParseError, dialect: Dialect | str) -> None:
        """Keep a payload that could not be read; durable on return."""


class Observer(Protocol):
    """What sees every outcome of a dispatcher: see `Dispatcher.observe`."""

    def stepped(self, outcome: Outcome) -> None:
        """An event was stepped. Called before any of its handlers runs; it must not wait, and should be quick."""

    def closed(self) -> None:
        """The dispatcher was left, or `stepped` raised: no outcome comes any more."""


HandlerRun = Callable[[Any], Coroutine[Any, Any, object]]
"""Runs a handler for a job, which has what handlers are given as attributes: `event`, `session`, `outcome`."""


class Instrument(Protocol):
    """What measures or traces dispatchers: see `Dispatcher.instrument`. One instrument may serve several of them."""

    def opened(self, calls: Any) -> None:
        """A dispatcher has restored what its journal knows, and begins."""

    def closed(self, calls: Any) -> None:
        """A dispatcher was left. Its handlers have finished, or are cut off now."""

    def stepped(self, calls: Any, outcome: Outcome, received_at: float | None, dialect: str) -> None:
        """An event was stepped. Called before any of its handlers runs; it must not wait, and should be quick.

        If it raises, that is logged, and the event goes on.

        Args:
            calls: the dispatcher.
            outcome: what became of it. It has no `event_id` yet.
            received_at: when the event was received, in Unix seconds.
            dialect: its spelling.
        """

    def around(self, handler: str, run: HandlerRun) -> HandlerRun:
        """Return what runs a handler from now on, in place of `run`. It must pass on what that raises.

        Args:
            handler: its name.
            run: runs it, with its middlewares, retries and timeout.
        """

    def published(self, event: Event, dialect: str) -> None:
        """A publisher has stored an event in a stream. Another process steps it."""


class Measured(Protocol):
    """What an instrument can measure: a `Dispatcher`, or a worker or a publisher of `telstate.journals.nats`."""

    @property
    def not_ready(self) -> str | None:
        """Why it should get no new calls now; None if it may."""

    def instrument(self, instrument: Instrument) -> None:
        """Let an object measure it, from its next start on.

        Raises:
            DefinitionError: while it runs.
        """
