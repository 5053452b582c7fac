"""Run a command on a real terminal and watch what it shows."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple


class Watched(NamedTuple):
    """What a command did on its terminal."""

    returncode: int
    shown: bytes
    """Everything written to the terminal."""
    updates: int
    longest_pause: float
    """Seconds between two updates, from the first to the end."""
    peak: int
    """Peak memory of the process, in KiB."""


def watch(command: list[str], stdout: Path | None = None, columns: int = 200) -> Watched:
    """Run a command whose standard error is a terminal, and its standard output too unless it goes to a file."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("4H", 50, columns, 0, 0))
    with stdout.open("wb") if stdout is not None else nullcontext(follower) as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=follower, env={**os.environ, "TERM": "xterm-256color"}
        )
    os.close(follower)
    shown, pauses = b"", [0.0]
    last: float | None = None
    while select.select([leader], [], [], 120)[0]:
        try:
            data = os.read(leader, 65536)
        except OSError:  # the process has ended, and the terminal with it
            break
        now = time.monotonic()
        if last is not None:
            pauses.append(now - last)
        last, shown = now, shown + data
    os.close(leader)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Watched(process.returncode, shown, len(pauses), max(pauses), usage.ru_maxrss)
