"""`telstate campaign run`: a service that dials, until everybody on the list has a result."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import AbstractContextManager, aclosing, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import anyio

from telstate.cli._campaign_reports import CampaignReport, ProgressView
from telstate.cli._serve import run_service
from telstate.cli._service import load_named
from telstate.cli._terminal import misuse, say
from telstate.control._campaign import Campaign
from telstate.control._campaign_progress import CampaignChange
from telstate.control._campaign_results import ContactResult, ResultFile
from telstate.control._dialer import Dialer
from telstate.control._results import Attempt, Confirm, DialOutcome
from telstate.errors import CallEnded, DailyError, NotRunning, TelstateError
from telstate.events import Direction
from telstate.events._masking import mask
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._handlers import is_async

if TYPE_CHECKING:
    from telstate.cli._config_sources import Loaded

__all__ = ["CampaignCommand", "Output", "load_confirm"]

_UNHEARD = 3
"""Calls one after another of which no event came, before the user is told: a single one may be a phone that is off."""
_LOOK_EVERY = 1.0
_ROOM = 5
"""The dialer's default of calls at once in a room, which is Daily's."""


class Output:
    """Where results go: standard output, as a report, and a file, in full.

    Args:
        report: the form of the report.
        path: the file, if any.
    """

    def __init__(self, report: CampaignReport, path: str | None) -> None:
        self._report = report
        self.view = ProgressView()
        self._file = None if path is None else ResultFile(path)
        self._done: Counter[str] = Counter()

    def file(self) -> AbstractContextManager[Any]:
        """The file is open inside this block."""
        return self._file or nullcontext()

    def begin(self) -> None:
        """Write the head."""
        self.view.print(self._report.head())

    def add(self, result: ContactResult) -> None:
        """Write a result."""
        self._done[str(result.outcome)] += 1
        self.view.print(self._report.result(result))
        if self._file is not None:
            self._file.write(result)

    def end(self, contacts: int, starts: int, duplicates: int) -> None:
        """Write the summary."""
        counted = {"contacts": contacts, "done": dict(self._done), "starts": starts, "duplicates": duplicates}
        text = self._report.summary(counted)
        if text is not None:
            sys.stdout.write(text + "\n")


class CampaignCommand:
    """A campaign in a service of its own.

    Args:
        campaign: the campaign.
        room: the room that dials.
        at_once: how many calls at most: the room's limit is Daily's, so a higher one here is a room whose limit was raised.
        output: where results go.
    """

    def __init__(self, campaign: Campaign, room: str, at_once: int, output: Output) -> None:
        self._campaign = campaign
        self._room = room
        self._per_room = max(_ROOM, at_once)
        self._output = output
        self._unheard = _Unheard()
        self._is_finished = False
        self._error: TelstateError | None = None

    def run(self, loaded: Loaded) -> bool:
        """Run it. Returns False if it was ended before everybody had a result."""
        with self._output.file():
            with self._output.view.block():
                run_service(loaded, self._work)
            progress = self._campaign.progress
            self._output.end(progress.contacts, progress.starts, progress.duplicates)
        if isinstance(self._error, DailyError):
            say(
                f"{mask(str(self._error))}\nThe campaign has ended, as nobody can be called like that. Such a start counts against nobody: mend"
                " it, and run the same command again"
            )
        elif self._error is not None and not isinstance(self._error, NotRunning):
            raise self._error
        elif not self._is_finished:
            say("the campaign was ended before everybody had a result: the same command goes on with it")
        return self._is_finished

    async def _work(self, calls: Dispatcher) -> None:
        """Dial inside the service, until all results are there and the calls that were answered are over."""
        self._output.begin()
        async with anyio.create_task_group() as group:
            group.start_soon(self._follow)
            group.start_soon(self._tick)
            try:
                await self._dial(calls)
            except TelstateError as error:  # raised outside of the groups, which would wrap it
                self._error = error
            group.cancel_scope.cancel()

    async def _dial(self, calls: Dispatcher) -> None:
        async with (
            Dialer(calls, room=self._room, per_room=self._per_room) as dialer,
            aclosing(self._campaign.run(dialer)) as results,
        ):
            async for result in results:
                self._output.add(result)
            self._is_finished = True
            await self._until_calls_end(calls, dialer)

    async def _until_calls_end(self, calls: Dispatcher, dialer: Dialer) -> None:
        live = [one for one in calls.live() if one.direction is Direction.DIALOUT and one.room in (self._room, None)]
        if live:
            say(
                f"everybody has a result; {len(live)} call{'' if len(live) == 1 else 's'} still going on. A signal ends the waiting"
            )
        async with anyio.create_task_group() as group:
            group.start_soon(dialer._slots.keep_checking, [session.session_id for session in live])
            for session in live:
                with suppress(CallEnded, NotRunning):
                    await calls.wait_for(session.session_id, "stopped")
            group.cancel_scope.cancel()

    async def _tick(self) -> None:
        """Show the progress also while nothing happens: a retry comes nearer, another process pauses the campaign."""
        while True:
            self._output.view.show(self._campaign.progress)
            await anyio.sleep(_LOOK_EVERY)

    async def _follow(self) -> None:
        async for change in self._campaign.changes():
            self._unheard.see(change)
            self._output.view.show(change.progress)


class _Unheard:
    """Notices that no event of any call arrives: without them each call rings until it is ended, and nobody counts as reached."""

    def __init__(self) -> None:
        self._count = 0
        self._is_over = False

    def see(self, change: CampaignChange) -> None:
        """Look at an attempt."""
        attempt = change.attempt or _last_attempt(change.result)
        if attempt is None or self._is_over:
            return
        if attempt.rang or attempt.outcome not in (DialOutcome.UNANSWERED, DialOutcome.UNKNOWN):
            self._is_over = attempt.rang or attempt.outcome is DialOutcome.ANSWERED
            return
        self._count += 1
        if self._count == _UNHEARD:
            self._is_over = True
            say(
                f"no event of the first {_UNHEARD} calls has arrived: their answers cannot be known, and each is ended at its ring timeout. Look whether"
                " Daily's webhook is active and reaches this service: `telstate webhook check`, `telstate doctor`"
            )


def _last_attempt(result: ContactResult | None) -> Attempt | None:
    return result.attempts[-1] if result is not None and result.attempts and not result.was_known else None


def load_confirm(program: str | None) -> Confirm | None:
    """Import what `--confirm` names."""
    if program is None:
        return None
    usage = "give MODULE:FUNCTION, as in --confirm app:is_person"
    found = load_named(program, usage, "confirm")
    if not is_async(found):
        misuse(f"{program}: expected an async function of a session and an attempt that returns a Verdict; {usage}")
    confirm: Confirm = found
    return confirm
