"""The thread of the disk: what happens when the system gives no thread."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import anyio
import pytest

from telstate import Dispatcher, JournalError, Router
from telstate.journals import SqliteJournal
from tests.calls import js

pytestmark = pytest.mark.anyio


async def test_a_thread_that_cannot_start_once_hangs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One append fails and says why; the next one has its thread. What failed is not written later."""
    monkeypatch.setattr("telstate.journals._disk_thread._IDLE", 0.05)
    path = tmp_path / "calls.db"
    async with Dispatcher(Router(), journal=SqliteJournal(path)) as calls:
        await calls.receive(js("dialout-connected", "a"))
        await anyio.sleep(0.3)  # the idle thread has ended
        start = Thread.start

        def fail(_: Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(Thread, "start", fail)
        with anyio.fail_after(5), pytest.raises(JournalError, match="can't start new thread"):
            await calls.receive(js("dialout-connected", "b"))
        monkeypatch.setattr(Thread, "start", start)
        with anyio.fail_after(5):
            await calls.receive(js("dialout-connected", "c"))
        assert [session.session_id for session in calls.sessions()] == ["a", "c"]
    async with Dispatcher(Router(), journal=SqliteJournal(path)) as calls:
        assert [session.session_id for session in calls.sessions()] == ["a", "c"]
