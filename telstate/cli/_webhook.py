"""`telstate webhook`: the domain's webhooks: make one, see whether Daily still sends to them, and bring them back."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import anyio
import structlog
import typer
from pydantic import SecretStr

from telstate.cli._terminal import misuse, tidy_exit
from telstate.control import DAILY, NEEDED, DailyApi, Webhook, Webhooks, watch

__all__ = ["verbs"]

T = TypeVar("T")

verbs = typer.Typer(
    no_args_is_help=True,
    help="Make, list, check and reactivate the webhooks by which Daily tells of calls. The API key is taken from DAILY_API_KEY.",
)

_SECRET = "TELSTATE_WEBHOOK_SECRET"  # noqa: S105 - where it is, not what it is
_Uuid = Annotated[str, typer.Argument(metavar="UUID", help="Which, as `list` names it.")]
_Json = Annotated[bool, typer.Option("--json", help="JSON Lines instead of text.")]
_Url = Annotated[str, typer.Option("--api-url", envvar="TELSTATE_DAILY_API_URL", hidden=True)]


@verbs.command()
def create(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where Daily is to send events.")],
    *,
    event: Annotated[
        list[str] | None,
        typer.Option("--event", help="An event type, instead of all that telstate needs; can be given again."),
    ] = None,
    secret_file: Annotated[
        Path | None, typer.Option(help="A file with the secret to sign with, base64; or set TELSTATE_WEBHOOK_SECRET.")
    ] = None,
    as_json: _Json = False,
    api_url: _Url = DAILY,
) -> None:
    """Make a webhook for all that telstate needs to hear. The service must run already: Daily tests the URL at once.

    Without a secret of yours Daily makes one, and it is shown this once. Make one with: openssl rand -base64 32
    """
    with tidy_exit():
        # As latin-1 anything can be read: what is no base64 is refused in one place.
        given = secret_file.read_text("latin-1").strip() if secret_file else os.environ.get(_SECRET, "").strip()
        secret = SecretStr(given) if given or secret_file else None
        made = _ask(api_url, lambda hooks: hooks.create(url, event or NEEDED, secret))
        hmac = made.hmac.get_secret_value() if made.hmac is not None else None
        if hmac == given:
            hmac = None  # who gave it knows it
        if as_json:
            sys.stdout.write(json.dumps({**_as_dict(made), "hmac": hmac}) + "\n")
            return
        sys.stdout.write(f"{made.uuid} made for {made.url or url}\n")
        if hmac is not None:
            sys.stdout.write(
                f"Its secret, shown only now; keep it, and start the service with it:\n\n    {_SECRET}={hmac} telstate serve\n"
            )
        elif given:
            sys.stdout.write("It signs with the secret you gave.\n")


@verbs.command("list")
def list_(*, as_json: _Json = False, api_url: _Url = DAILY) -> None:
    """List the domain's webhooks, one line each."""
    with tidy_exit():
        found = _ask(api_url, lambda hooks: hooks.list())
        if as_json:
            for webhook in found:
                sys.stdout.write(json.dumps(_as_dict(webhook)) + "\n")
            return
        row = "{:<36}  {:<8}  {:>8}  {:<19}  {:<15}  {}\n"
        sys.stdout.write(row.format("UUID", "STATE", "FAILURES", "LAST SENT, UTC", "RETRY", "URL"))
        for one in found:
            last = one.last_moment_pushed.strftime("%Y-%m-%d %H:%M:%S") if one.last_moment_pushed else ""
            fields = (one.uuid, one.state or "?", one.failed_count, last, one.retry_type, one.url)
            sys.stdout.write(row.format(*("" if field is None else field for field in fields)))
        sys.stdout.write(f"\n{len(found)} webhook{'' if len(found) == 1 else 's'}\n")


@verbs.command()
def check(
    uuid: Annotated[str | None, typer.Argument(metavar="[UUID]", help="Which; without it, all of the domain.")] = None,
    *,
    every: Annotated[float | None, typer.Option(min=1, help="Seconds: look again and again, and tell changes.")] = None,
    as_json: _Json = False,
    api_url: _Url = DAILY,
) -> None:
    """See that Daily sends to each webhook, and all that telstate needs; exit with 1 if not.

    With --every it goes on until it is interrupted, and warns on standard error when Daily stops to send.
    """

    def tell(webhook: Webhook) -> bool:
        trouble = _trouble(webhook)
        line = json.dumps(_as_dict(webhook)) if as_json else f"{webhook.uuid}: {trouble or 'well'} ({webhook.url})"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()  # somebody waits for it
        return not trouble

    async def look(hooks: Webhooks) -> tuple[Webhook, ...]:
        return await hooks.list() if uuid is None else (await hooks.get(uuid),)

    async def go_on(api: DailyApi) -> None:
        async for webhook in watch(api, uuid, every or 0):
            tell(webhook)

    with tidy_exit():
        if every is not None:
            _run(api_url, go_on)
        found = _ask(api_url, look)
        if not found:
            sys.stderr.write(
                "telstate: the domain has no webhook, so nothing is told of its calls: telstate webhook create URL\n"
            )
        well = [tell(webhook) for webhook in found]
    if not well or not all(well):
        raise typer.Exit(1)


@verbs.command()
def reactivate(uuid: _Uuid, *, as_json: _Json = False, api_url: _Url = DAILY) -> None:
    """Let Daily send again to a webhook that FAILED. It tests the URL first; what it did not send meanwhile is lost."""
    with tidy_exit():
        webhook = _ask(api_url, lambda hooks: hooks.reactivate(uuid))
        sys.stdout.write(json.dumps(_as_dict(webhook)) if as_json else f"{webhook.uuid} is {webhook.state}")
        sys.stdout.write("\n")


def _run(url: str, work: Callable[[DailyApi], Awaitable[T]]) -> T:
    key = os.environ.get("DAILY_API_KEY")
    if not key:
        misuse(
            "DAILY_API_KEY is not set: put your domain's API key there (Daily's dashboard, Developers). It is no argument"
            " because everybody on this machine can read those"
        )
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is for the answer

    async def run() -> T:
        async with DailyApi(key, url=url) as api:
            return await work(api)

    return anyio.run(run)


def _ask(url: str, work: Callable[[Webhooks], Awaitable[T]]) -> T:
    return _run(url, lambda api: work(Webhooks(api)))


def _trouble(webhook: Webhook) -> str:
    """What is wrong with it and what to do, or nothing."""
    told = []
    if webhook.silent:
        told.append(
            f"it is {webhook.state}, Daily sends nothing, and events are being lost: see that its URL answers with 200,"
            f" then telstate webhook reactivate {webhook.uuid}"
        )
    if lacking := webhook.lacks():
        told.append(
            f"it lacks {', '.join(lacking)}: make one that has all by telstate webhook create URL, then delete"
            f" this one (DELETE /webhooks/{webhook.uuid} of Daily's API)"
        )
    return "; ".join(told)


def _as_dict(webhook: Webhook) -> dict[str, Any]:
    """Only what is known, and no secret: what Daily may add one day could be one."""
    known = webhook.model_dump(mode="json", include=set(Webhook.model_fields) - {"hmac", "basic_auth"})
    return {**known, "silent": webhook.silent, "lacks": webhook.lacks()}
