"""Daily's REST endpoints for telephone calls, one method each.

Source of all paths, fields and texts: docs.daily.co/reference/rest-api/rooms (dialout, call-transfer, eject) and
docs.daily.co/reference/rest-api/dialin. A start is never sent twice. A stop is retried: it is idempotent.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from telstate.control._api import DailyApi
from telstate.control._dropped_options import REST, refuse_dropped
from telstate.errors import DefinitionError, NoSuchSession, NotHosting, UnknownResult, shorten
from telstate.options import Dialout, Dtmf, Refer, Transfer
from telstate.options._base import Options
from telstate.options._uris import uri_problem

__all__ = ["START_TIMEOUT", "Telephony", "room_path"]

START_TIMEOUT = 20.0
"""Seconds to wait for the answer to a start, as daily-python does."""
_MAX_EJECTED = 100
"""In one request, says Daily's page."""


class Telephony:
    """The telephone calls of one domain. Any number of tasks can share one.

    All methods raise:
        DailyError: if Daily refused; the subclass says why: see `telstate.errors`.
        UnknownResult: if the answer was lost.
        NotSupported: if REST cannot carry the request. Nothing was sent.

    Args:
        api: Daily's API with the domain's key, entered before the first request.
        start_timeout: seconds to wait for the answer to a start.
    """

    def __init__(self, api: DailyApi, start_timeout: float = START_TIMEOUT) -> None:
        self._api = api
        self._start_timeout = start_timeout

    def __repr__(self) -> str:
        return f"Telephony({self._api!r})"

    async def start(self, room: str, options: Dialout) -> str:
        """Dial out from a room; return the session id. Somebody must be in the room."""
        _refuse_dropped(options)
        path = f"{room_path(room)}/dialOut/start"
        answer, _ = await self._post(path, options.body(), timeout=self._start_timeout)
        session_id = answer.get("sessionId")
        if not isinstance(session_id, str) or not session_id:
            raise UnknownResult(
                f"POST {path}: Daily accepted the start but gave no session id: check before you dial again", status=200
            )
        return session_id

    async def stop(self, room: str, session_id: str) -> None:
        """End a dial-out."""
        try:
            await self._post(f"{room_path(room)}/dialOut/stop", {"sessionId": session_id}, idempotent=True)
        except (NoSuchSession, NotHosting) as error:
            if not error.repeated:  # else the first request ended it, and its answer was lost
                raise

    async def send_dtmf(self, room: str, session_id: str, dtmf: Dtmf) -> None:
        """Press keys."""
        _refuse_dropped(dtmf)
        await self._post(f"{room_path(room)}/dialOut/sendDTMF", {"sessionId": session_id, **dtmf.body()})

    async def transfer(self, room: str, session_id: str, transfer: Transfer) -> None:
        """Transfer a session. Daily stays in the call's path."""
        _refuse_dropped(transfer)
        await self._post(f"{room_path(room)}/sipCallTransfer", {"sessionId": session_id, **transfer.body()})

    async def refer(self, room: str, session_id: str, refer: Refer) -> None:
        """Transfer a SIP session by REFER. Daily leaves the call's path."""
        _refuse_dropped(refer)
        await self._post(f"{room_path(room)}/sipRefer", {"sessionId": session_id, **refer.body()})

    async def forward(self, call_id: str, call_domain: str, sip_endpoint: str) -> None:
        """Connect a caller on hold to a SIP endpoint (`pinlessCallUpdate`). Before `dialin-ready` Daily drops the call.

        Also raises:
            ForwardingFailed: if the caller has hung up, or the endpoint is not ready or in use.
            ValueError: if an argument is empty, or the endpoint is not a SIP URI. Nothing was sent.
        """
        if not call_id or not call_domain:
            raise ValueError(
                "forward needs the caller's callId and callDomain, as in the PinlessDialin of the caller on hold"
            )
        scheme, colon, rest = sip_endpoint.partition(":")
        if colon and scheme.lower() == "sip":
            sip_endpoint = rest
        uri = sip_endpoint if colon and scheme.lower() == "sips" else f"sip:{sip_endpoint}"
        if problem := uri_problem(uri):  # Daily would drop the caller
            raise ValueError(f"{shorten(sip_endpoint)} is not a sip: endpoint of a room: {problem}")
        body = {"callId": call_id, "callDomain": call_domain, "sipUri": uri}
        await self._post("/dialin/pinlessCallUpdate", body)

    async def eject(self, room: str, *session_ids: str) -> None:
        """Remove participants from a room. This is how a dial-in call is ended.

        Also raises:
            NoSuchSession: if one of them was not there; the others were removed.
        """
        if not 0 < len(session_ids) <= _MAX_EJECTED:
            raise DefinitionError(f"eject takes 1 to {_MAX_EJECTED} session ids, not {len(session_ids)}")
        try:
            answer, repeated = await self._post(f"{room_path(room)}/eject", {"ids": list(session_ids)}, idempotent=True)
        except NotHosting as error:
            if not error.repeated:
                raise
            return
        ejected = answer.get("ejectedIds")
        missing = [one for one in session_ids if not isinstance(ejected, list) or one not in ejected]
        if missing and not repeated:  # else the first request may have removed them, and its answer was lost
            raise NoSuchSession(
                f"Daily ejected nobody with the session id {', '.join(missing)} from {room!r}", status=200
            )

    async def _post(self, path: str, body: Any, **options: Any) -> tuple[dict[str, Any], bool]:
        """Send a request. Returns Daily's answer, and whether the request was sent more than once."""
        answer, repeated, _ = await self._api.send("POST", path, body, **options)
        if not isinstance(answer, dict):
            raise UnknownResult(
                f"POST {path}: Daily's answer is not a JSON object: check before you send it again", status=200
            )
        return answer, repeated


def _refuse_dropped(options: Options) -> None:
    refuse_dropped("Daily's REST API", REST, options)


def room_path(room: str) -> str:
    """Return the path of a room.

    Raises:
        DefinitionError: if that cannot be a room's name.
    """
    # A lone surrogate is possible in JSON, but not in a URL.
    if not room or room in (".", "..") or (not room.isascii() and any("\ud800" <= one <= "\udfff" for one in room)):
        raise DefinitionError(f"{room!r} cannot be the name of a room: use the last part of its URL")
    return f"/rooms/{quote(room, safe='')}"
