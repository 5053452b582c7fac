"""Replay: recorded lines in, outcomes out.

It fires no timers: a telstate journal has them as events. In other logs only signs of an end count, in the log's own time; at its end, all
of them. At its end, too, callers on hold are lost whose limit passed in the log's own time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from telstate.calls._engine import Engine
from telstate.calls._outcome import Outcome
from telstate.calls._recorder import note_anomaly
from telstate.calls._settings import Settings
from telstate.calls._timers import Limit
from telstate.errors import ParseError, TelstateError
from telstate.events import Dialect, SettingsChanged
from telstate.events._dialects.journal import base_of
from telstate.events._parse import ParsedLine, parse_line
from telstate.events._sessionless import WaitingCaller

__all__ = ["Replay"]

_DAY = 86_400.0
_MISDATED = "a line is more than a day older than one before it: one of them is misdated, and sessions may be split"


class Replay:
    """Feeds the lines of one or several logs to an engine.

    Args:
        overrides: settings that take precedence over the journal's header. All others are those of the header, else the defaults.
    """

    engine: Engine
    """The engine that is fed: ask it for the sessions. A journal's header replaces it before the first event."""

    def __init__(self, overrides: Mapping[str, Any] | None = None) -> None:
        self.inferred: list[Outcome] = []
        """The ends that were due by the time of the last line, and that no line has. What left memory by them left with its outcome."""
        self._overrides = dict(overrides or {})
        self.engine = Engine(Settings(**self._overrides))
        self._told_at: float = 0.0
        """The time of the last line that has one; 0 before any."""
        self._has_undated = False
        """True if callers on hold have come since, in lines without times: the lines around theirs say when they called."""
        self._grace: Limit | None = self.engine._grace
        """Of signs of an end. None for a journal, which has these ends as events."""
        self.at: float | None = None
        """When the last line was received, or sent, in Unix seconds."""
        self.dialect: str | None = None
        """The dialect of the last line."""
        self.is_record: bool = False
        """Whether the last line was telstate's own record around an event: then `at` is the time of its receipt."""

    def feed(self, raw: bytes, parsed: ParsedLine | None = None) -> Outcome | None:
        """Take in one line, in any dialect. Its time is the line's own, if it carries one.

        Args:
            raw: the line.
            parsed: what it was parsed as, if it was.

        Returns:
            The outcome of the event, or None for a line of a journal's own bookkeeping.

        Raises:
            ParseError: if the line cannot be read. Nothing has changed then: go on with the next.
        """
        event, at, dialect, settings, _, is_record = parse_line(raw) if parsed is None else parsed
        self.at, self.dialect, self.is_record = at, dialect, is_record
        if type(event) is SettingsChanged:
            event = event.model_copy(update={"settings": {**event.settings, **self._overrides}})
        if at is not None:
            self._told_at = at
            if self._has_undated:
                self.engine._callers.date(at)
                self._has_undated = False
        elif dialect == Dialect.WEBHOOK and isinstance(event, WaitingCaller):
            self.engine._callers.log_at, self._has_undated = self._told_at, True
        if event is not None:
            outcome = self.engine.receive(event, at, dialect=dialect)
            grace, now = self._grace, self.engine.now
            if self.inferred:
                self.inferred = []
            if at is not None and now is not None and at < now - _DAY:
                _note_misdated(outcome)
            if grace is not None and grace.ends and now is not None and next(iter(grace.ends.values())) <= now:
                self._infer_ends(outcome, now)
            return outcome
        if settings is not None:
            self._use(_validated({**settings, **self._overrides}))
        elif (snapshot := base_of(raw)) is not None:
            self._begin_at(snapshot)
        return None

    def finish(self) -> list[Outcome]:
        """End the sessions with a sign of their end, and the wait of callers whose limit passed, at the end of a log. A journal is left as it is.

        Returns:
            The outcomes, which carry what left memory.
        """
        return [] if self._grace is None else self.engine.infer_ends(None)

    def _infer_ends(self, outcome: Outcome, now: float) -> None:
        """End the sessions whose sign is due by the time of the log. What leaves memory by that leaves with the event's outcome."""
        self.inferred = self.engine.infer_ends(now)
        for end in self.inferred:
            outcome.departed += end.departed

    def _begin_at(self, snapshot: dict[str, Any]) -> None:
        """Go on from the base of a journal that was pruned."""
        if self.engine.received:
            raise ParseError("base", "the beginning of the log: replay a pruned journal alone", snapshot, "journal")
        try:
            engine = Engine.restore(snapshot)
        except TelstateError as error:
            raise ParseError("base", f"a snapshot that this telstate reads ({error})", snapshot, "journal") from None
        if self._overrides:
            engine.change_settings(_validated({**engine.settings.model_dump(), **self._overrides}))
        self.engine = engine

    def _use(self, settings: Settings) -> None:
        """Use the settings of a journal's header. They cannot change once events have been taken in."""
        self._grace = None
        if not self.engine.received:
            self.engine = Engine(settings)
        elif settings != self.engine.settings:
            raise ParseError(
                "settings", "those of the log before it: replay this journal alone", settings.model_dump(), "journal"
            )


def _note_misdated(outcome: Outcome) -> None:
    """A wrong time in the future makes sessions leave memory early, and later events open them again: say so."""
    if outcome.session is not None and _MISDATED not in outcome.session.anomalies:
        note_anomaly(outcome.session, _MISDATED)
        outcome.anomalies += (_MISDATED,)


def _validated(settings: dict[str, Any]) -> Settings:
    try:
        return Settings.model_validate(settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "settings"
        raise ParseError(where, f"settings that this telstate knows ({first['msg']})", settings, "journal") from None
