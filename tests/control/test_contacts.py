"""Contacts, and how they are read from CSV."""

from __future__ import annotations

from pathlib import Path

import pytest

from telstate.control import Contact, ContactResult, InvalidContact, NotTried, read_contacts
from telstate.control._contacts import ContactList, contact_of
from telstate.errors import DefinitionError


def rows(folder: Path, text: str, encoding: str = "utf-8") -> list[Contact | InvalidContact]:
    """Read a file of this text."""
    file = folder / "people.csv"
    file.write_bytes(text.encode(encoding))
    return list(read_contacts(file))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
def test_columns(tmp_path: Path, delimiter: str) -> None:
    """Known ones are the contact's, others are notes; blank lines are none, and a spreadsheet's mark of UTF-8 is not read."""
    text = (
        "Number,Name,Time Zone,priority,caller_id,id,plan,since\n"
        '"+1 (202) 555-0101","Ann ""A"" Lee",Europe/Berlin,3,+12025550199,row-1,gold,2024\n'
        "\n"
        "sip:bob@example.com\n"
    ).replace(",", delimiter)
    first, second = rows(tmp_path, text, "utf-8-sig")
    assert isinstance(first, Contact)
    assert (first.number, first.name, first.time_zone) == ("+12025550101", 'Ann "A" Lee', "Europe/Berlin")
    assert (first.priority, first.caller_id, first.key, first.line) == (3, "+12025550199", "row-1", 2)
    assert first.notes == {"plan": "gold", "since": "2024"}
    assert isinstance(second, Contact)
    assert (second.number, second.key, second.notes, second.line) == ("sip:bob@example.com",) * 2 + ({}, 4)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("0171,,,", "number must be in E.164"),
        (",Ann,,", "number must be in E.164"),
        ("+12025550101,,Mars/Base,", "Europe/Berlin"),
        ("+12025550101,,,high", "priority"),
        ("+12025550101,,,0,{}".format("n" * 5000), "4096"),
    ],
    ids=["national", "no number", "no zone", "no priority", "long note"],
)
def test_a_bad_row_has_its_line_and_stops_no_other(tmp_path: Path, row: str, says: str) -> None:
    """Whatever is wrong with it."""
    head = "number,name,time_zone,priority,note\n"
    before, bad, after = rows(tmp_path, f"{head}+12025550102\n{row}\n+12025550103\n")
    assert isinstance(bad, InvalidContact)
    assert bad.line == 3
    assert bad.error.startswith("line 3: ")
    assert says in bad.error
    assert [before.number, after.number] == ["+12025550102", "+12025550103"]


@pytest.mark.parametrize(
    "row", ["0171,b", "+12025550103,b,high", "+12025550102,b"], ids=["number", "priority", "twice"]
)
def test_a_bad_row_has_its_id(tmp_path: Path, row: str) -> None:
    """By which the program finds it in the file that it came from. The second time an id comes is such a row, too."""
    contacts = ContactList()
    found = [contacts.take(one) for one in rows(tmp_path, f"number,id,priority\n+12025550101,b\n{row}\n")]
    bad = found[1]
    assert isinstance(bad, InvalidContact)
    assert ContactResult(bad, NotTried.INVALID, error=bad.error).to_dict()["id"] == bad.id == "b"


def test_a_file_without_numbers_is_refused(tmp_path: Path) -> None:
    """The message names the columns."""
    with pytest.raises(DefinitionError, match="number"):
        rows(tmp_path, "phone;name\n+12025550101;Ann\n")


def test_what_a_program_gives() -> None:
    """Numbers are spelled as the ledger needs them; what cannot be called says why."""
    assert contact_of("+1 202 555 0101") == Contact("+12025550101")
    assert isinstance(contact_of(12025550101), InvalidContact)
    assert isinstance(contact_of(Contact("+12025550101", id=" ")), InvalidContact)
    assert isinstance(contact_of(Contact("+12025550101", notes={"a": float("nan")})), InvalidContact)
    assert "2025550101" not in repr(contact_of("+12025550101"))
