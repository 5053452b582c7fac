"""`telstate board LOG`: a recorded log on the live board, at a chosen speed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import typer

from telstate.calls._settings import Settings
from telstate.cli._log_run import rereadable
from telstate.cli._logs import LineReader, find_files, read_log
from telstate.cli._nats import without_password
from telstate.cli._service import BACKLOG, open_socket, served
from telstate.cli._terminal import announce_stdin, log_to_stderr, misuse, say, tidy_exit
from telstate.errors import ParseError
from telstate.events._parse import parse_line
from telstate.routing._clock import LogClock
from telstate.routing._dispatcher import Dispatcher
from telstate.routing._router import Router
from telstate.sources._log_lines import STDIN, LogLine
from telstate.views._playback import Playback
from telstate.views._report import HOW_TO_RECORD

if TYPE_CHECKING:
    from telstate.views._board_feed import BoardFacts

__all__ = ["board"]

_CONNECTIONS = 100
_READERS = 20


def board(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="LOG", help="Logs or folders to play, in this order; - is standard input, the default."),
    ] = None,
    *,
    speed: Annotated[
        float, typer.Option(min=0.1, max=100_000, metavar="N", help="Seconds of the log that pass in one second.")
    ] = 60.0,
    paused: Annotated[bool, typer.Option("--paused", help="Begin with a pause.")] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="Port to listen on; 0 takes a free one.")
    ] = 8080,
    numbers: Annotated[
        bool, typer.Option("--numbers", help="Show phone numbers, SIP users and names in full.")
    ] = False,
) -> None:
    """Play a recorded log on the live board, in a browser.

    It shows what `telstate serve` shows at /board, as it was then: calls with running clocks, what needed attention, the hour before, and each call
    step by step. The clock is the log's. In the browser it can be paused, and the speed changed; silences are shortened. No handlers run.

    It reads the same logs as `telstate replay`. A log without times is played line by line. Only this machine can open the page. Ctrl-C ends it.

    Examples: telstate board calls.db --speed 300, or: telstate board yesterday.jsonl.gz
    """
    try:
        from telstate.sources._server import make_server  # noqa: PLC0415 - an extra
        from telstate.views._board import board_routes  # noqa: PLC0415
        from telstate.views._board_feed import BoardFacts  # noqa: PLC0415
        from telstate.views._live_access import LiveAccess  # noqa: PLC0415
    except ModuleNotFoundError as error:
        misuse(f"board needs {error.name}: pip install 'telstate[serve]'")
    from starlette.applications import Starlette  # noqa: PLC0415 - an extra

    names = files or [STDIN]
    with tidy_exit(), rereadable(names) as found:
        announce_stdin(names)
        log_to_stderr()
        logs = find_files(found)
        playback = Playback(_shown(names), speed)
        if paused:
            playback.set(paused=True)
        calls = Dispatcher(Router(), clock=LogClock(), settings=_settings_of(logs))
        facts = BoardFacts(calls, playback)
        access = LiveAccess(None, numbers=numbers, allow_local=True)
        routes = board_routes(facts, access, max_readers=_READERS)
        server = make_server(Starlette(routes=routes), connections=_CONNECTIONS, backlog=BACKLOG)
        with open_socket("127.0.0.1", port) as listening:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}/board"
            say(f"{playback.name} is played on {url}, until Ctrl-C")
            asyncio.run(_play(facts, server, listening, _LogFeed(logs, calls, playback)))


async def _play(facts: BoardFacts, server: Any, listening: Any, feed: _LogFeed) -> None:
    """Serve the page and play the log, until a signal."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with facts.calls, served(server, listening), anyio.create_task_group() as group:
        await facts.begin()  # from the first event on
        group.start_soon(feed.run)
        await stopped.wait()
        group.cancel_scope.cancel()


class _LogFeed:
    """Feeds the lines of logs to a dispatcher, at their times.

    Args:
        names: the logs.
        calls: the dispatcher.
        playback: says when it is time.
    """

    def __init__(self, names: list[str], calls: Dispatcher, playback: Playback) -> None:
        self._names = names
        self._calls = calls
        self._playback = playback
        self._events = self._refused = 0
        self._first_refused = ""
        self._reader: LineReader[tuple[float | None, bool]] = LineReader(_time_of, self._refuse)

    async def run(self) -> None:
        """Play everything, then say how it went."""
        for line in read_log(self._names):
            read = self._reader(line)
            await anyio.lowlevel.checkpoint()  # at a high speed, too, the page has to be served
            if read is None or not read[1]:
                continue
            self._events += 1
            await self._playback.reach(read[0])
            try:
                await self._calls.receive(self._reader.raw)
            except ParseError as error:
                self._refuse(line, str(error))
        self._playback.end()
        noise = sum(other.lines for other in self._reader.noise())
        if not self._events:
            say("there are no events in it, so nothing is shown")
            say(HOW_TO_RECORD)
        if self._refused:
            say(f"{self._refused:,} lines could not be read, the first of them {self._first_refused}")
        if noise:
            say(f"{noise:,} ordinary lines of an application's log are not shown")

    def _refuse(self, line: LogLine, error: str) -> None:
        self._refused += 1
        self._first_refused = self._first_refused or f"{line.file}:{line.number}: {error}"


def _time_of(raw: bytes) -> tuple[float | None, bool]:
    """Return the time of a line, and whether it is an event: a journal has other lines, too."""
    event, at, *_ = parse_line(raw)
    return at, event is not None


def _settings_of(names: list[str]) -> Settings | None:
    """Return the settings in the header of a journal; None for any other log."""
    first: Iterator[LogLine] = read_log(names[:1])
    line = next(first, None)
    if line is None or not line.raw.startswith(b'{"v":'):
        return None
    with suppress(ParseError, ValueError):
        settings = parse_line(line.raw)[3]
        return None if settings is None else Settings.model_validate(settings)
    return None


def _shown(names: list[str]) -> str:
    return ", ".join("standard input" if name == STDIN else Path(without_password(name)).name for name in names)
