"""What acting on calls from inside their room has in common: daily-python's call client and pipecat's transport.

Both have methods of the same names that take the same dicts, by which `ClientControl` and `TransportControl` differ only in
how an answer comes back. Source of names, dicts and answers: daily-python 0.36 (its type stubs, its docs, and what it answers
where no room was joined), pipecat-ai 1.14.

What Daily answers is returned or raised, and told to nobody else. `DailyEvents.completion` and `PipecatEvents.start_dialout`
tell a dispatcher of their own starts: a start made here is told by whoever makes it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from telstate.calls._session import Session
from telstate.control._call_transport import RoomParticipant, when_absent
from telstate.control._error_mapping import ADVICE, error_type_of, one_line
from telstate.errors import DailyError, DefinitionError, NotHosting, NotSupported, TelstateError, UnknownResult
from telstate.events import Direction, Presence
from telstate.options import Dialout, Dtmf, Refer, Transfer

__all__ = ["InRoom", "failed", "unknown"]


class InRoom(ABC):
    """A `CallTransport` by something that is in the room. Needs asyncio, as daily-python's and pipecat's users do.

    All methods but `reconcile` raise:
        DailyError: if Daily refused; the subclass says why: see `telstate.errors`. `NotHosting` where no room was joined. Also if
            the call itself fails, for example because the client was released; nothing was sent then.
        UnknownResult: if no answer came in time, or none that can be read.
        NotSupported: if this way, or the installed version, cannot carry it. Nothing was sent.
        ValueError: if an argument is none that Daily takes. Nothing was sent.
        RuntimeError: if asyncio does not run it. Nothing was sent.

    Args:
        through: what has the methods.
        timeout: seconds to wait for an answer. daily-python gives a start 20 itself.

    Raises:
        DefinitionError: if the timeout is not above 0.
    """

    _missing: ClassVar[Mapping[str, str]] = {}
    """What to say where a method is missing, if there is more to it than an old version."""

    def __init__(self, through: Any, timeout: float) -> None:
        if not timeout > 0:
            raise DefinitionError(f"timeout is the seconds to wait for an answer, above 0, not {timeout!r}")
        self._through = through
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self._through).__name__})"

    @abstractmethod
    async def _ask(self, name: str, argument: Any) -> tuple[Any, ...]:
        """Call a method; return what daily-python's completion gets: the error, for a start the session id before it."""

    async def start(self, options: Dialout, room: str | None = None) -> str:  # noqa: ARG002 - it is in its room
        """Start a dial-out; return its session id. The room is the one that was joined, whichever is given."""
        answer = await self._ask("start_dialout", options.body())
        session_id, error = answer if len(answer) == 2 else (None, None)
        if error is not None:
            raise _refused("start_dialout", error)
        if not isinstance(session_id, str) or not session_id:
            raise unknown("start_dialout", "accepted, but told no id")
        return session_id

    async def presence(self, room: str | None = None) -> tuple[RoomParticipant, ...]:  # noqa: ARG002 - as above
        """Tell who is in the room that was joined, this client among them. It is not late, as REST's may be.

        Raises what all raise; where no room was joined `NotHosting`, and not an answer that nobody is there.
        """
        trouble = await self._not_in_a_call()  # first: while it joins, this takes as long as that does
        if isinstance(trouble, NotHosting):
            raise trouble
        if isinstance(trouble, UnknownResult):
            raise DailyError(f"this client does not say whether it is in a call: {trouble.info}", info=trouble.info)
        return self._there()

    async def stop(self, session: Session) -> None:
        """End a session: a dial-out is stopped, who dialled in is ejected."""
        if session.direction is Direction.DIALOUT:
            await self._do("stop_dialout", session.session_id)
        else:
            await self._do("eject_remote_participants", [session.session_id])

    async def send_dtmf(self, session: Session, dtmf: Dtmf) -> None:
        """Press keys."""
        await self._do("send_dtmf", {"sessionId": session.session_id, **dtmf.body()})

    async def transfer(self, session: Session, transfer: Transfer) -> None:
        """Hand a session on to a SIP URI or a number; Daily stays in its path."""
        await self._do("sip_call_transfer", {"sessionId": session.session_id, **transfer.body()})

    async def refer(self, session: Session, refer: Refer) -> None:
        """Hand a session on to a SIP URI; Daily leaves its path."""
        await self._do("sip_refer", {"sessionId": session.session_id, **refer.body()})

    async def forward(self, call_id: str, call_domain: str, sip_endpoint: str) -> None:  # noqa: ARG002 - refused
        """Connect a caller on hold to a SIP endpoint: `NotSupported`, only REST can. See `ClientControl` for both in one."""
        raise NotSupported(
            "who is in a room cannot forward a caller on hold, only Daily's REST API can: call forward of"
            " RestControl(api), or derive from this class and let its forward do so; ClientControl's docstring shows it"
        )

    async def reconcile(self, session: Session) -> Presence:
        """Tell whether a session is still there: for a dispatcher's `reconcile=`. Never raises.

        For sessions of the room that was joined only: where a dispatcher hears of several rooms, choose by the session whom to
        ask. Who is among the participants is alive. Who is not is gone only if this client is in a call, as who has left the
        room sees nobody, and if media flowed or nothing was heard for ten minutes: whoever still rings is no participant.
        """
        try:
            if self._has(session):
                return Presence.ALIVE
            gone = when_absent(session, 0.0)
            if gone is Presence.GONE and await self._not_in_a_call() is None:
                # Looked at on both sides of the question, it was missing while in a call: not just before a join or after a leave.
                return Presence.ALIVE if self._has(session) else gone
        except Exception:  # noqa: S110 - whatever it is, it says nothing of the session
            pass
        return Presence.UNKNOWN

    def _method(self, name: str) -> Any:
        method = getattr(self._through, name, None)
        if method is None:
            hint = self._missing.get(name, "take a newer version of its package, or act by RestControl(api)")
            raise NotSupported(f"{type(self._through).__name__} has no {name}: {hint}")
        return method

    async def _do(self, name: str, argument: Any) -> None:
        answer = await self._ask(name, argument)
        if len(answer) != 1:
            raise unknown(name, "Daily's answer says nothing")
        if answer[0] is not None:
            raise _refused(name, answer[0])

    async def _not_in_a_call(self) -> TelstateError | None:
        """None if this client is in a call, else what keeps us from knowing; `NotHosting` if it is in none.

        Nothing in daily-python tells it: outside a call its `participants()` has the client itself, as inside. So it is asked to
        change nothing of nobody, which it refuses outside a call, as it does all else. While it joins requests wait (measured).
        """
        try:
            await self._do("update_remote_participants", {})
        except (DailyError, NotSupported) as error:
            return error
        return None

    def _has(self, session: Session) -> bool:
        return any(one.session_id == session.session_id for one in self._there())

    def _there(self) -> tuple[RoomParticipant, ...]:
        method = self._method("participants")
        try:
            told = method()
        except Exception as error:
            raise failed("participants", error) from error
        if not isinstance(told, Mapping):
            raise DailyError("participants: the answer is no mapping of ids to participants")
        people = (_present(key, one) for key, one in told.items() if isinstance(one, Mapping))
        return tuple(one for one in people if one is not None)


def failed(name: str, error: Exception) -> DailyError:
    """The error for a method that raised, before anything was sent."""
    said = one_line(str(error)) or type(error).__name__
    return DailyError(f"{name} was not sent: {said}", info=said)


def unknown(name: str, why: str) -> UnknownResult:
    """The error for a request of which nobody knows what became."""
    return UnknownResult(f"{name}: {why}. {ADVICE[UnknownResult]}", info=why)


def _refused(name: str, error: object) -> DailyError:
    """The error that says it: what was asked, what Daily said, what to do."""
    said = one_line(str(error))
    kind = error_type_of(said)
    told = said.rstrip(".") or "no, and not why"
    return kind(f"{name}: Daily answered: {told}. {ADVICE.get(kind, '')}".rstrip(), info=said or None)


def _present(key: object, told: Mapping[str, Any]) -> RoomParticipant | None:
    """A participant; the client's own stands under `local`, so its id is only inside."""
    session_id = told.get("id", None if key == "local" else key)
    info = told.get("info")
    info = info if isinstance(info, Mapping) else {}
    user_id, user_name = info.get("userId"), info.get("userName")
    if not isinstance(session_id, str):
        return None
    return RoomParticipant(
        session_id, user_id if isinstance(user_id, str) else None, user_name if isinstance(user_name, str) else None
    )
