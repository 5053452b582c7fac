"""What can be wrong with what came of a call: rules T201 to T206."""

from __future__ import annotations

from collections.abc import Iterator

from telstate.calls._evidence import Cause
from telstate.calls._session import Session
from telstate.calls._transfers import TransferOutcome, transferred_to
from telstate.events import Direction
from telstate.views._findings import Found, Private, Rule, Severity, address, plain, quoted, spoken
from telstate.views._lint_call_seen import CallSeen, noun_of

__all__ = ["RESULT_RULES"]

ERROR, WARNING, INFO = Severity

_NO_MEDIA_FOR = 10.0
"""Seconds without media after which a caller who hangs up did not merely change their mind."""


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
        what = "Daily refused the dial-out" if session.cause is Cause.REFUSED else f"The {noun_of(session)} failed"
        text = session.error_msg
        yield Found(f"{what}: {{0}}." if text else f"{what}, without a reason.", (quoted(text),) if text else ())


def _transfers(seen: CallSeen) -> Iterator[Found]:
    transfers = seen.session.transfers
    other = transferred_to(transfers)
    for target, outcome in transfers:
        if outcome is not TransferOutcome.NOT_REACHED:
            continue
        text = "The transfer to {0} did not happen: the target was not reached"
        if other is None:
            yield Found(f"{text}.", (address(target),))
        else:
            was_reached = other.outcome is TransferOutcome.REACHED
            instead = "the one to {1} did" if was_reached else "the call was handed over to {1} instead"
            yield Found(f"{text}; {instead}.", (address(target), address(other.target)), WARNING)


def _handed_over(seen: CallSeen) -> Iterator[Found]:
    for target, outcome in seen.session.transfers:
        if outcome is TransferOutcome.HANDED_OVER:
            yield Found("The call was handed over to {0}, and no event says whether they answered.", (address(target),))


def _warned(seen: CallSeen) -> Iterator[Found]:
    warnings = seen.session.warnings
    if warnings:
        more = f" and {len(warnings) - 1} more" if len(warnings) > 1 else ""
        yield Found(f"Daily warned: {{0}}{more}.", (quoted(warnings[0].rstrip(".")),))


def _callee(session: Session) -> Private:
    return address(session.destination) if session.destination else plain("an unknown number")


RESULT_RULES: tuple[Rule, ...] = (
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
)
"""In the order of their codes."""
