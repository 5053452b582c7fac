"""The report of a check: for people, one paragraph for each call with findings, then one for the log; JSON Lines for programs."""

from __future__ import annotations

import json
import textwrap
from collections import Counter

from telstate.calls._caller import Caller
from telstate.calls._session import Session
from telstate.events import Direction
from telstate.events._masking import mask_address, mask_name
from telstate.views._findings import Finding, Severity, count
from telstate.views._lint import RULES
from telstate.views._lint_facts import LogFacts
from telstate.views._text import printable, utc_time

__all__ = ["JsonLintReport", "TextLintReport", "explanation", "explanations"]


class JsonLintReport:
    """JSON Lines: `{"finding": {…}}` for each finding, and last `{"summary": {…}}`.

    Args:
        numbers: show phone numbers, SIP users and names in full.
    """

    def __init__(self, *, numbers: bool = False) -> None:
        self._numbers = numbers

    def findings(self, findings: list[Finding], subject: Session | Caller | None = None) -> str | None:
        """The findings of a call, of a caller on hold, or of the log."""
        return "\n".join(self._line(one, subject) for one in findings) or None

    def _line(self, finding: Finding, subject: Session | Caller | None) -> str:
        fields = {
            "code": finding.rule.code,
            "severity": finding.severity,
            "title": finding.rule.title,
            "found": finding.text(numbers=self._numbers),
            "do": finding.fix,
            "session_id": subject.session_id if isinstance(subject, Session) else None,
            "call_id": subject.call_id if isinstance(subject, Caller) else None,
            "room": subject.room if isinstance(subject, Session) else None,
            "started_at": None if subject is None else subject.started_at,
        }
        return json.dumps({"finding": fields})

    def summary(self, counts: Counter[Severity], log: LogFacts) -> str:
        """The last line."""
        totals = {f"{severity}s": counts[severity] for severity in Severity}
        return json.dumps(
            {
                "summary": {
                    "calls": log.calls,
                    "callers": log.callers,
                    "events": log.events,
                    "invalid": log.invalid,
                    **totals,
                }
            }
        )


class TextLintReport:
    """For people.

    Args:
        width: the terminal's width in characters; None for a file or pipe, where lines may have any length.
        numbers: show phone numbers, SIP users and names in full.
    """

    def __init__(self, width: int | None = None, *, numbers: bool = False) -> None:
        self._width = width
        self._numbers = numbers

    def findings(self, findings: list[Finding], subject: Session | Caller | None = None) -> str | None:
        """A paragraph for a call, a caller on hold, or the log."""
        if not findings:
            return None
        lines = [self._head(subject)]
        for one in sorted(findings, key=lambda finding: finding.severity.rank):
            lines += self._wrap(f"{one.severity:<7}  {one.rule.code}  ", one.text(numbers=self._numbers))
            lines += self._wrap(f"{'':<7}  {'':<4}  ", f"-> {one.fix}")
        return "\n".join([*lines, ""])

    def summary(self, counts: Counter[Severity], log: LogFacts) -> str:
        """The last line: what was checked, and how much was found."""
        checked = count(log.calls, "call")
        if log.callers:
            checked += f", {count(log.callers, 'caller')} on hold"
        checked += f", {count(log.events, 'event')}"
        if log.events and log.now is None:
            checked += " (without times, so neither gaps nor delays can be seen)"
        if not counts.total():
            return f"Nothing is wrong: {checked}."
        found = ", ".join(
            count(counts[severity], str(severity)) if severity is not Severity.INFO else f"{counts[severity]:,} info"
            for severity in Severity
            if counts[severity]
        )
        return f"{found} in {checked}. Causes and remedies: telstate lint --explain CODE"

    def _head(self, subject: Session | Caller | None) -> str:
        if subject is None:
            return "The log"
        if isinstance(subject, Caller):
            return printable(f"Caller on hold {subject.call_id}  {utc_time(subject.started_at)}").rstrip()
        session = subject
        is_dialin = session.direction is Direction.DIALIN
        party = (session.caller or session.sip_from) if is_dialin else session.destination
        shown = (party if self._numbers else mask_address(party)) if party else self._name(session)
        parts = [
            f"{'Dial-in' if is_dialin else 'Dial-out'} {session.session_id}",
            utc_time(session.started_at),
            f"{'from' if is_dialin else 'to'} {shown}" if shown else "",
            f"in {session.room}" if session.room else "",
            f"({session.cause or session.state})",
        ]
        return printable("  ".join(filter(None, parts)))

    def _name(self, session: Session) -> str:
        name = session.display_name or ""
        return name if self._numbers else mask_name(name)

    def _wrap(self, head: str, text: str) -> list[str]:
        """A head and a text, whose further lines stand below its first."""
        if self._width is None:
            return [f"  {head}{text}"]
        indent = " " * (2 + len(head) + (3 if text.startswith("-> ") else 0))
        width = max(self._width, len(indent) + 20)
        return textwrap.wrap(text, width, initial_indent=f"  {head}", subsequent_indent=indent, break_on_hyphens=False)


def explanation(code: str, width: int | None = None) -> str | None:
    """Return what a code means, its likely causes and what to do; None for one that does not exist."""
    rule = RULES.get(code.strip().upper())
    if rule is None:
        return None
    lines = [f"{rule.code}: {rule.title} ({rule.severity})", ""]
    lines += _filled(rule.meaning, "", width)
    lines += ["", "Likely causes:"]
    for cause in rule.causes:
        lines += _filled(cause, "- ", width)
    return "\n".join([*lines, "", "What to do:", *_filled(rule.fix, "- ", width)])


def explanations() -> str:
    """Return all codes, one line each."""
    return "\n".join(f"{rule.code}  {rule.severity:<7}  {rule.title}" for rule in RULES.values())


def _filled(text: str, head: str, width: int | None) -> list[str]:
    if width is None:
        return [head + text]
    return textwrap.wrap(text, max(width, 30), initial_indent=head, subsequent_indent=" " * len(head))
