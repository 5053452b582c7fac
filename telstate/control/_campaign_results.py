"""What a campaign says of each contact at its end, and files of that."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeAlias

from telstate.control._contacts import Contact, InvalidContact
from telstate.control._results import Attempt, DialOutcome
from telstate.errors import DefinitionError
from telstate.events._masking import mask
from telstate.events._spreadsheets import no_formula

__all__ = ["COLUMNS", "ContactOutcome", "ContactResult", "NotTried", "ResultFile", "result_of", "row_of"]

_CSV, _JSON_LINES = (".csv",), (".jsonl", ".ndjson")
COLUMNS = (
    "number",
    "name",
    "outcome",
    "cut_short",
    "starts",
    "first_started_at",
    "last_ended_at",
    "session_id",
    "verdict",
    "error",
    "id",
    "line",
    "notes",
)


class NotTried(StrEnum):
    """Why a campaign makes no start, or no further one, though the plan would allow it."""

    DO_NOT_CALL = "do-not-call"
    """They were on the list of those who must not be called when their turn came. That is for good, in this campaign."""
    OUT_OF_TIME = "out-of-time"
    """The campaign's `until` is over, or will be before they may be called."""
    CAMPAIGN_STOPPED = "campaign-stopped"
    """The campaign was stopped."""
    INVALID = "invalid"
    """They cannot be called: the row has no number, or one that Daily does not take."""


ContactOutcome: TypeAlias = DialOutcome | NotTried
"""What came of a contact: a `DialOutcome` if a start was made, else a `NotTried`."""


@dataclass(frozen=True, slots=True, repr=False)
class ContactResult:
    """What came of a contact. There is one for each number of the list, and the same again after a restart.

    True in a condition if they were reached. It has the number and the name, as you asked for them; nothing of it is logged.

    Attributes:
        contact: whom.
        outcome: the `DialOutcome` of the attempt that decides, which is the last one, unless an answer was reported late; a `NotTried`
            if no start was made.
        attempts: all starts, in order, with their times; also those that an earlier process made.
        cut_short: why there is no further start though the plan would allow one; None if the plan was carried out.
        session_id: of the attempt that decides; None if it has no session.
        error: what Daily said in that attempt, or why a contact is invalid, or an outcome unknown.
        verdict: what answered, as `confirm` said.
        was_known: True if this run made no start for them: an earlier process has come to this result.
    """

    contact: Contact | InvalidContact
    outcome: ContactOutcome
    attempts: tuple[Attempt, ...] = ()
    cut_short: NotTried | None = None
    session_id: str | None = None
    error: str | None = None
    verdict: str | None = None
    was_known: bool = False

    def __repr__(self) -> str:
        return f"<ContactResult {mask(self.number)} {self.outcome}>"

    def __bool__(self) -> bool:
        """Return True if they were reached."""
        return self.outcome is DialOutcome.ANSWERED

    @property
    def number(self) -> str:
        """The number or SIP URI; of an invalid row what stands in its place."""
        return self.contact.number

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values: a line of `ResultFile`. Times are Unix seconds."""
        contact = self.contact
        valid = contact if isinstance(contact, Contact) else None
        return {
            "number": contact.number,
            "name": None if valid is None else valid.name,
            "outcome": str(self.outcome),
            "cut_short": None if self.cut_short is None else str(self.cut_short),
            "starts": len(self.attempts),
            "session_id": self.session_id,
            "verdict": self.verdict,
            "error": self.error,
            "id": contact.id,
            "line": contact.line,
            "notes": {} if valid is None else dict(valid.notes),
            "attempts": [_of_attempt(attempt) for attempt in self.attempts],
        }


def _of_attempt(attempt: Attempt) -> dict[str, Any]:
    return {**attempt._asdict(), "outcome": str(attempt.outcome)}


def result_of(
    contact: Contact,
    attempts: Sequence[Attempt],
    outcome: ContactOutcome | None,
    cut_short: NotTried | None,
    *,
    was_known: bool,
) -> ContactResult:
    """Return the result of a contact.

    Args:
        contact: whom.
        attempts: all of them.
        outcome: what the ledger has as the end; None if the last attempt says it.
        cut_short: why there are no more.
        was_known: True if this run made no start.
    """
    if not attempts:
        last = cut_short or outcome or NotTried.OUT_OF_TIME
        return ContactResult(contact, last, cut_short=cut_short, was_known=was_known)
    deciding = next((one for one in reversed(attempts) if one.outcome is outcome), attempts[-1])
    return ContactResult(
        contact,
        deciding.outcome,
        tuple(attempts),
        cut_short,
        deciding.session_id,
        deciding.error,
        deciding.verdict,
        was_known,
    )


class ResultFile:
    """Writes results into a file, each at once: JSON Lines (`.jsonl`, `.ndjson`) or CSV (`.csv`), as its name says.

        with ResultFile("spring.csv") as file:
            async for result in campaign.run(dialer):
                file.write(result)

    Numbers and names are in full. A campaign that goes on after a restart gives all results again, so the file is written anew: it never
    has a contact twice. In CSV a cell that a spreadsheet would take for a formula begins with an apostrophe; numbers do not.

    Args:
        path: where to.

    Raises:
        DefinitionError: if the name ends in something else.
        OSError: if it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        if self._path.suffix.lower() not in _CSV + _JSON_LINES:
            raise DefinitionError(f"{self._path.name!r} must end in .csv, or in .jsonl for JSON Lines")
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        self._file = open(self._path, "w", encoding="utf-8", newline="")
        if self._path.suffix.lower() in _CSV:
            csv.writer(self._file).writerow(COLUMNS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._file is not None  # noqa: S101
        self._file.close()

    def write(self, result: ContactResult) -> None:
        """Write a result."""
        if self._file is None:
            raise DefinitionError("write inside its block: `with ResultFile(…) as file:`")
        if self._path.suffix.lower() in _CSV:
            csv.writer(self._file).writerow([_cell(value) for value in row_of(result, result.to_dict())])
        else:
            self._file.write(json.dumps(result.to_dict(), ensure_ascii=False) + "\n")
        self._file.flush()


def row_of(result: ContactResult, record: dict[str, Any]) -> list[Any]:
    """Return the cells of a result, by `COLUMNS`.

    Args:
        result: the result.
        record: its record, which may be masked.
    """
    first, last = (result.attempts[0], result.attempts[-1]) if result.attempts else (None, None)
    cells = {
        **record,
        "first_started_at": None if first is None else _iso(first.started_at),
        "last_ended_at": None if last is None else _iso(last.ended_at),
        "notes": json.dumps(record["notes"], ensure_ascii=False) if record["notes"] else None,
    }
    return [cells[column] for column in COLUMNS]


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def _cell(value: Any) -> Any:
    return no_formula(value) if isinstance(value, str) else "" if value is None else value
