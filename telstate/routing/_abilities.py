"""What a journal can do beyond the `Journal` protocol, decided in one place; and an append that holds it to its contract."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from telstate.errors import JournalError
from telstate.routing._cancellation import own_cancellation_only
from telstate.routing._ports import Base, CampaignRequest, Entry, Journal, JournalUsage, Notification, Record

__all__ = ["Abilities", "abilities_of", "append", "in_transit_of", "usage_of"]


_PATIENCE = 2.5


class Abilities(NamedTuple):
    """The optional methods of a journal; None for those it does not have."""

    append_now: Callable[[Entry], int] | None
    """Of an `ImmediateJournal`, as is `done_now`."""
    done_now: Callable[[int], None] | None
    tail: Callable[[int], AsyncGenerator[Record, None]] | None
    """Of a `SharedJournal`, as is `probe`."""
    probe: Callable[[], Awaitable[None]] | None
    done_with_next: Callable[[Sequence[int]], None] | None
    """Of a `MarkingJournal`."""
    tend: Callable[[float | None], Awaitable[bool]] | None
    """Of a `TendedJournal`, as are `keep_base` and `base`."""
    keep_base: Callable[[Base], Awaitable[None]] | None
    base: Callable[[], Awaitable[Base | None]] | None
    add_messages: Callable[[Sequence[Notification]], Awaitable[None]] | None
    """Of an `OutboxJournal`."""
    campaign_requests: Callable[[str], Awaitable[list[CampaignRequest]]] | None
    """Of a `CampaignJournal`, as is `drop_campaign_requests`."""
    drop_campaign_requests: Callable[[Sequence[int]], Awaitable[None]] | None

    @property
    def is_shared(self) -> bool:
        """True if others append to the journal, too."""
        return self.tail is not None

    @property
    def patience(self) -> float:
        """How much longer than usual to wait between two looks at what mostly has no news: a process may own hundreds of shared journals."""
        return _PATIENCE if self.is_shared else 1.0


def abilities_of(journal: Journal) -> Abilities:
    """Look for a journal's optional methods."""
    return Abilities(*(getattr(journal, name, None) for name in Abilities._fields))


def in_transit_of(journal: Journal) -> float | None:
    """Return how much older than now the next record of a journal may be: see `SharedJournal`. 0 where nobody else appends."""
    in_transit: float | None = getattr(journal, "in_transit", 0.0)
    return in_transit if abilities_of(journal).is_shared else 0.0


def usage_of(journal: Journal) -> JournalUsage:
    """Return how much a journal keeps, as far as it says."""
    usage: JournalUsage | None = getattr(journal, "usage", None)
    return usage or JournalUsage(None, None, None)


async def append(journal: Journal, entries: Sequence[Entry], after: int) -> Sequence[int]:
    """Append to a journal, and check that it returned a number for each entry, and that the numbers rise.

    Raises:
        JournalError: if they do not.
    """
    if not entries:
        return []
    with own_cancellation_only():
        seqs = await journal.append(entries)
    if len(seqs) != len(entries):
        raise JournalError(f"it returned {len(seqs)} numbers for {len(entries)} entries, against its contract")
    if any(seq <= previous for previous, seq in pairwise([after, *seqs])):
        raise JournalError(
            f"it returned the numbers {seqs[0]} to {seqs[-1]} after {after}: they do not rise, against its contract"
        )
    return seqs
