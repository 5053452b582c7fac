"""Campaigns: call everybody on a list, each at most so often, nobody again who was reached, over restarts.

async with Dialer(calls, room="garage") as dialer:
    campaign = Campaign("spring", read_contacts("people.csv"), at_once=20)
    async for result in campaign.run(dialer):
        print(result.number, result.outcome)
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Container, Iterable
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from typing import Any

from telstate.control._campaign_plan import CampaignPlan, Contacts, DoNotCall, RoomOf
from telstate.control._campaign_progress import CampaignChange, CampaignNews, CampaignProgress, CampaignState
from telstate.control._campaign_results import ContactResult
from telstate.control._campaign_run import CampaignRun
from telstate.control._contacts import spelled_number
from telstate.control._dialer import Dialer, _is_id
from telstate.control._opening_hours import OpeningHours
from telstate.control._results import Confirm
from telstate.control._retry_plan import RetryPlan
from telstate.errors import DefinitionError, NotRunning
from telstate.events._masking import mask
from telstate.routing._handlers import is_async

__all__ = ["Campaign"]

_LONGEST_NAME = 200


class Campaign:
    """Calls a list of people through a `Dialer`: so many at a time, with pauses between the starts to one number, in opening hours.

    Each number is an intent of the dialer (`NAME/NUMBER`, or `NAME/ID`), whose starts the journal keeps before they are sent. So after a
    kill the same call of `run` goes on: who was reached is not called again, no number has two calls at once or more starts than planned,
    and results that were final come again as they were. A start of which nobody can tell what came is `unknown`, and not repeated.

    A contact that waits, for a pause or for opening hours, holds no place, no slot and no task.

    Args:
        name: names the campaign in the journal; other names are other campaigns, and know nothing of it. 1 to 200 characters without `/`.
        contacts: whom to call: any iterable or async iterable of numbers, SIP URIs and `Contact`s; `read_contacts` reads CSV. A list is read
            to its end before the first call, for its priorities and for what the journal knows of it; who comes from an async iterable is
            called as they come; once nobody is called any more, who takes longer than five seconds to come is not waited for. What cannot be called gets the result `invalid`; a number that comes again is not called for that
            (`progress.duplicates`). `run` goes through it, so an iterator is good for one run.
        at_once: how many calls at most, ringing or answered, until they end. Never more than the dialer's `per_room`, unless `room` is a
            function.
        per_caller_id: how many of them at most with one caller id; None for no limit but the dialer's `per_key`. Contacts without a caller
            id share one.
        starts_per_second: how many starts at most, evenly spaced; None for no limit.
        retry: how often a number is called, and with which pauses.
        ring_timeout: seconds from an accepted start to the answer; then the call is ended.
        hours: when calls may be started, by the callee's clock; None for always.
        until: when the campaign ends, as a datetime with a time zone: calls that ring are ended then, and nobody is called after it.
        do_not_call: numbers that must not be called, as `Contact.number` is spelled: a set, which may change meanwhile, or a function, sync
            or async, of a number. It is asked right before each start. Who is found there is not called by this campaign any more.
        confirm: decides whether an answer counts: see `Dialer.dial`.
        late_events: seconds for which events of before a restart may still come, as Daily sends again what nobody received. Whom an earlier
            process has called is called again no sooner than so long after the begin of `run`: their answer may not be known yet.
        room: the room that dials, by default the dialer's; or a function of the contact, sync or async, that is called before each start and
            returns a room, for example a new one with its own bot: people in one room hear each other. Where such a room has no bot yet, the
            start does not count, and is made again after a minute, three times.

    Each process has its own limits: if two run the same campaign on a shared journal, no number is called twice or by both at once, and
    both yield all results, but there may be twice as many calls at once and starts per second.

    Raises:
        DefinitionError: if an argument makes no sense.
    """

    def __init__(
        self,
        name: str,
        contacts: Contacts,
        *,
        at_once: int = 5,
        per_caller_id: int | None = None,
        starts_per_second: float | None = None,
        retry: RetryPlan = RetryPlan(),  # noqa: B008 - it is frozen
        ring_timeout: float = 30.0,
        hours: OpeningHours | None = None,
        until: datetime | None = None,
        do_not_call: DoNotCall = frozenset(),
        confirm: Confirm | None = None,
        room: RoomOf = None,
        late_events: float = 900.0,
    ) -> None:
        _check_name(name)
        _check_counts(at_once, per_caller_id, starts_per_second, ring_timeout, late_events)
        _check_contacts(contacts)
        _check_more(until, do_not_call, confirm)
        _check_types(retry, hours, room)
        self.name: str = name
        self._contacts = contacts
        self._plan = CampaignPlan(
            name,
            at_once,
            per_caller_id,
            starts_per_second,
            retry,
            float(ring_timeout),
            hours,
            None if until is None else until.timestamp(),
            do_not_call,
            confirm,
            room,
            late_events,
        )
        self._news = CampaignNews()
        self._run: CampaignRun | None = None
        self._is_running = False

    def __repr__(self) -> str:
        return f"<Campaign {self.name}: {self.progress.state}>"

    async def run(self, dialer: Dialer) -> AsyncGenerator[ContactResult, None]:
        """Call everybody; yield one result for each number, as soon as it is final. Ends when all have one.

        An answered call is a result at its answer; it keeps its place until it ends. After a restart, call it again with the same arguments:
        first come the results that are known (`was_known`), and then it goes on. Results wait for the reader, and no call waits for one.

        To leave earlier, leave the loop within `contextlib.aclosing(campaign.run(dialer))`, or cancel it: calls that ring are ended then, those
        that were answered go on.

        Args:
            dialer: inside its block. All times are those of its dispatcher's clock.

        Raises:
            DefinitionError: if it runs already, or the journal's settings are too small for it (`max_intents`, `intent_ttl`); nobody was called.
            NotRunning: if the dialer or the dispatcher is left meanwhile; run it again after that.
            JournalError: if the journal fails. Run it again when that is mended.
            DailyError: if Daily refuses a start because of the set-up, and not because of the number: the key is wrong (`NotAllowed`), dial-out is
                not enabled, nobody is in the room or it does not exist (`NotHosting`), … No further start is made, and it is raised when
                the calls that ring are over. Such a start does not count. Run it again when that is mended.
            NotSupported, and what `confirm`, `room`, `do_not_call` or the iterable raise: the campaign ends with the first; calls that ring are
                ended. Run it again when that is mended.
        """
        if self._is_running:
            raise DefinitionError(f"the campaign {self.name!r} runs already")
        self._check_settings(dialer)
        run = self._run = CampaignRun(self._plan, self._contacts, dialer, self._news)
        self._is_running = True
        try:
            async with aclosing(run.results()) as results:
                async for result in results:
                    yield result
        finally:
            self._is_running = False

    async def pause(self) -> None:
        """Start no more calls until `resume`; those that run go on. It is in the journal: also after a restart it is paused.

        Another process asks for it with `SqliteJournal(path).request_campaign(name, "pause")`, also while no
        process runs the campaign.

        Raises:
            NotRunning: if it does not run here.
            DefinitionError: if it was stopped.
            JournalError: if it could not be kept.
        """
        await self._running().ask("pause")

    async def resume(self) -> None:
        """Go on after `pause`. Raises as `pause`."""
        await self._running().ask("resume")

    async def stop(self, *, cut: bool = False) -> None:
        """Start no more calls, for good: who has no result gets one (`campaign-stopped` if no start was made), and `run` ends.

        It is in the journal: also after a restart the campaign is stopped.

        Args:
            cut: end calls that ring, too. Else they come to their end by themselves.

        Raises:
            NotRunning: if it does not run here.
            JournalError: if it could not be kept.
        """
        await self._running().ask("stop", cut=cut)

    @property
    def progress(self) -> CampaignProgress:
        """How far it is. Before `run` everything is 0; after it, it is as at the end."""
        if self._run is None:
            return CampaignProgress(CampaignState.READY, 0, 0, 0, 0, 0, {}, 0, 0, None)
        progress = self._run.progress()
        if not self._is_running and progress.state is not CampaignState.FINISHED:
            return replace(progress, state=CampaignState.READY)
        return progress

    def changes(self) -> AsyncIterator[CampaignChange]:
        """Follow what happens, from this call on, to the end of the run; each change with the progress after it. For a page, or a log of yours.

        Begin before `run` to miss nothing; after a run it waits for the next one. A reader that falls behind by more than 10 000 changes misses the next ones.
        """
        return self._news.follow()

    def _running(self) -> CampaignRun:
        if self._run is None or not self._is_running:
            raise NotRunning(f"the campaign {self.name!r} does not run here: see `run`")
        return self._run

    def _check_settings(self, dialer: Dialer) -> None:
        settings = dialer._calls.settings
        if self._plan.retry.longest_pause >= settings.intent_ttl:
            raise DefinitionError(
                f"a pause of {self._plan.retry.longest_pause:g} s is longer than the journal remembers a number (intent_ttl={settings.intent_ttl:g} s),"
                " which might be called again after a restart: Dispatcher(…, settings=Settings(intent_ttl=…)) with more"
            )
        if not dialer._calls.clock.timers:
            raise DefinitionError("a campaign needs a clock that runs, not that of a recorded log")


def _check_contacts(contacts: Any) -> None:
    if isinstance(contacts, str) or not isinstance(contacts, (Iterable, AsyncIterable)):
        raise DefinitionError(
            f"contacts= takes numbers, SIP URIs and Contacts, not {type(contacts).__name__}: for a file, read_contacts(path)"
        )


def _check_more(until: Any, do_not_call: Any, confirm: Any) -> None:
    if until is not None and (not isinstance(until, datetime) or until.tzinfo is None):
        raise DefinitionError(
            f"until={until!r} must be a datetime with a time zone, such as datetime(2026, 5, 1, 20, tzinfo=ZoneInfo('Europe/Berlin'))"
        )
    if isinstance(do_not_call, str) or not (isinstance(do_not_call, Container) or callable(do_not_call)):
        raise DefinitionError("do_not_call= takes a set of numbers, or a function of a number")
    if isinstance(do_not_call, (set, frozenset, list, tuple, dict)):
        for number in do_not_call:
            if not isinstance(number, str) or spelled_number(number) != number:
                given = mask(number) if isinstance(number, str) else type(number).__name__
                raise DefinitionError(
                    f"do_not_call= has {given!r}, which is never the number of a contact, so it would stop nobody: write numbers as"
                    " '+12025550101', without blanks, dashes and brackets"
                )
    if confirm is not None and not is_async(confirm):
        raise DefinitionError(f"confirm= takes an async function that returns a Verdict, not {confirm!r}")


def _check_types(retry: Any, hours: Any, room: Any) -> None:
    if not isinstance(retry, RetryPlan):
        raise DefinitionError(f"retry={retry!r:.60} must be a RetryPlan, as RetryPlan(attempts=3)")
    if hours is not None and not isinstance(hours, OpeningHours):
        raise DefinitionError(
            f"hours={hours!r:.60} must be OpeningHours, as OpeningHours('09:00', '20:00', 'Europe/Berlin')"
        )
    if room is not None and not isinstance(room, str) and not callable(room):
        raise DefinitionError(f"room={room!r:.60} must be the name of a room, or a function of a contact")


def _check_name(name: Any) -> None:
    if not _is_id(name) or "/" in name or len(name) > _LONGEST_NAME:
        raise DefinitionError(
            f"name={name!r:.100} must be 1 to {_LONGEST_NAME} characters without '/' and without spaces at its ends, for example 'spring'"
        )


def _check_counts(
    at_once: Any, per_caller_id: Any, starts_per_second: Any, ring_timeout: Any, late_events: Any
) -> None:
    for what, count in (("at_once", at_once), ("per_caller_id", per_caller_id)):
        is_count = isinstance(count, int) and not isinstance(count, bool) and count >= 1
        if not is_count and (count is not None or what == "at_once"):
            raise DefinitionError(f"{what}={count!r} must be a whole number of at least 1")
    for what, value in (("starts_per_second", starts_per_second), ("ring_timeout", ring_timeout)):
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
        if not is_number and (value is not None or what == "ring_timeout"):
            raise DefinitionError(f"{what}={value!r} must be a number above 0")
    if not isinstance(late_events, (int, float)) or not 0 <= late_events < math.inf:
        raise DefinitionError(f"late_events={late_events!r} must be a number of seconds from 0 on")
