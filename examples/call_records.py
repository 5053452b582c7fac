"""Driven from a recorded log: write a call record for every session, as CSV.

    python examples/call_records.py examples/logs/busy-day.webhook.jsonl > calls.csv

A record is written once, when a session leaves memory and late events have arrived: see `on_retired`. The time is that of the log.
"""

from __future__ import annotations

import csv
import sys
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import anyio

from telstate import Dispatcher, LogClock, ParseError, Router, Session

router = Router("records")
writer = csv.writer(sys.stdout, lineterminator="\n")
COLUMNS = (
    "session_id",
    "direction",
    "room",
    "number",
    "started_at",
    "cause",
    "ended_by",
    "setup_s",
    "ring_s",
    "talk_s",
)


@router.on_retired()
async def write(session: Session) -> None:
    """Write the line of a call."""
    number = session.destination or session.sip_from or ""
    masked = f"{number[:3]}…{number[-2:]}" if number else ""  # a file of numbers would need protection
    values = [masked if column == "number" else getattr(session, column) for column in COLUMNS]
    writer.writerow(["" if value is None else value for value in values])


async def main(log: BinaryIO) -> None:
    """Feed the log to the same dispatcher that a live backend uses."""
    writer.writerow(COLUMNS)
    async with Dispatcher(router, clock=LogClock()) as calls:
        while lines := list(islice(log, 500)):
            for answer in await calls.receive_many(lines):
                if isinstance(answer, ParseError):
                    print(f"not understood: {answer}", file=sys.stderr)
        calls.retire()
        await calls.idle()
        print(f"{len(calls.live())} calls never ended in this log", file=sys.stderr)


if __name__ == "__main__":
    with Path(sys.argv[1]).open("rb") as file:
        anyio.run(main, file)
