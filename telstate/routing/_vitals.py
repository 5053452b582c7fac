"""How a running dispatcher is, in numbers: what waits, how full its limits are, and what its journal keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from time import monotonic
from typing import NamedTuple

from telstate.calls._caller import CallerState
from telstate.calls._table import State
from telstate.events import Direction
from telstate.routing._abilities import usage_of
from telstate.routing._backlog import Backlog
from telstate.routing._checkpoints import Checkpoints
from telstate.routing._lanes import Lanes
from telstate.routing._outbox import Outbox
from telstate.routing._ports import Journal, JournalUsage
from telstate.routing._sequencer import Sequencer
from telstate.routing._work_log import WorkLog

__all__ = ["Vitals", "vitals_of"]


class Vitals(NamedTuple):
    """How a dispatcher is, in numbers. Of many that share the calls, only this one. Times are seconds; what is unknown is None."""

    live: Mapping[tuple[Direction, State], int]
    """How many sessions live, by direction and state."""
    uncertain: int
    """How many of them may have ended: events may have been missed, or there is a sign of the end."""
    callers: Mapping[CallerState, int]
    """How many callers are in no session yet, by state."""
    pending: int
    """How many events wait for handlers, or run them."""
    pending_limit: int
    """From so many on `receive` waits."""
    receiving: int
    """How many calls of `receive` wait for that now."""
    waits: int
    """How often `receive` had to wait since the dispatcher was entered."""
    waited_s: float
    """For how long in all; without those that wait now."""
    lanes: int
    """How many sessions have handlers that wait or run."""
    deepest_lane: int
    """How many events of one session wait for handlers, or run them, at most."""
    handlers_running: int
    """How many handlers wait for something."""
    longest_handler_s: float
    """How long the first of them has run."""
    appending: int
    """How many events wait for the journal."""
    appending_s: float
    """How long the journal has not answered what it was given; 0 if it was given nothing."""
    refused: int
    """How many events the journal could not keep since the dispatcher was entered. Their senders were asked to retry."""
    dead_letters: Mapping[str, int]
    """How many dead letters were kept since then, by kind: `handler-raised`, `process-died`, `lane-full`, `unreadable`, `not-delivered`."""
    notifications: Mapping[str, int]
    """How many messages of `notify=` wait for each receiver, as of some seconds ago."""
    last_record: int
    """The number of the last event that was stepped."""
    checkpoint_behind: int | None
    """How many events a start would read again; None if the journal needs no checkpoints."""
    checkpoint_age_s: float | None
    """How long ago the last checkpoint was saved; None if none was since the dispatcher was entered."""
    usage: JournalUsage
    """What the journal keeps."""


def vitals_of(  # noqa: PLR0917 - called in one place
    journal: Journal,
    sequencer: Sequencer,
    backlog: Backlog,
    lanes: Lanes,
    work_log: WorkLog,
    checkpoints: Checkpoints,
    outbox: Outbox | None,
) -> Vitals:
    """Look at the parts of a run."""
    depths, longest = lanes.depths(), lanes.longest()
    live = sequencer.engine.live()
    saved_at = checkpoints.saved_at
    return Vitals(
        live=Counter((session.direction, session.state) for session in live),
        uncertain=sum(session.uncertain for session in live),
        callers=Counter(caller.state for caller in sequencer.engine.waiting()),
        pending=backlog.pending,
        pending_limit=backlog.limit,
        receiving=backlog.senders,
        waits=backlog.waits,
        waited_s=backlog.waited,
        lanes=len(depths),
        deepest_lane=max(depths, default=0),
        handlers_running=lanes.running_handlers,
        longest_handler_s=0.0 if longest is None else longest[1],
        appending=sequencer.waiting,
        appending_s=sequencer.health.appending_s,
        refused=sequencer.health.refused,
        dead_letters=work_log.given_up.copy(),
        notifications={} if outbox is None else outbox.counts,
        last_record=sequencer.seq,
        checkpoint_behind=checkpoints.behind,
        checkpoint_age_s=None if saved_at is None else monotonic() - saved_at,
        usage=usage_of(journal),
    )
