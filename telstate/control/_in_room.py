"""What daily-python's call client and pipecat's transport have in common: acting on calls from inside the room.

Both have methods with the same names that take the same dicts; `ClientControl` and `TransportControl` differ only in how an answer
comes back. Source of names, dicts and answers: daily-python 0.36 (its type stubs, its docs, and what it answers without a joined
room), pipecat-ai 1.14.

Daily's answer is returned or raised; no event is made of it. `DailyEvents.completion` and `PipecatEvents.start_dialout` make events
of their own starts. For a start made here, the caller does that, as the dialer does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from telstate.calls._session import Session
from telstate.control._call_transport import RoomParticipant, presence_if_absent
from telstate.control._dropped_options import IN_ROOM, refuse_dropped
from telstate.control._error_mapping import ADVICE, meaning_of, one_line
from telstate.errors import DailyError, DefinitionError, NotHosting, NotSupported, TelstateError, UnknownResult
from telstate.events import Direction, Presence
from telstate.options import Dialout, Dtmf, Refer, Transfer
from telstate.options._base import Options
from telstate.routing._clock import SystemClock
from telstate.routing._ports import Clock

__all__ = ["InRoom", "failed", "unknown"]


class InRoom(ABC):
    """A `CallTransport` that acts through an object in the room. Needs asyncio, as daily-python and pipecat do.

    All methods but `reconcile` raise:
        DailyError: if Daily refused; the subclass says why: see `telstate.errors`. `NotHosting` if no room was joined. Also if the
            method itself fails, for example because the client was released; nothing was sent then.
        UnknownResult: if no answer came in time, or none that can be read.
        NotSupported: if this transport, or the installed version, cannot carry it. Nothing was sent.
        RuntimeError: outside asyncio. Nothing was sent.

    Args:
        target: the call client or transport.
        timeout: seconds of real time to wait for an answer. daily-python itself gives a start 20.
        clock: the dispatcher's clock, if it has one of its own: `reconcile` compares times of sessions with it.

    Raises:
        DefinitionError: if the timeout is not above 0.
    """

    _missing: ClassVar[Mapping[str, str]] = {}
    """What to say if a method is missing for another reason than an old version."""

    def __init__(self, target: Any, timeout: float, clock: Clock | None) -> None:
        if not timeout > 0:
            raise DefinitionError(f"timeout={timeout!r} must be a number of seconds to wait for an answer, above 0")
        self._target = target
        self._timeout = timeout
        self._clock = clock or SystemClock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self._target).__name__})"

    @abstractmethod
    async def _call(self, name: str, argument: Any) -> tuple[Any, ...]:
        """Call a method; return what daily-python passes to a completion: the error; for a start, the session id and the error."""

    async def start(self, options: Dialout, room: str | None = None) -> str:  # noqa: ARG002 - it is in its room
        """Start a dial-out; return its session id. The room is always the one that was joined."""
        self._refuse_dropped(options)
        answer = await self._call("start_dialout", options.body())
        session_id, error = answer if len(answer) == 2 else (None, None)
        if error is not None:
            raise _refused("start_dialout", error)
        if not isinstance(session_id, str) or not session_id:
            raise unknown("start_dialout", "accepted, but without a session id")
        return session_id

    async def presence(self, room: str | None = None) -> tuple[RoomParticipant, ...]:  # noqa: ARG002 - as above
        """List the participants of the room that was joined, including this client. Unlike REST's list it is up to date.

        Without a joined room it raises `NotHosting`, rather than return an empty list.
        """
        problem = await self._check_in_call()  # first: during a join it takes as long as the join
        if isinstance(problem, NotHosting):
            raise problem
        if isinstance(problem, UnknownResult):
            raise DailyError(f"this client does not say whether it is in a call: {problem.info}", info=problem.info)
        return self._participants()

    async def stop(self, session: Session) -> None:
        """End a session: a dial-out is stopped, a dial-in is ejected."""
        if session.direction is Direction.DIALOUT:
            await self._do("stop_dialout", session.session_id)
        else:
            await self._do("eject_remote_participants", [session.session_id])

    async def send_dtmf(self, session: Session, dtmf: Dtmf) -> None:
        """Press keys."""
        self._refuse_dropped(dtmf)
        await self._do("send_dtmf", {"sessionId": session.session_id, **dtmf.body()})

    async def transfer(self, session: Session, transfer: Transfer) -> None:
        """Transfer a session to a SIP URI or a number. Daily stays in the call's path."""
        self._refuse_dropped(transfer)
        await self._do("sip_call_transfer", {"sessionId": session.session_id, **transfer.body()})

    async def refer(self, session: Session, refer: Refer) -> None:
        """Transfer a SIP session to a SIP URI by REFER. Daily leaves the call's path."""
        self._refuse_dropped(refer)
        await self._do("sip_refer", {"sessionId": session.session_id, **refer.body()})

    async def forward(self, call_id: str, call_domain: str, sip_endpoint: str) -> None:  # noqa: ARG002 - refused
        """Not supported: only REST can connect a caller on hold. `ClientControl` shows how to combine both."""
        raise NotSupported(
            "a call client cannot forward a caller on hold, only Daily's REST API can: call RestControl(api).forward, or"
            " subclass this class with a forward that does; ClientControl's docstring shows how"
        )

    async def reconcile(self, session: Session) -> Presence:
        """Check whether a session still exists: for a dispatcher's `reconcile=`. Never raises.

        Only for sessions of the room that was joined: if a dispatcher receives events of several rooms, choose by the session which
        control to ask. A participant is alive. A session that is no participant is gone only if this client is in a call (a client
        that has left sees nobody) and if media flowed or no event came for ten minutes: a call that rings is no participant.
        """
        try:
            if self._has(session):
                return Presence.ALIVE
            presence = presence_if_absent(session, 0.0, self._clock.now())
            if presence is Presence.GONE and await self._check_in_call() is None:
                # Checked before and after, it was missing while this client was in a call, not before a join or after a leave.
                return Presence.ALIVE if self._has(session) else presence
        except Exception:  # noqa: S110 - no exception says anything about the session
            pass
        return Presence.UNKNOWN

    def _refuse_dropped(self, options: Options) -> None:
        refuse_dropped(f"a call client ({type(self).__name__})", IN_ROOM, options)

    def _method(self, name: str) -> Any:
        method = getattr(self._target, name, None)
        if method is None:
            hint = self._missing.get(name, "install a newer version of its package, or use RestControl(api)")
            raise NotSupported(f"{type(self._target).__name__} has no {name}: {hint}")
        return method

    async def _do(self, name: str, argument: Any) -> None:
        answer = await self._call(name, argument)
        if len(answer) != 1:
            raise unknown(name, "the answer cannot be read")
        if answer[0] is not None:
            raise _refused(name, answer[0])

    async def _check_in_call(self) -> TelstateError | None:
        """Return None if this client is in a call, `NotHosting` if not, or the error that keeps us from knowing.

        daily-python has no method for this: `participants()` lists the client itself both inside and outside a call. So it is asked
        to update no participant, which it refuses outside a call, like every request. During a join requests wait (measured).
        """
        try:
            await self._do("update_remote_participants", {})
        except (DailyError, NotSupported) as error:
            return error
        return None

    def _has(self, session: Session) -> bool:
        return any(one.session_id == session.session_id for one in self._participants())

    def _participants(self) -> tuple[RoomParticipant, ...]:
        method = self._method("participants")
        try:
            answer = method()
        except Exception as error:
            raise failed("participants", error) from error
        if not isinstance(answer, Mapping):
            raise DailyError("participants: the answer is not a mapping of ids to participants")
        listed = (_participant(key, one) for key, one in answer.items() if isinstance(one, Mapping))
        return tuple(one for one in listed if one is not None)


def failed(name: str, error: Exception) -> DailyError:
    """Return the error for a method that raised before anything was sent."""
    text = one_line(str(error)) or type(error).__name__
    return DailyError(f"{name} was not sent: {text}", info=text)


def unknown(name: str, reason: str) -> UnknownResult:
    """Return the error for a request whose result is not known."""
    return UnknownResult(f"{name}: {reason}. {ADVICE[UnknownResult]}", info=reason)


def _refused(name: str, error: object) -> DailyError | NotSupported:
    """Return the error for a refusal: what was requested, what came, what to do."""
    info = one_line(str(error))
    meaning = meaning_of(info)
    shown = info.rstrip(".") or "refused, without a reason"
    text = f"{name}: Daily answered: {shown}. {meaning.advice}".rstrip()
    if issubclass(meaning.kind, DailyError):
        return meaning.kind(text, info=info or None)
    return NotSupported(f"{name}: the answer was: {shown}. {meaning.advice}")


def _participant(key: object, listed: Mapping[str, Any]) -> RoomParticipant | None:
    """Read a participant. The client itself is listed as `local`, so that only the value has its id."""
    session_id = listed.get("id", None if key == "local" else key)
    info = listed.get("info")
    info = info if isinstance(info, Mapping) else {}
    user_id, user_name = info.get("userId"), info.get("userName")
    if not isinstance(session_id, str):
        return None
    return RoomParticipant(
        session_id, user_id if isinstance(user_id, str) else None, user_name if isinstance(user_name, str) else None
    )
