"""What `telstate lint` says of a call that goes on, or ended just now: its rules, as far as one session is enough to know.

Rules about how events came (twice, out of order) need the whole log, and so do those about the log itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from telstate.calls._caller import Caller
from telstate.calls._endings import holds_sign
from telstate.calls._evidence import EndSource
from telstate.calls._session import Session
from telstate.events import Direction
from telstate.events._known_names import names_in
from telstate.views._findings import Finding, Found, Rule, Severity
from telstate.views._lint_call_ends import END_RULES
from telstate.views._lint_call_events import EVENT_RULES
from telstate.views._lint_call_results import RESULT_RULES
from telstate.views._lint_call_seen import CallSeen
from telstate.views._lint_callers import CALLER_RULES, CallerSeen
from telstate.views._lint_facts import CallFacts, LogFacts

__all__ = ["LiveFindings"]

_AT_THE_END_OF_A_LOG = frozenset({"T103", "T104"})
_WORTH_SEEING = frozenset({"T206"})
"""Shown although they are only an info: Daily warns about a call that goes on."""


def _uncertain(seen: CallSeen) -> Iterator[Found]:
    """Say of a live session why it is uncertain. `lint` sees only those that are so when a log ends."""
    session = seen.session
    if session.uncertain and holds_sign(session):
        yield Found(
            "There is a sign of its end, and no event tells the end yet: without a sign of life it ends within a minute."
        )
    elif session.uncertain:
        yield Found("Events may have been missed since the last one: its source was interrupted.")


_RULES: tuple[Rule, ...] = tuple(
    rule._replace(check=_uncertain) if rule.code == "T105" else rule
    for rule in (*END_RULES, *RESULT_RULES, *EVENT_RULES)
    if rule.code not in _AT_THE_END_OF_A_LOG
)


class LiveFindings:
    """Checks sessions and callers as they are now."""

    def __init__(self) -> None:
        self._facts = LogFacts()

    def of(self, session: Session, *, numbers: bool) -> list[dict[str, Any]]:
        """Return what is wrong with a session, the worst first, as JSON values: code, severity, text, fix.

        Args:
            session: live or ended.
            numbers: show phone numbers, SIP users and names in full.
        """
        if session.direction is Direction.DIALIN and session.was_answered:
            self._facts.has_media = True
        if _is_plain(session):
            return []
        named = [session.display_name and {"display_name": session.display_name}, session.sip_from]
        seen = CallSeen(session, CallFacts(), self._facts, was_used=False, ended_before=None)
        return _shown(_found(_RULES, seen, tuple(names_in(named))), numbers=numbers)

    def of_caller(self, caller: Caller, now: float | None, *, numbers: bool) -> list[dict[str, Any]]:
        """Return what is wrong with a caller on hold."""
        return _shown(_found(CALLER_RULES, CallerSeen(caller, now), ()), numbers=numbers)


def _is_plain(session: Session) -> bool:
    """Return True if no rule can have anything to say: most sessions are like that, and this is asked at every event."""
    return not (
        session.uncertain
        or session.warnings
        or session.anomalies
        or session.unexpected
        or session._rare
        or (
            session.ended
            and (session.error_msg or not session.was_answered or session.end_source is not EndSource.TOLD)
        )
    )


def _found(rules: Iterable[Rule], subject: Any, names: tuple[str, ...]) -> Iterator[Finding]:
    for rule in rules:
        for found in rule.check(subject):
            yield Finding(rule, found, names)


def _shown(found: Iterable[Finding], *, numbers: bool) -> list[dict[str, Any]]:
    worth = [one for one in found if one.severity is not Severity.INFO or one.rule.code in _WORTH_SEEING]
    worth.sort(key=lambda one: one.severity.rank)
    return [
        {
            "code": one.rule.code,
            "severity": str(one.severity),
            "text": one.text(numbers=numbers),
            "fix": one.fix,
        }
        for one in worth
    ]
