"""The bytes of a checkpoint: compressed JSON, in lines of a few hundred items.

Encoding it in one go would keep the event loop waiting for the interpreter's lock.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from pydantic_core import from_json, to_json

from telstate.routing._collector_pause import collector_paused

__all__ = ["VERSION", "decode_checkpoint", "encode_checkpoint"]

VERSION = 1
_LINE_ITEMS = 500


def encode_checkpoint(fields: dict[str, Any]) -> bytes:
    """Compress, so that neither disk nor memory sees ten times as much; zlib's checksum finds a damaged one."""
    packer = zlib.compressobj(level=1)
    packed = [packer.compress(line + b"\n") for line in _lines(fields, [])]
    return b"".join([*packed, packer.flush()])


def _lines(value: Any, path: list[str]) -> Iterator[bytes]:
    """Write lines of [path, value]: one for each value of a dict that has dicts or lists in it, several for a long list."""
    if isinstance(value, dict) and any(isinstance(item, (dict, list)) for item in value.values()):
        for key, item in value.items():
            yield from _lines(item, [*path, key])
    elif isinstance(value, list) and len(value) > _LINE_ITEMS:
        for start in range(0, len(value), _LINE_ITEMS):
            yield to_json([path, value[start : start + _LINE_ITEMS]])
    else:
        yield to_json([path, value])


@collector_paused()
def decode_checkpoint(state: bytes) -> dict[str, Any]:
    """Return the fields of a checkpoint.

    Raises:
        Exception: of any kind, if it is damaged.
    """
    fields: dict[str, Any] = {}
    for line in BytesIO(zlib.decompress(state)):  # one copy at a time, which `splitlines` would make of all of it
        path, value = from_json(line)
        holder = fields
        for key in path[:-1]:
            holder = holder.setdefault(key, {})
        if path[-1] in holder and isinstance(value, list):
            holder[path[-1]].extend(value)
        else:
            holder[path[-1]] = value
    return fields
