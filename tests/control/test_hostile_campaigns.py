"""Campaigns among late events, odd lists, clocks that are set, and functions of the program that hang."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest

from telstate import Settings
from telstate.calls._intents import Intent
from telstate.control import (
    Campaign,
    CampaignState,
    Contact,
    ContactResult,
    InvalidContact,
    NotTried,
    ResultFile,
    RetryPlan,
    read_contacts,
)
from telstate.control._contacts import contact_of
from telstate.control._intent_turn import IntentTurn
from telstate.errors import DefinitionError
from telstate.events import DialoutAnswered, Event, IntentClaimed
from telstate.options import Dialout
from telstate.routing._intent_ledger import IntentLedger
from telstate.testing import PhoneLine
from tests.control.dial_setup import DialSetup, in_memory

pytestmark = pytest.mark.anyio

ONE, TWO, THREE = (f"+1202555010{place}" for place in (1, 2, 3))
ANSWERS = PhoneLine(answers=0.1, talks=0.2)


def reported_late(seconds: float) -> PhoneLine:
    """A person picks up and hangs up; the answer is reported after the end."""
    return PhoneLine(answers=0.1, talks=0.2, delays={"dialout.answered": seconds})


async def results(phone: DialSetup, contacts: Any, **options: Any) -> list[ContactResult]:
    """Run a campaign to its end."""
    of = Campaign("spring", contacts, **{"ring_timeout": 0.5, "late_events": 1, **options})
    return [result async for result in of.run(phone.dialer)]


async def read_through(phone: DialSetup, of: Campaign) -> None:
    """Run a campaign, and close it also where it is cancelled."""
    async with aclosing(of.run(phone.dialer)) as reading:
        async for _ in reading:
            pass


async def test_an_answer_that_is_reported_while_the_program_is_asked() -> None:
    """It is asked for seconds whether they must not be called; meanwhile it is known that they were reached."""

    async def asked(number: str) -> bool:
        await phone.clock.sleep(3.0)
        return False

    async with in_memory(line=reported_late(7.0)) as phone:
        (result,) = await results(phone, [ONE], retry=RetryPlan(busy=5), do_not_call=asked)
        assert result
        assert phone.daily.starts(ONE) == 1


async def test_an_answer_that_is_reported_while_the_next_start_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known before that start is sent, so nothing is sent, and the start does not count."""
    begin, calls = IntentTurn.begin, count(1)

    async def slow(turn: IntentTurn, options: Dialout, room: str | None) -> int:
        place = await begin(turn, options, room)
        if next(calls) == 2:
            (session,) = phone.calls.sessions()
            await phone.calls.receive(DialoutAnswered(session_id=session.session_id))
        return place

    monkeypatch.setattr(IntentTurn, "begin", slow)
    async with in_memory(line=PhoneLine(busy=True)) as phone:
        (result,) = await results(phone, [ONE], retry=RetryPlan(busy=5))
        assert (result.outcome, len(result.attempts)) == ("answered", 1)
        assert phone.daily.starts(ONE) == 1


@pytest.mark.parametrize("wish", ["pause", "stop"])
async def test_an_order_that_is_given_while_a_start_is_kept(wish: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once `pause` or `stop` has returned, nothing is sent."""
    begin = IntentTurn.begin

    async def slow(turn: IntentTurn, options: Dialout, room: str | None) -> int:
        await getattr(run, wish)()
        return await begin(turn, options, room)

    monkeypatch.setattr(IntentTurn, "begin", slow)
    async with in_memory(line=PhoneLine(answers=0.1)) as phone:
        run = Campaign("spring", [ONE], ring_timeout=0.5)
        async with anyio.create_task_group() as group:
            group.start_soon(read_through, phone, run)
            await phone.until(lambda: run.progress.state in (CampaignState.PAUSED, CampaignState.FINISHED))
            await phone.until(lambda: not run.progress.dialing)
            group.cancel_scope.cancel()
        assert phone.daily.sessions == []
        assert run.progress.starts == 0


async def test_calls_that_are_cut_while_a_retry_waits_for_its_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of that dial, and they have the result of the start before."""
    write, claims = IntentLedger.write, count(1)

    async def slow(ledger: IntentLedger, event: Event) -> Intent:
        if isinstance(event, IntentClaimed) and next(claims) == 2:
            await run.stop(cut=True)
            await anyio.sleep_forever()  # its disk hangs
        return await write(ledger, event)

    monkeypatch.setattr(IntentLedger, "write", slow)
    async with in_memory(line=PhoneLine(busy=True)) as phone:
        run = Campaign("spring", [ONE], ring_timeout=0.5, retry=RetryPlan(busy=5))
        (result,) = [result async for result in run.run(phone.dialer)]
        assert (result.outcome, result.cut_short, len(result.attempts)) == ("unanswered", "campaign-stopped", 1)
        assert phone.daily.starts(ONE) == 1


@pytest.mark.long
@pytest.mark.parametrize("paused", [False, True])
async def test_an_answer_that_is_reported_in_a_pause_longer_than_sessions_are_remembered(paused: bool) -> None:
    """The ledger has it before the session is forgotten, so nobody who was reached is called again."""
    settings = Settings(retention=20, key_ttl=20)
    async with in_memory(line=reported_late(5.0), calls={"settings": settings}) as phone:
        run = Campaign("spring", [ONE, TWO], retry=RetryPlan(busy=60), ring_timeout=0.5)
        found: list[ContactResult] = []

        async def read() -> None:
            found.extend([result async for result in run.run(phone.dialer)])

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await phone.clock.sleep(2)
            assert run.progress.waiting == 2
            if paused:
                await run.pause()
            await phone.clock.sleep(80)
            assert all(found)
            assert len(found) == 2
        assert phone.daily.starts(ONE) == phone.daily.starts(TWO) == 1
        again = await results(phone, [ONE, TWO])
        assert all(again)
        assert phone.daily.starts(ONE) == 1


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ('number,note\n{0},"Ann\n{1},Bob\n', "goes on to line 3"),
        ('number,note\n{0},"Ann\n{1},"Bob"\n{2},Cy\n', "goes on to line 3"),
        ("number,note\n{0},M\u00fcller\n", "not UTF-8"),
        ("number,note\n{0},%s\n{2},Cy\n" % ("x" * 1_000_000), "field limit"),
        ("number,id\n{0},a\x00b\n", "control character"),
        ("number,id\n{0},7\n{1},7\n", "earlier contact"),
        ("number,id\n{0},{1}\n{1},\n", "earlier contact"),
    ],
    ids=["no-end", "swallows-a-row", "latin-1", "long", "nul", "same-id", "id-of-another"],
)
async def test_rows_that_cannot_be_meant_are_said_to_be_invalid(rows: str, says: str, tmp_path: Path) -> None:
    """None of them is left out without a word, or called by half of what it says."""
    path = tmp_path / "people.csv"
    path.write_bytes(rows.format(ONE, TWO, THREE).encode("latin-1"))
    async with in_memory(line=ANSWERS) as phone:
        found = await results(phone, read_contacts(path))
    (wrong,) = [result for result in found if isinstance(result.contact, InvalidContact)]
    assert wrong.error is not None
    assert says in wrong.error
    assert wrong.contact.line is not None
    assert all(result for result in found if result is not wrong)


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ("number,number", "two of its columns"),
        ("number,time_zone,Time Zone", "two of its columns"),
        ("number," + "x" * 200_000, "no CSV"),
        ("number,\xff", "UTF-8"),
        ("", "must name the columns"),
        ("phone,name", "It is 'phone, name'"),
        (f"{TWO},Ann", "It seems to be a contact$"),
    ],
    ids=["number", "zone", "long", "latin-1", "empty", "another", "none"],
)
def test_a_first_line_that_says_too_much_or_nothing(head: str, says: str, tmp_path: Path) -> None:
    """Nobody is called by what might be the wrong column."""
    (tmp_path / "people.csv").write_bytes(f"{head}\n{ONE},{TWO}\n".encode("latin-1"))
    with pytest.raises(DefinitionError, match=says):
        list(read_contacts(tmp_path / "people.csv"))


def test_columns_as_people_spell_them(tmp_path: Path) -> None:
    """A zone that became a note would have people called at night."""
    (tmp_path / "people.csv").write_text(f'Number;TimeZone;Caller-ID;"full\nname"\n{ONE};Asia/Tokyo;{TWO};Ann\n')
    (contact,) = read_contacts(tmp_path / "people.csv")
    assert isinstance(contact, Contact)
    assert (contact.time_zone, contact.caller_id, contact.notes) == ("Asia/Tokyo", TWO, {"full\nname": "Ann"})
    assert contact.line == 3


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"id": 7}, "id must be text"),
        ({"number": 12025550101}, "number must be text"),
        ({"priority": "high"}, "priority must be"),
        ({"priority": float("nan")}, "priority must be"),
        ({"notes": ["gold"]}, "notes must be"),
        ({"time_zone": 1}, "time_zone must be"),
        ({"number": f"sip:{'a' * 600}@example.com"}, "needs an id"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_a_database_gave_is_no_contact(given: dict[str, Any], says: str) -> None:
    """It says what was expected, and does not end the campaign."""
    made = contact_of(Contact(**{"number": ONE, **given}))
    assert isinstance(made, InvalidContact)
    assert says in made.error


async def test_one_sip_uri_in_two_spellings_is_called_once() -> None:
    """Scheme and host are the same in capitals; the user is not."""
    async with in_memory(line=ANSWERS) as phone:
        found = await results(phone, ["sip:Ann@Example.com", "SIP:Ann@example.COM", "sip:ann@example.com"])
    assert sorted(result.number for result in found) == ["sip:Ann@example.com", "sip:ann@example.com"]


@pytest.mark.parametrize("ends", ["stop", "until", "both"])
async def test_a_list_that_never_ends_is_not_waited_for_at_the_end(ends: str) -> None:
    """Who has come by then has a result; the run ends."""

    async def people() -> AsyncIterator[str]:
        yield ONE
        yield TWO
        await anyio.sleep_forever()

    async with in_memory(line=ANSWERS) as phone:
        until = datetime.fromtimestamp(phone.clock.now() or 0.0, UTC) + timedelta(seconds=4)
        run = Campaign("spring", people(), ring_timeout=0.5, until=None if ends == "stop" else until)
        found: list[ContactResult] = []

        async def read() -> None:
            found.extend([result async for result in run.run(phone.dialer)])

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(read)
                await phone.clock.sleep(3)
                if ends != "until":
                    await run.stop()
        assert all(found)
        assert len(found) == 2
        assert run.progress.state is CampaignState.FINISHED


@pytest.mark.parametrize("ends", ["stop", "until"])
@pytest.mark.parametrize("hangs", ["room", "do_not_call"])
async def test_a_function_of_the_program_that_hangs_ends_with_the_campaign(hangs: str, ends: str) -> None:
    """Nobody was called, and everybody has a result."""

    async def hang(asked: object) -> Any:
        await anyio.sleep_forever()

    async with in_memory(line=ANSWERS) as phone:
        until = datetime.fromtimestamp(phone.clock.now() or 0.0, UTC) + timedelta(seconds=4)
        functions: dict[str, Any] = {hangs: hang}
        run = Campaign("spring", [ONE, TWO], until=until if ends == "until" else None, **functions)
        found: list[ContactResult] = []

        async def read() -> None:
            found.extend([result async for result in run.run(phone.dialer)])

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(read)
                await phone.clock.sleep(1)
                if ends == "stop":
                    await run.stop(cut=True)
        expected = "campaign-stopped" if ends == "stop" else "out-of-time"
        assert [str(result.outcome) for result in found] == [expected] * 2
        assert phone.daily.requested == []


@pytest.mark.parametrize("given", [True, None, "person"])
async def test_a_confirm_that_returns_something_else_leaves_no_call_behind(given: Any) -> None:
    """The call is ended, and the error says what was expected."""

    async def confirm(session: object, attempt: object) -> Any:
        return given

    async with in_memory(line=PhoneLine(answers=0.1)) as phone:
        with pytest.raises(DefinitionError, match="Verdict"):
            await results(phone, [ONE], confirm=confirm)
        with pytest.raises(DefinitionError, match="Verdict"):
            await phone.dial(TWO, confirm=confirm)
        assert phone.daily.live() == []


async def test_a_room_that_is_none_ends_the_run() -> None:
    """A function that returns something else is wrong, not the contact."""
    async with in_memory(line=ANSWERS) as phone:

        def number(contact: Contact) -> Any:
            return len(contact.number)

        with pytest.raises(DefinitionError, match="name of a room"):
            await results(phone, [ONE], room=number)
        assert all(await results(phone, [ONE]))


async def test_changes_of_each_run() -> None:
    """A campaign that is run again is followed again."""
    async with in_memory(line=ANSWERS) as phone:
        run = Campaign("spring", [ONE])
        for _ in range(2):
            following = run.changes()
            assert [result async for result in run.run(phone.dialer)]
            assert "finished" in [str(change.kind) async for change in following]


@pytest.mark.parametrize("seed", range(3))
async def test_two_runs_of_one_campaign_with_one_dialer(seed: int) -> None:
    """Together they make no more starts than planned, with the pauses of the plan; both yield all results."""
    people, chance = [f"+1202555{place:04}" for place in range(12)], Random(seed)
    kinds = [
        ANSWERS,
        PhoneLine(busy=True),
        PhoneLine(answers=None),
        PhoneLine(answers=0.2, talks=0.3, answer_after=0.3),
    ]
    async with in_memory(per_room=3) as phone:
        for number in people:
            phone.daily.lines[number] = chance.choices(kinds, k=8)
        found: list[list[ContactResult]] = []

        async def run() -> None:
            retry = RetryPlan(attempts=3, busy=1, no_answer=2, never_rang=2)
            found.append(await results(phone, people, at_once=3, retry=retry))

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            group.start_soon(run)
        assert all(sorted(result.number for result in one) == people for one in found)
        for number in people:
            times = [leg.started_at for leg in phone.daily.sessions if leg.destination == number]
            assert len(times) <= 3
            assert all(later - earlier >= 1 for earlier, later in pairwise(times))
            assert phone.daily.most_at_once(number) == 1


@pytest.mark.parametrize("begin", ["=", "@", "\n", "\uff1d"], ids=["equals", "at", "line", "full-width"])
def test_no_cell_of_the_results_is_a_formula(begin: str, tmp_path: Path) -> None:
    """Whatever a spreadsheet takes for the begin of one."""
    path = tmp_path / "results.csv"
    with ResultFile(path) as file:
        file.write(ContactResult(InvalidContact(ONE, f"{begin}1+1"), NotTried.INVALID, error=f"{begin}1+1"))
    with path.open(encoding="utf-8", newline="") as read:
        (row,) = csv.DictReader(read)
    assert row["error"] == f"'{begin}1+1"
    assert row["number"] == ONE
