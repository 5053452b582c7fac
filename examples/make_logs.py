"""Make the logs beside this file: `python examples/make_logs.py`.

The busy days are simulated with fixed seeds, so the files are reproducible. The logs in `daily-docs` are made of the example payloads
in Daily's documentation, which use one id for many sessions; here each log gets its own ids.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from telstate import Dialect
from telstate.testing import Noise, simulate

HERE = Path(__file__).parent
CORPUS = HERE.parent / "tests" / "corpus" / "payloads"

DAYS: dict[str, dict[str, Any]] = {
    "busy-day.daily-js": {"seed": 11, "calls": 250, "dialects": [Dialect.DAILY_JS]},
    "busy-day.webhook": {"seed": 12, "calls": 250, "dialects": [Dialect.WEBHOOK]},
    "busy-day.mixed": {
        "seed": 13,
        "calls": 250,
        "dialects": [Dialect.DAILY_JS, Dialect.WEBHOOK, Dialect.DAILY_PYTHON],
        "twice": 0.3,
    },
    "few-calls.webhook": {"seed": 268, "calls": 7, "dialects": [Dialect.WEBHOOK]},
}

# Which of the documentation's examples make up one call: (dialect, event, variant).
CALLS: dict[str, list[tuple[str, str, str | None]]] = {
    "daily-js.dialin": [
        ("daily-js", "dialin-ready", None),
        ("daily-js", "dialin-connected", None),
        ("daily-js", "dialin-warning", None),
        ("daily-js", "dialin-stopped", None),
    ],
    "daily-js.dialin-error": [("daily-js", "dialin-connected", None), ("daily-js", "dialin-error", None)],
    "daily-js.dialout-phone": [
        ("daily-js", "dialout-connected", "phone"),
        ("daily-js", "dialout-answered", "phone"),
        ("daily-js", "dialout-warning", None),
        ("daily-js", "dialout-stopped", None),
    ],
    "daily-js.dialout-sip": [("daily-js", "dialout-connected", "sip"), ("daily-js", "dialout-answered", "sip")],
    "daily-js.dialout-error": [("daily-js", "dialout-error", None)],
    "webhook.dialin": [
        ("webhook", "dialin.ready", None),
        ("webhook", "dialin.connected", None),
        ("webhook", "dialin.warning", None),
    ],
    "webhook.dialout-phone": [
        ("webhook", "dialout.connected", "phone"),
        ("webhook", "dialout.answered", "phone"),
        ("webhook", "dialout.warning", "phone"),
        ("webhook", "dialout.stopped", "phone"),
    ],
    "webhook.dialout-sip": [("webhook", "dialout.answered", "sip")],
    "webhook.transfer": [
        ("webhook", "dialin.connected", None),
        ("webhook", "calltransfer.triggered", "without sip-refer"),
        ("webhook", "calltransfer.initiated", "without sip-refer"),
        ("webhook", "calltransfer.completed", "without sip-refer"),
    ],
}


def make(folder: Path) -> None:
    """Write all logs into a folder."""
    (folder / "daily-docs").mkdir(parents=True, exist_ok=True)
    for name, day in DAYS.items():
        sent = simulate(**day, noise=Noise.of_a_bad_day())
        (folder / f"{name}.jsonl").write_bytes(b"".join(one.line() for one in sent))
    examples = _examples()
    for name, call in CALLS.items():
        lines = [json.dumps(_distinct(examples[key], name)) for key in call]
        (folder / "daily-docs" / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _examples() -> dict[tuple[str, str, str | None], dict[str, Any]]:
    found = {}
    for file in sorted(CORPUS.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            payload = row["payload"]
            found[row["dialect"], payload.get("action") or payload["type"], row["variant"]] = payload
    return found


def _distinct(payload: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an example with the ids of its log."""
    session_id = str(uuid5(NAMESPACE_URL, name))
    if "action" in payload:
        ids = {"sessionId": session_id, "sipCallId": f"{name}@sip.daily.co"}
        return {key: ids.get(key, value) for key, value in payload.items()}
    inner = payload["payload"]
    if "session_id" not in inner:
        return payload
    return {
        **payload,
        "id": payload["id"].replace(inner["session_id"], session_id),
        "payload": {**inner, "session_id": session_id, **({"room": "sip-test"} if name == "webhook.transfer" else {})},
    }


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "logs")
