"""What can be wrong with one call: a table of rules, each with its check."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from telstate.calls._callers import Caller, CallerState
from telstate.calls._evidence import Cause, EndSource
from telstate.calls._session import Session
from telstate.calls._table import EndSign
from telstate.calls._transfers import TransferOutcome
from telstate.events import Direction
from telstate.views._findings import Found, Private, Rule, Severity, address, count, plain, quoted, spoken
from telstate.views._lint_facts import QUIET, CallFacts, LogFacts
from telstate.views._text import utc_time

__all__ = ["CALLER_RULES", "CALL_RULES", "CallSeen", "CallerSeen"]

ERROR, WARNING, INFO = Severity

_NO_MEDIA_FOR = 10.0
"""Seconds without media after which a caller who hangs up did not merely change their mind."""
_HOLD_LIMIT = 600.0
"""Seconds on hold after which a caller has gave up, as in `Settings.hold_limit`."""


class CallSeen(NamedTuple):
    """A session that leaves memory, with what was seen of it."""

    session: Session
    facts: CallFacts
    log: LogFacts
    was_used: bool
    """Whether its id had a call before."""
    ended_before: float | None
    """When that one ended."""


class CallerSeen(NamedTuple):
    """A caller on hold who got to no session."""

    caller: Caller
    now: float | None
    """The log's own time."""


def _silence(seen: CallSeen) -> float | None:
    """How long nothing was heard of a session when the log ended."""
    session, now = seen.session, seen.log.now
    return None if now is None or session.alive_at is None else max(0.0, now - session.alive_at)


def _is_live(seen: CallSeen) -> bool:
    return not seen.session.ended


def _assumed(seen: CallSeen) -> Iterator[Found]:
    session = seen.session
    if session.end_source is EndSource.ASSUMED:
        last = "" if session.ended_at is None else f": the last sign of life was at {utc_time(session.ended_at)}"
        yield Found(f"No end was told, and the {_call(session)} expired after silence{last}.")


_SIGNS = {
    EndSign.PARTICIPANT_LEFT: "the participant left the room",
    EndSign.MEETING_ENDED: "the meeting ended",
    EndSign.CLIENT_LEFT: "our own call client left the room",
    EndSign.NEXT_CALLER: "the next caller came on its endpoint",
    EndSign.GONE: "Daily does not know the call any more",
}


def _inferred(seen: CallSeen) -> Iterator[Found]:
    session = seen.session
    sign = session.end_sign
    if session.end_source is not EndSource.INFERRED or sign is None:
        return
    when = "" if session.ended_at is None else f" at {utc_time(session.ended_at)}"
    text = f"No event tells the end of the {_call(session)}; it is inferred{when}, because {_SIGNS[sign]}."
    if sign is EndSign.CLIENT_LEFT:  # nobody was left to hear of it: so it is with a bot that has no webhooks
        yield Found(
            text, severity=INFO, fix="Receive Daily's webhooks too: they report the end after the bot has left."
        )
    else:
        yield Found(text)


def _silent(seen: CallSeen) -> Iterator[Found]:
    silence = _silence(seen)
    if _is_live(seen) and silence is not None and silence >= QUIET:
        session = seen.session
        yield Found(
            f"No end was told: the {_call(session)} is {session.state}, and was last heard of"
            f" {spoken(silence)} before the log ends."
        )


def _live(seen: CallSeen) -> Iterator[Found]:
    silence = _silence(seen)
    if _is_live(seen) and (silence is None or silence < QUIET):
        yield Found(f"The {_call(seen.session)} is {seen.session.state} when the log ends.")


def _uncertain(seen: CallSeen) -> Iterator[Found]:
    if seen.session.uncertain:
        yield Found("Events may have been missed since the last one: its source was interrupted.")


def _unanswered(seen: CallSeen) -> Iterator[Found]:
    session = seen.session
    if session.cause is Cause.UNANSWERED and session.direction is Direction.DIALOUT:
        rang = f" It rang for {spoken(session.ring_s)}." if session.ring_s is not None else ""
        busy = session.ring_s is not None and session.ring_s < 5 and not session.stop_requested
        hint = " So short a ring is a busy line, or the callee declined." if busy else ""
        yield Found(f"Nobody answered the call to {{0}}.{rang}{hint}", (_callee(session),))


def _no_media(seen: CallSeen) -> Iterator[Found]:
    """Only where the log reports the media of other dial-ins: many receive no event of participants."""
    session = seen.session
    if session.direction is not Direction.DIALIN or session.cause is not Cause.COMPLETED or session.was_answered:
        return
    if not seen.log.has_media or session.connected_at is None or session.ended_at is None:
        return
    waited = session.ended_at - session.connected_at
    if waited >= _NO_MEDIA_FOR:
        yield Found(
            f"The caller was connected for {spoken(waited)}, and no media was reported: probably nobody heard them."
        )


def _failed(seen: CallSeen) -> Iterator[Found]:
    session = seen.session
    if session.cause in (Cause.FAILED, Cause.REFUSED):
        what = "Daily refused the dial-out" if session.cause is Cause.REFUSED else f"The {_call(session)} failed"
        text = session.error_msg
        yield Found(f"{what}: {{0}}." if text else f"{what}, without a reason.", (quoted(text),) if text else ())


def _transfers(seen: CallSeen) -> Iterator[Found]:
    session = seen.session
    for target, outcome in session.transfers:
        if outcome is TransferOutcome.NOT_REACHED:
            text = "The transfer to {0} did not happen: the target was not reached"
            if session.cause is Cause.TRANSFERRED:
                yield Found(
                    f"{text}; the one to {{1}} did.", (address(target), address(session.transferred_to)), WARNING
                )
            else:
                yield Found(f"{text}.", (address(target),))


def _handed_over(seen: CallSeen) -> Iterator[Found]:
    for target, outcome in seen.session.transfers:
        if outcome is TransferOutcome.HANDED_OVER:
            yield Found("The call was handed over to {0}, and no event says whether they answered.", (address(target),))


def _warned(seen: CallSeen) -> Iterator[Found]:
    warnings = seen.session.warnings
    if warnings:
        more = f" and {len(warnings) - 1} more" if len(warnings) > 1 else ""
        yield Found(f"Daily warned: {{0}}{more}.", (quoted(warnings[0].rstrip(".")),))


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
        before = seen.ended_before
        after = (
            f" {spoken(session.started_at - before)} after that call ended"
            if before is not None and session.started_at is not None and session.started_at > before
            else ""
        )
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


def _lost(seen: CallerSeen) -> Iterator[Found]:
    caller, waited = seen.caller, _waited(seen)
    for_how_long = "" if waited is None else f" {spoken(waited)} ago" if caller.held_s is None else ""
    who = (address(caller.from_), address(caller.to))
    if caller.state is CallerState.FAILED:
        text = "A caller on hold, {0} to {1}, could not be forwarded, and was lost: {2}."
        yield Found(text, (*who, quoted(caller.error or "Daily gave no reason")))
    elif caller.state is CallerState.GAVE_UP:
        yield Found("A caller on hold, {0} to {1}, got to no room, and gave up.", who)
    elif caller.state in (CallerState.WAITING, CallerState.FORWARDED) and (waited or 0) >= _HOLD_LIMIT:
        did = "was forwarded, but " if caller.state is CallerState.FORWARDED else ""
        yield Found(f"A caller on hold, {{0}} to {{1}}, {did}got to no room: they called{for_how_long}.", who)


def _on_hold(seen: CallerSeen) -> Iterator[Found]:
    caller, waited = seen.caller, _waited(seen)
    who = (address(caller.from_), address(caller.to))
    if caller.state is CallerState.UNKNOWN:
        yield Found("It is not known whether the caller on hold, {0} to {1}, got to a room.", who)
    elif caller.state in (CallerState.WAITING, CallerState.FORWARDED) and (waited or 0) < _HOLD_LIMIT:
        if waited is None:  # Daily's request has no time of its own
            yield Found("A caller on hold, {0} to {1}, got to no room that the log knows of.", who)
        else:
            yield Found(f"A caller, {{0}} to {{1}}, is on hold when the log ends, for {spoken(waited)}.", who)


def _waited(seen: CallerSeen) -> float | None:
    began = seen.caller.started_at
    return None if began is None or seen.now is None else max(0.0, seen.now - began)


def _call(session: Session) -> str:
    return "dial-in" if session.direction is Direction.DIALIN else "dial-out"


def _callee(session: Session) -> Private:
    return address(session.destination) if session.destination else plain("an unknown number")


CALL_RULES: tuple[Rule, ...] = (
    Rule(
        "T101",
        ERROR,
        "the end of a call is only assumed",
        "Find out why no event told the end: run `telstate webhook check`, and look for a gap in the log at that time.",
        "Nothing reported the end, there is no sign of one, and the session expired after silence. When it really ended is not known.",
        (
            "Daily's webhook was switched off (its circuit breaker opens after three failures in a row)",
            "the webhook is not subscribed to dialin.stopped, dialout.stopped and the errors",
            "the bot died or left, and nobody else was listening",
        ),
        _assumed,
    ),
    Rule(
        "T102",
        WARNING,
        "the end of a call is inferred",
        "Subscribe to the `stopped` and `error` events, and answer each webhook with 200 within seconds.",
        "No stopped, error or refusal came, but there is a sign of the end. Times and cause are those of the sign.",
        (
            "the webhook with the end was lost, or came after the log was copied",
            "only the participants' events are subscribed",
            "the bot left the room before the call ended (then this is only an info)",
        ),
        _inferred,
    ),
    Rule(
        "T103",
        WARNING,
        "a call has no end",
        "Look for its end in a later log, and let telstate watch live calls: its silence limits end what nobody reports.",
        "The log goes on for ten minutes or more after the last event of a session that has not ended.",
        ("the event with the end was lost", "a long call, which sends no events", "the log is cut off"),
        _silent,
    ),
    Rule(
        "T104",
        INFO,
        "a call is live when the log ends",
        "Nothing, if the log was copied while calls were going on.",
        "It was heard of in the log's last ten minutes, or the log has no times.",
        ("the log was copied during the call", "the event with the end was lost"),
        _live,
    ),
    Rule(
        "T105",
        WARNING,
        "events of a call may be missing",
        "Ask Daily whether the call still exists: `Dispatcher(reconcile=…)` does so by itself.",
        "The source of its events was interrupted, and nothing was heard of the call since.",
        ("the service was down", "the bot's signalling connection was interrupted"),
        _uncertain,
    ),
    Rule(
        "T201",
        INFO,
        "nobody answered a dial-out",
        "Try again later, or use `Dialer`, which retries within a budget.",
        "It stopped before anybody picked up. Daily's event does not say whether the line was busy, or the callee declined.",
        ("no answer", "busy, or declined: the ring is very short", "the number does not exist"),
        _unanswered,
    ),
    Rule(
        "T202",
        WARNING,
        "a caller heard nobody",
        "Check that a bot or a person joins the room before the caller is connected, and look at the codecs.",
        "A dial-in was connected for ten seconds or more, its participant never joined, and other dial-ins of the log have media.",
        ("no bot was in the room", "media could not be negotiated", "the event of the participant was lost"),
        _no_media,
    ),
    Rule(
        "T203",
        WARNING,
        "a call failed",
        "Read the error; `telstate.errors` has its meaning, and whether a retry can help.",
        "Daily reported an error, or refused to start the call.",
        ("a wrong number or SIP address", "dial-out is not enabled for the room", "codecs do not match"),
        _failed,
    ),
    Rule(
        "T204",
        ERROR,
        "a transfer did not happen",
        "Let the bot tell the caller, and try another target: `calls.settled` waits for the outcome of a transfer.",
        "Daily accepted the transfer, which only means that it tries. The target did not pick up, or the call went on without it.",
        ("the target did not answer, or was busy", "a wrong address", "the caller hung up before"),
        _transfers,
    ),
    Rule(
        "T205",
        INFO,
        "the outcome of a transfer is not known",
        "Ask the system of the target, or transfer with `sipCallTransfer`, which reports the answer.",
        "The session ended by the transfer. Daily does not report whether the target of a SIP REFER answers.",
        ("a SIP REFER", "the webhooks calltransfer.* are not subscribed"),
        _handed_over,
    ),
    Rule(
        "T206",
        INFO,
        "Daily warned about a call",
        "Ask for a codec that the other end supports, if it was the codec.",
        "Something is not as requested; the call went on.",
        ("a codec that the other end does not have",),
        _warned,
    ),
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
        ("a SIP transport that numbers its calls", "tests with fixed ids", "an event that came hours late"),
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

CALLER_RULES: tuple[Rule, ...] = (
    Rule(
        "T207",
        ERROR,
        "a caller was lost on hold",
        "Forward callers at `dialin-ready`, within seconds: `on_caller_lost` tells whom to call back.",
        "A caller on hold (pinless dial-in) never became a session.",
        (
            "no bot came, so nobody forwarded the call",
            "Daily refused to forward it",
            "the caller hung up while waiting",
        ),
        _lost,
    ),
    Rule(
        "T208",
        INFO,
        "a caller is still on hold, or it is not known what became of them",
        "Nothing, if the log was copied while they waited; else look whether a dial-in came from their number.",
        "A caller on hold (pinless dial-in) did not become a session in this log, and it is not known that they waited too long.",
        (
            "the log was copied meanwhile",
            "which session they became cannot be told",
            "the log has no time of their call",
        ),
        _on_hold,
    ),
)
