"""The archive of a journal: the events that it pruned, as JSON Lines, compressed if the file's name ends in `.gz`.

An event is in the archive, and on the disk, before it leaves the journal. What a crash in between leaves at the end of the archive
is cut off again: the journal remembers how long the archive was.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from telstate.journals._file_lock import identity_of

__all__ = ["Archive", "ArchiveEnd"]


class ArchiveEnd(NamedTuple):
    """Where the archive ended when the journal last deleted something."""

    device: int
    inode: int
    length: int


class Archive:
    """A file to which lines are added. It may be moved away at any time: the next lines begin a new one.

    Args:
        path: the file; it is created if missing, readable for its owner alone.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def add(self, lines: Iterable[bytes], header: bytes, end: ArchiveEnd | None) -> ArchiveEnd:
        """Add lines, on the disk on return.

        Args:
            lines: without line ends.
            header: the first line of a new file.
            end: where the last addition ended that counts; None if there is none.

        Raises:
            OSError: if it cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            status = os.fstat(file)
            length = status.st_size
            if end is not None and identity_of(status) == end[:2] and length > end.length:
                os.ftruncate(file, length := end.length)
            text = b"".join(line + b"\n" for line in ([header] if not length else []) + list(lines))
            data = gzip.compress(text, 6) if self.path.suffix == ".gz" else text
            written = 0
            while written < len(data):
                written += os.pwrite(file, data[written:], length + written)
            os.fsync(file)
            return ArchiveEnd(*identity_of(status), length + len(data))
        finally:
            os.close(file)
