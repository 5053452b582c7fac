"""What a database of records has, as `telstate replay --json --numbers` shows it; and what of that differs from a replay."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from telstate.views._records_table import open_database

__all__ = ["differences_from_replay", "opened", "records_in", "transfers_in"]


@contextmanager
def opened(url: str) -> Iterator[sa.Connection]:
    """A connection to a database, in a transaction."""
    engine = open_database(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def records_in(url: str) -> Iterator[dict[str, Any]]:
    """The records of a database, in the form of a report."""
    with opened(url) as connection:
        metadata = sa.MetaData()
        metadata.reflect(connection)
        for row in connection.execution_options(yield_per=1000).execute(sa.select(metadata.tables["sessions"])):
            yield {"session": dict(row._mapping)}
        for row in connection.execute(sa.select(metadata.tables["callers"])):
            caller = dict(row._mapping)
            yield {
                "caller": {{"from_address": "from", "to_address": "to"}.get(key, key): caller[key] for key in caller}
            }


def transfers_in(url: str) -> dict[str, list[list[str]]]:
    """The transfers of each session that has any."""
    found: dict[str, list[list[str]]] = {}
    with opened(url) as connection:
        rows = connection.execute(
            sa.text("SELECT session_id, target, outcome FROM transfers ORDER BY session_id, place")
        )
        for session_id, target, outcome in rows:
            found.setdefault(session_id, []).append([target, outcome])
    return found


def differences_from_replay(url: str, replayed: Iterable[bytes]) -> list[str]:
    """Say where the database differs from the lines of a replay; both may have many."""
    expected: dict[str, str] = {}
    transfers: dict[str, list[list[str]]] = {}
    for line in replayed:
        report = json.loads(line)
        for kind in report.keys() & {"session", "caller"}:
            key = report[kind].get("session_id") or f"caller {report[kind]['call_id']}"
            expected[key] = json.dumps(report[kind], sort_keys=True)
            if report[kind].get("transfers"):
                transfers[key] = report[kind]["transfers"]
    wrong = []
    for report in records_in(url):
        (record,) = report.values()
        key = record.get("session_id") or f"caller {record['call_id']}"
        if expected.pop(key, None) != json.dumps(record, sort_keys=True):
            wrong.append(f"{key} differs, or is not in the replay")
    wrong += [f"{key} is missing" for key in expected]
    if transfers_in(url) != transfers:
        wrong.append("the table of transfers differs")
    return wrong
