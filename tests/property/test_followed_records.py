"""Records that are followed: a database has what is known by now of the calls that ended and of the callers that were lost, through any restarts."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from telstate import Replay, Session, Settings
from telstate.calls._caller import Caller
from telstate.cli._records import _Following
from telstate.events._dialects.journal import header_line, wrap
from telstate.events._parse import parse_line
from telstate.sources._log_lines import LogLine
from telstate.views import Selection
from telstate.views._records_schema import RecordRows
from tests.calls import js
from tests.property.held_callers import any_history, readies, rooms

SETTINGS = Settings()


class Database:
    """Has rows, and how far their reader has come."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.position = 0

    def write(self, rows: RecordRows, position: int) -> None:
        """Write as the tables do."""
        for call_id in rows.connected:
            self.rows.pop(f"caller {call_id}", None)
        self.rows |= {**rows.sessions, **{f"caller {call_id}": row for call_id, row in rows.callers.items()}}
        self.position = position


class Known:
    """What a replay knows."""

    def __init__(self) -> None:
        self._replay = Replay()
        self._gone = RecordRows.empty()
        self._lost: set[str] = set()

    def take(self, line: bytes) -> None:
        """Take in a line."""
        outcome = self._replay.feed(line)
        if outcome is None:
            return
        if outcome.lost_caller is not None:
            self._lost.add(outcome.lost_caller.call_id)
        for one in outcome.departed:
            if isinstance(one, (Session, Caller)):
                self._gone.add(one.to_dict())

    def rows(self) -> dict[str, dict[str, Any]]:
        """The rows of calls that ended and of callers that were lost, or left memory without a session."""
        rows, engine = RecordRows(dict(self._gone.sessions), {}, dict(self._gone.callers), {}), self._replay.engine
        for session in engine.sessions():
            if session.ended:
                rows.add(engine.record(session))
        for call_id in self._lost:
            caller = engine.caller(call_id)
            if caller is not None and caller.session_id is None:
                rows.add(caller.to_dict())
        return {**rows.sessions, **{f"caller {call_id}": row for call_id, row in rows.callers.items()}}


@st.composite
def journals(draw: st.DrawFn) -> list[bytes]:
    """Draw the lines of a journal: callers on hold and dial-ins in any order, and perhaps one who calls when they have left memory."""
    of = draw(rooms())
    history = draw(st.permutations([*readies(of), *draw(any_history(of))]))
    later = max(at for at, _ in history) + SETTINGS.retention + 1
    history += [(later, js("dialout-connected", "later"))] * draw(st.integers(0, 1))
    lines = [header_line("journal", SETTINGS.model_dump())]
    for seq, (at, payload) in enumerate(history, 1):
        raw = json.dumps(payload).encode()
        lines.append(wrap(seq, at, str(parse_line(raw)[2]), raw))
    return lines


@given(st.data())
def test_a_followed_record_is_what_is_known_by_now(data: st.DataObject) -> None:
    """Also of an ended session whose endpoint or caller becomes known later, or proves to be a guess; and of one who was lost and connects later."""
    lines = data.draw(journals())
    looks = data.draw(st.sets(st.integers(1, len(lines))))
    restarts = data.draw(st.sets(st.integers(1, len(lines))))
    database, known = Database(), Known()
    follower = _Following(Selection(), database.write, 0)
    for place, line in enumerate(lines, 1):
        if place in restarts:
            follower = _Following(Selection(), database.write, database.position)
            for earlier in lines[: place - 1]:
                follower._take(LogLine("", 0, earlier, 0))
        follower._take(LogLine("", 0, line, 0))
        known.take(line)
        if place in looks or place == len(lines):
            follower._flush()
            assert database.rows == known.rows()
