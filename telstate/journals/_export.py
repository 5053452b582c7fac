"""A whole journal as JSON Lines, and the dead letters in such lines.

    {"v":1,"journal":"…","settings":{…}}
    {"v":1,"seq":1,"at":1730000000.123,"dialect":"daily-js","event":null,"payload":{…}}
    {"v":1,"done":1}
    {"v":1,"dead":{"number":1,"retry_requested":false,"seq":2,"reason":"ValueError",…}}

The events come first, in order, so that a line has the same number here as in a replay of the database.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from functools import partial

from telstate.errors import JournalError
from telstate.events._dialects.journal import dead_letter_line, mark_line, unwrap
from telstate.events._json import clean
from telstate.journals import _queries as queries
from telstate.journals._sqlite import lines, lines_left, query
from telstate.routing._ports import DeadLetter, KeptLetter

__all__ = ["dead_letter_as_line", "export_lines", "parse_dead_letter", "parse_dead_letters"]

_HEADER = b'{"v":1,"journal":'
_DEAD_LETTER = b'{"v":1,"dead":'


def export_lines(path: str | os.PathLike[str], *, base: bool = True) -> Iterator[bytes]:
    """Yield everything in a SQLite journal but its checkpoints, which recovery can do without. Also while a service writes it.

    Args:
        path: the database.
        base: begin a journal that was pruned with its base. Without it come all events that are left, also those that it stands for.

    Raises:
        JournalError: if it is not a journal, is damaged, or has another version's schema.
    """
    last = 0
    for line in lines(path) if base else lines_left(path):
        yield clean(line)  # an older telstate may have written it
        record = unwrap(line)
        last = last if record is None else record.seq
    # A service may write meanwhile: nothing here speaks of an event that is not above.
    number = -last - 1
    while found := query(path, partial(queries.marks, after=number, last=last)):
        for number in found:
            yield mark_line(number)
    number = 0
    while letters := query(path, partial(queries.dead_letters, after=number)):
        for kept in letters:
            if abs(kept.letter.seq) <= last:
                yield dead_letter_as_line(kept)
        number = letters[-1].number


def parse_dead_letters(source: str, exported: Iterable[bytes]) -> Iterator[KeptLetter]:
    """Yield the dead letters of an export.

    Args:
        source: the name of the export, for errors.
        exported: its lines.

    Raises:
        JournalError: if these are not the lines of an export, or a dead letter among them is damaged.
    """
    for number, line in enumerate(exported, 1):
        if number == 1 and not line.startswith(_HEADER):
            raise JournalError(f"{source} is neither a service's journal (a SQLite database) nor an export of one")
        if line.startswith(_DEAD_LETTER):
            yield parse_dead_letter(source, line)


def dead_letter_as_line(kept: KeptLetter) -> bytes:
    """Write a dead letter as a line of an export."""
    fields = {"number": kept.number, "retry_requested": kept.retry_requested, **kept.letter._asdict()}
    payload = clean(kept.letter.payload)
    try:
        fields["payload"] = payload.decode()
    except UnicodeDecodeError:
        fields |= {"payload": "", "base64": b64encode(payload).decode()}
    return dead_letter_line(fields)


def parse_dead_letter(source: str, line: bytes) -> KeptLetter:
    """Read one of an export's lines.

    Raises:
        JournalError: if it is damaged.
    """
    try:
        fields = json.loads(line)["dead"]
        number, retry_requested = fields.pop("number"), fields.pop("retry_requested")
        text = fields.pop("payload")
        payload = b64decode(fields.pop("base64")) if "base64" in fields else text.encode()
        return KeptLetter(number, DeadLetter(**fields, payload=payload), retry_requested)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise JournalError(f"{source} is damaged at {line[:60]!r}") from None
