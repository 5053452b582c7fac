"""Run a command on a real terminal and watch what it shows."""

from __future__ import annotations

import fcntl
import os
import pty
import re
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
    """Peak memory of the process in KiB, as of the last update. Needs Linux."""

    def lines(self) -> list[str]:
        """Return what stays on the terminal: no escape sequences, and no progress bar, which a slow machine gets to see."""
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.shown.decode())
        left = [line.rstrip("\r").rpartition("\r")[2] for line in text.removesuffix("\r\n").split("\n")]
        return [line for line in left if "━" not in line]


def watch(command: list[str], stdout: Path | None = None, columns: int = 200) -> Watched:
    """Run a command whose standard error is a terminal, and its standard output too unless it goes to a file."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("4H", 50, columns, 0, 0))
    with stdout.open("wb") if stdout is not None else nullcontext(follower) as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=follower, env={**os.environ, "TERM": "xterm-256color"}
        )
    os.close(follower)
    shown, pauses, peak = b"", [0.0], 0
    last: float | None = None
    while select.select([leader], [], [], 120)[0]:
        try:
            data = os.read(leader, 65536)
        except OSError:  # the process has ended, and the terminal with it
            break
        now = time.monotonic()
        if last is not None:
            pauses.append(now - last)
        last, shown, peak = now, shown + data, max(peak, _peak_of(process.pid))
    os.close(leader)
    return Watched(process.wait(), shown, len(pauses), max(pauses), peak)


def _peak_of(pid: int) -> int:
    """Return the peak memory of a process in KiB, 0 if it has ended.

    Not its `ru_maxrss`: on Linux that begins with the memory of the process that started it, here all of pytest.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)
