"""`telstate.testing.ladder`: calls as a text to compare with."""

from __future__ import annotations

import pytest

from telstate import ParseError
from telstate.testing import ladder
from tests.corpus import HERE, read_lines
from tests.corpus.ladders import LOGS

SNAPSHOT = """\
dial-out a to +12•••••••00
  unanswered, told by Daily

 callee          Daily
   │◄──────────────┤    dialout-connected [idle → connected]
   ├───────────────┤    dialout-stopped [connected → stopped]
   │               │      ended: unanswered, told by Daily"""


def test_payloads_and_lines_give_a_text_to_compare_with() -> None:
    """In any form that an event can have."""
    assert (
        ladder(
            [
                {"action": "dialout-connected", "sessionId": "a", "destination": "+12025550100"},
                '{"action": "dialout-stopped", "sessionId": "a"}',
            ]
        )
        == SNAPSHOT
    )
    assert "+12025550100" in ladder(
        [b'{"action":"dialout-connected","sessionId":"a","destination":"+12025550100"}'], numbers=True
    )
    assert ladder([]) == ""


def test_it_is_what_the_command_shows() -> None:
    """For every log of events of the corpus without bad lines."""
    for log in LOGS:
        if log.stem not in ("bad-lines", "10-foreign-bodies") and not log.stem.startswith("logs-"):
            text = (HERE / "ladders" / f"{log.stem}.txt").read_text(encoding="utf-8")
            assert ladder(read_lines(log)) + "\n" == text, log.stem


def test_a_line_that_is_no_event_is_an_error() -> None:
    """A test must not compare half of it."""
    with pytest.raises(ParseError):
        ladder(["{"])
