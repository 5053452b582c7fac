"""Delivery: what follows from a step. It wakes what waits, and queues the handlers that the outcome calls for."""

from __future__ import annotations

from telstate.calls._outcome import Outcome, Unmatched
from telstate.calls._session import Session
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
        self._waiters = waiters
        self._reconciler = reconciler
        self._checkpoints = checkpoints
        self._log_transitions = log_transitions
        self._log = Log()

    def stepped(self, outcome: Outcome | None, departed: tuple[Session | Unmatched, ...]) -> None:
        """Let everything follow from a step, and from what left memory with it."""
        if outcome is not None:
            self._deliver(outcome)
        for gone in departed:
            if isinstance(gone, Session):
                self._deliver_retirement(gone)

    def _deliver(self, outcome: Outcome) -> None:
        session = outcome.session
        if session is None or outcome.moves or outcome.opened:
            self._waiters.wake(outcome)
            if self._log_transitions and session is not None:
                self._say_moved(session, outcome)
        if outcome.ended and session is not None:
            self._lanes.end_session(session.session_id)
        handlers = self._handlers.find(outcome)
        if handlers:
            self._put(Job(outcome.seq, handlers, outcome.event, session, outcome))
        else:
            self._work_log.done(outcome.seq)
        if outcome.event.local:
            self._reconciler.see(outcome)
        self._checkpoints.stepped(outcome.seq)

    def _deliver_retirement(self, session: Session) -> None:
        """A session left memory: its handlers get the final word on it."""
        job = retirement_of(session, self._handlers)
        if job.handlers:
            self._put(job)
        else:
            self._work_log.done(job.seq)

    def _put(self, job: Job) -> None:
        key = job.session.session_id if job.session is not None else lane_key(job.event, None)
        if not self._lanes.put(key, job):
            detail = f"more events of {key} wait for handlers than its lane takes"
            event_id = job.outcome.event_id if job.outcome is not None else None
            self._log.error("handlers.dead_letter", event_id=event_id, reason="LaneFull", detail=detail)
            self._work_log.give_up(job, "LaneFull", detail)
            self._work_log.done(job.seq)

    def _say_moved(self, session: Session, outcome: Outcome) -> None:
        for move in outcome.moves:
            facts = {
                "source": str(move.source),
                "target": str(move.target),
                "cause": session.cause and str(session.cause),
            }
            self._log.info("session.moved", **facts, **of_session(session))
