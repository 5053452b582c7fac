"""Records in the tables of a database, through SQLAlchemy: PostgreSQL or SQLite.

Writing is idempotent: a row is replaced by a newer one of the same session. How far a reader has come can be kept in the same transaction as the
rows, so that one that is killed goes on where it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from telstate.calls._caller import Caller
from telstate.calls._session import Session
from telstate.errors import DefinitionError
from telstate.routing._retry import Retry
from telstate.routing._router import Router
from telstate.views._records_schema import CALLERS, SCHEMA_VERSION, SESSIONS, TRANSFERS, Column, RecordRows

__all__ = ["RecordsTable", "open_database"]

_TYPES: Mapping[str, Callable[[], Any]] = {
    "text": sa.Text,
    "json": lambda: sa.JSON(none_as_null=True),
    "integer": sa.BigInteger,
    "boolean": sa.Boolean,
    "number": sa.Double,
}
_INSERTS: Mapping[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
_AT_ONCE = 500
"""Keys whose rows are deleted by one statement."""
_MAKING = 0x7E157A7E
"""The number of the lock of PostgreSQL that whoever makes the tables has."""
_OF_A_JOURNAL = frozenset({"events", "done", "dead_letters", "checkpoints"})
"""Tables of a service's journal, to which nothing else may write."""


def _table(name: str, columns: Iterable[Column], metadata: sa.MetaData) -> sa.Table:
    made = [sa.Column(one.name, _TYPES[one.kind](), primary_key=one.is_key) for one in columns]
    return sa.Table(name, metadata, *made)


_METADATA = sa.MetaData()
_SESSIONS = _table("sessions", SESSIONS, _METADATA)
_TRANSFERS = _table("transfers", TRANSFERS, _METADATA)
_CALLERS = _table("callers", CALLERS, _METADATA)
_META = sa.Table(
    "telstate_meta", _METADATA, sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False)
)
"""The version of the schema, and how far readers have come."""


def open_database(url: str) -> sa.Engine:
    """Open a database by its URL. Its errors show no values: they have phone numbers.

    Raises:
        DefinitionError: if there is no such driver, or it is neither PostgreSQL nor SQLite.
    """
    try:
        parsed = sa.make_url(url)
        if (kind := parsed.get_backend_name()) not in ("postgresql", "postgres", "sqlite"):
            raise DefinitionError(f"records go into PostgreSQL or SQLite, not into {kind}")
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        if kind == "sqlite" and parsed.database not in (None, "", ":memory:"):
            _create_for_owner(str(parsed.database))
        return sa.create_engine(parsed, hide_parameters=True, json_serializer=partial(json.dumps, ensure_ascii=False))
    except ModuleNotFoundError as error:
        raise DefinitionError(f"this database needs {error.name}: install it") from None
    except (sa.exc.ArgumentError, ValueError):  # its text has parts of the URL, perhaps of the password
        raise DefinitionError(
            "the URL of a database is postgresql://HOST/NAME, with a user and a password before the host, or sqlite:///FILE with three slashes"
        ) from None


class RecordsTable:
    """The tables `sessions`, `transfers` and `callers` of a database.

    In a program, for final records as calls leave memory: `router.include(RecordsTable(engine).router())`.

    Args:
        engine: of SQLAlchemy, for PostgreSQL or SQLite; or a URL. With `hide_parameters=True` its errors show no phone numbers.

    Raises:
        DefinitionError: if the database is of another kind, or has no driver.
    """

    def __init__(self, engine: sa.Engine | str) -> None:
        self._engine = open_database(engine) if isinstance(engine, str) else engine
        dialect = self._engine.dialect.name
        if dialect not in _INSERTS:
            raise DefinitionError(f"records go into PostgreSQL or SQLite, not into {dialect}")
        self._insert = _INSERTS[dialect]
        self._is_ready = False
        self._preparing = anyio.Lock()

    def prepare(self) -> None:
        """Create the tables, or check those that there are.

        Raises:
            DefinitionError: if they have another schema, or other tables have these names.
            sqlalchemy.exc.SQLAlchemyError: if the database cannot be reached or refuses.
        """
        with self._engine.begin() as connection:
            _let_others_wait(connection)
            known = _known_tables(connection)
            _METADATA.create_all(connection)
            if not known:
                connection.execute(sa.insert(_META).values(key="schema", value=str(SCHEMA_VERSION)))
        self._is_ready = True

    def check(self) -> bool:
        """Check the tables, and change nothing; return whether there are any yet. Raises as `prepare`."""
        with self._engine.connect() as connection:
            return bool(_known_tables(connection))

    def position(self, source: str) -> int:
        """Return how far a reader has come, by the name of what it reads; 0 if it has not begun."""
        with self._engine.connect() as connection:
            value = connection.scalar(sa.select(_META.c.value).where(_META.c.key == f"position {source}"))
        return int(value or 0)

    def write(self, rows: RecordRows, *, source: str | None = None, position: int = 0) -> None:
        """Write rows, and how far their reader has come, in one transaction."""
        with self._engine.begin() as connection:
            # In order of their keys: else two writers may each wait for a row that the other has written.
            self._replace(connection, _SESSIONS, [rows.sessions[key] for key in sorted(rows.sessions)])
            _delete(connection, _TRANSFERS.c.session_id, list(rows.transfers))
            self._replace(connection, _TRANSFERS, [row for each in rows.transfers.values() for row in each])
            _delete(connection, _CALLERS.c.call_id, sorted(rows.connected))
            self._replace(connection, _CALLERS, [rows.callers[key] for key in sorted(rows.callers)])
            if source is not None:
                self._replace(connection, _META, [{"key": f"position {source}", "value": str(position)}])

    def close(self) -> None:
        """Close the connections to the database."""
        self._engine.dispose()

    def router(self, *, retry: Retry | int | None = None) -> Router:
        """Return handlers that write each session when it leaves memory, and each lost caller.

        Args:
            retry: as for any handler; one that fails in the end is a dead letter.
        """
        router = Router("records")
        router.on_retired(retry=retry)(self.write_session)
        router.on_caller_lost(retry=retry)(self.write_caller)
        return router

    async def write_session(self, session: Session) -> None:
        """Write a session. Usable as a handler of `on_retired` or `on_end`."""
        await self._write_one(session.to_dict())

    async def write_caller(self, caller: Caller) -> None:
        """Write a caller on hold. Usable as a handler of `on_caller_lost`."""
        await self._write_one(caller.to_dict())

    async def _write_one(self, record: Mapping[str, Any]) -> None:
        rows = RecordRows.empty()
        rows.add(record)
        if not self._is_ready:
            async with self._preparing:
                if not self._is_ready:
                    await anyio.to_thread.run_sync(self.prepare)
        await anyio.to_thread.run_sync(self.write, rows)

    def _replace(self, connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        statement = self._insert(table)
        keys = [column.name for column in table.primary_key]
        others = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys}
        connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=others), rows)


def _delete(connection: sa.Connection, column: sa.Column[Any], keys: Sequence[str]) -> None:
    """Delete the rows that have one of these in a column."""
    for start in range(0, len(keys), _AT_ONCE):
        connection.execute(sa.delete(column.table).where(column.in_(keys[start : start + _AT_ONCE])))


def _create_for_owner(path: str) -> None:
    """Phone numbers: such a file is created for its owner alone."""
    with suppress(OSError):  # the database says what is wrong
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _let_others_wait(connection: sa.Connection) -> None:
    """Let one program at a time make the tables, all of them or none: also in SQLite, where Python begins no transaction for that."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MAKING)))
    elif not getattr(connection.connection.dbapi_connection, "in_transaction", True):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _known_tables(connection: sa.Connection) -> list[sa.Table]:
    """Return which of the tables there are, once they are checked."""
    found = sa.inspect(connection)
    if set(found.get_table_names()) >= _OF_A_JOURNAL:
        raise DefinitionError("the database is a journal of telstate: write its records into another one")
    known = [table for table in _METADATA.sorted_tables if found.has_table(table.name)]
    if known and _META not in known:
        names = ", ".join(table.name for table in known)
        raise DefinitionError(
            f"the database has tables of these names that telstate did not make ({names}): use another database"
        )
    if known:
        _check_version(connection)
        for table in known:
            _check_columns(table, {column["name"] for column in found.get_columns(table.name)})
    return known


def _check_version(connection: sa.Connection) -> None:
    version = connection.scalar(sa.select(_META.c.value).where(_META.c.key == "schema"))
    if version != str(SCHEMA_VERSION):
        raise DefinitionError(
            f"the tables have schema {version}, and this telstate writes schema {SCHEMA_VERSION}: use the telstate that made them, or another"
            " database"
        )


def _check_columns(table: sa.Table, found: set[str]) -> None:
    missing = [column.name for column in table.columns if column.name not in found]
    if missing:
        raise DefinitionError(
            f"the table {table.name} lacks {', '.join(missing)}: it was changed since telstate made it. Add them, or use another database"
        )
