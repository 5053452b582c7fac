"""`telstate pinless`: let a URL learn of the callers of a phone number, and show where the calls of each number go."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

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
from telstate.cli._terminal import tidy_exit
from telstate.cli._verb import Verb
from telstate.control import DailyApi, DialinAddress, DialinConfigs, PinlessChange, PinlessNumbers
from telstate.control._dialin_address import digits_of
from telstate.errors import DailyError, printable

__all__ = ["all_numbers", "verbs"]

verbs = typer.Typer(
    no_args_is_help=True,
    help="Let a URL learn of a number's callers, who are on hold until they are forwarded. The API key is read from DAILY_API_KEY.",
)

_SECRET = "pinless_secret"  # noqa: S105 - the setting's name, not its value


@verbs.command("set", cls=Verb)
@taking(daily=daily_access)
def set_(
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="A number that you bought, such as +12025550100.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="The URL that learns of its callers: …/pinless.")],
    *,
    secret_file: Annotated[Path | None, secret_option(_SECRET)] = None,
    new_secrets: Annotated[
        bool, typer.Option("--new-secrets", help="Go on although Daily then makes new secrets for other numbers.")
    ] = False,
    as_json: JsonFlag = False,
    daily: DailyAccess,
) -> None:
    """Let a URL learn of a number's callers. Other numbers stay as they are.

    The number keeps its secret unless another is given; a new number without one gets one, which is printed only once. Exits with 1 if another program changed the list at the same time.
    """

    async def change(api: DailyApi) -> PinlessChange:
        with checked():
            return await PinlessNumbers(api).set(number, url, secret, new_secrets=new_secrets)

    with tidy_exit():
        secret = daily.secret(secret_file, _SECRET)
        done = daily.run(change)
        address = done.address
        hmac = unknown_secret(address.hmac, secret) if done.new_secret else None
        if as_json:
            sys.stdout.write(json.dumps({**_as_dict(address), "hmac": hmac, "meanwhile": done.meanwhile}) + "\n")
        else:
            sys.stdout.write(f"{number}: its callers are reported to {address.room_creation_api}\n")
            print_secret(hmac, secret, _SECRET)
        if done.meanwhile:
            sys.stderr.write(
                f"telstate: another program changed the list at the same time: {'; '.join(done.meanwhile)}\n"
            )
    if done.meanwhile:
        raise typer.Exit(1)


@verbs.command(cls=Verb)
@taking(daily=daily_access)
def show(
    number: Annotated[
        str | None, typer.Argument(metavar="NUMBER", help="The number; by default all of the domain.")
    ] = None,
    *,
    as_json: JsonFlag = False,
    daily: DailyAccess,
) -> None:
    """Show where the calls of each number go: to a URL, or by PIN to a room. Exits with 1 if the number is not among them."""
    with tidy_exit():
        found = [
            one for one in daily.run(all_numbers) if number is None or digits_of(one.phone_number) == digits_of(number)
        ]
        if as_json:
            for one in found:
                sys.stdout.write(json.dumps(_as_dict(one)) + "\n")
        else:
            row = "{:<16}  {:<14}  {:<40}  {}\n"
            sys.stdout.write(row.format("NUMBER", "TYPE", "URL", "SIP ADDRESS"))
            for one in found:
                fields = (one.phone_number or "-", one.kind, one.room_creation_api or "", one.sip_uri or "")
                sys.stdout.write(printable(row.format(*fields).rstrip()) + "\n")
            sys.stdout.write(f"\n{len(found)} number{'' if len(found) == 1 else 's'}\n")
    if number is not None and not found:
        raise typer.Exit(1)


async def all_numbers(api: DailyApi) -> list[DialinAddress]:
    """Return the numbers of the domain's list, and those that have a config of their own."""
    listed = list(await PinlessNumbers(api).list())
    try:
        return [*listed, *await DialinConfigs(api).list()]
    except DailyError as error:
        if error.status != 404:  # a domain without configs
            raise
        return listed


def _as_dict(address: DialinAddress) -> dict[str, Any]:
    """Without the secret."""
    return {name: value for name, value in vars(address).items() if name != "hmac"}
