"""Rooms, as far as telephony needs them: their SIP endpoints and their participants.

Source of all names: docs.daily.co/docs/guides/features/dial-in-dial-out/sip, docs.daily.co/reference/rest-api/rooms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from telstate.control._api import DailyApi
from telstate.control._call_transport import RoomParticipant
from telstate.control._telephony import room_path
from telstate.errors import DailyError, UnknownResult
from telstate.options import SipRoom

__all__ = ["Room", "Rooms"]


class Room(NamedTuple):
    """A room, as Daily describes it."""

    name: str
    url: str | None
    sip: dict[str, Any] | None
    """Its `sip` property, in Daily's form; None if SIP dial-in is off."""
    endpoints: tuple[str, ...]
    """Its SIP URIs, in order. A client may dial one after its `dialin-ready` event."""
    config: dict[str, Any]
    """All its properties."""


class Rooms:
    """The rooms of one domain.

    All methods raise:
        DailyError: if Daily refused, for example because there is no such room (status 404), or cannot be asked.
        UnknownResult: if the answer to a change was lost or makes no sense; read the room to check.

    Args:
        api: Daily's API with the domain's key, entered before the first request.
    """

    def __init__(self, api: DailyApi) -> None:
        self._api = api

    def __repr__(self) -> str:
        return f"Rooms({self._api!r})"

    async def create(
        self, name: str | None = None, *, sip: SipRoom | None = None, properties: Mapping[str, Any] | None = None
    ) -> Room:
        """Create a room.

        Args:
            name: its name; None lets Daily choose one.
            sip: enables SIP dial-in.
            properties: other properties, by Daily's names, such as `{"enable_dialout": True, "exp": …}`.
        """
        wanted = dict(properties or {}) | ({} if sip is None else {"sip": sip.body()})
        body: dict[str, Any] = {"properties": wanted} if wanted else {}
        if name is not None:
            room_path(name)
            body["name"] = name
        return _room(await self._api.request("POST", "/rooms", body), UnknownResult)

    async def get(self, name: str) -> Room:
        """Read a room, with its SIP property and endpoints."""
        return _room(await self._api.request("GET", room_path(name)))

    async def set_sip(self, name: str, sip: SipRoom) -> Room:
        """Enable SIP dial-in for a room; return it with its endpoints."""
        return await self._set(name, {"sip": sip.body()})

    async def clear_sip(self, name: str) -> Room:
        """Disable SIP dial-in for a room."""
        return await self._set(name, {"sip": None})

    async def delete(self, name: str) -> None:
        """Delete a room."""
        try:
            await self._api.request("DELETE", room_path(name), idempotent=True)
        except DailyError as error:
            if error.status != 404 or not error.repeated:  # else the first request deleted it, and its answer was lost
                raise

    async def presence(self, name: str) -> tuple[RoomParticipant, ...]:
        """List the participants of a room. It may be 15 seconds behind (docs.daily.co/reference/rest-api/presence)."""
        path = f"{room_path(name)}/presence"
        listed, total = await self._list_presence(path)
        if total > len(listed):  # the page documents a limit= but not its default
            listed, total = await self._list_presence(f"{path}?limit={total}")
        if total > len(listed):
            raise DailyError(f"GET {path}: Daily listed {len(listed)} of {total} participants", status=200)
        return tuple(_participant(one) for one in listed if isinstance(one, dict) and isinstance(one.get("id"), str))

    async def _list_presence(self, path: str) -> tuple[list[Any], int]:
        """Return the participants that Daily lists, and how many there are."""
        answer = await self._api.request("GET", path)
        listed = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(listed, list):
            raise DailyError(f"GET {path}: Daily's answer is not a presence", status=200)
        total = answer.get("total_count")
        return listed, total if isinstance(total, int) else len(listed)

    async def _set(self, name: str, properties: dict[str, Any]) -> Room:
        return _room(
            await self._api.request("POST", room_path(name), {"properties": properties}, idempotent=True), UnknownResult
        )


def _participant(listed: dict[str, Any]) -> RoomParticipant:
    user_id, user_name = listed.get("userId"), listed.get("userName")
    return RoomParticipant(
        listed["id"], user_id if isinstance(user_id, str) else None, user_name if isinstance(user_name, str) else None
    )


def _room(answer: Any, error: type[DailyError] = DailyError) -> Room:
    """Read a room from an answer; if it is not one, raise `error`: after a change that is `UnknownResult`."""
    if not isinstance(answer, dict) or not isinstance(answer.get("name"), str):
        raise error("Daily's answer is not a room with a name", status=200)
    config = answer.get("config")
    config = config if isinstance(config, dict) else {}
    url, sip, uri = answer.get("url"), config.get("sip"), config.get("sip_uri")
    uri = uri if isinstance(uri, dict) else {}
    extra = uri.get("extra_endpoints")
    endpoints = [uri.get("endpoint"), *(extra if isinstance(extra, list) else [])]
    return Room(
        answer["name"],
        url if isinstance(url, str) else None,
        sip if isinstance(sip, dict) else None,
        tuple(one for one in endpoints if isinstance(one, str) and one),
        config,
    )
