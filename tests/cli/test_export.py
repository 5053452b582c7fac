"""`telstate export`: a replay of the export gives the same answer as a replay of the original."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import anyio
import pytest

from telstate import Dispatcher, Event, ParseError, Router, Settings
from telstate.journals import SqliteJournal
from telstate.routing._ports import DeadLetter
from telstate.testing import FakeClock
from tests.calls import js
from tests.cli.running import CALL, LOGS, STOP, command, environment, run_process, telstate
from tests.corpus.test_logs import LOGS as CORPUS

NUMBER = "+12025550101"


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of a long log, with every dialect, limits that passed, marks and dead letters."""
    path = tmp_path_factory.mktemp("journal") / "calls.db"
    router = Router()

    @router.on(Event)
    async def fail(event: Event) -> None:
        if event.session_id == "fails":
            raise LookupError(f"no customer {NUMBER}")

    async def run() -> None:
        clock, settings = FakeClock(), Settings(ring_deadline=5, silence_before_answer=30)
        async with Dispatcher(router, journal=SqliteJournal(path), settings=settings, clock=clock) as calls:
            await calls.receive_many((LOGS / "busy-day.mixed.jsonl").read_bytes().splitlines())
            await calls.receive(js("dialout-connected", "fails", destination=NUMBER))
            await clock.advance(60)
            await calls.idle()
            await calls.add_dead_letter(b'{"broken":"\xff', ParseError("", "JSON", "x"), "webhook")
        journal = SqliteJournal(path)
        await journal.request_retry([1])

    anyio.run(run)
    return path


def replayed(source: object, *arguments: str) -> bytes:
    """What `telstate replay` prints, without the name of the source in it."""
    run = telstate("replay", "--json", *arguments, source)
    assert run.returncode == 0, run.stderr
    return run.stdout.replace(json.dumps(str(source)).encode(), b'"LOG"')


@pytest.mark.long
def test_a_replay_of_the_export_is_that_of_the_journal(journal: Path, tmp_path: Path) -> None:
    """Byte for byte, as are `tail` and an export of the export."""
    export, again = tmp_path / "calls.jsonl", tmp_path / "again.jsonl"
    assert telstate("export", journal, export) == (0, b"", b"")
    assert replayed(export) == replayed(journal)
    assert telstate("tail", export).stdout == telstate("tail", journal).stdout
    assert telstate("export", export, again) == (0, b"", b"")
    assert again.read_bytes() == export.read_bytes() == run_process("export", journal).stdout


def test_an_export_has_the_whole_journal(journal: Path) -> None:
    """The header, the events, the marks and the dead letters, in this order, and nothing is masked."""
    lines = [json.loads(line) for line in telstate("export", journal).stdout.splitlines()]

    async def read() -> tuple[list[int], list[int], str]:
        kept = SqliteJournal(journal)
        records = [record async for record in kept.read()]
        await kept.open({})
        name = kept.id
        await kept.aclose()
        return [record.seq for record in records], [record.seq for record in records if record.done], name

    seqs, done, name = anyio.run(read)
    header, events, rest = lines[0], lines[1 : len(seqs) + 1], lines[len(seqs) + 1 :]
    assert header["journal"] == name
    assert header["settings"]["ring_deadline"] == 5
    assert [event["seq"] for event in events] == seqs
    assert {event["dialect"] for event in events} >= {"daily-js", "webhook", "daily-python"}
    assert [line["done"] for line in rest if line.get("done", 0) > 0] == done
    letters = [line["dead"] for line in rest if "dead" in line]
    assert [letter["number"] for letter in letters] == list(range(1, len(letters) + 1))
    assert [letter["retry_requested"] for letter in letters][:2] == [True, False]
    assert NUMBER in letters[0]["detail"]
    assert NUMBER in json.dumps(events)


def test_what_a_service_adds_meanwhile_is_left_out_whole(tmp_path: Path) -> None:
    """No mark and no dead letter of an event that the export does not have."""
    path = tmp_path / "calls.db"

    async def run() -> list[bytes]:
        from telstate.journals._export import export_lines

        journal = SqliteJournal(path)
        async with Dispatcher(Router(), journal=journal) as calls:
            await calls.receive(js("dialout-connected"))
            lines = export_lines(path)
            exported = [next(lines), next(lines)]
            await calls.receive(js("dialout-answered"))
            await calls.receive(js("dialout-stopped"))
            await journal.done([1, 2, 3, -1])
            await journal.add_dead_letters([DeadLetter(3, "LaneFull", None, "", 5.0)])
            return exported + list(lines)

    lines = [json.loads(line) for line in anyio.run(run)]
    last = max(line.get("seq", 0) for line in lines)
    assert all(abs(line["done"]) <= last for line in lines if "done" in line)
    assert all(line["dead"]["seq"] <= last for line in lines if "dead" in line)


@pytest.mark.parametrize("log", [*CORPUS, LOGS / "busy-day.mixed.jsonl"], ids=lambda path: path.stem)
def test_any_log_is_exported(log: Path, tmp_path: Path) -> None:
    """A replay of the export has the same sessions and outcomes; lines that cannot be read are reported and left out."""
    export = tmp_path / "calls.jsonl"
    run = telstate("export", log, export)
    assert (run.returncode, run.stdout) == (0, b"")
    original = [line for line in replayed(log).splitlines() if b'{"invalid":' not in line]
    summary = json.loads(original.pop())["summary"]
    counted = [int(found[1]) for found in re.finditer(rb"(\d+) lines? of this application log", run.stderr)]
    assert len(run.stderr.splitlines()) - len(counted) + sum(counted) == summary["invalid"]
    *exported, last = replayed(export, "--strict").splitlines()
    assert exported == original
    assert json.loads(last)["summary"] == {**summary, "invalid": 0}
    assert all(json.loads(line)["v"] == 1 for line in export.read_bytes().splitlines())


def test_it_reads_standard_input_and_says_where_no_time_is_known(tmp_path: Path) -> None:
    """Events are numbered, and a time that nothing tells is null."""
    run = telstate("export", "-", given=CALL + b"not JSON\n" + STOP + CALL[:30])
    assert run.returncode == 0
    assert [json.loads(line)["seq"] for line in run.stdout.splitlines()] == [1, 2]
    assert all(json.loads(line)["at"] is None for line in run.stdout.splitlines())
    assert b"-:2: not read: expected JSON" in run.stderr
    assert b"-:4: not read: the last line has no end, it may be torn" in run.stderr
    given = "\ufeff" + (CALL + STOP).decode()
    assert telstate("export", "-", given=given.encode("utf-16")).stdout == run.stdout


def test_an_existing_file_is_overwritten_only_with_force(journal: Path, tmp_path: Path) -> None:
    """It is replaced at the end, so a log can be exported onto itself. What is written is for its owner alone."""
    file = tmp_path / "calls.jsonl"
    file.write_bytes(CALL + STOP)
    refused = telstate("export", journal, file)
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert b"calls.jsonl exists: give --force to overwrite it" in refused.stderr
    assert file.read_bytes() == CALL + STOP
    before = replayed(file)
    assert telstate("export", file, file, "--force").returncode == 0
    assert replayed(file) == before
    assert file.stat().st_mode & 0o777 == 0o600
    assert telstate("export", journal, file, "--force").returncode == 0
    assert replayed(file) == replayed(journal)
    assert [path.name for path in tmp_path.iterdir()] == ["calls.jsonl"]


@pytest.mark.parametrize("target", ["calls.db", "folder", "pipe"])
def test_what_is_no_export_is_never_overwritten(target: str, tmp_path: Path, journal: Path) -> None:
    """Not even with --force: a database may be the journal of a service."""
    path = tmp_path / target
    if target == "folder":
        path.mkdir()
    elif target == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(journal.read_bytes())
    run = telstate("export", LOGS / "busy-day.mixed.jsonl", path, "--force")
    assert run.returncode == 2
    assert (b"is a database" if target == "calls.db" else b"is not a file") in run.stderr
    assert [file.name for file in tmp_path.iterdir()] == [target]


def test_errors_leave_no_file(tmp_path: Path) -> None:
    """A log that is missing, a folder that is missing, a journal that is damaged halfway."""
    missing = telstate("export", tmp_path / "none.db", tmp_path / "out.jsonl")
    assert (missing.returncode, len(missing.stderr.splitlines())) == (2, 1)
    nowhere = telstate("export", LOGS / "busy-day.mixed.jsonl", tmp_path / "none" / "out.jsonl")
    assert (nowhere.returncode, b"cannot write" in nowhere.stderr) == (2, True)

    async def fill() -> None:
        async with Dispatcher(Router(), journal=SqliteJournal(tmp_path / "calls.db")) as calls:
            await calls.receive_many([js("dialout-connected", f"s{number}", text="x" * 500) for number in range(2000)])

    anyio.run(fill)
    data = bytearray((tmp_path / "calls.db").read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 8192] = b"\xa5garbage" * 1024
    (tmp_path / "calls.db").write_bytes(data)
    damaged = telstate("export", tmp_path / "calls.db", tmp_path / "out.jsonl")
    assert (damaged.returncode, b"it is damaged" in damaged.stderr) == (2, True)
    assert not [path.name for path in tmp_path.iterdir() if "out" in path.name]


def test_a_broken_pipe_ends_quietly(journal: Path) -> None:
    """`| head` is no error."""
    line = f"{shlex.join(command('export', journal))} | head -1"
    run = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], env=environment(), capture_output=True, check=False, timeout=60
    )
    assert (run.returncode, run.stderr) == (0, b"")
    assert json.loads(run.stdout)["journal"]
