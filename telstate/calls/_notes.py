"""Notes: what a program writes down about a call. They are JSON values, in the journal, on the session and in every record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json, to_json

__all__ = ["NOTES_LIMIT", "add_notes", "check_notes"]

NOTES_LIMIT = 4096
"""Bytes of all notes of one session together, as JSON without blanks."""


def add_notes(known: Mapping[str, Any] | None, notes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge notes into the known ones: of two with one name the later counts. What is returned shares nothing with either.

    Args:
        known: the notes so far; None for none.
        notes: the new ones.

    Raises:
        ValueError: if they would be too long together, or are not JSON.
    """
    try:
        encoded = to_json({**(known or {}), **notes}, inf_nan_mode="strings")
        merged: dict[str, Any] = from_json(encoded)  # what a replay reads from the journal
    except ValueError as error:
        raise ValueError(f"notes are JSON values: {error}") from None
    if len(encoded) > NOTES_LIMIT:
        raise ValueError(f"the notes of a session have at most {NOTES_LIMIT} bytes as JSON, and these {len(encoded)}")
    return merged


def check_notes(known: Mapping[str, Any], notes: Mapping[str, Any]) -> dict[str, Any]:
    """Return notes as JSON values, if they can be added to the known ones.

    Raises:
        ValueError: if one is not JSON, or all of them would be too long.
    """
    try:
        written: dict[str, Any] = from_json(json.dumps(notes, allow_nan=False))  # it converts much less than pydantic
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"notes are JSON values: {error}") from None
    add_notes(known, written)
    return written
