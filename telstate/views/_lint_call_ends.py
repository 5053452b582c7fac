"""What can be wrong with the end of a call: rules T101 to T105."""

from __future__ import annotations

from collections.abc import Iterator

from telstate.calls._evidence import EndSource
from telstate.calls._table import EndSign
from telstate.views._findings import Found, Rule, Severity, spoken
from telstate.views._lint_call_seen import CallSeen, noun_of
from telstate.views._lint_facts import QUIET
from telstate.views._text import utc_time

__all__ = ["END_RULES"]

ERROR, WARNING, INFO = Severity


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
        yield Found(f"No end was told, and the {noun_of(session)} expired after silence{last}.")


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
    text = f"No event tells the end of the {noun_of(session)}; it is inferred{when}, because {_SIGNS[sign]}."
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
            f"No end was told: the {noun_of(session)} is {session.state}, and was last heard of"
            f" {spoken(silence)} before the log ends."
        )


def _live(seen: CallSeen) -> Iterator[Found]:
    silence = _silence(seen)
    if _is_live(seen) and (silence is None or silence < QUIET):
        yield Found(f"The {noun_of(seen.session)} is {seen.session.state} when the log ends.")


def _uncertain(seen: CallSeen) -> Iterator[Found]:
    if seen.session.uncertain:
        yield Found("Events may have been missed since the last one: its source was interrupted.")


END_RULES: tuple[Rule, ...] = (
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
)
"""In the order of their codes."""
