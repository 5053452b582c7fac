"""`telstate fake-daily`: a fake of Daily as a process of its own, with which a backend is tried that runs elsewhere."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from telstate._asgi import is_loopback
from telstate.cli._log_writer import LineWriter
from telstate.cli._shared_options import noise_of, share_option, taking
from telstate.cli._terminal import cannot_listen, misuse, tidy_exit
from telstate.errors import printable
from telstate.events._masking import mask

if TYPE_CHECKING:
    from telstate.testing import FakeDaily, LinePlan, Noise
    from telstate.testing._faults import Fault

__all__ = ["fake_daily"]

_EVERYBODY = "*"
_FLUSH_WITHIN = 5.0
_LONGEST_PAUSE = 3600.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_STEP = 0.5


class _Callers(NamedTuple):
    """People who call a number."""

    to: str
    number_of: int | None
    every: float
    talk_for: float


class _Printer:
    """Prints lines from any thread, without ever waiting for whoever reads them.

    Args:
        numbers: show phone numbers and SIP users in full.
    """

    def __init__(self, *, numbers: bool) -> None:
        self._numbers = numbers
        try:
            descriptor = sys.stdout.fileno()
        except (OSError, ValueError):  # closed, or replaced by a program that runs this one
            descriptor = os.open(os.devnull, os.O_WRONLY)
        self._writer = LineWriter(descriptor)

    def say(self, text: str) -> None:
        """Print a line of the command's own."""
        self._writer.write(f"telstate: {text}")

    def tell(self, line: str) -> None:
        """Print what happens in the fake."""
        time_of_day = datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]
        self._writer.write(f"{time_of_day} {printable(line if self._numbers else mask(line))}")

    def flush(self) -> None:
        """Wait until all is printed, for a moment at most."""
        self._writer.flush(_FLUSH_WITHIN)


@taking(noise=noise_of)
def fake_daily(
    *,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="Port to listen on; 0 takes a free one.")
    ] = 8790,
    api_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="The API key that requests must carry. [default: one that is printed]"),
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Receives every event, besides the webhooks that `telstate webhook create` makes."
        ),
    ] = None,
    pinless: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Receives callers on hold of numbers for which `telstate pinless set` has set no URL."
        ),
    ] = None,
    secret: Annotated[
        str | None,
        typer.Option(
            envvar="TELSTATE_WEBHOOK_SECRET",
            metavar="SECRET",
            help="The secret that requests to these two are signed with, in base64.",
        ),
    ] = None,
    retries: Annotated[
        str,
        typer.Option(
            metavar="SECONDS,…",
            help="Seconds before each retry of a webhook that was not answered with 200. Daily's are up to 15 minutes: 15,60,300,900.",
        ),
    ] = "1,3,10,30",
    lines: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What numbers do when they are dialled, in JSON or CSV: see above."),
    ] = None,
    line: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LINE",
            help="A number, or * for all others, and what it does: '+12025550101 answers=4,talks=60', '+12025550102 busy'. May be repeated;"
            " a number that is repeated does one after another.",
        ),
    ] = None,
    room: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A room with a bot in it from the start; may be repeated.")
    ] = None,
    per_room: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="How many calls such a room may have at a time; 5 is Daily's default."),
    ] = 5,
    bot: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND|URL",
            help="A bot: a command that is started, or a URL that is posted to, for each caller on hold (unless their URL is set) and each"
            " request to the stand-in for a bot runner.",
        ),
    ] = None,
    bot_in_new_rooms: Annotated[
        bool, typer.Option("--bot-in-new-rooms", help="Let a bot join every room that is made through REST.")
    ] = False,
    bot_joins: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Seconds from the start of a bot until it is in its room.")
    ] = 0.5,
    call_in: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="Let people call this pinless number, one after another.")
    ] = None,
    callers: Annotated[int | None, typer.Option(min=1, metavar="N", help="How many. [default: no end]")] = None,
    every: Annotated[float, typer.Option(min=0.01, metavar="SECONDS", help="Seconds between two of them.")] = 5.0,
    talks: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Seconds until each hangs up, once connected.")
    ] = 10.0,
    presence: Annotated[
        Literal["on", "none", "off"],
        typer.Option(help="What a room's presence says: who is there, that nobody is, or nothing (it is refused)."),
    ] = "on",
    presence_lag: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="Seconds by which presence is behind; Daily documents up to 15."),
    ] = 0.0,
    refuse: Annotated[
        float, share_option("--refuse", "The share of requests that are answered with 503, and not carried out.")
    ] = 0.0,
    cut: Annotated[
        float, share_option("--cut", "The share of requests whose connection breaks; they are not carried out.")
    ] = 0.0,
    lose: Annotated[
        float, share_option("--lose", "The share of requests that are carried out, and whose answer is lost.")
    ] = 0.0,
    noise: Noise,
    seed: Annotated[int, typer.Option(metavar="N", help="For everything that happens by chance.")] = 0,
    numbers: Annotated[bool, typer.Option("--numbers", help="Print phone numbers and SIP users in full.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only where it listens.")] = False,
) -> None:
    """Run a fake of Daily: its REST API, webhooks, rooms and phone lines, for a backend in another process. Nothing reaches Daily.

    It prints its URL and its key. `telstate webhook`, `pinless`, `trunk`, `serve` and `work` take them from TELSTATE_DAILY_API_URL
    (or --api-url) and DAILY_API_KEY; a program makes a DailyApi(key, url=…).

    Then it prints what is asked of it and what happens, with numbers masked, until SIGTERM or Ctrl-C.

    Lines have the names and seconds of `telstate.testing.PhoneLine`. JSON: {"+12025550101": {"busy": true}, "*": {"answers": 4}}. CSV: the
    columns number, answers, talks and so on. A list, or several rows of a number, is one line for each dial.

    A test asks /simulation/sessions/ID who answered, which no event of Daily's says; POST /simulation/calls lets somebody call.

    Example: telstate fake-daily --room garage --line '+12025550101 busy' --line '+12025550101 answers=2,talks=30'
    """
    if missing := [name for name in ("starlette", "uvicorn", "httpx") if find_spec(name) is None]:
        misuse(f"fake-daily needs {missing[0]}: pip install 'telstate[rest,serve]'")
    if api_key is None and not is_loopback(host):
        misuse("beyond this machine it needs an --api-key of your own: with the key, everybody can start its bots")
    with tidy_exit():
        printer = _Printer(numbers=numbers)
        options: dict[str, Any] = {
            "host": host,
            "port": port,
            "pinless": pinless,
            "presence": presence,
            "presence_lag": presence_lag,
            "pauses": _seconds(retries),
            "seed": seed,
            "bot": bot if bot is None or bot.startswith(("http://", "https://")) else shlex.split(bot),
            "bot_joins": bot_joins,
            "bot_in_new_rooms": bot_in_new_rooms,
            "watch": None if quiet else printer.tell,
            **({} if api_key is None else {"key": api_key}),
        }
        try:
            with_chance = _by_chance({"refuse": refuse, "cut": cut, "lose": lose}, seed)
            daily = _made(_plans(lines, line, seed), noise, webhook, secret, options)
        except (TypeError, ValueError) as error:
            misuse(mask(str(error)))
        with _listening(daily, host, port):
            stopped = _stopped_by_signals()
            if with_chance is not None:
                daily.rules["*"] = with_chance
            for name in room or ():
                daily.host(name, max_sip_pstn_sessions_per_room=per_room)
            for text in _greeting(daily, has_bot=bot is not None):
                printer.say(text)
            if call_in is not None:
                _let_people_call(daily, _Callers(call_in, callers, every, talks), stopped, printer)
            _wait(stopped)
        printer.say("stopped")
        printer.flush()


def _made(
    plans: dict[str, LinePlan],
    noise: Noise,
    webhook: str | None,
    secret: str | None,
    options: dict[str, Any],
) -> FakeDaily:
    from telstate.testing import FakeDaily  # noqa: PLC0415 - no other command needs it

    default = plans.pop(_EVERYBODY, None)
    daily = FakeDaily(webhook, secret, line=default, noise=noise, **options)
    daily.lines.update(plans)
    return daily


def _plans(file: Path | None, options: list[str] | None, seed: int) -> dict[str, LinePlan]:
    """Read what numbers do; an option comes before the file."""
    from telstate.testing._line_files import lines_of_file, lines_of_options  # noqa: PLC0415 - as above

    return {**({} if file is None else lines_of_file(file, seed)), **lines_of_options(options or ())}


def _by_chance(shares: dict[str, float], seed: int) -> Fault | None:
    """Return the fault of requests; None if there is none."""
    from telstate.testing import faults  # noqa: PLC0415 - as above

    kinds = {"refuse": faults.instead(503), "cut": faults.cut, "lose": faults.lost}
    met = [(share, kinds[name]) for name, share in shares.items() if share]
    return faults.sometimes(met, seed=seed) if met else None


def _seconds(text: str) -> list[float]:
    try:
        pauses = [float(each) for each in text.split(",") if each.strip()]
    except ValueError:
        pauses = [-1.0]
    if any(not 0 <= pause <= _LONGEST_PAUSE for pause in pauses):
        misuse(f"--retries takes seconds with commas between them, such as 1,3,10,30, not {text!r}")
    return pauses


@contextmanager
def _listening(daily: FakeDaily, host: str, port: int) -> Iterator[None]:
    """Run the fake inside the block."""
    try:
        daily.__enter__()
    except OSError as error:
        cannot_listen(host, port, error)
    with ExitStack() as stack:
        stack.push(daily)
        yield


def _greeting(daily: FakeDaily, *, has_bot: bool) -> Iterator[str]:
    """Say how to reach it."""
    yield f"SIMULATED, nobody is called. Daily's REST API is faked at {daily.url}"
    yield f"export DAILY_API_KEY={daily.key} TELSTATE_DAILY_API_URL={daily.url}"
    if has_bot:
        yield f"the stand-in for a bot runner is at {daily.bot_runner}: /start, and /daily-dialin-webhook for a number"


def _stopped_by_signals() -> Event:
    """Return what SIGTERM and Ctrl-C set. A second one ends the process at once."""
    stopped = Event()

    def stop(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        stopped.set()

    for number in _SIGNALS:
        signal.signal(number, stop)
    return stopped


def _wait(stopped: Event, seconds: float | None = None) -> bool:
    """Wait, for so long at most; return True once it stops. In short steps, as Windows handles no signal in a long one."""
    until = None if seconds is None else time.monotonic() + seconds
    while not stopped.wait(_STEP if until is None else max(0.0, min(_STEP, until - time.monotonic()))):
        if until is not None and time.monotonic() >= until:
            return False
    return True


def _let_people_call(daily: FakeDaily, callers: _Callers, stopped: Event, printer: _Printer) -> None:
    """Let people call one after another, from numbers that are reserved for fiction."""
    for at in count() if callers.number_of is None else range(callers.number_of):
        try:
            daily.call_in(callers.to, f"+120255501{at % 100:02}", talks=callers.talk_for)
        except ValueError:
            printer.say(
                f"nobody is told of calls to {mask(callers.to)} yet: telstate pinless set NUMBER URL, or --pinless, or --bot"
            )
        if _wait(stopped, callers.every):
            return
