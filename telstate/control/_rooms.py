"""Rooms, as far as telephony needs them: their SIP endpoints, and who is in them.

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
    """A room, as Daily tells of it."""

    name: str
    url: str | None
    sip: dict[str, Any] | None
    """Its `sip` property as Daily has it; None if SIP dial-in is off."""
    endpoints: tuple[str, ...]
    """Its SIP URIs, the first one first. A client may dial one once its `dialin-ready` was told."""
    config: dict[str, Any]
    """All its properties."""


class Rooms:
    """The rooms of the domain whose key `api` has.

    All methods raise:
        DailyError: if Daily refused, also because there is no such room (status 404), or cannot be asked.
        UnknownResult: if the answer to a change was lost, or is none; read the room to see.
    """

    def __init__(self, api: DailyApi) -> None:
        self._api = api

    def __repr__(self) -> str:
        return f"Rooms({self._api!r})"

    async def create(
        self, name: str | None = None, *, sip: SipRoom | None = None, properties: Mapping[str, Any] | None = None
    ) -> Room:
        """Make a room.

        Args:
            name: its name; None lets Daily make one.
            sip: lets SIP callers in.
            properties: any others, in Daily's names, such as `{"enable_dialout": True, "exp": …}`.
        """
        wanted = dict(properties or {}) | ({} if sip is None else {"sip": sip.body()})
        body: dict[str, Any] = {"properties": wanted} if wanted else {}
        if name is not None:
            room_path(name)
            body["name"] = name
        return _room(await self._api.request("POST", "/rooms", body), UnknownResult)

    async def get(self, name: str) -> Room:
        """Read a room, its SIP property and endpoints among the rest."""
        return _room(await self._api.request("GET", room_path(name)))

    async def set_sip(self, name: str, sip: SipRoom) -> Room:
        """Let SIP callers into a room; return it with its endpoints."""
        return await self._set(name, {"sip": sip.body()})

    async def clear_sip(self, name: str) -> Room:
        """Let no SIP callers into a room any more."""
        return await self._set(name, {"sip": None})

    async def delete(self, name: str) -> None:
        """Delete a room."""
        try:
            await self._api.request("DELETE", room_path(name), again=True)
        except DailyError as error:
            if error.status != 404 or not error.repeated:  # else it was deleted by the first, whose answer was lost
                raise

    async def presence(self, name: str) -> tuple[RoomParticipant, ...]:
        """Tell who is in a room. It may be 15 seconds behind (docs.daily.co/reference/rest-api/presence)."""
        path = f"{room_path(name)}/presence"
        people, there = await self._people(path)
        if there > len(people):  # the page has a limit= and does not say what it is without one
            people, there = await self._people(f"{path}?limit={there}")
        if there > len(people):
            raise DailyError(f"GET {path}: Daily told of {len(people)} of {there} who are there", status=200)
        return tuple(_present(one) for one in people if isinstance(one, dict) and isinstance(one.get("id"), str))

    async def _people(self, path: str) -> tuple[list[Any], int]:
        """Those that Daily tells of, and how many there are."""
        told = await self._api.request("GET", path)
        people = told.get("data") if isinstance(told, dict) else None
        if not isinstance(people, list):
            raise DailyError(f"GET {path}: Daily answered something that is no presence", status=200)
        there = told.get("total_count")
        return people, there if isinstance(there, int) else len(people)

    async def _set(self, name: str, properties: dict[str, Any]) -> Room:
        return _room(
            await self._api.request("POST", room_path(name), {"properties": properties}, again=True), UnknownResult
        )


def _present(told: dict[str, Any]) -> RoomParticipant:
    user_id, user_name = told.get("userId"), told.get("userName")
    return RoomParticipant(
        told["id"], user_id if isinstance(user_id, str) else None, user_name if isinstance(user_name, str) else None
    )


def _room(told: Any, otherwise: type[DailyError] = DailyError) -> Room:
    """Read a room. What was to be changed may have been, whatever that answer is: `otherwise` says so."""
    if not isinstance(told, dict) or not isinstance(told.get("name"), str):
        raise otherwise("Daily answered something that is no room with a name", status=200)
    config = told.get("config")
    config = config if isinstance(config, dict) else {}
    url, sip, uri = told.get("url"), config.get("sip"), config.get("sip_uri")
    uri = uri if isinstance(uri, dict) else {}
    extra = uri.get("extra_endpoints")
    endpoints = [uri.get("endpoint"), *(extra if isinstance(extra, list) else [])]
    return Room(
        told["name"],
        url if isinstance(url, str) else None,
        sip if isinstance(sip, dict) else None,
        tuple(one for one in endpoints if isinstance(one, str) and one),
        config,
    )
