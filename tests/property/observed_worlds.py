"""Random worlds of calls, seen by observers of all dialects at once: ends, signs of an end, transfers, callers on hold, and two clocks.

What happens need not make sense: two sessions may be each other's far leg, somebody may join after they left, times collide. So the
promises of convergence are tried on what no script of a sensible call has.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

__all__ = ["World"]

START = 1_790_000_000
_ENDPOINTS = {"r": 1, "s": 2, "t": 0}
"""How many endpoints each room has."""
_NUMBERS = ("+12025550141", "+12025550142", None)
_TARGETS = ("+12025550190", "sip:desk@pbx.example", "sip:r.0@x.daily.co", "sip:s.1@x.daily.co")
_OBSERVERS = (
    ("webhook",),
    ("webhook",),
    ("client",),
    ("python",),
    ("python in room",),
    ("webhook", "client"),
    ("webhook", "python"),
    ("client", "python"),
)
_SPAN = 300
"""Seconds within which everything happens."""


class World:
    """The records of one world.

    Args:
        rng: what it is drawn from.
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.readies: list[bytes] = []
        """The records of all endpoints, which precede the others: links by room converge only then."""
        self.records: list[bytes] = []
        for room, count in _ENDPOINTS.items():
            for number in range(count):
                self._webhook("dialin.ready", 0, room=room, sip_endpoint=f"sip:{room}.{number}@x.daily.co")
        self.readies, self.records = self.records, []
        for session_id in rng.sample("abcde", rng.randint(1, 4)):
            self._add_session(session_id)
        self._add_shared_signs()
        for call_id in rng.sample("pq", rng.randint(0, 2)):
            self._add_caller(call_id)

    # --- records --------------------------------------------------------------------------------------------------

    def _record(self, at: float, dialect: str, payload: dict[str, Any]) -> None:
        line = {"v": 1, "seq": 1, "at": START + at, "dialect": dialect, "event": None, "payload": payload}
        self.records.append(json.dumps(line).encode())

    def _webhook(self, name: str, at: float, **payload: Any) -> None:
        """Report something with Daily's whole seconds, in a webhook that arrives some time later."""
        if not {"joined_at", "end_ts"} & payload.keys():
            payload["timestamp"] = str(START + int(at))
        hook = {"type": name, "id": f"{name}-{len(self.records)}", "payload": payload, "event_ts": START + at + 0.2}
        self._record(at + self._rng.choice([0.2, 0.7, 3.0, 20.0]), "webhook", hook)

    def _python(self, at: float, handler: str, data: dict[str, Any] | None, room: str | None = None) -> None:
        of_room = {} if room is None else {"room": room}
        self._record(at, "daily-python", {"handler": f"on_{handler}", "data": data, **of_room})

    def _javascript(self, at: float, action: str, **fields: Any) -> None:
        self._record(at, "daily-js", {"action": action, **fields})

    # --- what happens ---------------------------------------------------------------------------------------------

    def _time(self) -> int:
        return self._rng.randint(0, _SPAN)

    def _add_session(self, session_id: str) -> None:
        rng = self._rng
        direction, room = rng.choice(["dialin", "dialin", "dialout"]), rng.choice("rst")
        if direction == "dialin":
            number = rng.choice(_NUMBERS)
            facts = {} if number is None else {"sip_from": f"sip:{number}@carrier.example"}
        else:
            facts = {"destination": rng.choice(_TARGETS[:2])}
        observers, began = rng.choice(_OBSERVERS), self._time()
        if direction == "dialout" and rng.random() < 0.4:
            self._javascript(began - 1, "dialout-requested", sessionId=session_id, room=room, **facts)
        kinds = [
            "joined",
            "joined",
            "dtmf",
            "warning",
            "left",
            "left",
            *(["answered"] if direction == "dialout" else []),
        ]
        happened = [("connected", began)] + [(kind, self._time()) for kind in rng.sample(kinds, rng.randint(0, 5))]
        happened += [(kind, self._time()) for kind in rng.choice([[], [], [], ["stopped"], ["error"]])]
        for kind, at in happened:
            for observer in rng.sample(observers, rng.randint(1, len(observers))):
                self._report(observer, kind, at, session_id, direction, room, facts)
        for _ in range(rng.choice([0, 0, 1, 2, 4])):
            self._add_step_of_transfer(session_id, room)
        if rng.random() < 0.2:
            self._javascript(self._time(), "stop-requested", sessionId=session_id)

    def _report(  # noqa: PLR0917
        self, observer: str, kind: str, at: int, session_id: str, direction: str, room: str, facts: dict[str, Any]
    ) -> None:
        """Let one observer report what happened to a session, in its words."""
        if observer == "webhook":
            self._report_in_webhook(kind, at, session_id, direction, room, facts)
        elif observer == "client":
            client = {"callClientId": f"client in {room}"}
            if kind in ("joined", "left"):
                self._javascript(at + 0.25, f"participant-{kind}", participant={"session_id": session_id}, **client)
                return
            own = {"sipFrom" if key == "sip_from" else key: value for key, value in facts.items()}
            if direction == "dialin" and kind == "connected" and _ENDPOINTS[room]:
                own["sipEndpoint"] = f"sip:{room}.{_ENDPOINTS[room] - 1}@x.daily.co"
            name = "dtmf-event" if kind == "dtmf" else f"{direction}-{kind}"
            self._javascript(
                at + 0.25, name, sessionId=session_id, sipCallId=f"{session_id}@x", errorMsg="x", **client, **own
            )
        else:
            of_room = room if observer == "python in room" else None
            if kind in ("joined", "left"):
                self._python(at + 0.25, f"participant_{kind}", {"id": session_id}, of_room)
                return
            name = "dtmf_event" if kind == "dtmf" else f"{direction}_{kind}"
            own = {"sipFrom": facts["sip_from"]} if "sip_from" in facts else {}
            self._python(at + 0.25, name, {"sessionId": session_id, "message": "x", **own}, of_room)

    def _report_in_webhook(  # noqa: PLR0917
        self, kind: str, at: int, session_id: str, direction: str, room: str, facts: dict[str, Any]
    ) -> None:
        of = {"session_id": session_id, "room": room}
        if kind == "joined":
            self._webhook("participant.joined", at, joined_at=START + at, **of)
        elif kind == "left" and self._rng.random() < 0.7:
            since = max(0, at - self._rng.randint(0, 40))
            self._webhook("participant.left", at, joined_at=START + since, duration=at - since, **of)
        elif kind == "left":
            self._webhook("participant.left", at, **of)
        elif kind != "dtmf":  # no webhook reports key presses
            self._webhook(f"{direction}.{kind}", at, error_msg="x", **of, **({} if kind == "error" else facts))

    def _add_step_of_transfer(self, session_id: str, room: str) -> None:
        step = self._rng.choice(["triggered", "initiated", "answered", "completed", "requested", "failed"])
        target = self._rng.choice(_TARGETS)
        spelled = f'"Desk" <{target}>' if target.startswith("sip:") else f"tel:{target}"
        to = self._rng.choice([target, target.removeprefix("sip:"), spelled])
        if step in ("requested", "failed"):
            self._javascript(self._time(), f"transfer-{step}", sessionId=session_id, toEndpoint=to)
        else:
            self._webhook(f"calltransfer.{step}", self._time(), session_id=session_id, room=room, to_endpoint=to)

    def _add_shared_signs(self) -> None:
        """Let meetings end and clients leave."""
        rng = self._rng
        for _ in range(rng.randint(0, 2)):
            at = self._time()
            start = {"start_ts": START + rng.randint(0, at)} if rng.random() < 0.5 else {}
            self._webhook("meeting.ended", at, room=rng.choice("rst"), end_ts=START + at, **start)
        for _ in range(rng.randint(0, 2)):
            left_at, room = self._time() + 0.25, rng.choice("rst")
            who = rng.choice(["client", "python", "python in room"])
            if who == "client":
                self._javascript(left_at, "left-meeting", callClientId=f"client in {room}")
            else:
                self._python(left_at, "left", None, room if who == "python in room" else None)

    def _add_caller(self, call_id: str) -> None:
        """Let somebody wait on hold; the program may forward them."""
        rng, at = self._rng, self._time()
        held = {"To": "+12025550100", "From": rng.choice(_NUMBERS[:2]), "callId": call_id, "callDomain": "d"}
        self._record(at, "webhook", held)
        action = rng.choice([None, "pinless-forwarded", "pinless-forwarded", "forward-refused"])
        if action is not None:
            endpoint = rng.choice(["sip:r.0@x.daily.co", "sip:s.0@x.daily.co", "sip:s.1@x.daily.co"])
            self._javascript(at + rng.randint(1, 20), action, callId=call_id, sipEndpoint=endpoint)
