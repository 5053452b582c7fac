"""Acting on calls: what Daily accepted is recorded, in any order of answer and event, also if the caller was cancelled."""

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
from telstate.events import DialoutRequested, Presence, TransferFailed
from telstate.journals import SqliteJournal
from telstate.options import Dtmf, Refer, Transfer
from telstate.testing import FakeClock
from tests.calls import SESSION, js, webhook
from tests.routing import until
from tests.routing.kept import replayed

pytestmark = pytest.mark.anyio

BOB = "sip:bob@example.com"
ROOM_URI = "sip:room.0@example.sip.daily.co"
READY = {"action": "dialin-ready", "sipEndpoint": ROOM_URI}


class GatedControl:
    """A control that records requests, and answers when and as a test says."""

    def __init__(self) -> None:
        self.requests: list[tuple[Any, ...]] = []
        self.gate: anyio.Event | None = None
        """If there is one, answers wait until it is set."""
        self.error: DailyError | None = None
        """Raised instead of accepting a request."""
        self.on_accept: Callable[[], object] | None = None
        """Called when a request was accepted, before the caller learns of it."""

    async def _answer(self, *request: Any) -> None:
        self.requests.append(request)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        if self.on_accept is not None:
            self.on_accept()

    async def stop(self, session: Session) -> None:
        """Record it."""
        await self._answer("stop", session.session_id)

    async def send_dtmf(self, session: Session, dtmf: Dtmf) -> None:
        """Record it."""
        await self._answer("dtmf", session.session_id, dtmf)

    async def transfer(self, session: Session, transfer: Transfer) -> None:
        """Record it."""
        await self._answer("transfer", session.session_id, transfer)

    async def refer(self, session: Session, refer: Refer) -> None:
        """Record it."""
        await self._answer("refer", session.session_id, refer)

    async def forward(self, call_id: str, call_domain: str, sip_endpoint: str) -> None:
        """Record it."""
        await self._answer("forward", call_id, call_domain, sip_endpoint)


async def answered(calls: Dispatcher, session_id: str = SESSION) -> Session:
    """Receive an answered dial-out, without a room."""
    session = (await calls.receive(js("dialout-answered", session_id))).session
    assert session is not None
    return session


async def answered_in_room(calls: Dispatcher, session_id: str = SESSION) -> Session:
    """Receive an answered dial-out whose room is known."""
    session = (await calls.receive(webhook("dialout.answered", session_id, room="here"))).session
    assert session is not None
    return session


ACTIONS: dict[str, Callable[[Dispatcher, Session | str], Coroutine[Any, Any, None]]] = {
    "stop": lambda calls, session: calls.stop(session),
    "dtmf": lambda calls, session: calls.send_dtmf(session, "1"),
    "transfer": lambda calls, session: calls.transfer(session, BOB),
    "refer": lambda calls, session: calls.refer(session, BOB),
}
CAUSES = {"stop": "completed", "dtmf": "completed", "transfer": "transferred", "refer": "transferred"}
ENDED_BY = {"stop": "local", "dtmf": "unknown", "transfer": "remote", "refer": "remote"}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("by_id", [True, False])
async def test_an_accepted_request_decides_cause_and_ended_by(action: str, *, by_id: bool) -> None:
    """Also where the end arrives before Daily's answer."""
    for early in (False, True):
        control = GatedControl()
        async with Dispatcher(Router(), control=control) as calls, anyio.create_task_group() as group:
            session = await answered(calls)
            control.gate = anyio.Event()
            group.start_soon(ACTIONS[action], calls, SESSION if by_id else session)
            await until(lambda control=control: bool(control.requests))  # type: ignore[misc]
            if early:
                await calls.receive(js("dialout-stopped"))
            control.gate.set()
            await calls.settled(session)
            await calls.idle()
            await calls.receive(js("dialout-stopped"))
        assert (session.ended_by, session.cause) == (ENDED_BY[action], CAUSES[action])
        assert control.requests[0][:2] == (action, SESSION)
        assert session.amended == (early and action != "dtmf")


async def test_all_options_reach_the_control() -> None:
    """A string is the short form of the options."""
    control = GatedControl()
    async with Dispatcher(Router(), control=control) as calls:
        await answered(calls)
        dtmf = Dtmf(tones="1", method="sip-info", digit_duration_ms=100)
        transfer = Transfer(
            to_end_point="+12025550190", caller_id="+12025550142", extension="12", wait_before_extension_dial_sec=3
        )
        await calls.send_dtmf(SESSION, dtmf)
        await calls.send_dtmf(SESSION, "1")
        await calls.transfer(SESSION, transfer)
        await calls.transfer(SESSION, BOB)
        await calls.refer(SESSION, Refer(to_end_point=BOB))
        await calls.refer(SESSION, BOB)
    assert control.requests == [
        ("dtmf", SESSION, dtmf),
        ("dtmf", SESSION, Dtmf(tones="1")),
        ("transfer", SESSION, transfer),
        ("transfer", SESSION, Transfer(to_end_point=BOB)),
        ("refer", SESSION, Refer(to_end_point=BOB)),
        ("refer", SESSION, Refer(to_end_point=BOB)),
    ]


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (lambda calls: calls.send_dtmf(SESSION, "x"), "tones"),
        (lambda calls: calls.transfer(SESSION, "bob"), "to_end_point"),
        (lambda calls: calls.refer(SESSION, "+12025550190"), "to_end_point"),
    ],
)
async def test_invalid_options_raise_value_error_before_anything_is_sent(
    act: Callable[[Dispatcher], Coroutine[Any, Any, None]], error: str
) -> None:
    """The short form is checked as the options are."""
    control = GatedControl()
    async with Dispatcher(Router(), control=control) as calls:
        await answered(calls)
        with pytest.raises(ValueError, match=error):
            await act(calls)
    assert control.requests == []


@pytest.mark.parametrize("action", ACTIONS)
async def test_a_request_that_cannot_succeed_is_not_sent(action: str) -> None:
    """The session has ended or is unknown, there is no control, or the dispatcher does not run."""
    act, control = ACTIONS[action], GatedControl()
    calls = Dispatcher(Router(), control=control)
    with pytest.raises(NotRunning):
        await act(calls, SESSION)
    async with calls:
        with pytest.raises(NoSuchSession):
            await act(calls, "nobody")
        session = await answered(calls)
        await calls.receive(js("dialout-stopped"))
        for by in (session, SESSION):
            with pytest.raises(CallEnded) as raised:
                await act(calls, by)
            assert raised.value.session is session
    with pytest.raises(NotRunning):
        await act(calls, session)
    assert control.requests == []
    async with Dispatcher(Router()) as calls:
        await answered(calls)
        with pytest.raises(DefinitionError, match=r"control=RestControl\(api\)"):
            await act(calls, SESSION)
        assert calls.control is None


@pytest.mark.parametrize("action", ["stop", "transfer", "refer"])
async def test_a_request_that_daily_refused_leaves_no_trace(action: str) -> None:
    """Neither the cause nor `ended_by` follows from it."""
    control = GatedControl()
    control.error = TemporarilyNotAvailable("no")
    async with Dispatcher(Router(), control=control) as calls:
        session = await answered(calls)
        with pytest.raises(TemporarilyNotAvailable):
            await ACTIONS[action](calls, session)
        assert not calls._run.call_control.busy
        await calls.receive(js("dialout-stopped"))
    assert (session.ended_by, session.cause) == ("unknown", "completed")


async def test_an_end_without_a_stop_is_remote() -> None:
    """For a session that this program started."""
    async with Dispatcher(Router(), control=GatedControl()) as calls:
        await calls.receive(DialoutRequested(session_id=SESSION))
        session = await answered(calls)
        await calls.send_dtmf(session, "1")
        await calls.receive(js("dialout-stopped"))
    assert session.ended_by == "remote"


@pytest.mark.both_loops
@pytest.mark.parametrize("kind", ["none", "sqlite"])
async def test_a_stop_is_recorded_although_its_caller_was_cancelled(tmp_path: Path, kind: str) -> None:
    """Cancelled between Daily's answer and the event that records it."""
    control, scope = GatedControl(), anyio.CancelScope()
    control.on_accept = scope.cancel
    journal = None if kind == "none" else SqliteJournal(tmp_path / "calls")
    async with Dispatcher(Router(), control=control, journal=journal) as calls:
        session = await answered(calls)
        with scope:
            await calls.stop(session)
        assert scope.cancelled_caught
        await calls.idle()
        await calls.receive(js("dialout-stopped"))
    assert session.ended_by == "local"


@pytest.mark.both_loops
async def test_leaving_waits_for_a_request_whose_caller_was_cancelled() -> None:
    """If it fails, the log says so, as no caller gets the error."""
    control = GatedControl()
    for refuses in (None, NoSuchSession("no dialout to stop")):
        control.error = refuses
        with capture_logs() as logs:
            async with Dispatcher(Router(), control=control) as calls:
                session = await answered(calls)
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await calls.stop(session)
        assert control.requests.pop() == ("stop", SESSION)
        assert [line["event"] for line in logs] == ([] if refuses is None else ["call.request_failed"])


@pytest.mark.both_loops
async def test_a_stop_is_recorded_although_the_end_cancelled_its_live_only_handler() -> None:
    """The event of the end may arrive before Daily's answer to the stop."""
    router, control = Router(), GatedControl()
    control.gate = anyio.Event()

    @router.on_state(State.ANSWERED, live_only=True)
    async def hang_up(session: Session, calls: Dispatcher) -> None:
        await calls.stop(session)

    async with Dispatcher(router, control=control) as calls:
        session = await answered(calls)
        await until(lambda: bool(control.requests))
        await calls.receive(js("dialout-stopped"))
        assert session.ended_by != "local"
        control.gate.set()
        await calls.settled(session)
        assert session.ended_by == "local"


GONE = NoSuchSession("POST …: Daily answered 404: invalid sessionId", status=404)
EMPTY = NotHosting("POST …: Daily answered 404: Room is not hosting a call", status=404)


@pytest.mark.parametrize("gone", [GONE, EMPTY])
async def test_an_end_that_only_daily_knows_raises_call_ended(gone: DailyError) -> None:
    """As an end that is known here. With its meeting every call of a room ends."""
    control = GatedControl()
    control.error = gone
    async with Dispatcher(Router(), control=control) as calls:
        session = await answered_in_room(calls)
        for act in ACTIONS.values():
            with pytest.raises(CallEnded, match="Daily answered 404"):
                await act(calls, session)


async def test_an_empty_room_says_nothing_about_a_session_whose_room_is_unknown() -> None:
    """The control then used its own room. A call client that is in no call says so about itself."""
    control, clock = GatedControl(), FakeClock()
    async with Dispatcher(Router(), control=control, clock=clock) as calls:
        session = await answered(calls)
        for control.error in (EMPTY, NotHosting("NotInACall")):
            with pytest.raises(NotHosting):
                await calls.stop(session)
        control.error = GONE
        with pytest.raises(CallEnded):
            await calls.stop(session)
        await clock.advance(60)
        assert not session.ended
        control.error = NoSuchSession("no dialout to stop")  # from a client, which is in the room
        with pytest.raises(CallEnded):
            await calls.stop(session)
        await clock.advance(60)
        assert session.ended


async def test_a_denied_session_ends_some_seconds_later() -> None:
    """Its own event is waited for, because it says more. If that was lost, nothing else would end the session."""
    control, clock = GatedControl(), FakeClock()
    control.error = GONE
    router, ended = Router(), list[str]()

    @router.on_end()
    async def note(session: Session) -> None:
        ended.append(f"{session.session_id} {session.cause} {session.ended_by}")

    async with Dispatcher(router, control=control, clock=clock) as calls:
        for name in ("lost", "late", "alive", "last moment"):
            session = await answered_in_room(calls, name)
            for _ in range(2):
                with pytest.raises(CallEnded):
                    await calls.send_dtmf(session, "1")
        await clock.advance(5)
        await calls.receive(js("dialout-warning", "alive", errorMsg="a sign of life"))
        for no_sign_of_life in (webhook("dialout.answered", "lost", room="here"), js("dialin-connected", "lost")):
            await calls.receive(no_sign_of_life)
        await calls.link("lost", "another")
        await clock.advance(4)
        assert not ended
        await calls.receive(js("dialout-stopped", "late"))
        await clock.advance(3)
        await calls.receive(js("dialout-warning", "last moment", errorMsg="while it is asked about"))
        await clock.advance(4)
        await calls.idle()
        assert ended == ["late completed unknown", "lost completed unknown"]
        await clock.advance(60)
        assert [session.session_id for session in calls.live()] == ["alive", "last moment"]
        assert not calls._run.reconciler._denied


async def test_news_saves_a_denied_session_unless_it_is_denied_again() -> None:
    """Also where the second denial comes while the first is still being weighed."""
    control, clock = GatedControl(), FakeClock()
    control.error = GONE
    async with Dispatcher(Router(), control=control, clock=clock) as calls:
        session = await answered_in_room(calls)
        with pytest.raises(CallEnded):
            await calls.stop(session)
        await clock.advance(1)
        await calls.receive(js("dialout-warning", errorMsg="news"))
        await clock.advance(100)
        assert not session.ended
        assert not calls._run.reconciler._denied
        with pytest.raises(CallEnded):
            await calls.stop(session)
        await clock.advance(1)
        await calls.receive(js("dialout-warning", errorMsg="more news"))
        await clock.advance(5)
        with pytest.raises(CallEnded):
            await calls.stop(session)
        await clock.advance(100)
        assert session.ended


async def test_reconcile_decides_about_a_denied_session() -> None:
    """As before a silence limit."""
    control, clock, asked = GatedControl(), FakeClock(), list[str]()
    control.error = GONE

    async def reconcile(session: Session) -> Presence:
        asked.append(session.session_id)
        await clock.sleep(25)
        return Presence.ALIVE

    async with Dispatcher(Router(), control=control, clock=clock, reconcile=reconcile) as calls:
        session = await answered_in_room(calls)
        with pytest.raises(CallEnded):
            await calls.stop(session)
        await clock.advance(60)
        assert asked == [SESSION]
        assert not session.ended


@pytest.mark.both_loops
async def test_a_denial_after_the_dispatcher_was_left_raises_call_ended() -> None:
    """For a caller in a task outside the block."""
    control = GatedControl()
    control.error, control.gate = GONE, anyio.Event()
    raised: list[Exception] = []

    async def press(calls: Dispatcher, session: Session) -> None:
        try:
            await calls.send_dtmf(session, "1")
        except Exception as error:
            raised.append(error)

    async with anyio.create_task_group() as group:
        async with Dispatcher(Router(), control=control) as calls:
            session = await answered_in_room(calls)
            group.start_soon(press, calls, session)
            await until(lambda: bool(control.requests))
        control.gate.set()
    assert [type(error) for error in raised] == [CallEnded]
    assert not calls._run.reconciler._denied


@pytest.mark.parametrize(
    ("first", "action", "ends"),
    [
        ("dialout.connected", "stop", True),
        ("dialout.connected", "dtmf", False),
        ("dialout.connected", "transfer", False),
        ("dialin.connected", "stop", False),
        ("dialout.answered", "dtmf", True),
    ],
)
async def test_a_denial_before_media_flows_counts_only_for_the_stop_of_a_dial_out(
    first: str, action: str, *, ends: bool
) -> None:
    """It is not documented whether other requests know a session without media."""
    control, clock = GatedControl(), FakeClock()
    control.error = GONE
    async with Dispatcher(Router(), control=control, clock=clock) as calls:
        session = (await calls.receive(webhook(first, room="here"))).session
        assert session is not None
        with pytest.raises(CallEnded):
            await ACTIONS[action](calls, session)
        await clock.advance(60)
        assert session.ended == ends


async def test_the_end_of_a_denied_session_is_in_the_journal(tmp_path: Path) -> None:
    """A replay comes to the same end."""
    control, clock, path = GatedControl(), FakeClock(), tmp_path / "calls"
    control.error = GONE
    async with Dispatcher(Router(), control=control, clock=clock, journal=SqliteJournal(path)) as calls:
        session = await answered_in_room(calls)
        with pytest.raises(CallEnded):
            await calls.stop(session)
        await clock.advance(10)
        await until(lambda: session.uncertain)  # SQLite works in a thread
        await clock.advance(5)
        await until(lambda: session.ended)
    again = replayed(path).session(SESSION)
    assert again is not None
    assert again.ended


async def test_an_argument_that_is_not_a_session_raises_type_error() -> None:
    """Nothing is sent."""
    control = GatedControl()
    async with Dispatcher(Router(), control=control) as calls:
        for nothing in (None, 3, object()):
            with pytest.raises(TypeError, match="pass a Session or its id"):
                await calls.stop(nothing)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="forward takes the caller's PinlessDialin event, not str"):
            await calls.forward("x", "sip:a@b.example")  # type: ignore[arg-type]
    assert control.requests == []


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_control_that_cancels_itself_raises_unknown_result() -> None:
    """On asyncio a control can be cancelled by what it awaits. The dispatcher goes on, and an accepted request is recorded."""

    class CancelledControl(GatedControl):
        async def refer(self, session: Session, refer: Refer) -> None:  # noqa: ARG002
            """As pipecat does if its client is released while it waits for the answer."""
            answer = asyncio.get_running_loop().create_future()
            answer.cancel()
            await answer

    ran: list[str] = []
    router, control = Router(), CancelledControl()

    @router.on_end()
    async def note(session: Session) -> None:
        ran.append(session.session_id)

    def cancel() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async with Dispatcher(router, control=control) as calls:
        session = await answered(calls)
        with pytest.raises(UnknownResult, match="the control cancelled itself"):
            await calls.refer(session, BOB)
        control.on_accept = cancel
        await calls.stop(session)
        await calls.receive(js("dialout-stopped"))
        await calls.idle()
        assert (session.ended_by, ran) == ("local", [SESSION])


async def test_settled_waits_for_all_requests_of_its_session() -> None:
    """And for no other session's."""
    control = GatedControl()
    async with Dispatcher(Router(), control=control) as calls, anyio.create_task_group() as group:
        session, other = await answered(calls), await answered(calls, "other")
        await calls.settled(session)
        control.gate = anyio.Event()
        group.start_soon(calls.stop, session)
        group.start_soon(calls.stop, session)
        await until(lambda: len(control.requests) == 2)
        with anyio.fail_after(5):
            await calls.settled(other)
        with anyio.move_on_after(0.02) as waited:
            await calls.settled(session)
        assert waited.cancelled_caught
        control.gate.set()
        with anyio.fail_after(5):
            await calls.settled(session)
        await calls.receive(js("dialout-stopped"))
    assert session.ended_by == "local"
    assert control.requests == [("stop", SESSION)] * 2


@pytest.mark.both_loops
async def test_a_handler_can_still_stop_its_session_during_the_drain() -> None:
    """Everything else gets NotRunning then."""
    router, control, began = Router(), GatedControl(), anyio.Event()

    @router.on_start()
    async def start(session: Session, calls: Dispatcher) -> None:
        began.set()
        await until(lambda: not calls.is_open)
        await calls.receive(js("dialout-warning"))
        await calls.stop(session)
        await calls.receive(js("dialout-stopped"))

    async with Dispatcher(router, control=control) as calls:
        session = await answered(calls)
        await began.wait()
        calls.shut_down()
        with pytest.raises(NotRunning):
            await calls.stop(session)
        with anyio.CancelScope(shield=True):  # the body is cancelled already
            await until(lambda: session.ended)
    assert (session.ended_by, session.state) == ("local", State.STOPPED)


async def test_an_end_that_arrives_before_the_answer_to_the_stop_is_local() -> None:
    """The stop came from a handler."""
    router, control = Router(), GatedControl()
    control.gate = anyio.Event()

    @router.on_state(State.ANSWERED)
    async def hang_up(session: Session, calls: Dispatcher) -> None:
        await calls.stop(session)

    async with Dispatcher(router, control=control) as calls:
        session = await answered(calls)
        await until(lambda: bool(control.requests))
        await calls.receive(js("dialout-stopped"))
        await anyio.sleep(0.02)
        control.gate.set()
        with anyio.fail_after(5):
            await calls.settled(session)
    assert session.ended_by == "local"


async def test_accepted_requests_survive_a_restart(tmp_path: Path) -> None:
    """And a replay comes to the same end."""
    path = tmp_path / "calls"
    async with Dispatcher(Router(), control=GatedControl(), journal=SqliteJournal(path)) as calls:
        await answered(calls, "a")
        await answered(calls, "b")
        await calls.stop("a")
        await calls.transfer("b", BOB)
    async with Dispatcher(Router(), control=GatedControl(), journal=SqliteJournal(path)) as calls:
        for session_id in "ab":
            await calls.receive(js("dialout-stopped", session_id))
        known = [calls.session(session_id) for session_id in "ab"]
    again = [replayed(path).session(session_id) for session_id in "ab"]
    for one, other in (known, again):
        assert one is not None
        assert other is not None
        assert (one.ended_by, one.cause) == ("local", "completed")
        assert (other.ended_by, other.cause) == ("remote", "transferred")


async def test_a_transfer_that_failed_is_an_event(tmp_path: Path) -> None:
    """Handlers learn it, a replay knows it, and it counts after the end too."""
    router, heard = Router(), list[object]()

    @router.on(TransferFailed)
    async def learn(event: TransferFailed, session: Session) -> None:
        heard.append((event.reason, session.transfers))

    path = tmp_path / "calls"
    async with Dispatcher(router, control=GatedControl(), journal=SqliteJournal(path)) as calls:
        session = await answered(calls, "a")
        await calls.transfer(session, BOB)
        assert (await calls.transfer_failed(session, BOB, "486 Busy Here")).kind == "noted"
        await calls.receive(js("dialout-stopped", "a"))
        assert (await calls.transfer_failed("a", "sip:carol@example.com")).kind == "noted"
    assert heard[0] == ("486 Busy Here", ((BOB, "not-reached"),))
    again = replayed(path).session("a")
    assert again is not None
    for one in (session, again):
        assert (one.cause, one.transferred_to, one.amended) == ("completed", None, True)
        assert one.transfers == ((BOB, "not-reached"), ("sip:carol@example.com", "not-reached"))


# --- callers on hold ----------------------------------------------------------------------------------------------


def caller(call_id: str | None = "c", **more: Any) -> dict[str, Any]:
    """The event of a caller on hold."""
    return js("pinless-dialin", None, callId=call_id, callDomain="d", From="+12025550142", To="+12025550199", **more)


async def test_a_forwarded_caller_is_linked_to_their_session() -> None:
    """By the endpoint on which they arrive."""
    control = GatedControl()
    async with Dispatcher(Router(), control=control) as calls:
        event = (await calls.receive(caller())).event
        assert isinstance(event, PinlessDialin)
        await calls.receive(READY)
        await calls.forward(event, ROOM_URI)
        session = (await calls.receive(js("dialin-connected", sipEndpoint=ROOM_URI))).session
    assert control.requests == [("forward", "c", "d", ROOM_URI)]
    assert session is not None
    assert (session.caller, session.pinless_call_id) == ("+12025550142", "c")


async def test_a_caller_without_call_id_or_domain_cannot_be_forwarded() -> None:
    """Nothing is sent. Outside the block it is NotRunning."""
    control = GatedControl()
    async with Dispatcher(Router(), control=control) as calls:
        for event in (PinlessDialin(call_id="c"), PinlessDialin(call_domain="d")):
            with pytest.raises(ValueError, match="no callId or no callDomain"):
                await calls.forward(event, ROOM_URI)
    with pytest.raises(NotRunning):
        await calls.forward(PinlessDialin(call_id="c", call_domain="d"), ROOM_URI)
    assert control.requests == []


@pytest.mark.parametrize(
    "uri", [ROOM_URI, ROOM_URI[4:], f"{ROOM_URI}?x-daily_display_name=a", ROOM_URI.upper()[:3] + ROOM_URI[3:]]
)
async def test_wait_ready_returns_the_endpoint_once_it_is_ready(uri: str) -> None:
    """In any spelling of its URI."""
    found: list[Any] = []

    async def wait(calls: Dispatcher) -> None:
        found.append(await calls.wait_ready(uri, 5))

    async with Dispatcher(Router()) as calls, anyio.create_task_group() as group:
        group.start_soon(wait, calls)
        group.start_soon(wait, calls)
        with anyio.move_on_after(0.02) as cancelled:
            await calls.wait_ready(uri)
        assert cancelled.cancelled_caught
        with pytest.raises(TimeoutError):
            await calls.wait_ready(uri, 0.01)
        assert calls.sizes()["waiters"] == 2
        await calls.receive({**READY, "sipEndpoint": "sip:other@example.sip.daily.co"})
        await calls.receive(READY)
        await until(lambda: len(found) == 2)
        assert calls.sizes()["waiters"] == 0
        assert await calls.wait_ready(uri, 0.01) is found[0] is found[1] is calls.endpoint(ROOM_URI)
        await calls.receive({"action": "meeting-ended", "room": "none"})
    with pytest.raises(NotRunning):
        await calls.wait_ready(uri)


async def test_wait_ready_waits_for_a_known_endpoint_that_was_never_ready() -> None:
    """A session was on it, but no event said that it can be dialled."""
    async with Dispatcher(Router()) as calls:
        await calls.receive(js("dialin-connected", sipEndpoint=ROOM_URI))
        await calls.receive(js("dialin-stopped", sipEndpoint=ROOM_URI))
        assert calls.endpoint(ROOM_URI) is not None
        with pytest.raises(TimeoutError):
            await calls.wait_ready(ROOM_URI, 0.01)
        await calls.receive(READY)
        assert (await calls.wait_ready(ROOM_URI, 1)).ready


async def test_wait_ready_finds_the_ready_one_of_two_entries_of_an_endpoint() -> None:
    """A source that does not know the room reported sessions on it, but not that it is ready."""
    async with Dispatcher(Router()) as calls:
        await calls.receive(js("dialin-connected", sipEndpoint=ROOM_URI, callClientId="k"))
        await calls.receive(js("dialin-stopped", sipEndpoint=ROOM_URI, callClientId="k"))
        await calls.receive({**READY, "room": "room"})
        assert (await calls.wait_ready(ROOM_URI, 1)).ready


async def test_wait_ready_raises_not_running_when_the_dispatcher_is_left() -> None:
    """The waiting task runs outside the block."""
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


async def test_each_caller_on_hold_has_a_lane() -> None:
    """A handler that waits for an endpoint blocks neither other callers nor `receive`."""
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
