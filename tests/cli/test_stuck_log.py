"""A log that nobody reads: the service goes on, drops lines rather than wait, says how many, and ends when asked."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from telstate.cli._log_writer import LineWriter, QueuedHandler
from tests.cli.test_serve import SECRET, event, sent, serving

CHATTY = """
import logging
from telstate import DialoutEvent, Router

router = Router()


@router.on(DialoutEvent)
async def talk() -> None:
    for _ in range(100):
        logging.getLogger("app").warning("x" * 1000)
"""


@pytest.mark.long
def test_a_pipe_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    """Megabytes of lines into a pipe of 64 KB; every event is answered, and SIGTERM ends the process."""
    (tmp_path / "app.py").write_text(CHATTY)
    with serving(tmp_path, "app:router", TELSTATE_WEBHOOK_SECRET=SECRET) as (process, url):
        for number in range(10):
            assert asyncio.run(asyncio.wait_for(sent(url, SECRET, event(number)), 60)) == [200]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_lines_are_dropped_and_counted_when_too_many_wait() -> None:
    """Once the reader goes on it gets those that waited, and the number of the others."""
    reader, end = os.pipe()
    fcntl.fcntl(end, 1031, 4096)  # F_SETPIPE_SZ
    writer = LineWriter(end, lines=20)
    begun = time.monotonic()
    for number in range(200):
        writer.write(f"{number:03} " + "x" * 1000)
    writer.flush(0.1)
    assert time.monotonic() - begun < 30, "who writes waits for nobody"
    text = list[bytes]()

    def read() -> None:
        while chunk := os.read(reader, 65536):
            text.append(chunk)

    thread = threading.Thread(target=read)
    thread.start()
    writer.flush(10)
    os.close(end)
    thread.join(10)
    os.close(reader)
    *lines, last = b"".join(text).decode().splitlines()
    numbers = [int(line[:3]) for line in lines]
    assert numbers == list(range(len(lines)))
    assert 20 <= len(lines) < 40
    assert (
        last == f"telstate: {200 - len(lines)} lines of the log were dropped: whoever reads it was too slow, or stopped"
    )


def test_a_reader_that_has_gone_harms_nothing() -> None:
    """The lines are lost."""
    reader, end = os.pipe()
    os.close(reader)
    writer = LineWriter(end)
    writer.write("a line")
    writer.flush(5)
    os.close(end)


def test_a_record_is_formatted_and_written(capfd: pytest.CaptureFixture[str]) -> None:
    """As any handler would; one that cannot be formatted is left out."""
    writer = LineWriter(2)
    handler = QueuedHandler(writer)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    for values in (("a", 1), ("b",)):
        handler.handle(logging.LogRecord("app", logging.WARNING, __file__, 1, "%s is %d", values, None))
    writer.flush(5)
    assert capfd.readouterr().err == "WARNING a is 1\n"
