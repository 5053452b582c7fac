"""What can be wrong with the events of a call, and with how they came: rules T301 to T307."""

from __future__ import annotations

from collections.abc import Iterator

from telstate.events import Direction
from telstate.views._findings import Found, Rule, Severity, count, plain, quoted, spoken
from telstate.views._lint_call_seen import CallSeen

__all__ = ["EVENT_RULES"]

WARNING, INFO = Severity.WARNING, Severity.INFO


def _repeats(seen: CallSeen) -> Iterator[Found]:
    if repeats := seen.facts.repeats:
        yield Found(f"{count(repeats, 'event')} came more than once from the same source, and counted once.")


def _disorder(seen: CallSeen) -> Iterator[Found]:
    if late := seen.facts.late:
        yield Found(f"{count(late, 'event')} came after later ones, and changed no state any more.")


def _unexpected(seen: CallSeen) -> Iterator[Found]:
    if unexpected := seen.session.unexpected:
        session = seen.session
        other = Direction.DIALIN if session.direction is Direction.DIALOUT else Direction.DIALOUT
        yield Found(f"{count(unexpected, f'{other} event')} named this {session.direction} session.")


def _slow(seen: CallSeen) -> Iterator[Found]:
    facts = seen.facts
    if facts.slow:
        yield Found(f"{count(facts.slow, 'event')} came late, up to {spoken(facts.slowest)} after it happened.")


def _reused_id(seen: CallSeen) -> Iterator[Found]:
    session, reused = seen.session, seen.facts.reused_at
    if reused is not None and session.ended_at is not None:
        yield Found(
            f"Its id is used again {spoken(reused - session.ended_at)} after its end, for what looks like another call."
        )
    elif seen.was_used:
        before, since = seen.ended_before, session.started_at
        is_one_call = before is not None and since is not None and since <= before
        if is_one_call:
            yield Found(
                "Its events are hours apart in the log, though it is one call: it is counted twice.",
                fix="Sort the lines of all logs by time; if they are sorted, look why events came hours late.",
            )
        else:
            after = "" if before is None or since is None else f" {spoken(since - before)} after that call ended"
            yield Found(f"Its id had another call before, and is used again{after}.")


def _shared_sip_call(seen: CallSeen) -> Iterator[Found]:
    if (other := seen.facts.shares_sip_call) is not None:
        yield Found("Its SIP Call-ID is also that of {0}, which cannot be a leg of the same call.", (plain(other),))


_TOLD_ELSEWHERE = ("came for a ", "a line is more than a day older")
"""The anomalies that other rules report."""


def _anomalies(seen: CallSeen) -> Iterator[Found]:
    odd = [text for text in seen.session.anomalies if not any(part in text for part in _TOLD_ELSEWHERE)]
    if odd:
        more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
        yield Found(f"Its events do not agree: {{0}}{more}.", (quoted(odd[0]),))


EVENT_RULES: tuple[Rule, ...] = (
    Rule(
        "T301",
        INFO,
        "events came more than once",
        "Answer webhooks with 200 at once, and work afterwards: Daily sends again what is not answered in time.",
        "The same source told the same thing again. telstate counts it once, and runs handlers once.",
        (
            "an answer of the receiver that was slow, lost, or not 200",
            "two subscriptions for one URL",
            "a log read twice",
        ),
        _repeats,
    ),
    Rule(
        "T302",
        INFO,
        "events came out of order",
        "Nothing for telstate, which sorts them; code of your own must not trust the order of arrival.",
        "An event came when the session was past it. What it reports is recorded, and it changes no state.",
        ("a retried webhook", "webhooks that were delivered at the same time"),
        _disorder,
    ),
    Rule(
        "T303",
        WARNING,
        "events of the other direction named a session",
        "Check whoever writes these events: a session is either a dial-in or a dial-out.",
        "A dial-in event named a dial-out session, or the other way round. It changed nothing.",
        ("an id that was mixed up", "a test that sends made-up ids"),
        _unexpected,
    ),
    Rule(
        "T304",
        INFO,
        "events of a call came long after they happened",
        "Check that the receiver answers in time: what is not answered comes again after up to 15 minutes.",
        "More than a minute passed between the event and its receipt.",
        ("a retry by Daily", "a receiver that was down", "clocks that differ"),
        _slow,
    ),
    Rule(
        "T305",
        WARNING,
        "a session id is used again",
        "Check whoever makes the ids: Daily's are unique, a restarted SIP stack of your own may count from 1 again.",
        "After the end of a session its id names another call.",
        (
            "a SIP transport that numbers its calls",
            "tests with fixed ids",
            "an event that came hours late",
            "two logs of the same calls, read one after the other",
        ),
        _reused_id,
    ),
    Rule(
        "T306",
        WARNING,
        "one SIP Call-ID for calls that have nothing to do with each other",
        "Check the SIP trunk or the recorder: telstate takes sessions with one SIP Call-ID for legs of one call.",
        "Two sessions share a SIP Call-ID, but one began a minute or more after the other ended, or they are of different parties.",
        ("a trunk or a test that reuses Call-IDs",),
        _shared_sip_call,
    ),
    Rule(
        "T307",
        WARNING,
        "something cannot be",
        "Look at the events: `telstate replay --json` has all anomalies of the call.",
        "Events contradict each other, or a field has a value that it cannot have.",
        ("an id that two calls share", "events that were changed on the way", "a new version of Daily's events"),
        _anomalies,
    ),
)
"""In the order of their codes."""
