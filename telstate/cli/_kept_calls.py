"""The calls of one log, kept until the other log is compared: in a temporary file, since a long log has hundreds of thousands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import blake2b
from tempfile import TemporaryFile
from typing import Any, Self

__all__ = ["CallKey", "KeptCalls", "digest_of"]

CallKey = tuple[str, str, int]
"""`session` or `caller`, its id, and which of several calls with that id."""


def digest_of(key: CallKey) -> bytes:
    """Return what stands for a key in memory: a third of its size."""
    return blake2b("\0".join(map(str, key)).encode("utf-8", "replace"), digest_size=12).digest()


class KeptCalls:
    """Records by their keys, in the order in which they came. To be used with `with`."""

    def __init__(self) -> None:
        self._file = TemporaryFile(prefix="telstate-")  # noqa: SIM115 - it lives as long as this
        self._places: dict[bytes, int] = {}
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Delete the file."""
        self._file.close()

    def add(self, key: CallKey, record: dict[str, Any]) -> None:
        """Keep a record. All are added before the first one is popped."""
        self._places[digest_of(key)] = self._end
        self._end += self._file.write(json.dumps([key, record]).encode() + b"\n")

    def pop(self, key: CallKey) -> dict[str, Any] | None:
        """Return a record and forget it; None if there is none."""
        place = self._places.pop(digest_of(key), None)
        return None if place is None else self._at(place)[1]

    def rest(self) -> Iterator[tuple[CallKey, dict[str, Any]]]:
        """Yield what is left."""
        yield from map(self._at, self._places.values())

    def _at(self, place: int) -> tuple[CallKey, dict[str, Any]]:
        self._file.seek(place)
        (kind, name, number), record = json.loads(self._file.readline())
        return (kind, name, number), record
