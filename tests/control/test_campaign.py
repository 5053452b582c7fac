"""Campaigns, in memory: whom they call, when, how many at once, and what they say at the end."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest

from telstate import Dispatcher, Engine, Router, Session, Settings, parse
from telstate.control import (
    Attempt,
    Campaign,
    CampaignChange,
    CampaignState,
    Contact,
    ContactResult,
    Dialer,
    NotTried,
    OpeningHours,
    ResultFile,
    RetryPlan,
    Verdict,
    known_contacts,
    known_results,
    known_state,
    read_contacts,
)
from telstate.control import _campaign_run as campaign_run
from telstate.errors import DefinitionError, NotAllowed, NotHosting, NotRunning
from telstate.journals import SqliteJournal
from telstate.routing._ports import CampaignRequest
from telstate.testing import FakeClock, PhoneLine, refusals
from tests.control.dial_setup import ROOM, DialSetup, in_memory, over_http
from tests.routing import until
from tests.routing.kept import replayed, state_of

pytestmark = pytest.mark.anyio

ANSWERS = PhoneLine(answers=0.1, talks=0.5)
BUSY = PhoneLine(busy=True)
SILENT = PhoneLine(answers=None)
RETRY = RetryPlan(attempts=3, busy=5, no_answer=7, never_rang=7, unconfirmed=7, failed=9, refused=2)
START = FakeClock().now()


def numbers(count: int) -> list[str]:
    """Numbers."""
    return [f"+1202555{place:04}" for place in range(count)]


def campaign(contacts: Any, **options: Any) -> Campaign:
    """A campaign with short times."""
    return Campaign("spring", contacts, **{"retry": RETRY, "ring_timeout": 0.5, "late_events": 1, **options})


async def results(phone: DialSetup, of: Campaign) -> dict[str, ContactResult]:
    """Run it to the end; every number has one result."""
    found: dict[str, ContactResult] = {}
    async for result in of.run(phone.dialer):
        assert result.number not in found
        found[result.number] = result
    assert of.progress.state is CampaignState.FINISHED
    assert of.progress.finished == len(found) == of.progress.contacts
    return found


def started(phone: DialSetup) -> list[tuple[str, float]]:
    """The calls that were made: the number's last digits, and seconds since the start of the clock."""
    return [(leg.destination[-2:], round(leg.started_at - START, 1)) for leg in phone.daily.sessions]


async def test_pauses_follow_from_what_came_of_the_start_before() -> None:
    """And at most so many starts are made."""
    one, two, three, four, five = numbers(5)
    async with in_memory(line=ANSWERS) as phone:
        phone.daily.lines |= {
            one: [BUSY, SILENT, ANSWERS],
            two: BUSY,
            three: PhoneLine(refuses=refusals.INTERNATIONAL_NOT_SUPPORTED),
            four: [PhoneLine(fails=0.1), ANSWERS],
            five: [PhoneLine(refuses=refusals.TEMPORARILY_NOT_AVAILABLE), ANSWERS],
        }
        found = await results(phone, campaign(numbers(5)))
        assert {result.number[-1]: (str(result.outcome), len(result.attempts)) for result in found.values()} == {
            "0": ("answered", 3),
            "1": ("unanswered", 3),
            "2": ("refused", 1),
            "3": ("answered", 2),
            "4": ("answered", 2),
        }
        assert all(result.cut_short is None for result in found.values())
        times = {last: [at for number, at in started(phone) if number == last] for last in ("00", "01", "03", "04")}
        assert times["00"] == pytest.approx([0, 5, 12.6], abs=0.5)
        assert times["01"] == pytest.approx([0, 5, 10], abs=0.5)
        assert times["03"] == pytest.approx([0, 9], abs=0.5)
        assert times["04"] == pytest.approx([2], abs=0.5)
        assert phone.daily.most_at_once(one) == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # uvicorn's
async def test_a_fault_of_the_set_up_ends_it_and_costs_nobody_a_start() -> None:
    """A wrong key, and a room that does not exist. What rings comes to its end, and once all is mended everybody is called."""
    one, two, *others = numbers(4)
    once = {"retry": RetryPlan(attempts=1), "at_once": 2, "ring_timeout": 5}
    async with over_http() as phone:
        wrong_key = PhoneLine(refuses=refusals.Refusal(401, "authentication-error"))
        phone.daily.lines |= {one: PhoneLine(answers=0.5, talks=0.1), two: [wrong_key, ANSWERS]}
        phone.hold("dialout.answered", until=lambda: any(one.cause == "refused" for one in phone.calls.sessions()))
        async with aclosing(campaign(numbers(4), **once).run(phone.dialer)) as first:
            assert (await anext(first)).outcome == "answered"
            with pytest.raises(NotAllowed):
                await anext(first)
        with pytest.raises(NotHosting, match="garge"):
            await results(phone, campaign(numbers(4), room="garge", **once))
        assert [leg.destination for leg in phone.daily.sessions] == [one]
        found = await results(phone, campaign(numbers(4), **once))
        assert [(bool(result), len(result.attempts)) for result in found.values()] == [(True, 1)] * 4
        # Two are called at once, and Daily may get the requests in any order.
        assert sorted(leg.destination for leg in phone.daily.sessions) == [one, two, *others]


async def test_a_room_of_their_own_may_wait_for_its_bot_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three times, without a start that counts; then it is a fault of the set-up."""
    monkeypatch.setattr(campaign_run, "_UNREADY_PAUSE", 1.0)
    ready, late = numbers(2)
    slow = PhoneLine(refuses=refusals.NOT_HOSTING)
    plan = {"retry": RetryPlan(attempts=1), "room": lambda _: ROOM}
    async with in_memory(line=ANSWERS) as phone:
        phone.daily.lines[late] = [slow, slow, slow, ANSWERS]
        found = await results(phone, campaign([ready, late], **plan))
        assert [(bool(result), len(result.attempts)) for result in found.values()] == [(True, 1)] * 2
    async with in_memory(line=ANSWERS) as phone:
        phone.daily.lines[late] = slow
        with pytest.raises(NotHosting):
            await results(phone, campaign([ready, late], **plan))


async def test_places_caller_ids_and_the_start_rate() -> None:
    """An answered call has its place until it ends, and who waits for a pause has none."""
    people = [
        Contact(number, caller_id="+12025550199" if place % 2 else None) for place, number in enumerate(numbers(12))
    ]
    async with in_memory(line=ANSWERS) as phone:
        phone.daily.lines.default = PhoneLine(answers=0.1, talks=3.0)
        phone.daily.lines[people[0].number] = BUSY
        limits = {"at_once": 3, "per_caller_id": 2, "starts_per_second": 2.0}
        assert len(await results(phone, campaign(people, **limits))) == 12
        assert phone.daily.most_at_once() == 3
        for caller_id in (None, "+12025550199"):
            legs = [leg for leg in phone.daily.sessions if leg.options.caller_id == caller_id]
            assert (
                max(sum(leg.started_at <= at.started_at < (leg.ended_at or 1e12) for leg in legs) for at in legs) <= 2
            )
        times = [leg.started_at for leg in phone.daily.sessions]
        assert min(after - before for before, after in pairwise(times)) > 0.45


async def test_never_more_than_the_room_holds() -> None:
    """So that nobody waits in the dialer; a room for each call knows no such limit."""
    async with in_memory(per_room=2, line=ANSWERS) as phone:
        await results(phone, campaign(numbers(4), at_once=4))
        assert phone.daily.most_at_once() == 2
    async with in_memory(per_room=2, line=ANSWERS) as phone:
        rooms: list[str] = []

        async def room(contact: Contact) -> str:
            rooms.append(contact.number)
            return f"room-{contact.number[-1]}"

        await results(phone, Campaign("summer", numbers(4), at_once=4, room=room))
        assert sorted(rooms) == numbers(4)
        assert phone.daily.most_at_once() == 4


async def test_priorities() -> None:
    """Of those that are due, whoever has the higher one is called first; else the order of the list counts."""
    people = [Contact(number, priority=place % 3) for place, number in enumerate(numbers(6))]
    async with in_memory(line=ANSWERS) as phone:
        await results(phone, campaign(people, at_once=1))
        assert [number for number, _ in started(phone)] == ["02", "05", "01", "04", "00", "03"]


async def test_opening_hours_of_the_callee() -> None:
    """Who is asleep is called in their morning; a pause that ends after hours goes on until the next, which may be too late."""
    one, two = numbers(2)
    people = [Contact(one, time_zone="America/New_York"), Contact(two)]
    hours = OpeningHours("11:00", "16:20", "Europe/Berlin")  # the clock begins at 16:13 there, at 10:13 in New York
    until = datetime.fromtimestamp(START + 3600, UTC)
    async with in_memory(line=ANSWERS) as phone:
        phone.daily.lines[two] = [BUSY, ANSWERS]
        run = campaign(people, hours=hours, until=until, retry=RetryPlan(busy=600))
        found: dict[str, ContactResult] = {}

        async def read() -> None:
            found.update(await results(phone, run))

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await phone.until(lambda: run.progress.waiting == 1 and run.progress.starts == 1)
            assert isinstance(phone.clock, FakeClock)
            await phone.clock.advance(3600)
        at = {leg.destination: datetime.fromtimestamp(leg.started_at, UTC) for leg in phone.daily.sessions}
        assert at[one].strftime("%H:%M") == "15:00"
        assert (found[two].outcome, found[two].cut_short) == ("unanswered", NotTried.OUT_OF_TIME)


async def test_the_deadline() -> None:
    """Calls that ring end at it, and who could only be called after it has a result at once."""
    one, two, three = numbers(3)
    async with in_memory(line=ANSWERS) as phone:
        phone.daily.lines |= {one: BUSY, two: SILENT, three: ANSWERS}
        until = datetime.fromtimestamp(phone.clock.now() + 4, UTC)  # type: ignore[operator]
        run = campaign(numbers(3), until=until, ring_timeout=10, at_once=2)
        found = await results(phone, run)
        assert (found[one].outcome, found[one].cut_short) == ("unanswered", NotTried.OUT_OF_TIME)
        assert (found[two].outcome, found[two].cut_short) == ("cancelled", NotTried.OUT_OF_TIME)
        assert found[three]
        assert phone.daily.live() == []
        again = await results(phone, campaign([*numbers(3), "+12025559999"], until=until, ring_timeout=10))
        assert (again["+12025559999"].outcome, len(again["+12025559999"].attempts)) == (NotTried.OUT_OF_TIME, 0)
        assert {number: again[number].to_dict() for number in found} == {
            number: result.to_dict() for number, result in found.items()
        }


@pytest.mark.parametrize("kind", ["set", "function", "async function"])
async def test_the_list_of_those_not_to_call_is_asked_at_each_start(kind: str) -> None:
    """It may change meanwhile. Who was found on it is not called by this campaign any more."""
    one, two, three = numbers(3)
    blocked = {one}

    async def asked(number: str) -> bool:
        await anyio.lowlevel.checkpoint()
        return number in blocked

    kinds: dict[str, Any] = {"set": blocked, "function": blocked.__contains__, "async function": asked}
    async with in_memory(line=ANSWERS) as phone:
        phone.daily.lines |= {two: BUSY, three: ANSWERS}
        found = {}
        async for result in campaign(numbers(3), do_not_call=kinds[kind]).run(phone.dialer):
            found[result.number] = result
            blocked.add(two)
        assert (found[one].outcome, found[one].attempts) == (NotTried.DO_NOT_CALL, ())
        assert (found[two].outcome, found[two].cut_short, len(found[two].attempts)) == ("unanswered", "do-not-call", 1)
        assert found[three]
        again = await results(phone, campaign(numbers(3)))
        assert [again[number].cut_short for number in numbers(3)] == ["do-not-call", "do-not-call", None]
        assert len(phone.daily.sessions) == 2


async def test_pause_resume_and_stop() -> None:
    """No start is made during a pause; a stop is for good, also in a later run."""
    one, two, *others = numbers(6)
    async with in_memory(line=ANSWERS) as phone:
        phone.daily.lines[two] = SILENT
        run = campaign(numbers(6), at_once=2, ring_timeout=600)
        assert repr(run) == "<Campaign spring: ready>"
        with pytest.raises(NotRunning):
            await run.pause()
        found: dict[str, ContactResult] = {}

        async def read() -> None:
            async for result in run.run(phone.dialer):
                found[result.number] = result

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await phone.until(lambda: one in found)
            await run.pause()
            assert run.progress.state is CampaignState.PAUSED
            before = len(phone.daily.sessions)
            await phone.clock.sleep(20)
            assert len(phone.daily.sessions) == before
            await run.resume()
            await phone.until(lambda: others[0] in found)
            await run.stop(cut=True)
        assert run.progress.state is CampaignState.FINISHED
        assert (found[two].outcome, found[two].cut_short) == ("cancelled", NotTried.CAMPAIGN_STOPPED)
        assert len(found) == 6
        assert {result.cut_short for result in found.values() if not result} == {NotTried.CAMPAIGN_STOPPED}
        calls = len(phone.daily.sessions)
        again = await results(phone, campaign(numbers(6)))
        assert {number: str(result.outcome) for number, result in again.items()} == {
            number: str(result.outcome) for number, result in found.items()
        }
        assert len(phone.daily.sessions) == calls


async def test_who_was_reached_is_not_called_again_by_a_later_run() -> None:
    """Leaving the loop ends what rings, and the next run goes on. All results come again, as they were."""
    people = numbers(8)
    async with in_memory(line=ANSWERS) as phone:
        phone.daily.lines.default = PhoneLine(answers=0.1, talks=1.0)
        phone.daily.lines[people[1]] = [SILENT, ANSWERS]
        first = []
        async with aclosing(campaign(people, at_once=3, ring_timeout=20).run(phone.dialer)) as reading:
            async for result in reading:
                first.append(result)
                if len(first) == 3:
                    break
        assert not [leg for leg in phone.daily.live() if leg.answered_at is None]
        found = await results(phone, campaign(people, at_once=3, ring_timeout=20))
        assert all(found.values())
        for result in first:
            assert found[result.number].was_known
            assert found[result.number].to_dict() == result.to_dict()
        assert all(phone.daily.most_at_once(number) == 1 for number in people)
        assert {number: phone.daily.starts(number) for number in people} == {
            number: 2 if number == people[1] else 1 for number in people
        }
        assert phone.daily.most_at_once() <= 3


async def test_an_answer_that_does_not_count() -> None:
    """It is called again within the plan, and the verdict is in the result and on the session."""
    (number,) = numbers(1)

    async def confirm(session: Session, attempt: Attempt) -> Verdict:
        assert session.notes == {"plan": "gold", "campaign": "spring"}
        is_second = phone.daily.starts(attempt.destination) > 1
        return Verdict(is_second, "person" if is_second else "voicemail")

    async with in_memory(line=ANSWERS) as phone:
        phone.daily.lines[number] = PhoneLine(answers=0.1)
        person = Contact(number, "Ann", {"plan": "gold"})
        result = (await results(phone, campaign([person], confirm=confirm)))[number]
        assert result
        assert result.verdict == "person"
        assert [attempt.verdict for attempt in result.attempts] == ["voicemail", "person"]


async def test_each_session_of_a_contact_has_their_notes(tmp_path: Path) -> None:
    """Also that of a start which Daily refused; and a replay of the journal says the same."""
    one, two = numbers(2)
    path = tmp_path / "calls.db"
    async with in_memory(line=ANSWERS, calls={"journal": SqliteJournal(path)}) as phone:
        phone.daily.lines |= {one: [BUSY, ANSWERS], two: PhoneLine(refuses=refusals.INTERNATIONAL_NOT_SUPPORTED)}
        people = [Contact(number, notes={"to": number[-1]}) for number in (one, two)]
        await results(phone, campaign(people, ring_timeout=60))  # the clock may go on while the disk writes
        await phone.until(lambda: not phone.calls.live())
        sessions = phone.calls.sessions()
        assert Counter(session.notes["to"] for session in sessions) == {"0": 2, "1": 1}
        assert {session.notes["campaign"] for session in sessions} == {"spring"}
        assert phone.calls.sizes()["notes"] == 0
        known = state_of(phone.calls._sequencer.engine)
    assert state_of(replayed(path)) == known


async def test_duplicates_invalid_ones_and_what_comes_by_and_by(tmp_path: Path) -> None:
    """Each number has one result; the changes tell of all."""
    (tmp_path / "people.csv").write_text("number;name\n+1 202 555 0000;Ann\n12;Bob\n+12025550000;Ann\n")

    async def all_of_them() -> AsyncIterator[Any]:
        for one in read_contacts(tmp_path / "people.csv"):
            yield one
        await phone.clock.sleep(3)
        yield "+12025550001"

    async with in_memory(line=ANSWERS) as phone:
        run = campaign(all_of_them())
        changes: list[CampaignChange] = []

        async def follow() -> None:
            changes.extend([change async for change in following])

        following = run.changes()
        async with anyio.create_task_group() as group:
            group.start_soon(follow)
            found = await results(phone, run)
        assert {number: str(result.outcome) for number, result in found.items()} == {
            "+12025550000": "answered",
            "12": "invalid",
            "+12025550001": "answered",
        }
        assert found["12"].error is not None
        assert found["12"].error.startswith("line 3: ")
        assert run.progress.duplicates == 1
        kinds = [str(change.kind) for change in changes]
        assert sorted(kinds) == ["duplicate", "finished", "finished", "finished", "started", "started", "state"]
        assert changes[-1].progress == run.progress
        assert run.progress.done == {"answered": 2, "invalid": 1}


async def test_files_of_results(tmp_path: Path) -> None:
    """CSV and JSON Lines, with numbers and names; a cell is no formula."""
    one, two = numbers(2)
    people = [Contact(one, '=HYPERLINK("x")', {"plan": "gold"}), Contact(two)]
    async with in_memory(line=ANSWERS) as phone:
        phone.daily.lines[two] = BUSY
        with ResultFile(tmp_path / "r.csv") as table, ResultFile(tmp_path / "r.jsonl") as lines:
            async for result in campaign(people).run(phone.dialer):
                table.write(result)
                lines.write(result)
    rows = list(csv.DictReader((tmp_path / "r.csv").read_text().splitlines()))
    assert [(row["number"], row["outcome"], row["starts"]) for row in rows] == [
        (one, "answered", "1"),
        (two, "unanswered", "3"),
    ]
    assert rows[0]["name"] == '\'=HYPERLINK("x")'
    assert json.loads(rows[0]["notes"]) == {"plan": "gold"}
    records = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert records[0]["name"] == people[0].name
    assert [len(record["attempts"]) for record in records] == [1, 3]
    with pytest.raises(DefinitionError, match="jsonl"):
        ResultFile(tmp_path / "r.xlsx")


async def test_a_journal_that_would_forget_is_refused() -> None:
    """Before anybody is called."""
    async with in_memory(line=ANSWERS, calls={"settings": Settings(max_intents=3, intent_ttl=3600)}) as phone:
        with pytest.raises(DefinitionError, match="max_intents"):
            await results(phone, campaign(numbers(3)))
        with pytest.raises(DefinitionError, match="intent_ttl"):
            await results(phone, campaign(numbers(2), retry=RetryPlan(no_answer=7200)))
        assert phone.daily.sessions == []


async def test_nobody_is_forgotten_while_it_runs() -> None:
    """What the journal knows of a contact is held for as long as the campaign lasts."""
    one, two = numbers(2)
    settings = Settings(intent_ttl=6)
    async with in_memory(line=ANSWERS, calls={"settings": settings}) as phone:
        phone.daily.lines[two] = [BUSY, BUSY, BUSY, BUSY, ANSWERS]
        found = await results(phone, campaign(numbers(2), retry=RetryPlan(5, 5, 1, 1, 1, 1, 1)))
        assert all(found.values())
        again = await results(phone, campaign(numbers(2), retry=RetryPlan(5, 5, 1, 1, 1, 1, 1)))
        assert all(result.was_known for result in again.values())
        assert phone.daily.starts(one) == 1


async def test_what_other_processes_ask_for(tmp_path: Path) -> None:
    """Through the journal's file, while it runs and while it does not. The journal tells its state and its results."""
    path = tmp_path / "calls.db"
    people = numbers(4)
    async with in_memory(line=ANSWERS, calls={"journal": SqliteJournal(path)}) as phone:
        phone.daily.lines[people[0]] = BUSY
        run = campaign(people, at_once=1)
        other = SqliteJournal(path)
        async with aclosing(run.run(phone.dialer)) as reading:
            assert await anext(reading)
            await other.request_campaign("spring", "pause")
            await phone.until(lambda: run.progress.state is CampaignState.PAUSED)
    engine = Engine()
    async for record in SqliteJournal(path).read():
        engine.receive(parse(record.payload, record.dialect), record.at)
    assert known_state(engine, "spring") is CampaignState.PAUSED
    assert {one.key for one in known_contacts(engine, "spring")} <= set(people)
    assert {result.number for result in known_results(engine, "spring", people, RETRY, 0.5)} >= {people[1]}
    await SqliteJournal(path).request_campaign("spring", "stop")
    async with in_memory(line=ANSWERS, calls={"journal": SqliteJournal(path)}) as phone:
        found = await results(phone, campaign(people))
        assert phone.daily.sessions == []
    assert {str(result.cut_short) for result in found.values() if not result} == {"campaign-stopped"}
    with pytest.raises(ValueError, match="pause"):
        await SqliteJournal(path).request_campaign("spring", "hurry")


@pytest.mark.parametrize("wish", ["pause", "stop"])
async def test_what_was_asked_for_while_nobody_ran_it_comes_before_any_start(wish: str, tmp_path: Path) -> None:
    """The next process calls nobody, however long its journal takes to say what was asked for."""

    class Slow(SqliteJournal):
        async def campaign_requests(self, campaign: str) -> list[CampaignRequest]:
            with anyio.move_on_after(0.1):  # enough for starts, if there are any
                await until(lambda: phone.daily.sessions)
            return await super().campaign_requests(campaign)

    path, people = tmp_path / "calls.db", numbers(3)
    async with in_memory(line=ANSWERS, calls={"journal": SqliteJournal(path)}) as phone:
        assert await results(phone, campaign([])) == {}
    await SqliteJournal(path).request_campaign("spring", wish)
    async with in_memory(line=ANSWERS, calls={"journal": Slow(path)}) as phone:
        run = campaign(people)

        async def read() -> None:
            async with aclosing(run.run(phone.dialer)) as reading:
                async for _ in reading:
                    pass

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await phone.until(lambda: run.progress.due + run.progress.finished == len(people))
            group.cancel_scope.cancel()
        assert phone.daily.sessions == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": "a/b"}, "name"),
        ({"contacts": "people.csv"}, "read_contacts"),
        ({"at_once": 0}, "at_once"),
        ({"per_caller_id": 0}, "per_caller_id"),
        ({"starts_per_second": 0}, "starts_per_second"),
        ({"ring_timeout": -1}, "ring_timeout"),
        ({"until": datetime(2026, 1, 1)}, "time zone"),  # noqa: DTZ001
        ({"do_not_call": "+12025550101"}, "set of numbers"),
        ({"confirm": print}, "async"),
        ({"do_not_call": {"+1 202 555 0101"}}, "stop nobody"),
        ({"do_not_call": [12025550101]}, "stop nobody"),
        ({"retry": 3}, "RetryPlan"),
        ({"hours": "9-17"}, "OpeningHours"),
        ({"room": 5}, "room"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], says: str) -> None:
    """With what came, and what was expected."""
    with pytest.raises(DefinitionError, match=says):
        Campaign(**{"name": "spring", "contacts": [], **arguments})


async def test_an_error_of_the_program_ends_the_run() -> None:
    """It is raised as it is, and what rings is ended; the next run goes on."""
    one, two = numbers(2)

    def asked(number: str) -> bool:
        raise LookupError(number[-1])

    async with in_memory(line=ANSWERS) as phone:
        with pytest.raises(LookupError):
            await results(phone, campaign([one], do_not_call=asked))
        assert phone.daily.sessions == []

        async def confirm(session: Session, attempt: Attempt) -> Verdict:
            raise KeyError(attempt.destination)

        async def person(session: Session, attempt: Attempt) -> Verdict:
            return Verdict(session.session_id == attempt.session_id, "person")

        failing = campaign([one], confirm=confirm)
        with pytest.raises(KeyError):
            await results(phone, failing)
        assert failing.progress.state is CampaignState.READY
        assert phone.daily.live() == []
        found = await results(phone, campaign([one, two], confirm=person))
        assert all(found.values())
        assert [phone.daily.starts(number) for number in (one, two)] == [2, 1]


async def test_a_dialer_that_is_left() -> None:
    """The run says so; it does not end as if all were done."""
    async with in_memory(line=ANSWERS) as phone, Dispatcher(Router(), control=phone.daily, clock=phone.clock) as calls:
        dialer = Dialer(calls, room="r")
        async with dialer:
            run = Campaign("spring", _endless(), ring_timeout=0.5)
            reading = run.run(dialer)
            await anext(reading)
        with pytest.raises(NotRunning, match="run it again"):
            async for _ in reading:
                pass


def _endless() -> Iterator[str]:
    yield from ("12", *numbers(3))
