"""CallControl on calls: what Daily accepted is known, whoever is first with the news, and whatever becomes of him who asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from telstate import CallEnded, DefinitionError, Dispatcher, NotRunning, PinlessDialin, Router, Session, State
from telstate.errors import DailyError, NoSuchSession, NotHosting, TemporarilyNotAvailable, UnknownResult
from telstate.events import DialoutRequested, Presence
from telstate.testing._clock import FakeClock
from tests.calls import SESSION, js, webhook
from tests.routing import until
from tests.routing.kept import KINDS, journal_at, replayed

pytestmark = pytest.mark.anyio

BOB = "sip:bob@example.com"
ROOM_URI = "sip:room.0@example.sip.daily.co"
READY = {"action": "dialin-ready", "sipEndpoint": ROOM_URI}


class Hand:
    """A control that notes what it is asked, and answers when and as it is told."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.gate: anyio.Event | None = None
        """If there is one, it answers once it is set."""
        self.refuses: DailyError | None = None
        self.then: Any = None
        """Called when it has accepted, before anybody knows."""

    async def _do(self, *what: Any) -> None:
        self.asked.append(what)
        if self.gate is not None:
            await self.gate.wait()
        if self.refuses is not None:
            raise self.refuses
        if self.then is not None:
            self.then()

    async def stop(self, session: Session) -> None:
        """Note it."""
        await self._do("stop", session.session_id)

    async def send_dtmf(
        self, session: Session, tones: str, *, method: str | None = None, digit_duration_ms: int | None = None
    ) -> None:
        """Note it."""
        await self._do("dtmf", session.session_id, tones, method, digit_duration_ms)

    async def transfer(self, session: Session, to: str, **more: Any) -> None:
        """Note it."""
        await self._do("transfer", session.session_id, to, more)

    async def refer(self, session: Session, to: str) -> None:
        """Note it."""
        await self._do("refer", session.session_id, to)

    async def forward(self, call_id: str, call_domain: str, sip_endpoint: str) -> None:
        """Note it."""
        await self._do("forward", call_id, call_domain, sip_endpoint)


async def answered(calls: Dispatcher, session_id: str = SESSION) -> Session:
    """A dial-out that was answered."""
    session = (await calls.receive(js("dialout-answered", session_id))).session
    assert session is not None
    return session


async def somewhere(calls: Dispatcher, session_id: str = SESSION) -> Session:
    """One whose room is known."""
    session = (await calls.receive(webhook("dialout.answered", session_id, room="here"))).session
    assert session is not None
    return session


ACTS: dict[str, Callable[[Dispatcher, Session | str], Coroutine[Any, Any, None]]] = {
    "stop": lambda calls, whom: calls.stop(whom),
    "dtmf": lambda calls, whom: calls.send_dtmf(whom, "1"),
    "transfer": lambda calls, whom: calls.transfer(whom, BOB),
    "refer": lambda calls, whom: calls.refer(whom, BOB),
}
CAUSES = {"stop": "completed", "dtmf": "completed", "transfer": "transferred", "refer": "transferred"}
ENDED_BY = {"stop": "local", "dtmf": "unknown", "transfer": "remote", "refer": "remote"}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("by_id", [True, False])
async def test_what_was_accepted_is_known(act: str, *, by_id: bool) -> None:
    """Whether the end comes later, or is here before Daily's answer is."""
    for early in (False, True):
        hand = Hand()
        async with Dispatcher(Router(), control=hand) as calls, anyio.create_task_group() as group:
            session = await answered(calls)
            hand.gate = anyio.Event()
            group.start_soon(ACTS[act], calls, SESSION if by_id else session)
            await until(lambda hand=hand: bool(hand.asked))  # type: ignore[misc]
            if early:
                await calls.receive(js("dialout-stopped"))
            hand.gate.set()
            await calls.settled(session)
            await until(lambda calls=calls: not calls._asked)  # type: ignore[misc]
            await calls.receive(js("dialout-stopped"))
        assert (session.ended_by, session.cause) == (ENDED_BY[act], CAUSES[act])
        assert hand.asked[0][:2] == (act, SESSION)
        assert session.amended == (early and act != "dtmf")


async def test_all_that_is_given_reaches_the_control() -> None:
    """And what is not given is None."""
    hand = Hand()
    async with Dispatcher(Router(), control=hand) as calls:
        await answered(calls)
        await calls.send_dtmf(SESSION, "1", method="auto", digit_duration_ms=100)
        await calls.transfer(SESSION, BOB, caller_id="a", extension="b", wait_before_extension_dial_sec=3)
    assert hand.asked == [
        ("dtmf", SESSION, "1", "auto", 100),
        ("transfer", SESSION, BOB, {"caller_id": "a", "extension": "b", "wait_before_extension_dial_sec": 3}),
    ]


@pytest.mark.parametrize("act", ACTS)
async def test_what_is_refused_before_anything_is_sent(act: str) -> None:
    """Ended, unknown, without a control, outside the block."""
    do, hand = ACTS[act], Hand()
    calls = Dispatcher(Router(), control=hand)
    with pytest.raises(NotRunning):
        await do(calls, SESSION)
    async with calls:
        with pytest.raises(NoSuchSession):
            await do(calls, "nobody")
        session = await answered(calls)
        await calls.receive(js("dialout-stopped"))
        for whom in (session, SESSION):
            with pytest.raises(CallEnded) as raised:
                await do(calls, whom)
            assert raised.value.session is session
    with pytest.raises(NotRunning):
        await do(calls, session)
    assert hand.asked == []
    async with Dispatcher(Router()) as calls:
        await answered(calls)
        with pytest.raises(DefinitionError, match=r"control=RestControl\(api\)"):
            await do(calls, SESSION)
        assert calls.control is None


@pytest.mark.parametrize("act", ["stop", "transfer", "refer"])
async def test_what_is_refused_is_nobodys_doing(act: str) -> None:
    """We asked, but Daily did not do it."""
    hand = Hand()
    hand.refuses = TemporarilyNotAvailable("no")
    async with Dispatcher(Router(), control=hand) as calls:
        session = await answered(calls)
        with pytest.raises(TemporarilyNotAvailable):
            await ACTS[act](calls, session)
        assert not calls._asked
        await calls.receive(js("dialout-stopped"))
    assert (session.ended_by, session.cause) == ("unknown", "completed")


async def test_the_far_side_hangs_up() -> None:
    """That is told of those only whose start we know."""
    async with Dispatcher(Router(), control=Hand()) as calls:
        await calls.receive(DialoutRequested(session_id=SESSION))
        session = await answered(calls)
        await calls.send_dtmf(session, "1")
        await calls.receive(js("dialout-stopped"))
    assert session.ended_by == "remote"


@pytest.mark.parametrize("kind", ["none", *KINDS])
async def test_whoever_is_cancelled_has_asked_all_the_same(tmp_path: Path, kind: str) -> None:
    """Between Daily's word and our note of it."""
    hand, scope = Hand(), anyio.CancelScope()
    hand.then = scope.cancel
    journal = None if kind == "none" else journal_at(kind, tmp_path / "calls")
    async with Dispatcher(Router(), control=hand, journal=journal) as calls:
        session = await answered(calls)
        with scope:
            await calls.stop(session)
        assert scope.cancelled_caught
        await calls.idle()
        await calls.receive(js("dialout-stopped"))
    assert session.ended_by == "local"


async def test_whoever_is_cancelled_before_it_is_sent_is_waited_for() -> None:
    """By the dispatcher's end too; and what came of it is said, if nobody else is told."""
    hand = Hand()
    for refuses in (None, NoSuchSession("no dialout to stop")):
        hand.refuses = refuses
        with capture_logs() as logs:
            async with Dispatcher(Router(), control=hand) as calls:
                session = await answered(calls)
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await calls.stop(session)
        assert hand.asked.pop() == ("stop", SESSION)
        assert [line["event"] for line in logs] == ([] if refuses is None else ["call.not_acted"])


async def test_a_handler_may_be_cut_off_by_the_end_that_it_asks_for() -> None:
    """Its event may be here before Daily's answer, and a live_only handler is cancelled by it; we asked all the same."""
    router, hand = Router(), Hand()
    hand.gate = anyio.Event()

    @router.on_state(State.ANSWERED, live_only=True)
    async def hang_up(session: Session, calls: Dispatcher) -> None:
        await calls.stop(session)

    async with Dispatcher(router, control=hand) as calls:
        session = await answered(calls)
        await until(lambda: bool(hand.asked))
        await calls.receive(js("dialout-stopped"))
        assert session.ended_by != "local"
        hand.gate.set()
        await calls.settled(session)
        assert session.ended_by == "local"


GONE = NoSuchSession("POST …: Daily answered 404: invalid sessionId", status=404)
EMPTY = NotHosting("POST …: Daily answered 404: Room is not hosting a call", status=404)


@pytest.mark.parametrize("gone", [GONE, EMPTY])
async def test_what_only_daily_knows_of_the_end(gone: DailyError) -> None:
    """Is no other thing than to know it: one error for both. With its meeting every call of a room ends."""
    hand = Hand()
    hand.refuses = gone
    async with Dispatcher(Router(), control=hand) as calls:
        session = await somewhere(calls)
        for do in ACTS.values():
            with pytest.raises(CallEnded, match="Daily answered 404"):
                await do(calls, session)


async def test_a_room_that_is_guessed_says_nothing_of_the_session() -> None:
    """No event told the room, so the control took its own; a call client that is in no call speaks of itself, too."""
    hand, clock = Hand(), FakeClock()
    async with Dispatcher(Router(), control=hand, clock=clock) as calls:
        session = await answered(calls)
        for hand.refuses in (EMPTY, NotHosting("NotInACall")):
            with pytest.raises(NotHosting):
                await calls.stop(session)
        hand.refuses = GONE
        with pytest.raises(CallEnded):
            await calls.stop(session)
        await clock.advance(60)
        assert not session.ended
        hand.refuses = NoSuchSession("no dialout to stop")  # a client's: it is in the room
        with pytest.raises(CallEnded):
            await calls.stop(session)
        await clock.advance(60)
        assert session.ended


async def test_an_end_that_only_daily_knows_is_known_here_in_a_while() -> None:
    """Its event is waited for: it tells more. Where that was lost, nobody else would ever end the session."""
    hand, clock = Hand(), FakeClock()
    hand.refuses = GONE
    router, ended = Router(), list[str]()

    @router.on_end()
    async def note(session: Session) -> None:
        ended.append(f"{session.session_id} {session.cause} {session.ended_by}")

    async with Dispatcher(router, control=hand, clock=clock) as calls:
        for name in ("lost", "late", "alive", "last moment"):
            session = await somewhere(calls, name)
            for _ in range(2):
                with pytest.raises(CallEnded):
                    await calls.send_dtmf(session, "1")
        await clock.advance(5)
        await calls.receive(js("dialout-warning", "alive", errorMsg="as if nothing were"))
        for no_news in (webhook("dialout.answered", "lost", room="here"), js("dialin-connected", "lost")):
            await calls.receive(no_news)
        await calls.link("lost", "another")
        await clock.advance(4)
        assert not ended
        await calls.receive(js("dialout-stopped", "late"))
        await clock.advance(3)
        await calls.receive(js("dialout-warning", "last moment", errorMsg="asked for, and there"))
        await clock.advance(4)
        await calls.idle()
        assert ended == ["late completed unknown", "lost expired system"]
        await clock.advance(60)
        assert [session.session_id for session in calls.live()] == ["alive", "last moment"]
        assert not calls._denied


async def test_who_is_denied_once_and_heard_of_lives() -> None:
    """And is ended once he is denied again, even if that came before the news was weighed."""
    hand, clock = Hand(), FakeClock()
    hand.refuses = GONE
    async with Dispatcher(Router(), control=hand, clock=clock) as calls:
        session = await somewhere(calls)
        with pytest.raises(CallEnded):
            await calls.stop(session)
        await clock.advance(1)
        await calls.receive(js("dialout-warning", errorMsg="news"))
        await clock.advance(100)
        assert not session.ended
        assert not calls._denied
        with pytest.raises(CallEnded):
            await calls.stop(session)
        await clock.advance(1)
        await calls.receive(js("dialout-warning", errorMsg="more news"))
        await clock.advance(5)
        with pytest.raises(CallEnded):
            await calls.stop(session)
        await clock.advance(100)
        assert session.ended


async def test_who_can_be_asked_is_asked_before_it_ends() -> None:
    """`reconcile` has the last word, as before a silence limit."""
    hand, clock, asked = Hand(), FakeClock(), list[str]()
    hand.refuses = GONE

    async def reconcile(session: Session) -> Presence:
        asked.append(session.session_id)
        await clock.sleep(25)
        return Presence.ALIVE

    async with Dispatcher(Router(), control=hand, clock=clock, reconcile=reconcile) as calls:
        session = await somewhere(calls)
        with pytest.raises(CallEnded):
            await calls.stop(session)
        await clock.advance(60)
        assert asked == [SESSION]
        assert not session.ended


async def test_a_denial_after_the_dispatcher_was_left_is_the_same_error() -> None:
    """For whoever asked from a task outside of it."""
    hand = Hand()
    hand.refuses, hand.gate = GONE, anyio.Event()
    told: list[Exception] = []

    async def press(calls: Dispatcher, session: Session) -> None:
        try:
            await calls.send_dtmf(session, "1")
        except Exception as error:
            told.append(error)

    async with anyio.create_task_group() as group:
        async with Dispatcher(Router(), control=hand) as calls:
            session = await somewhere(calls)
            group.start_soon(press, calls, session)
            await until(lambda: bool(hand.asked))
        hand.gate.set()
    assert [type(error) for error in told] == [CallEnded]
    assert not calls._denied


@pytest.mark.parametrize(
    ("first", "act", "ends"),
    [
        ("dialout.connected", "stop", True),
        ("dialout.connected", "dtmf", False),
        ("dialout.connected", "transfer", False),
        ("dialin.connected", "stop", False),
        ("dialout.answered", "dtmf", True),
    ],
)
async def test_a_denial_is_not_believed_of_who_may_not_be_known_yet(first: str, act: str, *, ends: bool) -> None:
    """Before media flows only the stop of a dial-out is known to know the session."""
    hand, clock = Hand(), FakeClock()
    hand.refuses = GONE
    async with Dispatcher(Router(), control=hand, clock=clock) as calls:
        session = (await calls.receive(webhook(first, room="here"))).session
        assert session is not None
        with pytest.raises(CallEnded):
            await ACTS[act](calls, session)
        await clock.advance(60)
        assert session.ended == ends


@pytest.mark.parametrize("kind", KINDS)
async def test_such_an_end_is_in_the_journal(tmp_path: Path, kind: str) -> None:
    """A replay sees it as it was."""
    hand, clock, path = Hand(), FakeClock(), tmp_path / "calls"
    hand.refuses = GONE
    async with Dispatcher(Router(), control=hand, clock=clock, journal=journal_at(kind, path)) as calls:
        session = await somewhere(calls)
        with pytest.raises(CallEnded):
            await calls.stop(session)
        await clock.advance(10)
        await until(lambda: session.uncertain)  # the disk has a thread of its own
        await clock.advance(5)
        await until(lambda: session.ended)
    again = replayed(kind, path).session(SESSION)
    assert again is not None
    assert again.ended


async def test_no_session_is_no_session() -> None:
    """Said before anything is sent."""
    hand = Hand()
    async with Dispatcher(Router(), control=hand) as calls:
        for nothing in (None, 3, object()):
            with pytest.raises(TypeError, match="give a Session or its id"):
                await calls.stop(nothing)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="forward takes the PinlessDialin"):
            await calls.forward("x", "sip:a@b.example")  # type: ignore[arg-type]
    assert hand.asked == []


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_control_that_is_cancelled_by_itself() -> None:
    """On asyncio whatever it waits for can be cancelled, or it itself. That ends no dispatcher, and what was accepted is kept."""

    class Strange(Hand):
        async def refer(self, session: Session, to: str) -> None:  # noqa: ARG002
            """As pipecat, where its client is released while it waits for the answer."""
            answer = asyncio.get_running_loop().create_future()
            answer.cancel()
            await answer

    ran: list[str] = []
    router, hand = Router(), Strange()

    @router.on_end()
    async def note(session: Session) -> None:
        ran.append(session.session_id)

    def cancel() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async with Dispatcher(router, control=hand) as calls:
        session = await answered(calls)
        with pytest.raises(UnknownResult, match="cancelled by itself"):
            await calls.refer(session, BOB)
        hand.then = cancel
        await calls.stop(session)
        await calls.receive(js("dialout-stopped"))
        await calls.idle()
        assert (session.ended_by, ran) == ("local", [SESSION])


async def test_two_stops_at_once() -> None:
    """Both are sent, and `settled` waits for both; another session's it does not wait for."""
    hand = Hand()
    async with Dispatcher(Router(), control=hand) as calls, anyio.create_task_group() as group:
        session, other = await answered(calls), await answered(calls, "other")
        await calls.settled(session)
        hand.gate = anyio.Event()
        group.start_soon(calls.stop, session)
        group.start_soon(calls.stop, session)
        await until(lambda: len(hand.asked) == 2)
        with anyio.fail_after(5):
            await calls.settled(other)
        with anyio.move_on_after(0.02) as waited:
            await calls.settled(session)
        assert waited.cancelled_caught
        hand.gate.set()
        with anyio.fail_after(5):
            await calls.settled(session)
        await calls.receive(js("dialout-stopped"))
    assert session.ended_by == "local"
    assert hand.asked == [("stop", SESSION)] * 2


async def test_from_inside_a_handler_and_during_the_drain() -> None:
    """What a handler needs to finish it may do, also when the end is here before Daily's answer."""
    router, hand, began = Router(), Hand(), anyio.Event()

    @router.on_start()
    async def start(session: Session, calls: Dispatcher) -> None:
        began.set()
        await until(lambda: not calls.is_open)
        await calls.receive(js("dialout-warning"))
        await calls.stop(session)
        await calls.receive(js("dialout-stopped"))

    async with Dispatcher(router, control=hand) as calls:
        session = await answered(calls)
        await began.wait()
        calls.shut_down()
        with pytest.raises(NotRunning):
            await calls.stop(session)
        with anyio.CancelScope(shield=True):  # between the word and the end of the block
            await until(lambda: session.ended)
    assert (session.ended_by, session.state) == ("local", State.STOPPED)


async def test_a_handler_that_its_own_stop_ends() -> None:
    """The end is here before Daily has answered the stop."""
    router, hand = Router(), Hand()
    hand.gate = anyio.Event()

    @router.on_state(State.ANSWERED)
    async def hang_up(session: Session, calls: Dispatcher) -> None:
        await calls.stop(session)

    async with Dispatcher(router, control=hand) as calls:
        session = await answered(calls)
        await until(lambda: bool(hand.asked))
        await calls.receive(js("dialout-stopped"))
        await anyio.sleep(0.02)
        hand.gate.set()
        with anyio.fail_after(5):
            await calls.settled(session)
    assert session.ended_by == "local"


@pytest.mark.parametrize("kind", KINDS)
async def test_after_a_restart_the_same_is_known(tmp_path: Path, kind: str) -> None:
    """And in a replay."""
    path = tmp_path / "calls"
    async with Dispatcher(Router(), control=Hand(), journal=journal_at(kind, path)) as calls:
        await answered(calls, "a")
        await answered(calls, "b")
        await calls.stop("a")
        await calls.transfer("b", BOB)
    async with Dispatcher(Router(), control=Hand(), journal=journal_at(kind, path)) as calls:
        for session_id in "ab":
            await calls.receive(js("dialout-stopped", session_id))
        known = [calls.session(session_id) for session_id in "ab"]
    again = [replayed(kind, path).session(session_id) for session_id in "ab"]
    for one, other in (known, again):
        assert one is not None
        assert other is not None
        assert (one.ended_by, one.cause) == ("local", "completed")
        assert (other.ended_by, other.cause) == ("remote", "transferred")


# --- callers on hold ----------------------------------------------------------------------------------------------


def caller(call_id: str | None = "c", **more: Any) -> dict[str, Any]:
    """He is on hold."""
    return js("pinless-dialin", None, callId=call_id, callDomain="d", From="+12025550142", To="+12025550199", **more)


async def test_a_forwarded_caller_is_joined_to_his_session() -> None:
    """By the endpoint on which he arrives."""
    hand = Hand()
    async with Dispatcher(Router(), control=hand) as calls:
        event = (await calls.receive(caller())).event
        assert isinstance(event, PinlessDialin)
        await calls.receive(READY)
        await calls.forward(event, ROOM_URI)
        session = (await calls.receive(js("dialin-connected", sipEndpoint=ROOM_URI))).session
    assert hand.asked == [("forward", "c", "d", ROOM_URI)]
    assert session is not None
    assert (session.caller, session.pinless_call_id) == ("+12025550142", "c")


async def test_a_caller_who_cannot_be_forwarded() -> None:
    """Nothing is sent."""
    hand = Hand()
    async with Dispatcher(Router(), control=hand) as calls:
        for event in (PinlessDialin(call_id="c"), PinlessDialin(call_domain="d")):
            with pytest.raises(ValueError, match="no callId or no callDomain"):
                await calls.forward(event, ROOM_URI)
    with pytest.raises(NotRunning):
        await calls.forward(PinlessDialin(call_id="c", call_domain="d"), ROOM_URI)
    assert hand.asked == []


@pytest.mark.parametrize(
    "asked", [ROOM_URI, ROOM_URI[4:], f"{ROOM_URI}?x-daily_display_name=a", ROOM_URI.upper()[:3] + ROOM_URI[3:]]
)
async def test_waiting_for_an_endpoint(asked: str) -> None:
    """By whatever spelling, before it is ready and after."""
    found: list[Any] = []

    async def wait(calls: Dispatcher) -> None:
        found.append(await calls.wait_ready(asked, 5))

    async with Dispatcher(Router()) as calls, anyio.create_task_group() as group:
        group.start_soon(wait, calls)
        group.start_soon(wait, calls)
        with anyio.move_on_after(0.02) as cancelled:
            await calls.wait_ready(asked)
        assert cancelled.cancelled_caught
        with pytest.raises(TimeoutError):
            await calls.wait_ready(asked, 0.01)
        assert calls.sizes()["waiters"] == 2
        await calls.receive({**READY, "sipEndpoint": "sip:other@example.sip.daily.co"})
        await calls.receive(READY)
        await until(lambda: len(found) == 2)
        assert calls.sizes()["waiters"] == 0
        assert await calls.wait_ready(asked, 0.01) is found[0] is found[1] is calls.endpoint(ROOM_URI)
        await calls.receive({"action": "meeting-ended", "room": "none"})
    with pytest.raises(NotRunning):
        await calls.wait_ready(asked)


async def test_an_endpoint_that_is_known_and_not_ready() -> None:
    """Somebody was on it, but that it can be dialled nobody has told."""
    async with Dispatcher(Router()) as calls:
        await calls.receive(js("dialin-connected", sipEndpoint=ROOM_URI))
        await calls.receive(js("dialin-stopped", sipEndpoint=ROOM_URI))
        assert calls.endpoint(ROOM_URI) is not None
        with pytest.raises(TimeoutError):
            await calls.wait_ready(ROOM_URI, 0.01)
        await calls.receive(READY)
        assert (await calls.wait_ready(ROOM_URI, 1)).ready


async def test_an_endpoint_that_two_observers_know() -> None:
    """One of them, who does not know the room, never heard that it is ready."""
    async with Dispatcher(Router()) as calls:
        await calls.receive(js("dialin-connected", sipEndpoint=ROOM_URI, callClientId="k"))
        await calls.receive(js("dialin-stopped", sipEndpoint=ROOM_URI, callClientId="k"))
        await calls.receive({**READY, "room": "room"})
        assert (await calls.wait_ready(ROOM_URI, 1)).ready


async def test_whoever_waits_is_told_that_nothing_comes() -> None:
    """When the block is left."""
    closed = anyio.Event()

    async def wait() -> None:
        with pytest.raises(NotRunning, match="before"):
            await calls.wait_ready(ROOM_URI)
        closed.set()

    async with anyio.create_task_group() as group:
        async with Dispatcher(Router()) as calls:
            group.start_soon(wait)
            await until(lambda: calls.sizes()["waiters"] == 1)
        with anyio.fail_after(5):
            await closed.wait()
    assert calls.sizes()["waiters"] == 0


async def test_a_caller_who_waits_holds_up_no_other() -> None:
    """Each on hold has a lane of his own; and events are taken in however many wait."""
    router, done = Router(), []

    @router.on(PinlessDialin)
    async def on_hold(event: PinlessDialin, calls: Dispatcher) -> None:
        if event.call_id != "quick":
            await calls.wait_ready(ROOM_URI)
        done.append(event.call_id)

    async with Dispatcher(router, pending_limit=2) as calls:
        with anyio.fail_after(5):
            for call_id in ("slow", "slower", "quick"):
                await calls.receive(caller(call_id))
            await until(lambda: done == ["quick"])
            await calls.receive(READY)
            await calls.idle()
    assert set(done) == {"quick", "slow", "slower"}
