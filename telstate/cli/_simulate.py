"""`telstate simulate`: simulated calls, in any dialect and with the faults of a network, as a log or as signed webhooks."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from telstate.cli._export import write_file
from telstate.cli._shared_options import noise_of, taking
from telstate.cli._terminal import misuse, tidy_exit
from telstate.cli._variables import variable
from telstate.events import Dialect
from telstate.sources._log_lines import STDIN

if TYPE_CHECKING:
    import httpx

    from telstate.testing import Noise, Sent, WebhookSender

__all__ = ["SCENARIOS", "simulate"]

SCENARIOS = (
    *("dialin-answered", "dialin-gave-up", "dialin-failed", "dialin-transferred"),
    *("dialout-answered", "dialout-unanswered", "dialout-busy", "dialout-failed"),
)
"""The scripts of `telstate.testing`, as their functions are called there."""
_SECONDS_A_CALL = 96.0
"""Between two calls: 300 in eight hours, as `telstate.testing.simulate` has them."""
_START = 1_790_000_000.0
_STARTS_WITHIN = 5.0
"""Seconds that a receiver may take until it listens."""


@taking(noise=noise_of)
def simulate(
    scenario: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SCENARIO",
            help=f"What happens in the calls: {', '.join(SCENARIOS)}. Several may be given. [default: all, as on a working day]",
        ),
    ] = None,
    *,
    calls: Annotated[int, typer.Option(min=1, metavar="N", help="How many calls.")] = 100,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed and options give the same calls.")] = 0,
    dialect: Annotated[
        list[Dialect] | None,
        typer.Option(
            "--dialect",
            metavar="FORM",
            help="The form of the events: webhook, daily-js, daily-python or journal. May be repeated: then each call has one of them. [default: webhook]",
        ),
    ] = None,
    noise: Noise,
    rate: Annotated[
        float | None,
        typer.Option(min=0.01, metavar="N", help="Events a second, in real time. [default: as fast as possible]"),
    ] = None,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The file to write, compressed if it ends with .gz.",
            show_default=False,
        ),
    ] = STDIN,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE if it exists.")] = False,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="URL", help="Post the events as webhooks to a receiver, instead of writing a log."
        ),
    ] = None,
    secret: Annotated[
        str | None,
        typer.Option(
            envvar="TELSTATE_WEBHOOK_SECRET",
            metavar="SECRET",
            help="The secret that the webhooks are signed with, in base64.",
        ),
    ] = None,
) -> None:
    """Simulate calls, as a log on standard output, in a file, or as signed webhooks to a service that is to be tried.

    The numbers are reserved for fiction. The same seed and options give the same log.

    With --to, callers on hold go to the /pinless beside a URL that ends with /webhooks. The times are those of the hours before now.
    The exit code is 1 if the receiver refused an event.

    Examples: telstate simulate --calls 1000 --dup 0.05 --shuffle 0.1 | telstate lint

    or: telstate simulate dialin-transferred --to http://127.0.0.1:8080/webhooks --rate 5
    """
    dialects = dialect or [Dialect.WEBHOOK]
    if unknown := [name for name in scenario or () if name not in SCENARIOS]:
        misuse(f"there is no scenario {unknown[0]!r}; there are {', '.join(SCENARIOS)}")
    if to is not None and (dialects != [Dialect.WEBHOOK] or output != STDIN):
        misuse("--to posts webhooks: leave out --dialect and --output")
    start = _START if to is None else time.time() - (calls + 100) * _SECONDS_A_CALL
    with tidy_exit():
        sent = _simulated(scenario, noise, seed=seed, calls=calls, start=start, dialects=dialects)
        paced = sent if rate is None else _paced(sent, rate)
        if to is not None:
            _post(paced, to, secret or variable("TELSTATE_WEBHOOK_SECRET"))
        elif output != STDIN:
            write_file((one.line().rstrip(b"\n") for one in paced), output, force=force)
        else:
            for one in paced:
                sys.stdout.buffer.write(one.line())
                if rate is not None:
                    sys.stdout.buffer.flush()


def _simulated(
    scenarios: list[str] | None,
    noise: Noise,
    *,
    seed: int,
    calls: int,
    start: float,
    dialects: list[Dialect],
) -> Iterator[Sent]:
    from telstate.testing import SCRIPTS  # noqa: PLC0415 - no other command needs it
    from telstate.testing import simulate as run  # noqa: PLC0415

    wanted = {name.replace("-", "_") for name in scenarios or ()}
    scripts = {script: weight for script, weight in SCRIPTS.items() if not wanted or script.__name__ in wanted}
    span = calls * _SECONDS_A_CALL
    return run(seed, calls=calls, start=start, span=span, dialects=dialects, noise=noise, scripts=scripts)


def _paced(sent: Iterable[Sent], rate: float) -> Iterator[Sent]:
    """Yield so many a second."""
    began = time.monotonic()
    for number, one in enumerate(sent):
        left = began + number / rate - time.monotonic()
        if left > 0:
            time.sleep(left)
        yield one


def _post(sent: Iterable[Sent], url: str, secret: str | None) -> None:
    """Post all, one after another, and say how it went."""
    try:
        from telstate.testing import WebhookSender  # noqa: PLC0415 - needs an extra
    except ModuleNotFoundError as error:
        misuse(str(error))
    if not url.startswith(("http://", "https://")):
        misuse(f"--to: expected a URL that begins with http:// or https://, got {url!r}")
    try:
        senders = WebhookSender(url, secret), WebhookSender(_pinless_url(url), secret)
    except ValueError as error:
        misuse(f"--secret: {error}")
    import anyio  # noqa: PLC0415 - only here

    posted, refusals = anyio.run(_post_all, sent, *senders)
    refused = sum(refusals.values())
    answers = ", ".join(f"{number:,} with {status}" for status, number in sorted(refusals.items()))
    sys.stdout.write(f"{posted:,} events posted to {url}{f'; {refused:,} refused: {answers}' if refused else ''}\n")
    if refused:
        raise typer.Exit(1)


async def _post_all(
    sent: Iterable[Sent], webhooks: WebhookSender, pinless: WebhookSender
) -> tuple[int, dict[int, int]]:
    import httpx  # noqa: PLC0415 - the senders have it

    posted, refusals = 0, dict[int, int]()
    async with AsyncExitStack() as stack:
        for sender in (webhooks, pinless):
            await stack.enter_async_context(sender)
        for one in sent:
            try:
                sender = webhooks if "type" in one.payload else pinless
                answer = await _answered(sender, one, 0.0 if posted else _STARTS_WITHIN)
            except httpx.HTTPError as error:
                reason = str(error) or type(error).__name__
                misuse(
                    f"the receiver gave no answer after {posted:,} events ({reason}): is it running, is the URL right, what does its /ready say?"
                )
            posted += 1
            if answer.status_code != 200:
                refusals[answer.status_code] = refusals.get(answer.status_code, 0) + 1
    return posted, refusals


async def _answered(sender: WebhookSender, sent: Sent, patience: float) -> httpx.Response:
    """Post one event. Where nobody listens, try again for so many seconds: the receiver may have been started just before."""
    import anyio  # noqa: PLC0415 - only here
    import httpx  # noqa: PLC0415

    until = anyio.current_time() + patience
    while True:
        try:
            return await sender.post(sent.payload)
        except httpx.ConnectError:
            if anyio.current_time() >= until:
                raise
            await anyio.sleep(0.1)


def _pinless_url(url: str) -> str:
    """Return where callers on hold go: Daily sends them to an address of their own."""
    head, slash, last = url.rstrip("/").rpartition("/")
    return f"{head}{slash}pinless" if last == "webhooks" else url
