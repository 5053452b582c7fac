"""Delivery: what follows from a step. It wakes what waits, and queues the handlers that the outcome calls for."""

from __future__ import annotations

from collections.abc import Hashable

from telstate.calls._caller import Caller
from telstate.calls._outcome import Outcome, Unmatched
from telstate.calls._session import Session
from telstate.events import PresenceChecked
from telstate.routing._checkpoints import Checkpoints
from telstate.routing._handlers import HandlerTable
from telstate.routing._job_codec import lane_key, retirement_of
from telstate.routing._lanes import Job, Lanes
from telstate.routing._log import Log, of_session
from telstate.routing._presence import Reconciler
from telstate.routing._waiters import Waiters
from telstate.routing._work_log import WorkLog

__all__ = ["Delivery"]


class Delivery:
    """Delivers outcomes. `stepped` is the sequencer's listener; nothing in it waits."""

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        handlers: HandlerTable,
        lanes: Lanes,
        work_log: WorkLog,
        waiters: Waiters,
        reconciler: Reconciler,
        checkpoints: Checkpoints,
        *,
        log_transitions: bool,
    ) -> None:
        self._handlers = handlers
        self._lanes = lanes
        self._work_log = work_log
        self._done = work_log.done
        self._waiters = waiters
        self._reconciler = reconciler
        self._checkpoints = checkpoints
        self._log_transitions = log_transitions
        self._log = Log()

    def stepped(self, outcome: Outcome | None, departed: tuple[Session | Unmatched | Caller, ...]) -> None:
        """Let everything follow from a step, and from what left memory with it."""
        if outcome is not None:
            event, session, seq = outcome.event, outcome.session, outcome.seq
            if session is None:
                self._waiters.wake_for(event)
            elif outcome.moves or outcome.opened:
                self._changed(session, outcome)
            if outcome.changed and not (outcome.moves or outcome.opened):
                self._waiters.publish(outcome)
            handlers = self._handlers.find(outcome)
            if handlers:
                key = session.session_id if session is not None else lane_key(event)
                job = Job(seq, handlers, event, session, outcome)
                if not self._lanes.put(key, job):
                    self._give_up(key, job)
            else:
                self._done(seq)
            if session is None or type(event) is PresenceChecked:  # nothing else is a question, or a reason for one
                self._reconciler.see(outcome)
            if seq >= self._checkpoints.due_at:
                self._checkpoints.wake()
        if departed:
            self._retire(departed)

    def _changed(self, session: Session, outcome: Outcome) -> None:
        self._waiters.wake(session, outcome)
        if self._log_transitions:
            self._log_moves(session, outcome)
        if outcome.ended:
            self._lanes.end_session(session.session_id)

    def _retire(self, departed: tuple[Session | Unmatched | Caller, ...]) -> None:
        """Sessions left memory: their handlers get the final word."""
        for gone in departed:
            if isinstance(gone, Session):
                job = retirement_of(gone, self._handlers)
                if job.seq in self._work_log.done_before:
                    self._work_log.done_before.discard(job.seq)
                elif not job.handlers:
                    self._done(job.seq)
                elif not self._lanes.put(gone.session_id, job):
                    self._give_up(gone.session_id, job)

    def _give_up(self, key: Hashable, job: Job) -> None:
        detail = f"more events of {key} wait for handlers than its lane takes"
        event_id = job.outcome.event_id if job.outcome is not None else None
        self._log.error(
            "handlers.dead_letter", event_id=event_id, reason="LaneFull", detail=detail, see=self._work_log.see
        )
        self._work_log.give_up(job, "LaneFull", detail)
        self._done(job.seq)

    def _log_moves(self, session: Session, outcome: Outcome) -> None:
        for move in outcome.moves:
            facts = {
                "source": str(move.source),
                "target": str(move.target),
                "cause": session.cause and str(session.cause),
            }
            self._log.info("session.moved", **facts, **of_session(session))
