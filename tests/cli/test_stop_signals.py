"""Signals that stop a service."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from telstate.cli._log_writer import LineWriter
from telstate.cli._stop_signals import StopSignals
from telstate.cli._systemd import ServiceManager
from tests.routing import until


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Those of this process are back at the end."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def counted(stop: StopSignals, taken: int) -> bool:
    """Whether there were so many signals."""
    return stop.count == taken


@pytest.mark.parametrize("patience", [1, 2])
def test_each_is_said_and_taken_until_there_were_enough(patience: int, tmp_path: Path) -> None:
    """The next one ends the process, and so does one that comes when the service has ended."""
    log = tmp_path / "log"
    writer = LineWriter(os.open(log, os.O_WRONLY | os.O_CREAT))
    counts: list[int] = []

    async def take(signals: int) -> None:
        with StopSignals(counts.append, patience=patience, manager=ServiceManager({}), writer=writer) as stop:
            for taken in range(1, signals + 1):
                assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
                os.kill(os.getpid(), signal.SIGTERM if taken % 2 else signal.SIGINT)
                await until(partial(counted, stop, taken))
            has_ended = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            assert has_ended is (signals > patience)
        assert {signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)} == {signal.SIG_DFL}

    asyncio.run(take(1))
    asyncio.run(take(patience + 1))
    assert counts == [1, *range(1, patience + 2)]
    writer.flush(5.0)
    lines = log.read_text().splitlines()
    assert lines[:3] == [f"telstate: SIG{name} asks it to stop" for name in ("TERM", "TERM", "INT")]
