"""What a test in another process asks a `FakeDaily`: the truth of its simulation, and to let something happen in it.

None of this is Daily's: it is below `/simulation`, beside the REST API, with the same key.

    GET    /simulation/sessions              all sessions; ?destination=+12025550101 for some
    GET    /simulation/sessions/:id          one, with who answered it
    POST   /simulation/calls                 {"to": number, "from", "talks", "waits"}: somebody calls a pinless number; with "trunk",
                                             one of a SIP trunk; with "pin", they enter it; "to" may be a SIP endpoint, too
    POST   /simulation/hangUp                {"id": of a session, or of a caller on hold}
    POST   /simulation/rooms/:name/bot       a bot joins; DELETE: it leaves
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from telstate.testing._domain import CallRejected
from telstate.testing._refusals import Refusal, RequestRefused
from telstate.testing._requests import answering, invalid, json_object
from telstate.testing._rooms import Leg

if TYPE_CHECKING:
    from telstate.testing._daily import FakeDaily

__all__ = ["SIMULATION", "Simulation"]

SIMULATION = "/simulation"


class Simulation:
    """The routes of a fake's simulation.

    Args:
        daily: the fake.
        unix: makes Unix seconds of a time of the fake.
        start_bot: starts a bot for a room that exists.
    """

    def __init__(
        self, daily: FakeDaily, unix: Callable[[float], float], start_bot: Callable[[str, Any], dict[str, str]]
    ) -> None:
        self._daily = daily
        self._unix = unix
        self._start_bot = start_bot

    def routes(self) -> list[Route]:
        """Return the routes; all need the key."""
        bot = f"{SIMULATION}/rooms/{{name}}/bot"
        table = [
            ("GET", f"{SIMULATION}/sessions", self._sessions),
            ("GET", f"{SIMULATION}/sessions/{{id}}", self._session),
            ("POST", f"{SIMULATION}/calls", self._call),
            ("POST", f"{SIMULATION}/hangUp", self._hang_up),
            ("POST", bot, self._join),
            ("DELETE", bot, self._leave),
        ]
        return [Route(path, answering(handler, self._daily.key), methods=[method]) for method, path, handler in table]

    async def _sessions(self, request: Request) -> Response:
        wanted = request.query_params.get("destination")
        found = [leg for leg in self._daily.sessions if wanted in (None, leg.destination)]
        return JSONResponse({"total_count": len(found), "data": [self._shown(leg) for leg in found]})

    async def _session(self, request: Request) -> Response:
        try:
            leg = self._daily.session(request.path_params["id"])
        except KeyError:
            raise RequestRefused(Refusal(404, "not-found", "there was never such a session")) from None
        return JSONResponse(self._shown(leg))

    async def _call(self, request: Request) -> Response:
        """Let somebody call: a number, a SIP trunk's number, a number with a PIN, or an endpoint."""
        body = await json_object(request)
        to, talks, waits = body.get("to"), _seconds(body, "talks"), _seconds(body, "waits")
        if not isinstance(to, str) or not isinstance(body.get("from", ""), str):
            raise invalid("to and from are numbers, such as +12025550100, or SIP URIs")
        caller = [body["from"]] if "from" in body else []
        try:
            if to.startswith("sip:"):
                return JSONResponse({"sessionId": self._daily.dial_in(to, *caller, talks=talks)})
            if "trunk" in body:
                call_id = self._daily.call_trunk(to, *caller, trunk=body["trunk"], talks=talks)
            elif "pin" in body:
                call_id = self._daily.call_pin(to, str(body["pin"]), *caller, talks=talks)
            else:
                call_id = self._daily.call_in(to, *caller, talks=talks, waits=waits)
        except (CallRejected, ValueError) as error:
            raise invalid(str(error)) from None
        return JSONResponse({"callId": call_id})

    async def _hang_up(self, request: Request) -> Response:
        return JSONResponse({"hungUp": self._daily.hang_up(str((await json_object(request)).get("id")))})

    async def _join(self, request: Request) -> Response:
        body = await json_object(request) if await request.body() else {}
        return JSONResponse(self._start_bot(request.path_params["name"], body))

    async def _leave(self, request: Request) -> Response:
        self._daily.leave(request.path_params["name"])
        return Response(status_code=200)

    def _shown(self, leg: Leg) -> dict[str, Any]:
        def at(time: float | None) -> float | None:
            return None if time is None else round(self._unix(time), 3)

        return {
            "sessionId": leg.session_id,
            "room": leg.room,
            "direction": leg.direction,
            "destination": leg.destination,
            "sipFrom": leg.sip_from,
            "callId": leg.call_id,
            "state": leg.state,
            "answeredBy": leg.answered_by,
            "endedBy": leg.ended_by,
            "startedAt": at(leg.started_at),
            "answeredAt": at(leg.answered_at),
            "endedAt": at(leg.ended_at),
        }


def _seconds(body: dict[str, Any], name: str) -> float | None:
    value = body.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0):
        raise invalid(f"{name} is a number of seconds from 0 on")
    return value
