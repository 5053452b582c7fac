"""`telstate redact`: a log without phone numbers, SIP users and names, to show to others."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from hashlib import blake2b
from typing import Annotated

import typer

from telstate.cli._export import write_file
from telstate.cli._filters import with_filters
from telstate.cli._log_run import rereadable
from telstate.cli._logs import find_files, read_log, size_of
from telstate.cli._selected_lines import SelectedLines
from telstate.cli._terminal import Bar, announce_stdin, say, tidy_exit
from telstate.cli._variables import variable
from telstate.errors import JournalError, ParseError
from telstate.events._json import load
from telstate.events._pseudonyms import Pseudonyms
from telstate.events._redaction import Redaction
from telstate.sources._log_lines import STDIN, LogLine
from telstate.views import Selection
from telstate.views._session_text import counted

__all__ = ["redact"]

_REPLACED = b'{"redacted":'
"""So begins what stands for a line that cannot be redacted."""


@with_filters
def redact(
    log: Annotated[str, typer.Argument(metavar="LOG", help="The log to redact; - is standard input.")] = STDIN,
    *,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The file to write, compressed if it ends with .gz; - is standard output.",
            show_default=False,
        ),
    ] = STDIN,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="TELSTATE_REDACT_KEY",
            metavar="KEY",
            help="A secret of your own: the same key gives the same pseudonyms, in another log too. [default: a random one]",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE if it exists.")] = False,
    selection: Selection,
) -> None:
    """Replace the phone numbers, SIP users and names in a log by pseudonyms.

    One number becomes the same other number everywhere, with the country code 999, which is nobody's; so calls still correlate, and
    `telstate replay` of the new log gives the same states, causes, durations and links. Pressed keys become *, and secrets are
    left out.

    Ids, rooms, hosts and times stay as they are. Names are found by their keys and by what stands around them: look at the result
    before you show it to others.

    With --number, --room, --since and the like, only the events of the selected calls are written, each call whole, as by `telstate
    export`.

    The log is read twice, and once more to select calls. Of a journal or of streams in NATS it redacts the export, without what a
    prune left of earlier calls. The lines keep their form. A line that is no JSON object is replaced as a whole, so redact an
    application's log after `telstate export`.

    Examples: telstate redact calls.db -o for-the-ticket.jsonl.gz, or: telstate redact calls.db --session 5b0c4e72 --key my-secret
    """
    with tidy_exit():
        announce_stdin([log])
        with rereadable(find_files([log])) as names:
            chosen = None if selection.is_everything else SelectedLines(names, selection)
            if chosen is not None and (nothing := chosen.find()) is not None:
                say(nothing)
                raise typer.Exit(1)
            redaction = Redaction(Pseudonyms(_key(key or variable("TELSTATE_REDACT_KEY"))))
            progress = Bar(_twice(size_of(names)))
            with progress:
                for line in read_log(names):
                    _check_is_whole(line)
                    redaction.learn(line.raw)
                    progress.advance(line.size)
                lines = (
                    _redacted(redaction, names, progress)
                    if chosen is None
                    else _some_redacted(redaction, names, chosen)
                )
                lines = _counted(lines)
                if output != STDIN:
                    write_file(lines, output, force=force)
                    return
                for text in lines:
                    sys.stdout.buffer.write(text + b"\n")


def _check_is_whole(line: LogLine) -> None:
    """Refuse a file of which a part cannot be read: nobody would know what is missing in the copy.

    Raises:
        JournalError: if a compressed file is damaged.
    """
    if line.problem:
        raise JournalError(f"{line.file} is damaged or cut off: gunzip what is left of it first ({line.problem})")


def _counted(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield all, and say at the end how many say nothing any more: the copy of an application's log has no event left."""
    replaced = 0
    for text in lines:
        replaced += text.startswith(_REPLACED)
        yield text
    if replaced:
        say(
            f"{counted(replaced, 'line')} that were no JSON object are replaced as a whole, with events in them, if there were any. Of an"
            " application's log, redact the events: telstate export LOG | telstate redact"
        )


def _redacted(redaction: Redaction, names: list[str], progress: Bar) -> Iterator[bytes]:
    number = 0
    for line in read_log(names):
        for _ in range(number + 1, line.number):
            yield b""  # blank lines stay, so that the numbers of lines do
        number = line.number
        if not _is_torn(line) and (shown := _shown(redaction, line)) is not None:
            yield shown
        progress.advance(line.size)


def _some_redacted(redaction: Redaction, names: list[str], chosen: SelectedLines) -> Iterator[bytes]:
    """Yield the lines of the selected calls."""
    return (shown for line in chosen.pick(read_log(names)) if (shown := _shown(redaction, line)) is not None)


def _shown(redaction: Redaction, line: LogLine) -> bytes | None:
    shown = redaction.line(b"" if line.too_long else line.raw)
    if shown is None:
        say("what a prune left of earlier calls is left out: it cannot be redacted")
    return shown


def _is_torn(line: LogLine) -> bool:
    """Return True for a last line that was copied while it was written."""
    if line.whole or not line.raw.startswith(b'{"v":'):
        return False
    try:
        load(line.raw)
    except ParseError:
        return True
    return False


def _key(text: str | None) -> bytes:
    return (
        secrets.token_bytes(32) if text is None else blake2b(text.encode("utf-8", "replace"), digest_size=32).digest()
    )


def _twice(size: int | None) -> int | None:
    return None if size is None else 2 * size
