"""What every journal must do. Add a new one to the tables below, and these tests apply to it.

`journal` is an open journal of every kind. `make` gives the same durable journal again and again, as processes that start
one after another have it. `handles` gives the handles of a shared journal.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest

from telstate import JournalError, RevisionConflict, Settings, parse
from telstate.journals import MemoryJournal, SqliteJournal
from telstate.journals.nats import Names, NatsConnection, NatsJournal, StreamSettings, declare
from telstate.routing._ports import (
    Base,
    DeadLetter,
    Entry,
    ImmediateJournal,
    Journal,
    KeptLetter,
    MarkingJournal,
    Record,
    SharedJournal,
)
from tests.contracts.shared_memory_journal import SharedLog, SharedMemoryJournal
from tests.nats_server import NatsServer

pytestmark = pytest.mark.anyio

SETTINGS = Settings().model_dump()


Make = Callable[[], Any]
"""Makes a journal of one kind, or a handle of it, again and again."""


@asynccontextmanager
async def same_file(request: pytest.FixtureRequest) -> AsyncGenerator[Make, None]:
    """Journals of one SQLite database."""
    path = request.getfixturevalue("tmp_path") / "calls.db"
    yield lambda: SqliteJournal(path)


@asynccontextmanager
async def same_log(_: pytest.FixtureRequest) -> AsyncGenerator[Make, None]:
    """Handles of one log in memory."""
    log = SharedLog()
    yield lambda: SharedMemoryJournal(log)


@asynccontextmanager
async def same_stream(request: pytest.FixtureRequest) -> AsyncGenerator[Make, None]:
    """Handles of the only partition of a NATS stream."""
    server: NatsServer = request.getfixturevalue("shared_nats")
    async with NatsConnection(server.url) as connection:
        names = Names("contract", f"test{next(_streams)}")
        streams = await declare(connection, names, StreamSettings(partitions=1, max_bytes=1 << 26))
        yield lambda: NatsJournal(connection, streams, 0)


@asynccontextmanager
async def memory(_: pytest.FixtureRequest) -> AsyncGenerator[Make, None]:
    """Journals that share nothing."""
    yield MemoryJournal


_streams = count(1)

Kinds = dict[str, Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Make]]]

SHARED: Kinds = {"shared-memory": same_log, "nats": same_stream}
"""Several processes append to them."""
EXCLUSIVE: Kinds = {"sqlite": same_file}
"""One process appends to them."""
DURABLE: Kinds = {**EXCLUSIVE, **SHARED}
"""What they keep survives `aclose`."""
IMMEDIATE: Kinds = {"memory": memory}
"""They append without waiting."""
LOOPS: dict[str, tuple[str, ...]] = {"nats": ("asyncio",)}
"""The event loops that a kind runs on, where not on both: nats-py is for asyncio."""

_KINDS_OF: dict[str, Kinds] = {
    "journal": {**DURABLE, **IMMEDIATE},
    "make": DURABLE,
    "handles": SHARED,
    "exclusive": EXCLUSIVE,
    "immediate": IMMEDIATE,
}
"""By the fixture that a test takes."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test with every kind of journal that its fixture is for, on every event loop that the kind runs on."""
    for fixture, kinds in _KINDS_OF.items():
        if fixture in metafunc.fixturenames:
            pairs = [(kind, loop) for kind in kinds for loop in LOOPS.get(kind, ("asyncio", "trio"))]
            metafunc.parametrize(("kind", "anyio_backend"), pairs, ids=map("-".join, pairs))


@pytest.fixture
async def journal(kind: str, request: pytest.FixtureRequest) -> AsyncGenerator[Journal, None]:
    """An open journal of every kind."""
    async with _KINDS_OF["journal"][kind](request) as make_one:
        made: Journal = make_one()
        await made.open(SETTINGS)
        yield made
        await made.aclose()


@pytest.fixture
async def make(kind: str, request: pytest.FixtureRequest) -> AsyncGenerator[Callable[[], Journal], None]:
    """Opens the same durable journal again and again."""
    async with DURABLE[kind](request) as make_one:
        yield make_one


@pytest.fixture
async def handles(kind: str, request: pytest.FixtureRequest) -> AsyncGenerator[Callable[[], SharedJournal], None]:
    """Makes handles of the same shared journal."""
    async with SHARED[kind](request) as make_one:
        yield make_one


@pytest.fixture
async def exclusive(kind: str, request: pytest.FixtureRequest) -> AsyncGenerator[Callable[[], Journal], None]:
    """Opens the same journal of one writer again and again."""
    async with EXCLUSIVE[kind](request) as make_one:
        yield make_one


@pytest.fixture
async def immediate(kind: str, request: pytest.FixtureRequest) -> AsyncGenerator[ImmediateJournal, None]:
    """A journal that appends at once, which is not open."""
    async with IMMEDIATE[kind](request) as make_one:
        yield make_one()


def entry(number: int, payload: bytes | None = None) -> Entry:
    """An entry to append."""
    return Entry(
        1_790_000_000.5 + number, "daily-js", payload or b'{"action":"dialin-stopped","sessionId":"%d"}' % number
    )


async def records_of(journal: Journal, after: int = 0) -> list[Record]:
    """All records in a journal."""
    return [record async for record in journal.read(after)]


async def letters_of(journal: Journal, *, retry_requested: bool = False) -> list[int]:
    """The numbers of the dead letters in a journal."""
    return [kept.number async for kept in journal.dead_letters(retry_requested=retry_requested)]


# --- every journal ------------------------------------------------------------------------------------------------


async def test_records_are_read_in_the_order_of_their_numbers(journal: Journal) -> None:
    """With the time, the dialect and the bytes that were appended."""
    assert await journal.append([entry(1), entry(2)]) == [1, 2]
    assert await journal.append([]) == []
    assert await journal.append([entry(3)]) == [3]
    records = await records_of(journal)
    assert [(record.seq, record.at, record.dialect, record.payload, record.done) for record in records] == [
        (n, entry(n).at, "daily-js", entry(n).payload, False) for n in (1, 2, 3)
    ]
    assert [record.seq for record in await records_of(journal, after=2)] == [3]
    assert await records_of(journal, after=3) == []


async def test_it_has_a_name_its_settings_and_an_interval_of_checkpoints(journal: Journal) -> None:
    """The settings of a new journal are those it was opened with."""
    assert journal.id
    assert journal.settings == SETTINGS
    assert journal.checkpoint_every is None or journal.checkpoint_every > 0


async def test_opening_it_twice_is_an_error(journal: Journal) -> None:
    """And it stays open."""
    with pytest.raises(JournalError, match=r"open already: one .* serves one dispatcher"):
        await journal.open(SETTINGS)
    assert await journal.append([entry(1)]) == [1]


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
async def test_difficult_payloads(journal: Journal, payload: bytes) -> None:
    """They are read as they were appended, except for line breaks between tokens, which are white space."""
    await journal.append([entry(1, payload), entry(2)])
    first, second = await records_of(journal)
    assert first.payload.replace(b"\n", b" ").replace(b"\r", b" ") == payload.replace(b"\n", b" ").replace(b"\r", b" ")
    assert second.seq == 2


async def test_an_event_without_a_payload_is_encoded(journal: Journal) -> None:
    """An event that the program made is encoded when the journal needs its bytes."""
    event = parse(entry(1).payload)
    await journal.append([Entry(5.0, "daily-js", None, event)])
    (record,) = await records_of(journal)
    assert parse(record.payload) == event


async def test_concurrent_appends_get_numbers_without_a_gap(journal: Journal) -> None:
    """Entries of one append get consecutive numbers."""
    appended: list[list[int]] = []

    async def write(number: int) -> None:
        appended.append(list(await journal.append([entry(number), entry(number)])))

    async with anyio.create_task_group() as group:
        for number in range(30):
            group.start_soon(write, number)
    assert all(second == first + 1 for first, second in appended)
    assert sorted(seq for seqs in appended for seq in seqs) == list(range(1, 61))
    assert [record.seq for record in await records_of(journal)] == list(range(1, 61))


async def test_a_cancelled_append_is_whole_or_not_at_all(journal: Journal) -> None:
    """Afterwards the journal can be appended to and read."""
    for delay in (0, 0.0001, 0.001):
        with anyio.move_on_after(delay):
            await journal.append([entry(1), entry(2)])
    await journal.append([entry(3)])
    records = await records_of(journal)
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
    assert len(records) % 2 == 1  # pairs, and the last one
    assert json.loads(records[-1].payload)["sessionId"] == "3"


async def test_events_that_are_done_are_known_as_finished(journal: Journal) -> None:
    """An unknown number, and one that is marked twice, changes nothing."""
    await journal.append([entry(number) for number in range(1, 6)])
    await journal.done([])
    await journal.done([2, 4])
    await journal.done([4, 99])
    assert await journal.finished([1, 2, 3, 4, 5]) == {2, 4}
    assert await journal.finished([]) == set()
    assert [record.seq for record in await records_of(journal) if not record.done] == [1, 3, 5]


async def test_a_checkpoint_is_saved_only_on_the_latest_revision(journal: Journal) -> None:
    """A conflict is an error and changes nothing."""
    key = "room/1 \u00e4.."
    assert await journal.load(key) is None
    assert await journal.save(key, b"one\ntwo", None) == 1
    assert await journal.save(key, b"three", 1) == 2
    for old in (None, 1, 7):
        with pytest.raises(RevisionConflict, match="it was saved since"):
            await journal.save(key, b"lost", old)
    assert await journal.load(key) == (b"three", 2)
    assert await journal.load("another") is None


async def test_checkpoints_of_different_keys_are_apart(journal: Journal) -> None:
    """Each has its own revisions: the count of deliveries is one beside that of the engine."""
    assert await journal.save("engine", b"state", None) == 1
    assert await journal.save("deliveries", b"{}", None) == 1
    assert await journal.save("deliveries", b'{"seen":[1]}', 1) == 2
    assert await journal.load("engine") == (b"state", 1)
    assert await journal.load("deliveries") == (b'{"seen":[1]}', 2)


async def test_of_two_concurrent_saves_one_fails(journal: Journal) -> None:
    """The checkpoint is that of the other one, whole."""
    states = [bytes([number]) * 3_000_000 for number in (1, 2)]
    saved: list[bytes] = []
    conflicts: list[RevisionConflict] = []

    async def save(state: bytes) -> None:
        try:
            await journal.save("engine", state, None)
            saved.append(state)
        except RevisionConflict as error:
            conflicts.append(error)

    async with anyio.create_task_group() as group:
        for state in states:
            group.start_soon(save, state)
    assert (len(saved), len(conflicts)) == (1, 1)
    assert await journal.load("engine") == (saved[0], 1)


async def test_a_checkpoint_may_be_large_or_empty(journal: Journal) -> None:
    """Appends go on while it is saved."""
    large = bytes(range(256)) * 20_000
    async with anyio.create_task_group() as group:
        group.start_soon(journal.save, "engine", large, None)
        for number in range(20):
            await journal.append([entry(number)])
    assert await journal.load("engine") == (large, 1)
    assert await journal.save("engine", b"", 1) == 2
    assert await journal.load("engine") == (b"", 2)
    assert len(await records_of(journal)) == 20


LETTERS = [
    DeadLetter(
        1, "ValueError", "greet", "no such\nnumber", 5.0, "daily-js", b'{"action":"x"}', {"session": {"a": [1]}}
    ),
    DeadLetter(-1, "LaneFull", None, "", 6.5),
    DeadLetter(0, "ParseError", None, "type: expected", 7.0, "webhook", '{"type":"\u00e4"'.encode()),
]


async def test_dead_letters_are_kept_retried_and_dropped_by_number(journal: Journal) -> None:
    """A number is never used again, and an unknown number changes nothing."""
    await journal.append([entry(1)])
    await journal.add_dead_letters([])
    await journal.add_dead_letters(LETTERS)
    assert [kept async for kept in journal.dead_letters()] == [
        KeptLetter(number, letter, retry_requested=False) for number, letter in enumerate(LETTERS, 1)
    ]
    await journal.request_retry([2, 3, 99])
    assert await letters_of(journal, retry_requested=True) == [2, 3]
    await journal.drop_dead_letters([2, 99])
    assert await letters_of(journal) == [1, 3]
    assert await letters_of(journal, retry_requested=True) == [3]
    await journal.drop_dead_letters([1, 3])
    await journal.add_dead_letters(LETTERS[1:2])
    assert [kept async for kept in journal.dead_letters()] == [KeptLetter(4, LETTERS[1], retry_requested=False)]


async def test_dead_letters_and_marks_are_no_events(journal: Journal) -> None:
    """`read` does not yield them."""
    await journal.append([entry(1), entry(2)])
    await journal.add_dead_letters(LETTERS)
    await journal.done([-1])
    assert [(record.seq, record.done) for record in await records_of(journal)] == [(1, False), (2, False)]


# --- durable journals ---------------------------------------------------------------------------------------------


async def test_a_reopened_journal_continues(make: Callable[[], Journal]) -> None:
    """With the same id, settings and marks, and the next number."""
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
    assert [(record.seq, record.done) for record in await records_of(again)] == [(1, True), (2, False)]
    await again.aclose()


async def test_a_journal_must_be_open_to_append(make: Callable[[], Journal]) -> None:
    """Before `open` and after `aclose`; nothing is kept."""
    journal = make()
    with pytest.raises(JournalError, match="not open"):
        await journal.append([entry(1)])
    await journal.open(SETTINGS)
    await journal.aclose()
    with pytest.raises(JournalError, match="not open"):
        await journal.append([entry(1)])
    assert await records_of(make()) == []


async def test_all_of_many_records_are_read(make: Callable[[], Journal]) -> None:
    """Done or not, in however many batches they are read."""
    journal = make()
    await journal.open(SETTINGS)
    for start in range(0, 3000, 700):
        await journal.append([entry(n) for n in range(start, start + 700)])
        await journal.done([start + 1])
    assert [record.seq for record in await records_of(journal)] == list(range(1, 3501))
    assert [record.seq for record in await records_of(journal) if record.done] == [
        start + 1 for start in range(0, 3000, 700)
    ]
    await journal.aclose()


async def test_marks_survive_also_those_of_retirements(make: Callable[[], Journal]) -> None:
    """A reader that never opened the journal knows them too."""
    journal = make()
    await journal.open(SETTINGS)
    await journal.append([entry(number) for number in range(1, 1201)])
    await journal.done([3, -3, -1, 1199])
    await journal.done([3])
    assert await journal.finished(range(-1200, 1201)) == {3, -3, -1, 1199}
    assert await make().finished([2, 3, -2, -3, 10**12]) == {3, -3}
    await journal.aclose()
    again = make()
    await again.open(SETTINGS)
    assert await again.finished([1, 3, -1, -2]) == {3, -1}
    await again.aclose()


async def test_checkpoints_survive(make: Callable[[], Journal]) -> None:
    """With their revision."""
    journal = make()
    await journal.open(SETTINGS)
    await journal.save("engine", b"one", None)
    await journal.save("engine", b"two", 1)
    await journal.aclose()
    again = make()
    await again.open(SETTINGS)
    assert await again.load("engine") == (b"two", 2)
    with pytest.raises(RevisionConflict):
        await again.save("engine", b"lost", 1)
    assert await again.save("engine", b"three", 2) == 3
    await again.aclose()


async def test_dead_letters_survive(make: Callable[[], Journal]) -> None:
    """With their numbers and the retry requests."""
    journal = make()
    await journal.open(SETTINGS)
    await journal.append([entry(1)])
    await journal.add_dead_letters(LETTERS)
    await journal.request_retry([3])
    await journal.drop_dead_letters([2])
    assert await letters_of(make()) == [1, 3]
    assert await letters_of(make(), retry_requested=True) == [3]
    await journal.aclose()
    again = make()
    await again.open(SETTINGS)
    await again.add_dead_letters(LETTERS[:1])
    assert await letters_of(again) == [1, 3, 4]
    assert [kept.retry_requested async for kept in again.dead_letters()] == [False, True, False]
    await again.aclose()


async def test_a_reader_sees_what_is_appended(make: Callable[[], Journal]) -> None:
    """While the journal is written, and after it was closed."""
    journal = make()
    await journal.open(SETTINGS)
    await journal.append([entry(1)])
    assert [record.seq for record in await records_of(make())] == [1]
    await journal.append([entry(2)])
    await journal.done([1])
    assert [(record.seq, record.done) for record in await records_of(make())] == [(1, True), (2, False)]
    await journal.aclose()
    assert [record.seq for record in await records_of(make(), after=1)] == [2]


# --- one writer ---------------------------------------------------------------------------------------------------


async def test_a_second_writer_is_refused(exclusive: Callable[[], Journal]) -> None:
    """Until the first one is closed; the first one is not disturbed."""
    journal = exclusive()
    await journal.open(SETTINGS)
    with pytest.raises(JournalError, match="in use by another process: stop that one, or use another file"):
        await exclusive().open(SETTINGS)
    assert await journal.append([entry(1)]) == [1]
    await journal.aclose()
    second = exclusive()
    await second.open(SETTINGS)
    assert await second.append([entry(2)]) == [2]
    await second.aclose()


# --- journals that append at once ---------------------------------------------------------------------------------


async def test_append_now_numbers_as_append_does(immediate: ImmediateJournal) -> None:
    """Without a turn of the event loop."""
    with pytest.raises(JournalError, match="not open"):
        immediate.append_now(entry(1))
    await immediate.open(SETTINGS)
    assert immediate.append_now(entry(1)) == 1
    assert await immediate.append([entry(2)]) == [2]
    assert immediate.append_now(entry(3)) == 3
    assert [record.payload for record in await records_of(immediate)] == [entry(n).payload for n in (1, 2, 3)]
    await immediate.aclose()


# --- shared journals ----------------------------------------------------------------------------------------------


async def opened(handles: Callable[[], SharedJournal], count: int) -> list[SharedJournal]:
    """Several open handles."""
    made = [handles() for _ in range(count)]
    for journal in made:
        await journal.open(SETTINGS)
    return made


async def first_of(journal: SharedJournal, count: int, after: int = 0) -> list[Record]:
    """The first records of a tail."""
    found: list[Record] = []
    with anyio.fail_after(30):
        async with aclosing(journal.tail(after)) as records:
            async for record in records:
                found.append(record)
                if len(found) == count:
                    break
    return found


async def test_several_processes_append_to_a_shared_journal(handles: Callable[[], SharedJournal]) -> None:
    """They share its id, its settings, its numbers and its checkpoints."""
    one, other = await opened(handles, 2)
    assert one.id == other.id
    assert one.settings == other.settings == SETTINGS
    assert await one.append([entry(1)]) == [1]
    assert await other.append([entry(2)]) == [2]
    assert await one.append([entry(3)]) == [3]
    assert await other.save("engine", b"one", None) == 1
    assert await one.load("engine") == (b"one", 1)


async def test_whoever_opens_it_takes_it_over(handles: Callable[[], SharedJournal]) -> None:
    """The next save of the one before is refused, whatever its revision; from then on it appends and saves nothing more.

    It may be a process that was frozen: what it knows is outdated, and it must not write that over what the new one knows.
    """
    one = handles()
    await one.open(SETTINGS)
    await one.append([entry(1)])
    assert await one.save("engine", b"one", None) == 1
    other = handles()
    await other.open(SETTINGS)
    with pytest.raises(RevisionConflict, match="opened"):
        await one.save("engine", b"stale", 1)
    with pytest.raises(RevisionConflict, match="lost"):
        await one.save("deliveries", b"stale", None)
    with pytest.raises(JournalError, match="lost"):
        await one.append([entry(2)])
    await one.done([1])
    assert await other.load("engine") == (b"one", 1)
    assert await other.finished([1]) == set()
    assert await other.save("engine", b"two", 1) == 2
    assert await other.append([entry(2)]) == [2]


async def test_work_before_a_base_is_finished(handles: Callable[[], SharedJournal]) -> None:
    """Its marks and its events may be gone. What came later is known by its mark."""
    one = handles()
    await one.open(SETTINGS)
    await one.append([entry(number) for number in range(1, 9)])
    await one.done([1, 2, 3, 5])
    await one.save("engine", b"state", None)
    keep_base = getattr(one, "keep_base", None)
    if keep_base is None:
        return  # this kind removes nothing
    await keep_base(Base(5, entry(5).at or 0.0, frozenset({4}), 4, b"state"))
    await one.done([7, -4])
    assert await one.finished([1, 4, 5, 6, 7, -1, -4, -6]) == {1, 5, 7, -1, -4}
    await one.aclose()
    other = handles()
    await other.open(SETTINGS)
    assert await other.finished([1, 4, 6, 7, -1, -4, -6]) == {1, 7, -1, -4}
    assert [record.seq for record in await records_of(other, after=5) if not record.done] == [6, 8]
    await other.aclose()


async def test_every_tail_yields_all_records_in_the_same_order(handles: Callable[[], SharedJournal]) -> None:
    """Whichever handle appended them; the number that `append` returned says which record is its own."""
    one, other = await opened(handles, 2)
    own: dict[int, bytes] = {}
    tails: list[list[Record]] = []

    async def write(journal: SharedJournal, first: int) -> None:
        for number in range(first, first + 20):
            (seq,) = await journal.append([entry(number)])
            own[seq] = entry(number).payload

    async def collect(journal: SharedJournal) -> None:
        tails.append(await first_of(journal, 40))

    async with anyio.create_task_group() as group:
        for journal, first in ((one, 100), (other, 200)):
            group.start_soon(collect, journal)
            group.start_soon(write, journal, first)
    assert tails[0] == tails[1]
    assert [record.seq for record in tails[0]] == sorted(own)
    assert {record.seq: record.payload for record in tails[0]} == own


async def test_a_tail_begins_after_a_number_and_waits_for_more(handles: Callable[[], SharedJournal]) -> None:
    """It never ends by itself, and it can be cancelled."""
    one, other = await opened(handles, 2)
    await one.append([entry(1), entry(2), entry(3)])
    assert [record.seq for record in await first_of(other, 2, after=1)] == [2, 3]
    with anyio.move_on_after(0.05) as scope:
        await first_of(other, 1, after=3)
    assert scope.cancelled_caught

    async def append_later() -> None:
        await anyio.sleep(0.02)
        await one.append([entry(4)])

    async with anyio.create_task_group() as group:
        group.start_soon(append_later)
        assert [record.seq for record in await first_of(other, 1, after=3)] == [4]


async def test_closing_a_handle_leaves_the_others_open(handles: Callable[[], SharedJournal]) -> None:
    """What it appended stays."""
    one, other = await opened(handles, 2)
    await one.append([entry(1)])
    await one.aclose()
    with pytest.raises(JournalError, match="not open"):
        await one.append([entry(2)])
    assert await other.append([entry(2)]) == [2]
    assert [record.seq for record in await first_of(other, 2)] == [1, 2]


# --- journals that mark with an append ----------------------------------------------------------------------------


async def test_the_next_append_takes_marks_along(tmp_path: Path) -> None:
    """Those given last, once; an append without entries takes none; a new handle on the journal knows them."""
    journal: MarkingJournal = SqliteJournal(tmp_path / "calls.db")
    await journal.open(SETTINGS)
    await journal.append([entry(1), entry(2)])
    journal.done_with_next([1])
    journal.done_with_next([2, -1])
    await journal.append([])
    assert await journal.finished([1, 2, -1]) == set()
    await journal.append([entry(3)])
    assert await SqliteJournal(tmp_path / "calls.db").finished([1, 2, -1]) == {2, -1}
    await journal.append([entry(4)])
    assert await journal.finished([1, 2, -1, 3]) == {2, -1}
    await journal.aclose()
