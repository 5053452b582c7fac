"""Rooms, as far as telephony needs them: their SIP endpoints, their PINs and their participants.

Source of all names: docs.daily.co/docs/guides/features/dial-in-dial-out, its pages sip and pstn-pin-dialin, and
docs.daily.co/reference/rest-api/rooms.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from telstate.control._api import DailyApi
from telstate.control._call_transport import RoomParticipant
from telstate.control._telephony import room_path
from telstate.errors import DailyError, DefinitionError, UnknownResult
from telstate.options import PinDialin, SipRoom

__all__ = ["Room", "Rooms"]

_LONGEST_PIN = 365 * 86400
"""Seconds from now until a room with a PIN must expire: "less than 365 days"."""


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
    pin: str | None = None
    """The PIN that callers enter, which Daily makes; None if PIN dial-in is off."""


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
        self,
        name: str | None = None,
        *,
        sip: SipRoom | None = None,
        pin: PinDialin | None = None,
        enable_dialin: bool | None = None,
        enable_dialout: bool | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> Room:
        """Create a room.

        Args:
            name: its name; None lets Daily choose one.
            sip: enables SIP dial-in.
            pin: enables PIN dial-in; `room.pin` is the PIN. The room needs an `exp` within a year.
            enable_dialin: lets callers in, in general; None is Daily's default.
            enable_dialout: lets the room dial out; None is Daily's default.
            properties: other properties, by Daily's names, such as `{"exp": …}`.

        Raises:
            DefinitionError: if a room with a PIN has no `exp`, or one that is over or too far away. Nothing was sent.
        """
        wanted = _properties(sip, pin, enable_dialin, enable_dialout, properties)
        if "dialin" in wanted:
            _check_expiry(wanted.get("exp"))
        body: dict[str, Any] = {"properties": wanted} if wanted else {}
        if name is not None:
            room_path(name)
            body["name"] = name
        return _room(await self._api.request("POST", "/rooms", body), UnknownResult)

    async def update(
        self,
        name: str,
        *,
        sip: SipRoom | None = None,
        pin: PinDialin | None = None,
        enable_dialin: bool | None = None,
        enable_dialout: bool | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> Room:
        """Change properties of a room, and return it; arguments as for `create`. What is None stays.

        Raises:
            DefinitionError: if nothing is to be changed, or an `exp` is given with a PIN and is over or too far away. Nothing was sent.
        """
        wanted = _properties(sip, pin, enable_dialin, enable_dialout, properties)
        if not wanted:
            raise DefinitionError("nothing to change: give sip, pin, enable_dialin, enable_dialout or properties")
        if "dialin" in wanted and "exp" in wanted:  # else it may have one: Daily refuses a room without
            _check_expiry(wanted["exp"])
        return await self._set(name, wanted)

    async def get(self, name: str) -> Room:
        """Read a room, with its SIP property and endpoints."""
        return _room(await self._api.request("GET", room_path(name)))

    async def set_sip(self, name: str, sip: SipRoom) -> Room:
        """Enable SIP dial-in for a room; return it with its endpoints."""
        return await self._set(name, {"sip": sip.body()})

    async def clear_sip(self, name: str) -> Room:
        """Disable SIP dial-in for a room."""
        return await self._set(name, {"sip": None})

    async def clear_pin(self, name: str) -> Room:
        """Disable PIN dial-in for a room."""
        return await self._set(name, {"dialin": None})

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


def _properties(
    sip: SipRoom | None,
    pin: PinDialin | None,
    enable_dialin: bool | None,
    enable_dialout: bool | None,
    others: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return Daily's properties of a room; the arguments by name win."""
    named: dict[str, Any] = {
        "sip": None if sip is None else sip.body(),
        "dialin": None if pin is None else pin.body(),
        "enable_dialin": enable_dialin,
        "enable_dialout": enable_dialout,
    }
    return dict(others or {}) | {key: value for key, value in named.items() if value is not None}


def _check_expiry(exp: object) -> None:
    """Refuse what Daily refuses, which would say less about it."""
    if not isinstance(exp, int | float) or isinstance(exp, bool):
        raise DefinitionError(
            "a room with a PIN must expire within a year: give properties={'exp': …}, Unix seconds, for example time.time() + 3600"
        )
    if not 0 < exp - time.time() < _LONGEST_PIN:
        raise DefinitionError(
            f"exp={exp!r} must be in the future and less than 365 days away, in Unix seconds: a room with a PIN needs that"
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
    extra, pin = uri.get("extra_endpoints"), config.get("dialin_code")
    endpoints = [uri.get("endpoint"), *(extra if isinstance(extra, list) else [])]
    return Room(
        answer["name"],
        url if isinstance(url, str) else None,
        sip if isinstance(sip, dict) else None,
        tuple(one for one in endpoints if isinstance(one, str) and one),
        config,
        str(pin) if isinstance(pin, str | int) and pin else None,
    )
