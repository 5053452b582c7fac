"""Records in files: CSV or Parquet, one for each table. An interrupted run leaves none of them."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import TracebackType
from typing import Any, Protocol, Self

from telstate.views._csv_report import csv_cell
from telstate.views._records_schema import CALLERS, SESSIONS, TRANSFERS, Column, RecordRows

__all__ = ["RecordsFiles"]

_TABLES = {"": SESSIONS, ".transfers": TRANSFERS, ".callers": CALLERS}
"""By what comes before the ending of the file's name."""


class _TableWriter(Protocol):
    def write(self, rows: list[dict[str, Any]]) -> None:
        """Add rows."""

    def close(self) -> None:
        """Write what is left."""


class RecordsFiles:
    """Writes `NAME.csv` or `NAME.parquet` with the sessions, and `NAME.transfers` and `NAME.callers` beside it.

    Use it as a context manager: the files are there when its block ends without an exception, and replace what was there.

    Args:
        path: the file of the sessions.

    Raises:
        ModuleNotFoundError: if it is Parquet, and pyarrow is not installed.
        OSError: if the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(os.path.realpath(path))
        self._make = _WRITERS[self._path.suffix.lower()]()
        self._drafts: dict[str, Path] = {}
        self._writers: dict[str, _TableWriter] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._remove_drafts)
            for name, columns in _TABLES.items():
                # Phone numbers: such a file is created for its owner alone.
                draft = NamedTemporaryFile(dir=self._path.parent, prefix=f".{self._path.name}.", delete=False)
                draft.close()
                self._drafts[name] = Path(draft.name)
                self._writers[name] = self._make(Path(draft.name), columns)
                self._stack.callback(self._writers[name].close)
            stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._stack.close()
            if error is None:
                for name, draft in self._drafts.items():
                    os.replace(draft, self._path.with_suffix(f"{name}{self._path.suffix}"))
        finally:
            self._remove_drafts()

    def write(self, rows: RecordRows) -> None:
        """Add rows. Those of a session come once."""
        self._writers[""].write(list(rows.sessions.values()))
        self._writers[".transfers"].write([row for each in rows.transfers.values() for row in each])
        self._writers[".callers"].write(list(rows.callers.values()))

    def _remove_drafts(self) -> None:
        for draft in self._drafts.values():
            with suppress(OSError):
                draft.unlink()


class _CsvWriter:
    """RFC 4180, as `telstate replay --csv`: lists and objects are JSON, what is not known is empty. But all texts are exact, for programs."""

    def __init__(self, path: Path, columns: Iterable[Column]) -> None:
        self._names = [column.name for column in columns]
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(self._names)

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Add rows."""
        self._writer.writerows([csv_cell(row[name]) for name in self._names] for row in rows)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _parquet() -> Callable[[Path, Iterable[Column]], _TableWriter]:
    import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra
    from pyarrow import parquet  # noqa: PLC0415

    types = {
        "text": pa.string(),
        "json": pa.string(),
        "integer": pa.int64(),
        "boolean": pa.bool_(),
        "number": pa.float64(),
    }

    class ParquetTable:
        """One row group for each write; lists and objects are JSON."""

        def __init__(self, path: Path, columns: Iterable[Column]) -> None:
            self._columns = tuple(columns)
            self._schema = pa.schema([pa.field(one.name, types[one.kind], not one.is_key) for one in self._columns])
            self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")

        def write(self, rows: list[dict[str, Any]]) -> None:
            """Add rows."""
            if rows:
                shown = [{one.name: _plain(row, one) for one in self._columns} for row in rows]
                self._writer.write_table(pa.Table.from_pylist(shown, self._schema))

        def close(self) -> None:
            """Write the footer."""
            self._writer.close()

    return ParquetTable


def _plain(row: Mapping[str, Any], column: Column) -> Any:
    value = row[column.name]
    return json.dumps(value, ensure_ascii=False) if column.kind == "json" and value is not None else value


_WRITERS: Mapping[str, Callable[[], Callable[[Path, Iterable[Column]], _TableWriter]]] = {
    ".csv": lambda: _CsvWriter,
    ".parquet": _parquet,
}
"""By the ending of the file's name."""
