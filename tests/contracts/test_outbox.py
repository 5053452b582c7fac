"""What every journal with an outbox must do: messages wait there, in lanes, until they are sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from telstate import Settings
from telstate.journals import MemoryJournal, SqliteJournal
from telstate.routing import _memory_outbox
from telstate.routing._ports import Notification, OutboxJournal

pytestmark = pytest.mark.anyio

SETTINGS = Settings().model_dump()


@pytest.fixture(params=["sqlite", "memory"])
async def journal(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[OutboxJournal, None]:
    """An open journal of each kind."""
    made: OutboxJournal = SqliteJournal(tmp_path / "calls.db") if request.param == "sqlite" else MemoryJournal()
    await made.open(SETTINGS)
    yield made
    await made.aclose()


def message(number: int, lane: str = "a", target: str = "crm") -> Notification:
    """A message."""
    return Notification(target, f"msg_{number}", lane, number, 100.0 + number, b"%d" % number)


async def ids(journal: OutboxJournal, target: str = "crm", limit: int = 10) -> list[str]:
    """The first messages of each lane."""
    return [kept.message.id for kept in await journal.first_messages(target, limit)]


async def test_an_empty_one_has_nothing(journal: OutboxJournal) -> None:
    """Before the first message."""
    assert await ids(journal) == []
    assert await journal.count_messages() == {}
    assert await journal.outbox_seq() == 0
    await journal.hasten_messages("crm", 1.0)


async def test_only_the_first_of_a_lane_is_due(journal: OutboxJournal) -> None:
    """Whole, in the order in which they are due; the next one comes when it is gone."""
    await journal.add_messages([message(1), message(2), message(3, "b"), message(4, "a", "other")])
    first, second = await journal.first_messages("crm", 10)
    assert first.message == message(1)
    assert (first.attempts, first.due_at) == (0, 101.0)
    assert second.message == message(3, "b")
    await journal.remove_messages([first.number])
    assert await ids(journal) == ["msg_2", "msg_3"]
    assert await ids(journal, "other") == ["msg_4"]
    assert await ids(journal, limit=1) == ["msg_2"]
    assert await journal.count_messages() == {"crm": 2, "other": 1}
    await journal.remove_messages([first.number, 99])  # again, and one that never was


async def test_a_message_is_kept_once(journal: OutboxJournal) -> None:
    """For each target, as long as it waits."""
    await journal.add_messages([message(1), message(1)])
    await journal.add_messages([message(1), message(1, "a", "other")])
    assert await journal.count_messages() == {"crm": 1, "other": 1}
    await journal.remove_messages([(await journal.first_messages("crm", 1))[0].number])
    await journal.add_messages([message(1)])
    assert await ids(journal) == ["msg_1"]


async def test_a_message_can_wait(journal: OutboxJournal) -> None:
    """Its lane waits with it, others do not; and its wait can be cut short."""
    await journal.add_messages([message(1), message(2), message(3, "b")])
    first = (await journal.first_messages("crm", 1))[0]
    await journal.postpone_message(first.number, 1, 500.0)
    assert await ids(journal) == ["msg_3", "msg_1"]
    assert (await journal.first_messages("crm", 2))[1][2:] == (1, 500.0)
    await journal.hasten_messages("other", 200.0)
    assert (await journal.first_messages("crm", 2))[1].due_at == 500.0
    await journal.hasten_messages("crm", 200.0)
    assert (await journal.first_messages("crm", 2))[1].due_at == 200.0
    assert await ids(journal) == ["msg_3", "msg_1"]


async def test_sqlite_keeps_them(tmp_path: Path) -> None:
    """With the last event whose messages were added; a retirement has none."""
    path = tmp_path / "calls.db"
    journal = SqliteJournal(path)
    await journal.open(SETTINGS)
    await journal.add_messages([message(7), message(3), message(-9)])
    await journal.postpone_message(1, 4, 900.0)
    await journal.aclose()
    again = SqliteJournal(path)
    await again.open(SETTINGS)
    assert await again.outbox_seq() == 7
    assert [kept[2:] for kept in await again.first_messages("crm", 5)] == [(4, 900.0)]
    await again.remove_messages([1, 2, 3])
    assert await again.outbox_seq() == 7
    await again.aclose()


async def test_memory_keeps_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that is away does not fill it."""
    monkeypatch.setattr(_memory_outbox, "_MOST", 3)
    journal = MemoryJournal()
    await journal.open(SETTINGS)
    await journal.add_messages([message(number, str(number)) for number in range(5)])
    assert await ids(journal) == ["msg_2", "msg_3", "msg_4"]
