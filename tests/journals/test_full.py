"""A file that must not grow: the system's own error, in a process of its own, for every journal and through the dispatcher."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from telstate import Replay
from telstate.journals._sqlite import lines
from tests.contracts.test_journals import JOURNALS
from tests.crash.child import digest

ROOT = Path(__file__).parents[2]
_FILES = {"jsonl": "calls.jsonl", "sqlite": "calls.db-wal"}
_GROWS = """
import json, os, resource, sys
from pathlib import Path
import anyio, structlog
from telstate import Dispatcher, JournalError, Router
from tests.calls import js
from tests.contracts.test_journals import JOURNALS
from tests.crash.child import digest

structlog.configure(logger_factory=structlog.WriteLoggerFactory(sys.stderr))

async def main():
    folder, kind, grows = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[1], sys.argv[3])
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    told = {"kept": [], "refused": []}
    journal = JOURNALS[kind](folder)
    async with Dispatcher(Router(), journal=journal) as calls:
        async def send(number):
            payload = json.dumps(js("dialout-connected", f"s{number}", text="x" * 9000)).encode()
            try:
                outcome = await calls.receive(payload)
                told["kept"].append([outcome.event_id, digest(payload)])
            except JournalError as error:
                told["refused"].append([digest(payload), str(error)])
        for round in range(3):
            for number in range(3):
                await send(f"{round}.{number}")
            room = grows.stat().st_size + 12_345  # for one of them, and a part of the next
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, most))
            for number in range(3, 6):
                await send(f"{round}.{number}")
            async with anyio.create_task_group() as group:
                for number in range(6, 9):
                    group.start_soon(send, f"{round}.{number}")
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        await send("last")
        told["live"] = len(calls.live())
    print(json.dumps(told))

anyio.run(main)
"""


@pytest.mark.parametrize("kind", list(JOURNALS))
def test_a_file_that_must_not_grow_takes_nothing_in_and_goes_on_after(tmp_path: Path, kind: str) -> None:
    """What was acknowledged is kept, what was refused is not, nothing is there by half, and why is said."""
    run = subprocess.run(
        [sys.executable, "-c", _GROWS, str(tmp_path), kind, _FILES[kind]],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr.decode()[-2000:]
    told = json.loads(run.stdout)
    reason = "File too large" if kind == "jsonl" else "the disk failed or is full; nothing of it was kept"
    assert len(told["refused"]) > 3
    for _, error in told["refused"]:
        assert "was not taken in: " in error
        assert reason in error
    journal = JOURNALS[kind](tmp_path)

    async def kept() -> list[tuple[int, str]]:
        return [(record.seq, digest(record.payload)) async for record in journal.read()]

    records = anyio.run(kept)
    assert [(int(event_id.rpartition(":")[2]), sent) for event_id, sent in told["kept"]] == records
    assert [seq for seq, _ in records] == list(range(1, len(records) + 1))
    assert not {sent for _, sent in records} & {sent for sent, _ in told["refused"]}
    replay = Replay()
    path = tmp_path / "calls.jsonl"
    for line in path.read_bytes().splitlines() if kind == "jsonl" else lines(tmp_path / "calls.db"):
        replay.feed(line)
    assert len(replay.engine.live()) == told["live"] == len(records)
