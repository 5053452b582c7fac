"""What `telstate doctor` finds of versions, of the database with the records, and of the receivers of notifications."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

from telstate import __version__
from telstate.cli._checkup import Observation, aside, fault, fine, together, unchecked, unknown_host, warning
from telstate.control._notify_target import NotifyTarget
from telstate.control._tls import tls_context
from telstate.errors import DefinitionError

__all__ = ["check_notify", "check_records", "check_versions"]

_PACKAGES = {
    "pydantic": None,
    "anyio": None,
    "uvicorn": "telstate serve needs it: pip install 'telstate[serve]'",
    "starlette": "telstate serve needs it: pip install 'telstate[serve]'",
    "httpx": "Daily's API needs it: pip install 'telstate[rest]'",
    "nats-py": None,
    "sqlalchemy": None,
    "standardwebhooks": None,
}
"""Packages whose versions are of use in a report, and what is missing without them."""
_TIMEOUT = 5.0


async def check_versions() -> list[Observation]:
    """What is installed."""
    found, missing = [], []
    for name, need in _PACKAGES.items():
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing += [] if need is None else [(name, need)]
    versions = fine(f"telstate {__version__}, Python {platform.python_version()}, {', '.join(found)}")
    return [versions, *(unchecked(f"{name} is not installed: {need}") for name, need in missing)]


async def check_records(url: str | None) -> list[Observation]:
    """Whether the database can be reached, and its tables are right. No password is shown."""
    if url is None:
        return [unchecked("no database for records was given (--records)")]
    return [await aside(lambda: _records(url))]


def _records(url: str) -> Observation:
    why = "telstate records cannot write the records of calls"
    try:
        import sqlalchemy as sa  # noqa: PLC0415 - an extra

        from telstate.views._records_table import RecordsTable  # noqa: PLC0415
    except ModuleNotFoundError as error:
        return fault(f"a database needs {error.name}", why, "pip install 'telstate[records]'")
    try:
        file = _file_of(sa.make_url(url))
        if file is not None and not file.exists():  # opening would make it
            return fine(f"{file} does not exist yet: telstate records makes it")
        table = RecordsTable(url)
        try:
            has_tables = table.check()
        finally:
            table.close()
    except DefinitionError as error:
        return fault(str(error), why, "do what it says, or give --records another database")
    except sa.exc.ArgumentError:  # its text has parts of the URL, perhaps of the password
        return fault("the URL of the database cannot be read", why, "give postgresql://HOST/NAME or sqlite:///FILE")
    except sa.exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
        return fault(
            f"the database refuses: {reason[0]}", why, "check that it runs, its address, the user and the password"
        )
    return fine("the database answers, and " + ("has telstate's tables" if has_tables else "has no tables yet"))


def _file_of(url: object) -> Path | None:
    name = getattr(url, "database", None)
    is_file = str(getattr(url, "drivername", "")).startswith("sqlite") and name not in (None, "", ":memory:")
    return Path(str(name)) if is_file else None


async def check_notify(targets: Sequence[NotifyTarget], allow: Iterable[str]) -> list[Observation]:
    """Whether each receiver of notifications answers. Nothing is sent to it: it gets a HEAD, which has no body."""
    if not targets:
        return [unchecked("no receiver of notifications was given (--notify)")]
    tls = await aside(tls_context) if any(target.is_secure for target in targets) else None
    allowed = {host.lower() for host in allow}
    return await together(*(_reached(one, tls, any_address=one.host in allowed) for one in targets))


async def _reached(target: NotifyTarget, tls: object, *, any_address: bool) -> Observation:
    from telstate.control._poster import NotPosted, Poster  # noqa: PLC0415 - an extra

    name = f"the receiver {target.name}"
    why = "messages wait for it for a day, and then are dead letters"
    if (problem := await unknown_host(target.url)) is not None:
        return fault(f"{name} does not answer: {problem}", why, "check its URL and its network")
    poster = Poster(target.url, any_address=any_address, timeout=_TIMEOUT, connections=1, tls=tls)  # type: ignore[arg-type]
    try:
        status = (await poster.reach()).status
    except NotPosted as error:
        return fault(f"{name} does not answer: {error}", why, "check its URL, its certificate and its network")
    finally:
        await poster.aclose()
    if status in (404, 410):
        return warning(f"{name} answers {status}", why, "check the path of its URL, unless it refuses HEAD in this way")
    if 300 <= status < 400:
        return fault(
            f"{name} answers {status}, a redirect, which is not followed", why, "give the URL to which it leads"
        )
    if status >= 500:
        return warning(f"{name} answers {status}", why, "see what is wrong with it")
    return fine(f"{name} answers; whether it accepts the signature, only a message shows")
