"""The image of examples/deploy: its steps, and its command as a container runs it, without a container engine."""

from __future__ import annotations

import os
import signal

import pytest

from tests.deploy.image import build
from tests.deploy.sandbox import Sandbox, wait_until

SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
SEND = """
import asyncio, json, sys, time
from telstate.testing import WebhookSender

async def send() -> None:
    async with WebhookSender("http://127.0.0.1:8080/webhooks", sys.argv[1]) as sender:
        payload = {"session_id": sys.argv[3], "room": sys.argv[3], "timestamp": str(int(time.time()))}
        event = {"type": f"dialout.{sys.argv[2]}", "id": "-".join(sys.argv[2:]), "payload": payload, "event_ts": time.time()}
        print((await sender.post(json.dumps(event).encode())).status_code)

asyncio.run(send())
"""
"""A program. Its arguments: a secret, what an event is called, a room, whose only call it is. It prints the answer's status."""


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_image_serves_as_an_unprivileged_user_on_a_read_only_root() -> None:
    """It is process 1 and has no capability; it writes its journal and nothing else. SIGTERM ends it in order, and the next one finds the journal."""
    with Sandbox() as sandbox:
        image = build(sandbox)
        user, group = image.user.split(":")
        journal = f"{image.root.path.parent}/journal"
        sandbox.run("install", "-d", f"--owner={user}", f"--group={group}", "--mode=0700", journal)
        secret = f"{image.root.path.parent}/telstate_webhook_secret"
        sandbox.run("sh", "-ec", f"cat > {secret}", given=SECRET.encode())
        variables = [f"--setenv={name}={value}" for name, value in image.environment.items()]
        volumes = [f"--bind={journal}:/var/lib/telstate", f"--bind-ro={secret}:/run/secrets/telstate_webhook_secret"]
        options = ["--read-only", *volumes, *variables, f"--chdir={image.folder}"]
        without = ["env", "--unset=NOTIFY_SOCKET"]  # that of nspawn
        as_user = [
            "setpriv",
            f"--reuid={user}",
            f"--regid={group}",
            "--clear-groups",
            "--bounding-set=-all",
            "--inh-caps=-all",
            "--no-new-privs",
        ]
        for session in ("answered", "stopped"):
            with image.root.container(*without, *as_user, *image.command, options=options) as container:
                wait_until(lambda: "listening on" in container.log, lambda: container.log)
                status = container.run("cat", "/proc/1/status").split("\n")
                facts = dict(line.split(":\t", 1) for line in status if ":\t" in line)
                assert facts["Uid"].split() == [user] * 4
                assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0
                assert container.run("cat", "/proc/1/comm") == "telstate\n"
                python = [*as_user, "/opt/telstate/bin/python"]
                assert container.run(*python, *image.health[1:]) == ""
                assert container.run(*python, "-", SECRET, session, "lobby", given=SEND) == "200\n"
                for place in ("/app", "/opt/telstate", "/etc"):
                    assert "Read-only file system" in container.run(*as_user, "touch", f"{place}/new", check=False)
                os.kill(container.leader, signal.SIGTERM)
                assert container.wait(30) == 0, container.log
        shown = image.root.run(*as_user, "env", f"PATH={image.environment['PATH']}", "telstate", "--help")
        assert "serve" in shown
        with image.root.container(
            *as_user, "/opt/telstate/bin/telstate", "replay", "/var/lib/telstate/calls.db", options=options
        ) as container:
            assert container.wait(30) == 0
            assert "1 session: 1 completed" in container.log
