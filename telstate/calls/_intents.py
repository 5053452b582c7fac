"""The ledger of dials: of each intent the starts that were made for it, what came of them, and who dials it now.

An intent is a name that a program gives to what it wants, as `order-4711`: it is reached at most once, over restarts and over workers. The
rules that make that so:

- Whoever dials it has claimed it. A claim ends at its time, unless it is renewed; until then nobody else gets it.
- A start is kept before it is sent, and counts whether or not it was sent. Only who has the claim can keep one. It is withdrawn, and does
  not count, if it was certainly not made and that was no fault of the number: the key was wrong, or nobody was in the room.
- A result that ends the intent (it was reached, or must not be dialled again) is kept once; after it nobody gets a claim.

A campaign is an intent too, without starts: whether it is paused or stopped is kept under its name. It is held from its first run on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from telstate.calls._expiring_dict import ExpiringDict
from telstate.calls._outcome import OutcomeKind
from telstate.events import (
    AttemptBegun,
    AttemptEnded,
    CampaignPaused,
    CampaignResumed,
    CampaignStopped,
    Event,
    IntentClaimed,
    IntentHeld,
    IntentReleased,
)

__all__ = ["HALT_PAUSED", "HALT_STOPPED", "WITHDRAWN", "DialRecord", "Intent", "Intents", "intent_of"]

HALT_PAUSED, HALT_STOPPED = "paused", "stopped"
"""What a campaign can be, as the `halt` of its intent."""
WITHDRAWN = "withdrawn"
"""The outcome of a start that does not count."""
_ANSWERED = "answered"
_HALTS = {CampaignPaused: HALT_PAUSED, CampaignResumed: None, CampaignStopped: HALT_STOPPED}


class DialRecord(NamedTuple):
    """One start for an intent, and what came of it."""

    user_id: str
    """The `userId` of the start: by it the call is found."""
    destination: str
    room: str | None
    started_at: float
    outcome: str | None = None
    """How it ended, as a `DialOutcome`; None while that is not known."""
    session_id: str | None = None
    error: str | None = None
    ended_at: float | None = None
    rang: bool = False
    verdict: str | None = None

    @property
    def is_open(self) -> bool:
        """True while nobody knows what came of it."""
        return self.outcome is None


class Intent(NamedTuple):
    """What is known of one intent."""

    claim: str | None = None
    """Whose turn it is; None if nobody dials it."""
    claimed_until: float = 0.0
    records: tuple[DialRecord, ...] = ()
    """Its starts, in order."""
    outcome: str | None = None
    """The result that ended it, as a `DialOutcome` or a `NotTried`; None while it may be dialled again."""
    halt: str | None = None
    """Of a campaign: `paused` or `stopped`; None while it goes on."""

    def is_claimed(self, now: float) -> bool:
        """Return whether somebody dials it."""
        return self.claim is not None and now <= self.claimed_until


class Intents(ExpiringDict[str, Intent]):
    """Intents by their name. Each is remembered for so long after its last event."""

    __slots__ = ()

    def apply(self, event: Event, now: float) -> OutcomeKind:
        """Take in an event of an intent."""
        assert isinstance(event, _EVENTS)  # noqa: S101
        known = self.find(event.intent)
        if isinstance(event, IntentHeld):
            after: Intent | OutcomeKind = known or Intent()
        elif isinstance(event, (CampaignPaused, CampaignResumed, CampaignStopped)):
            after = _halted(known or Intent(), event)
        else:
            after = _after(known or Intent(), event, now)
        if isinstance(after, OutcomeKind):
            return after
        self.put(event.intent, after, now)
        self.trim()
        return OutcomeKind.NOTED

    def load(self, entries: Any) -> None:
        """Restore what `dump` returned."""
        super().load((key, due, intent_of(intent)) for key, due, intent in entries)


_EVENTS = (
    *(IntentClaimed, AttemptBegun, AttemptEnded, IntentReleased, IntentHeld),
    *(CampaignPaused, CampaignResumed, CampaignStopped),
)


def _halted(known: Intent, event: CampaignPaused | CampaignResumed | CampaignStopped) -> Intent | OutcomeKind:
    """Return what is known after a campaign was paused, resumed or stopped. A stop is for good."""
    halt = _HALTS[type(event)]
    if known.halt == halt:
        return OutcomeKind.DUPLICATE
    return OutcomeKind.LATE if known.halt == HALT_STOPPED else known._replace(halt=halt)


def _after(
    known: Intent, event: IntentClaimed | AttemptBegun | AttemptEnded | IntentReleased, now: float
) -> Intent | OutcomeKind:
    """Return what is known after an event, or why it changes nothing."""
    if isinstance(event, AttemptEnded):
        return _with_result(known, event)
    if known.outcome is not None:
        return OutcomeKind.LATE
    if isinstance(event, IntentClaimed):
        if known.claim != event.claim and known.is_claimed(now) and not event.takes_over:
            return OutcomeKind.LATE
        return known._replace(claim=event.claim, claimed_until=event.expires_at)
    if known.claim != event.claim:
        return OutcomeKind.LATE
    if isinstance(event, IntentReleased):
        return known._replace(claim=None, claimed_until=0.0, outcome=event.outcome)
    if any(record.user_id == event.user_id for record in known.records):
        return OutcomeKind.DUPLICATE
    record = DialRecord(event.user_id, event.destination, event.room, now)
    return known._replace(records=(*known.records, record))


def _with_result(known: Intent, event: AttemptEnded) -> Intent | OutcomeKind:
    """Return what is known after the end of an attempt. An answer counts also where it is reported late."""
    records = list(known.records)
    for place, record in enumerate(records):
        if record.user_id == event.user_id:
            if not record.is_open and (event.outcome != _ANSWERED or record.outcome == _ANSWERED):
                return OutcomeKind.DUPLICATE
            if event.outcome == WITHDRAWN:
                return known._replace(records=(*records[:place], *records[place + 1 :]))
            records[place] = record._replace(
                outcome=event.outcome,
                session_id=event.ended_session_id,
                error=event.error,
                ended_at=event.ended_at,
                rang=bool(event.rang),
                verdict=event.verdict,
            )
            return known._replace(records=tuple(records))
    return OutcomeKind.LATE


def intent_of(values: Sequence[Any]) -> Intent:
    """Read an intent from JSON."""
    claim, claimed_until, records, *rest = values
    return Intent(claim, claimed_until, tuple(DialRecord(*record) for record in records), *rest)
