"""What a check of a log found: a code, how bad it is, one sentence with figures, and one sentence that says what to do.

What is private in a sentence stands beside it, with its kind, so that a report can mask it: a short extension cannot be told from
a count by its looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from telstate.events._masking import mask, mask_address
from telstate.views._text import printable

__all__ = ["Finding", "Found", "Private", "Rule", "Severity", "address", "count", "plain", "quoted", "spoken"]


class Severity(StrEnum):
    """How bad a finding is, worst first."""

    ERROR = "error"
    """Somebody was lost, or what the log says of a call is not what happened."""
    WARNING = "warning"
    """Something does not work as it should."""
    INFO = "info"
    """Worth knowing. telstate copes with it, or it is how telephony is."""

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(Severity).index(self)


class Private(NamedTuple):
    """A part of a sentence that is masked unless everything is to be shown."""

    kind: str
    value: str

    def shown(self, names: Iterable[str], *, numbers: bool) -> str:
        if numbers or self.kind == "plain":
            return self.value
        return mask_address(self.value) if self.kind == "address" else mask(self.value, names)


def plain(value: str) -> Private:
    """An id or the name of a file in a sentence: people search for it, so it stays as it is."""
    return Private("plain", value)


def address(value: str | None) -> Private:
    """A phone number or SIP address in a sentence."""
    return Private("address", value) if value else plain("an unknown number")


def quoted(value: str) -> Private:
    """A text from outside in a sentence. Only its beginning, if it is long."""
    return Private("text", value if len(value) <= 200 else f"{value[:199]}…")


class Found(NamedTuple):
    """What a rule found."""

    text: str
    """One sentence with figures. `{0}`, `{1}`, … stand for what is private."""
    private: tuple[Private, ...] = ()
    severity: Severity | None = None
    """If it is not that of the rule."""
    fix: str | None = None
    """What to do, if it is not what the rule says."""


class Rule(NamedTuple):
    """One thing that can be wrong. `check` is pure, and yields what it found of that."""

    code: str
    """Stable: scripts and tickets refer to it."""
    severity: Severity
    title: str
    fix: str
    """What to do, in one sentence."""
    meaning: str
    causes: tuple[str, ...]
    check: Callable[[Any], Iterable[Found]]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a call, or with the log."""

    rule: Rule
    found: Found
    names: tuple[str, ...] = ()
    """Display names that may stand in its texts."""

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return self.found.severity or self.rule.severity

    @property
    def fix(self) -> str:
        """What to do."""
        return self.found.fix or self.rule.fix

    def text(self, *, numbers: bool = False) -> str:
        """Return what was found.

        Args:
            numbers: show phone numbers, SIP users and names in full.
        """
        shown = [one.shown(self.names, numbers=numbers) for one in self.found.private]
        return printable(self.found.text.format(*shown))


def count(number: int, noun: str) -> str:
    """A number with its noun: `1 call`, `2 calls`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def spoken(seconds: float) -> str:
    """Seconds in words: `0.4 s`, `45 s`, `3 min 7 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    parts: list[str] = []
    left = round(seconds)
    for size, unit in _UNITS:
        if left >= size or parts:
            amount, left = divmod(left, size)
            parts.append(f"{amount} {unit}" if amount else "")
    return " ".join(part for part in parts[:2] if part)
