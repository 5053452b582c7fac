"""Notifications reach receivers that verify them: signed, in order, at least once, and without anybody waiting for them."""

from __future__ import annotations

import logging
import socket
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from datetime import timedelta
from pathlib import Path
from traceback import format_exception
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream
from starlette.responses import Response, StreamingResponse

from telstate import DefinitionError, Dispatcher, Router, Session, Settings
from telstate.control import NotificationKind, Notifier, NotifyTarget
from telstate.control._poster import NotPosted, Poster, is_public
from telstate.journals import MemoryJournal, SqliteJournal
from telstate.routing import _work_log
from telstate.testing import FakeClock
from telstate.views import FIELDS, Condition
from tests.calls import js
from tests.control.notifying import OTHER_SECRET, SECRET, Received, Receiver, receiver, status
from tests.ports import free_port
from tests.routing import until
from tests.soak.run import copied

pytestmark = pytest.mark.anyio

LOCAL = ["127.0.0.1"]
STARTED, ANSWERED, ENDED, RETIRED = "call.started", "call.answered", "call.ended", "call.retired"
HOUR = 3600.0
SHORT = Settings(retention=0.3, key_ttl=0.3, parked_ttl=0.3, silence_before_answer=0.2, hold_limit=0.2)


@pytest.fixture
def anyio_backend() -> str:
    """The receivers are on asyncio."""
    return "asyncio"


@asynccontextmanager
async def told(*targets: NotifyTarget | Receiver, **how: Any) -> AsyncIterator[Dispatcher]:
    """Run a dispatcher that tells receivers."""
    made = [one if isinstance(one, NotifyTarget) else NotifyTarget(one.url, SECRET) for one in targets]
    limits = {name: how.pop(name) for name in ("keep_trying", "timeout", "at_once") if name in how}
    notifier = Notifier(*made, allow=LOCAL, **limits)
    async with Dispatcher(how.pop("router", Router()), notify=notifier, **how) as calls:
        yield calls


async def call(calls: Dispatcher, name: str) -> None:
    """Receive the events of a whole call."""
    for action in ("dialout-connected", "dialout-answered", "dialout-stopped"):
        await calls.receive(js(action, name, destination="+12025550100"))


@pytest.mark.parametrize("kept", [True, False], ids=["sqlite", "memory"])
async def test_a_call_is_told_from_its_start_to_its_last_record(kept: bool, tmp_path: Path) -> None:
    """Each with the whole record as it was then, unmasked; the last one has what came after the end."""
    journal = SqliteJournal(tmp_path / "calls.db") if kept else MemoryJournal()
    clock = FakeClock()  # in real time it could be forgotten before the late news
    async with receiver() as got, told(got, journal=journal, settings=SHORT, clock=clock) as calls:
        await call(calls, "a")
        await calls.receive(js("dialout-error", "a", errorMsg="late news"))
        while len(got.accepted) < 4:
            await clock.advance(0.05)
            await anyio.sleep(0.01)
    assert got.kinds() == [("a", kind) for kind in (STARTED, ANSWERED, ENDED, RETIRED)]
    records = [one.data["session"] for one in got.accepted]
    assert [record["state"] for record in records] == ["connected", "answered", "stopped", "error"]
    assert {record["destination"] for record in records} == {"+12025550100"}
    assert [record["amended"] for record in records] == [False, False, False, True]
    assert len({one.id for one in got.accepted}) == 4
    assert all(one.id.startswith("msg_") and "." not in one.id for one in got.accepted)


async def test_an_end_that_nobody_reported_is_told_once() -> None:
    """A silence limit ended the call; a lost caller has a message of their own."""
    clock = FakeClock()
    async with receiver() as got, told(got, settings=SHORT, clock=clock) as calls:
        await calls.receive(js("dialout-connected", "a"))
        await calls.receive({"From": "+12025550111", "To": "+12025550100", "callId": "c", "callDomain": "d"})
        while len(got.accepted) < 4:
            await clock.advance(0.05)
            await anyio.sleep(0.01)
    assert [kind for key, kind in got.kinds() if key == "a"] == [STARTED, ENDED, RETIRED]
    ended = next(one.data["session"] for one in got.accepted if one.type == ENDED)
    assert (ended["cause"], ended["end_source"]) == ("expired", "assumed")
    (lost,) = [one.data["caller"] for one in got.accepted if one.type == "caller.lost"]
    assert lost["from"] == "+12025550111"


async def test_a_refused_message_holds_up_its_call_alone() -> None:
    """It is sent again with the same id and body, before the next ones of its call."""
    refused = Counter[str]()

    async def answer(_: Receiver, one: Received) -> Response | None:
        if one.key == "a" and one.type == STARTED and refused[one.id] < 2:
            refused[one.id] += 1
            return status(500)
        return None

    clock = FakeClock()
    async with receiver(answer) as got, told(got, clock=clock) as calls:
        await call(calls, "a")
        await call(calls, "b")
        await got.has(3)
        assert got.kinds() == [("b", kind) for kind in (STARTED, ANSWERED, ENDED)]
        while len(got.accepted) < 6:
            await clock.advance(1)
            await anyio.sleep(0.01)
    of_a = [one for one in got.received if one.key == "a"]
    assert [one.type for one in of_a] == [STARTED, STARTED, STARTED, ANSWERED, ENDED]
    assert len({(one.id, one.body) for one in of_a[:3]}) == 1


@pytest.mark.long
async def test_a_dead_and_a_slow_receiver_hold_up_nobody(tmp_path: Path) -> None:
    """Neither another receiver nor handlers nor the end of the program; what waits is sent after a restart, in order."""
    handled: list[str] = []
    router = Router()

    @router.on_end()
    async def ended(session: Session) -> None:
        handled.append(session.session_id)

    over = anyio.Event()

    async def hang(*_: object) -> Response:
        await over.wait()
        return status(500)

    port = free_port()
    dead = NotifyTarget(f"http://127.0.0.1:{port}/hook/", SECRET, name="dead")
    path = tmp_path / "calls.db"
    async with receiver(hang) as slow, receiver() as healthy:
        hanging = NotifyTarget(slow.url, SECRET, name="slow")
        began = anyio.current_time()
        async with told(
            dead, hanging, healthy, router=router, journal=SqliteJournal(path), timeout=0.3, drain=60
        ) as calls:
            for number in range(20):
                await call(calls, f"s{number}")
            await healthy.has(60)
            await until(lambda: len(handled) == 20)
            await until(lambda: slow.received)
        assert anyio.current_time() - began < 40
        assert slow.accepted == []
        over.set()
    async with receiver() as back:
        revived = [NotifyTarget(back.url, SECRET, name=name) for name in ("dead", "slow")]
        async with told(*revived, journal=SqliteJournal(path)):
            await back.has(120)
    for number in range(20):
        kinds = Counter(kind for key, kind in back.kinds() if key == f"s{number}")
        assert kinds == {STARTED: 2, ANSWERED: 2, ENDED: 2}
    assert len({one.id for one in back.accepted}) == 60


def all_marked(path: Path) -> bool:
    """Whether the handlers of all events of a journal are marked as done."""
    with closing(sqlite3.connect(path)) as database:
        left = database.execute("SELECT seq FROM events WHERE seq NOT IN (SELECT number FROM done)").fetchall()
    return not left


async def test_what_a_crash_left_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events whose messages were not written; nothing that was sent comes again, nor what came before anybody was to be told."""
    path = tmp_path / "calls.db"
    async with Dispatcher(Router(), journal=SqliteJournal(path)) as calls:
        await calls.receive(js("dialout-connected", "old"))
        await until(lambda: all_marked(path))
        early = copied(path, tmp_path / "early.db")
    monkeypatch.setattr(_work_log, "_FLUSH_AFTER", 60)  # the events are written, what follows from them is not
    async with receiver() as got, told(got, journal=SqliteJournal(early)) as calls:
        await call(calls, "a")
        crashed = copied(early, tmp_path / "crashed.db")
        assert got.received == []
    monkeypatch.undo()
    left = SqliteJournal(crashed)
    async with receiver() as again, told(again, journal=left) as calls:
        await again.has(3)
        await until(lambda: all_marked(crashed))
        while sum((await left.count_messages()).values()):  # noqa: ASYNC110 - a file tells nobody
            await anyio.sleep(0.01)
        sent = copied(crashed, tmp_path / "sent.db")
    assert [(one.id, one.body) for one in again.accepted] == [(one.id, one.body) for one in got.accepted]
    assert again.kinds() == [("a", kind) for kind in (STARTED, ANSWERED, ENDED)]
    async with receiver() as nothing, told(nothing, journal=SqliteJournal(sent)) as calls:
        await calls.idle()
        await call(calls, "b")
        await nothing.has(3)
    assert {key for key, _ in nothing.kinds()} == {"b"}


async def test_a_receiver_gets_what_it_wants() -> None:
    """By kind, and by a condition on the record; a condition that raises keeps nobody else from being told."""

    def bad(_: object) -> bool:
        raise ValueError("on purpose")

    async with receiver() as ends, receiver() as long, receiver() as none:
        targets = [
            NotifyTarget(ends.url, SECRET, events=[NotificationKind.CALL_ENDED]),
            NotifyTarget(
                long.url, SECRET, where=Condition('destination == "+12025550100" and answered_at', FIELDS).holds
            ),
            NotifyTarget(none.url, SECRET, where=bad),
        ]
        async with told(*targets) as calls:
            await call(calls, "a")
            await calls.receive(js("dialout-connected", "b"))
            await ends.has(1)
            await long.has(2)
    assert ends.kinds() == [("a", ENDED)]
    assert long.kinds() == [("a", ANSWERED), ("a", ENDED)]
    assert none.received == []


async def test_two_secrets_serve_receivers_with_either() -> None:
    """So a receiver can go over from one to the next."""
    async with receiver(secret=SECRET) as old, receiver(secret=OTHER_SECRET) as new:
        targets = [NotifyTarget(one.url, [SECRET, OTHER_SECRET]) for one in (old, new)]
        async with told(*targets) as calls:
            await call(calls, "a")
            await old.has(3)
            await new.has(3)


def notices(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines of the log about dead letters."""
    return [line for line in caplog.messages if line.startswith("notify.dead_letter")]


async def test_a_receiver_that_is_gone_gets_nothing_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """410: what waits is dead letters, and can be sent again by the next start."""

    all_wait = anyio.Event()

    async def gone(*_: object) -> Response:
        await all_wait.wait()
        return status(410)

    path = tmp_path / "calls.db"
    async with receiver(gone) as got:
        target = NotifyTarget(got.url, SECRET, name="crm")
        async with told(target, journal=SqliteJournal(path)) as calls:
            await call(calls, "a")
            await until(lambda: got.received)
            all_wait.set()
            await until(lambda: len(notices(caplog)) == 3)
            await call(calls, "b")
            letters = [kept.letter for kept in await calls.dead_letters.list()]
            counted = {kind: number for kind, number in calls.vitals().dead_letters.items() if number}
    assert counted == {"not-delivered": 3}
    assert [letter.reason for letter in letters] == ["Gone"] * 3
    assert {letter.handler for letter in letters} == {"notify crm"}
    assert len(got.received) == 1
    assert all(letter.facts and letter.facts["notification"]["body"]["data"]["session"] for letter in letters)
    async with (
        receiver() as back,
        told(NotifyTarget(back.url, SECRET, name="crm"), journal=SqliteJournal(path)) as calls,
    ):
        await calls.dead_letters.retry(1, 2, 3)
        await back.has(3)
        assert await calls.dead_letters.list() == []
    assert back.kinds() == [("a", kind) for kind in (STARTED, ANSWERED, ENDED)]


@pytest.mark.long
async def test_a_message_is_given_up_in_the_end() -> None:
    """With growing pauses until then. A receiver that fails altogether is asked with one message at a time."""

    async def fail(*_: object) -> Response:
        return status(503)

    clock = FakeClock()
    async with receiver(fail) as got, told(got, clock=clock, keep_trying=timedelta(hours=6)) as calls:
        for number in range(30):
            await calls.receive(js("dialout-connected", f"s{number}"))
        await until(lambda: len(got.received) >= 16)
        before = len(got.received)
        for _ in range(60):
            await clock.advance(60)
            await anyio.sleep(0.005)
        assert len(got.received) - before < 100  # of 30 messages in an hour
        letters: Sequence[Any] = []
        with anyio.fail_after(60):
            while not letters:
                await clock.advance(HOUR / 6)
                await anyio.sleep(0.005)
                letters = await calls.dead_letters.list()
        assert clock.now() - 1_790_000_000.0 >= 6 * HOUR
    assert letters[0].letter.reason == "NotDelivered"
    assert "it answered 503" in letters[0].letter.detail


@pytest.mark.long
async def test_what_waits_for_a_receiver_that_is_down_for_ever_is_bounded(tmp_path: Path) -> None:
    """What is older than a receiver is waited for is given up without an attempt of its own, also where far more comes than is tried."""

    async def fail(*_: object) -> Response:
        return status(503)

    clock, journal = FakeClock(), SqliteJournal(tmp_path / "calls.db")
    async with receiver(fail) as got:
        target = NotifyTarget(got.url, SECRET, events=[STARTED])
        async with told(target, clock=clock, journal=journal, keep_trying=timedelta(hours=6)) as calls:
            for hour in range(12):
                await calls.receive_many([js("dialout-connected", f"{hour} {number}") for number in range(100)])
                for _ in range(12):
                    await clock.advance(HOUR / 12)
                    await anyio.sleep(0.01)
            with anyio.fail_after(100):
                while sum((waiting := await journal.count_messages()).values()) > 700:  # noqa: ASYNC110 - a file tells nobody
                    await anyio.sleep(0.05)
            letters = await calls.dead_letters.list()
    assert {kept.letter.reason for kept in letters} == {"NotDelivered"}
    assert any("it accepts nothing" in kept.letter.detail for kept in letters)
    assert 500 < sum(waiting.values()) <= 700
    assert len(got.received) < 300


@pytest.mark.long
async def test_when_a_receiver_is_back_what_waited_goes_at_once() -> None:
    """No message waits for the end of its own pause."""
    is_away = True

    async def answer(*_: object) -> Response | None:
        return status(500) if is_away else None

    clock = FakeClock()
    async with receiver(answer) as got, told(got, clock=clock) as calls:
        for number in range(30):
            await calls.receive(js("dialout-connected", f"s{number}"))
        for _ in range(30):
            await clock.advance(60)
            await anyio.sleep(0.01)
        is_away = False
        back = clock.now()
        while not got.accepted:
            await clock.advance(10)
            await anyio.sleep(0.05)
        assert clock.now() - back < 300, "no message was tried for as long as that any more"
        await got.has(30)  # the clock stands still


@pytest.mark.long
async def test_retry_after_is_kept_and_redirects_are_not_followed() -> None:
    """Neither is a success."""
    answers = [status(503, retry_after="300"), status(307, location="/hook/elsewhere"), status(204)]

    async def answer(receiver: Receiver, _: object) -> Response:
        return answers[len(receiver.received) - 1]

    clock = FakeClock()
    async with receiver(answer) as got, told(got, clock=clock) as calls:
        await calls.receive(js("dialout-connected", "a"))
        began = clock.now()
        await until(lambda: len(got.received) == 1)
        while len(got.received) < 2:
            await clock.advance(2)
            await anyio.sleep(0.01)
        assert clock.now() - began >= 300
        while not got.accepted:
            await clock.advance(2)
            await anyio.sleep(0.01)
    assert len({one.id for one in got.received}) == 1


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"


@asynccontextmanager
async def tcp_receiver(serve: Callable[[SocketStream], Awaitable[None]]) -> AsyncIterator[str]:
    """Serve what need not be HTTP; give the URL."""

    async def serve_one(stream: SocketStream) -> None:
        async with stream:
            await serve(stream)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve_one)
        port = listener.listeners[0].extra(SocketAttribute.local_port)  # noqa: S610 - not Django
        yield f"http://127.0.0.1:{port}/hidden-path"
        group.cancel_scope.cancel()


async def posted(answer: bytes, *, then_hangs: bool) -> list[int | str]:
    """The statuses that two messages get from a receiver that answers with these bytes, on one connection at a time; or the problem."""

    async def serve(stream: SocketStream) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):  # it gave up, because the machine stood still
            await stream.receive()
            await stream.send(answer)
        if then_hangs:
            await anyio.sleep_forever()

    found: list[int | str] = []
    async with tcp_receiver(serve) as url:
        poster = Poster(url, any_address=True, timeout=0.1 if then_hangs else 20, connections=1, tls=None)
        for _ in range(2):
            try:
                found.append((await poster.post(b"{}", {})).status)
            except NotPosted as error:
                found.append(str(error))
        await poster.aclose()
    return found


@pytest.mark.parametrize("then_hangs", [True, False], ids=["hangs", "breaks off"])
@pytest.mark.parametrize("body", [b"", b"{"], ids=["nothing", "some"])
async def test_the_status_decides_whatever_becomes_of_the_body(body: bytes, *, then_hangs: bool) -> None:
    """The receiver has the message then, and must not get it again for a day; and there is room for the next one."""
    for status_ in (200, 503):
        for _ in range(10):
            found = await posted(HEAD.replace(b"200", b"%d" % status_) + body, then_hangs=then_hangs)
            if found == [status_] * 2:  # else the machine stood still for longer than an answer may take
                break
        assert found == [status_] * 2


async def test_half_a_status_is_no_answer() -> None:
    """So the message comes again."""
    assert await posted(HEAD[:20], then_hangs=True) == ["no answer within 0.1 seconds"] * 2


@pytest.mark.long
async def test_an_answer_without_end_is_cut_off() -> None:
    """A long body is not read, and one that drips holds up nothing: each message comes once."""

    async def long() -> AsyncIterator[bytes]:
        for _ in range(1_000):
            yield b"x" * 65_536

    async def drip() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await anyio.sleep(0.05)

    async def answer(receiver: Receiver, _: object) -> Response | None:
        bodies = [long, drip]
        return StreamingResponse(bodies[len(receiver.received) - 1]()) if len(receiver.received) <= 2 else None

    async with receiver(answer) as got, told(got, timeout=2.0, at_once=1) as calls:
        for count, name in enumerate("abcd", 1):
            await calls.receive(js("dialout-connected", name))
            await got.has(count)
        await anyio.sleep(2)  # in which a message would come again
    assert [one.key for one in got.received] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
        ),
        *(
            "::1",
            "::",
            "fe80::1",
            "fe80::1%eth0",
            "fec0::1",
            "fc00::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "ff02::1",
        ),
        *(
            "2002:7f00:1::",
            "2001:0:a00:1::",
            "::127.0.0.1",
            "240.0.0.1",
            "224.0.0.1",
            "198.18.0.1",
            "nonsense",
            "2001:db8::1",
        ),
    ],
)
def test_an_address_that_is_not_public(address: str) -> None:
    """Whatever it is spelled as, or inside of."""
    assert not is_public(address)


def test_an_address_that_is_public() -> None:
    """Also inside another one."""
    assert all(map(is_public, ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]))


@pytest.mark.parametrize("name", ["localhost", "0x7f.1", "2130706433", "127.1"])
async def test_a_private_address_is_not_connected_to(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever its name; only a host that is allowed by its name is."""
    reached: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server, caplog.at_level(logging.WARNING, "telstate"):
        server.setblocking(False)
        target = NotifyTarget(f"https://{name}:{server.getsockname()[1]}/", SECRET)
        async with told(target) as calls:
            await calls.receive(js("dialout-connected", "a"))
            await until(lambda: "not a public address" in caplog.text)
        with pytest.raises(BlockingIOError):
            reached.append(server.accept())
    assert reached == []


async def test_a_name_that_changes_its_address_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection goes to the address that was checked: the name is looked up once for each."""
    real, looked_up = socket.getaddrinfo, list[str]()

    def look_up(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        looked_up.append(host)
        if host == "rebinding.example":
            address = "192.0.0.9" if looked_up.count(host) == 1 else "127.0.0.1"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]
        return real(host, port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    connected: list[str] = []

    async def connect(self: object, host: str, *rest: Any) -> Any:
        import httpcore

        connected.append(host)
        raise httpcore.ConnectError("no network here")

    monkeypatch.setattr("httpcore.AnyIOBackend.connect_tcp", connect)
    async with told(NotifyTarget("https://rebinding.example/", SECRET)) as calls:
        await calls.receive(js("dialout-connected", "a"))
        await until(lambda: looked_up.count("rebinding.example") >= 2, 10)
    assert connected in (["192.0.0.9"], [])


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://example.com/", "needs https"),
        ("https://user:pw-in-url@example.com/", "no user and no password"),
        ("ftp://example.com/", "begins with https://"),
        ("https:///path", "begins with https://"),
        ("https://example.com/#part", "without a fragment"),
        ("https://example.com:99999/", "cannot be read"),
        ("https://example.com:pw-in-url/", "cannot be read"),
        ("https://user:pw-in-url@ex\u2100mple.com/", "cannot be read"),
        ("https://[::1]~pw-in-url", "cannot be read"),
        ("https://exa mple.com/", "plain ASCII|cannot be read"),
    ],
)
def test_an_url_that_cannot_be_right_is_refused(url: str, problem: str) -> None:
    """And no message shows a password."""
    with pytest.raises(ValueError, match=problem) as raised:
        Notifier(NotifyTarget(url, SECRET))
    assert "pw-in-url" not in "".join(format_exception(raised.value, chain=True)).replace(url, "")


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "not base64 at all"])
def test_a_weak_secret_is_refused(secret: str) -> None:
    """It is not shown."""
    with pytest.raises(ValueError, match="at least 24 random bytes") as raised:
        NotifyTarget("https://example.com/", secret)
    assert secret == "" or secret not in str(raised.value).replace("`whsec_`", "").replace("whsec_$", "")


def test_what_else_is_refused() -> None:
    """Each with what to do."""
    with pytest.raises(ValueError, match=r"'call.end' is none of call.started"):
        NotifyTarget("https://example.com/", SECRET, events=["call.end"])
    with pytest.raises(ValueError, match="needs a secret"):
        NotifyTarget("https://example.com/", [])
    one = NotifyTarget("https://example.com/", SECRET)
    with pytest.raises(ValueError, match="same name"):
        Notifier(one, one)
    with pytest.raises(ValueError, match="timeout="):
        Notifier(one, timeout=0)
    assert SECRET not in repr(one)

    class Bare(MemoryJournal):
        add_messages = None  # type: ignore[assignment]

    with pytest.raises(DefinitionError, match="Bare does not"):
        Dispatcher(Router(), journal=Bare(), notify=Notifier(one))


async def test_neither_secrets_nor_paths_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong."""

    async def fail(*_: object) -> Response:
        return status(500)

    async with receiver(fail) as got:
        target = NotifyTarget(f"{got.url}/hidden-path", SECRET)
        with caplog.at_level(logging.DEBUG, "telstate"):
            async with told(target, keep_trying=timedelta(0)) as calls:
                await calls.receive(js("dialout-connected", "a", destination="+12025550177"))
                await until(lambda: "notify.failed" in caplog.text)
    lines = [record.getMessage() for record in caplog.records if record.name == "telstate"]
    assert lines
    for hidden in (SECRET, SECRET.removeprefix("whsec_"), "hidden-path", "2025550177"):
        assert not any(hidden in line for line in lines)


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 200 OK\r\n"], ids=["echo", "header"])
async def test_what_a_receiver_repeats_is_not_logged(before: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """One that speaks no HTTP may send the request back: its path, and the record."""

    async def echo(stream: SocketStream) -> None:
        await stream.send(before + await stream.receive())

    async with tcp_receiver(echo) as url, told(NotifyTarget(url, SECRET)) as calls:
        await calls.receive(js("dialout-connected", "a", destination="+12025550177"))
        await until(lambda: "notify.failed" in caplog.text)
    assert "RemoteProtocolError" in caplog.text
    assert "hidden-path" not in caplog.text
    assert "2025550177" not in caplog.text


async def test_messages_for_a_receiver_that_there_is_no_more_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They wait for one of that name."""

    async def fail(*_: object) -> Response:
        return status(500)

    path = tmp_path / "calls.db"
    async with receiver(fail) as got:
        async with told(NotifyTarget(got.url, SECRET, name="old"), journal=SqliteJournal(path)) as calls:
            await calls.receive(js("dialout-connected", "a"))
            await until(lambda: got.received)
        with caplog.at_level(logging.WARNING, "telstate"):
            async with told(NotifyTarget(got.url, SECRET, name="new"), journal=SqliteJournal(path)):
                await until(lambda: "notify.no_receiver" in caplog.text)
    assert "target=old" in caplog.text
