"""`telstate tail URL`: the lines of `telstate tail`, from a running service."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from telstate.cli._live_stream import LiveMessage, LiveStream
from telstate.cli._terminal import misuse, say
from telstate.views import Selection
from telstate.views._masked import mask_record
from telstate.views._outcome_line import OUTCOME_FIELDS, fields_as_json

__all__ = ["LiveTail"]

_NOW = "live"
"""The outcome of a call that was there before: what it is now."""


class LiveTail:
    """Prints what a stream brings.

    Args:
        stream: of the service.
        selection: which calls are shown.
        form: makes a line of the fields of an outcome.
        numbers: show phone numbers, SIP users and names in full, if the service sends them.
    """

    def __init__(
        self, stream: LiveStream, selection: Selection, form: Callable[[Mapping[str, Any]], str], *, numbers: bool
    ) -> None:
        self._stream = stream
        self._selection = selection
        self._form = form
        self._numbers = numbers
        self._is_snapshot = False
        self._has_numbers: bool | None = None

    def run(self) -> None:
        """Print until interrupted."""
        for one in self._stream.messages():
            try:
                line = self._line(one)
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                self._stream.refuse(error)
            if line is not None:
                sys.stdout.write(line + "\n")
                sys.stdout.flush()

    def _line(self, one: LiveMessage) -> str | None:
        """Return the line of a message, if it has one and its call is selected."""
        match one.kind:
            case "hello":
                self._note_numbers(has_numbers=bool(one.data["numbers"]))
                self._is_snapshot = not one.data["resumed"]
            case "live":
                self._is_snapshot = False
            case "session" | "caller" if self._is_snapshot:
                record = one.data[one.kind]
                return self._line_of_record(one.data, record) if self._selection.admits(record) else None
            case "outcome":
                session = one.data["session"]
                if self._selection.is_everything or (session is not None and self._selection.admits(session)):
                    return self._form(self._shown(one.data)["outcome"])
        return None  # kinds that a later service may have, too

    def _line_of_record(self, data: dict[str, Any], record: dict[str, Any]) -> str:
        """Return the line of a call that was there before. As JSON it is the record, as `telstate replay --json` has it."""
        if self._form is fields_as_json:
            return json.dumps(self._shown(data))
        fields: dict[str, Any] = {**dict.fromkeys(OUTCOME_FIELDS), "outcome": _NOW, "moves": [], "anomalies": []}
        fields |= {name: record.get(name) for name in ("session_id", "direction", "state", "cause")}
        return self._form({**fields, "at": record["started_at"], "event": record["state"]})

    def _shown(self, data: dict[str, Any]) -> dict[str, Any]:
        return data if self._numbers or not self._has_numbers else mask_record(data)

    def _note_numbers(self, *, has_numbers: bool) -> None:
        """Say what cannot be shown, or not be found, because the service masks it."""
        if has_numbers == self._has_numbers:
            return
        self._has_numbers = has_numbers
        if not has_numbers and self._selection.numbers:
            misuse(
                "--number cannot find anybody, because the service masks numbers: start it with --view-numbers, or read its journal:"
                " telstate tail -f calls.db --number …"
            )
        if not has_numbers and self._numbers:
            say("the service masks numbers: start it with --view-numbers to see them")
