"""A run over logs: what it hands on, and to whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from telstate.calls._outcome import Outcome
from telstate.cli._log_run import LogRun
from telstate.events._dialects.journal import wrap


@pytest.mark.parametrize("is_stepped", [True, False])
def test_ends_that_no_line_has_are_told_to_all_who_ask(tmp_path: Path, *, is_stepped: bool) -> None:
    """Those that are due before a later line, and those at the end; also to somebody who does not look at each line."""
    lines = [
        (1.79e9, b'{"action": "dialout-answered", "sessionId": "a"}'),
        (1.79e9 + 5, b'{"action": "participant-left", "participant": {"session_id": "a"}}'),
        (1.79e9 + 600, b'{"action": "dialout-answered", "sessionId": "b"}'),
        (1.79e9 + 605, b'{"action": "participant-left", "participant": {"session_id": "b"}}'),
    ]
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"\n".join(wrap(seq, at, "daily-js", payload) for seq, (at, payload) in enumerate(lines, 1)))
    ended: list[str] = []

    def end(outcome: Outcome) -> None:
        assert outcome.session is not None
        ended.append(outcome.session.session_id)

    LogRun([str(log)], inferred=end, stepped=(lambda *_: None) if is_stepped else None).run()
    assert ended == ["a", "b"]
