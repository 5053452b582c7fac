"""What `telstate doctor` finds at a journal, a database for records and receivers of notifications: each finding once."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from errno import EACCES, ENOSPC
from pathlib import Path
from typing import NoReturn

import pytest

from telstate.cli import _doctor_journal, _doctor_others
from telstate.errors import JournalError
from telstate.events import Dialect
from tests.cli.doctor_setup import SECRET, Served, StandIn, doctor, journal_of
from tests.cli.running import telstate


def journal(path: Path, *arguments: object, env: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    """The findings about a journal, after the two about its disk."""
    return doctor(*arguments, "--journal", path, env=env).of("journal")[2:]


@pytest.mark.long
def test_a_journal_that_nobody_writes(tmp_path: Path, service: Served) -> None:
    """It may not exist yet. Its last event's age, dead letters, and a service that keeps another one."""
    path = tmp_path / "calls.db"
    assert journal(path) == [("ok", f"{path} does not exist yet: the service makes it when it starts")]
    assert journal(path, service.url) == [("warning", f"a service answers, and there is no {path}")]
    assert not path.exists()
    path.touch()
    assert journal(path)[1] == ("ok", f"{path} can be read: 0 events, 0 bytes")
    journal_of(path, (time.time() - 7200, Dialect.WEBHOOK), letters=2)
    free, last, letters = journal(path)
    assert free == ("ok", f"nobody has {path} open for writing, so a service can start with it")
    assert last[1].endswith(" the last one 2 h ago")
    assert letters == ("warning", f"{path} has 2 dead letters")
    served = ("warning", f"a service answers, and nobody has {path} open for writing")
    assert journal(path, service.url)[0] == served
    future = journal_of(tmp_path / "future.db", (time.time() + 7200, Dialect.WEBHOOK))
    assert journal(future)[1][0] == "warning"
    assert "in the future" in journal(future)[1][1]


def test_a_journal_that_somebody_else_writes(service: Served) -> None:
    """A service was started twice, perhaps: the one that was asked does not answer."""
    taken = f"another process has {service.journal} open for writing, and no service answers"
    assert journal(service.journal, "http://127.0.0.1:9")[0] == ("warning", taken)


def test_a_journal_that_a_service_cannot_use(tmp_path: Path) -> None:
    """Another database, one of a newer telstate, and a file that is no database."""
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as database:
        database.execute("CREATE TABLE events (id)")
    newer = journal_of(tmp_path / "newer.db")
    with closing(sqlite3.connect(newer)) as database, database:
        database.execute("PRAGMA user_version=99")
    (tmp_path / "text.db").write_text("no database at all" * 100)
    for name, said in (
        ("other.db", "is a SQLite database, but not a telstate journal"),
        ("newer.db", "was written by a newer telstate (schema 99"),
        ("text.db", "it is not a SQLite database"),
    ):
        ((health, text),) = journal(tmp_path / name)
        assert (health, said in text) == ("fault", True), text


def test_an_archive_that_cannot_be_written(tmp_path: Path) -> None:
    """The service would find out when there is something to move there, days after its start."""
    path = tmp_path / "calls.db"
    good, bad = tmp_path / "new" / "old.jsonl.gz", "/proc/self/old.jsonl"
    assert ("ok", f"old events can be moved to {good}") in journal(path, env={"TELSTATE_ARCHIVE": str(good)})
    assert not good.parent.exists()
    found = doctor("--journal", path, env={"TELSTATE_ARCHIVE": bad}).one("journal", "fault")
    assert found.startswith(f"old events cannot be moved to {bad}: ")


def test_a_disk_that_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even for root, nothing can be written there. The room is compared with what a start needs."""
    writable, _, _ = doctor("--journal", "/proc/self/calls.db").of("journal")
    assert writable[0] == "fault"
    assert "/proc/" in writable[1]
    path = tmp_path / "calls.db"
    monkeypatch.setattr(_doctor_journal, "_LITTLE_ROOM", 1 << 62)
    assert doctor("--journal", path).of("journal")[1][0] == "warning"
    monkeypatch.setattr(_doctor_journal, "_NO_ROOM", 1 << 62)
    assert doctor("--journal", path).of("journal")[1][0] == "fault"


def test_what_to_do_about_a_full_disk_and_a_file_that_is_closed_to_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rights do not help against the one, and another telstate does not against the other."""

    def full(**_: object) -> None:
        raise OSError(ENOSPC, os.strerror(ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    stored, *_ = doctor("--journal", tmp_path / "calls.db").found_of("journal")
    assert "No space left on device" in stored["found"]
    assert stored["do"].startswith("make room")
    monkeypatch.undo()

    def closed(path: Path) -> NoReturn:
        raise JournalError(f"{path}: Permission denied") from PermissionError(EACCES, "Permission denied")

    monkeypatch.setattr(_doctor_journal, "inspect", closed)
    *_, unread = doctor("--journal", journal_of(tmp_path / "closed.db")).found_of("journal")
    assert (unread["health"], unread["do"]) == ("fault", "let the service's user read and write it")


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that has it."""
    monkeypatch.setitem(_doctor_others._PACKAGES, "no-such-package", "a test needs it: pip install 'no-such-package'")
    _, missing = doctor().of("versions")
    assert missing == (
        "not checked",
        "no-such-package is not installed: a test needs it: pip install 'no-such-package'",
    )


@pytest.mark.long
def test_a_database_for_records(tmp_path: Path, service: Served) -> None:
    """Not there, without tables, with them, a journal by mistake, and nobody who answers. No password is shown."""
    path = tmp_path / "records.db"

    def records(url: str) -> tuple[str, str]:
        (found,) = doctor("--records", url).of("records")
        return found

    assert records(f"sqlite:///{path}") == ("ok", f"{path} does not exist yet: telstate records makes it")
    assert not path.exists()
    path.touch()
    assert records(f"sqlite:///{path}") == ("ok", "the database answers, and has no tables yet")
    assert path.stat().st_size == 0
    made = telstate("records", "examples/logs/few-calls.webhook.jsonl", "--into", f"sqlite:///{path}")
    assert made.returncode == 0, made.stderr
    assert records(f"sqlite:///{path}") == ("ok", "the database answers, and has telstate's tables")
    assert records(f"sqlite:///{service.journal}")[0] == "fault"
    for url in ("postgresql://me:hunter2@127.0.0.1:9/calls", "mysql://me:hunter2@host/x", "://hunter2"):
        health, text = records(url)
        assert (health, "hunter2" in text) == ("fault", False), text


@pytest.mark.long
def test_a_real_postgresql(postgres: str) -> None:
    """Nothing is made there."""
    for _ in range(2):
        assert doctor("--records", postgres).of("records") == [("ok", "the database answers, and has no tables yet")]


def test_receivers_of_notifications(stand_in: StandIn) -> None:
    """They are asked with HEAD; what they answer to it is judged, and private addresses are asked only if they are allowed."""
    secret = {"TELSTATE_NOTIFY_SECRET": f"whsec_{SECRET}"}
    given = ("--notify", f"{stand_in.url}/hook/of-theirs", "--notify-allow", "0.0.0.0")

    def notify(*arguments: str) -> tuple[str, str]:
        (found,) = doctor(*arguments, env=secret).of("notify")
        assert "of-theirs" not in found[1]
        return found

    for status, health in ((405, "ok"), (200, "ok"), (401, "ok"), (404, "warning"), (503, "warning"), (302, "fault")):
        stand_in.head = status
        found = notify(*given)
        assert found[0] == health, found
        assert found[1].startswith("the receiver ")
    assert set(stand_in.asked) == {"HEAD /hook/of-theirs"}
    health, text = notify("--notify", "https://127.0.0.1:9/x")
    assert (health, "not a public address" in text) == ("fault", True)
    health, text = notify("--notify", "https://telstate.invalid/x")
    assert (health, "no address of telstate.invalid is known" in text) == ("fault", True)
    assert telstate("doctor", "--notify", "http://example.com", env=secret).returncode == 2
