"""Users by nkeys and by decentralised JWTs: on a real server, and what is said of a file that cannot be used."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import anyio
import pytest

from telstate import DefinitionError
from telstate.journals.nats import Names, NatsConnection, StreamSettings, declare
from telstate.journals.nats._errors import NatsNotPermitted
from tests.cli.running import telstate
from tests.cli.test_serve import SECRET, event, sent, serving
from tests.cli.test_work import PROGRAM, seen, until_ready, working
from tests.journals.nats.keys import Realm, new_user
from tests.nats_server import NatsServer

pytestmark = [pytest.mark.anyio, pytest.mark.long]
SMALL = StreamSettings(partitions=4, max_bytes=1 << 24)


async def test_a_user_is_known_by_an_nkey(tmp_path: Path, names: Names) -> None:
    """The file has the seed, with or without a line's end."""
    user, seed = new_user(), tmp_path / "user.nk"
    with NatsServer(tmp_path / "nats", f"authorization {{ users: [ {{ nkey: {user.public} }} ] }}") as server:
        for end in (b"", b"\n"):
            seed.write_bytes(user.seed + end)
            async with NatsConnection(server.url, nkey_seed=seed) as connection:
                await declare(connection, names, SMALL)
                assert await connection.publish(names.received("room"), b"{}") > 0
        seed.write_bytes(new_user().seed)
        with pytest.raises(NatsNotPermitted, match="does not let this user in"):
            await NatsConnection(server.url, nkey_seed=seed).open()
        with pytest.raises(NatsNotPermitted, match="does not let this user in"):
            await NatsConnection(server.url).open()


async def test_a_user_is_known_by_credentials(tmp_path: Path, names: Names) -> None:
    """An operator has signed the account, and the account the user. Also after a restart of the server."""
    realm = Realm()
    with NatsServer(tmp_path / "nats", realm.config) as server:
        async with NatsConnection(server.url, credentials=realm.credentials(tmp_path / "user.creds")) as connection:
            await declare(connection, names, SMALL)
            await connection.publish(names.received("room"), b"{}")
            server.restart(kill=True)
            assert await connection.publish(names.received("room"), b"{}") == 2
        async with NatsConnection(server.url, credentials=realm.credentials(tmp_path / "more.creds")).another() as more:
            assert await more.last(names.events, names.events_of("*")) is not None
        old = realm.credentials(tmp_path / "old.creds", expires=time.time() - 10)
        for stranger in (old, Realm().credentials(tmp_path / "stranger.creds")):
            with pytest.raises(NatsNotPermitted, match="check the user, the password or the credentials"):
                await NatsConnection(server.url, credentials=stranger).open()


def test_work_and_serve_take_credentials_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver and a worker, each with a file of its own: an event comes through."""
    realm = Realm()
    with NatsServer(tmp_path / "nats", realm.config) as server:
        monkeypatch.setenv("TELSTATE_NATS_CREDENTIALS", str(realm.credentials(tmp_path / "worker.creds")))
        with working(tmp_path, server, "--partitions", 4) as (worker, url):
            until_ready(url, 4)
            monkeypatch.setenv("TELSTATE_NATS_CREDENTIALS", str(realm.credentials(tmp_path / "receiver.creds")))
            arguments = ("--nats", server.url, "--environment", "production", "--secret", SECRET)
            with serving(tmp_path, *arguments) as (_, receiver):
                assert anyio.run(sent, receiver, SECRET, event(1)) == [200]
                assert len(seen(tmp_path, 1)) == 1
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(10) == 0


@pytest.mark.parametrize(
    ("variable", "content", "said"),
    [
        ("TELSTATE_NATS_CREDENTIALS", None, "cannot be read (No such file or directory): expected a .creds file"),
        ("TELSTATE_NATS_CREDENTIALS", b"", "is no .creds file: expected the blocks NATS USER JWT"),
        ("TELSTATE_NATS_CREDENTIALS", b"\xff\x00", "is not text: expected a .creds file"),
        ("TELSTATE_NATS_NKEY", None, "expected a file with the seed of an nkey"),
        ("TELSTATE_NATS_NKEY", b"SUABC", "has no seed of a user's nkey, which begins with SU"),
        ("TELSTATE_NATS_NKEY", Realm()._account.seed, "has no seed of a user's nkey"),
    ],
    ids=["no-file", "empty", "no-text", "no-seed-file", "half-a-seed", "seed-of-an-account"],
)
@pytest.mark.parametrize("verb", ["work", "serve", "calls"])
def test_a_file_that_cannot_be_used_is_named(  # noqa: PLR0917 - three of them are parameters
    verb: str, variable: str, content: bytes | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is tried, and without what is in it."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    (tmp_path / "credentials_app.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    address = "nats://127.0.0.1:9/telstate/production"
    more = {"work": ("credentials_app:router", "--nats", address), "serve": ("--nats", address), "calls": (address,)}
    run = telstate(verb, *more[verb], env={variable: str(path), "TELSTATE_WEBHOOK_SECRET": SECRET})
    assert run.returncode == 2
    assert f"{path} " in run.stderr.decode().replace("\n", "")
    assert said in " ".join(run.stderr.decode().split())
    assert "SUABC" not in run.stderr.decode()


async def test_the_package_that_credentials_need_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`telstate[nats]` brings it."""
    monkeypatch.setitem(sys.modules, "nkeys", None)
    (tmp_path / "user.nk").write_bytes(new_user().seed)
    with pytest.raises(DefinitionError, match=r"need the package nkeys: pip install 'telstate\[nats\]'"):
        await NatsConnection("nats://127.0.0.1:9", nkey_seed=tmp_path / "user.nk").open()
