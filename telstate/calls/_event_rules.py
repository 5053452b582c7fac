"""All that the engine needs to know about an event type, compiled once from the table, the model and the updates.

One lookup per event replaces eight. Nothing is decided here.
"""

from __future__ import annotations

from telstate.calls._evidence import Evidence
from telstate.calls._outcome import OutcomeKind
from telstate.calls._recorder import Recorder
from telstate.calls._session import FACTS
from telstate.calls._table import END_INFERRED, SILENCE_PASSED, TARGETS, Row, State, row_of
from telstate.calls._updates import UPDATES
from telstate.events import DialinConnected, Direction, Event
from telstate.events._base import Subject, known_keys

__all__ = ["END_VERDICTS", "EVENT_RULES", "SILENCE_VERDICTS", "EventRules", "SessionRules", "Verdict"]

Verdict = tuple[OutcomeKind, State | None]
"""What an event is to a session, and the state it leads to, if any."""


def _verdicts(event: str, direction: Direction) -> dict[State, Verdict]:
    """Compile the verdict on an event for each state of a session."""
    verdicts: dict[State, Verdict] = {}
    for state, targets in TARGETS[direction].items():
        if event not in targets:
            verdicts[state] = (OutcomeKind.LATE, None)
        elif (target := targets[event]) is None:
            verdicts[state] = (OutcomeKind.NOTED, None)
        else:
            verdicts[state] = (OutcomeKind.MOVED, target)
    return verdicts


class SessionRules:
    """The rules of one event type for sessions of one direction."""

    __slots__ = (
        "conditional",
        "known_keys",
        "life",
        "local",
        "name",
        "names_endpoint",
        "nested_anomalies",
        "once",
        "places",
        "recorder",
        "told",
        "update",
        "verdicts",
    )

    def __init__(self, event_type: type[Event], direction: Direction, row: Row) -> None:
        self.name = row.event
        self.verdicts = _verdicts(row.event, direction)
        self.recorder = Recorder(row.evidence, row.time, [name for name in FACTS if name in event_type.model_fields])
        self.once = row.evidence if row.once else 0
        """Its evidence if it occurs once per session, else 0. A second one is a duplicate."""
        self.life = row.life
        self.conditional = row.conditional
        self.told = bool(row.evidence & Evidence.TOLD)
        """True if it reports the end."""
        self.local = event_type.local
        self.update = UPDATES.get(event_type)
        self.places = direction is Direction.DIALIN and event_type is not DialinConnected
        """True if it may say where a dial-in arrived, besides the event that always does."""
        self.names_endpoint = direction is Direction.DIALIN and "sip_endpoint" in event_type.model_fields
        """True if it may name the endpoint of a dial-in."""
        self.nested_anomalies = event_type._subject is Subject.PARTICIPANT
        """True if an odd field can be in a nested object, not only among the event's own extras."""
        self.known_keys = known_keys(event_type)
        """The keys that are among the extras only if their value is odd."""


class EventRules:
    """The rules of one event type."""

    __slots__ = ("by_direction", "direction", "subject")

    def __init__(self, event_type: type[Event]) -> None:
        self.subject = int(event_type._subject)
        self.direction = event_type.direction
        """The direction of its sessions; None if it can be about any session."""
        self.by_direction = {
            direction: SessionRules(event_type, direction, row)
            for direction in Direction
            if (row := row_of(event_type.name, direction)) is not None
        }


class _AllRules(dict[type[Event], EventRules]):
    """The rules by event type, compiled at its first event."""

    def __missing__(self, event_type: type[Event]) -> EventRules:
        if not issubclass(event_type, Event):
            raise TypeError(f"expected an event, got {event_type.__name__}: use telstate.parse(payload)")
        rules = self[event_type] = EventRules(event_type)
        return rules


EVENT_RULES = _AllRules()

SILENCE_VERDICTS = {direction: _verdicts(SILENCE_PASSED, direction) for direction in Direction}
"""The verdict on a silence limit that passed, by direction and state."""
END_VERDICTS = {direction: _verdicts(END_INFERRED, direction) for direction in Direction}
"""The verdict on a sign of the end that held, by direction and state."""
