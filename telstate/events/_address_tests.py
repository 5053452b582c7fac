"""The requests with which Daily tests an address before it uses it. They carry no event, though a receiver may log them beside events."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["LONGEST_UNSIGNED", "TRUNK_TEST", "is_trunk_test", "is_unsigned_test"]

TRUNK_TEST = "sip_trunk.test"
"""The type of the signed request that is sent when a SIP trunk is created."""
LONGEST_UNSIGNED = 200
"""How many bytes of an unsigned request are read: enough for every test that needs no signature."""


def is_unsigned_test(body: bytes) -> bool:
    """Return True for what is sent when a webhook or a pinless dial-in is set up: `{"test": "test"}` in several spellings and, for
    pinless dial-in, only a `To`."""
    if len(body) > LONGEST_UNSIGNED:
        return False
    value = _load(body)
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)).lower() in ("test", "to")


def is_trunk_test(body: bytes) -> bool:
    """Return True for what is sent when a SIP trunk is created."""
    if TRUNK_TEST.encode() not in body:
        return False
    value = _load(body)
    return isinstance(value, dict) and value.get("type") == TRUNK_TEST


def _load(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
