"""The configuration in the README, on a real server with TLS: each role can do its work, and nothing else."""

from __future__ import annotations

import re
import ssl
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
from nats.aio.msg import Msg
from nats.errors import Error as ClientError

from telstate import Dispatcher, JournalError, ParseError, Router, State
from telstate.events import Dialect
from telstate.journals.nats import Names, NatsConnection, NatsJournal, Publisher, StreamSettings, Worker, declare
from telstate.journals.nats._errors import NatsNotPermitted
from telstate.routing._ports import DeadLetter
from tests.cli.running import json_lines, telstate
from tests.documents import blocks
from tests.nats_server import NatsServer
from tests.routing import until

pytestmark = [pytest.mark.anyio, pytest.mark.long]

NAMES = Names("telstate", "production")
PASSWORDS = {"receiver": "secret-r", "worker": "secret-w", "reader": "secret-l"}
ANSWERED = {
    "type": "dialout.answered",
    "id": "1",
    "payload": {"session_id": "s1", "room": "lobby", "timestamp": "1790000000"},
}


class Guarded(NamedTuple):
    """A server with users."""

    server: NatsServer
    authority: Path

    def connection(self, role: str, **changed: Any) -> NatsConnection:
        """A connection of a role, as the README says."""
        options: dict[str, Any] = {
            "user": role,
            "password": PASSWORDS[role],
            "inbox_prefix": f"_INBOX_{role}",
            "tls": ssl.create_default_context(cafile=str(self.authority)),
        }
        return NatsConnection(self.server.url, **{**options, **changed})

    def environment(self, role: str) -> dict[str, str | None]:
        """What commands of a role find."""
        return {
            "TELSTATE_NATS_USER": role,
            "TELSTATE_NATS_PASSWORD": PASSWORDS[role],
            "TELSTATE_NATS_INBOX": f"_INBOX_{role}",
            "TELSTATE_NATS_CA": str(self.authority),
        }


def certificates(folder: Path) -> None:
    """Make an authority of our own, and a certificate of this machine."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    more = ["-CAcreateserial", "-days", "2", "-out", "server.pem", "-extfile", "names"]
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for command in (
        ["req", "-x509", *key, "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=tests", "-days", "2"],
        ["req", *key, "-keyout", "server-key.pem", "-out", "server.csr", "-subj", "/CN=localhost"],
        ["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca-key.pem", *more],
    ):
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server with the README's configuration, but for its paths and passwords."""
    folder = tmp_path_factory.mktemp("guarded")
    certificates(folder)
    (block,) = blocks("conf")
    config = re.sub(r"^jetstream .*\n", "", block.text, flags=re.MULTILINE)
    for name in ("server.pem", "server-key.pem", "ca.pem"):
        config = config.replace(f'"{name}"', f'"{folder / name}"')
    for role, password in PASSWORDS.items():
        config = config.replace(f"${role.upper()}_PASSWORD", f'"{password}"')
    assert "$" not in config.replace("$JS.API", "")
    with NatsServer(folder / "nats", config, jetstream=re.findall(r"sync_interval: \w+", block.text)[0]) as server:
        yield Guarded(server, folder / "ca.pem")


async def prepared(guarded: Guarded) -> None:
    """Declare the streams, as the first worker does."""
    async with guarded.connection("worker") as connection:
        await declare(connection, NAMES, StreamSettings(partitions=2, max_bytes=1 << 24))


async def test_a_worker_can_do_its_work(guarded: Guarded) -> None:
    """Declare, own, step, mark, save, purge, keep dead letters, retry and drop them."""
    await prepared(guarded)
    router = Router()
    handled: list[str] = []

    @router.on_state(State.ANSWERED)
    async def work() -> None:
        handled.append("x")

    async with guarded.connection("receiver") as connection, Publisher(connection, NAMES) as publisher:
        await publisher.receive(ANSWERED, Dialect.WEBHOOK)
    worker = Worker(router, guarded.connection("worker"), names=NAMES, ttl=2.0)
    async with anyio.create_task_group() as group:
        group.start_soon(worker.run)
        await until(lambda: handled, 20)
        await until(lambda: [one.is_open for one in worker.partitions()] == [True, True], 20)
        worker.shut_down()
    async with guarded.connection("worker") as connection:
        streams = await declare(connection, NAMES)
        journal = NatsJournal(connection, streams, 0, purge_above=0)
        async with Dispatcher(router, journal=journal) as calls:
            await calls.add_dead_letter(b"{", ParseError("", "JSON", "{"), Dialect.WEBHOOK)
            await calls.idle()
        await journal.open({})
        await journal.add_dead_letters([DeadLetter(0, "X", None, "", 0.0)])
        numbers = [kept.number async for kept in journal.dead_letters()]
        await journal.request_retry(numbers[:1])
        await journal.drop_dead_letters(numbers)
        await journal.purge()
        await journal.aclose()


async def test_a_reader_can_read(guarded: Guarded) -> None:
    """By every command, with the certificate of the authority that the environment names."""
    await prepared(guarded)
    url = f"{guarded.server.url}/telstate/production"
    async with guarded.connection("receiver") as connection, Publisher(connection, NAMES) as publisher:
        await publisher.receive(ANSWERED, Dialect.WEBHOOK)
    env = guarded.environment("reader")

    def read() -> None:
        found = json_lines(telstate("replay", "--json", url, env=env))
        assert found[0]["session"]["session_id"] == "s1"
        for verb in ("tail", "calls", "ladder", "export", "dead list", "lint", "redact"):
            run = telstate(*verb.split(), url, env=env)
            assert (run.returncode, run.stderr) == (0, b""), (verb, run)
        run = telstate("replay", url, env=guarded.environment("receiver"))
        assert run.returncode == 2
        assert b"may not publish to $js.api.stream.info.telstate-production-events" in run.stderr
        run = telstate("import", "-", url, given=b'{"v":1,"journal":"x","settings":{}}\n', env=env)
        assert run.returncode == 2
        assert b"may not publish to $js.api.stream.info.telstate-production-owners" in run.stderr
        without = {**env, "TELSTATE_NATS_CA": None}
        assert b"certificate" in telstate("replay", url, env=without).stderr
        wrong = {**env, "TELSTATE_NATS_PASSWORD": "guess"}
        assert b"does not let this user in" in telstate("replay", url, env=wrong).stderr
        no_file = {**env, "TELSTATE_NATS_CA": "nowhere.pem"}
        assert b"TELSTATE_NATS_CA" in telstate("replay", url, env=no_file).stderr

    await anyio.to_thread.run_sync(read)


P = "telstate-production"
PUBLISHING: dict[str, list[str]] = {
    "receiver": [
        f"{P}.ev.0.own",
        f"{P}.ev.0.in",
        f"{P}.done.0",
        f"{P}.again.0",
        f"{P}.dead.0",
        f"{P}.state.0.pointer",
        f"{P}.own.p.0",
        f"{P}.in.a.b",
        "other-production.in.a",
    ],
    "reader": [
        f"{P}.in.lobby",
        f"{P}.ev.0.own",
        f"{P}.done.0",
        f"{P}.again.0",
        f"{P}.dead.0",
        f"{P}.state.0.pointer",
        f"{P}.own.p.0",
    ],
    "worker": ["other-production.in.a", "other-production.ev.0.own", f"{P}.ev.0.in"],
}
API: dict[str, list[tuple[str, Any]]] = {
    "receiver": [
        (f"STREAM.INFO.{P}-events", None),
        ("INFO", None),
        (f"STREAM.PURGE.{P}-events", None),
        (f"STREAM.DELETE.{P}-events", None),
        (f"STREAM.MSG.GET.{P}-events", {"seq": 1}),
        (f"STREAM.MSG.DELETE.{P}-events", {"seq": 1}),
        (f"CONSUMER.CREATE.{P}-events.x", {"stream_name": f"{P}-events", "config": {"name": "x"}}),
        (f"DIRECT.GET.{P}-events", {"seq": 1}),
        ("STREAM.CREATE.mine", {"name": "mine", "subjects": [f"{P}.in.*"]}),
    ],
    "reader": [
        (f"STREAM.PURGE.{P}-events", None),
        (f"STREAM.DELETE.{P}-events", None),
        (f"STREAM.MSG.DELETE.{P}-dead", {"seq": 1}),
        (f"STREAM.UPDATE.{P}-events", {"name": f"{P}-events"}),
        ("STREAM.CREATE.mine", {"name": "mine"}),
    ],
    "worker": [
        (f"STREAM.DELETE.{P}-events", None),
        (f"STREAM.UPDATE.{P}-events", {"name": f"{P}-events"}),
        (f"STREAM.PURGE.{P}-marks", None),
        ("STREAM.INFO.other-production-events", None),
        ("STREAM.CREATE.mine", {"name": "mine"}),
    ],
}


async def refused(act: Callable[[], Awaitable[object]]) -> bool:
    """Whether the server says no to this user, rather than to what was asked."""
    try:
        await act()
    except NatsNotPermitted:
        return True
    return False


@pytest.mark.parametrize("role", PASSWORDS)
async def test_what_is_not_a_roles_work_is_refused(guarded: Guarded, role: str) -> None:
    """Nothing is stored, read or deleted by it."""
    await prepared(guarded)
    async with guarded.connection("worker") as connection:
        before = await connection.ask(f"STREAM.INFO.{P}-events")
    async with guarded.connection(role) as connection:
        for subject in PUBLISHING[role]:

            async def publish(subject: str = subject) -> object:
                return await connection.publish(subject, b"{}", within=0, answer_within=2)

            assert await refused(publish), subject
        for question, body in API[role]:

            async def ask(question: str = question, body: Any = body) -> object:
                return await connection.ask(question, body, within=0, answer_within=2)

            assert await refused(ask), question
    async with guarded.connection("worker") as connection:
        assert (await connection.ask(f"STREAM.INFO.{P}-events"))["state"] == before["state"]


@pytest.mark.parametrize("role", PASSWORDS)
async def test_nobody_hears_what_is_published(guarded: Guarded, role: str) -> None:
    """Neither the events on their way, nor the answers that others get."""
    await prepared(guarded)
    heard: list[str] = []

    async def hear(message: Msg) -> None:
        heard.append(message.subject)

    async with guarded.connection(role) as spy, guarded.connection("receiver") as connection:
        for subject in (f"{P}.>", ">", "_INBOX_receiver.>" if role != "receiver" else "_INBOX_worker.>", "$JS.API.>"):
            assert spy._client._client is not None
            with suppress(ClientError):
                await spy._client._client.subscribe(subject, cb=hear)
        async with Publisher(connection, NAMES) as publisher:
            await publisher.receive(ANSWERED, Dialect.WEBHOOK)
        await anyio.sleep(0.3)
    assert heard == []


async def test_the_inbox_of_another_role_is_refused_at_the_start(guarded: Guarded) -> None:
    """It would get no answers, and the reason says what to change."""
    await prepared(guarded)
    publisher = Publisher(guarded.connection("receiver", inbox_prefix="_INBOX_worker"), NAMES)
    with pytest.raises(NatsNotPermitted, match=r"may not subscribe to _INBOX_worker.>: take the inbox_prefix"):
        await publisher.__aenter__()


async def test_a_stranger_is_not_let_in(guarded: Guarded) -> None:
    """Without a password, or without trusting the authority."""
    with pytest.raises(JournalError, match="does not let this user in"):
        await guarded.connection("receiver", user=None, password=None).open()
    with pytest.raises(JournalError, match="certificate"):
        await guarded.connection("receiver", tls=ssl.create_default_context()).open(2)
