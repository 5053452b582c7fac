"""The options of `telstate campaign` in groups, and how their values are read: limits, pauses, hours, and lists of numbers."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, NamedTuple
from zoneinfo import ZoneInfo

import typer

from telstate.cli._terminal import misuse, say
from telstate.control._contacts import Contact, contact_of
from telstate.control._opening_hours import OpeningHours
from telstate.control._retry_plan import RetryPlan

__all__ = ["Limits", "Name", "Plan", "Times", "do_not_call_of", "limits_of", "plan_of", "seconds_of", "times_of"]

_SETTLED = 2.0
"""Seconds without a change, after which a file counts as written to its end."""
_PAUSE = "`never` for no further start, several with commas for the first, the second and so on"


def _pause(flag: str, about: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(flag, metavar="PAUSE", help=f"Pause after {about}.")
    return option


Name = Annotated[str, typer.Option("--name", metavar="NAME", help="The campaign's name in the journal.")]
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class Limits(NamedTuple):
    """How many calls, and how fast: see `Campaign`."""

    at_once: int
    per_caller_id: int | None
    starts_per_second: float | None


def limits_of(
    *,
    at_once: Annotated[int, typer.Option("--at-once", min=1, metavar="N", help="Calls at once, at most.")] = 5,
    per_caller_id: Annotated[
        int | None,
        typer.Option("--per-caller-id", min=1, metavar="N", help="Calls at once with one caller id, at most."),
    ] = None,
    starts_per_second: Annotated[
        float | None, typer.Option("--starts-per-second", metavar="N", help="Starts per second, at most.")
    ] = None,
) -> Limits:
    """Return the limits that the options say."""
    return Limits(at_once, per_caller_id, starts_per_second)


class Plan(NamedTuple):
    """How often a number is called: what says whether its result is final."""

    retry: RetryPlan
    ring_timeout: float


def plan_of(
    *,
    attempts: Annotated[
        int, typer.Option("--attempts", min=1, metavar="N", help="How often each number is called, at most.")
    ] = 3,
    busy: Annotated[str, _pause("--busy", f"a busy number, or one that declined: 5m, 90s, 2h; {_PAUSE}")] = "5m",
    no_answer: Annotated[str, _pause("--no-answer", "a call that rang, and nobody answered")] = "30m",
    never_rang: Annotated[str, _pause("--never-rang", "a call of which no event says that it rang")] = "30m",
    unconfirmed: Annotated[str, _pause("--unconfirmed", "an answer that --confirm did not count")] = "2h",
    failed: Annotated[str, _pause("--failed", "a call that failed and may succeed later")] = "2h",
    refused: Annotated[str, _pause("--refused", "a start that Daily refused for now")] = "1m",
    ring_timeout: Annotated[
        float,
        typer.Option("--ring-timeout", min=1, metavar="SECONDS", help="How long a call may ring before it is ended."),
    ] = 30.0,
) -> Plan:
    """Return the plan that the options say."""
    pauses = {
        "busy": busy,
        "no_answer": no_answer,
        "never_rang": never_rang,
        "unconfirmed": unconfirmed,
        "failed": failed,
        "refused": refused,
    }
    return Plan(RetryPlan(attempts, **{name: _read_pauses(name, text) for name, text in pauses.items()}), ring_timeout)


def seconds_of(flag: str, text: str) -> float:
    """Read a time such as 15m."""
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        misuse(f"{flag} takes a time such as 15m, 90s or 2h, not {text!r}")
    return float(found[1]) * _UNITS[found[2]]


def _read_pauses(name: str, text: str) -> list[float] | None:
    if text.strip().lower() == "never":
        return None
    found = [_SPAN.fullmatch(part.strip()) for part in text.split(",")]
    if not all(found):
        misuse(
            f"--{name.replace('_', '-')} takes a pause such as 5m, 90s or 2h, several with commas, or `never`, not {text!r}"
        )
    return [float(one[1]) * _UNITS[one[2]] for one in found if one]


class Times(NamedTuple):
    """When calls may be made."""

    hours: OpeningHours | None
    until: datetime | None


def times_of(
    *,
    hours: Annotated[
        str | None,
        typer.Option("--hours", metavar="SPAN", help="When calls may start, by the callee's clock: 09:00-20:00."),
    ] = None,
    days: Annotated[
        str | None, typer.Option("--days", metavar="DAYS", help="On which days --hours are: mon-fri, or mon,wed.")
    ] = None,
    time_zone: Annotated[
        str | None,
        typer.Option("--time-zone", metavar="ZONE", help="The zone of contacts without one, such as Europe/Berlin."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            metavar="TIME",
            help="When the campaign ends, such as 2026-05-01T20:00: calls that ring are ended then.",
        ),
    ] = None,
) -> Times:
    """Return the times that the options say."""
    return Times(_hours(hours, days, time_zone), _deadline(until, time_zone))


def _hours(hours: str | None, days: str | None, zone: str | None) -> OpeningHours | None:
    if hours is None:
        if days is not None:
            misuse("--days says on which days --hours are: give --hours 09:00-20:00 with it")
        return None
    opens, dash, closes = hours.partition("-")
    if not dash:
        misuse(f"--hours takes a span such as 09:00-20:00, not {hours!r}")
    if zone is None:
        misuse(
            "--hours are by the clock of those who are called: give --time-zone Europe/Berlin for contacts without a zone of their own"
        )
    return OpeningHours(opens.strip(), closes.strip(), zone, days or "mon-sun")


def _deadline(until: str | None, zone: str | None) -> datetime | None:
    """Return the time of --until; without a zone of its own it is in --time-zone, else in that of this machine."""
    if until is None:
        return None
    try:
        at = datetime.fromisoformat(until)
        if at.tzinfo is None:
            at = at.replace(tzinfo=ZoneInfo(zone)) if zone else at.astimezone()
    except (ValueError, OSError, KeyError):
        misuse(f"--until takes a time such as 2026-05-01T20:00 or 2026-05-01T20:00+02:00, not {until!r}")
    return at


def do_not_call_of(path: str | None) -> Callable[[str], bool] | frozenset[str]:
    """Return what says whether a number is in a file, which may change while the campaign runs."""
    if path is None:
        return frozenset()
    numbers = _NumberFile(path)
    return numbers.has


class _NumberFile:
    """Numbers, one a line or in the first column; what follows `#` is a remark. Read again when it has changed."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._seen: tuple[int, int] | None = None
        self._numbers: frozenset[str] = frozenset()
        self._read()

    def has(self, number: str) -> bool:
        """Return whether a number is in it. If the file has gone, what it said last holds."""
        with suppress(OSError):
            self._read()
        return number in self._numbers

    def _read(self) -> None:
        now = os.stat(self._path)
        seen = (now.st_mtime_ns, now.st_size)
        if seen == self._seen:
            return
        numbers, unknown = _numbers_in(self._path.read_text(encoding="utf-8-sig", errors="replace"))
        if abs(time.time() - now.st_mtime) < _SETTLED:  # it may be half written, and nobody is to be called for that
            self._numbers |= numbers
            return
        self._numbers, self._seen = numbers, seen
        if unknown:
            more = f" and {len(unknown) - 1} more" if unknown[1:] else ""
            say(
                f"--do-not-call {self._path}: line {unknown[0]}{more} without a number that begins with a plus sign and a country code: nobody is"
                " spared for that"
            )


def _numbers_in(text: str) -> tuple[frozenset[str], list[int]]:
    """Return the numbers, as contacts have them, and which lines begin with something else; the first line may be a head."""
    numbers, unknown = set(), []
    for line, content in enumerate(text.splitlines(), 1):
        given = re.split(r"[,;\t#]", content)[0].strip().strip('"')
        contact = contact_of(given) if given else None
        if isinstance(contact, Contact):
            numbers.add(contact.number)
        elif contact is not None and line > 1:
            unknown.append(line)
    return frozenset(numbers), unknown
