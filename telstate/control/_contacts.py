"""Whom a campaign calls: contacts, and how they are read from CSV."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from pydantic import ValidationError

from telstate.calls._notes import check_notes
from telstate.control._opening_hours import zone_of
from telstate.errors import DefinitionError
from telstate.events._masking import mask
from telstate.options import Dialout, PhoneDialout, SipDialout

__all__ = ["Contact", "ContactFile", "ContactList", "InvalidContact", "contact_of", "read_contacts", "spelled_number"]

_GROUPING = re.compile(r"[\s().\-/\u00a0\u2010-\u2015]+")
_COLUMNS = ("number", "name", "id", "time_zone", "priority", "caller_id")
_COLUMN_NAMES = {column.replace("_", ""): column for column in _COLUMNS}
_NOT_UTF_8 = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SCHEMES = ("sip", "sips")
_LONGEST_KEY = 500
_DELIMITERS = ",;\t"


@dataclass(frozen=True, slots=True, repr=False)
class Contact:
    """Whom to call: a number or a SIP URI, and what is known of them.

    Attributes:
        number: in E.164 (`+12025550101`; spaces, dots, dashes and brackets are left out), or a SIP URI (`sip:…`).
        name: how they are called in the room; the participant's display name.
        notes: kept as notes of each of their sessions; JSON values, 4 KB in all. A handler reads `session.notes`.
        time_zone: the IANA name of their zone, for opening hours.
        priority: of those that are due, who has the higher one is called first.
        caller_id: the number that they see: one bought from Daily, or its UUID. For phone numbers only.
        id: your id of them, as of a row. It names them in the ledger, instead of the number: so a number that is corrected later stays
            the same contact.
        line: of the CSV file; None elsewhere.
    """

    number: str
    name: str | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    time_zone: str | None = None
    priority: int = 0
    caller_id: str | None = None
    id: str | None = None
    line: int | None = None

    def __repr__(self) -> str:
        return f"<Contact {mask(self.number)}>"

    @property
    def key(self) -> str:
        """What names them in the ledger of a campaign: their id, else the number."""
        return self.id or self.number

    def options(self) -> Dialout:
        """Return the call to make.

        Raises:
            pydantic.ValidationError: if Daily would not take it.
        """
        if self.number.lower().startswith(("sip:", "sips:")):
            return SipDialout(sip_uri=self.number, display_name=self.name)
        return PhoneDialout(phone_number=self.number, display_name=self.name, caller_id=self.caller_id)


@dataclass(frozen=True, slots=True, repr=False)
class InvalidContact:
    """A row, or another thing in a list, that nobody can be called by.

    Attributes:
        given: what came, cut short.
        error: what is wrong with it.
        line: of the CSV file; None elsewhere.
        id: your own id of them, where one came, cut short.
    """

    given: str
    error: str
    line: int | None = None
    id: str | None = None

    def __repr__(self) -> str:
        return f"<InvalidContact {mask(self.given)}>"

    @property
    def number(self) -> str:
        """What came in place of a number."""
        return self.given


class ContactList:
    """The contacts of one list: each number once, and each with a name of its own in the ledger."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}
        """The numbers, with what names each in the ledger."""
        self._taken: set[str] = set()

    def take(self, given: object) -> Contact | InvalidContact | None:
        """Check what comes next in a list; return None if its number came before."""
        contact = contact_of(given)
        if isinstance(contact, InvalidContact):
            return contact
        if contact.number in self.keys:
            return None
        if contact.key in self._taken:
            what = "their id, or their number, is the id of an earlier contact, or its number"
            return _invalid(contact, what)
        self.keys[contact.number] = contact.key
        self._taken.add(contact.key)
        return contact


class ContactFile:
    """The contacts of a CSV file. It is read anew each time it is iterated over: see `read_contacts`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path

    def __iter__(self) -> Iterator[Contact | InvalidContact]:
        # What is not UTF-8 stays recognisable, so that it is no other name or id than the same row in UTF-8.
        with open(self._path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            head = file.readline()
            delimiter = max(_DELIMITERS, key=head.count)
            # Strict: or a quotation mark that is never closed would swallow the rows after it without a word.
            rows = csv.reader(chain([head], file), delimiter=delimiter, strict=True)
            try:
                names = [name.strip() for name in next(rows, [])]
            except csv.Error as error:
                raise DefinitionError(f"{os.fspath(self._path)!r}: its first line is no CSV: {error}") from None
            places = self._places(names)
            while True:
                line = rows.line_num + 1
                try:
                    row = next(rows, None)
                except csv.Error as error:
                    what = f"line {line}: {error}"
                    if rows.line_num > line:
                        what += (
                            f"; it goes on to line {rows.line_num}, as if in quotation marks: none of these is called"
                        )
                    yield InvalidContact("", what, line)
                    continue
                if row is None:
                    return
                if any(cell.strip() for cell in row):
                    yield _of_row(row, names, places, line)

    def _places(self, names: list[str]) -> dict[str, int]:
        """Return where the columns are that mean something, however they are spelled: `Time zone`, `timezone`."""
        places: dict[str, int] = {}
        for place, name in enumerate(names):
            column = _COLUMN_NAMES.get(re.sub(r"[\s_-]", "", name).lower())
            if column in places:
                raise DefinitionError(
                    f"{os.fspath(self._path)!r}: two of its columns are {column!r}; leave one of them out"
                )
            if column is not None:
                places[column] = place
        if "number" not in places or any(map(_NOT_UTF_8.search, names)):
            raise DefinitionError(
                f"{os.fspath(self._path)!r}: its first line must name the columns, one of which is 'number'; the others are"
                f" {', '.join(_COLUMNS[1:])}, and any further one becomes a note of the session. It must be UTF-8. {_first_line(names)}"
            )
        return places


def _first_line(names: list[str]) -> str:
    """Say what stands where the names of columns were expected; if that is somebody, not who."""
    shown = _NOT_UTF_8.sub("\ufffd", ", ".join(names))[:100]
    return f"It is {shown!r}" if mask(shown) == shown else "It seems to be a contact"


def read_contacts(path: str | os.PathLike[str]) -> ContactFile:
    """Read contacts from a CSV file (UTF-8; comma, semicolon or tab), one row after another, for `Campaign`.

    The first line names the columns: `number`, and if you like `name`, `id`, `time_zone`, `priority` and `caller_id`, as in `Contact`, in
    any case, with blanks or without. Any other column is a note of the session, by its name; empty cells are none. A row that cannot be used comes as an `InvalidContact` with
    its line, and the campaign gives it the result `invalid`.

    Raises, when it is iterated over:
        OSError: if the file cannot be read.
        DefinitionError: if there is no column `number`, or two columns are the same one of these; or if the first line is not UTF-8.
    """
    return ContactFile(path)


def _of_row(row: list[str], names: list[str], places: Mapping[str, int], line: int) -> Contact | InvalidContact:
    cells = [cell.strip() for cell in row]

    def cell(column: str) -> str | None:
        place = places.get(column)
        return (cells[place] or None) if place is not None and place < len(cells) else None

    given, own_id = cell("number") or "", cell("id")
    if any(_NOT_UTF_8.search(text) for text in cells):
        given, own_id = _NOT_UTF_8.sub("\ufffd", given), own_id and _NOT_UTF_8.sub("\ufffd", own_id)
        return InvalidContact(given[:100], f"line {line} is not UTF-8: save the file as UTF-8", line, own_id)
    known = {places[column] for column in _COLUMNS if column in places}
    notes = {name: cells[at] for at, name in enumerate(names[: len(cells)]) if at not in known and name and cells[at]}
    priority = cell("priority") or "0"
    try:
        number = int(priority)
    except ValueError:
        return _invalid(Contact(given, id=own_id, line=line), "the priority must be a whole number")
    rest = {column: cell(column) for column in ("name", "time_zone", "caller_id", "id")}
    return contact_of(Contact(given, notes=notes, priority=number, line=line, **rest))


def contact_of(given: object) -> Contact | InvalidContact:
    """Check what a program gave as a contact: a `Contact`, or a number or SIP URI."""
    if isinstance(given, InvalidContact):
        return given
    contact = Contact(given) if isinstance(given, str) else given
    if not isinstance(contact, Contact):
        return InvalidContact(type(given).__name__, "expected a Contact, or a number or SIP URI as text")
    try:
        contact = _spelled(contact)
        contact.options()
        if contact.time_zone is not None:
            zone_of(contact.time_zone)
        if contact.notes:
            check_notes({}, {**contact.notes, "campaign": "n" * 200})
    except ValidationError as error:
        problems = "; ".join(one["msg"].removeprefix("Value error, ") for one in error.errors())
        return _invalid(contact, _OPTION.sub(lambda option: _NAME_OF_OPTION[option[0]], problems))
    except (ValueError, TypeError, AttributeError, DefinitionError) as error:
        return _invalid(contact, str(error))
    return contact


def _invalid(contact: Contact, problem: str) -> InvalidContact:
    where = "" if contact.line is None else f"line {contact.line}: "
    own_id = contact.id[:_LONGEST_KEY] if isinstance(contact.id, str) else None
    return InvalidContact(str(contact.number)[:100], f"{where}{problem}", contact.line, own_id)


_NAME_OF_OPTION = {"phone_number": "number", "sip_uri": "number", "display_name": "name"}
"""What a contact calls the options of its call."""
_OPTION = re.compile(r"\b(?:" + "|".join(_NAME_OF_OPTION) + r")\b")


def _spelled(contact: Contact) -> Contact:
    """Return a contact whose number is spelled as the ledger, the list of those not to call, and Daily need it."""
    _check_types(contact)
    key = None if contact.id is None else contact.id.strip()
    if key is not None and (not 0 < len(key) <= _LONGEST_KEY or _CONTROL.search(key)):
        raise ValueError(f"an id has 1 to {_LONGEST_KEY} characters, none of which is a control character")
    number = spelled_number(contact.number)
    if len(number) > _LONGEST_KEY and key is None:
        raise ValueError(f"a SIP URI of more than {_LONGEST_KEY} characters needs an id beside it")
    is_same = number == contact.number and key == contact.id
    return contact if is_same else replace(contact, number=number, id=key)


def spelled_number(number: str) -> str:
    """Return a number or SIP URI as the ledger has it: no brackets or dashes, and what is the same in capitals is in small letters."""
    number = number.strip()
    scheme, colon, rest = number.partition(":")
    if not colon or scheme.lower() not in _SCHEMES:
        return _GROUPING.sub("", number)
    user, at, host = rest.rpartition("@")
    end = len(host.split(";", 1)[0].split("?", 1)[0])
    return f"{scheme.lower()}:{user}{at}{host[:end].lower()}{host[end:]}"


def _check_types(contact: Contact) -> None:
    """Say what is wrong with a contact that a program made of what a database gave it."""
    for name, kind, expected in _FIELDS:
        value = getattr(contact, name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError(f"{name} must be {expected}, not {type(value).__name__}")


_FIELDS = (
    ("number", str, "text"),
    ("id", (str, type(None)), "text: str(id)"),
    ("notes", Mapping, "a mapping of names to JSON values"),
    ("priority", int, "a whole number"),
    ("time_zone", (str, type(None)), "the name of a zone as text"),
)
