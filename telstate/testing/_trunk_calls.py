"""Calls on the domain's SIP trunks, from the carrier's INVITE to the room.

Source: docs.daily.co/docs/guides/features/dial-in-dial-out/sip-trunk and docs.daily.co/reference/rest-api/sip-trunk/notification.
SIMULATED: the body of `sip_trunk.incoming` beyond its `room` and `trunk`, the pauses between its retries, and the name of the room.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

from telstate.sources._signatures import TRUNK, Secret
from telstate.testing._domain import DOMAIN_ID, CallRejected, SimulatedDomain, Timer
from telstate.testing._phone_lines import PhoneLine
from telstate.testing._trunks import SimulatedTrunks
from telstate.testing._webhook_delivery import WebhookDelivery, WebhookTarget

__all__ = ["TrunkCall", "TrunkCalls"]

NOT_NOTIFIED = "480 Notification Failed"
"""The answer to an INVITE of which the receiver did not take notice."""


@dataclass
class TrunkCall:
    """A call on a SIP trunk. The fake writes it in its own thread: read it at any time, and change nothing."""

    call_id: str
    trunk: str
    """The trunk's name."""
    to: str
    from_: str
    room: str
    """The room that was made for it."""
    state: Literal["ringing", "accepted", "connected", "rejected", "abandoned"] = "ringing"
    """`ringing` until the receiver answers with 2xx, which is `accepted`; then `connected`, the session takes over. Or `rejected`,
    without a 2xx in time, or `abandoned`: the caller hung up before they were connected."""
    rejected: str | None = None
    """The SIP answer that the carrier got: `480 Notification Failed`, or why the room did not take the caller."""
    session_id: str | None = None
    """The session that it became."""


class TrunkCalls:
    """Places calls on trunks.

    Args:
        domain: the domain.
        trunks: its trunks.
        delivery: sends the notifications.
        later: calls a function after so many seconds.
        ringback: seconds for which a caller hears ringback before the call is rejected.
        registers: seconds until the SIP worker is up, from the INVITE.
    """

    def __init__(
        self,
        domain: SimulatedDomain,
        trunks: SimulatedTrunks,
        delivery: WebhookDelivery,
        later: Callable[[float, Callable[[], None]], Timer],
        *,
        ringback: float,
        registers: float,
    ) -> None:
        self._domain = domain
        self._trunks = trunks
        self._delivery = delivery
        self._later = later
        self._ringback = ringback
        self._registers = registers
        self.calls: dict[str, TrunkCall] = {}

    def place(self, to: str, from_: str, trunk_name: str | None, *, media: float | None, line: PhoneLine) -> TrunkCall:
        """Let the carrier send an INVITE. The room is made at once, then the receiver is notified.

        Raises:
            CallRejected: if there is no such trunk, or it is disabled.
        """
        if (trunk := self._trunks.named(trunk_name)) is None:
            raise CallRejected(f"404: no trunk {trunk_name or 'is the only one of the domain: name one'}")
        if not trunk["enabled"]:
            raise CallRejected(f"403: the trunk {trunk['trunk_name']} is disabled")
        call = TrunkCall(str(uuid4()), trunk["trunk_name"], to, from_, f"{trunk['trunk_name']}-{uuid4().hex[:12]}")
        self.calls[call.call_id] = call
        self._make_room(call, trunk)
        worker_up = time.monotonic() + self._registers  # it starts while the receiver is notified

        def answered(accepted: bool) -> None:
            if call.state != "ringing":
                return
            if not accepted:
                call.state, call.rejected = "rejected", NOT_NOTIFIED
                return
            call.state = "accepted"
            self._later(max(0.0, worker_up - time.monotonic()), lambda: self._bridge(call, media, line))

        self._delivery.notify(
            WebhookTarget(trunk["notification"]["webhook_url"], Secret(trunk["hmac"]), headers=TRUNK),
            "sip_trunk.incoming",
            _notification(call, str(trunk["description"])),
            within=self._ringback,
            wanted=lambda: call.state == "ringing",
            then=answered,
        )
        return call

    def hang_up(self, call_id: str) -> bool:
        """Let the caller hang up before they are connected; nobody is told. Return False if it is too late."""
        call = self.calls.get(call_id)
        if call is None or call.state not in ("ringing", "accepted"):
            return False
        call.state = "abandoned"
        return True

    def _make_room(self, call: TrunkCall, trunk: dict[str, Any]) -> None:
        template = dict(trunk["room_template"])
        sip = {"sip_mode": "dial-in", "display_name": call.from_, "num_endpoints": 1, **(template.get("sip") or {})}
        exp = time.time() + trunk["trunk_config"].get("exp_offset", 3600)
        self._domain.make(call.room, {"exp": exp, **template, "sip": sip})

    def _bridge(self, call: TrunkCall, media: float | None, line: PhoneLine) -> None:
        """Connect the caller to the room: with or without a bot in it."""
        room = self._domain.rooms.get(call.room)
        if call.state != "accepted":
            return
        if room is None:
            call.state, call.rejected = "rejected", f"404: the room {call.room} was deleted"
            return
        try:
            leg = self._domain.admit(
                room,
                f"sip:{call.from_}@carrier.example",
                endpoint=room.endpoints[0],
                media=media,
                line=line,
                call_id=call.call_id,
            )
        except CallRejected as rejected:
            call.state, call.rejected = "rejected", str(rejected)
            return
        call.session_id = leg.session_id
        call.state = "connected"  # last: another thread that sees it sees the session too


def _notification(call: TrunkCall, description: str) -> dict[str, Any]:
    now = time.time()
    return {
        "version": "1.0.0",
        "type": "sip_trunk.incoming",
        "id": f"sip-trunk-in-{call.call_id}",
        "payload": {
            "timestamp": str(int(now)),
            "domain_id": DOMAIN_ID,
            "from": call.from_,
            "to": call.to,
            "call_id": call.call_id,
            "room": {"name": call.room, "url": f"https://example.daily.co/{call.room}"},
            "trunk": {"name": call.trunk, "description": description},
        },
        "event_ts": round(now, 3),
    }
