"""What a partition of a stream does beyond the contract of all journals."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from random import Random
from time import time
from typing import Any

import anyio
import pytest
import structlog
from pydantic_core import to_json

from telstate import JournalError, Outcome, RevisionConflict
from telstate.journals.nats import Names, NatsConnection, NatsJournal, _journal, _level
from telstate.journals.nats._errors import NatsUnavailable, StreamFull
from telstate.routing._ports import Base, DeadLetter, Entry
from tests.calls import js
from tests.journals.nats.partitions import SETTINGS, Owner, Partition, caught_up, declared, engine_of, marked, publish
from tests.routing import until

pytestmark = pytest.mark.anyio


def entry(name: str, at: float | None = None) -> Entry:
    """An entry to append."""
    return Entry(at or time(), "daily-js", to_json(js("dialout-connected", name)))


async def pieces_come_to(number: int, connection: NatsConnection, names: Names) -> None:
    """Wait until there are so many pieces of checkpoints: the server removes some of them when nobody waits for that."""
    subjects: dict[str, int] = {}
    with anyio.move_on_after(30):
        while True:
            found = await connection.ask(f"STREAM.INFO.{names.state}", {"subjects_filter": names.piece("*", "*", "*")})
            subjects = found["state"].get("subjects") or {}
            if len(subjects) == number:
                return
            await anyio.sleep(0.02)
    raise AssertionError(f"expected {number} pieces, there are {sorted(subjects)}")


# --- events -------------------------------------------------------------------------------------------------------


async def test_events_of_other_partitions_leave_gaps(connection: NatsConnection, names: Names) -> None:
    """Two owners append to one stream; each reads its own, and the numbers say which were its."""
    first = await declared(connection, names, partitions=2)
    second = Partition(connection, first.streams, 1)
    journals = [first.journal(), second.journal()]
    own: list[list[int]] = [[], []]
    for journal in journals:
        await journal.open(SETTINGS)

    async def write(place: int) -> None:
        for number in range(15):
            entries = [entry(f"s{place}-{number}-{part}") for part in range(number % 4 + 1)]
            seqs = await journals[place].append(entries)
            assert list(seqs) == list(range(seqs[0], seqs[0] + len(entries)))
            own[place] += seqs

    async def receive(partition: Partition) -> None:
        for number in range(15):
            own[partition.number].append(await publish(partition, js("dialout-connected", f"r{number}")))

    async with anyio.create_task_group() as group:
        for place, partition in enumerate((first, second)):
            group.start_soon(write, place)
            group.start_soon(receive, partition)
    for place, journal in enumerate(journals):
        assert [record.seq async for record in journal.read()] == sorted(own[place])
        await journal.aclose()
    assert sorted(own[0] + own[1]) == list(range(1, len(own[0]) + len(own[1]) + 1))


async def test_the_time_is_the_lesser_of_the_two(connection: NatsConnection, names: Names) -> None:
    """A receiver's clock that runs ahead fires no limit. What is no time is the server's."""
    partition = await declared(connection, names)
    journal = partition.journal()
    await journal.open(SETTINGS)
    began = time()
    await journal.append([entry("a", began - 50), entry("b", began + 5000), Entry(None, "daily-js", b"{}")])
    for said in ("nan", "inf", "-1", "x", "", "1e999", "-"):
        headers = {"Telstate": f"{said} daily-js r"}
        await connection.publish(names.received("a"), b"{}", headers)
    records = [record async for record in journal.read()]
    assert records[0].at == began - 50
    assert all(began - 1 < record.at < time() + 1 for record in records[1:])
    assert [record.is_received for record in records] == [False] * 3 + [True] * 7
    await journal.aclose()


@pytest.mark.parametrize(
    ("headers", "data"),
    [
        ({"Telstate": "5.0 bogus r"}, b"{}"),
        ({"Telstate": "5.0 daily-js r"}, b"\xff\xfe"),
        (
            {"Telstate": "5.0 journal r"},
            b'{"v":1,"seq":7,"at":1.0,"dialect":"daily-js","payload":{"action":"stop-requested","sessionId":"s"}}',
        ),
        ({"Telstate": "5.0 daily-js r"}, b'{"action":"stop-requested","sessionId":"s"}'),
        ({"Telstate": "5.0 daily-js r"}, b'{"action":"settings-changed","settings":{"retention":0.1}}'),
        ({}, b""),
        ({"Telstate": ""}, b"{}"),
        ({"Nats-Msg-Id": "same"}, b'{"type":1}'),
    ],
)
async def test_what_a_stranger_publishes_is_a_dead_letter_and_stops_nothing(
    connection: NatsConnection, names: Names, headers: Mapping[str, str], data: bytes
) -> None:
    """Whoever may publish can neither pretend to be the program, nor end its work."""
    partition = await declared(connection, names)
    with structlog.testing.capture_logs():
        owner = Owner(partition)
        async with owner.calls:
            await publish(partition, js("dialout-connected", "s"))
            await connection.publish(names.received("a"), data, headers)
            last = await publish(partition, js("dialout-answered", "s"))
            await caught_up(owner, last)
            letters = await owner.calls.dead_letters.list()
            session = owner.calls.session("s")
            assert session is not None
            assert str(session.state) == "answered"
            assert owner.engine.settings.retention > 1
    assert [kept.letter.reason for kept in letters] == ["ParseError"]
    assert letters[0].letter.payload == data
    assert owner.seen == [1, 3]


@pytest.mark.parametrize("lost", [1, pytest.param(3, marks=pytest.mark.long)])
@pytest.mark.parametrize("size", [1, 2, 300])
async def test_answers_that_are_lost_store_nothing_twice(
    connection: NatsConnection, names: Names, size: int, lost: int
) -> None:
    """The append is sent again, and returns the numbers under which it was stored at first."""
    partition = await declared(connection, names)
    journal = partition.journal()
    await journal.open(SETTINGS)
    await journal.append([entry("before")])
    ask, count = connection._client.ask, 0

    async def lossy(*question: Any) -> dict[str, Any]:
        nonlocal count
        answer = await ask(*question)
        if question[0] == names.events_own(0):
            count += 1
            if count <= lost:
                raise NatsUnavailable("lost")
        return answer

    connection._client.ask = lossy  # type: ignore[assignment,method-assign]
    seqs = await journal.append([entry(f"s{number}") for number in range(size)])
    assert list(seqs) == list(range(2, size + 2))
    assert [record.seq async for record in journal.read()] == list(range(1, size + 2))
    await journal.aclose()


async def test_more_than_a_batch_is_appended_in_order(connection: NatsConnection, names: Names) -> None:
    """The server takes a thousand at a time."""
    partition = await declared(connection, names)
    journal = partition.journal()
    await journal.open(SETTINGS)
    assert list(await journal.append([entry(f"s{n}") for n in range(2500)])) == list(range(1, 2501))
    await journal.aclose()


@pytest.mark.parametrize("partition", [-1, 1])
async def test_a_partition_that_does_not_exist_is_refused(
    connection: NatsConnection, names: Names, partition: int
) -> None:
    """With the numbers that exist."""
    streams = (await declared(connection, names)).streams
    with pytest.raises(ValueError, match=f"expected 0 to 0, got {partition}"):
        NatsJournal(connection, streams, partition)


# --- checkpoints --------------------------------------------------------------------------------------------------


async def test_a_save_whose_answer_is_lost_counts(connection: NatsConnection, names: Names) -> None:
    """The pointer that is found then is the own one, and the next save goes on from it."""
    partition = await declared(connection, names)
    journal = partition.journal()
    await journal.open(SETTINGS)
    publish_one, broken = connection.publish, True

    async def lossy(subject: str, *rest: Any, **options: Any) -> int:
        seq = await publish_one(subject, *rest, **options)
        if subject == names.pointer(0) and broken:
            await publish_one(subject, *rest, **options)  # the server does not know the id any more: a conflict
        return seq

    connection.publish = lossy  # type: ignore[method-assign]
    assert await journal.save("engine", b"one", None) == 1
    broken = False
    assert await journal.save("engine", b"two", 1) == 2
    assert await journal.load("engine") == (b"two", 2)
    assert journal.lost is None
    await journal.aclose()


@pytest.mark.parametrize("cut_off", ["save", "keep_base"])
async def test_a_save_that_was_cut_off_hinders_no_other(connection: NatsConnection, names: Names, cut_off: str) -> None:
    """It may have written the pointer all the same, as when a dispatcher is left while it saves."""
    partition = await declared(connection, names)
    journal = partition.journal()
    await journal.open(SETTINGS)
    await journal.save("engine", b"one", None)
    base = Base(5, 5.0, frozenset({5}), 5, b"one")
    publish_one, hangs = connection.publish, True

    async def hanging(subject: str, *rest: Any, **options: Any) -> int:
        seq = await publish_one(subject, *rest, **options)
        if subject == names.pointer(0) and hangs:
            scope.cancel()
            await anyio.sleep_forever()
        return seq

    connection.publish = hanging  # type: ignore[method-assign]
    with anyio.CancelScope() as scope:
        await (journal.keep_base(base) if cut_off == "keep_base" else journal.save("deliveries", b"x", None))
    assert scope.cancelled_caught
    hangs = False
    assert await journal.save("engine", b"two", 1) == 2
    await journal.keep_base(base._replace(seq=6))
    assert await journal.load("engine") == (b"two", 2)
    assert await journal.load("deliveries") == (None if cut_off == "keep_base" else (b"x", 1))
    assert await journal.base() == Base(6, 5.0, frozenset({5}), 5, b"two")
    await journal.aclose()


async def test_a_takeover_reads_no_marks_after_an_owner_that_left_in_order(
    connection: NatsConnection, names: Names
) -> None:
    """Its last checkpoint has all that was marked."""
    partition = await declared(connection, names)
    for number in range(3):
        owner = Owner(partition)
        async with owner.calls:
            for _ in range(3):
                last = await publish(partition, js("dialout-connected", f"s{number}"))
            await caught_up(owner, last)
            await marked(owner)
        assert owner.journal._store.marks == owner.journal._marks.position > 0


async def test_a_takeover_after_a_crash_reads_the_marks_since_the_checkpoint_before(
    connection: NatsConnection, names: Names
) -> None:
    """The last checkpoint may lack what was marked while it was taken."""
    partition = await declared(connection, names)
    journal = partition.journal()
    await journal.open(SETTINGS)
    await journal.done([1])
    await journal.save("engine", b"one", None)
    between = journal._marks.position
    await journal.done([2])
    await journal.save("engine", b"two", 1)
    await journal.done([3])
    again = partition.journal()
    await again.open(SETTINGS)
    assert again._store.marks == between
    await again.keep_base(Base(5, 5.0, frozenset(), 5, b"two"))
    last = partition.journal()
    await last.open(SETTINGS)
    assert await last.finished([6, 2, 3]) == {2, 3}
    await last.aclose()


async def test_a_checkpoint_leaves_no_pieces_behind(connection: NatsConnection, names: Names) -> None:
    """Also where a save was cut short: the next owner removes them."""
    partition = await declared(connection, names)
    journal = partition.journal()
    await journal.open(SETTINGS)
    await journal.save("engine", bytes(1_200_000), None)
    await pieces_come_to(3, connection, names)
    await journal.save("engine", b"few" * 5000, 1)
    await pieces_come_to(1, connection, names)
    await connection.publish(names.piece(0, "cut-short", 0), b"left behind")
    await journal.aclose()
    again = partition.journal()
    await again.open(SETTINGS)
    await again.tend(None)
    await pieces_come_to(1, connection, names)
    assert await again.load("engine") == (b"few" * 5000, 2)
    await again.save("engine", b"small", 2)
    await pieces_come_to(0, connection, names)
    assert await again.load("engine") == (b"small", 3)
    assert await partition.journal().load("engine") == (b"small", 3)
    await again.aclose()


async def test_a_hand_over_asks_few_questions(connection: NatsConnection, names: Names) -> None:
    """Hundreds of partitions change hands at once, and each stands still until all its questions are answered."""
    partition = await declared(connection, names)
    asked = []
    for _ in range(4):
        before = connection.questions
        owner = Owner(partition)
        async with owner.calls:
            opened = connection.questions - before
            await caught_up(owner, await publish(partition, js("dialout-connected")))
            await marked(owner)
            before = connection.questions
        asked.append((opened, connection.questions - before))
    assert max(opened for opened, _ in asked[1:]) <= 10
    assert max(left for _, left in asked[1:]) <= 3


async def test_what_was_lost_says_so_and_writes_nothing(connection: NatsConnection, names: Names) -> None:
    """Whoever learns first that somebody else owns the partition says so, before the first save is refused."""
    partition = await declared(connection, names)
    journal = partition.journal()
    await journal.open(SETTINGS)
    assert journal.lost is None
    journal.lose("the lease has expired")
    assert repr(journal) == f"<NatsJournal {names.prefix}, partition 0, lost>"
    with pytest.raises(JournalError, match="was lost: the lease has expired"):
        await journal.append([entry("a")])
    with pytest.raises(JournalError, match="was lost"):
        await journal.probe()
    with pytest.raises(RevisionConflict, match="was lost"):
        await journal.save("engine", b"", None)
    await journal.done([1])
    await journal.aclose()
    await journal.open(SETTINGS)
    assert journal.lost is None
    assert await journal.finished([1]) == set()
    await journal.aclose()


async def test_a_dispatcher_whose_partition_is_taken_over_says_so(connection: NatsConnection, names: Names) -> None:
    """Its health says it, and its checkpoint is left alone."""
    partition = await declared(connection, names)
    with structlog.testing.capture_logs() as logs:
        stale, owner = Owner(partition), Owner(partition)
        async with stale.calls:
            await stale.calls.receive(js("dialout-connected", "a"))
            async with owner.calls:
                await owner.calls.receive(js("dialout-answered", "a"))
                await until(lambda: len(stale.seen) == 2)
                await stale.calls._run.checkpoints.save()
                with pytest.raises(JournalError, match="somebody else has opened partition 0"):
                    await stale.calls.receive(js("dialout-stopped", "a"))
                assert "somebody else has opened" in str(stale.calls.not_ready)
                assert owner.calls.not_ready is None
    names_of_lines = [line["event"] for line in logs]
    assert {"journal.lost", "checkpoint.conflict"} <= set(names_of_lines)
    third = Owner(partition)
    async with third.calls:
        assert [str(session.state) for session in third.calls.live()] == ["answered"]


# --- retention ----------------------------------------------------------------------------------------------------


async def test_a_full_stream_is_an_error_at_once_and_takes_events_again(
    connection: NatsConnection, names: Names
) -> None:
    """The journal's health says why, until there is room."""
    partition = await declared(connection, names, max_bytes=1 << 20, partitions=2)
    other = Partition(connection, partition.streams, 1)
    owner = Owner(partition)
    with structlog.testing.capture_logs() as logs:
        async with owner.calls:
            for _ in range(102):
                await publish(other, {**js("dialin-warning", "x"), "errorMsg": "x" * 9_900})
            with pytest.raises(JournalError, match=r"no room for .* maximum bytes exceeded"), anyio.fail_after(20):
                await owner.calls.receive({**js("dialin-warning", "x"), "errorMsg": "x" * 20_000})
            assert "has no room" in str(owner.calls.not_ready)
            await owner.calls._sequencer.health.probe()
            assert f"the stream {names.events} is full" in str(owner.calls.not_ready)
            await connection.ask(f"STREAM.PURGE.{names.events}", {"filter": names.events_of(1)})
            await owner.calls._sequencer.health.probe()
            assert owner.calls.not_ready is None
            await owner.calls.receive(js("dialout-connected", "y"))
    assert "journal.keeps_events_again" in [line["event"] for line in logs]


@pytest.mark.long
async def test_a_small_stream_goes_on_for_ever(
    connection: NatsConnection, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Owners remove what their checkpoints have, once it is half full. What is live stays known, and marks stay."""
    monkeypatch.setattr(_level, "_ASK_EVERY", 0.1)
    monkeypatch.setattr(_journal, "_CHECKPOINTS_APART", 0.1)
    partition = await declared(connection, names, max_bytes=1 << 20)
    owner = Owner(partition)
    refused = 0
    async with owner.calls:
        last = await publish(partition, js("dialout-connected", "first"))
        for number in range(3_000):  # 4 MB
            payload = {**js("dialin-warning", f"s{number % 50}"), "errorMsg": "x" * 1000}
            while True:
                try:
                    last = await publish(partition, payload)
                    break
                except StreamFull:
                    refused += 1
                    await anyio.sleep(0.1)
        await caught_up(owner, last)
        assert refused < 200
    assert sorted(owner.seen) == list(range(1, last + 1))
    second = Owner(partition)
    async with second.calls:
        assert {session.session_id for session in second.calls.sessions()} >= {"first", "s1", "s49"}
    assert second.seen == []


async def test_purging_keeps_what_is_not_over(connection: NatsConnection, names: Names) -> None:
    """All that a checkpoint needs: events of known sessions and of unfinished work stay."""
    partition = await declared(connection, names)
    journal = partition.journal(purge_above=0)
    await journal.open(SETTINGS)
    await journal.append([entry(f"s{number}") for number in range(10)])
    assert await journal.purge() == 0
    await journal.save("engine", b"state", None)
    await journal.keep_base(Base(9, 5.5, frozenset({7, 8}), 7, b"state"))
    assert [record.seq async for record in journal.read()] == [7, 8, 9, 10]
    assert await journal.purge(all_of_them=True) == 3
    assert [record.seq async for record in journal.read()] == [10]
    await journal.aclose()
    base = await partition.journal().base()
    assert base == Base(9, 5.5, frozenset({7, 8}), 7, b"state")


async def test_what_is_read_from_a_base_may_have_run(connection: NatsConnection, names: Names) -> None:
    """Also where the owner before has left the partition in order: its checkpoint said what had begun, and cannot be read."""
    partition = await declared(connection, names)
    redelivered: list[tuple[int, bool]] = []

    async def hang(outcome: Outcome) -> None:
        redelivered.append((outcome.seq or 0, bool(outcome.redelivered)))
        await anyio.sleep_forever()

    for _ in range(2):
        with structlog.testing.capture_logs():
            owner = Owner(partition, hang, drain=0)
            async with owner.calls:
                last = await publish(partition, js("dialout-connected", "s"))
                await until(lambda: bool(owner.seen))  # noqa: B023
                await until(lambda: owner.calls._sequencer.seq == last)  # noqa: B023
        journal = partition.journal()
        await journal.open(SETTINGS)
        kept = await journal.load("engine")
        assert kept is not None
        await journal.save("engine", b"damaged", kept[1])
        await journal.aclose()
    assert redelivered == [(1, False), (1, True)]


async def test_a_checkpoint_that_cannot_be_read_is_replaced_by_the_events_that_are_left(
    connection: NatsConnection, names: Names
) -> None:
    """From the lowest number that the checkpoint needed: nobody is retired twice, nothing runs again."""
    partition = await declared(connection, names)
    owner = Owner(partition)
    owner.journal._purge_above = 0
    async with owner.calls:
        for number in range(30):
            await publish(partition, js("dialout-connected", f"s{number}"))
            last = await publish(partition, js("dialout-stopped", f"s{number}"))
        await caught_up(owner, last)
        await owner.calls._run.checkpoints.save()
        last = await publish(partition, js("dialout-connected", "s30"))
        await caught_up(owner, last)
    journal = partition.journal()
    await journal.open(SETTINGS)
    kept = await journal.load("engine")
    assert kept is not None
    await journal.save("engine", b"damaged", kept[1])
    await journal.aclose()
    second = Owner(partition)
    with structlog.testing.capture_logs() as logs:
        async with second.calls:
            assert {session.session_id for session in second.calls.sessions()} == {f"s{n}" for n in range(31)}
    assert "checkpoint.unreadable" in {line["event"] for line in logs}
    assert second.seen == []


# --- dead letters -------------------------------------------------------------------------------------------------


async def test_letters_of_other_partitions_are_not_ours(connection: NatsConnection, names: Names) -> None:
    """Their numbers come from one stream."""
    first = await declared(connection, names, partitions=2)
    journals = [first.journal(), Partition(connection, first.streams, 1).journal()]
    for journal in (*journals, journals[0]):
        await journal.add_dead_letters([DeadLetter(0, "ParseError", None, "x", 5.0)])
    assert [[kept.number async for kept in journal.dead_letters()] for journal in journals] == [[1, 3], [2]]
    await journals[0].request_retry([1, 2, 3])
    await journals[0].drop_dead_letters([2, 3])
    assert [[kept.number async for kept in journal.dead_letters()] for journal in journals] == [[1], [2]]
    assert [kept.number async for kept in journals[1].dead_letters(retry_requested=True)] == []
    assert [kept.number async for kept in journals[0].dead_letters(retry_requested=True)] == [1]


async def test_a_letter_that_is_too_large_is_kept_without_its_payload(connection: NatsConnection, names: Names) -> None:
    """The event has it; a letter that could not be written would hold up every checkpoint."""
    partition = await declared(connection, names)
    journal = partition.journal()
    await journal.open(SETTINGS)
    noise = Random(5).randbytes(760_000)
    payload = b'{"action":"x","noise":"' + b64encode(noise) + b'"}'
    await journal.append([Entry(time(), "daily-js", payload)])
    facts = {"more": b64encode(Random(6).randbytes(500_000)).decode()}
    letters = [
        DeadLetter(1, "ValueError", "greet", "x", 5.0, "daily-js", payload, facts),
        DeadLetter(0, "ParseError", None, "y", 6.0, "daily-js", noise * 2),
    ]
    await journal.add_dead_letters(letters)
    kept = [one.letter async for one in journal.dead_letters()]
    assert kept[0] == letters[0]
    assert kept[1] == letters[1]._replace(payload=b"", detail="y (too large to keep)")
    await journal.aclose()


async def test_a_letter_whose_answer_is_lost_is_kept_once(connection: NatsConnection, names: Names) -> None:
    """It is added again by whoever was told that it failed."""
    journal = (await declared(connection, names)).journal()
    publish_one, broken = connection.publish, True

    async def lossy(*message: Any, **options: Any) -> int:
        seq = await publish_one(*message, **options)
        if broken:
            raise JournalError("no answer")
        return seq

    connection.publish = lossy  # type: ignore[method-assign]
    letter = DeadLetter(0, "ParseError", None, "x", 5.0)
    with pytest.raises(JournalError):
        await journal.add_dead_letters([letter])
    broken = False
    await journal.add_dead_letters([letter])
    assert [kept.number async for kept in journal.dead_letters()] == [1]
    await journal.add_dead_letters([letter])
    assert [kept.number async for kept in journal.dead_letters()] == [1, 2]


# --- a whole dispatcher -------------------------------------------------------------------------------------------


async def test_a_replay_of_the_stream_equals_the_live_state(connection: NatsConnection, names: Names) -> None:
    """Own events and those of receivers, interleaved; every handler once."""
    partition = await declared(connection, names, partitions=3)
    owner = Owner(partition)
    rng = Random(7)
    async with owner.calls:

        async def receive() -> None:
            for _ in range(60):
                action = rng.choice(["connected", "answered", "stopped", "error", "warning"])
                await owner.calls.receive(js(f"dialout-{action}", f"s{rng.randrange(20)}"))

        async def receive_elsewhere(room: str) -> None:
            for _ in range(60):
                action = rng.choice(["connected", "stopped", "error", "warning"])
                await publish(partition, js(f"dialin-{action}", f"s{rng.randrange(20)}"), room=room)

        async with anyio.create_task_group() as group:
            group.start_soon(receive)
            group.start_soon(receive_elsewhere, partition.room)
            group.start_soon(receive_elsewhere, "another-room")
        last = await publish(partition, js("dialout-connected", "last"))
        await caught_up(owner, last)
        replayed = await engine_of(partition, owner)
        assert replayed.snapshot() == owner.engine.snapshot()
        numbers = [record.seq async for record in partition.journal().read()]
    assert sorted(owner.seen) == numbers
    assert len(set(owner.seen)) == len(owner.seen)


async def test_a_takeover_goes_on_where_the_owner_before_was(connection: NatsConnection, names: Names) -> None:
    """Over many owners, some of which crash: no gap, nothing twice but what was unfinished."""
    partition = await declared(connection, names)
    seen: list[int] = []
    last = 0
    for number in range(8):
        owner = Owner(partition)
        async with owner.calls:
            for _ in range(5):
                last = await publish(partition, js("dialout-connected", f"s{last}"))
            await caught_up(owner, last)
            await marked(owner)
            if number % 2:
                owner.journal.lose("a crash of its own")
        seen += owner.seen
        last = await publish(partition, js("dialout-connected", f"between{last}"))
    owner = Owner(partition)
    async with owner.calls:
        await caught_up(owner, last)
        assert len(owner.calls.live()) == last
        assert not any(session.uncertain for session in owner.calls.live())
    assert sorted(seen + owner.seen) == list(range(1, last + 1))
