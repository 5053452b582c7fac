"""The files of a folder of logs, in the order in which they were written, as far as their names tell.

    bot.2026-01-01.log  bot.log.2.gz  bot.log.1  bot.log

A number behind the whole name counts backwards (`bot.log.2` is older than `bot.log.1`); dates, and numbers within the name, count
forwards; the name without any is the latest. Logs of different names follow each other.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from telstate.sources._log_lines import GZIP, STDIN

__all__ = ["NO_LOGS", "expand", "is_gzip"]

NO_LOGS = "no logs in it: their names end in .log, .jsonl, .ndjson, .json, .txt or .out, with a date or a number, or .gz behind it. Name any other file itself, a journal too"
_LOG = re.compile(
    r"(?P<stem>[^.].*?)(?P<date>[-._]?\d{4}-?\d\d-?\d\d(?:[-T_.]?[\d-]+)*(?:_\d+)?)?"
    r"(?P<ext>\.(?:log|jsonl|ndjson|json|txt|out|err))"
    r"(?:[-.](?P<later>\d{4}-?\d\d-?\d\d(?:[-T_.]?\d+)*)|\.(?P<number>\d{1,5}))?(?:\.gz)?",
    re.IGNORECASE,
)
_DIGITS = re.compile(r"\d+")


def expand(names: Iterable[str]) -> list[str]:
    """Replace folders by their logs, those of folders within them included; symbolic links to folders are not followed.

    Raises:
        OSError: if a folder has no logs, or cannot be listed.
    """
    found: list[str] = []
    for name in names:
        if name == STDIN or not os.path.isdir(name):
            found.append(name)
            continue
        logs = [*_logs_in(name)]
        if not logs:
            raise OSError(0, NO_LOGS, name)
        found += logs
    return found


def is_gzip(name: str) -> bool:
    """Return True if a file is compressed with gzip, by its first bytes."""
    if not os.path.isfile(name):
        return False
    with open(name, "rb") as file:
        return file.read(len(GZIP)) == GZIP


def _logs_in(folder: str) -> Iterator[str]:
    for path, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = sorted((one for one in folders if not one.startswith(".")), key=_natural)
        matches = [found for file in files if (found := _LOG.fullmatch(file))]
        yield from (str(Path(path, found[0])) for found in sorted(matches, key=_age))


def _raise(error: OSError) -> None:
    raise error


def _age(found: re.Match[str]) -> tuple[Any, ...]:
    """Sort by name, and the files of one name by their age, the oldest first."""
    date, later, number = found["date"], found["later"], found["number"]
    group = 0 if date or later else 1 if number else 2
    dated = _natural((date or later or "").lstrip("-._"))
    stem = found["stem"].rstrip("-._") if date else found["stem"]
    return _natural(stem), found["ext"].lower(), group, dated, -int(number or 0), found[0]


def _natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """A key by which part-2 comes before part-10."""
    parts, at = [], 0
    for digits in _DIGITS.finditer(text):
        parts += [(1, 0, text[at : digits.start()]), (0, int(digits[0][:30]), "")]
        at = digits.end()
    return (*parts, (1, 0, text[at:]))
