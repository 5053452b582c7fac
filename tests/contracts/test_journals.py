"""What every journal must do. A new one is added to `JOURNALS`, and all of this holds it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from telstate import RevisionConflict, Settings
from telstate.journals import JsonlJournal
from telstate.routing.ports import DeadLetter, Entry, Journal, Record

pytestmark = pytest.mark.anyio

SETTINGS = Settings().model_dump()
JOURNALS: dict[str, Callable[[Path], Journal]] = {"jsonl": lambda folder: JsonlJournal(folder / "calls.jsonl")}


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
    assert first.payload == payload.replace(b"\n", b" ").replace(b"\r", b" ")
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


async def test_dead_letters_and_marks_are_no_events(make: Callable[[], Journal]) -> None:
    """They do not come when events are read."""
    journal = make()
    await journal.open(SETTINGS)
    await journal.append([entry(1), entry(2)])
    await journal.dead([DeadLetter(1, "ValueError", "greet", "no such\nnumber", 5.0)])
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
    assert len(records) % 2 == 1
    assert json.loads(records[-1].payload)["sessionId"] == "3"
    await journal.aclose()
