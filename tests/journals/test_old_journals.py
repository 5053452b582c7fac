"""Journals that an earlier telstate wrote: they open, no handler runs again, and what cannot be known is not made up."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import structlog

from telstate import Dispatcher, Router, Session
from telstate.journals import SqliteJournal
from telstate.testing import FakeClock

pytestmark = pytest.mark.anyio

DATA = Path(__file__).parent / "data"
T = 1_790_000_000.0


async def test_a_journal_from_before_signs_of_an_end(tmp_path: Path) -> None:
    """Its checkpoint cannot be read, so the journal is. Its limit after a meeting is the sign now; a dial-in still has a day."""
    path = tmp_path / "calls.db"
    shutil.copy(DATA / "before-signs.db", path)
    router, ends = Router(), list[str]()

    @router.on_end()
    async def end(session: Session) -> None:
        ends.append(session.session_id)

    with structlog.testing.capture_logs() as logs:
        async with Dispatcher(router, journal=SqliteJournal(path), clock=FakeClock(start=T + 900)) as calls:
            await calls.idle()
            found = {
                session.session_id: (
                    str(session.cause or session.state),
                    session.end_source and str(session.end_source),
                    session.ended_at and session.ended_at - T,
                    session.uncertain,
                )
                for session in calls.sessions()
            }
    assert found == {
        "told": ("completed", "told", 90, False),
        "met": ("completed", "inferred", 90, False),  # it was `expired`
        "rang": ("expired", "assumed", 0, False),  # its end was the limit's
        "media": ("connected", None, None, True),
        "talks": ("answered", None, None, True),
        "new": ("connected", None, None, True),
    }
    assert ends == []
    assert [log["event"] for log in logs] == ["checkpoint.unreadable"]
