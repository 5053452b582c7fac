"""What a journal knows of a campaign, for a process that does not run it: `telstate campaign status` and `report`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from telstate.calls._engine import Engine
from telstate.calls._intents import HALT_PAUSED, HALT_STOPPED, Intent
from telstate.control._campaign_ledger import attempts_of, ledger_name, outcome_of
from telstate.control._campaign_plan import Contacts
from telstate.control._campaign_progress import CampaignState
from telstate.control._campaign_results import ContactOutcome, ContactResult, NotTried, result_of
from telstate.control._contacts import Contact, ContactList, InvalidContact
from telstate.control._results import Attempt
from telstate.control._retry_plan import RetryPlan
from telstate.errors import DefinitionError

__all__ = ["KnownContact", "known_contacts", "known_results", "known_state"]


@dataclass(frozen=True)
class KnownContact:
    """What a journal knows of a contact of a campaign.

    Attributes:
        key: the contact's id, or the number.
        attempts: all starts, in order; one without a known end is `unknown`.
        outcome: what ended it; None while it may be called again, if the plan allows that.
        is_dialing: True if a start has no known end: it goes on, or its process has ended.
    """

    key: str
    attempts: tuple[Attempt, ...]
    outcome: ContactOutcome | None
    is_dialing: bool

    def __repr__(self) -> str:
        return f"<KnownContact {self.outcome or 'open'} after {len(self.attempts)}>"


def known_state(engine: Engine, campaign: str) -> CampaignState:
    """Return whether a campaign is paused or stopped. `ready` says that it is neither: a journal does not know whether it runs now."""
    known = engine.intent(campaign)
    return {HALT_PAUSED: CampaignState.PAUSED, HALT_STOPPED: CampaignState.STOPPED}.get(
        (known and known.halt) or "", CampaignState.READY
    )


def known_contacts(engine: Engine, campaign: str) -> Iterator[KnownContact]:
    """Yield the contacts of a campaign of which the journal knows something: who was called, or was on the list not to be called.

    It needs no list; who was never tried is not among them.

    Args:
        engine: that of a dispatcher, or of a replay of the journal (`replay`).
        campaign: its name.
    """
    start = ledger_name(campaign, "")
    for name in engine.intents():
        known = engine.intent(name)
        if name.startswith(start) and known is not None and (known.records or known.outcome):
            yield _known(name.removeprefix(start), known)


def known_results(
    engine: Engine,
    campaign: str,
    contacts: Contacts,
    retry: RetryPlan = RetryPlan(),  # noqa: B008 - it is frozen
    ring_timeout: float = 30.0,
) -> Iterator[ContactResult]:
    """Yield the results of a list that are final by what a journal knows, in its order; contacts without one yet are left out.

    Args:
        engine: that of a dispatcher, or of a replay of the journal.
        campaign: its name.
        contacts: the list, as the campaign has it. Not an async iterable.
        retry, ring_timeout: as the campaign has them: they say when a number is not called any more.
    """
    if not isinstance(contacts, Iterable):
        raise DefinitionError(
            "known_results takes a list of contacts, or what read_contacts returns, not an async iterable"
        )
    is_stopped = known_state(engine, campaign) is CampaignState.STOPPED
    for contact in map(ContactList().take, contacts):
        if isinstance(contact, InvalidContact):
            yield ContactResult(contact, NotTried.INVALID, error=contact.error, was_known=True)
        elif contact is not None:
            known = engine.intent(ledger_name(campaign, contact.key)) or Intent()
            if (result := _final(contact, known, retry, ring_timeout, is_stopped=is_stopped)) is not None:
                yield result


def _final(
    contact: Contact, known: Intent, retry: RetryPlan, ring_timeout: float, *, is_stopped: bool
) -> ContactResult | None:
    attempts, outcome = attempts_of(known), outcome_of(known)
    cut_short = outcome if isinstance(outcome, NotTried) else None
    if outcome is None:
        if any(record.is_open for record in known.records):
            return None
        if retry.next_start(attempts, ring_timeout) is not None:
            if not is_stopped:
                return None
            cut_short = NotTried.CAMPAIGN_STOPPED
    return result_of(contact, attempts, outcome, cut_short, was_known=True)


def _known(key: str, known: Intent) -> KnownContact:
    return KnownContact(key, attempts_of(known), outcome_of(known), any(record.is_open for record in known.records))
