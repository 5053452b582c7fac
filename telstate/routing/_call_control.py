"""CallControl on calls: what a program asks of Daily, and what telstate then knows of it.

What Daily accepted becomes an event of our own, so that the journal, a replay and the session's `ended_by` know that we asked.
The call's own events may be here before Daily's answer is; the order does not matter, only `on_end` may then have been told
less than is known a moment later (`session.amended`). Whoever cannot have that waits for `settled` first.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import anyio

from telstate.calls._outcome import Outcome
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
    UnknownResult,
)
from telstate.events import (
    Direction,
    Event,
    PinlessDialin,
    PinlessForwarded,
    Presence,
    PresenceChecked,
    StopRequested,
    TransferRequested,
)
from telstate.events._masking import mask
from telstate.options import Dtmf, Refer, Transfer
from telstate.routing._cancellation import current_task, forgive_cancellation, is_cancelled
from telstate.routing._log import Log, text_of
from telstate.routing._payload import Payload
from telstate.routing._ports import Control
from telstate.routing._runner import IN_HANDLER

__all__ = ["CallControl", "is_gone"]

_OWN_END = 10.0
"""Seconds in which the end of a session, that Daily knows no more, is still expected to be told by its own event."""
_LAST_WORD = 5.0
"""Seconds from then on in which somebody may still speak for it, besides those that whoever is asked may take."""


class CallControl:
    """The part of a dispatcher that acts on calls, by its `control`.

    All methods take a session or its id, return once Daily has accepted, and raise:
        CallEnded: if the session has ended. Nothing was sent then, unless only Daily knew of it.
        NoSuchSession: if no session of that id is known here. Nothing was sent.
        DailyError: if Daily refused; the subclass says why. `UnknownResult` if its answer was lost.
        NotSupported: if the `control` cannot carry it. Nothing was sent.
        ValueError: if an argument is none that Daily takes. Nothing was sent.
        TypeError: if it is no session. Nothing was sent.
        JournalError: if Daily accepted, but the journal could not keep that.
        DefinitionError: if the dispatcher has no `control`.
        NotRunning: outside the `async with`.
    """

    def __init__(
        self, control: Control | None, sleep: Callable[[float], Awaitable[None]], answers_within: float = 0.0
    ) -> None:
        self._control = control
        self._sleep = sleep
        self._last_word = answers_within + _LAST_WORD
        self._log = Log()
        self._asked: dict[str, list[anyio.Event]] = {}
        """Sessions for which Daily was asked something, until it answers."""
        self._denied: dict[str, _Signs] = {}
        """Sessions that Daily knows no more, and whose end is awaited: their signs of life when it said so last."""

    @abstractmethod
    def session(self, session_id: str) -> Session | None:
        """Find a session."""

    @abstractmethod
    async def receive(self, payload: Payload) -> Outcome:
        """Take in one event."""

    @abstractmethod
    def _spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: object) -> None:
        """Run something in a task of the dispatcher's.

        Raises:
            NotRunning: if it was left.
        """

    @abstractmethod
    def _check_open(self) -> None:
        """Raise `NotRunning` where nothing is taken in."""

    async def stop(self, session: Session | str) -> None:
        """End a session. Its end is then `local`; it comes with Daily's event, as any other end."""
        known = self._acted_on(session)
        request = partial(self._controlled().stop, known)
        # Who dialled in is stopped by ejecting a participant, and is none before media flows.
        surely = known.direction is Direction.DIALOUT
        await self._see_through(
            known.session_id, partial(self._there, known, request, surely), StopRequested(session_id=known.session_id)
        )

    async def send_dtmf(self, session: Session | str, tones: str | Dtmf) -> None:
        """Press keys, to find the way through somebody's menu.

        Args:
            session: whose.
            tones: up to 20 of `0` to `9`, `*`, `#`, `A` to `D`; or a `Dtmf`, for the method and the length of each.
        """
        known = self._acted_on(session)
        dtmf = tones if isinstance(tones, Dtmf) else Dtmf(tones=tones)
        await self._there(known, partial(self._controlled().send_dtmf, known, dtmf))

    async def transfer(self, session: Session | str, to: str | Transfer) -> None:
        """Hand a session on; Daily stays in its path, and both legs are billed. It then ends as `transferred`.

        Args:
            session: who is handed on.
            to: a SIP URI (also of another room) or a number in E.164; or a `Transfer`, for the caller id and an extension.
        """
        known = self._acted_on(session)
        transfer = to if isinstance(to, Transfer) else Transfer(to_end_point=to)
        request = partial(self._controlled().transfer, known, transfer)
        event = _transferred(known, transfer.to_end_point)
        await self._see_through(known.session_id, partial(self._there, known, request), event)

    async def refer(self, session: Session | str, to: str | Refer) -> None:
        """Hand a SIP session on to another SIP URI by REFER; Daily leaves its path. It then ends as `transferred`."""
        known = self._acted_on(session)
        refer = to if isinstance(to, Refer) else Refer(to_end_point=to)
        request = partial(self._controlled().refer, known, refer)
        event = _transferred(known, refer.to_end_point)
        await self._see_through(known.session_id, partial(self._there, known, request), event)

    async def forward(self, caller: PinlessDialin, sip_endpoint: str) -> None:
        """Connect a caller on hold to a SIP endpoint, once that is ready: see `wait_ready`. Before, the call would be dropped.

        Raises what all raise, and `ForwardingFailed`: the caller has hung up, or the endpoint is not ready or in use.
        """
        if not isinstance(caller, PinlessDialin):
            raise TypeError(f"forward takes the PinlessDialin that told of the caller, not {type(caller).__name__}")
        if caller.call_id is None or caller.call_domain is None:
            raise ValueError(
                "this caller cannot be forwarded: the request that told of him had no callId or no callDomain"
            )
        request = partial(self._controlled().forward, caller.call_id, caller.call_domain, sip_endpoint)
        forwarded = PinlessForwarded(call_id=caller.call_id, sip_endpoint=sip_endpoint)
        await self._see_through(caller.call_id, request, forwarded)

    async def settled(self, session: Session) -> None:
        """Wait until Daily has answered whatever was asked of it for a session: from then on it is known who ended it."""
        await self._answers(session.session_id)

    @contextmanager
    def tracking_request(self, session_id: str) -> Iterator[None]:
        """Around a request about a session that is made otherwise, as a dialer's: `settled` waits for it too."""
        asked = anyio.Event()
        waiting = self._asked.setdefault(session_id, [])
        waiting.append(asked)
        try:
            yield
        finally:
            asked.set()
            waiting.remove(asked)
            if not waiting:
                del self._asked[session_id]

    async def _answers(self, key: str) -> None:
        for asked in tuple(self._asked.get(key, ())):
            await asked.wait()

    async def _see_through(self, key: str, request: Callable[[], Awaitable[None]], event: Event) -> None:
        """Ask, and know that Daily accepted, in a task of its own. Whoever waits for that may be cancelled, perhaps by the very
        end that he asked for; but what was sent is sent, and its answer must be known."""
        asked = _Asked()
        asking = ExitStack()
        asking.enter_context(self.tracking_request(key))  # from now on: the task begins a moment later
        try:
            self._spawn(self._ask, asked, asking, request, event)
        except NotRunning:
            asking.close()
            raise
        try:
            await asked.answered.wait()
        except BaseException:
            asked.abandoned = True
            if asked.answered.is_set():
                self._tell_of_abandoned(asked, event)
            raise
        if asked.error is not None:
            raise asked.error

    async def _ask(
        self, asked: _Asked, asking: ExitStack, request: Callable[[], Awaitable[None]], event: Event
    ) -> None:
        IN_HANDLER.set(True)  # so that it is taken in while handlers finish, whoever asked
        asked.error = NotRunning("the dispatcher was left before Daily answered: whether it was done is not known")
        try:
            with asking:
                await request()
                await forgive_cancellation(current_task())  # or what Daily accepted would not be kept
                await self.receive(event)
            asked.error = None
        except Exception as error:
            asked.error = error
        except anyio.get_cancelled_exc_class() as error:
            if is_cancelled():
                raise
            # By what the control waited for: on asyncio a task that ends so ends its whole group, and the dispatcher with it.
            asked.error = UnknownResult(f"the control was cancelled by itself: {error!r}; it may have been done")
        finally:
            asked.answered.set()
            if asked.abandoned:
                self._tell_of_abandoned(asked, event)

    def _tell_of_abandoned(self, asked: _Asked, event: Event) -> None:
        if asked.error is not None:
            self._log.warning("call.not_acted", what=event.name, error=mask(text_of(asked.error)))

    def _acted_on(self, session: Session | str) -> Session:
        self._check_open()
        self._controlled()
        if not isinstance(session, (Session, str)):
            hint = " (of a DialResult, its session)" if hasattr(session, "session") else ""
            raise TypeError(f"give a Session or its id{hint}, not {type(session).__name__}")
        known = session if isinstance(session, Session) else self.session(session)
        if known is None:
            raise NoSuchSession(f"no session {session!r} is known here: it is too long ago, or nothing told of it yet")
        if known.ended:
            raise CallEnded(known)
        return known

    async def _there(self, session: Session, request: Callable[[], Awaitable[None]], surely: bool = False) -> None:
        """Ask. Daily may know of the end before we do: that is no other thing than to know it ourselves.

        What a denial says of a session of which no media flows is not documented, unless it is `surely` of one that rings too.
        """
        try:
            await request()
        except DailyError as error:
            if not is_gone(error) or (isinstance(error, NotHosting) and session.room is None):
                raise  # in a room that no event told, nobody has to be
            elsewhere = error.status is not None and session.room is None
            if (surely or session.state is State.ANSWERED) and not elsewhere:
                self._doubt(session)
            raise CallEnded(session, f"is not there any more: {error}") from error

    def _doubt(self, session: Session) -> None:
        """Daily denied it."""
        known = session.session_id in self._denied
        self._denied[session.session_id] = _signs(session)
        if not known:
            try:
                self._spawn(self._conclude, session)
            except NotRunning:
                del self._denied[session.session_id]

    async def _conclude(self, session: Session) -> None:
        """Daily knows it no more, so it has ended, though its end was lost. Its event tells more: that is waited for first. Any
        news speaks for it, unless it was denied after that, too."""
        session_id, known = session.session_id, None
        try:
            while not session.ended and self._denied[session_id] != known:
                known = self._denied[session_id]
                await self._sleep(_OWN_END)
                if _signs(session) == known:
                    # As if somebody had been asked: what is heard before the answer wins over it.
                    await self.receive(PresenceChecked(session_id=session_id, presence=Presence.UNKNOWN))
                    await self._sleep(self._last_word)
                    await self.receive(PresenceChecked(session_id=session_id, presence=Presence.GONE))
        except (NotRunning, JournalError) as error:
            hint = "it ends by its own event, when it is denied again, or by the silence limit"
            self._log.info("call.not_concluded", session_id=session_id, error=mask(text_of(error)), hint=hint)
        finally:
            del self._denied[session_id]

    def _controlled(self) -> Control:
        self._check_open()
        if self._control is None:
            raise DefinitionError(
                "to act on calls a dispatcher needs a way to Daily: Dispatcher(router, control=RestControl(api)) or"
                " ClientControl(client), both in telstate.control"
            )
        return self._control


_Signs = tuple[float | None, float | None]


def _signs(session: Session) -> _Signs:
    """When it was heard of, or known to be there, last."""
    return session.heard_at, session.alive_at


def is_gone(error: Exception) -> bool:
    """Whether Daily says that there is no such call. With its meeting every call of a room ends; but a call client that is in no
    call says so of itself, not of the room."""
    return isinstance(error, NoSuchSession) or (isinstance(error, NotHosting) and error.status is not None)


class _Asked:
    """One request."""

    def __init__(self) -> None:
        self.answered = anyio.Event()
        self.error: Exception | None = None
        self.abandoned = False
        """True if nobody waits for it any more."""


def _transferred(session: Session, to: str) -> Event:
    return TransferRequested(session_id=session.session_id, to_endpoint=to)
