"""Replay: recorded lines in, outcomes out. It fires no timers: a telstate journal has them as events, other logs have none."""

from __future__ import annotations

from pydantic import ValidationError

from telstate.calls.engine import Engine
from telstate.calls.outcome import Outcome
from telstate.calls.settings import Settings
from telstate.errors import ParseError
from telstate.events import read

__all__ = ["Replay"]


class Replay:
    """Feeds the lines of one or several logs to an engine.

    Args:
        settings: how long and how much is remembered. None takes what the header of a journal says, else the defaults.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.engine = Engine(settings)
        self._settings_told = settings is not None

    def feed(self, raw: bytes) -> Outcome | None:
        """Take in one line, in whatever dialect it is; time is the line's own, where it carries one.

        Returns:
            What became of the event, or None for a line of a journal's own bookkeeping.

        Raises:
            ParseError: if the line cannot be read. Nothing has changed then: go on with the next.
        """
        event, at, settings = read(raw)
        if event is not None:
            return self.engine.receive(event, at)
        if settings is not None and not self._settings_told and not self.engine.received:
            self.engine = Engine(_settings(settings))
        return None


def _settings(told: dict[str, object]) -> Settings:
    try:
        return Settings.model_validate(told)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "settings"
        raise ParseError(where, f"settings that this telstate knows ({first['msg']})", told, "journal") from None
