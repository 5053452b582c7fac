"""What `telstate doctor` finds at a service's journal, without writing to it."""

from __future__ import annotations

import getpass
import time
from collections.abc import Sequence
from pathlib import Path

from telstate.cli._checkup import Observation, Once, aside, fault, fine, unchecked, warning
from telstate.cli._doctor_service import Service, is_loopback_url
from telstate.errors import JournalError
from telstate.journals._inspection import JournalFacts, free_bytes, inspect, why_not_allowed, why_not_stored
from telstate.views._findings import count, spoken

__all__ = ["DoctoredJournal", "check_journal"]

_NO_ROOM, _LITTLE_ROOM = 64 << 20, 1 << 30
"""Bytes. Below the first, one checkpoint or one burst of calls may fill the disk; below the second there is time to act."""
_MAKE_ROOM = "make room, move the journal to a larger disk, or keep less: telstate serve --keep, telstate prune"
_OTHER = "what is looked at here is not what the service keeps"
_NAME_IT = "give --journal the file that the service names when it starts"
_LOST = "no event can be kept, so every webhook is answered with 503, and Daily gives the events up in the end"


class DoctoredJournal:
    """A journal that is looked at.

    Args:
        path: its file.
        archive: where the service moves old events.
    """

    def __init__(self, path: str, archive: str | None = None) -> None:
        self.path = Path(path)
        self.archive = None if archive is None else Path(archive)
        self.facts: Once[JournalFacts] = Once(lambda: aside(lambda: inspect(self.path)))
        self.heard: Once[float | None] = Once(self._heard)

    async def _heard(self) -> float | None:
        return (await self.facts()).last_webhook_at


async def check_journal(journal: DoctoredJournal | None, services: Sequence[Service]) -> list[Observation]:
    """Whether a service can write there, and whether one does."""
    if journal is None:
        return [unchecked("no journal was given (--journal)")]
    path = journal.path
    found = [await aside(lambda: _writable(path)), await aside(lambda: _room(path))]
    if (archive := journal.archive) is not None:
        found.append(await aside(lambda: _archived(archive)))
    answers = [(await one.answer()).status for one in services if is_loopback_url(one.url)]
    is_served = None if not answers else any(status is not None for status in answers)
    if not await aside(path.exists):
        if is_served:
            return [*found, warning(f"a service answers, and there is no {path}", _OTHER, _NAME_IT)]
        return [*found, fine(f"{path} does not exist yet: the service makes it when it starts")]
    try:
        facts = await journal.facts()
    except JournalError as error:
        do = "do what it says, or use another file; see the README of telstate.journals"
        if isinstance(error.__cause__, OSError):
            do = "let the service's user read and write it"
        return [*found, fault(str(error), "the service does not start with it", do)]
    return [*found, _held(path, facts, is_served), *_contents(path, facts)]


def _writable(path: Path) -> Observation:
    user = getpass.getuser()
    if (problem := why_not_allowed(path)) is not None:
        do = f"let the service's user write there, and beside it, as SQLite does (this is {user}: run telstate doctor as the user of the service)"
        return fault(problem, _LOST, do)
    if (problem := why_not_stored(path)) is not None:
        return fault(problem, _LOST, _MAKE_ROOM)
    return fine(f"{user} may write {path}, and its disk takes what is written")


def _archived(path: Path) -> Observation:
    problem = why_not_allowed(path) or why_not_stored(path)
    if problem is None:
        return fine(f"old events can be moved to {path}")
    why = "they stay in the journal, which grows until its disk is full"
    return fault(
        f"old events cannot be moved to {path}: {problem}",
        why,
        "let the service's user write there, or give another --archive",
    )


def _room(path: Path) -> Observation:
    free = free_bytes(path)
    text = f"{_bytes(free)} are free on the disk of {path}"
    if free < _NO_ROOM:
        return fault(text, _LOST, _MAKE_ROOM)
    if free < _LITTLE_ROOM:
        return warning(text, f"when it is full, {_LOST}", _MAKE_ROOM)
    return fine(text)


def _held(path: Path, facts: JournalFacts, is_served: bool | None) -> Observation:
    """Compare who writes it with who should.

    Args:
        path: the journal.
        facts: what is known of it.
        is_served: whether a service on this machine answers; None if none was asked.
    """
    if facts.is_written is None:
        return unchecked("whether a process writes the journal: only Linux says that")
    if facts.is_written:
        if is_served is False:
            why = "a journal has one writer, so the service cannot start with it"
            return warning(
                f"another process has {path} open for writing, and no service answers", why, f"find it: lsof {path}"
            )
        return fine(f"a process has {path} open for writing, as a running service does")
    if is_served:
        return warning(f"a service answers, and nobody has {path} open for writing", _OTHER, _NAME_IT)
    return fine(f"nobody has {path} open for writing, so a service can start with it")


def _contents(path: Path, facts: JournalFacts) -> list[Observation]:
    events = f"{path} can be read: {count(facts.events, 'event')}, {_bytes(facts.size)}"
    if facts.last_at is None:
        return [fine(events)]
    age = time.time() - facts.last_at
    if age < -1:
        why = "times in the journal never fall, so what comes now gets that time until it is reached"
        do = "set the clock; if it is right now, wait, or begin a new journal"
        return [warning(f"{events}, the last one {spoken(-age)} in the future", why, do)]
    found = [fine(f"{events}, the last one {spoken(max(0.0, age))} ago")]
    if facts.dead_letters:
        why = "handlers failed, or payloads could not be read"
        letters = count(facts.dead_letters, "dead letter")
        found.append(warning(f"{path} has {letters}", why, f"telstate dead list {path}"))
    return found


def _bytes(number: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} bytes"
