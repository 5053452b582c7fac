"""The receiver of `examples/notify_receiver.py` as a process of its own, to be killed and started again on the same port."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.ports import free_port

__all__ = ["SECRET", "Receiver"]

ROOT = Path(__file__).parents[2]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Receiver:
    """A receiver with a database in a folder.

    Args:
        folder: for what it keeps, and its log.
    """

    def __init__(self, folder: Path) -> None:
        self._database = folder / "received.db"
        self._log = folder / "receiver.log"
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}/calls"
        self._process: subprocess.Popen[bytes] | None = None
        self.kills = 0

    def __enter__(self) -> Self:
        self.keep_alive()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    def keep_alive(self) -> None:
        """Start it, unless it runs."""
        if self._process is not None:
            return
        command = ["uvicorn", "--app-dir", str(ROOT / "examples"), "--port", str(self._port), "notify_receiver:app"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env={**os.environ, "TELSTATE_NOTIFY_SECRET": SECRET, "RECEIVED": str(self._database)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_ready(self) -> None:
        """Wait until it listens."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise TimeoutError(self._log.read_text()[-2000:])

    def wait_for(self, count: int) -> None:
        """Wait until it has committed so many messages."""
        deadline = time.monotonic() + 30
        while len(self.messages()) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.messages()}\n{self._log.read_text()[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill it, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.kills += 1

    def messages(self) -> list[tuple[str, str, str]]:
        """What it has committed, in order: id, type and body of each."""
        with closing(sqlite3.connect(self._database)) as database:
            return database.execute("SELECT id, type, body FROM messages ORDER BY place").fetchall()

    def repeats(self) -> int:
        """How often something came that it had already."""
        return self._log.read_text().count(", again\n")

    def refused(self) -> int:
        """How often a signature was not valid."""
        return self._log.read_text().count('" 401')
