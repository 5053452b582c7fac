"""What only a MemoryJournal has: it is bounded, and it forgets."""

from __future__ import annotations

import pytest

from telstate.journals import MemoryJournal
from telstate.routing import _memory_journal
from telstate.routing._ports import DeadLetter, Entry

pytestmark = pytest.mark.anyio

ENTRY = Entry(1_790_000_000.5, "daily-js", b'{"action":"dialin-stopped","sessionId":"s"}')
LETTER = DeadLetter(1, "ValueError", "greet", "no such number", 5.0)


@pytest.fixture
def anyio_backend() -> str:
    """One event loop is enough here: the contract suite runs on both."""
    return "asyncio"


async def test_it_keeps_only_what_is_unfinished() -> None:
    """A record that is done is gone."""
    journal = MemoryJournal()
    await journal.open({})
    await journal.append([ENTRY] * 3)
    await journal.done([1, 3])
    assert [record.seq async for record in journal.read()] == [2]
    await journal.done([2])
    assert not journal._unfinished


async def test_records_that_are_done_while_it_is_read_are_left_out() -> None:
    """And nothing breaks."""
    journal = MemoryJournal()
    await journal.open({})
    await journal.append([ENTRY] * 3)
    read = []
    async for record in journal.read():
        read.append(record.seq)
        await journal.done([record.seq, 2])
    assert read == [1, 3]


async def test_the_oldest_dead_letters_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its bound."""
    monkeypatch.setattr(_memory_journal, "_MAX_DEAD_LETTERS", 3)
    journal = MemoryJournal()
    await journal.open({})
    await journal.add_dead_letters([LETTER] * 5)
    assert [kept.number async for kept in journal.dead_letters()] == [3, 4, 5]


async def test_everything_is_forgotten_at_aclose() -> None:
    """Numbers begin again, so the journal has a new id: an event id never names two events."""
    journal = MemoryJournal()
    await journal.open({"retention": 1})
    first = journal.id
    await journal.append([ENTRY])
    await journal.add_dead_letters([LETTER])
    await journal.save("engine", b"state", None)
    await journal.aclose()
    assert journal.settings is None
    await journal.open({"retention": 2})
    assert journal.id != first
    assert journal.settings == {"retention": 2}
    assert await journal.append([ENTRY]) == [1]
    assert await journal.load("engine") is None
    assert [kept async for kept in journal.dead_letters()] == []
