"""The fake's REST API but for /webhooks: reads requests, refuses as Daily does, and lets the simulated domain do them.

Source of paths, fields, ranges and texts: docs.daily.co/reference/rest-api, the pages of rooms, their dialOut, sipCallTransfer,
sipRefer, eject and presence, and of dialin/pinlessCallUpdate. That a refusal's body is `{"error": …, "info": …}` is inferred.
Which of several things that are wrong is told first is SIMULATED.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from telstate.testing._domain import CallRejected, SimulatedDomain
from telstate.testing._faults import cut
from telstate.testing._legs import Leg
from telstate.testing._phone_lines import PhoneLine, PhoneLines, Refusal, Refused
from telstate.testing._subscriptions import Subscriptions

__all__ = ["Routes"]

Handler = Callable[[Request], Awaitable[Response]]

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
_LONGEST = {"extension": 20, "userId": 36, "tones": 20}
_RANGES = {"waitBeforeExtensionDialSec": (0, 60), "digitDurationMs": (50, 2000)}
_NO_SESSION = Refusal(404, "not-found", "No session running")
_NO_DIALOUT = Refusal(404, "not-found", "No dialout to stop")
_WRONG_ID = Refusal(404, "not-found", "invalid sessionId")
_NOT_FORWARDED = Refusal(404, "not-found", "Call Forwarding Failed")


class Routes:
    """What can be asked of a domain.

    Args:
        cloud: the domain.
        lines: what its numbers do.
        key: who may ask.
        presence_lag: seconds by which presence is behind.
    """

    def __init__(
        self, cloud: SimulatedDomain, lines: PhoneLines, hooks: Subscriptions, *, key: str, presence_lag: float
    ) -> None:
        self._cloud = cloud
        self._lines = lines
        self._hooks = hooks
        self._key = key
        self._lag = presence_lag

    def all(self) -> list[Route]:
        """Each under /v1, for those who have the key."""
        room, hooks = "/rooms/{name}", self._hooks
        table: list[tuple[str, str, Handler]] = [
            ("POST", "/rooms", self._make),
            ("GET", "/rooms", self._rooms),
            ("GET", room, self._tell),
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
        ]
        return [Route(f"/v1{path}", self._known(handler), methods=[method]) for method, path, handler in table]

    def _known(self, handler: Handler) -> Handler:
        """Only for those who have the key; and refusals become answers."""

        async def answer(request: Request) -> Response:
            given = request.headers.get("Authorization")
            if given is None:
                return _refusal(Refusal(400, "authorization-header-error", "bad Authorization header format"))
            if given != f"Bearer {self._key}":
                return _refusal(Refusal(401, "authentication-error"))
            try:
                return await handler(request)
            except Refused as refused:
                return _refusal(refused.refusal)

        return answer

    # --- rooms ------------------------------------------------------------------------------------------------------

    async def _make(self, request: Request) -> Response:
        body = await _body(request)
        name = body.get("name") or uuid4().hex[:20]
        if not isinstance(name, str):
            raise _invalid("name must be a string")
        room = self._cloud.make(name, _properties(body), str(body.get("privacy", "public")))
        return JSONResponse(room.told())

    async def _rooms(self, request: Request) -> Response:  # noqa: ARG002
        rooms = [room.told() for room in self._cloud.rooms.values()]
        return JSONResponse({"total_count": len(rooms), "data": rooms})

    async def _tell(self, request: Request) -> Response:
        return JSONResponse(self._cloud.room(request.path_params["name"]).told())

    async def _change(self, request: Request) -> Response:
        properties = _properties(await _body(request))
        return JSONResponse(self._cloud.change(request.path_params["name"], properties).told())

    async def _drop(self, request: Request) -> Response:
        name = request.path_params["name"]
        self._cloud.drop(name)
        return JSONResponse({"deleted": True, "name": name})

    async def _presence(self, request: Request) -> Response:
        name, user_id = self._cloud.room(request.path_params["name"]).name, request.query_params.get("userId")
        there = [one for one in self._cloud.present(name, self._lag) if user_id in (None, one["userId"])]
        limit = request.query_params.get("limit", str(len(there)))
        if not limit.isdecimal():
            raise _invalid("limit must be a number")
        return JSONResponse({"total_count": len(there), "data": there[: int(limit)]})

    async def _eject(self, request: Request) -> Response:
        body = await _body(request)
        room = self._cloud.room(request.path_params["name"])
        ids, user_ids = body.get("ids", []), body.get("user_ids", [])
        if not isinstance(ids, list) or not isinstance(user_ids, list) or not (ids or user_ids):
            raise _invalid("ids or user_ids must be a list that is not empty")
        legs = [leg for leg in self._cloud.live_in(room.name) if leg.session_id in ids or leg.user_id in user_ids]
        for leg in legs:
            self._cloud.end(leg, "eject")
        ejected = [leg.session_id for leg in legs]
        if room.meeting is not None and room.meeting.bot.session_id in ids:
            ejected.append(room.meeting.bot.session_id)
            self._cloud.end_meeting(room)
        return JSONResponse({"ejectedIds": ejected})

    # --- dial-out ---------------------------------------------------------------------------------------------------

    async def _start(self, request: Request) -> Response:
        name, body = request.path_params["name"], await _body(request)
        destination = _destination(body)
        self._cloud.hosted(name)
        line = self._lines.dial(destination)
        if line.start_lost:
            return _Cut()
        try:
            leg: Leg | Refused = self._cloud.dial(name, body, line)
        except Refused as refused:
            leg = refused
        return await _answer_of(line, leg)

    async def _stop(self, request: Request) -> Response:
        room, body = await self._in_call(request)
        leg = self._cloud.leg(_needed(body, "sessionId"), room)
        if leg is None or leg.destination is None:
            raise Refused(_NO_DIALOUT)
        self._cloud.end(leg, "stop")
        return JSONResponse({"ok": "true"})

    async def _press(self, request: Request) -> Response:
        body = await _body(request)
        session_id, tones = _needed(body, "sessionId"), _needed(body, "tones")
        leg = self._cloud.leg(session_id, request.path_params["name"])
        if leg is None:
            raise Refused(_NO_SESSION)
        leg.tones.append(tones)
        return JSONResponse({"ok": "true", "sessionId": leg.session_id})

    # --- transfers and callers on hold ------------------------------------------------------------------------------

    async def _transfer(self, request: Request) -> Response:
        return await self._hand_on(request, refer=False)

    async def _refer(self, request: Request) -> Response:
        return await self._hand_on(request, refer=True)

    async def _hand_on(self, request: Request, *, refer: bool) -> Response:
        room, body = await self._in_call(request)
        session_id, to = _needed(body, "sessionId"), _needed(body, "toEndPoint")
        if not to.startswith("sip:") and (refer or not _NUMBER.fullmatch(to)):
            raise _invalid(
                "toEndPoint must be a SIP URI that starts with sip:" + ("" if refer else ", or a phone number")
            )
        if (leg := self._cloud.leg(session_id, room)) is None:
            raise Refused(_WRONG_ID)
        self._cloud.transfer(leg, to, refer=refer)
        return JSONResponse({"ok": "true"})

    async def _forward(self, request: Request) -> Response:
        body = await _body(request)
        if not all(isinstance(body.get(field), str) and body[field] for field in ("callId", "callDomain", "sipUri")):
            raise _invalid("Missing fields")
        try:
            self._cloud.forward(body["callId"], body["sipUri"])
        except CallRejected:
            raise Refused(_NOT_FORWARDED) from None
        return JSONResponse({"ok": "true"})

    async def _in_call(self, request: Request) -> tuple[str, dict[str, Any]]:
        body = await _body(request)
        room, _ = self._cloud.hosted(request.path_params["name"])
        return room.name, body


async def _answer_of(line: PhoneLine, leg: Leg | Refused) -> Response:
    """What the caller of a start gets to see of it, and when."""
    if line.answer_after:
        await asyncio.sleep(line.answer_after)
    if isinstance(leg, Refused):
        raise leg
    return _Cut() if line.answer_lost else JSONResponse({"ok": "true", "sessionId": leg.session_id})


class _Cut(Response):
    """An answer that breaks off."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await cut(self, scope, receive, send)


def _refusal(refusal: Refusal) -> Response:
    return JSONResponse({"error": refusal.error, "info": refusal.info}, refusal.status)


def _invalid(info: str) -> Refused:
    return Refused(Refusal(400, "invalid-request-error", info))


async def _body(request: Request) -> dict[str, Any]:
    """The request's body, with nothing in it that is out of its range."""
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise _invalid("the body must be a JSON object")
    for name, kind in _TYPES.items():
        if name in body:
            _check(name, body[name], kind)
    return body


def _check(name: str, value: Any, kind: Any) -> None:
    if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
        raise _invalid(f"{name} must be of type {kind.__name__}")
    if name in _LONGEST and len(value) > _LONGEST[name]:
        raise _invalid(f"{name} must have at most {_LONGEST[name]} characters")
    if name in _RANGES and not _RANGES[name][0] <= value <= _RANGES[name][1]:
        raise _invalid(f"{name} must be from {_RANGES[name][0]} to {_RANGES[name][1]}")
    if name == "codecs":
        for medium, codecs in value.items():
            if (
                medium not in _CODECS
                or not isinstance(codecs, list)
                or not _CODECS[medium].issuperset(map(str, codecs))
            ):
                raise _invalid(f"codecs.{medium} must be a list of known codecs")


def _needed(body: dict[str, Any], name: str) -> str:
    if not body.get(name):
        raise _invalid(f"{name} is missing")
    return str(body[name])


def _properties(body: dict[str, Any]) -> dict[str, Any]:
    properties = body.get("properties", {})
    if not isinstance(properties, dict):
        raise _invalid("properties must be an object")
    _check_sip(properties.get("sip"))
    sessions = properties.get("max_sip_pstn_sessions_per_room", 1)
    if type(sessions) is not int or sessions < 1:
        raise _invalid("max_sip_pstn_sessions_per_room must be an integer of at least 1")
    return dict(properties)


def _check_sip(sip: Any) -> None:
    """The property that lets SIP callers in; null takes it away."""
    if sip is None:
        return
    if not isinstance(sip, dict) or sip.get("sip_mode") != "dial-in" or not isinstance(sip.get("display_name"), str):
        raise _invalid("sip must be an object with sip_mode dial-in and a display_name, or null")
    endpoints = sip.get("num_endpoints", 1)
    if type(endpoints) is not int or endpoints < 1:
        raise _invalid("num_endpoints must be an integer of at least 1")
    for name, kind in (("codecs", dict), ("video", bool)):
        if name in sip:
            _check(name, sip[name], kind)


def _destination(body: dict[str, Any]) -> str:
    """Whom to call. Fields that are for the other kind of destination are ignored."""
    uri, number = body.get("sipUri"), body.get("phoneNumber")
    if (uri is None) == (number is None):
        raise _invalid("give either sipUri or phoneNumber")
    if uri is None:
        if not _NUMBER.fullmatch(str(number)):
            raise _invalid("phoneNumber must start with a country code, e.g. +1")
        return str(number)
    if not re.fullmatch(r"sip:[^?]+(\?.*)?", uri):
        raise _invalid("sipUri must start with sip:")
    headers = filter(None, uri.partition("?")[2].split("&"))
    if not all(header.upper().startswith("X-") for header in headers):
        raise _invalid("headers in a sipUri must start with X-")
    return str(uri)
