"""How checks of an installation run, and what their reports show."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Sequence

import anyio
import pytest

from telstate.cli._checkup import (
    Check,
    Health,
    Observation,
    Once,
    aside,
    fault,
    fine,
    run_checks,
    unchecked,
    unknown_host,
    warning,
)
from telstate.cli._checkup_report import JsonCheckupReport, TextCheckupReport
from telstate.errors import JournalError

Told = list[tuple[str, Sequence[Observation]]]


def run(*checks: Check) -> Told:
    """Run checks; return what each found."""
    told: Told = []
    anyio.run(run_checks, checks, lambda name, found: told.append((name, found)))
    return told


def test_checks_run_at_the_same_time_and_are_told_in_their_order() -> None:
    """The first one waits for the second."""
    second = anyio.Event()

    async def wait() -> list[Observation]:
        await second.wait()
        return [fine("waited")]

    async def release() -> list[Observation]:
        second.set()
        return [fine("released")]

    assert run(Check("a", wait), Check("b", release)) == [("a", [fine("waited")]), ("b", [fine("released")])]


def test_a_check_that_fails_or_takes_too_long_is_a_fault() -> None:
    """The others say what they found."""

    async def hang() -> list[Observation]:
        await anyio.sleep_forever()
        return []

    async def refuse() -> list[Observation]:
        raise JournalError("it is damaged")

    async def break_down() -> list[Observation]:
        raise KeyError("a bug")

    async def look() -> list[Observation]:
        return [fine("right")]

    told = run(Check("a", hang, 0.01), Check("b", refuse), Check("c", break_down), Check("d", look))
    texts = [(name, found[0].health, found[0].found) for name, found in told]
    assert texts == [
        ("a", Health.FAULT, "no result within 0.01 seconds"),
        ("b", Health.FAULT, "it is damaged"),
        ("c", Health.FAULT, "the check failed: 'a bug'"),
        ("d", Health.OK, "right"),
    ]


def test_what_blocks_keeps_nothing_from_ending() -> None:
    """Its thread is one that a process does not wait for at its end."""
    block, begun = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def hang() -> None:
        threads.append(threading.current_thread())
        begun.set()
        block.wait(20)

    async def main() -> None:
        with anyio.move_on_after(0.05) as scope:
            await aside(hang)
        assert scope.cancelled_caught
        assert await aside(lambda: 7) == 7
        with pytest.raises(ValueError, match="refused"):
            await aside(refuse)

    def refuse() -> None:
        raise ValueError("refused")

    began = time.monotonic()
    anyio.run(main)
    assert time.monotonic() - began < 10
    assert begun.wait(20)
    assert threads[0].daemon
    block.set()


def test_names_are_looked_up_first() -> None:
    """An address needs no name server."""
    assert anyio.run(unknown_host, "http://127.0.0.1:9/x") is None
    assert "no address of telstate.invalid is known" in str(anyio.run(unknown_host, "nats://telstate.invalid"))


def test_what_several_checks_need_is_asked_once() -> None:
    """An error too; but whoever runs out of time leaves it to the next."""
    asked: list[int] = []

    async def ask() -> int:
        asked.append(1)
        if len(asked) == 1:
            await anyio.sleep_forever()
        if len(asked) > 2:
            raise JournalError("no")
        return 7

    async def main() -> None:
        once = Once(ask)
        with anyio.move_on_after(0.01):
            await once()
        assert [await once(), await once()] == [7, 7]
        failing = Once(ask)
        for _ in range(2):
            with pytest.raises(JournalError):
                await failing()

    anyio.run(main)
    assert len(asked) == 3


def test_reports_mask_what_is_private() -> None:
    """Whatever a check says. A terminal gets lines that fit."""
    found = [
        warning("+12025550143 is busy", "sip:someone@pbx.example waits", "call +12025550143"),
        unchecked("x\x1b[31m"),
    ]
    text = TextCheckupReport().findings("lines", found)
    assert text == (
        "warning      lines: +12•••••••43 is busy\n"
        "             why sip:som••ne@pbx.example waits\n"
        "             do  call +12•••••••43\n"
        "not checked  lines: x\ufffd[31m"
    )
    line = json.loads(JsonCheckupReport().findings("lines", found).splitlines()[0])["finding"]
    assert line["health"] == "warning"
    assert "2025550" not in str(line)
    narrow = TextCheckupReport(50).findings("lines", [fault("word " * 30, "because", "do it")])
    assert max(map(len, narrow.splitlines())) <= 50
    counts = Counter({Health.OK: 2, Health.WARNING: 1, Health.FAULT: 2})
    assert TextCheckupReport().summary(counts) == "\n2 ok, 1 warning, 2 faults"
    assert json.loads(JsonCheckupReport().summary(counts)) == {
        "summary": {"ok": 2, "warning": 1, "fault": 2, "not_checked": 0}
    }
