"""The process that is traced: `python -m tests.crash.syncer FOLDER`. It reports its progress on standard output."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio

from telstate import Settings
from telstate.routing._ports import Entry
from tests.crash.child import journal_in

__all__ = ["EVENTS"]

EVENTS = 3


async def run(folder: Path) -> None:
    """Append and mark, with a message after each, which shows in the trace at its place."""
    journal = journal_in(folder)
    await journal.open(Settings().model_dump())
    os.write(1, b"opened\n")
    for number in range(1, EVENTS + 1):
        payload = b'{"action":"x","sessionId":"event-number-%d"}' % number
        await journal.append([Entry(1_790_000_000.0 + number, "daily-js", payload)])
        os.write(1, b"appended %d\n" % number)
        await journal.done([number, -number])
        os.write(1, b"marked %d\n" % number)
    await journal.aclose()


if __name__ == "__main__":
    anyio.run(run, Path(sys.argv[1]))
