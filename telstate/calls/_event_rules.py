"""All that the engine asks of an event's type, gathered once, so that each event costs one look-up instead of eight.

The answers come from where they are declared: the table, the evidence, the effects, the models.
"""

from __future__ import annotations

from operator import itemgetter

from telstate.calls._effects import EFFECTS
from telstate.calls._evidence import KINDS
from telstate.calls._session import FACTS, Facts
from telstate.calls._table import LASTING, MOVES, State
from telstate.events import DeadlinePassed, Direction, Event, ParticipantLeft, PresenceChecked
from telstate.events._base import Subject

__all__ = ["EVENT_RULES", "EventRules"]


class EventRules:
    """One type of event, as the engine sees it."""

    __slots__ = (
        "alive",
        "bit",
        "conditional",
        "direction",
        "effect",
        "facts",
        "kind",
        "lasting",
        "local",
        "moves",
        "name",
        "once",
        "subject",
        "takes_odd",
        "timed",
    )

    def __init__(self, event_type: type[Event]) -> None:
        self.name = event_type.name
        self.subject = event_type._subject
        self.direction = event_type.direction
        self.local = event_type.local
        self.kind = KINDS.get(self.name)
        self.once = self.kind.bit if self.kind is not None and self.kind.once else 0
        """Its evidence, if that is told only once: told again, it is a duplicate."""
        self.moves: dict[Direction, dict[State, State]] = {
            direction: {state: targets[self.name] for state, targets in states.items() if self.name in targets}
            for direction, states in MOVES.items()
        }
        """Where it leads: for a session of this direction, from this state."""
        self.lasting = self.name in LASTING
        """True if it is noted even of an ended session."""
        self.conditional = event_type is DeadlinePassed or event_type is PresenceChecked
        """True if what it is depends on what it says, and on what is still waited for."""
        self.timed = self.kind is not None or not self.local
        """True if its time says something of the session."""
        self.alive = event_type is not ParticipantLeft
        """False for news that is no sign that the call goes on."""
        names = tuple(name for name in FACTS if name in event_type.model_fields)
        self.facts = Facts(names, itemgetter(*names), (None,) * len(names))
        self.effect = EFFECTS.get(event_type)
        self.takes_odd = self.subject is Subject.PARTICIPANT
        """True if something odd can hide deeper than in its own extras."""


class _AllRules(dict[type[Event], EventRules]):
    """By the type of the event, made at its first sight."""

    def __missing__(self, event_type: type[Event]) -> EventRules:
        if not issubclass(event_type, Event):
            raise TypeError(f"expected an event, got {event_type.__name__}: use telstate.parse(payload)")
        trait = self[event_type] = EventRules(event_type)
        return trait


EVENT_RULES = _AllRules()
