"""`telstate config show`: what holds for a service, and where each value came from."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from pydantic import BaseModel, SecretStr

from telstate.cli._config import Receiver, all_uses, is_secret, variable_of
from telstate.cli._config_flags import ConfigFile, SecretsDir, load_config
from telstate.cli._nats import without_password
from telstate.cli._terminal import tidy_exit
from telstate.cli._verb import Verb
from telstate.errors import printable
from telstate.events._masking import mask

__all__ = ["verbs"]

verbs = typer.Typer(
    no_args_is_help=True,
    help="Show the settings of `telstate serve` and `telstate work`, and where each came from.",
)
_HIDDEN = "hidden"


@verbs.command(cls=Verb)
def show(
    *,
    config: ConfigFile = None,
    secrets_dir: SecretsDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON Lines instead of text.")] = False,
) -> None:
    """Show all settings that `telstate serve` and `telstate work` have here, and where each came from.

    The command line outweighs the environment, which outweighs files of the secrets directory, which outweigh the configuration file.
    Flags of a service are not known here. Secrets are hidden, phone numbers are masked.

    The exit code is 2 if a setting cannot be right.

    Example: telstate config show --config /etc/telstate.toml
    """
    with tidy_exit():
        loaded = load_config(config, secrets_dir)
        rows = [*_rows(loaded)]
        places = {"file": loaded.file, "secrets_dir": loaded.secrets}
        if as_json:
            for row in rows:
                sys.stdout.write(json.dumps(row) + "\n")
            read = {name: None if place is None else str(place) for name, place in places.items()}
            sys.stdout.write(json.dumps({"read": read}) + "\n")
            return
        for name, place in places.items():
            sys.stdout.write(f"{name.replace('_', ' ')}: {'none' if place is None else printable(str(place))}\n")
        sys.stdout.write("\n" + _table(rows))


def _rows(loaded: Any) -> Iterator[dict[str, Any]]:
    for name, field, use in all_uses():
        value = getattr(loaded.config, name)
        if name == "reconcile":
            value = loaded.config.asks_daily
        values = {name: value}
        if isinstance(value, BaseModel):
            values = {f"{name}.{one}": its for one, its in value}
        for one, its in values.items():
            origin = loaded.origin(one)
            yield {
                "setting": one,
                "value": _shown(one, its),
                "from": origin.kind,
                "origin": origin.name or None,
                "hidden": is_secret(field),
                "variable": variable_of(one),
                "flag": use.flag,
                "used_by": use.by,
            }


def _shown(name: str, value: Any) -> Any:
    """Return a value as it may be seen."""
    if isinstance(value, tuple | list):
        return [_shown(name, one) for one in value]
    if isinstance(value, SecretStr):
        return _HIDDEN
    if isinstance(value, Receiver):
        facts = {one: _shown("notify" if one == "url" else one, its) for one, its in value}
        return {one: its for one, its in facts.items() if its not in (None, [])}
    if not isinstance(value, str):
        return value
    if name in {"notify", "daily_api_url"} and "://" in value:
        return _host_of(value)
    return mask(without_password(value))


def _host_of(url: str) -> str:
    """Return a URL without its path, which may be a secret."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}{'/…' if parts.path.strip('/') or parts.query else ''}"
    except ValueError:
        return _HIDDEN


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [("setting", "value", "from"), *((row["setting"], _text(row["value"]), _from(row)) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(2)]
    widths[1] = min(widths[1], 40)
    return "".join(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {origin}\n" for name, value, origin in lines)


def _from(row: dict[str, Any]) -> str:
    return printable(row["origin"]) if row["origin"] else f"{row['from']} ({row['variable']})"


def _text(value: Any) -> str:
    if value is None or value == []:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, dict):
        return " ".join(f"{name}={_text(its)}" for name, its in value.items())
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else printable(str(value))
