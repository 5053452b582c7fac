"""`telstate records`: a database has what a replay says, also after kills, and a file is whole or not there."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from telstate import Engine, Settings, parse
from telstate.events._parse import parse_line
from telstate.journals import SqliteJournal
from telstate.routing._ports import Entry
from telstate.testing import Noise, Sent, simulate
from telstate.views import FIELDS, RecordsTable
from telstate.views._records_schema import RecordRows
from tests.calls import js, webhook
from tests.cli.records_rows import differences_from_replay, opened, records_in
from tests.cli.running import LOGS, Run, command, environment, telstate
from tests.journals.test_pruning import many

BUSY = LOGS / "busy-day.mixed.jsonl"
NOISE = Noise(lost=0.02, repeated=0.05, swapped=0.05, delayed=0.03)
DB = "sqlite:///records.db"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def records(*arguments: object, into: str = DB) -> Run:
    """Run the command; it succeeds."""
    run = telstate("records", *arguments, "--into", into)
    assert run.returncode == 0, run.stderr
    return run


def differences(log: object, into: str = DB) -> list[str]:
    """Where a database differs from a replay of a log."""
    return differences_from_replay(into, telstate("replay", log, "--json", "--numbers").stdout.splitlines())


def events_of(calls: int, seed: int = 3) -> list[Sent]:
    """Simulated events, with late ones, which amend records."""
    return list(simulate(seed, calls=calls, noise=NOISE, dialects=["webhook", "daily-js"]))


def append(path: Path, events: Iterable[Sent]) -> None:
    """Append events to a journal, as a service would have received them."""
    append_payloads(path, ((sent.at, sent.payload) for sent in events))


def append_payloads(path: Path, payloads: Iterable[tuple[float, dict[str, Any]]]) -> None:
    """Append payloads to a journal, each with the time of its receipt."""

    async def run() -> None:
        journal = SqliteJournal(path)
        await journal.open(Settings().model_dump())
        waiting = iter(payloads)
        while some := list(islice(waiting, 200)):
            await journal.append([_entry(at, payload) for at, payload in some])
        await journal.aclose()

    asyncio.run(run())


def _entry(at: float, payload: dict[str, Any]) -> Entry:
    raw = json.dumps(payload).encode()
    return Entry(at, str(parse_line(raw)[2]), raw)


def record_of(session_id: str) -> dict[str, Any]:
    """The record of a session that has just begun."""
    outcome = Engine().receive(parse(js("dialout-connected", session_id), "daily-js"), 1.0)
    assert outcome.session is not None
    return outcome.session.to_dict()


def rows(query: str, into: str = DB) -> Sequence[Any]:
    """The rows of a query."""
    with opened(into) as connection:
        result = connection.execute(sa.text(query))
        return result.fetchall() if result.returns_rows else []


@pytest.mark.parametrize("log", [BUSY, LOGS / "busy-day.webhook.jsonl"], ids=lambda path: path.stem)
def test_a_database_has_what_a_replay_says(log: Path) -> None:
    """All fields of all sessions and callers; again changes nothing. Only its owner may read it."""
    said = records(log).stderr
    assert differences(log) == []
    (written,) = rows("SELECT count(*) FROM sessions")[0]
    assert f"telstate: {written} sessions written".encode() in said
    records(log)
    assert differences(log) == []
    assert os.stat("records.db").st_mode & 0o077 == 0


@pytest.mark.long
def test_postgresql_has_what_a_replay_says(postgres: str, tmp_path: Path) -> None:
    """Simulated calls with late, repeated and lost events; some records are amended."""
    log = tmp_path / "calls.jsonl"
    log.write_bytes(b"".join(sent.line() for sent in events_of(1_000)))
    records(log, into=postgres)
    assert differences(log, postgres) == []
    assert rows("SELECT count(*) FROM sessions WHERE amended", postgres)[0][0] > 5
    assert rows("SELECT count(*) FROM sessions WHERE notes ->> 'x' IS NULL", postgres)[0][0] > 500
    records(log, into=postgres)
    assert differences(log, postgres) == []


def test_postgresql_takes_any_id(postgres: str) -> None:
    """An id of a thousand characters that cannot be compressed is larger than an index takes; two of them stay apart."""
    made = random.Random(1)
    long = "".join(chr(made.randrange(0x10000, 0x10FFFF)) for _ in range(1_023))
    rows = RecordRows.empty()
    for session_id in (f"{long}a", f"{long}b", "c"):
        rows.add(record_of(session_id))
    with closing(RecordsTable(postgres)) as table:
        table.prepare()
        table.write(rows)
    assert len(list(records_in(postgres))) == 3


def test_a_journal_that_grows_is_read_on(tmp_path: Path) -> None:
    """Rows of calls that were live are replaced; those of calls that had left memory are not written again."""
    journal, events = tmp_path / "calls.db", events_of(300)
    append(journal, events[:600])
    records(journal)
    assert differences(journal) == []
    (live,) = rows("SELECT count(*) FROM sessions WHERE cause IS NULL")[0]
    assert live
    rows("UPDATE sessions SET provider = 'touched'")
    append(journal, events[600:])
    records(journal)
    touched = rows("SELECT count(*) FROM sessions WHERE provider = 'touched'")[0][0]
    assert 0 < touched < rows("SELECT count(*) FROM sessions")[0][0]
    records(journal, "--room", "nobody's")  # a selection has a position of its own
    assert rows("SELECT count(*) FROM telstate_meta WHERE key LIKE 'position %'")[0][0] == 2
    rows("DELETE FROM telstate_meta WHERE key LIKE 'position %'")
    records(journal)
    assert differences(journal) == []


def test_a_caller_on_hold_who_becomes_a_session_has_no_row_any_more(tmp_path: Path) -> None:
    """A run while they wait writes them as a caller, as a replay says it; a later run, that they are a session."""
    journal, at = tmp_path / "calls.db", 1_790_000_000.0
    held = {"To": "+12025550100", "From": "+12025550141", "callId": "p", "callDomain": "d"}
    forward = {"action": "pinless-forwarded", "callId": "p", "sipEndpoint": "sip:r.0@x.example"}
    ready = webhook("dialin.ready", None, sip_endpoint="sip:r.0@x.example", room="r")
    connected = webhook("dialin.connected", "s", sip_from="sip:+12025550141@c.example", room="r")
    append_payloads(journal, [(at, held)])
    records(journal)
    assert differences(journal) == []
    assert rows("SELECT state FROM callers") == [("waiting",)]
    append_payloads(journal, [(at + 1, ready), (at + 2, forward), (at + 3, connected)])
    records(journal)
    assert differences(journal) == []
    assert rows("SELECT pinless_call_id FROM sessions") == [("p",)]


@pytest.mark.long
def test_it_says_what_was_pruned_before_it_was_read(tmp_path: Path) -> None:
    """A run that comes too late for some events, as its last one was longer ago than the journal keeps them."""
    journal, before = tmp_path / "calls.db", ("--before", "2026-09-21T15:00:00")
    asyncio.run(many(journal, 5000))
    records(journal)
    assert b" events deleted; " in telstate("prune", journal, *before).stdout
    assert "pruned" not in records(journal).stderr.decode()
    rows("UPDATE telstate_meta SET value = '10' WHERE key LIKE 'position %'")
    said = records(journal).stderr.decode()
    assert re.search(r"\d+ events that were not read before have been pruned", said)
    assert "pruned" not in records(journal).stderr.decode()


@pytest.mark.long
def test_a_kill_while_it_follows_loses_nothing(postgres: str, tmp_path: Path) -> None:
    """A journal grows while followers are killed at random; each goes on where the last transaction was."""
    journal, events, rng = tmp_path / "calls.db", events_of(800, seed=4), random.Random(1)
    append(journal, events[:500])
    step = len(events) // 4
    last = len(events) - step
    for start in range(500, last, step):
        process = subprocess.Popen(
            command("records", journal, "--into", postgres, "--follow"), env=environment(), stderr=subprocess.PIPE
        )
        try:
            time.sleep(rng.uniform(0.5, 2.0))
            append(journal, events[start : min(start + step, last)])
            time.sleep(rng.uniform(0.0, 1.5))
            assert process.poll() is None, process.communicate()[1]
        finally:
            process.kill()
            process.communicate()
    process = subprocess.Popen(command("records", journal, "--into", postgres, "-f"), env=environment())
    append(journal, events[last:])
    want = len(events)
    deadline = time.monotonic() + 60
    while _position(postgres) < want:
        assert time.monotonic() < deadline, _position(postgres)
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    reports = [json.loads(line) for line in telstate("replay", journal, "--json", "--numbers").stdout.splitlines()]
    ended = {one["session"]["session_id"] for one in reports if one.get("session", {}).get("cause")}
    found = [one["session"]["session_id"] for one in records_in(postgres) if "session" in one]
    assert len(found) == len(set(found))
    assert set(found) == ended
    retired_wrong = [text for text in differences(journal, postgres) if " differs, or" in text]
    records(journal, into=postgres)  # the live ones, and the legs of those in memory, as they are now
    assert differences(journal, postgres) == []
    assert retired_wrong == []


def _position(url: str) -> int:
    try:
        found = rows("SELECT max(CAST(value AS BIGINT)) FROM telstate_meta WHERE key LIKE 'position %'", url)
    except sa.exc.SQLAlchemyError:
        return 0
    return int(found[0][0] or 0)


def test_only_what_is_selected_is_written() -> None:
    """As in every verb that reads logs."""
    records(BUSY, "--direction", "dialin", "--where", "talk_s > 30")
    found = [one["session"] for one in records_in(DB) if "session" in one]
    assert found
    assert all(one["direction"] == "dialin" and one["talk_s"] > 30 for one in found)


def test_another_schema_is_refused() -> None:
    """Of another version, changed, or not telstate's; nothing is changed."""
    records(BUSY)
    rows("UPDATE telstate_meta SET value = '9' WHERE key = 'schema'")
    run = telstate("records", BUSY, "--into", DB)
    assert (run.returncode, b"have schema 9, and this telstate writes schema 1" in run.stderr) == (2, True)
    rows("UPDATE telstate_meta SET value = '1' WHERE key = 'schema'")
    rows("ALTER TABLE sessions DROP COLUMN talk_s")
    run = telstate("records", BUSY, "--into", DB)
    assert (run.returncode, b"the table sessions lacks talk_s" in run.stderr) == (2, True)
    with closing(sqlite3.connect("other.db")) as other:
        other.execute("CREATE TABLE sessions (cookie TEXT)")
    run = telstate("records", BUSY, "--into", "sqlite:///other.db")
    assert (run.returncode, b"telstate did not make (sessions)" in run.stderr) == (2, True)


def test_a_start_that_is_cut_short_leaves_no_tables() -> None:
    """Else nobody could tell them from those of another program. Python begins no transaction for them in SQLite."""
    engine = sa.create_engine(DB)

    @sa.event.listens_for(engine, "before_cursor_execute")
    def cut_short(_: Any, __: Any, statement: str, *___: Any) -> None:
        if "CREATE TABLE transfers" in statement:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), closing(RecordsTable(engine)) as table:
        table.prepare()
    with closing(RecordsTable(DB)) as table:
        assert table.check() is False
        table.prepare()
        assert table.check() is True


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_programs_that_begin_together_do_not_disturb_each_other(kind: str, request: pytest.FixtureRequest) -> None:
    """They make the tables once; and none waits for a row of another that waits for one of its own."""
    url = DB if kind == "sqlite" else request.getfixturevalue("postgres")
    sessions = [record_of(f"s{number}") for number in range(300)]
    together, failed = threading.Barrier(4), list[Exception]()

    def run(seed: int) -> None:
        try:
            with closing(RecordsTable(url)) as table:
                together.wait()
                table.prepare()
                for _ in range(5):
                    rows = RecordRows.empty()
                    for record in random.Random(seed).sample(sessions, len(sessions)):
                        rows.add(record)
                    table.write(rows, source="together", position=seed)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(list(records_in(url))) == 300


def test_a_journal_is_no_place_for_records(tmp_path: Path) -> None:
    """A service writes to it, and nobody else may."""
    journal = tmp_path / "calls.db"
    append(journal, events_of(1))
    run = telstate("records", journal, "--into", f"sqlite:///{journal}")
    assert run.returncode == 2
    assert "is a journal of telstate" in " ".join(run.stderr.decode().split())
    with closing(sqlite3.connect(journal)) as kept:
        assert kept.execute("SELECT count(*) FROM sqlite_master WHERE name = 'sessions'").fetchone() == (0,)


@pytest.mark.parametrize(
    ("into", "problem"),
    [
        ("calls.txt", "FILE.csv or FILE.parquet, not calls.txt"),
        ("mysql://u:hidden-pw@h/d", "PostgreSQL or SQLite, not into mysql"),
        ("postgresql://u:hidden-pw@127.0.0.1:9/d", "the database refuses"),
        ("sqlite:////nowhere/at/all.db", "the database refuses: unable to open"),
        ("postgresql://u@h:hidden-pw/d", "the URL of a database is"),
        ("u:hidden-pw@h/d", "FILE.csv or FILE.parquet, not this"),
        ("nonsense://", "not into nonsense"),
        ("://", "the URL of a database is"),
    ],
)
def test_a_database_that_cannot_be_used(into: str, problem: str) -> None:
    """In a line, without a password."""
    run = telstate("records", BUSY, "--into", into)
    assert run.returncode == 2
    assert problem in run.stderr.decode()
    assert b"hidden-pw" not in run.stderr


def test_files_have_what_a_replay_says() -> None:
    """CSV and Parquet: sessions, and transfers and callers beside them, for their owner alone."""
    parquet = pytest.importorskip("pyarrow.parquet")
    records(BUSY, into="calls.csv")
    records(BUSY, into="calls.parquet")
    reports = [json.loads(line) for line in telstate("replay", BUSY, "--json", "--numbers").stdout.splitlines()]
    sessions = [one["session"] for one in reports if "session" in one]
    callers = [one["caller"] for one in reports if "caller" in one]
    found = parquet.read_table("calls.parquet").to_pylist()
    assert [_loaded(row) for row in found] == sessions
    assert [row["talk_s"] for row in found] == [one["talk_s"] for one in sessions]
    assert [row["call_id"] for row in parquet.read_table("calls.callers.parquet").to_pylist()] == [
        one["call_id"] for one in callers
    ]
    transfers = parquet.read_table("calls.transfers.parquet").to_pylist()
    assert len(transfers) == sum(len(one["transfers"]) for one in sessions)
    replayed = list(csv.reader(io.StringIO(telstate("replay", BUSY, "--csv", "--numbers").stdout.decode())))
    in_file = list(csv.reader(Path("calls.csv").read_text(encoding="utf-8").splitlines()))
    assert in_file == [row for row in replayed if row[0]]  # there, callers are rows without a session
    assert {path.name for path in Path().iterdir()} == {
        f"calls{table}.{ending}" for table in ("", ".transfers", ".callers") for ending in ("csv", "parquet")
    }
    assert all(path.stat().st_mode & 0o077 == 0 for path in Path().iterdir())


def _loaded(row: dict[str, Any]) -> dict[str, Any]:
    lists = ("sip_headers", "warnings", "transfers", "notes", "legs", "anomalies", "transitions")
    return {name: json.loads(row[name]) if name in lists and row[name] is not None else row[name] for name in FIELDS}


def test_an_interrupted_run_leaves_no_file() -> None:
    """Neither half a file nor a draft; what was there before stays."""
    Path("calls.parquet").write_bytes(b"before")
    run = telstate("records", BUSY, "missing.jsonl", "--into", "calls.parquet")
    assert run.returncode == 2
    Path("calls.db").write_bytes(
        b"SQLite format 3\0" + bytes(100)
    )  # a journal that is damaged, after a log that is not
    run = telstate("records", BUSY, "calls.db", "--into", "calls.parquet")
    assert run.returncode == 2
    assert {path.name for path in Path().iterdir()} == {"calls.parquet", "calls.db"}
    assert Path("calls.parquet").read_bytes() == b"before"


def test_a_file_is_not_followed() -> None:
    """It would never be complete."""
    run = telstate("records", BUSY, "--into", "calls.csv", "--follow")
    assert (run.returncode, b"--follow is for databases" in run.stderr) == (2, True)
