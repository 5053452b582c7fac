"""How far a campaign is: a snapshot of numbers, and the changes one after another."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum

import anyio

from telstate.control._campaign_results import ContactResult
from telstate.control._contacts import Contact, InvalidContact
from telstate.control._results import Attempt

__all__ = ["CampaignChange", "CampaignChangeKind", "CampaignNews", "CampaignProgress", "CampaignState"]

_UNREAD = 10_000
"""Changes that wait for a reader; of one that falls behind by more the next ones are left out."""


class CampaignState(StrEnum):
    """What a campaign does."""

    READY = "ready"
    """It does not run in this process: not yet, or not any more, though some contacts have no result."""
    RUNNING = "running"
    """It starts calls as they are due."""
    PAUSED = "paused"
    """It starts none until `resume`. Calls that were started go on."""
    STOPPED = "stopped"
    """It was stopped, and starts none any more."""
    FINISHED = "finished"
    """Each contact has a result."""


@dataclass(frozen=True)
class CampaignProgress:
    """How far a campaign is, at one moment.

    Attributes:
        state: what it does.
        contacts: how many different numbers the list has, as far as it was read; invalid rows included.
        waiting: how many wait for their time: a pause after an attempt, or opening hours.
        due: how many wait only for their turn: for one of the `at_once` places, the start rate, or the end of a pause of the campaign.
        dialing: how many are being called.
        talking: how many calls were answered and go on. With `dialing`, the places that are taken.
        done: how many have a result, by the value of its outcome: `{"answered": 17, "do-not-call": 2}`.
        starts: how many starts were made, those of earlier processes included.
        duplicates: how many further rows have a number that the list has already.
        next_due: when the next of those that wait is due, in Unix seconds; None if none waits.
    """

    state: CampaignState
    contacts: int
    waiting: int
    due: int
    dialing: int
    talking: int
    done: dict[str, int]
    starts: int
    duplicates: int
    next_due: float | None

    @property
    def finished(self) -> int:
        """How many have a result."""
        return sum(self.done.values())


class CampaignChangeKind(StrEnum):
    """What has changed."""

    STARTED = "started"
    """A contact is about to be called."""
    ATTEMPTED = "attempted"
    """A call of a contact has come to its outcome, and another one is planned."""
    FINISHED = "finished"
    """A contact has a result."""
    DUPLICATE = "duplicate"
    """A row has a number that the list has already: it is not called for that."""
    STATE = "state"
    """The campaign was paused, resumed or stopped, or has finished: `CampaignProgress.state`."""


@dataclass(frozen=True)
class CampaignChange:
    """A change in a campaign.

    Attributes:
        kind: what.
        at: when, in Unix seconds of the dispatcher's clock.
        progress: how far the campaign is after it.
        contact: whom it is about; None for `state`.
        attempt: of `attempted`: the attempt.
        due_at: of `attempted`: when they are called again at the earliest, in Unix seconds.
        result: of `finished`: the result.
    """

    kind: CampaignChangeKind
    at: float
    progress: CampaignProgress
    contact: Contact | InvalidContact | None = None
    attempt: Attempt | None = None
    due_at: float | None = None
    result: ContactResult | None = None


class CampaignNews:
    """Passes changes on to all who follow a campaign. A slow reader holds up nobody."""

    def __init__(self) -> None:
        self._readers: list[_Reader] = []

    @property
    def is_followed(self) -> bool:
        """True if anybody follows: changes cost something."""
        return bool(self._readers)

    def tell(self, change: CampaignChange) -> None:
        """Pass a change on."""
        for reader in self._readers:
            if len(reader.unread) < _UNREAD:
                reader.unread.append(change)
            reader.wake.set()

    def end(self) -> None:
        """There are no more in this run. Who begins to follow later follows the next one."""
        for reader in self._readers:
            reader.is_over = True
            reader.wake.set()

    def follow(self) -> AsyncIterator[CampaignChange]:
        """Yield changes from this call on, to the end."""
        reader = _Reader()
        self._readers.append(reader)
        return self._read(reader)

    async def _read(self, reader: _Reader) -> AsyncIterator[CampaignChange]:
        try:
            while True:
                while reader.unread:
                    yield reader.unread.popleft()
                if reader.is_over:
                    return
                reader.wake = anyio.Event()
                await reader.wake.wait()
        finally:
            self._readers.remove(reader)


class _Reader:
    """What one reader has not read yet."""

    def __init__(self) -> None:
        self.unread: deque[CampaignChange] = deque()
        self.wake = anyio.Event()
        self.is_over = False
