"""What every journal must do. A new one is added to `JOURNALS`, and all of this holds it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from telstate import JournalError, RevisionConflict, Settings
from telstate.journals import JsonlJournal, SqliteJournal
from telstate.routing._ports import DeadLetter, Entry, Journal, KeptLetter, Record

pytestmark = pytest.mark.anyio

SETTINGS = Settings().model_dump()
JOURNALS: dict[str, Callable[[Path], Journal]] = {
    "jsonl": lambda folder: JsonlJournal(folder / "calls.jsonl"),
    "sqlite": lambda folder: SqliteJournal(folder / "calls.db"),
}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The event loop of a test."""
    name: str = request.param
    return name


@pytest.fixture(params=list(JOURNALS))
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Journal]:
    """Opens the same journal, again and again."""
    return lambda: JOURNALS[request.param](tmp_path)


def entry(number: int, payload: bytes | None = None) -> Entry:
    """Something to keep."""
    return Entry(
        1_790_000_000.5 + number, "daily-js", payload or b'{"action":"dialin-stopped","sessionId":"%d"}' % number
    )


async def kept(journal: Journal, after: int = 0) -> list[Record]:
    """All that is in it."""
    return [record async for record in journal.read(after)]


async def test_what_is_appended_is_read_in_order(make: Callable[[], Journal]) -> None:
    """With its number, its time and its bytes."""
    journal = make()
    await journal.open(SETTINGS)
    assert await journal.append([entry(1), entry(2)]) == [1, 2]
    assert await journal.append([]) == []
    assert await journal.append([entry(3)]) == [3]
    records = await kept(journal)
    assert [(record.seq, record.at, record.dialect, record.payload, record.done) for record in records] == [
        (n, entry(n).at, "daily-js", entry(n).payload, False) for n in (1, 2, 3)
    ]
    assert [record.seq for record in await kept(journal, after=2)] == [3]
    await journal.aclose()


async def test_it_goes_on_where_it_was_left(make: Callable[[], Journal]) -> None:
    """The same id and settings, the next number."""
    journal = make()
    await journal.open(SETTINGS)
    await journal.append([entry(1)])
    await journal.done([1])
    await journal.aclose()
    again = make()
    await again.open({"retention": 1})
    assert again.id == journal.id
    assert again.settings == SETTINGS
    assert await again.append([entry(2)]) == [2]
    assert [(record.seq, record.done) for record in await kept(again)] == [(1, True), (2, False)]
    await again.aclose()


@pytest.mark.parametrize(
    "payload",
    [
        b'{"action":"x","text":"line\\nbreak"}',
        b'{"action":"x",\n "pretty":\r\n 1}',
        '{"action":"x","name":"\u00e4\u20ac\U0001f600\u2028"}'.encode(),
        b'{"action":"x","half":"\\ud83d"}',
        b'{"action":"x","broken":"\xff\xfe"}',
        b'{"action":"x","n":NaN,"payload":{"payload":{}}}',
        b'{"action":"x","big":"' + b"x" * 300_000 + b'"}',
        b'{"payload":1,"v":1,"seq":9}',
    ],
)
async def test_hard_payloads(make: Callable[[], Journal], payload: bytes) -> None:
    """They come back as they went in, but for line breaks between tokens, which are white space."""
    journal = make()
    await journal.open(SETTINGS)
    await journal.append([entry(1, payload), entry(2)])
    first, second = await kept(journal)
    assert first.payload.replace(b"\n", b" ").replace(b"\r", b" ") == payload.replace(b"\n", b" ").replace(b"\r", b" ")
    assert second.seq == 2
    await journal.aclose()


async def test_many_writers_share_it(make: Callable[[], Journal]) -> None:
    """Numbers rise without a gap, whoever comes when."""
    journal = make()
    await journal.open(SETTINGS)
    seqs: list[int] = []

    async def write(number: int) -> None:
        seqs.extend(await journal.append([entry(number), entry(number)]))

    async with anyio.create_task_group() as group:
        for number in range(30):
            group.start_soon(write, number)
    assert sorted(seqs) == list(range(1, 61))
    assert [record.seq for record in await kept(journal)] == list(range(1, 61))
    await journal.aclose()


async def test_none_of_many_is_left_out(make: Callable[[], Journal]) -> None:
    """However the reading is cut into pieces."""
    journal = make()
    await journal.open(SETTINGS)
    for start in range(0, 3000, 700):
        await journal.append([entry(n) for n in range(start, start + 700)])
        await journal.done([start + 1])
    assert [record.seq for record in await kept(journal)] == list(range(1, 3501))
    assert [record.seq for record in await kept(journal) if record.done] == [start + 1 for start in range(0, 3000, 700)]
    await journal.aclose()


async def test_checkpoints_and_their_revisions(make: Callable[[], Journal]) -> None:
    """Whoever saves on an old one is told."""
    journal = make()
    await journal.open(SETTINGS)
    assert await journal.load("room/1 \u00e4..") is None
    assert await journal.save("room/1 \u00e4..", b"one\ntwo", None) == 1
    assert await journal.save("room/1 \u00e4..", b"three", 1) == 2
    for old in (None, 1, 7):
        with pytest.raises(RevisionConflict):
            await journal.save("room/1 \u00e4..", b"lost", old)
    await journal.aclose()
    again = make()
    await again.open(SETTINGS)
    assert await again.load("room/1 \u00e4..") == (b"three", 2)
    assert await again.load("another") is None
    await again.aclose()


async def test_marks_are_known_by_number_also_those_of_retirements(make: Callable[[], Journal]) -> None:
    """Of each number asked for, also by somebody who only reads."""
    journal = make()
    await journal.open(SETTINGS)
    await journal.append([entry(number) for number in range(1, 1201)])
    await journal.done([3, -3, -1, 1199])
    await journal.done([])
    await journal.done([3])
    assert await journal.finished(range(-1200, 1201)) == {3, -3, -1, 1199}
    assert await journal.finished([]) == set()
    assert await make().finished([2, 3, -2, -3, 10**12]) == {3, -3}
    await journal.aclose()
    again = make()
    await again.open(SETTINGS)
    assert await again.finished([1, 3, -1, -2]) == {3, -1}
    await again.aclose()


LETTERS = [
    DeadLetter(
        1, "ValueError", "greet", "no such\nnumber", 5.0, "daily-js", b'{"action":"x"}', {"session": {"a": [1]}}
    ),
    DeadLetter(-1, "LaneFull", None, "", 6.5),
    DeadLetter(0, "ParseError", None, "type: expected", 7.0, "webhook", '{"type":"\u00e4"'.encode()),
]


async def test_dead_letters_are_kept_tried_again_and_dropped(make: Callable[[], Journal]) -> None:
    """By their numbers, which stay theirs; what is dropped is gone, and what is unknown changes nothing."""

    async def numbers(journal: Journal, *, again: bool = False) -> list[int]:
        return [kept.number async for kept in journal.dead_letters(retry_requested=again)]

    journal = make()
    await journal.open(SETTINGS)
    await journal.append([entry(1)])
    await journal.add_dead_letters(LETTERS)
    assert [kept async for kept in journal.dead_letters()] == [
        KeptLetter(number, letter, retry_requested=False) for number, letter in enumerate(LETTERS, 1)
    ]
    await journal.request_retry([2, 3, 99])
    assert await numbers(journal, again=True) == [2, 3]
    await journal.drop_dead_letters([2, 99])
    assert await numbers(make()) == [1, 3]
    assert await numbers(make(), again=True) == [3]
    await journal.add_dead_letters(LETTERS[:1])
    await journal.aclose()
    again = make()
    await again.open(SETTINGS)
    assert await numbers(again) == [1, 3, 4]
    assert [kept.retry_requested async for kept in again.dead_letters()] == [False, True, False]
    await again.drop_dead_letters([1, 3, 4])
    await again.add_dead_letters(LETTERS[1:2])
    assert [kept async for kept in again.dead_letters()] == [KeptLetter(5, LETTERS[1], retry_requested=False)]
    await again.aclose()


async def test_a_checkpoint_may_be_large_and_empty(make: Callable[[], Journal]) -> None:
    """Appends go on while it is saved."""
    journal = make()
    await journal.open(SETTINGS)
    large = bytes(range(256)) * 20_000
    async with anyio.create_task_group() as group:
        group.start_soon(journal.save, "engine", large, None)
        for number in range(20):
            await journal.append([entry(number)])
    assert await journal.load("engine") == (large, 1)
    assert await journal.save("engine", b"", 1) == 2
    assert await journal.load("engine") == (b"", 2)
    assert len(await kept(journal)) == 20
    await journal.aclose()


async def test_one_writes_others_read(make: Callable[[], Journal]) -> None:
    """A second writer is told; a reader sees what was appended, while it is written and after."""
    journal = make()
    await journal.open(SETTINGS)
    await journal.append([entry(1)])
    with pytest.raises(JournalError, match="written by another process: stop that one, or use another file"):
        await make().open(SETTINGS)
    assert [record.seq for record in await kept(make())] == [1]
    await journal.append([entry(2)])
    await journal.done([1])
    assert [(record.seq, record.done) for record in await kept(make())] == [(1, True), (2, False)]
    await journal.aclose()
    assert [record.seq for record in await kept(make(), after=1)] == [2]


async def test_dead_letters_and_marks_are_no_events(make: Callable[[], Journal]) -> None:
    """They do not come when events are read."""
    journal = make()
    await journal.open(SETTINGS)
    await journal.append([entry(1), entry(2)])
    await journal.add_dead_letters([DeadLetter(1, "ValueError", "greet", "no such\nnumber", 5.0)])
    await journal.done([2])
    assert [(record.seq, record.done) for record in await kept(journal)] == [(1, False), (2, True)]
    await journal.aclose()


async def test_a_cancelled_append_is_whole_or_not_at_all(make: Callable[[], Journal]) -> None:
    """Whoever is cancelled, the journal can be appended to and read."""
    journal = make()
    await journal.open(SETTINGS)
    for delay in (0, 0.0001, 0.001):
        with anyio.move_on_after(delay):
            await journal.append([entry(1), entry(2)])
    await journal.append([entry(3)])
    records = await kept(journal)
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
    assert len(records) % 2 == 1  # pairs, and the last one
    assert json.loads(records[-1].payload)["sessionId"] == "3"
    await journal.aclose()
