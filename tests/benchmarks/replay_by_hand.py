"""What a developer writes to see the calls of a log of webhooks: dictionaries, no types, one JSON line for each session.

It does not deduplicate, correlate, link or mask, knows no signs of an end, and stops at the first bad line.
`python tests/benchmarks/replay_by_hand.py LOG`
"""

from __future__ import annotations

import json
import sys
from typing import Any

RISES = {
    "dialin.connected": "connected",
    "dialout.connected": "connected",
    "dialout.answered": "answered",
    "dialin.stopped": "stopped",
    "dialout.stopped": "stopped",
    "dialin.error": "error",
    "dialout.error": "error",
}
RANKS = ("connected", "answered", "stopped", "error")
FACTS = (
    "room",
    "domain_id",
    "destination",
    "origin",
    "sip_from",
    "sip_headers",
    "display_name",
    "user_id",
    "error_msg",
)


def main(path: str) -> None:
    """Read the log, and print each session when it ends; at the end the rest."""
    sessions: dict[str, dict[str, Any]] = {}
    write, loads, dumps = sys.stdout.write, json.loads, json.dumps
    with open(path, "rb") as log:
        for line in log:
            event = loads(line)
            payload = event.get("payload")
            if payload is None:
                continue  # a caller on hold: no session yet
            session_id = payload.get("session_id")
            if session_id is None:
                continue
            kind = event["type"]
            session = sessions.get(session_id)
            if session is None:
                if kind not in RISES:
                    continue  # a participant who is no caller, or one who left after the end
                session = sessions[session_id] = {
                    "session_id": session_id,
                    "direction": kind.partition(".")[0],
                    "events": 0,
                }
            session["events"] += 1
            for fact in FACTS:
                if fact in payload and fact not in session:
                    session[fact] = payload[fact]
            state = RISES.get(kind)
            if state is None and kind == "participant.joined":
                state = "answered"
            if state is not None:
                session[f"{state}_at"] = float(payload.get("timestamp") or payload["joined_at"])
                if RANKS.index(state) > RANKS.index(session.get("state", "connected")):
                    session["state"] = state
            if state == "stopped":
                if "answered_at" in session:
                    session["talk_s"] = session["stopped_at"] - session["answered_at"]
                write(dumps({"session": sessions.pop(session_id)}) + "\n")
    for session in sessions.values():
        write(dumps({"session": session}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
