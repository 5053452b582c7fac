"""A program writes final records into a database, from handlers."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from telstate import DefinitionError, Dispatcher, Router, Settings
from telstate.testing import FakeClock
from telstate.views import RecordsTable
from telstate.views._records_schema import RecordRows
from tests.calls import js
from tests.cli.records_rows import opened, records_in, transfers_in

pytestmark = pytest.mark.anyio


async def test_handlers_write_what_leaves_memory(tmp_path: Path) -> None:
    """The final record of a session, and a lost caller; the tables are made at the first."""
    url = f"sqlite:///{tmp_path / 'records.db'}"
    router, clock = Router(), FakeClock()
    table = RecordsTable(url)
    router.include(table.router())
    async with Dispatcher(router, clock=clock) as calls:
        await calls.receive(js("dialout-answered", "s", destination="+12025550100"))
        await calls.receive(js("dialout-stopped", "s"))
        await calls.receive(js("dialout-error", "s", errorMsg="late"))
        await calls.receive({"From": "+12025550111", "To": "+12025550100", "callId": "c", "callDomain": "d"})
        await clock.advance(Settings().retention + Settings().hold_limit)
        await calls.idle()
        assert await calls.dead_letters.list() == []
    table.close()
    session, caller = records_in(url)
    assert session["session"]["destination"] == "+12025550100"
    assert (session["session"]["amended"], session["session"]["error"]) == (True, "late")
    assert caller["caller"]["from"] == "+12025550111"


def test_a_row_is_replaced(tmp_path: Path) -> None:
    """With its transfers, of which there may be fewer; odd texts are kept as far as databases can."""
    url = f"sqlite:///{tmp_path / 'records.db'}"
    table = RecordsTable(url)
    table.prepare()
    record = dict.fromkeys(next(iter(_columns(url))), None) | {"session_id": "s"}
    for transfers, name in (([["+1", "reached"], ["+2", "pending"]], "a"), ([["+2", "reached"]], "B\0\ud83dob")):
        rows = RecordRows.empty()
        rows.add({**record, "transfers": transfers, "display_name": name, "notes": {"x\0": ["\ud83d"]}})
        table.write(rows, source="here", position=len(name))
    ((report,),) = [list(one.values()) for one in records_in(url)]
    assert (report["display_name"], report["notes"]) == (
        "B\N{REPLACEMENT CHARACTER}?ob",
        {"x\N{REPLACEMENT CHARACTER}": ["?"]},
    )
    assert transfers_in(url) == {"s": [["+2", "reached"]]}
    assert (table.position("here"), table.position("there")) == (5, 0)
    table.close()


def _columns(url: str) -> list[list[str]]:
    with opened(url) as connection:
        return [[column["name"] for column in sa.inspect(connection).get_columns("sessions")]]


def test_other_databases_are_refused() -> None:
    """Before anything is written."""
    for url in ("calls.db", "postgresql://user:word@of:hidden/pass@db:none/calls"):
        with pytest.raises(DefinitionError, match="the URL of a database") as raised:
            RecordsTable(url)
        assert "hidden" not in f"{raised.value}{raised.value.__cause__}"
