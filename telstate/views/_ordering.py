"""The order in which calls are shown, and how many of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["Ordering"]


class Ordering:
    """Sorts by a field of the record, and keeps the first. Without a field, what comes first is shown first, at once.

    Args:
        field: of a record; with a `-` before it, from the greatest to the least. Records without a value come last.
        limit: how many are shown; None for all.
    """

    def __init__(self, field: str | None = None, limit: int | None = None) -> None:
        self._field = field and field.removeprefix("-")
        self._descends = field is not None and field.startswith("-")
        self._limit = limit
        self._known: list[tuple[Any, str]] = []
        self._unknown: list[str] = []
        self._shown = 0

    @property
    def sorts(self) -> bool:
        """True if it looks at records."""
        return self._field is not None

    def add(self, record: Mapping[str, Any], text: str) -> Iterator[str]:
        """Add a call as it is shown; yield what can be shown now."""
        if self._field is None:
            if self._limit is None or self._shown < self._limit:
                self._shown += 1
                yield text
            return
        value = record.get(self._field)
        if value is None or value in ([], {}, ""):
            if self._limit is None or len(self._unknown) < self._limit:
                self._unknown.append(text)
        else:
            self._known.append((_comparable(value), text))
            if self._limit is not None and len(self._known) >= 2 * self._limit + 1_000:
                self._known = self._sorted()[: self._limit]

    def chosen(self, records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return records that are known all at once in this order."""
        kept = list(records)
        if self._field is not None:
            field = self._field
            known = [record for record in kept if record[field] not in (None, "")]
            known.sort(key=lambda record: _comparable(record[field]), reverse=self._descends)
            kept = [*known, *(record for record in kept if record[field] in (None, ""))]
        return kept[: self._limit]

    def rest(self) -> Iterable[str]:
        """Return what was to be sorted."""
        return [*(text for _, text in self._sorted()), *self._unknown][: self._limit]

    def _sorted(self) -> list[tuple[Any, str]]:
        return sorted(self._known, key=lambda one: one[0], reverse=self._descends)


def _comparable(value: Any) -> tuple[bool, Any]:
    """Return something that can be compared with any other: numbers before texts."""
    is_number = isinstance(value, (int, float))
    return (not is_number, value if is_number else str(value))
