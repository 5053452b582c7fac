"""A fake of pipecat's SIPTransport, which no released pipecat has yet (pull request 5583): its events, payloads and answers, without SIP.

It is pipecat's own `BaseTransport`, so that handlers are registered and run as they are there. What it reports was read in that pull
request, and the texts and numbers were measured with baresip-python 0.5.2a3, which it is built on: a test in `tests/contracts` compares.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from tests.sources.live import installed

__all__ = ["HANDLERS", "SIPTransport", "new_process"]

_base: Any = installed("pipecat.transports.base_transport")

HANDLERS = (
    *("on_connected", "on_left", "on_before_leave", "on_error", "on_call_state_updated"),
    *("on_client_connected", "on_client_disconnected", "on_call_quality_stats"),
    *("on_dialin_connected", "on_dialin_ready", "on_dialin_stopped", "on_dialin_error", "on_dialin_warning"),
    *("on_dialout_answered", "on_dialout_connected", "on_dialout_stopped", "on_dialout_error", "on_dialout_warning"),
    "on_dtmf_event",
    *("on_first_participant_joined", "on_participant_joined", "on_participant_left", "on_participant_updated"),
)

_handles = count(2, 1 << 24)


def new_process() -> None:
    """Count calls anew, as a new process does."""
    global _handles  # noqa: PLW0603
    _handles = count(2, 1 << 24)


class SIPTransport(_base.BaseTransport):  # type: ignore[misc]
    """One call at a time, as the real one.

    Args:
        account: the address of its account.
    """

    def __init__(self, account: str = "sip:bot@example.com") -> None:
        super().__init__()
        for name in HANDLERS:
            self._register_event_handler(name)
        self.account = account
        self.call: dict[str, Any] | None = None
        self.requests: list[tuple[str, Any]] = []
        """What was requested of the call that exists, as it arrived here."""

    def input(self) -> Any:
        """None."""

    def output(self) -> Any:
        """None."""

    # --- requests -----------------------------------------------------------------------------------------------------

    async def start_dialout(self, settings: Any = None) -> tuple[str, str | None]:
        """Start a call."""
        if self.call is not None:
            return "", "transport already has an active call"
        peer = settings.get("sipUri") or f"sip:{settings['phoneNumber']}@trunk.example.com"
        self.call = self._new("out", origin=self.account, destination=peer)
        return self.call["sessionId"], None

    async def stop_dialout(self, participant_id: str) -> str | None:
        """Hang up."""
        return await self._do("stop_dialout", participant_id, participant_id, "no such dial-out session")

    async def send_dtmf(self, settings: Any) -> str | None:
        """Press keys."""
        return await self._do("send_dtmf", settings, settings["sessionId"])

    async def sip_refer(self, settings: Any) -> str | None:
        """Transfer the call by REFER."""
        return await self._do("sip_refer", settings, settings["sessionId"])

    async def sip_call_transfer(self, settings: Any) -> str | None:  # noqa: ARG002 - of any call
        """Refuse: there is no cloud that stays in the call."""
        return "sip_call_transfer is not supported yet: a SIP user agent has no cloud to re-anchor media through."

    async def _do(self, name: str, settings: Any, session_id: str, unknown: str = "no such session") -> str | None:
        if self.call is None or session_id != self.call["sessionId"]:
            return unknown
        self.requests.append((name, settings))
        return None

    # --- what happens -------------------------------------------------------------------------------------------------

    async def register(self) -> None:
        """The account is registered."""
        await self._call_event_handler("on_dialin_ready", self.account)

    async def receive_call(self, caller: str = "sip:ada@example.com") -> str:
        """Somebody calls, and the call is answered at once; return its id here."""
        headers: dict[str, Any] = {}
        fields = {"sipFrom": caller, "sipTo": self.account, "displayName": None, "sipHeaders": headers}
        self.call = self._new("in", **fields)
        await self._establish("on_dialin_connected", self.call)
        session_id: str = self.call["sessionId"]
        return session_id

    async def ring(self) -> None:
        """The other end rings."""
        assert self.call is not None
        await self._call_event_handler("on_call_state_updated", "ringing")
        await self._call_event_handler("on_dialout_connected", self._dialout())

    async def answer(self) -> None:
        """The other end answers."""
        await self._establish("on_dialout_answered", self._dialout())

    async def press(self, tone: str) -> None:
        """The other end presses a key."""
        assert self.call is not None
        await self._call_event_handler("on_dtmf_event", {"sessionId": self.call["sessionId"], "tone": tone})

    async def refuse(self, kind: str, text: str, reason: str) -> None:
        """The other end does not answer: it closes, and then it fails."""
        assert self.call is not None
        error = {"sessionId": self.call["sessionId"], "errorMsg": text, "error": kind}
        await self._close("on_dialout_stopped", {**self._dialout(), "reason": reason})
        await self._call_event_handler("on_dialout_error", error)

    async def hang_up(self, reason: str = "Connection reset by peer") -> None:
        """The other end hangs up."""
        assert self.call is not None
        call, participant = self.call, self._participant()
        if call["direction"] == "in":
            stopped = {key: value for key, value in call.items() if key != "direction"}
            await self._close("on_dialin_stopped", {**stopped, "reason": reason})
        else:
            await self._close("on_dialout_stopped", {**self._dialout(), "reason": reason})
        await self._call_event_handler("on_participant_left", participant, "leftCall")
        await self._call_event_handler("on_client_disconnected", participant)

    async def leave(self) -> None:
        """The pipeline ends."""
        await self._call_event_handler("on_left")

    def _new(self, direction: str, **fields: Any) -> dict[str, Any]:
        number = next(_handles)
        return {"sessionId": str(number), "sipCallId": f"{number:016x}", "direction": direction, **fields}

    def _dialout(self) -> dict[str, Any]:
        assert self.call is not None
        return {key: self.call[key] for key in ("sessionId", "sipCallId", "destination")}

    def _participant(self) -> dict[str, Any]:
        assert self.call is not None
        name = self.call.get("displayName") or self.call.get("sipFrom") or self.call.get("destination")
        return {"id": self.call["sessionId"], "info": {"userName": name}}

    async def _establish(self, name: str, data: dict[str, Any]) -> None:
        await self._call_event_handler("on_call_state_updated", "established")
        await self._call_event_handler(name, data)
        for joined in ("on_first_participant_joined", "on_participant_joined", "on_client_connected"):
            await self._call_event_handler(joined, self._participant())

    async def _close(self, name: str, data: dict[str, Any]) -> None:
        self.call = None
        await self._call_event_handler("on_call_state_updated", "closed")
        await self._call_event_handler("on_call_quality_stats", {})
        await self._call_event_handler(name, data)
