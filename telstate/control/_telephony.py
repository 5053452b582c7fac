"""Daily's REST endpoints that start, steer and end telephone calls, one method each.

Source of all paths, fields and texts: docs.daily.co/reference/rest-api/rooms (dialout, call-transfer, eject) and
docs.daily.co/reference/rest-api/dialin. A start is never sent twice; a stop may be, because it ends the same session.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from telstate.control._api import DailyApi
from telstate.errors import DefinitionError, NoSuchSession, NotHosting, NotSupported, UnknownResult, shorten
from telstate.options import Dialout, Dtmf, Refer, Transfer
from telstate.options._uris import uri_problem

__all__ = ["START", "Telephony", "room_path"]

START = 20.0
"""Seconds for the answer to a start: daily-python waits as long."""
_MAX_EJECTED = 100
"""By Daily's page, in one request."""


class Telephony:
    """The calls of the domain whose key `api` has. One serves any number of tasks at once.

    All methods raise:
        DailyError: if Daily refused; the subclass says why: see `telstate.errors`.
        UnknownResult: if the answer was lost.
        NotSupported: for what REST cannot carry. Nothing was sent.

    Args:
        api: Daily's API, inside its `async with` by the time it is used.
        start_timeout: seconds for the answer to a start.
    """

    def __init__(self, api: DailyApi, start_timeout: float = START) -> None:
        self._api = api
        self._start_timeout = start_timeout

    def __repr__(self) -> str:
        return f"Telephony({self._api!r})"

    async def start(self, room: str, options: Dialout) -> str:
        """Let a room dial out; return the session id. Somebody has to be in the room."""
        body = options.body()
        if "permissions" in body:
            raise NotSupported(
                "Daily's REST API takes no permissions for a dial-out: start it by a call client, or leave them out"
            )
        path = f"{room_path(room)}/dialOut/start"
        told = await self._accepted(path, body, timeout=self._start_timeout)
        session_id = told.get("sessionId")
        if not isinstance(session_id, str) or not session_id:
            raise UnknownResult(
                f"POST {path}: Daily accepted the start, but told no session id: look before you dial again", status=200
            )
        return session_id

    async def stop(self, room: str, session_id: str) -> None:
        """End a dial-out."""
        try:
            await self._accepted(f"{room_path(room)}/dialOut/stop", {"sessionId": session_id}, again=True)
        except (NoSuchSession, NotHosting) as error:
            if not error.repeated:  # else it was ended by the first, whose answer was lost
                raise

    async def send_dtmf(self, room: str, session_id: str, dtmf: Dtmf) -> None:
        """Press keys."""
        body = dtmf.body()
        if "method" in body:
            raise NotSupported(
                "Daily's REST API does not take a method for DTMF: send it by a call client, or leave the method out"
            )
        await self._accepted(f"{room_path(room)}/dialOut/sendDTMF", {"sessionId": session_id, **body})

    async def transfer(self, room: str, session_id: str, transfer: Transfer) -> None:
        """Hand a session on; Daily stays in its path."""
        await self._accepted(f"{room_path(room)}/sipCallTransfer", {"sessionId": session_id, **transfer.body()})

    async def refer(self, room: str, session_id: str, refer: Refer) -> None:
        """Hand a SIP session on; Daily leaves its path."""
        await self._accepted(f"{room_path(room)}/sipRefer", {"sessionId": session_id, **refer.body()})

    async def forward(self, call_id: str, call_domain: str, sip_endpoint: str) -> None:
        """Connect a caller on hold to a SIP endpoint (`pinlessCallUpdate`). Before `dialin-ready` the call is dropped.

        Raises what all raise, and:
            ForwardingFailed: if the caller has hung up, or the endpoint is not ready or in use.
            ValueError: if that can be no caller or no endpoint. Nothing was sent.
        """
        if not call_id or not call_domain:
            raise ValueError(
                "forward needs the caller's callId and callDomain, as the request that told of him has them"
            )
        scheme, colon, rest = sip_endpoint.partition(":")
        if colon and scheme.lower() == "sip":
            sip_endpoint = rest
        uri = sip_endpoint if colon and scheme.lower() == "sips" else f"sip:{sip_endpoint}"
        if wrong := uri_problem(uri):  # Daily would drop the caller
            raise ValueError(f"{shorten(sip_endpoint)} is no sip: endpoint of a room: {wrong}")
        body = {"callId": call_id, "callDomain": call_domain, "sipUri": uri}
        await self._accepted("/dialin/pinlessCallUpdate", body)

    async def eject(self, room: str, *session_ids: str) -> None:
        """Remove participants from a room; for who dialled in it is the way to end the call.

        Raises what all raise, and:
            NoSuchSession: if one of them was not there; the others were removed.
        """
        if not 0 < len(session_ids) <= _MAX_EJECTED:
            raise DefinitionError(f"eject takes 1 to {_MAX_EJECTED} session ids, not {len(session_ids)}")
        try:
            told, repeated = await self._asked(f"{room_path(room)}/eject", {"ids": list(session_ids)}, again=True)
        except NotHosting as error:
            if not error.repeated:
                raise
            return
        ejected = told.get("ejectedIds")
        missing = [one for one in session_ids if not isinstance(ejected, list) or one not in ejected]
        if missing and not repeated:  # else they may be those whom the first one removed, whose answer was lost
            raise NoSuchSession(
                f"Daily ejected nobody with the session id {', '.join(missing)} from {room!r}", status=200
            )

    async def _accepted(self, path: str, body: Any, **how: Any) -> dict[str, Any]:
        return (await self._asked(path, body, **how))[0]

    async def _asked(self, path: str, body: Any, **how: Any) -> tuple[dict[str, Any], bool]:
        """Daily's answer, and whether the request was repeated."""
        told, repeated = await self._api.ask("POST", path, body, **how)
        if not isinstance(told, dict):
            raise UnknownResult(f"POST {path}: Daily's answer says nothing: look before you send it again", status=200)
        return told, repeated


def room_path(room: str) -> str:
    """The path of a room.

    Raises:
        DefinitionError: if that can be no room's name.
    """
    # A lone surrogate can stand in JSON, but in no URL.
    if not room or room in (".", "..") or (not room.isascii() and any("\ud800" <= one <= "\udfff" for one in room)):
        raise DefinitionError(f"{room!r} is no name of a room: give the last part of its URL")
    return f"/rooms/{quote(room, safe='')}"
