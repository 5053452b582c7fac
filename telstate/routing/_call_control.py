"""Acting on calls: what a program asks of Daily, and what telstate then knows about it.

What Daily accepted becomes an event, so that the journal, a replay and the session's `ended_by` know that this program asked.
The call's own events may arrive before Daily's answer does; the order does not matter, only `on_end` may then have run with
less than is known a moment later (`session.amended`). A handler that cannot have that waits for `settled` first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup

from telstate.calls._address import plain_uri
from telstate.calls._caller import Caller, CallerState
from telstate.calls._notes import check_notes
from telstate.calls._session import Session
from telstate.calls._table import State
from telstate.errors import (
    CallEnded,
    DailyError,
    DefinitionError,
    JournalError,
    NoSuchSession,
    NotHosting,
    NotRunning,
    NotSupported,
    TemporarilyNotAvailable,
    UnknownResult,
)
from telstate.events import (
    Direction,
    Event,
    ForwardRefused,
    PinlessDialin,
    PinlessForwarded,
    SessionAnnotated,
    SipTrunkIncoming,
    StopRequested,
    TransferRequested,
)
from telstate.events._masking import mask
from telstate.events._sessionless import WaitingCaller
from telstate.options import Dialout, Dtmf, Refer, Transfer
from telstate.routing._across import Across
from telstate.routing._action_client import ActionClient
from telstate.routing._cancellation import current_task, forgive_cancellation, is_cancelled
from telstate.routing._handover import Handover
from telstate.routing._log import Log, text_of
from telstate.routing._ports import Control
from telstate.routing._presence import Reconciler, is_gone
from telstate.routing._sequencer import Sequencer

__all__ = ["CallControl"]


class CallControl:
    """Acts on sessions through a `Control`. `Dispatcher` says what its methods raise.

    Args:
        control: the way to Daily, if there is one.
        sequencer: has the sessions, and takes in what Daily accepted.
        reconciler: weighs Daily's word that a session is gone.
        across: has the sessions of others, too.
        client: asks those to act on them; None if there are no others.
    """

    def __init__(
        self,
        control: Control | None,
        sequencer: Sequencer,
        reconciler: Reconciler,
        across: Across,
        client: ActionClient | None = None,
    ) -> None:
        self._control = control
        self._sequencer = sequencer
        self._reconciler = reconciler
        self._across = across
        self._client = client
        self._group: TaskGroup | None = None
        self._under_way: dict[str, list[anyio.Event]] = {}
        """Requests that Daily has not answered, by session or caller."""
        self._log = Log()

    def open(self, group: TaskGroup) -> None:
        """Send requests from this task group from now on."""
        self._group = group

    def close(self) -> None:
        """Send nothing more."""
        self._group = None

    @property
    def busy(self) -> bool:
        """True while a request is under way."""
        return bool(self._under_way)

    async def stop(self, session: Session | str, reason: str | None = None) -> None:
        """End a session."""
        if (far := self._far(session)) is not None:
            if reason is not None:
                check_notes(far.notes, {"reason": reason})
            await self._ask(far, "stop", None if reason is None else {"reason": reason})
            return
        known = self._live(session)
        if reason is not None:
            check_notes(known.notes, {"reason": reason})
        request = partial(self._needed().stop, known)
        # A caller is stopped by ejecting their participant, and is no participant before media flows.
        sure = known.direction is Direction.DIALOUT
        event = StopRequested(session_id=known.session_id, reason=reason)
        await self._see_through(known.session_id, partial(self._on_session, known, request, sure), event)

    async def start(self, options: Dialout, room: str) -> str:
        """Start a dial-out in a room; return its session id."""
        start = getattr(self._needed(), "start", None)
        if start is None:
            raise DefinitionError(
                "the worker that owns the room's partition has a control that starts no calls: give each Worker a RestControl(api)"
            )
        session_id: str = await start(options, room)
        return session_id

    async def send_dtmf(self, session: Session | str, tones: str | Dtmf) -> None:
        """Press keys."""
        dtmf = tones if isinstance(tones, Dtmf) else Dtmf(tones=tones)
        if (far := self._far(session)) is not None:
            await self._ask(far, "send_dtmf", dtmf.body())
            return
        known = self._live(session)
        await self._on_session(known, partial(self._needed().send_dtmf, known, dtmf))

    async def transfer(self, session: Session | str, to: str | Transfer) -> None:
        """Transfer a session; Daily stays in its path."""
        transfer = to if isinstance(to, Transfer) else Transfer(to_end_point=to)
        if (far := self._far(session)) is not None:
            await self._ask(far, "transfer", transfer.body())
            return
        await self._transfer(self._live(session), self._needed().transfer, transfer)

    async def refer(self, session: Session | str, to: str | Refer) -> None:
        """Transfer a session by REFER; Daily leaves its path."""
        refer = to if isinstance(to, Refer) else Refer(to_end_point=to)
        if (far := self._far(session)) is not None:
            await self._ask(far, "refer", refer.body())
            return
        await self._transfer(self._live(session), self._needed().refer, refer)

    def _far(self, session: Session | str) -> Session | None:
        """Return a session that others have to act on; None if this dispatcher does.

        Raises:
            CallEnded: if it has ended.
        """
        far = self._across.far(session)
        if far is not None and far.ended:
            raise CallEnded(far)
        return far

    async def _ask(self, session: Session, verb: str, argument: dict[str, Any] | None) -> None:
        assert self._client is not None  # noqa: S101
        with self.tracking_request(session.session_id):
            await self._client.ask(session, verb, argument)

    async def _transfer(self, session: Session, send: Callable[..., Awaitable[None]], target: Transfer | Refer) -> None:
        request = partial(self._on_session, session, partial(send, session, target))
        event = TransferRequested(session_id=session.session_id, to_endpoint=target.to_end_point)
        await self._see_through(session.session_id, request, event)

    async def forward(self, caller: PinlessDialin, sip_endpoint: str) -> None:
        """Connect a caller on hold to a SIP endpoint."""
        _check_is_no_trunk(caller)
        control = self._needed()
        if not isinstance(caller, PinlessDialin):
            raise TypeError(f"forward takes the caller's PinlessDialin event, not {type(caller).__name__}")
        if caller.call_id is None or caller.call_domain is None:
            raise ValueError("this caller cannot be forwarded: their request had no callId or no callDomain")
        request = partial(control.forward, caller.call_id, caller.call_domain, sip_endpoint)
        room, own = self._across.room_of(sip_endpoint), self._sequencer.engine.caller(caller.call_id)
        if _is_forwarded(own, sip_endpoint):
            return
        forwarded = PinlessForwarded(call_id=caller.call_id, sip_endpoint=sip_endpoint)
        is_own = own is not None and not own.is_elsewhere
        if room is None and (is_own or self._across.caller_elsewhere(caller.call_id) is None):
            await self._see_through(
                caller.call_id, partial(self._forwarding, caller.call_id, sip_endpoint, request), forwarded
            )
            return
        handover = Handover(self._across, caller, forwarded, room)
        if _is_forwarded(handover.known, sip_endpoint):  # and this program ended before all of them knew
            await handover.tell()
            return
        sending = partial(self._forwarding, caller.call_id, sip_endpoint, request)
        await self._see_through(caller.call_id, sending, handover.tell)

    async def _forwarding(self, call_id: str, sip_endpoint: str, request: Callable[[], Awaitable[None]]) -> None:
        """Send the request to forward a caller. Daily's refusal becomes an event; what can be tried again is none."""
        try:
            await request()
        except (UnknownResult, TemporarilyNotAvailable):
            raise
        except DailyError as error:
            if not error.repeated and (error.status is None or error.status < 500):
                await self._note_refusal(
                    ForwardRefused(call_id=call_id, sip_endpoint=sip_endpoint, error=text_of(error))
                )
            raise

    async def _note_refusal(self, refused: ForwardRefused) -> None:
        is_own = self._across.own_caller(refused.call_id) is not None
        far = None if is_own else self._across.caller_elsewhere(refused.call_id)
        try:
            await (self._across.submit(refused) if far is None else self._across.publish(far, refused))
        except (JournalError, NotRunning) as error:  # the program gets Daily's error all the same
            hint = "the caller is lost when the hold limit passes"
            self._log.error("forward.refusal_not_kept", error=str(error), hint=hint)

    @contextmanager
    def tracking_request(self, key: str) -> Iterator[None]:
        """Around a request about a session: `settled` waits until it has an answer."""
        answered = anyio.Event()
        waiting = self._under_way.setdefault(key, [])
        waiting.append(answered)
        try:
            yield
        finally:
            answered.set()
            waiting.remove(answered)
            if not waiting:
                del self._under_way[key]

    async def settled(self, key: str) -> None:
        """Wait until Daily has answered every request about a session or a caller."""
        for answered in tuple(self._under_way.get(key, ())):
            await answered.wait()

    async def idle(self) -> None:
        """Wait until Daily has answered a request, if one is under way."""
        for key in tuple(self._under_way)[:1]:
            await self.settled(key)

    # --- requests -------------------------------------------------------------------------------------------------

    async def _see_through(
        self, key: str, request: Callable[[], Awaitable[None]], event: Event | Callable[[], Awaitable[None]]
    ) -> None:
        """Send a request, and take in the event once Daily accepted, in a task of its own. Or call a function that does.

        The caller may be cancelled meanwhile, perhaps by the very end that it asked for; but a request that was sent has an
        answer, and that must be known.
        """
        if self._group is None:
            raise NotRunning("the dispatcher was left")
        sent = _Request()
        tracking = ExitStack()
        tracking.enter_context(self.tracking_request(key))  # from now on: the task begins a moment later
        self._group.start_soon(self._send, sent, tracking, request, event)
        try:
            await sent.answered.wait()
        except BaseException:
            sent.abandoned = True
            if sent.answered.is_set():
                self._say_abandoned(sent, event)
            raise
        if sent.error is not None:
            raise sent.error

    async def _send(
        self,
        sent: _Request,
        tracking: ExitStack,
        request: Callable[[], Awaitable[None]],
        event: Event | Callable[[], Awaitable[None]],
    ) -> None:
        sent.error = NotRunning("the dispatcher was left before Daily answered: it may have been done, or not")
        try:
            with tracking:
                await request()
                await forgive_cancellation(current_task())  # or what Daily accepted would not be kept
                await (self._sequencer.submit_events(event) if isinstance(event, Event) else event())
            sent.error = None
        except Exception as error:
            sent.error = error
        except anyio.get_cancelled_exc_class() as error:
            if is_cancelled():
                raise
            # By what the control waited for. On asyncio a task that ends so ends its whole group, and the dispatcher with it.
            sent.error = UnknownResult(
                f"the control cancelled itself: {error!r}; the request may have been carried out"
            )
        finally:
            sent.answered.set()
            if sent.abandoned:
                self._say_abandoned(sent, event)

    def _say_abandoned(self, sent: _Request, event: Event | Callable[[], Awaitable[None]]) -> None:
        if sent.error is not None:
            what = event.name if isinstance(event, Event) else PinlessForwarded.name
            self._log.warning("call.request_failed", what=what, error=mask(text_of(sent.error)))

    async def _on_session(self, session: Session, request: Callable[[], Awaitable[None]], sure: bool = False) -> None:
        """Send a request about a session. Daily may know of its end before we do; that is the same as knowing it ourselves.

        What a denial means where no media flows is not documented, unless it is `sure` that Daily knows those sessions too.
        """
        try:
            await request()
        except DailyError as error:
            if not is_gone(error) or (isinstance(error, NotHosting) and session.room is None):
                raise  # nobody has to be in a room that no event named
            elsewhere = error.status is not None and session.room is None
            if (sure or session.state is State.ANSWERED) and not elsewhere:
                self._reconciler.deny(session)
            raise CallEnded(session, f"is not there any more: {error}") from error

    def _live(self, session: Session | str) -> Session:
        """Return a session that is to be acted on."""
        self._needed()
        known = self.known(session)
        if known.ended:
            raise CallEnded(known)
        return known

    def known(self, session: Session | str) -> Session:
        """Return a session, live or ended.

        Raises:
            NoSuchSession: if it is none that is known.
        """
        if not isinstance(session, (Session, str)):
            hint = " (of a DialResult, its session)" if hasattr(session, "session") else ""
            raise TypeError(f"pass a Session or its id{hint}, not {type(session).__name__}")
        known = session if isinstance(session, Session) else self._sequencer.engine.session(session)
        if known is None:
            raise NoSuchSession(
                f"no session {session!r} is known here: it ended too long ago, or no event has named it yet"
            )
        return known

    def annotation(
        self, subject: Session | Caller | WaitingCaller | str, notes: Mapping[str, Any]
    ) -> tuple[SessionAnnotated, Session | Caller | None]:
        """Make the event of notes about a session, or about a waiting caller; and return which of others' it is about.

        Raises:
            ValueError: if the notes are not JSON, or too long with those that are known.
            NoSuchSession: if neither is known.
        """
        if not isinstance(subject, (Caller, WaitingCaller)):
            far = self._across.far(subject)
            session = far or self.known(subject.session_id if isinstance(subject, Session) else subject)
            return SessionAnnotated(session_id=session.session_id, notes=check_notes(session.notes, notes)), far
        engine = self._sequencer.engine
        caller = engine.caller(subject.call_id) if isinstance(subject, Caller) else engine.caller_of(subject)
        place = None
        if (caller is None or caller.is_elsewhere) and subject.call_id is not None:
            place = self._across.caller_elsewhere(subject.call_id)
            caller = place or caller
        if caller is None:
            raise NoSuchSession(
                f"no caller with the call id {subject.call_id!r} is known here: they were on hold too long ago"
            )
        became = engine.session(caller.session_id or "")
        known = caller.notes if became is None else became.notes
        return SessionAnnotated(call_id=caller.call_id, notes=check_notes(known, notes)), place

    def _needed(self) -> Control:
        if self._control is None:
            raise DefinitionError(
                "to act on calls a dispatcher needs a way to Daily: Dispatcher(router, control=RestControl(api)) or"
                " ClientControl(client), both in telstate.control"
            )
        return self._control


def _is_forwarded(known: Caller | None, sip_endpoint: str) -> bool:
    """Return whether Daily accepted this already: a handler that runs again after a crash asks again."""
    if known is None or known.forwarded_to is None:
        return False
    held = known.state in (CallerState.FORWARDED, CallerState.CONNECTED)
    return held and plain_uri(known.forwarded_to) == plain_uri(sip_endpoint)


def _check_is_no_trunk(caller: object) -> None:
    if not isinstance(caller, SipTrunkIncoming) and not (isinstance(caller, Caller) and caller.via_trunk):
        return
    room = "the room that Daily made for them" if caller.room is None else f"the room {caller.room!r}"
    raise NotSupported(
        f"a caller on a SIP trunk is not forwarded: join {room}, and Daily connects them to it by itself"
    )


class _Request:
    """One request to Daily."""

    def __init__(self) -> None:
        self.answered = anyio.Event()
        self.error: Exception | None = None
        self.abandoned = False
        """True if nobody waits for it any more."""
