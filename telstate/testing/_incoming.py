"""The calls that come in to a `FakeDaily`: a part of that class, in a file of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from uuid import uuid4

from telstate.sources._signatures import PINLESS, Secret
from telstate.testing._domain import DOMAIN_ID, HeldCaller, SimulatedDomain
from telstate.testing._phone_lines import DIALIN_FAILED, DIALOUT_FAILED, PhoneLine
from telstate.testing._server import FakeServer
from telstate.testing._webhook_delivery import WebhookTarget

__all__ = ["IncomingCalls"]

_T = TypeVar("_T")


class IncomingCalls(ABC):
    """The methods of a `FakeDaily` by which somebody calls."""

    _pinless: str | None
    _secret: Secret | None

    def dial_in(
        self,
        sip_endpoint: str,
        sip_from: str = "sip:+12025550142@carrier.example",
        *,
        talks: float | None = None,
        media: float | None = 0.0,
        sip_headers: Mapping[str, str] | None = None,
        line: PhoneLine | None = None,
    ) -> str:
        """Dial an endpoint as a SIP client; return the session's id.

        Args:
            sip_endpoint: an endpoint of a hosted room; `?x-daily_display_name=…` names the caller.
            sip_from: the caller.
            talks: seconds from the start of media until the caller hangs up; None: until the session is ended.
            media: seconds until media flows and the caller joins; None: never.
            sip_headers: sent with the events.
            line: what happens to the events (`loses`, `delays`, `twice`), and whether the call `fails` or `warns`, and with which
                `error`; its other options are ignored.

        Raises:
            CallRejected: if there is no such endpoint, it is not ready or busy, or the room is full.
        """
        how = _dial_in_line(line, talks)
        headers = dict(sip_headers) if sip_headers is not None else None
        leg = self._do(
            lambda domain: domain.dial_in(sip_endpoint, sip_from, media=media, line=how, sip_headers=headers)
        )
        return leg.session_id

    def call_in(
        self,
        to: str,
        from_: str = "+12025550142",
        *,
        pinless: str | None = None,
        sip_headers: Mapping[str, str] | None = None,
        talks: float | None = None,
        media: float | None = 0.0,
        waits: float | None = None,
    ) -> str:
        """Call a pinless number of the domain: the caller is on hold until `pinlessCallUpdate`. Return the call's id.

        Args:
            to: the number that is called.
            from_: the number that calls.
            pinless: the URL that receives the call, by a signed POST; by default the number's `room_creation_api`, if REST has set
                one, else that of the constructor.
            sip_headers: sent with it.
            talks: seconds from the start of media until the caller hangs up; None: until the session is ended.
            media: seconds from the forwarding until media flows; None: never.
            waits: seconds until the caller gives up on hold; None: never. Daily reports that to nobody; a later forward fails.

        Raises:
            ValueError: if there is no URL.
        """
        url, secret = pinless, self._secret
        if url is None and (receiver := self._server.numbers.receiver_of(to)) is not None:
            url, secret = receiver[0], Secret(receiver[1])
        if (url := url or self._pinless) is None:
            raise ValueError(
                f"call_in() needs a URL: call_in(…, pinless=URL), FakeDaily(pinless=URL), or let REST set one for {to}"
            )
        headers = dict(sip_headers) if sip_headers is not None else None
        caller = HeldCaller(str(uuid4()), to, from_, headers, talks, media)
        body: dict[str, Any] = {"To": to, "From": from_, "callId": caller.call_id, "callDomain": DOMAIN_ID}
        if headers is not None:
            body["sipHeaders"] = headers
        server, target = self._server, WebhookTarget(url, secret, headers=PINLESS)

        def do(domain: SimulatedDomain) -> str:
            domain.hold(caller, waits)
            server.delivery.send(target, "pinless", body)
            return caller.call_id

        return self._do(do)

    def call_trunk(
        self,
        to: str,
        from_: str = "+12025550142",
        *,
        trunk: str | None = None,
        talks: float | None = None,
        media: float | None = 0.0,
        line: PhoneLine | None = None,
    ) -> str:
        """Let a carrier send a call to a SIP trunk; return the call's id. `daily.trunk_calls` says what becomes of it.

        A room is made from the trunk's template, and its `webhook_url` is sent a signed `sip_trunk.incoming` until it answers with 2xx, for
        at most `FakeDaily(ringback=…)` seconds. Then the caller is connected to the room, and heard once a bot is there (`host`).

        Args:
            to: the number that is called.
            from_: the number that calls.
            trunk: the trunk's name; by default the only one.
            talks: seconds from the start of media until the caller hangs up; None: until the session is ended.
            media: seconds until media flows, once a bot is in the room; None: never.
            line: as for `dial_in`.

        Raises:
            CallRejected: if there is no such trunk, or it is disabled.
        """
        how, server = _dial_in_line(line, talks), self._server
        return self._do(lambda _: server.trunk_calls.place(to, from_, trunk, media=media, line=how)).call_id

    def call_pin(
        self,
        number: str,
        pin: str,
        from_: str = "+12025550142",
        *,
        talks: float | None = None,
        media: float | None = 0.0,
        line: PhoneLine | None = None,
    ) -> str:
        """Call a number and enter the PIN of a room; return the call's id, which is the `call_id` of the session that follows.

        Args:
            number: the number that is called.
            pin: the PIN, `dialin_code` of the room's properties.
            from_: the number that calls.
            talks: seconds from the start of media until the caller hangs up; None: until the session is ended.
            media: seconds until media flows; None: never.
            line: as for `dial_in`.

        Raises:
            CallRejected: if no room has this PIN at this number; if it is full; or if nobody is in it, unless it has
                `wait_for_meeting_start`: then the caller is connected once a bot is there.
        """
        how, server = _dial_in_line(line, talks), self._server
        return self._do(lambda _: server.pin_calls.place(number, pin, from_, media=media, line=how))

    def hang_up(self, any_id: str) -> bool:
        """Hang up: at the far side of a session, or as a caller by the call's id. Return False if it had ended before."""
        server = self._server

        def do(domain: SimulatedDomain) -> bool:
            if domain.waiting.pop(any_id, None) is not None:
                return True
            if server.trunk_calls.hang_up(any_id) or server.pin_calls.hang_up(any_id):
                return True
            leg = domain.leg(any_id) or next((one for one in domain.legs if one.live and one.call_id == any_id), None)
            return leg is not None and domain.end(leg, "remote")

        return self._do(do)

    @abstractmethod
    def _do(self, what: Callable[[SimulatedDomain], _T]) -> _T:
        """Call a function in the fake's thread."""

    @property
    @abstractmethod
    def _server(self) -> FakeServer:
        """What is behind the fake."""


def _dial_in_line(line: PhoneLine | None, talks: float | None) -> PhoneLine:
    line = line or PhoneLine()
    error = DIALIN_FAILED if line.error == DIALOUT_FAILED else line.error
    kept = {"loses": line.loses, "delays": line.delays, "twice": line.twice, "warns": line.warns, "fails": line.fails}
    return PhoneLine(talks=talks, error=error, **kept)  # type: ignore[arg-type]
