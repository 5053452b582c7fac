"""Cells of CSV that a spreadsheet would calculate, and numbers, which it should."""

from __future__ import annotations

import pytest

from telstate.events._spreadsheets import no_formula


@pytest.mark.parametrize("sign", "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20", ids=lambda sign: f"U+{ord(sign):04X}")
def test_what_begins_a_formula_is_a_text(sign: str) -> None:
    """Whichever sign it is, and also if a digit follows."""
    assert no_formula(f"{sign}cmd|x") == f"'{sign}cmd|x"
    assert no_formula(f"{sign}1+1") == f"'{sign}1+1"


@pytest.mark.parametrize("cell", ["+12025550142", "+12••••••42", "-5", "-0.25", "+1.5e-07", "", "Ann", "a=1", "2-1"])
def test_numbers_and_other_texts_stay(cell: str) -> None:
    """A phone number, masked or not, has its plus."""
    assert no_formula(cell) == cell
