"""A dialer dials into rooms of other partitions: with a real server, two workers in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from telstate import Dispatcher, Session, State
from telstate.calls._intents import Intent
from telstate.calls._outcome import Outcome
from telstate.control import Campaign, Contact, Dialer, DialResult, RoomParticipant, _intent_turn
from telstate.errors import (
    DefinitionError,
    JournalError,
    NoSuchSession,
    NotAllowed,
    NotSupported,
    TemporarilyNotAvailable,
    UnknownResult,
)
from telstate.events import ActionBegun, ActionRequested, ActionWithdrawn, AttemptBegun, Event, IntentClaimed
from telstate.journals.nats import Names
from telstate.journals.nats._showing import Showing
from telstate.options import Dialout, Permissions, PhoneDialout, SipDialout
from telstate.routing import _action_client
from telstate.routing._starting import options_from, start_argument
from telstate.testing import FakeControl
from tests.calls import webhook
from tests.journals.nats.workers import HERE, THERE, Fleet, pair, replayed
from tests.nats_server import NatsServer
from tests.routing import until

pytestmark = pytest.mark.anyio
NUMBER = "+12025550142"
OPTIONS = PhoneDialout(phone_number=NUMBER, display_name="Bob", extension="12#")
QUICK: dict[str, Any] = {
    "pauses": [0.01],
    "find_within": 1.0,
    "find_intervals": [0.1],
    "stop_timeouts": [0.3, 0.3, 0.3],
}


class Dialing:
    """A dialer in partition 0 that dials into a room of partition 1."""

    def __init__(self, both: Fleet, here: Dispatcher, there: Dispatcher, control: FakeControl, dialer: Dialer) -> None:
        self.both = both
        self.here = here
        self.there = there
        self.control = control
        self.dialer = dialer
        self.results: list[DialResult] = []

    async def dial(self, **options: Any) -> None:
        """Dial, and note the result."""
        self.results.append(await self.dialer.dial(OPTIONS, room=THERE, **{"ring_timeout": 10, **options}))

    async def tell(self, name: str, session_id: str = "dialout-1", **fields: Any) -> None:
        """Report as Daily does."""
        await self.both.publish(webhook(name, session_id, room=THERE, destination=NUMBER, **fields), THERE)

    async def started(self, number: int = 1) -> None:
        """Wait for a start."""
        await until(lambda: self.verbs().count("start") == number)

    def verbs(self) -> list[str]:
        """What was sent to Daily."""
        return [request.verb for request in self.control.requests]

    def near(self, session_id: str = "dialout-1") -> Session:
        """A session, as its own partition has it."""
        session = self.there.session(session_id)
        assert session is not None
        return session


@asynccontextmanager
async def dialing(server: NatsServer, names: Names, **options: Any) -> AsyncIterator[Dialing]:
    """All of it, for a test."""
    control = FakeControl()
    async with (
        pair(server, names, control=control) as (both, here, there),
        Dialer(here, **{**QUICK, **options}) as dialer,
    ):
        yield Dialing(both, here, there, control, dialer)


async def test_a_call_into_a_room_of_another_partition(shared_nats: NatsServer, names: Names) -> None:
    """Its owner starts it, with all options; the dialer sees the answer; and a replay of that partition says the same."""
    async with dialing(shared_nats, names) as one, anyio.create_task_group() as group:
        group.start_soon(one.dial)
        await one.started()
        await one.tell("dialout.connected")
        await one.tell("dialout.answered")
        await until(lambda: one.results)
        (result,) = one.results
        assert result
        sent = one.control.requests[0].argument
        assert isinstance(sent, PhoneDialout)
        assert sent == OPTIONS.model_copy(update={"user_id": result.attempts[0].user_id})
        near = one.near()
        assert (near.state, near.destination, near.room) == (State.ANSWERED, NUMBER, THERE)
        assert near.user_id == result.attempts[0].user_id
        assert near.requested_at is not None
        assert result.session.to_dict() == near.to_dict()
        assert (await replayed(shared_nats, names, 1)).session("dialout-1").to_dict() == near.to_dict()  # type: ignore[union-attr]
        assert one.dialer.sizes() == {"dials": 0, "starts": 0, "slots": 1}
        await one.tell("dialout.stopped")
        await until(lambda: one.dialer.sizes()["slots"] == 0)
        assert len(one.dialer._slots.far_rooms) == 0


class _Opened:
    """Sees what is known of each session when it opens."""

    def __init__(self) -> None:
        self.notes: list[dict[str, Any]] = []

    def stepped(self, outcome: Outcome) -> None:
        """A session may have opened."""
        if outcome.opened and outcome.session is not None:
            self.notes.append(dict(outcome.session.notes))

    def closed(self) -> None:
        """Nothing more comes."""


async def test_the_notes_of_a_contact_are_there_from_the_first_event_on(shared_nats: NatsServer, names: Names) -> None:
    """In the partition of the room."""
    async with dialing(shared_nats, names) as one, anyio.create_task_group() as group:
        opened = _Opened()
        one.there.observe(opened)

        async def run() -> None:
            contact = Contact(NUMBER, notes={"plan": "gold"})
            async for result in Campaign("spring", [contact], room=THERE).run(one.dialer):
                assert result

        group.start_soon(run)
        await one.started()
        await one.tell("dialout.answered")
        await until(lambda: one.there.session("dialout-1") is not None and one.near().was_answered)
        await one.tell("dialout.stopped")
    assert opened.notes == [{"plan": "gold", "campaign": "spring"}]


async def test_nobody_answers(shared_nats: NatsServer, names: Names) -> None:
    """The dialer ends the call at the ring timeout, the session's partition knows that this program did, and it is dialled again."""
    async with dialing(shared_nats, names) as one, anyio.create_task_group() as group:
        group.start_soon(lambda: one.dial(ring_timeout=0.3, attempts=2))
        await one.started()
        await one.tell("dialout.connected")
        await until(lambda: "stop" in one.verbs())
        await one.tell("dialout.stopped")
        await one.started(2)
        await one.tell("dialout.answered", "dialout-2")
        await until(lambda: one.results)
        assert [attempt.outcome for attempt in one.results[0].attempts] == ["unanswered", "answered"]
        assert one.near().ended_by == "local"


@pytest.mark.long
async def test_a_call_that_daily_denies_ends_in_its_partition(shared_nats: NatsServer, names: Names) -> None:
    """Though no event says so."""
    async with dialing(shared_nats, names) as one, anyio.create_task_group() as group:
        group.start_soon(lambda: one.dial(ring_timeout=0.3, attempts=1))
        await one.started()
        await one.tell("dialout.connected")
        await until(lambda: one.results)
        assert one.results[0].outcome == "unanswered"
        await until(lambda: one.near().ended)


async def test_a_stop_by_the_program_is_no_reason_to_dial_again(shared_nats: NatsServer, names: Names) -> None:
    """Also where another worker asked for it."""
    async with dialing(shared_nats, names) as one, anyio.create_task_group() as group:
        group.start_soon(one.dial)
        await one.started()
        await one.tell("dialout.connected")
        await until(lambda: one.here.session("dialout-1"))
        await one.there.stop("dialout-1")
        await one.tell("dialout.stopped")
        await until(lambda: one.results)
        assert one.results[0].outcome == "stopped"
        assert one.verbs() == ["start", "stop"]


async def test_a_refusal_is_kept_by_its_partition(shared_nats: NatsServer, names: Names) -> None:
    """As a session that ended; the dialer has Daily's answer."""
    async with dialing(shared_nats, names) as one:
        one.control.refuse(NotAllowed("no dial-out", status=403, error="forbidden"), verb="start")
        await one.dial()
        (result,) = one.results
        assert result.outcome == "refused"
        assert isinstance(result.error, NotAllowed)
        assert result.error.status == 403
        assert one.near(result.attempts[0].session_id or "").cause == "refused"


async def test_errors_of_the_program_come_back(shared_nats: NatsServer, names: Names) -> None:
    """They are no attempts."""
    async with dialing(shared_nats, names) as one:
        one.control.refuse(NotSupported("not by this way"), verb="start")
        with pytest.raises(NotSupported, match="not by this way"):
            await one.dial()
        with pytest.raises(NotSupported, match="has to be named"):
            await one.dialer.dial(OPTIONS)
        one.there._run.call_control._control = None
        with pytest.raises(DefinitionError, match="needs a way to Daily"):
            await one.dial()
        assert one.verbs() == ["start"]
        assert one.there.sessions() == []


@pytest.mark.long
async def test_an_answer_that_is_lost_is_searched_for(shared_nats: NatsServer, names: Names) -> None:
    """By the events of the other partition, and by presence; else it is unknown, and not dialled again."""
    async with dialing(shared_nats, names) as one, anyio.create_task_group() as group:
        one.control.refuse(UnknownResult("lost"), verb="start", times=3)
        group.start_soon(one.dial)
        await one.started()
        sent = one.control.requests[0].argument
        assert isinstance(sent, PhoneDialout)
        await one.tell("dialout.connected", "found", user_id=sent.user_id)
        await one.tell("dialout.answered", "found")
        await until(lambda: one.results)
        assert one.results[0].session is not None
        assert one.results[0].session.session_id == "found"
        await until(lambda: one.near("found").requested_at is not None)
        group.start_soon(one.dial)
        await one.started(2)
        sent = one.control.requests[1].argument
        assert isinstance(sent, PhoneDialout)
        one.control.participants.append(RoomParticipant("present", sent.user_id))
        await one.tell("dialout.answered", "present")
        await until(lambda: len(one.results) == 2)
        assert one.results[1].session is not None
        assert one.results[1].session.session_id == "present"
        await one.dial()
        assert one.results[2].outcome == "unknown"
        assert one.verbs() == ["start"] * 3


async def test_a_start_that_was_begun_by_an_owner_that_ended_is_searched_for(
    shared_nats: NatsServer, names: Names
) -> None:
    """It is never sent again."""
    async with dialing(shared_nats, names) as one:
        elsewhere = one.here._setup.elsewhere
        assert elsewhere is not None
        request = ActionRequested(
            request_id="r", verb="start", target_id=THERE, argument=start_argument(OPTIONS), expires_at=4e9
        )
        await one.there._sequencer.submit_events(request, ActionBegun(request_id="r"))
        answer = await elsewhere.ask(THERE, request, 5)
        assert answer is not None
        assert answer.failure is not None
        assert answer.failure["type"] == "UnknownResult"
        assert one.verbs() == []


@pytest.mark.long
async def test_without_an_owner_nothing_is_sent(
    shared_nats: NatsServer, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is withdrawn: an owner that comes later does not begin it. Where one had begun it, nobody knows."""
    monkeypatch.setattr(_action_client, "_ANSWER_WITHIN", 0.5)
    async with dialing(shared_nats, names) as one:
        one.there._run.lanes.rest()  # its handlers begin nothing
        await one.dial(attempts=1)
        assert one.results[0].outcome == "refused"
        assert isinstance(one.results[0].error, TemporarilyNotAvailable)
        assert "nothing was sent" in str(one.results[0].error)
        elsewhere = one.here._setup.elsewhere
        assert elsewhere is not None
        request = ActionRequested(request_id="r", verb="stop", target_id="s", expires_at=4e9)
        append = elsewhere._append  # type: ignore[attr-defined]

        async def begun_before(partition: int, event: Event) -> int:
            """Its owner begins it just before it is withdrawn."""
            if isinstance(event, ActionWithdrawn):
                await until(lambda: one.there._sequencer.engine.request("r"))
                await one.there._sequencer.submit_events(ActionBegun(request_id="r"))
            seq: int = await append(partition, event)
            return seq

        monkeypatch.setattr(elsewhere, "_append", begun_before)
        assert await elsewhere.ask(THERE, request, 0.5) is None
        assert one.there._sequencer.engine.request("r").is_begun  # type: ignore[union-attr]
        one.there.shut_down()
        await until(lambda: one.both.owner(1).partitions()[0].is_open is False, 10)
        await one.both.shared()
        await until(lambda: one.both.calls(1)._backlog.pending == 0)
        assert one.verbs() == []


async def test_without_a_connection_nothing_is_sent(shared_nats: NatsServer, names: Names) -> None:
    """And that is said at once."""
    async with dialing(shared_nats, names) as one:
        elsewhere: Any = one.here._setup.elsewhere
        away = type("Away", (), {"is_connected": False, "where": "there"})()
        elsewhere._connection, connection = away, elsewhere._connection
        with pytest.raises(JournalError, match="nothing was sent"):
            await one.dial()
        elsewhere._connection = connection
        assert one.verbs() == []


@pytest.mark.long
async def test_sessions_of_the_other_room_count(shared_nats: NatsServer, names: Names) -> None:
    """Those that the dialer did not start too; a place that becomes free is used."""
    async with dialing(shared_nats, names, per_room=1) as one, anyio.create_task_group() as group:
        await one.tell("dialin.connected", "caller")
        await until(lambda: one.here.session("caller"))
        group.start_soon(one.dial)
        await anyio.sleep(0.3)
        assert one.verbs() == []
        await one.tell("dialin.stopped", "caller")
        await one.started()
        group.start_soon(one.dial)
        await one.tell("dialout.answered")
        await until(lambda: one.results)
        await anyio.sleep(0.3)
        assert one.verbs() == ["start"]
        await one.tell("dialout.stopped")
        await one.started(2)
        await one.tell("dialout.answered", "dialout-2")
        await until(lambda: len(one.results) == 2)
        assert (HERE in one.dialer._slots.far_rooms, THERE in one.dialer._slots.far_rooms) == (False, True)
        await one.tell("dialout.stopped", "dialout-2")
        await until(lambda: len(one.dialer._slots.far_rooms) == 0)
        assert one.dialer._slots._limiter.others == ()


@pytest.mark.parametrize("intent", [HERE, THERE])
async def test_workers_that_dial_for_one_intent_are_one(shared_nats: NatsServer, names: Names, intent: str) -> None:
    """Wherever its ledger is kept: the second waits, and gets the result of the first. A replay has the same ledger."""
    async with (
        dialing(shared_nats, names) as one,
        Dialer(one.there, room=THERE, **QUICK) as other,
        anyio.create_task_group() as group,
    ):
        others: list[DialResult] = []

        async def dial_there() -> None:
            others.append(await other.dial(OPTIONS, intent=intent, ring_timeout=10))

        group.start_soon(lambda: one.dial(intent=intent))
        await one.started()
        group.start_soon(dial_there)
        await anyio.sleep(0.2)
        await one.tell("dialout.connected")
        await one.tell("dialout.answered")
        await until(lambda: one.results and others)
        assert [result.outcome for result in (*one.results, *others)] == ["answered", "answered"]
        assert one.verbs() == ["start"]
        await one.dial(intent=intent)
        assert one.results[1].session is not None
        assert one.results[1].session.session_id == "dialout-1"
        assert one.verbs() == ["start"]
        home = 0 if intent == HERE else 1
        engine = one.both.calls(home)._sequencer.engine
        assert engine.intents() == [intent]
        assert (await replayed(shared_nats, names, home)).intent(intent) == engine.intent(intent)


async def test_a_worker_that_died_is_followed_by_another(
    shared_nats: NatsServer, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once its claim has expired: the call that it left is found, and not started again."""
    monkeypatch.setattr(_intent_turn, "_CLAIM_FOR", 1.0)
    async with dialing(shared_nats, names) as one, anyio.create_task_group() as group:
        now = one.here.clock.now() or 0.0
        await one.here.receive(IntentClaimed(intent=HERE, claim="dead", expires_at=now + 1.0))
        begun = AttemptBegun(intent=HERE, claim="dead", user_id="u", destination=NUMBER, room=THERE)
        await one.here.receive(begun)
        await one.tell("dialout.connected", "left", user_id="u")
        group.start_soon(lambda: one.dial(intent=HERE))
        await until(lambda: (known := one.here._sequencer.engine.intent(HERE)) and known.claim != "dead", 10)
        await one.tell("dialout.answered", "left")
        await until(lambda: one.results, 10)
        assert one.results[0].session is not None
        assert one.results[0].session.session_id == "left"
        assert one.verbs() == []


@pytest.mark.long
async def test_a_dialer_learns_that_its_start_does_not_count_from_the_next_owner(
    shared_nats: NatsServer, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner of the ledger took the event in and ended before it could show that nothing had changed."""
    async with dialing(shared_nats, names) as one, anyio.create_task_group() as group:
        ledger, now = one.here.intent_ledger(THERE), one.here.clock.now() or 0.0
        known = await ledger.write(IntentClaimed(intent=THERE, claim="first", expires_at=now + 60))
        assert known.claim == "first"
        monkeypatch.setattr(Showing, "stepped", lambda *_: None)
        seen: list[Intent] = []

        async def begin() -> None:
            seen.append(await ledger.write(AttemptBegun(intent=THERE, claim="second", user_id="u", destination=NUMBER)))

        group.start_soon(begin)
        await anyio.sleep(0.5)
        assert seen == []
        monkeypatch.undo()
        one.both.owner(1).shut_down()
        await until(lambda: seen, 20)
        assert (seen[0].claim, seen[0].records) == ("first", ())


@pytest.mark.long
async def test_a_call_is_over_when_its_owner_shows_that(shared_nats: NatsServer, names: Names) -> None:
    """It may have been answered while nobody owned its room: then it is not dialled again."""
    async with dialing(shared_nats, names, find_within=15.0) as one, anyio.create_task_group() as group:
        group.start_soon(lambda: one.dial(ring_timeout=1.5, attempts=2))
        await one.started()
        await one.tell("dialout.connected")
        await until(lambda: one.here.session("dialout-1"))
        one.control.refuse(NoSuchSession("gone", status=400, error="no such session"), verb="stop", times=10)
        one.both.owner(1).shut_down()  # the other worker takes the partition over
        await one.tell("dialout.answered")
        await until(lambda: one.results, 25)
        assert one.results[0].outcome == "answered"
        assert one.verbs().count("start") == 1


@pytest.mark.parametrize(
    "options",
    [
        PhoneDialout(phone_number=NUMBER),
        PhoneDialout(
            phone_number=NUMBER,
            display_name="Bob",
            user_id="u",
            caller_id="+12025550100",
            extension="1#",
            wait_before_extension_dial_sec=5,
            codecs={"audio": ["PCMU"]},  # type: ignore[arg-type]
            permissions=Permissions(can_receive={"base": False}),
            provider="signalwire",
        ),
        SipDialout(sip_uri="sip:bob@example.com?X-A=1"),
        SipDialout(
            sip_uri="sip:bob@example.com",
            video=True,
            video_settings={"width": 640, "fps": 10},  # type: ignore[arg-type]
            codecs={"audio": ["OPUS"], "video": ["VP8"]},  # type: ignore[arg-type]
            permissions=Permissions(can_receive={}),
        ),
    ],
)
def test_a_request_carries_the_options_wholly(options: Dialout) -> None:
    """What is read is what was given."""
    again = options_from(start_argument(options))
    assert again == options
    assert again.body() == options.body()


def test_what_cannot_be_carried_is_refused() -> None:
    """An option of a newer telstate, and a subclass of the program's own."""

    class Own(PhoneDialout):
        """More than Daily takes."""

        tenant: str = ""

    with pytest.raises(NotSupported, match="cannot carry all of this Own"):
        start_argument(Own(phone_number=NUMBER, tenant="acme"))
    with pytest.raises(NotSupported, match="another version of telstate"):
        options_from({"phoneNumber": NUMBER, "newOption": 1})
