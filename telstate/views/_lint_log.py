"""What can be wrong with a whole log: a table of rules, each with its check."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from telstate.views._findings import Found, Rule, Severity, count, plain, quoted, spoken
from telstate.views._lint_facts import LogFacts
from telstate.views._text import utc_time

__all__ = ["LOG_RULES", "SHARE_RULES"]

ERROR, WARNING, INFO = Severity

_ENOUGH_CALLS = 10
"""A share of fewer calls says nothing."""
_FEWEST_CALLS = 5
"""For errors: two that are alike are worth a look."""
_FEWEST = 3
_MANY_ERRORS = 0.2
_MANY_UNANSWERED = 0.5
_MANY_UNTOLD = 0.2
_MANY_SLOW = 0.05
_MANY_REPEATS = 0.05
_MANY_LATE = 0.1
_ENOUGH_EVENTS = 20


def _one_error(log: LogFacts) -> Iterator[Found]:
    if log.calls < _FEWEST_CALLS:
        return
    for key, number in log.errors.most_common(5):
        if number >= 2 and number > _MANY_ERRORS * log.calls:
            text = log.error_texts[key].rstrip(".")
            yield Found(
                f"{number:,} of {count(log.calls, 'call')} ({number / log.calls:.0%}) failed alike: {{0}}.",
                (quoted(text),),
            )


def _many_unanswered(log: LogFacts) -> Iterator[Found]:
    if log.dialouts >= _ENOUGH_CALLS and log.unanswered > _MANY_UNANSWERED * log.dialouts:
        share = log.unanswered / log.dialouts
        yield Found(f"Nobody answered {log.unanswered:,} of {count(log.dialouts, 'dial-out')} ({share:.0%}).")


def _many_untold(log: LogFacts) -> Iterator[Found]:
    if log.calls >= _ENOUGH_CALLS and log.untold >= _FEWEST and log.untold > _MANY_UNTOLD * log.calls:
        yield Found(
            f"Of {count(log.calls, 'call')}, {log.untold:,} ({log.untold / log.calls:.0%}) have no end that was told."
        )


def _empty(log: LogFacts) -> Iterator[Found]:
    if not log.lines:
        yield Found("The log is empty.")
    elif not log.events and not log.invalid:
        yield Found(f"The log has {count(log.lines, 'line')} and no event.")
    elif not log.events:
        yield Found(
            f"None of {count(log.lines, 'line')} could be read as an event.",
            fix="Give a log with one JSON object per line, as `telstate export` writes it, or a service's journal.",
        )


def _invalid(log: LogFacts) -> Iterator[Found]:
    if log.first_invalid is not None:
        file, line, error = log.first_invalid
        yield Found(
            f"{log.invalid:,} of {count(log.lines, 'line')} could not be read; the first is {{0}}:{line}: {{1}}.",
            (plain(file), quoted(error.rstrip("."))),
        )


def _quiet(log: LogFacts) -> Iterator[Found]:
    for quiet in log.quiets:
        if quiet.lost >= 2 and 2 * quiet.lost >= quiet.live:
            source = {"webhook": "No webhook", "daily-js": "No daily-js event"}.get(quiet.source, "No callback")
            lasted = f"{spoken(quiet.end - quiet.begin)} from {utc_time(quiet.begin)} on"
            yield Found(
                f"{source} came for {lasted}, while {count(quiet.live, 'call')} were live; {quiet.lost:,} of them were"
                " never heard of again.",
                fix=None
                if quiet.source == "webhook"
                else "Look for a restart or a lost connection of the bot at that time.",
            )


def _gaps(log: LogFacts) -> Iterator[Found]:
    if log.gaps:
        live = sum(gap.live for gap in log.gaps)
        at = log.gaps[0].at
        first = "" if at is None else f", first at {utc_time(at)}"
        reason = log.gaps[0].reason
        yield Found(
            f"A source was interrupted {_times(len(log.gaps))} while calls were live{first}:"
            f" events of {count(live, 'call')} may be missing" + (" ({0})." if reason else "."),
            (quoted(reason),) if reason else (),
        )


def _clock(log: LogFacts) -> Iterator[Found]:
    if log.first_step is not None:
        step = log.first_step
        yield Found(
            f"The time steps back {_times(log.steps)}, first by {spoken(step.seconds)} at {{0}}:{step.line}.",
            (plain(step.file),),
        )


def _clock_forward(log: LogFacts) -> Iterator[Found]:
    if log.fast is not None:
        step = log.fast
        yield Found(
            f"From {{0}}:{step.line} on the clock is {spoken(step.seconds)} fast: events in a row came that long after they happened.",
            (plain(step.file),),
        )


def _jumps(log: LogFacts) -> Iterator[Found]:
    yield from _clock(log)
    yield from _clock_forward(log)


def _early(log: LogFacts) -> Iterator[Found]:
    if log.early:
        yield Found(
            f"By their times, {log.early:,} of {count(log.timed, 'event')} came before they happened, by up to {spoken(-log.earliest)}."
        )


def _slow(log: LogFacts) -> Iterator[Found]:
    if log.timed >= _ENOUGH_EVENTS and log.slow >= _FEWEST and log.slow > _MANY_SLOW * log.timed:
        share = log.slow / log.timed
        yield Found(
            f"{log.slow:,} of {count(log.timed, 'event')} ({share:.0%}) came more than a minute after they happened, the"
            f" slowest {spoken(log.slowest)}."
        )


def _repeats(log: LogFacts) -> Iterator[Found]:
    if log.events >= _ENOUGH_EVENTS and log.repeats > _MANY_REPEATS * log.events:
        share = log.repeats / log.events
        yield Found(
            f"{log.repeats:,} of {count(log.events, 'event')} ({share:.0%}) came more than once from the same source."
        )


def _disorder(log: LogFacts) -> Iterator[Found]:
    if log.events >= _ENOUGH_EVENTS and log.late > _MANY_LATE * log.events:
        share = log.late / log.events
        yield Found(f"{log.late:,} of {count(log.events, 'event')} ({share:.0%}) came out of order.")


def _unknown(log: LogFacts) -> Iterator[Found]:
    if log.unknown:
        yield Found(
            f"{count(log.unknown.total(), 'event')} of {_types(log.unknown)} that this telstate does not know: {{0}}.",
            (quoted(_listed(log.unknown)),),
        )


def _unmatched(log: LogFacts) -> Iterator[Found]:
    if log.unmatched:
        yield Found(
            f"{count(log.unmatched.total(), 'event')} could not be matched to any session: {{0}}.",
            (quoted(_listed(log.unmatched)),),
        )


def _types(kinds: Counter[str]) -> str:
    return "a type" if len(kinds) == 1 else f"{len(kinds)} types"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number:,} times"


def _listed(kinds: Counter[str]) -> str:
    shown = [f"{name} ({number:,})" for name, number in kinds.most_common(5)]
    return ", ".join([*shown, *(["…"] if len(kinds) > 5 else [])])


SHARE_RULES: tuple[Rule, ...] = (
    Rule(
        "T401",
        ERROR,
        "many calls fail for one reason",
        "Mend this one first: read the error, and look at what these calls have in common with `telstate replay --where error`.",
        "One error text, whatever its figures, on more than a fifth of five calls or more.",
        ("dial-out is not enabled for the account or the room", "codecs that do not match", "a provider that is down"),
        _one_error,
    ),
    Rule(
        "T402",
        WARNING,
        "hardly anybody answers",
        "Check the numbers that are called, the number that is shown, and the time of day.",
        "Nobody answered more than half of ten dial-outs or more.",
        ("a caller id that carriers mark as spam", "wrong numbers", "a ring that is stopped too early"),
        _many_unanswered,
    ),
    Rule(
        "T403",
        ERROR,
        "the ends of many calls are not told",
        "Subscribe to dialin.stopped, dialout.stopped and the errors, and check with `telstate webhook check`.",
        "More than a fifth of ten calls or more ended by a sign or by silence only, although they were heard of before.",
        ("a webhook without the `stopped` events", "a receiver that answers too late", "a circuit breaker that opened"),
        _many_untold,
    ),
)
"""About the calls that are selected."""

LOG_RULES: tuple[Rule, ...] = (
    Rule(
        "T501",
        ERROR,
        "there is nothing to check",
        "Check the name of the file, and whether the service writes to it.",
        "The log has no events.",
        ("a file of another kind", "a service that received nothing yet"),
        _empty,
    ),
    Rule(
        "T502",
        ERROR,
        "events stopped coming",
        "Run `telstate webhook check`: Daily's circuit breaker opens after three failures; `telstate webhook reactivate` closes it.",
        "A source was silent for ten minutes or more while two calls or more were live, and at least half of them were never heard of again.",
        (
            "the circuit breaker opened, and Daily sends nothing until it is closed",
            "the receiver or its network was down",
        ),
        _quiet,
    ),
    Rule(
        "T503",
        WARNING,
        "events may have been missed",
        "Let telstate ask Daily after a gap: `Dispatcher(reconcile=…)` says which calls still exist.",
        "The log says that a source was interrupted while calls were live.",
        ("a restart of the service", "the bot's signalling connection was interrupted"),
        _gaps,
    ),
    Rule(
        "T504",
        WARNING,
        "the clock jumps",
        "Synchronise the clock (NTP), or give the logs in the order in which they were written.",
        "The time of a line is earlier than that of the line before it in the same file, or many events in a row came late by the same time.",
        ("a clock that was set", "logs of several machines in one file", "lines that were sorted otherwise"),
        _jumps,
    ),
    Rule(
        "T505",
        WARNING,
        "the clock is wrong",
        "Synchronise the clock (NTP) of the machine that receives the events.",
        "Events have a time of Daily's that is more than five seconds after their receipt.",
        ("a clock that is slow",),
        _early,
    ),
    Rule(
        "T506",
        WARNING,
        "delivery is slow",
        "Let the receiver answer at once and work afterwards, as `telstate serve` does, and look for its failures at that time.",
        "More than one event in twenty came more than a minute after it happened.",
        ("retries of webhooks that were not answered with 200", "a receiver that was down", "a clock that is fast"),
        _slow,
    ),
    Rule(
        "T507",
        WARNING,
        "many events come more than once",
        "Answer webhooks with 200 at once, and look whether two subscriptions send to one URL: `telstate webhook list`.",
        "More than one event in twenty was a repetition by the same source.",
        ("a slow receiver", "two subscriptions", "the same log given twice"),
        _repeats,
    ),
    Rule(
        "T508",
        WARNING,
        "many events come out of order",
        "Check that one worker receives the events, or that all write to one journal.",
        "More than one event in ten came when its session was past it.",
        ("retries", "several receivers whose logs were joined", "a log that was sorted otherwise"),
        _disorder,
    ),
    Rule(
        "T509",
        WARNING,
        "lines cannot be read",
        "Look at the first of them; `telstate replay` lists all.",
        "A line is not JSON, is no event, or lacks an id that it needs.",
        ("other output in the same file", "a file that was cut off while it was copied"),
        _invalid,
    ),
    Rule(
        "T510",
        WARNING,
        "events belong to no call",
        "For a dialout-error: the dial-out failed before it had a session, so look at the request; else look for the session's first events.",
        "An event is about a session, and names none that can be found.",
        ("a dial-out that failed before it began", "a log that begins in the middle of calls", "daily-js before 0.90"),
        _unmatched,
    ),
    Rule(
        "T511",
        INFO,
        "types of events are unknown",
        "Nothing: they are kept and change no call. A newer telstate may know them.",
        "Daily sent something new, or another program wrote to the log.",
        ("a new event of Daily's", "events of your own program"),
        _unknown,
    ),
)
"""About the log as a whole."""
