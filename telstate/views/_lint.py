"""The check of a log: what is wrong with each call, and with the log, and what to do.

linter = Linter()
linter.see(…)                     # every event, with its outcome
findings = linter.call(session)   # each session that leaves memory
findings = linter.log()           # at the end
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from telstate.calls._caller import Caller
from telstate.calls._evidence import Cause, EndSource
from telstate.calls._outcome import Outcome, Unmatched
from telstate.calls._session import Session
from telstate.calls._table import EndSign
from telstate.events import Direction
from telstate.events._known_names import names_in
from telstate.views._findings import Finding, Rule
from telstate.views._lint_call_ends import END_RULES
from telstate.views._lint_call_events import EVENT_RULES
from telstate.views._lint_call_results import RESULT_RULES
from telstate.views._lint_call_seen import CallSeen
from telstate.views._lint_callers import CALLER_RULES, CallerSeen
from telstate.views._lint_facts import LogFacts
from telstate.views._lint_log import LOG_RULES, SHARE_RULES

__all__ = ["RULES", "Linter"]

_CALL_RULES = (*END_RULES, *RESULT_RULES, *EVENT_RULES)

RULES: dict[str, Rule] = {
    rule.code: rule
    for rule in sorted((*_CALL_RULES, *CALLER_RULES, *SHARE_RULES, *LOG_RULES), key=lambda rule: rule.code)
}
"""Every rule by its code."""


class Linter:
    """Checks a log in one pass.

    Args:
        whole: whether all calls are selected; if not, nothing is said about the log as a whole.
    """

    def __init__(self, *, whole: bool = True) -> None:
        self.facts = LogFacts()
        self._whole = whole

    def see(self, outcome: Outcome, live: Callable[[], list[Session]], **where: Any) -> None:
        """Take in one event: see `LogFacts.see`."""
        self.facts.see(outcome, live, **where)

    def end(self, sessions: Iterable[Session], now: float | None) -> None:
        """Take in the end of the log, before the sessions that are left are checked."""
        self.facts.end(sessions, now)

    def call(self, session: Session, *, selected: bool = True) -> list[Finding]:
        """Check a session that leaves memory. One that is not selected is only taken note of."""
        log = self.facts
        facts, ended_before, was_used = log.leave(session)
        if session.direction is Direction.DIALIN and session.was_answered:
            log.has_media = True
        if not selected:
            return []
        self._count(session)
        seen = CallSeen(session, facts, log, was_used, ended_before)
        named = [session.display_name and {"display_name": session.display_name}, session.sip_from]
        return list(_check(_CALL_RULES, seen, tuple(names_in(named))))

    def caller(self, caller: Caller, now: float | None, *, selected: bool = True) -> list[Finding]:
        """Check a caller on hold who got to no session."""
        if not selected:
            return []
        self.facts.callers += 1
        return list(_check(CALLER_RULES, CallerSeen(caller, now)))

    def unmatched(self, one: Unmatched) -> None:
        """Count an event that no session was ever found for."""
        self.facts.note_unmatched(one.event.action)

    def log(self) -> list[Finding]:
        """Check what was counted."""
        return list(_check((*SHARE_RULES, *LOG_RULES) if self._whole else SHARE_RULES, self.facts))

    def _count(self, session: Session) -> None:
        """Count a call that is selected."""
        log = self.facts
        log.calls += 1
        if session.direction is Direction.DIALOUT and session.ended:
            log.dialouts += 1
            log.unanswered += session.cause is Cause.UNANSWERED
        # When the bot left, nobody was there to hear of the end: that is no fault of the delivery.
        log.untold += (
            session.ended and session.end_source is not EndSource.TOLD and session.end_sign is not EndSign.CLIENT_LEFT
        )
        if session.cause in (Cause.FAILED, Cause.REFUSED) and session.error_msg:
            log.note_error(session.error_msg)


def _check(rules: Iterable[Rule], subject: Any, names: tuple[str, ...] = ()) -> Iterator[Finding]:
    for rule in rules:
        for found in rule.check(subject):
            yield Finding(rule, found, names)
