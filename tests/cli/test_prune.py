"""`telstate prune`: old events go, the rest says the same, and a journal in use is left alone."""

from __future__ import annotations

from pathlib import Path

import anyio

from telstate.journals import SqliteJournal
from tests.cli.running import telstate
from tests.journals.test_pruning import many, seqs_of


def test_it_deletes_and_gives_the_space_back(tmp_path: Path) -> None:
    """Up to the date; then there is nothing more to do."""
    path = tmp_path / "calls.db"
    anyio.run(many, path, 5000)
    before = path.stat().st_size
    run = telstate("prune", path, "--before", "2026-09-21T15:00:00")
    assert (run.returncode, run.stderr) == (0, b"")
    left = anyio.run(seqs_of, SqliteJournal(path))
    assert run.stdout.startswith(b"%d events deleted; " % (left[0] - 1))
    assert left[0] > 2000
    assert left[-1] == 5001
    assert path.stat().st_size < before * 0.7
    again = telstate("prune", path, "--before", "2026-09-21T15:00:00")
    assert again.stdout.startswith(b"0 events deleted")


def test_it_refuses_a_journal_in_use_and_what_is_none(tmp_path: Path) -> None:
    """With what to do. Nothing is created."""
    path = tmp_path / "calls.db"

    async def while_open() -> None:
        journal = SqliteJournal(path)
        await journal.open({})
        run = await anyio.to_thread.run_sync(lambda: telstate("prune", path))
        assert run.returncode == 2
        assert b"in use by another process: stop that one" in run.stderr
        await journal.aclose()

    anyio.run(while_open)
    run = telstate("prune", tmp_path / "none.db")
    assert (run.returncode, b"none.db: No such file" in run.stderr) == (2, True)
    (tmp_path / "log.jsonl").touch()
    run = telstate("prune", tmp_path / "log.jsonl")
    assert (run.returncode, b"is not a service's journal" in run.stderr) == (2, True)
    assert not (tmp_path / "none.db").exists()
    assert b"in the future" in telstate("prune", path, "--before", "2999-01-01").stderr
    said = b"'yesterday' is no time: give 2026-10-01, 2026-10-01T14:30 (UTC), or 2h, 30m, 1d ago"
    assert said in telstate("prune", path, "--before", "yesterday").stderr


def test_unfinished_work_stops_it(tmp_path: Path) -> None:
    """And it says which."""
    path = tmp_path / "calls.db"

    async def unfinished() -> None:
        await many(path, 100)
        journal = SqliteJournal(path)
        await journal.open({})
        assert journal._database is not None
        journal._database.execute("DELETE FROM done WHERE number = 50")
        await journal.aclose()

    anyio.run(unfinished)
    run = telstate("prune", path, "--before", "2026-10-01")
    assert b"the work of event 50 is not finished" in run.stderr
    assert 50 in anyio.run(seqs_of, SqliteJournal(path))
