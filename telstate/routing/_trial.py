"""The trial: suspects run one at a time, before all other handlers, so that a crash says which of them ends the process."""

from __future__ import annotations

from collections.abc import Hashable

import anyio
from anyio.abc import TaskGroup

from telstate.routing._deliveries import Deliveries
from telstate.routing._job_codec import lane_of
from telstate.routing._lanes import Job, Lane, Lanes
from telstate.routing._log import Log
from telstate.routing._work_log import WorkLog

__all__ = ["Trial"]


class Trial:
    """Runs the suspects of a start, lane by lane, then opens the lanes for everything else.

    A session's order holds: what is behind a suspect in its lane waits. A suspect that takes longer than its turn runs on beside
    the next; the suspects behind it have their turn when it has finished.

    Args:
        deliveries: knows the suspects.
        lanes: have the unfinished work.
        work_log: has the marks by which the next start knows whose turn it was.
    """

    def __init__(self, deliveries: Deliveries, lanes: Lanes, work_log: WorkLog) -> None:
        self._deliveries = deliveries
        self._lanes = lanes
        self._work_log = work_log
        self._suspects: set[int] = set()
        self._order: list[Hashable] = []
        """The lanes with suspects, the worst first."""
        self._running = 0
        """The suspects that took longer than their turn and still run."""
        self._log = Log()

    async def prepare(self) -> None:
        """Decide who is suspect and in which order they run; durable on return."""
        unfinished = self._lanes.unfinished()
        suspects = {job.seq for job in self._deliveries.suspects(unfinished)}
        by_lane: dict[Hashable, list[Job]] = {}
        for job in unfinished:
            by_lane.setdefault(lane_of(job), []).append(job)
        by_lane = {key: found for key, jobs in by_lane.items() if (found := _up_to_last(jobs, suspects))}
        self._order = sorted(by_lane, key=lambda key: -max(map(self._deliveries.deaths, by_lane[key])))
        order = [job for key in self._order for job in by_lane[key]]
        self._suspects = {job.seq for job in order}
        await self._work_log.flush()
        await self._deliveries.begin(unfinished, order)

    def open(self, group: TaskGroup) -> None:
        """Let handlers run: at once if there are no suspects."""
        if not self._order:
            self._lanes.open(group)
            return
        hint = "they were unfinished at two starts in a row, so one of them may end the process"
        self._log.warning("handlers.one_at_a_time", events=len(self._suspects), hint=hint)
        group.start_soon(self._run, self._lanes.hold(set(self._order)), group)

    async def _run(self, held: dict[Hashable, Lane], group: TaskGroup) -> None:
        turn = self._deliveries.turn(len(self._suspects))
        for key in self._order:
            lane = held[key]
            while self._has_suspect(lane) and not self._lanes.is_resting:
                job, finished = self._start(lane, group)
                with anyio.move_on_after(turn):
                    await finished.wait()
                if not finished.is_set():
                    behind = [waiting for waiting in lane.jobs if waiting.seq in self._suspects]
                    self._running += 1
                    await self._deliveries.release(job, behind, alone=self._running == 1)
                    group.start_soon(self._go_on, lane, finished, group)
                    break
                await self._work_log.flush()
            else:
                self._lanes.give_back(lane)
        self._lanes.open(group)

    async def _go_on(self, lane: Lane, finished: anyio.Event, group: TaskGroup) -> None:
        """Run the suspects behind one that took longer, each when the mark of the one before is written."""
        await finished.wait()
        self._running -= 1
        while self._has_suspect(lane) and not self._lanes.is_resting:
            await self._work_log.flush()
            _, finished = self._start(lane, group)
            await finished.wait()
        self._lanes.give_back(lane)

    def _has_suspect(self, lane: Lane) -> bool:
        return any(job.seq in self._suspects for job in lane.jobs)

    def _start(self, lane: Lane, group: TaskGroup) -> tuple[Job, anyio.Event]:
        """Start the first job of a lane, in a task of its own: a handler may cancel the task that it runs in."""
        job, finished = lane.jobs[0], anyio.Event()

        async def run() -> None:
            await self._lanes.run_first(lane)
            finished.set()

        group.start_soon(run)
        return job, finished


def _up_to_last(jobs: list[Job], suspects: set[int]) -> list[Job]:
    """Return the jobs of a lane up to its last suspect: what is before it has to run before it."""
    last = max((place for place, job in enumerate(jobs) if job.seq in suspects), default=-1)
    return jobs[: last + 1]
