"""The settings in the header of a log of all partitions. What bounds the memory of one engine holds for each partition by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from telstate.events._dialects.journal import VERSION
from telstate.events._json import to_bytes

__all__ = ["header_of_all", "settings_of_one"]

_BOUNDS = ("max_keys", "max_ended", "max_parked", "max_intents")
_PARTITIONS = "partitions"


def header_of_all(journal: str, settings: Mapping[str, Any], partitions: int) -> bytes:
    """Write the header of a log that has all partitions: its one engine knows as much as all of theirs together."""
    bounds = {name: settings[name] * partitions for name in _BOUNDS if name in settings}
    return to_bytes({"v": VERSION, "journal": journal, "settings": {**settings, **bounds}, _PARTITIONS: partitions})


def settings_of_one(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of one partition, or of the one engine of a journal that has no partitions."""
    settings, partitions = header["settings"], header.get(_PARTITIONS, 1)
    return {**settings, **{name: settings[name] // partitions for name in _BOUNDS if name in settings}}
