"""A file that may not grow: the system's own error, in a process of its own, through the dispatcher."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import anyio

from telstate import Replay
from telstate.journals import SqliteJournal
from telstate.journals._sqlite import lines
from tests.crash.child import digest

ROOT = Path(__file__).parents[2]
_GROWS = """
import json, os, resource, sys
from pathlib import Path
import anyio, structlog
from telstate import Dispatcher, JournalError, Router
from tests.calls import js
from telstate.journals import SqliteJournal
from tests.crash.child import digest

structlog.configure(logger_factory=structlog.WriteLoggerFactory(sys.stderr))

async def main():
    path = Path(sys.argv[1])
    grows = path.with_name("calls.db-wal")
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    found = {"kept": [], "refused": []}
    async with Dispatcher(Router(), journal=SqliteJournal(path)) as calls:
        async def send(number):
            payload = json.dumps(js("dialout-connected", f"s{number}", text="x" * 9000)).encode()
            try:
                outcome = await calls.receive(payload)
                found["kept"].append([outcome.event_id, digest(payload)])
            except JournalError as error:
                found["refused"].append([digest(payload), str(error)])
        for round in range(3):
            for number in range(3):
                await send(f"{round}.{number}")
            room = grows.stat().st_size + 12_345  # for one event and a part of the next
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, most))
            for number in range(3, 6):
                await send(f"{round}.{number}")
            async with anyio.create_task_group() as group:
                for number in range(6, 9):
                    group.start_soon(send, f"{round}.{number}")
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        await send("last")
        found["live"] = len(calls.live())
    print(json.dumps(found))

anyio.run(main)
"""


def test_a_file_that_may_not_grow_refuses_events_until_it_may(tmp_path: Path) -> None:
    """What was acknowledged is kept, what was refused is not, nothing is kept by half, and the error says why."""
    path = tmp_path / "calls.db"
    run = subprocess.run(
        [sys.executable, "-c", _GROWS, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr.decode()[-2000:]
    found = json.loads(run.stdout)
    assert len(found["refused"]) > 3
    for _, error in found["refused"]:
        assert "was not taken in: " in error
        assert "the disk failed or is full; nothing was written" in error

    async def kept() -> list[tuple[int, str]]:
        return [(record.seq, digest(record.payload)) async for record in SqliteJournal(path).read()]

    records = anyio.run(kept)
    assert [(int(event_id.rpartition(":")[2]), sent) for event_id, sent in found["kept"]] == records
    assert [seq for seq, _ in records] == list(range(1, len(records) + 1))
    assert not {sent for _, sent in records} & {sent for sent, _ in found["refused"]}
    replay = Replay()
    for line in lines(path):
        replay.feed(line)
    assert len(replay.engine.live()) == found["live"] == len(records)
