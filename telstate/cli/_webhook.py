"""`telstate webhook`: create the domain's webhooks, check that Daily still sends to them, and reactivate them."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Collection, Iterable
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import typer

from telstate.cli._daily_api import (
    WEBHOOK_SECRET,
    DailyAccess,
    JsonFlag,
    daily_access,
    place_of,
    print_secret,
    secret_option,
    unknown_secret,
)
from telstate.cli._shared_options import taking
from telstate.cli._terminal import misuse, tidy_exit
from telstate.cli._verb import Verb
from telstate.control import NEEDED, DailyApi, Webhook, Webhooks, watch

__all__ = ["problems_of", "verbs"]

T = TypeVar("T")

verbs = typer.Typer(
    no_args_is_help=True,
    help="Create, list, check and reactivate Daily's webhooks. The API key is read from DAILY_API_KEY.",
)

_Uuid = Annotated[str, typer.Argument(metavar="UUID", help="The webhook's id, as `list` shows it.")]


@verbs.command(cls=Verb)
@taking(daily=daily_access)
def create(
    url: Annotated[str, typer.Argument(metavar="URL", help="The URL that Daily sends events to.")],
    *,
    event: Annotated[
        list[str] | None,
        typer.Option(
            "--event", metavar="TYPE", help="An event type, instead of all that telstate needs; may be repeated."
        ),
    ] = None,
    secret_file: Annotated[Path | None, secret_option(WEBHOOK_SECRET)] = None,
    another: Annotated[
        bool,
        typer.Option(
            "--another", help="Create it although one sends to this URL already: each event then comes twice."
        ),
    ] = False,
    as_json: JsonFlag = False,
    daily: DailyAccess,
) -> None:
    """Create a webhook for all events that telstate needs. The service must already be running: Daily tests the URL at once.

    If another webhook sends such events to the URL already, nothing is created: two send each event twice.

    Without a secret of your own, Daily generates one, which is printed only once. To generate your own: openssl rand -base64 32
    """
    with tidy_exit():
        secret = daily.secret(secret_file)
        wanted = event or NEEDED

        async def make(hooks: Webhooks) -> Webhook:
            if not another:
                _refuse_second(url, wanted, await hooks.list())
            return await hooks.create(url, wanted, secret)

        webhook = _ask(daily, make)
        hmac = unknown_secret(webhook.hmac, secret)
        if as_json:
            sys.stdout.write(json.dumps({**_as_dict(webhook), "hmac": hmac}) + "\n")
            return
        sys.stdout.write(f"{webhook.uuid} created for {webhook.url or url}\n")
        print_secret(hmac, secret)


@verbs.command("list", cls=Verb)
@taking(daily=daily_access)
def list_(*, as_json: JsonFlag = False, daily: DailyAccess) -> None:
    """List the domain's webhooks, one line each."""
    with tidy_exit():
        found = _ask(daily, lambda hooks: hooks.list())
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


@verbs.command(cls=Verb)
@taking(daily=daily_access)
def check(
    uuid: Annotated[
        str | None, typer.Argument(metavar="UUID", help="The webhook's id; by default all webhooks of the domain.")
    ] = None,
    *,
    every: Annotated[
        float | None, typer.Option(min=1, metavar="SECONDS", help="Check repeatedly, and print changes.")
    ] = None,
    as_json: JsonFlag = False,
    daily: DailyAccess,
) -> None:
    """Check that Daily sends all that telstate needs.

    Exits with 1 if a webhook is silent or lacks an event type. With --every it continues until Ctrl-C, and warns on standard error when Daily stops sending.
    """

    def report(webhook: Webhook) -> bool:
        problems = "; ".join(f"{problem.text}: {problem.do}" for problem in problems_of(webhook))
        line = json.dumps(_as_dict(webhook)) if as_json else f"{webhook.uuid}: {problems or 'ok'} ({webhook.url})"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()  # with --every, the next line comes much later
        return not problems

    async def look(hooks: Webhooks) -> tuple[Webhook, ...]:
        return await hooks.list() if uuid is None else (await hooks.get(uuid),)

    async def check_forever(api: DailyApi) -> None:
        async for webhook in watch(api, uuid, every or 0):
            report(webhook)

    with tidy_exit():
        if every is not None:
            daily.run(check_forever)
        found = _ask(daily, look)
        if not found:
            sys.stderr.write(
                "telstate: the domain has no webhook, so no call is reported: telstate webhook create URL\n"
            )
        ok = [report(webhook) for webhook in found]
    if not ok or not all(ok):
        raise typer.Exit(1)


@verbs.command(cls=Verb)
@taking(daily=daily_access)
def reactivate(uuid: _Uuid, *, as_json: JsonFlag = False, daily: DailyAccess) -> None:
    """Make Daily send again to a webhook whose state is FAILED. Daily tests the URL first; events since the failure are lost."""
    with tidy_exit():
        webhook = _ask(daily, lambda hooks: hooks.reactivate(uuid))
        sys.stdout.write(json.dumps(_as_dict(webhook)) if as_json else f"{webhook.uuid} is {webhook.state}")
        sys.stdout.write("\n")


def _refuse_second(url: str, wanted: Collection[str], known: Iterable[Webhook]) -> None:
    """End the command if one of the webhooks sends such events to the URL already."""
    for one in known:
        sends = not one.event_types or not set(wanted).isdisjoint(one.event_types)
        if sends and _is_at(one.url or "", url):
            misuse(
                f"the webhook {one.uuid} sends to {url} already, so nothing was created. See telstate webhook check {one.uuid}; or give"
                " --another, and each event comes twice until you delete one of them"
            )


def _is_at(one: str, other: str) -> bool:
    """Return whether two URLs are one, whatever their spelling."""
    return place_of(one) == place_of(other) and one.partition("?")[2] == other.partition("?")[2]


def _ask(daily: DailyAccess, work: Callable[[Webhooks], Awaitable[T]]) -> T:
    return daily.run(lambda api: work(Webhooks(api)))


class WebhookProblem(NamedTuple):
    """What is wrong with a webhook, and what to do."""

    text: str
    do: str


def problems_of(webhook: Webhook) -> list[WebhookProblem]:
    """Return what is wrong with it; empty if nothing is."""
    problems = []
    if webhook.silent:
        text = f"it is {webhook.state}, Daily sends nothing, and events are being lost"
        do = f"check that its URL answers with 200, then telstate webhook reactivate {webhook.uuid}"
        problems.append(WebhookProblem(text, do))
    if lacking := webhook.lacks():
        do = (
            "create one that has all by telstate webhook create URL --another, then delete this one"
            f" (DELETE /webhooks/{webhook.uuid} of Daily's API)"
        )
        problems.append(WebhookProblem(f"it lacks {', '.join(lacking)}", do))
    return problems


def _as_dict(webhook: Webhook) -> dict[str, Any]:
    """Known fields only, without secrets: a field that Daily adds one day could be one."""
    known = webhook.model_dump(mode="json", include=set(Webhook.model_fields) - {"hmac", "basic_auth"})
    return {**known, "silent": webhook.silent, "lacks": webhook.lacks()}
