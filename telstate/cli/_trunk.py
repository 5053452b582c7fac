"""`telstate trunk`: create, list, show, update, delete and check the domain's SIP trunks."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import SecretStr

from telstate.cli._daily_api import (
    DailyAccess,
    JsonFlag,
    checked,
    daily_access,
    print_secret,
    secret_option,
    unknown_secret,
)
from telstate.cli._shared_options import taking
from telstate.cli._terminal import misuse, tidy_exit
from telstate.cli._variables import variable
from telstate.cli._verb import Verb
from telstate.control import Trunk, TrunkCheck, Trunks
from telstate.errors import printable
from telstate.options import SipTrunk, TrunkAccess, TrunkNotification

__all__ = ["verbs"]

T = TypeVar("T")

verbs = typer.Typer(
    no_args_is_help=True,
    help="Create, list, show, update, delete and check SIP trunks, by which your carrier sends calls to Daily. The API key is read from DAILY_API_KEY.",
)

_SECRET = "trunk_secret"  # noqa: S105 - the setting's name, not its value
_PASSWORD = "TELSTATE_TRUNK_PASSWORD"  # noqa: S105 - the variable's name, not its value
_Id = Annotated[str, typer.Argument(metavar="ID", help="The trunk's id, as `list` shows it.")]
_Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", metavar="ADDRESS", help="An IP address or range of your carrier; may be repeated."),
]
_Username = Annotated[
    str | None, typer.Option(metavar="NAME", help="The name with which your carrier authenticates; needs a password.")
]
_PasswordFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help=f"A file with its password; or put it into {_PASSWORD}.")
]
_Open = Annotated[bool, typer.Option("--open", help="Let everybody call who knows the trunk's address, at your cost.")]
_Template = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A JSON file with the properties of each call's room.")
]
_Description = Annotated[str | None, typer.Option(metavar="TEXT", help="Daily sends it with each call.")]
_SecretFile = Annotated[Path | None, secret_option(_SECRET)]
_Expires = Annotated[
    int | None, typer.Option(metavar="SECONDS", help="When a call's room expires; Daily's default is 3600.")
]


@verbs.command(cls=Verb)
@taking(daily=daily_access)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A part of the trunk's address, such as support.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="The URL that learns of each call: …/sip-trunk.")],
    *,
    allow: _Allow = None,
    username: _Username = None,
    password_file: _PasswordFile = None,
    is_open: _Open = False,
    description: _Description = None,
    room_template: _Template = None,
    exp_offset: _Expires = None,
    secret_file: _SecretFile = None,
    as_json: JsonFlag = False,
    daily: DailyAccess,
) -> None:
    """Create a trunk, and print the address for your carrier. The service must already be running: Daily tests the URL at once.

    Without a secret of your own, Daily generates one, which is printed only once: start the service again with it. To generate your own: openssl rand -base64 32
    """
    with tidy_exit():
        secret = daily.secret(secret_file, _SECRET)
        access = _access(allow, username, password_file, is_open=is_open, exp_offset=exp_offset)
        if access is None:
            misuse(
                "nothing limits who may call: give --allow ADDRESS (your carrier's documentation has the addresses), or --username with a"
                " password, or --open to let everybody in"
            )
        with checked():
            wanted = SipTrunk(
                trunk_name=name,
                notification=TrunkNotification(webhook_url=url, hmac=secret),
                trunk_config=access,
                room_template=_template(room_template),
                description=description,
            )
        trunk = _ask(daily, lambda trunks: trunks.create(wanted))
        hmac = unknown_secret(trunk.hmac, secret)
        if as_json:
            sys.stdout.write(json.dumps({**_as_dict(trunk), "hmac": hmac}) + "\n")
            return
        sys.stdout.write(f"{trunk.id} created. Let your carrier send calls to {trunk.sip_uri}\n")
        print_secret(hmac, secret, _SECRET)


@verbs.command("list", cls=Verb)
@taking(daily=daily_access)
def list_(*, as_json: JsonFlag = False, daily: DailyAccess) -> None:
    """List the domain's trunks, one line each."""
    with tidy_exit():
        found = _ask(daily, lambda trunks: trunks.list())
        if as_json:
            for trunk in found:
                sys.stdout.write(json.dumps(_as_dict(trunk)) + "\n")
            return
        row = "{:<36}  {:<12}  {:<8}  {:<24}  {}\n"
        sys.stdout.write(row.format("ID", "NAME", "STATE", "WHO MAY CALL", "URL"))
        for one in found:
            line = row.format(one.id, one.trunk_name or "", _state(one), _who(one), one.webhook_url or "")
            sys.stdout.write(printable(line.rstrip()) + "\n")
        sys.stdout.write(f"\n{len(found)} trunk{'' if len(found) == 1 else 's'}\n")


@verbs.command(cls=Verb)
@taking(daily=daily_access)
def show(trunk_id: _Id, *, as_json: JsonFlag = False, daily: DailyAccess) -> None:
    """Show a trunk, without its secrets."""
    with tidy_exit():
        _print(_ask(daily, lambda trunks: trunks.get(trunk_id)), as_json=as_json)


@verbs.command(cls=Verb)
@taking(daily=daily_access)
def update(
    trunk_id: _Id,
    *,
    url: Annotated[str | None, typer.Option(metavar="URL", help="Another URL that learns of each call.")] = None,
    allow: _Allow = None,
    username: _Username = None,
    password_file: _PasswordFile = None,
    is_open: _Open = False,
    description: _Description = None,
    room_template: _Template = None,
    exp_offset: _Expires = None,
    enable: Annotated[bool | None, typer.Option("--enable/--disable", help="Let the trunk take calls, or not.")] = None,
    secret_file: _SecretFile = None,
    as_json: JsonFlag = False,
    daily: DailyAccess,
) -> None:
    """Change a trunk. What is not given stays; but of --allow, --username and --open, give all that shall hold."""
    with tidy_exit():
        access = _access(allow, username, password_file, is_open=is_open, exp_offset=exp_offset)
        if access is None and exp_offset is not None:
            misuse("--exp-offset is changed together with who may call: give --allow, --username or --open too")
        secret = daily.secret(secret_file, _SECRET)

        async def change(trunks: Trunks) -> Trunk:
            with checked():
                return await trunks.update(
                    trunk_id,
                    notification=await _notification(trunks, trunk_id, url, secret) if url or secret_file else None,
                    trunk_config=access,
                    room_template=_template(room_template),
                    description=description,
                    enabled=enable,
                )

        _print(_ask(daily, change), as_json=as_json)


@verbs.command(cls=Verb)
@taking(daily=daily_access)
def delete(trunk_id: _Id, *, daily: DailyAccess) -> None:
    """Delete a trunk: your carrier's calls to it are refused from then on."""
    with tidy_exit():
        _ask(daily, lambda trunks: trunks.delete(trunk_id))
        sys.stdout.write(f"{trunk_id} deleted\n")


@verbs.command(cls=Verb)
@taking(daily=daily_access)
def check(
    trunk_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The trunk's id; by default all trunks of the domain.")
    ] = None,
    *,
    secret_file: _SecretFile = None,
    as_json: JsonFlag = False,
    daily: DailyAccess,
) -> None:
    """Check that calls get through: the trunk is enabled, and its URL answers a signed test, which is sent from this machine.

    Exits with 1 if they do not. A trunk that is open to everybody is a warning.
    """

    async def look(trunks: Trunks) -> list[TrunkCheck]:
        ids = [trunk_id] if trunk_id is not None else [one.id for one in await trunks.list()]
        return [await trunks.check(one, secret=daily.secret(secret_file, _SECRET)) for one in ids]

    with tidy_exit():
        found = _ask(daily, look)
        if not found:
            sys.stderr.write("telstate: the domain has no trunk: telstate trunk create NAME URL --allow ADDRESS\n")
        for one in found:
            _report(one, as_json=as_json)
    if not found or not all(found):
        raise typer.Exit(1)


def _report(found: TrunkCheck, *, as_json: bool) -> None:
    if as_json:
        answer = found.probe
        seconds = None if answer is None else round(answer.seconds, 3)
        asked = {"status": None if answer is None else answer.status, "seconds": seconds}
        line = json.dumps(
            {
                **_as_dict(found.trunk),
                "ok": bool(found),
                "problems": found.problems,
                "warnings": found.warnings,
                **asked,
            }
        )
    else:
        text = "; ".join([*found.problems, *(f"warning: {warning}" for warning in found.warnings)])
        line = f"{found.trunk.id}: {text or 'ok'} ({found.trunk.sip_uri})"
    sys.stdout.write(line + "\n")


async def _notification(trunks: Trunks, trunk_id: str, url: str | None, secret: SecretStr | None) -> TrunkNotification:
    """Return what to change of it: for a new secret alone, Daily is asked for the URL."""
    known = url or (await trunks.get(trunk_id)).webhook_url or ""
    return TrunkNotification(webhook_url=known, hmac=secret)


def _access(
    allow: list[str] | None, username: str | None, password_file: Path | None, *, is_open: bool, exp_offset: int | None
) -> TrunkAccess | None:
    """Return who may call; None if the arguments do not say."""
    if not allow and username is None and not is_open:
        return None
    credential = None
    if username is not None:
        text = password_file.read_text().rstrip("\r\n") if password_file else variable(_PASSWORD) or ""
        if not text:
            misuse(f"--username needs a password: --password-file FILE, or put it into {_PASSWORD}")
        credential = {"username": username, "password": SecretStr(text)}
    fields = {
        "allowed_ips": allow or None,
        "credential": credential,
        "is_open": is_open,
        "exp_offset": exp_offset,
    }
    with checked():
        return TrunkAccess.model_validate(fields)


def _template(file: Path | None) -> dict[str, Any] | None:
    if file is None:
        return None
    try:
        template = json.loads(file.read_text())
    except ValueError:
        template = None
    if not isinstance(template, dict):
        misuse(f"{file} must be a JSON object with the properties of a room")
    return template


def _ask(daily: DailyAccess, work: Callable[[Trunks], Awaitable[T]]) -> T:
    return daily.run(lambda api: work(Trunks(api)))


def _print(trunk: Trunk, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(_as_dict(trunk)) + "\n")
        return
    rows = {
        "id": trunk.id,
        "name": trunk.trunk_name,
        "state": _state(trunk),
        "address": trunk.sip_uri,
        "who may call": _who(trunk),
        "url": trunk.webhook_url,
        "description": trunk.description,
        "rooms expire": None if trunk.exp_offset is None else f"after {trunk.exp_offset} s",
        "room template": json.dumps(trunk.room_template) if trunk.room_template else None,
    }
    for name, value in rows.items():
        if value:
            sys.stdout.write(printable(f"{name:<14}  {value}") + "\n")


def _state(trunk: Trunk) -> str:
    return {True: "enabled", False: "disabled", None: "?"}[trunk.enabled]


def _who(trunk: Trunk) -> str:
    if trunk.lets_everybody_in:
        return "everybody"
    who = [*trunk.allowed_ips, *([f"user {trunk.username}"] if trunk.username else [])]
    return ", ".join(who) or "?"


def _as_dict(trunk: Trunk) -> dict[str, Any]:
    """Without the secrets."""
    fields = {name: value for name, value in vars(trunk).items() if name not in {"hmac", "password"}}
    return {**fields, "open": trunk.lets_everybody_in}
