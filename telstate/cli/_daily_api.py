"""What the commands that ask Daily share: the settings, which are those of the service, and how they take and show a signing secret."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import anyio
import typer
from pydantic import SecretStr, ValidationError

from telstate.cli._config import ServiceConfig, variable_of
from telstate.cli._config_flags import ConfigFile, SecretsDir, load_config
from telstate.cli._terminal import log_to_stderr, misuse, say
from telstate.control import DAILY, DailyApi

__all__ = [
    "WEBHOOK_SECRET",
    "DailyAccess",
    "JsonFlag",
    "checked",
    "daily_access",
    "place_of",
    "print_secret",
    "secret_option",
    "unknown_secret",
]

T = TypeVar("T")

WEBHOOK_SECRET = "webhook_secret"  # noqa: S105 - the setting's name, not its value
"""Is valid for all requests of Daily's, as for `telstate serve`."""
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON Lines instead of text.")]


class DailyAccess:
    """How a command asks Daily.

    Args:
        config: the settings.
    """

    def __init__(self, config: ServiceConfig) -> None:
        self._config = config

    def run(self, work: Callable[[DailyApi], Awaitable[T]]) -> T:
        """Run an async function with Daily's API."""
        key = self._config.daily_api_key
        if key is None:
            misuse(
                "DAILY_API_KEY is not set: put your domain's API key there (Daily's dashboard, Developers). It cannot be an argument,"
                " because every user of this machine can read arguments"
            )
        log_to_stderr()

        async def run_it() -> T:
            async with DailyApi(key, url=self._config.daily_api_url or DAILY) as api:
                return await work(api)

        return anyio.run(run_it)

    def secret(self, file: Path | None, setting: str = WEBHOOK_SECRET) -> SecretStr | None:
        """Return the secret of a file, else of the settings; where several are valid there, the first, which is the newest.

        It may be wrong: that is refused in one place, later.
        """
        if file:
            return SecretStr(file.read_text("latin-1").strip())  # latin-1 reads any file
        values: tuple[SecretStr, ...] = getattr(self._config, setting) or self._config.webhook_secret
        return values[0] if values else None


def daily_access(
    *,
    api_url: Annotated[
        str | None,
        typer.Option(
            "--api-url",
            metavar="URL",
            help="Another REST API than Daily's, such as that of `telstate fake-daily`; or in TELSTATE_DAILY_API_URL.",
        ),
    ] = None,
    config: ConfigFile = None,
    secrets_dir: SecretsDir = None,
) -> DailyAccess:
    """Take the options of all commands that ask Daily. They have the settings of `telstate serve`, from the same places."""
    given = {} if api_url is None else {"daily_api_url": api_url}
    loaded = load_config(config, secrets_dir, given, {"daily_api_url": "--api-url"})
    if loaded.file is not None:  # nobody may have named it
        say(f"settings from {loaded.file}")
    return DailyAccess(loaded.config)


def place_of(url: str) -> tuple[str, str, int | None, str] | None:
    """What tells two URLs apart, whatever their spelling."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return None
    return parts.scheme, parts.hostname or "", port, parts.path.rstrip("/")


def secret_option(setting: str) -> Any:
    """Return the option for a file with a secret.

    Args:
        setting: the one that holds it otherwise.
    """
    text = f"A file with the secret to sign with, in base64; or put it into {variable_of(setting)}."
    return typer.Option(metavar="FILE", help=text)


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


def unknown_secret(hmac: SecretStr | None, given: SecretStr | None) -> str | None:
    """Return the secret that a new thing has, unless the caller gave it and so knows it."""
    return None if hmac is None or hmac == given else hmac.get_secret_value()


def print_secret(hmac: str | None, given: SecretStr | None, setting: str = WEBHOOK_SECRET) -> None:
    """Show a new secret, once, with the command that needs it."""
    if hmac is not None:
        sys.stdout.write(
            f"Its secret is shown only now. Keep it, and start the service with it:\n\n    {variable_of(setting)}={hmac} telstate serve\n"
        )
    elif given is not None:
        sys.stdout.write("Daily signs with the secret you gave.\n")
