"""`telstate dead`, on journals that a dispatcher wrote, and on exports of them."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from telstate import (
    DialinConnected,
    DialoutConnected,
    DialoutEvent,
    Dispatcher,
    Event,
    ParseError,
    PinlessDialin,
    Router,
    Session,
)
from telstate.journals import SqliteJournal
from telstate.routing._ports import DeadLetter
from telstate.testing import FakeClock
from tests.calls import js
from tests.cli.running import environment, json_lines, run_process, telstate

NUMBER = "+12025550101"
_DAMAGED_SESSION = b"""{"v":1,"journal":"j","settings":{}}
{"v":1,"dead":{"number":1,"retry_requested":false,"seq":1,"reason":"","handler":null,"detail":"","at":0,"payload":"","facts":{"session":{}}}}
"""


def serve(path: Path) -> Path:
    """Run a service whose handlers fail."""
    router = Router()

    @router.on(DialoutEvent)
    async def bill(event: DialoutEvent) -> None:
        raise LookupError(f"no customer {event.destination}")

    @router.on_end()
    async def succeed(session: Session) -> None:
        """Leave no dead letter."""

    async def run() -> None:
        async with Dispatcher(router, journal=SqliteJournal(path)) as calls:
            for name in ("dialout-connected", "dialout-answered", "dialout-stopped"):
                await calls.receive(js(name, destination=NUMBER))

    anyio.run(run)
    return path


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal with three dead letters."""
    return serve(tmp_path / "calls.db")


def test_dead_letters_are_listed_and_shown(journal: Path) -> None:
    """By their numbers, and phone numbers only if asked for. An export has the same dead letters."""
    export = journal.with_suffix(".jsonl")
    assert telstate("dead", "retry", journal, "3").returncode == 0
    assert telstate("export", journal, export).returncode == 0
    for source in (journal, export):
        listed = telstate("dead", "list", source).stdout.decode()
        assert listed.count("LookupError") == 3
        assert listed.count("(retry requested)") == 1
        assert "3 dead letters" in listed
        assert NUMBER not in listed
        assert NUMBER in telstate("dead", "list", source, "--numbers").stdout.decode()
        letters = json_lines(telstate("dead", "list", source, "--json"))
        assert [letter["number"] for letter in letters] == [1, 2, 3]
        shown = telstate("dead", "show", source, "2").stdout.decode()
        assert NUMBER not in shown
        assert json.loads(shown)["at"] == letters[1]["at"]
        assert json.loads(telstate("dead", "show", source, "2", "--json").stdout) == letters[1]
        assert NUMBER not in json.dumps(letters)
        full = json.loads(telstate("dead", "show", source, "2", "--json", "--numbers").stdout)
        assert full == json_lines(telstate("dead", "list", source, "--json", "--numbers"))[1]
        assert full["event"]["action"] == "dialout-answered"
        assert full["session"]["destination"] == NUMBER
        assert full["handler"].endswith("bill")


def test_a_dead_letter_shows_no_internals(journal: Path) -> None:
    """The session is the record of every report, and a rewritten event claims no dialect."""
    shown = json.loads(telstate("dead", "show", journal, "3").stdout)
    assert " ".join(shown) == "number retry_requested seq at reason detail handler handlers event session"
    assert [key for key in shown["session"] if key.startswith("_")] == []
    assert (shown["session"]["state"], shown["session"]["cause"]) == ("stopped", "completed")


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A journal with dead letters about two calls (1 and 2), a caller on hold (3), and a payload that could not be read (4)."""
    path, router = tmp_path / "mixed.db", Router()

    @router.on(DialoutConnected)
    @router.on(DialinConnected)
    @router.on(PinlessDialin)
    async def fail(event: Event) -> None:
        raise LookupError(event.action)

    async def run() -> None:
        clock = FakeClock(1_790_000_000.0)
        async with Dispatcher(router, journal=SqliteJournal(path), clock=clock) as calls:
            await calls.receive(js("dialout-connected", "a", destination=NUMBER, room="one"))
            await calls.idle()
            await clock.advance(3600)
            await calls.receive(js("dialin-connected", "b", sipFrom="sip:+12025550142@x.example", sipCallId="c@x"))
            await calls.receive(b'{"To":"+12025550100","From":"+1 202 555 0199","callId":"hold","callDomain":"d"}')
            await calls.idle()
            await calls.add_dead_letter(b'{"x', ParseError("", "a JSON object", '{"x'), "webhook")

    anyio.run(run)
    return path


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ([], [1, 2, 3, 4]),
        (["--number", "202 555-0101"], [1]),
        (["--number", "+12025550142", "--number", "0199202555019"], [2]),
        (["--number", "+12025550199"], [3]),
        (["--room", "one"], [1]),
        (["--session", "b"], [2]),
        (["--call", "c@x", "--call", "hold"], [2, 3]),
        (["--direction", "dialout"], [1]),
        (["--where", "sip_call_id == 'c@x'"], [2]),
        (["--since", "2026-09-21T15:00"], [2, 3, 4]),
        (["--until", "2026-09-21T15:00"], [1]),
        (["--until", "2026-09-21", "--session", "a"], [1]),
        (["--since", "2026-09-22"], []),
        (["--call", "nope"], []),
    ],
)
def test_dead_letters_are_selected(mixed: Path, options: list[str], numbers: list[int]) -> None:
    """By the call that they are about, and by when they were given up; of a journal and of its export."""
    export = mixed.with_suffix(".jsonl")
    telstate("export", mixed, export)
    for source in (mixed, export):
        listed = json_lines(telstate("dead", "list", source, "--json", *options))
        assert [letter["number"] for letter in listed] == numbers
        total = telstate("dead", "list", source, *options).stdout.splitlines()[-1].decode()
        assert total == (f"{len(numbers)} of 4 dead letters" if options else "4 dead letters")


@pytest.mark.parametrize("option", ["--state", "--cause", "--anomalies"])
def test_what_is_known_at_the_end_of_a_call_selects_no_dead_letter(mixed: Path, option: str) -> None:
    """Such options do not exist."""
    run = telstate("dead", "list", mixed, option, "stopped")
    assert (run.returncode, b"No such option" in run.stderr) == (2, True)


def test_an_unreadable_payload_has_no_handler(tmp_path: Path) -> None:
    """It is shown as it came, with its dialect."""
    path = tmp_path / "calls.db"

    async def run() -> None:
        async with Dispatcher(Router(), journal=SqliteJournal(path)) as calls:
            await calls.add_dead_letter(b'{"x', ParseError("", "a JSON object", '{"x'), "webhook")

    anyio.run(run)
    assert telstate("dead", "list", path).stdout.splitlines()[1].split()[4] == b"none"
    shown = json.loads(telstate("dead", "show", path, "1").stdout)
    assert (shown["seq"], shown["handler"], shown["dialect"], shown["payload"]) == (0, None, "webhook", '{"x')


def test_dead_letters_are_retried_and_dropped(journal: Path) -> None:
    """Some, or all."""
    assert telstate("dead", "retry", journal, "1", "3").stdout == b"retry requested for 2\n"
    assert telstate("dead", "list", journal).stdout.count(b"(retry requested)") == 2
    assert run_process("dead", "drop", journal, "1").stdout == b"1 dropped\n"
    assert telstate("dead", "drop", journal, "--all").stdout == b"2 dropped\n"
    assert telstate("dead", "drop", journal, "--all").stdout == b"0 dropped\n"
    assert b"0 dead letters" in telstate("dead", "list", journal).stdout


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (lambda path: ("show", path, "7"), "there is no dead letter 7: see `telstate dead list`"),
        (lambda path: ("drop", path, "1", "8"), "there is no dead letter 8"),
        (lambda path: ("drop", path), "give the numbers of dead letters, or --all"),
        (lambda path: ("retry", path, "1", "--all"), "give the numbers of dead letters, or --all"),
        (lambda path: ("list", f"{path}.not"), "cannot read"),
        (lambda path: ("drop", f"{path}.jsonl", "1"), "is an export, which cannot be changed"),
    ],
)
def test_misuse_is_reported_in_one_line(
    journal: Path, arguments: Callable[[Path], tuple[str, ...]], error: str
) -> None:
    """With exit code 2, and nothing has changed."""
    telstate("export", journal, f"{journal}.jsonl")
    run = telstate("dead", *arguments(journal))
    assert (run.returncode, run.stdout) == (2, b"")
    assert error in run.stderr.decode()
    assert len(run.stderr.splitlines()) == 1
    assert b"3 dead letters" in telstate("dead", "list", journal).stdout


def test_dead_letters_are_dropped_while_a_service_runs(journal: Path) -> None:
    """SQLite lets another process write between two transactions of the service."""

    async def run() -> None:
        async with Dispatcher(Router(), journal=SqliteJournal(journal)) as calls:
            dropped = await anyio.to_thread.run_sync(run_process, "dead", "drop", journal, "--all")
            assert dropped == (0, b"3 dropped\n", b"")
            await calls.receive(js("dialout-connected", "another"))

    anyio.run(run)
    assert b"0 dead letters" in telstate("dead", "list", journal).stdout


@pytest.mark.long
def test_replay_reads_a_database_while_a_service_writes_it(journal: Path) -> None:
    """Another program's database is refused in one line."""
    (session,) = [line["session"] for line in json_lines(telstate("replay", journal, "--json")) if "session" in line]
    assert session["state"] == "stopped"

    async def live() -> None:
        async with Dispatcher(Router(), journal=SqliteJournal(journal)) as calls:
            await calls.receive(js("dialout-connected", "another"))
            run = await anyio.to_thread.run_sync(run_process, "replay", journal, "--json")
            assert b'"another"' in run.stdout

    anyio.run(live)
    other = journal.with_name("other.db")
    sqlite3.connect(other).executescript("CREATE TABLE t (a)").connection.close()
    run = telstate("replay", other)
    assert run.returncode == 2
    assert b"not a telstate journal" in run.stderr


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (b'{"v":1,"journal":"j","settings":{}}\n{"v":1,"dead":{}}\n', b"is damaged at"),
        (b'{"v":1,"journal":"j","settings":{}}\n{"v":1,"dead":\n', b"is damaged at"),
        (_DAMAGED_SESSION, b"the session of dead letter 1 is damaged"),
        (b"x\n", b"neither a service's journal (a SQLite database) nor an export"),
        (b'{"action":"dialin-stopped","sessionId":"s"}\n', b"neither a service's journal"),
    ],
)
def test_odd_files_are_reported_in_one_line(tmp_path: Path, lines: bytes, error: bytes) -> None:
    """Without a traceback."""
    path = tmp_path / "calls.jsonl"
    path.write_bytes(lines)
    run = telstate("dead", "list", path, "--json")
    assert (run.returncode, len(run.stderr.splitlines())) == (2, 1), run.stderr
    assert error in run.stderr


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    """It would wait for a writer forever."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    run = telstate("dead", "list", path)
    assert (run.returncode, b"is not a file" in run.stderr) == (2, True)


def keep(path: Path, *batches: list[DeadLetter]) -> None:
    """Write dead letters into a journal of their own."""

    async def run() -> None:
        journal = SqliteJournal(path)
        await journal.open({})
        for letters in batches:
            await journal.add_dead_letters(letters)
        await journal.aclose()

    anyio.run(run)


def test_nothing_in_a_dead_letter_reaches_the_terminal(tmp_path: Path) -> None:
    """Escapes are replaced, also those that start with one character beyond ASCII, and in JSON for people."""
    path = tmp_path / "calls.db"
    evil = "\x1b[31mred\x9b2J\r\u202eright"

    letter = DeadLetter(0, f"Odd{evil}", f"app.{evil}", f"text {evil}", 1.0, "webhook", f"payload {evil}".encode())
    keep(path, [letter])
    for arguments in (["list"], ["list", "--numbers"], ["show", 1], ["show", 1, "--numbers"], ["list", "--json"]):
        shown = telstate("dead", arguments[0], path, *arguments[1:]).stdout.decode()
        assert "right" in shown
        assert all(line.isprintable() for line in shown.splitlines()), arguments
        assert not {"\x1b", "\x9b", "\r", "\u202e"} & set(shown)


_MEASURED = """
import sys
from telstate.cli import app
try:
    app()
finally:
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1], file=sys.stderr)
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_does_not_grow_with_the_number_of_dead_letters(tmp_path: Path) -> None:
    """The listing reads them as it prints them."""

    def listed(path: Path, letters: int) -> int:
        letter = DeadLetter(0, "ParseError", None, "no event", 1.0, "webhook", b"x" * 100_000)
        keep(path, *([letter] * 100 for _ in range(letters // 100)))
        run = subprocess.run(
            [sys.executable, "-c", _MEASURED, "dead", "list", path],
            env=environment(),
            capture_output=True,
            check=True,
            timeout=120,
            text=True,
        )
        assert f"{letters} dead letters" in run.stdout
        return int(run.stderr.split()[-1])

    few, many = listed(tmp_path / "few.db", 100), listed(tmp_path / "many.db", 1000)
    assert many < few + 20_000  # kB; all of them have 100 MB
