"""The fake's REST API: reads requests, refuses as Daily does, and calls the simulated domain.

Source of paths, fields, ranges and texts: docs.daily.co/reference/rest-api, the pages of rooms, their dialOut, sipCallTransfer,
sipRefer, eject and presence, and of dialin/pinlessCallUpdate. The routes of webhooks, trunks and numbers are in files of their own. SIMULATED: the order in which a request is checked.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any, Literal
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from telstate.testing._dialin_numbers import DialinNumbers
from telstate.testing._domain import CallRejected, SimulatedDomain
from telstate.testing._faults import cut
from telstate.testing._phone_lines import PhoneLine, PhoneLines
from telstate.testing._pin_calls import check_pin_dialin
from telstate.testing._refusals import Refusal, RequestRefused
from telstate.testing._requests import Handler, answering, invalid, json_object
from telstate.testing._rooms import Leg, SimulatedRoom
from telstate.testing._subscriptions import Subscriptions
from telstate.testing._trunks import SimulatedTrunks

__all__ = ["API", "Routes", "room_properties"]

API = "/v1"
"""Daily's REST API is below this path."""

_NUMBER = re.compile(r"\+[1-9]\d{1,14}", re.ASCII)
_CODECS = {"audio": {"OPUS", "G722", "PCMU", "PCMA"}, "video": {"H264", "VP8"}}
_TYPES: dict[str, type] = {
    "sipUri": str,
    "phoneNumber": str,
    "extension": str,
    "waitBeforeExtensionDialSec": int,
    "displayName": str,
    "userId": str,
    "callerId": str,
    "video": bool,
    "videoSettings": dict,
    "codecs": dict,
    "sessionId": str,
    "tones": str,
    "digitDurationMs": int,
    "toEndPoint": str,
}
_MAX_LENGTHS = {"extension": 20, "userId": 36, "tones": 20}
_RANGES = {"waitBeforeExtensionDialSec": (0, 60), "digitDurationMs": (50, 2000)}
_NO_SESSION = Refusal(404, "not-found", "No session running")
_NO_DIALOUT = Refusal(404, "not-found", "No dialout to stop")
_WRONG_ID = Refusal(404, "not-found", "invalid sessionId")
_NO_PRESENCE = Refusal(403, "authorization-error", "presence is not available")
"""SIMULATED: for tests of programs that must do without."""
_NOT_FORWARDED = Refusal(404, "not-found", "Call Forwarding Failed")


class Routes:
    """The API of a domain.

    Args:
        domain: the domain.
        lines: what its numbers do.
        subscriptions: its webhooks.
        trunks: its SIP trunks.
        numbers: its phone numbers.
        key: the API key.
        made: is called with each room that is made.
        presence: as in `FakeDaily`.
        presence_lag: seconds by which presence is behind.
    """

    def __init__(
        self,
        domain: SimulatedDomain,
        lines: PhoneLines,
        subscriptions: Subscriptions,
        trunks: SimulatedTrunks,
        numbers: DialinNumbers,
        *,
        key: str,
        made: Callable[[SimulatedRoom], object],
        presence: Literal["on", "none", "off"],
        presence_lag: float,
    ) -> None:
        self._domain = domain
        self._lines = lines
        self._subscriptions = subscriptions
        self._trunks = trunks
        self._numbers = numbers
        self._key = key
        self._made = made
        self._presence_is = presence
        self._lag = presence_lag

    def all(self) -> list[Route]:
        """Return all routes, under `API`; all need the key."""
        room, hooks, trunks, numbers = "/rooms/{name}", self._subscriptions, self._trunks, self._numbers
        table: list[tuple[str, str, Handler]] = [
            ("POST", "/rooms", self._make),
            ("GET", "/rooms", self._rooms),
            ("GET", room, self._get),
            ("POST", room, self._change),
            ("DELETE", room, self._drop),
            ("POST", f"{room}/dialOut/start", self._start),
            ("POST", f"{room}/dialOut/stop", self._stop),
            ("POST", f"{room}/dialOut/sendDTMF", self._press),
            ("POST", f"{room}/sipCallTransfer", self._transfer),
            ("POST", f"{room}/sipRefer", self._refer),
            ("POST", f"{room}/eject", self._eject),
            ("GET", f"{room}/presence", self._presence),
            ("POST", "/dialin/pinlessCallUpdate", self._forward),
            ("POST", "/webhooks", hooks.create),
            ("GET", "/webhooks", hooks.list),
            ("GET", "/webhooks/{uuid}", hooks.get),
            ("POST", "/webhooks/{uuid}", hooks.update),
            ("DELETE", "/webhooks/{uuid}", hooks.delete),
            ("POST", "/sip-trunk", trunks.create),
            ("GET", "/sip-trunk", trunks.list),
            ("GET", "/sip-trunk/{id}", trunks.get),
            ("PUT", "/sip-trunk/{id}", trunks.update),
            ("DELETE", "/sip-trunk/{id}", trunks.delete),
            ("GET", "/", numbers.domain),
            ("POST", "/", numbers.set_domain),
            ("POST", "/domain-dialin-config", numbers.create),
            ("GET", "/domain-dialin-config", numbers.list),
            ("GET", "/domain-dialin-config/{id}", numbers.get),
            ("PUT", "/domain-dialin-config/{id}", numbers.update),
            ("DELETE", "/domain-dialin-config/{id}", numbers.delete),
        ]
        return [
            Route(f"{API}{path}", answering(handler, self._key), methods=[method]) for method, path, handler in table
        ]

    # --- rooms ------------------------------------------------------------------------------------------------------

    async def _make(self, request: Request) -> Response:
        body = await _body(request)
        name = body.get("name") or uuid4().hex[:20]
        if not isinstance(name, str):
            raise invalid("name must be a string")
        properties = room_properties(body)
        check_pin_dialin(properties, time.time())
        room = self._domain.make(name, properties, str(body.get("privacy", "public")))
        self._made(room)
        return JSONResponse(room.to_json())

    async def _rooms(self, request: Request) -> Response:  # noqa: ARG002
        rooms = [room.to_json() for room in self._domain.rooms.values()]
        return JSONResponse({"total_count": len(rooms), "data": rooms})

    async def _get(self, request: Request) -> Response:
        return JSONResponse(self._domain.room(request.path_params["name"]).to_json())

    async def _change(self, request: Request) -> Response:
        room, properties = self._domain.room(request.path_params["name"]), room_properties(await _body(request))
        check_pin_dialin({**room.properties, **properties}, time.time())
        return JSONResponse(self._domain.change(room.name, properties).to_json())

    async def _drop(self, request: Request) -> Response:
        name = request.path_params["name"]
        self._domain.drop(name)
        return JSONResponse({"deleted": True, "name": name})

    async def _presence(self, request: Request) -> Response:
        name, user_id = self._domain.room(request.path_params["name"]).name, request.query_params.get("userId")
        if self._presence_is == "off":
            raise RequestRefused(_NO_PRESENCE)
        everybody = self._domain.present(name, self._lag) if self._presence_is == "on" else []
        present = [one for one in everybody if user_id in (None, one["userId"])]
        limit = request.query_params.get("limit", str(len(present)))
        if not limit.isdecimal():
            raise invalid("limit must be a number")
        return JSONResponse({"total_count": len(present), "data": present[: int(limit)]})

    async def _eject(self, request: Request) -> Response:
        body = await _body(request)
        room = self._domain.room(request.path_params["name"])
        ids, user_ids = body.get("ids", []), body.get("user_ids", [])
        if not isinstance(ids, list) or not isinstance(user_ids, list) or not (ids or user_ids):
            raise invalid("ids or user_ids must be a list that is not empty")
        legs = [leg for leg in self._domain.live_in(room.name) if leg.session_id in ids or leg.user_id in user_ids]
        for leg in legs:
            self._domain.end(leg, "eject")
        ejected = [leg.session_id for leg in legs]
        if room.meeting is not None and room.meeting.bot.session_id in ids:
            ejected.append(room.meeting.bot.session_id)
            self._domain.end_meeting(room)
        return JSONResponse({"ejectedIds": ejected})

    # --- dial-out ---------------------------------------------------------------------------------------------------

    async def _start(self, request: Request) -> Response:
        name, body = request.path_params["name"], await _body(request)
        destination = _destination(body)
        self._domain.hosted(name)
        line = self._lines.dial(destination)
        if line.start_lost:
            return _CutAnswer()
        try:
            leg: Leg | RequestRefused = self._domain.dial(name, body, line)
        except RequestRefused as refused:
            leg = refused
        return await _answer_of(line, leg)

    async def _stop(self, request: Request) -> Response:
        room, body = await self._in_call(request)
        leg = self._domain.leg(_needed(body, "sessionId"), room)
        if leg is None or leg.destination is None:
            raise RequestRefused(_NO_DIALOUT)
        self._domain.end(leg, "stop")
        return JSONResponse({"ok": "true"})

    async def _press(self, request: Request) -> Response:
        body = await _body(request)
        session_id, tones = _needed(body, "sessionId"), _needed(body, "tones")
        leg = self._domain.leg(session_id, request.path_params["name"])
        if leg is None:
            raise RequestRefused(_NO_SESSION)
        leg.tones.append(tones)
        return JSONResponse({"ok": "true", "sessionId": leg.session_id})

    # --- transfers and callers on hold ------------------------------------------------------------------------------

    async def _transfer(self, request: Request) -> Response:
        return await self._transfer_or_refer(request, refer=False)

    async def _refer(self, request: Request) -> Response:
        return await self._transfer_or_refer(request, refer=True)

    async def _transfer_or_refer(self, request: Request, *, refer: bool) -> Response:
        room, body = await self._in_call(request)
        session_id, to = _needed(body, "sessionId"), _needed(body, "toEndPoint")
        if not to.startswith("sip:") and (refer or not _NUMBER.fullmatch(to)):
            raise invalid(
                "toEndPoint must be a SIP URI that starts with sip:" + ("" if refer else ", or a phone number")
            )
        if (leg := self._domain.leg(session_id, room)) is None:
            raise RequestRefused(_WRONG_ID)
        self._domain.transfer(leg, to, refer=refer)
        return JSONResponse({"ok": "true"})

    async def _forward(self, request: Request) -> Response:
        body = await _body(request)
        if not all(isinstance(body.get(field), str) and body[field] for field in ("callId", "callDomain", "sipUri")):
            raise invalid("Missing fields")
        try:
            self._domain.forward(body["callId"], body["sipUri"])
        except CallRejected:
            raise RequestRefused(_NOT_FORWARDED) from None
        return JSONResponse({"ok": "true"})

    async def _in_call(self, request: Request) -> tuple[str, dict[str, Any]]:
        body = await _body(request)
        room, _ = self._domain.hosted(request.path_params["name"])
        return room.name, body


async def _answer_of(line: PhoneLine, leg: Leg | RequestRefused) -> Response:
    """Answer a start as the line says."""
    if line.answer_after:
        await asyncio.sleep(line.answer_after)
    if isinstance(leg, RequestRefused):
        raise leg
    return _CutAnswer() if line.answer_lost else JSONResponse({"ok": "true", "sessionId": leg.session_id})


class _CutAnswer(Response):
    """An answer whose connection breaks."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await cut(self, scope, receive, send)


async def _body(request: Request) -> dict[str, Any]:
    """Return the request's body, after a check of its types and ranges."""
    body = await json_object(request)
    for name, kind in _TYPES.items():
        if name in body:
            _check(name, body[name], kind)
    return body


def _check(name: str, value: Any, kind: Any) -> None:
    if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
        raise invalid(f"{name} must be of type {kind.__name__}")
    if name in _MAX_LENGTHS and len(value) > _MAX_LENGTHS[name]:
        raise invalid(f"{name} must have at most {_MAX_LENGTHS[name]} characters")
    if name in _RANGES and not _RANGES[name][0] <= value <= _RANGES[name][1]:
        raise invalid(f"{name} must be from {_RANGES[name][0]} to {_RANGES[name][1]}")
    if name == "codecs":
        for medium, codecs in value.items():
            if (
                medium not in _CODECS
                or not isinstance(codecs, list)
                or not _CODECS[medium].issuperset(map(str, codecs))
            ):
                raise invalid(f"codecs.{medium} must be a list of known codecs")


def _needed(body: dict[str, Any], name: str) -> str:
    if not body.get(name):
        raise invalid(f"{name} is missing")
    return str(body[name])


def room_properties(body: dict[str, Any]) -> dict[str, Any]:
    """Return the properties in a body that makes or changes a room.

    Raises:
        RequestRefused: if they are not valid.
    """
    properties = body.get("properties", {})
    if not isinstance(properties, dict):
        raise invalid("properties must be an object")
    _check_sip(properties.get("sip"))
    sessions = properties.get("max_sip_pstn_sessions_per_room", 1)
    if type(sessions) is not int or sessions < 1:
        raise invalid("max_sip_pstn_sessions_per_room must be an integer of at least 1")
    for name in ("enable_dialin", "enable_dialout"):
        if not isinstance(properties.get(name, False), bool):
            raise invalid(f"{name} must be a boolean")
    return dict(properties)


def _check_sip(sip: Any) -> None:
    """Check the property that lets SIP callers in; null removes it."""
    if sip is None:
        return
    if not isinstance(sip, dict) or sip.get("sip_mode") != "dial-in" or not isinstance(sip.get("display_name"), str):
        raise invalid("sip must be an object with sip_mode dial-in and a display_name, or null")
    endpoints = sip.get("num_endpoints", 1)
    if type(endpoints) is not int or endpoints < 1:
        raise invalid("num_endpoints must be an integer of at least 1")
    for name, kind in (("codecs", dict), ("video", bool)):
        if name in sip:
            _check(name, sip[name], kind)


def _destination(body: dict[str, Any]) -> str:
    """Return the number or SIP URI to dial. Fields for the other kind of destination are ignored."""
    uri, number = body.get("sipUri"), body.get("phoneNumber")
    if (uri is None) == (number is None):
        raise invalid("give either sipUri or phoneNumber")
    if uri is None:
        if not _NUMBER.fullmatch(str(number)):
            raise invalid("phoneNumber must start with a country code, e.g. +1")
        return str(number)
    if not re.fullmatch(r"sip:[^?]+(\?.*)?", uri):
        raise invalid("sipUri must start with sip:")
    headers = filter(None, uri.partition("?")[2].split("&"))
    if not all(header.upper().startswith("X-") for header in headers):
        raise invalid("headers in a sipUri must start with X-")
    return str(uri)
