"""`telstate dead`, on journals that a real service wrote, and `telstate replay` of a database."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from telstate import DialoutEvent, Dispatcher, Router, Session
from telstate.journals import JsonlJournal, SqliteJournal
from tests.calls import js
from tests.cli.running import json_lines as told, telstate

NUMBER = "+12025550101"


def serve(path: Path) -> None:
    """A service whose handlers fail."""
    router = Router()

    @router.on(DialoutEvent)
    async def bill(event: DialoutEvent) -> None:
        raise LookupError(f"no customer {event.destination}")

    @router.on_end()
    async def fine(session: Session) -> None:
        """This one does not."""

    async def run() -> None:
        journal = SqliteJournal(path) if path.suffix == ".db" else JsonlJournal(path)
        async with Dispatcher(router, journal=journal) as calls:
            for name in ("dialout-connected", "dialout-answered", "dialout-stopped"):
                await calls.receive(js(name, destination=NUMBER))

    anyio.run(run)


@pytest.fixture(params=["calls.db", "calls.jsonl"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A journal with three dead letters."""
    path: Path = tmp_path / request.param
    serve(path)
    return path


def test_letters_are_listed_shown_asked_for_and_dropped(journal: Path) -> None:
    """By their numbers; phone numbers only when asked for."""
    listed = telstate("dead", "list", journal).stdout.decode()
    assert listed.count("LookupError") == 3
    assert "3 dead letters" in listed
    assert NUMBER not in listed
    assert NUMBER in telstate("dead", "list", journal, "--numbers").stdout.decode()
    letters = told(telstate("dead", "list", journal, "--json"))
    assert [letter["number"] for letter in letters] == [1, 2, 3]
    shown = telstate("dead", "show", journal, "2").stdout.decode()
    assert NUMBER not in shown
    assert json.loads(shown)["at"] == told(telstate("dead", "list", journal, "--json"))[1]["at"]
    full = json.loads(telstate("dead", "show", journal, "2", "--json").stdout)
    assert full["payload"]["action"] == "dialout-answered"
    assert full["facts"]["session"]["destination"] == NUMBER
    assert full["handler"].endswith("bill")
    assert telstate("dead", "retry", journal, "1", "3").stdout == b"2 asked to be tried again\n"
    assert telstate("dead", "list", journal).stdout.count(b"(asked to try again)") == 2
    assert telstate("dead", "drop", journal, "1").stdout == b"1 dropped\n"
    assert telstate("dead", "drop", journal, "--all").stdout == b"2 dropped\n"
    assert telstate("dead", "drop", journal, "--all").stdout == b"0 dropped\n"
    assert b"0 dead letters" in telstate("dead", "list", journal).stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (lambda path: ("show", path, "7"), "there is no dead letter 7: `telstate dead list` tells"),
        (lambda path: ("drop", path, "1", "8"), "there is no dead letter 8"),
        (lambda path: ("drop", path), "by their numbers, or --all"),
        (lambda path: ("retry", path, "1", "--all"), "by their numbers, or --all"),
        (lambda path: ("list", f"{path}.not"), "calls."),
    ],
)
def test_misuse_is_told(tmp_path: Path, arguments: Callable[[Path], tuple[str, ...]], complaint: str) -> None:
    """In one line, with exit code 2, and nothing has changed."""
    journal = tmp_path / "calls.db"
    serve(journal)
    run = telstate("dead", *arguments(journal))
    assert (run.returncode, run.stdout) == (2, b"")
    assert complaint in run.stderr.decode()
    assert len(run.stderr.splitlines()) == 1
    assert b"3 dead letters" in telstate("dead", "list", journal).stdout


def test_while_a_service_runs_letters_of_a_database_can_be_dropped_and_those_of_a_file_not(tmp_path: Path) -> None:
    """A file has one writer, and that is said."""

    async def run(path: Path) -> tuple[int, bytes]:
        journal = SqliteJournal(path) if path.suffix == ".db" else JsonlJournal(path)
        async with Dispatcher(Router(), journal=journal):
            assert b"3 dead letters" in (await anyio.to_thread.run_sync(telstate, "dead", "list", path)).stdout
            dropped = await anyio.to_thread.run_sync(telstate, "dead", "drop", path, "--all")
            return dropped.returncode, dropped.stderr

    for name in ("calls.db", "calls.jsonl"):
        serve(tmp_path / name)
    assert anyio.run(run, tmp_path / "calls.db") == (0, b"")
    code, complaint = anyio.run(run, tmp_path / "calls.jsonl")
    assert code == 2
    assert b"written by another process: stop that one" in complaint


def test_replay_reads_a_database_as_it_reads_a_file(tmp_path: Path) -> None:
    """The same answers, also while a service writes it; other databases are refused in one line."""
    for name in ("calls.db", "calls.jsonl"):
        serve(tmp_path / name)
    from_database = told(telstate("replay", tmp_path / "calls.db", "--json"))
    from_file = told(telstate("replay", tmp_path / "calls.jsonl", "--json"))
    assert from_database[-1] == from_file[-1]
    (session,) = [line["session"] for line in from_database if "session" in line]
    assert isinstance(session, dict)
    assert session["state"] == "stopped"

    async def live() -> None:
        async with Dispatcher(Router(), journal=SqliteJournal(tmp_path / "calls.db")) as calls:
            await calls.receive(js("dialout-connected", "another"))
            run = await anyio.to_thread.run_sync(telstate, "replay", tmp_path / "calls.db", "--json")
            assert b'"another"' in run.stdout

    anyio.run(live)
    sqlite3.connect(tmp_path / "other.db").executescript("CREATE TABLE t (a)").connection.close()
    run = telstate("replay", tmp_path / "other.db")
    assert run.returncode == 2
    assert b"no telstate journal" in run.stderr


def test_odd_journals_are_told_in_one_line(tmp_path: Path) -> None:
    """No traceback, and nothing that hangs."""
    path = tmp_path / "calls.jsonl"
    head = b'{"v":1,"journal":"j","settings":{}}\n'
    for odd in (b'{"v":1,"dead":{}}\n', b'{"v":1,"done":99999999999999999}\n', b"x\n"):
        path.write_bytes(head + odd)
        run = telstate("dead", "list", path)
        assert (run.returncode, len(run.stderr.splitlines())) == (2, 1), run.stderr
        assert b"is damaged" in run.stderr
    path.unlink()
    os.mkfifo(path)
    run = telstate("dead", "list", path)
    assert (run.returncode, b"is no file" in run.stderr) == (2, True)
