"""The calls of a log for people, on a terminal of any width: a table, then totals with bar charts. Needs rich."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from telstate.calls._caller import Caller, CallerState
from telstate.calls._engine import Engine
from telstate.calls._evidence import EndedBy
from telstate.calls._session import Session
from telstate.events import Direction
from telstate.events._known_names import names_in
from telstate.events._masking import mask, mask_address, mask_name
from telstate.views._call import WholeCall
from telstate.views._call_totals import CallStats, CallTotals, GroupBy
from telstate.views._calls_report import shown_group
from telstate.views._selection import Selection
from telstate.views._session_text import counted, notes_of, other_end, states_of, without_scheme
from telstate.views._text import cut, printable, utc_time
from telstate.views._words import duration

__all__ = ["CallsTable"]


class _Column(NamedTuple):
    key: str
    head: str
    width: int
    most: int
    """The width that it gets if there is room."""
    right: bool = False


_TREE = _Column("tree", "", 1, 1)
_COLUMNS = (
    _Column("start", "START UTC", 14, 19),
    _TREE,
    _Column("way", "", 3, 3),
    _Column("session", "SESSION", 8, 36),
    _Column("who", "WHO", 12, 28),
    _Column("room", "ROOM", 8, 18),
    _Column("end", "END", 11, 11),
    _Column("by", "BY", 6, 6),
    _Column("setup", "SETUP", 5, 5, right=True),
    _Column("ring", "RING", 5, 5, right=True),
    _Column("talk", "TALK", 5, 5, right=True),
    _Column("states", "WHAT HAPPENED", 30, 60),
)
_FIRST_TO_GO = ("states", "setup", "by", "room", "ring", "session", "way", "talk", "who", "tree")
"""The columns that a narrow terminal does without, in this order."""
_FIRST_TO_GROW = ("session", "who", "room", "start", "states")
_STYLES = {
    "completed": "green",
    "transferred": "green",
    "unanswered": "yellow",
    "expired": "yellow",
    "failed": "red",
    "refused": "red",
    "gave-up": "red",
}
_BAR, _SHORTEST_BAR = 30, 5


class CallsTable:
    """A table of calls. The legs of one call stand together, and below each stands what deserves attention.

    Args:
        width: the terminal's, in characters; None for a file or pipe, where nothing is cut.
        numbers: show phone numbers, SIP users and names in full.
        color: use the colors of the terminal.
        asked: what was asked for is never cut.
    """

    def __init__(
        self, width: int | None = None, *, numbers: bool = False, color: bool = False, asked: Selection | None = None
    ) -> None:
        asked = asked or Selection()
        self._asked = {"session": bool(asked.sessions or asked.calls), "room": bool(asked.rooms)}
        self._asked["who"] = bool(asked.numbers)
        self._numbers = numbers
        self._width = width
        self._color = color
        self._columns = _fitted(width)
        self._console = Console(
            file=io.StringIO(),
            width=width or 100,
            force_terminal=color,
            color_system="standard" if color else None,
            legacy_windows=False,
        )
        self._parked = False

    def head(self) -> str:
        """The table's head."""
        return self._row({column.key: column.head for column in _COLUMNS}, style="bold")

    def call(self, call: WholeCall) -> str:
        """A call: a row for each of its sessions, or for its caller on hold, with notes below."""
        if call.caller is not None:
            return "\n".join(self._caller(call.caller[0]))
        marks = ["", *("├" for _ in call.legs[2:]), "└"][: len(call.legs)]
        return "\n".join(
            line for (session, _), mark in zip(call.legs, marks, strict=True) for line in self._leg(session, mark)
        )

    def groups(self, by: GroupBy, records: Sequence[dict[str, Any]]) -> str:
        """A row for each group, with a bar of its calls."""
        shown = [shown_group(record, by, numbers=self._numbers) for record in records]
        most = max((record["calls"] for record in records), default=0)
        rows = [
            (
                printable(without_scheme(record["name"]) or f"(no {by})"),
                str(record["calls"]),
                _percent(record["answer_rate"]),
                duration(record["ring_s"]),
                duration(record["talk_s"]),
                (record["calls"], record["answered"], most),
            )
            for record in shown
        ]
        return self._small(
            ("HOUR UTC" if by is GroupBy.HOUR else by.upper(), "CALLS", "ANSWERED", "RING", "TALK", ""), rows
        )

    def totals(self, totals: CallTotals, engine: Engine, invalid: int) -> str:
        """The totals, and charts of causes and times if there is more than one."""
        lines = ["* from an event that arrived before its session was known", ""] if self._parked else [""]
        lines += [*_totals(totals), counted(engine.received, "event") + _unread(invalid)]
        if not totals.stats.calls:
            return "\n".join(lines)
        charts = [self._causes(totals), self._spans(totals)]
        return "\n".join([*lines, *(f"\n{chart}" for chart in charts if chart)])

    def _causes(self, totals: CallTotals) -> str:
        most = max(totals.causes.values())
        rows = [(cause, str(number), (number, number, most)) for cause, number in totals.causes.most_common()]
        return self._small(("CAUSE", "CALLS", ""), rows) if len(rows) > 1 else ""

    def _spans(self, totals: CallTotals) -> str:
        name, spans = totals.spans()
        most = max((stats.calls for _, stats in spans), default=0)
        rows = [
            (span, str(stats.calls), _percent(stats.answer_rate), (stats.calls, stats.answered, most))
            for span, stats in spans
        ]
        legend = f"{_FULL} answered {_LIGHT} not"
        return self._small((f"{name.upper()} UTC", "CALLS", "ANSWERED", legend), rows) if len(rows) > 1 else ""

    def _leg(self, session: Session, mark: str) -> Iterator[str]:
        self._parked = self._parked or any(move.parked for move in session.transitions)
        who, is_name = other_end(session)
        cells = {
            "start": utc_time(session.started_at),
            "tree": mark,
            "way": "in" if session.direction is Direction.DIALIN else "out",
            "session": session.session_id,
            "who": self._name(who) if is_name else without_scheme(self._address(who)),
            "room": session.room or "",
            "end": session.cause or f"({session.state})",
            "by": "" if session.ended_by in (None, EndedBy.UNKNOWN) else session.ended_by,
            "setup": duration(session.setup_s),
            "ring": duration(session.ring_s),
            "talk": duration(session.talk_s),
            "states": states_of(session),
        }
        yield self._row(cells)
        names = names_in([session.display_name and {"display_name": session.display_name}, session.sip_from])
        notes = (self._text(note, names) for note in notes_of(session, self._address))
        yield from (f"    {note}" for note in (*self._in_full(cells), *notes))

    def _caller(self, caller: Caller) -> Iterator[str]:
        still = caller.state in (CallerState.WAITING, CallerState.FORWARDED)
        cells = {
            "start": utc_time(caller.started_at),
            "way": "in",
            "session": caller.call_id,
            "who": without_scheme(self._address(caller.from_ or "")),
            "end": f"({caller.state})" if still else caller.state,
            "states": "on hold" + (f" for {duration(caller.held_s)}" if caller.held_s is not None else ""),
        }
        yield self._row(cells)
        known = [
            None if "states" in (column.key for column, _ in self._columns) else cells["states"],
            caller.to and f"called {self._address(caller.to)}",
            caller.forwarded_to and f"forwarded to {self._address(caller.forwarded_to)}",
            caller.error and f"error: {caller.error}",
        ]
        yield from (f"    {note}" for note in (*self._in_full(cells), *(self._text(one) for one in known if one)))

    def _in_full(self, cells: dict[str, str]) -> Iterator[str]:
        """What was asked for and does not fit its cell, to stand below the row."""
        widths = {column.key: width for column, width in self._columns}
        for key, asked in self._asked.items():
            value = printable(cells.get(key, ""))
            if asked and self._width is not None and len(value) > widths.get(key, 0):
                yield f"{'number' if key == 'who' else key} {value}"

    def _row(self, cells: dict[str, str], style: str = "") -> str:
        texts = [(column, width, printable(cells.get(column.key, ""))) for column, width in self._columns]
        if self._width is None:
            padded = (text.rjust(width) if column.right else text.ljust(width) for column, width, text in texts)
            return " ".join(padded).rstrip()
        table = Table.grid(padding=(0, 1, 0, 0))
        for column, width, _ in texts:
            table.add_column(width=width, no_wrap=True, justify="right" if column.right else "left")
        table.add_row(
            *(
                Text(_cut(column, text, width), style=style or (_STYLES.get(text, "") if column.key == "end" else ""))
                for column, width, text in texts
            )
        )
        return self._drawn(table)

    def _small(self, heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
        """A table of few columns: a name, numbers, and a bar, if there is room for it."""
        widths = [max(len(heads[place]), *(len(row[place]) for row in rows)) for place in range(len(heads) - 1)]
        gaps = 2 * len(widths)
        names = (self._width or sum(widths) + gaps) - sum(widths[1:]) - gaps
        bar = min(_BAR, names - widths[0]) if self._width is not None else _BAR
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold" if self._color else "")
        table.add_column(heads[0], overflow="fold", width=max(min(widths[0], names), 6))
        for head, width in zip(heads[1:-1], widths[1:], strict=True):
            table.add_column(head, justify="right", width=width, no_wrap=True)
        if bar >= len(heads[-1]) and bar >= _SHORTEST_BAR:
            table.add_column(heads[-1], width=bar, no_wrap=True)
        for *cells, (number, full, most) in rows:
            table.add_row(*map(Text, (*cells, _bar(number, full, most, bar))[: len(table.columns)]))
        return self._drawn(table)

    def _drawn(self, table: Table) -> str:
        with self._console.capture() as drawn:
            self._console.print(table)
        return "\n".join(line.rstrip() for line in drawn.get().rstrip("\n").split("\n"))

    def _address(self, address: str) -> str:
        return address if self._numbers else mask_address(address)

    def _name(self, name: str) -> str:
        return name if self._numbers else mask_name(name)

    def _text(self, text: str, names: Iterable[str] = ()) -> str:
        """Any other text, as shown. Masked first: what is not printable may stand between two digits."""
        return printable(text if self._numbers else mask(text, names))


_FULL, _LIGHT = "█", "░"


def _bar(number: int, full: int, most: int, width: int) -> str:
    """A bar, the first part of which is full."""
    length = max(round(width * number / most), 1) if number else 0
    filled = round(length * full / number) if number else 0
    return _FULL * filled + _LIGHT * (length - filled)


def _fitted(width: int | None) -> list[tuple[_Column, int]]:
    """Choose the columns that fit, and how wide each is."""
    if width is None:
        return [(column, column.most if column.key != "states" else 0) for column in _COLUMNS]
    kept = {column.key: column.width for column in _COLUMNS}
    room = width - 1
    for key in _FIRST_TO_GO:
        if sum(kept.values()) + len(kept) <= room:
            break
        del kept[key]
    spare = room - sum(kept.values()) - len(kept)
    most = {column.key: column.most for column in _COLUMNS}
    for key in _FIRST_TO_GROW:
        if key in kept and spare > 0:
            more = min(spare, most[key] - kept[key])
            if key == "session" and kept[key] + more < most[key]:
                continue  # half an id is no better than its beginning
            kept[key] += more
            spare -= more
    return [(column, kept[column.key]) for column in _COLUMNS if column.key in kept]


def _cut(column: _Column, text: str, width: int) -> str:
    """Cut a text to its cell. A time leaves out the year, and then the seconds; an id is known by its beginning."""
    if len(text) <= width:
        return text
    if column.key == "start":
        return text[5:] if width < 19 else text
    return text[:width] if column.key == "session" else cut(text, width)


def _totals(totals: CallTotals) -> Iterator[str]:
    stats = totals.stats
    more = [counted(totals.sessions, "session")] if totals.sessions not in (stats.calls, 0) else []
    more += [f"{counted(totals.lost, 'caller')} on hold without a session"] if totals.lost else []
    more += [f"{totals.with_anomalies} with anomalies (!)"] if totals.with_anomalies else []
    details = f" ({', '.join(more)})" if more else ""
    yield counted(stats.calls, "call") + details
    if stats.decided:
        yield f"{_percent(stats.answer_rate)} answered: {stats.answered} of {stats.decided}{_undecided(stats)}"
    known = [("rang", stats.ring_s), ("talked", stats.talk_s)]
    if averages := [f"{verb} {duration(value)}" for verb, value in known if value is not None]:
        yield f"on average {', '.join(averages)}"


def _undecided(stats: CallStats) -> str:
    left = stats.calls - stats.decided
    return f"; of {left} it is not known yet" if left else ""


def _percent(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.0%}"


def _unread(invalid: int) -> str:
    return f", {counted(invalid, 'line')} could not be read" if invalid else ""
