"""A control for tests of handlers: records the requests, and accepts or refuses them. It sends nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from telstate.calls._session import Session
from telstate.control._call_transport import RoomParticipant
from telstate.events import Presence
from telstate.options import Dialout, Dtmf, Refer, Transfer

__all__ = ["FakeControl", "Request", "Verb"]

Verb = Literal["stop", "send_dtmf", "transfer", "refer", "forward", "start"]
"""The name of the method of the control."""


class Request(NamedTuple):
    """One request to a `FakeControl`.

    Attributes:
        verb: the name of the control's method.
        target: the session's id. For `forward`, the id of the call on hold; for `start`, the new session's id.
        argument: the options; for `forward`, the SIP endpoint.
    """

    verb: Verb
    target: str
    argument: Dtmf | Transfer | Refer | Dialout | str | None = None


class FakeControl:
    """A control that records what a program asks for, for `Dispatcher(router, control=FakeControl())`.

        async with Dispatcher(router, control=control) as calls:
            …
        assert control.requests == [Request("transfer", "s1", Transfer(to_end_point="+12025550190"))]

    Every request is accepted unless `refuse` was called before. No events follow: pass those that Daily would send to
    `calls.receive`. A `Dialer` works with it too.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        """All requests in order, refused ones included."""
        self.participants: list[RoomParticipant] = []
        """What `presence` returns, for every room."""
        self.presences: dict[str, Presence] = {}
        """What `reconcile` returns, by session id; UNKNOWN for all others."""
        self._refusals: list[tuple[Verb | None, Exception]] = []

    def refuse(self, error: Exception, *, verb: Verb | None = None, times: int = 1) -> None:
        """Refuse the next requests.

        Args:
            error: what is raised, for example `NotAllowed("…")` or `UnknownResult("…")`.
            verb: only requests of this kind; None for any.
            times: how many requests.
        """
        self._refusals.extend((verb, error) for _ in range(times))

    async def stop(self, session: Session) -> None:
        """End a session."""
        self._request("stop", session.session_id)

    async def send_dtmf(self, session: Session, dtmf: Dtmf) -> None:
        """Press keys."""
        self._request("send_dtmf", session.session_id, dtmf)

    async def transfer(self, session: Session, transfer: Transfer) -> None:
        """Transfer a session."""
        self._request("transfer", session.session_id, transfer)

    async def refer(self, session: Session, refer: Refer) -> None:
        """Transfer a session by REFER."""
        self._request("refer", session.session_id, refer)

    async def forward(self, call_id: str, call_domain: str, sip_endpoint: str) -> None:  # noqa: ARG002
        """Connect a caller on hold."""
        self._request("forward", call_id, sip_endpoint)

    async def start(self, options: Dialout, room: str | None = None) -> str:  # noqa: ARG002
        """Start a dial-out; return the new session's id: `dialout-1`, `dialout-2`, …"""
        session_id = f"dialout-{sum(request.verb == 'start' for request in self.requests) + 1}"
        self._request("start", session_id, options)
        return session_id

    async def presence(self, room: str | None = None) -> tuple[RoomParticipant, ...]:  # noqa: ARG002
        """Return `participants`."""
        return tuple(self.participants)

    async def reconcile(self, session: Session) -> Presence:
        """Return what `presences` says about a session."""
        return self.presences.get(session.session_id, Presence.UNKNOWN)

    def _request(
        self, verb: Verb, target: str, argument: Dtmf | Transfer | Refer | Dialout | str | None = None
    ) -> None:
        self.requests.append(Request(verb, target, argument))
        matching: Iterator[int] = (
            place for place, (refused, _) in enumerate(self._refusals) if refused in (None, verb)
        )
        if (place := next(matching, None)) is not None:
            raise self._refusals.pop(place)[1]
