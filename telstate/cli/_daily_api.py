"""What the commands that ask Daily share: the key, the options they have in common, and how they take and show a signing secret."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import anyio
import typer
from pydantic import SecretStr, ValidationError

from telstate.cli._terminal import log_to_stderr, misuse
from telstate.control import DailyApi

__all__ = [
    "SECRET",
    "ApiUrl",
    "JsonFlag",
    "checked",
    "given_secret",
    "print_secret",
    "run",
    "secret_option",
    "unknown_secret",
]

T = TypeVar("T")

SECRET = "TELSTATE_WEBHOOK_SECRET"  # noqa: S105 - the variable's name, not its value
"""Is valid for all requests of Daily's, as for `telstate serve`."""
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON Lines instead of text.")]
ApiUrl = Annotated[str, typer.Option("--api-url", envvar="TELSTATE_DAILY_API_URL", hidden=True)]


def secret_option(variable: str) -> Any:
    """Return the option for a file with a secret.

    Args:
        variable: the environment variable that holds it otherwise.
    """
    text = f"A file with the secret to sign with, in base64; or put it into {variable}."
    return typer.Option(metavar="FILE", help=text)


def run(url: str, work: Callable[[DailyApi], Awaitable[T]]) -> T:
    """Run an async function with Daily's API, whose key is in the environment."""
    key = os.environ.get("DAILY_API_KEY")
    if not key:
        misuse(
            "DAILY_API_KEY is not set: put your domain's API key there (Daily's dashboard, Developers). It cannot be an argument,"
            " because every user of this machine can read arguments"
        )
    log_to_stderr()

    async def run_it() -> T:
        async with DailyApi(key, url=url) as api:
            return await work(api)

    return anyio.run(run_it)


@contextmanager
def checked() -> Iterator[None]:
    """Report options that are refused before anything is sent, on one line."""
    try:
        yield
    except ValidationError as error:
        problems = [line["msg"] for line in error.errors(include_url=False, include_input=False)]
    else:
        return
    misuse("; ".join(problems))


def given_secret(file: Path | None, variable: str = SECRET) -> SecretStr | None:
    """Return the secret of a file, else of the environment; where several are valid there, the first, which is the newest.

    It may be wrong: that is refused in one place, later.
    """
    if file:
        return SecretStr(file.read_text("latin-1").strip())  # latin-1 reads any file
    listed = os.environ.get(variable, "").strip() or os.environ.get(SECRET, "")
    first = listed.partition(",")[0].strip()
    return SecretStr(first) if first else None


def unknown_secret(hmac: SecretStr | None, given: SecretStr | None) -> str | None:
    """Return the secret that a new thing has, unless the caller gave it and so knows it."""
    return None if hmac is None or hmac == given else hmac.get_secret_value()


def print_secret(hmac: str | None, given: SecretStr | None, variable: str = SECRET) -> None:
    """Show a new secret, once, with the command that needs it."""
    if hmac is not None:
        sys.stdout.write(
            f"Its secret is shown only now. Keep it, and start the service with it:\n\n    {variable}={hmac} telstate serve\n"
        )
    elif given is not None:
        sys.stdout.write("Daily signs with the secret you gave.\n")
