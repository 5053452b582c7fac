"""The manifest of examples/deploy: its NATS servers, a receiver and a worker run as processes of this machine, and handle a call."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import environment, json_lines, telstate
from tests.cli.test_serve import SECRET
from tests.deploy.files import DEPLOY, containers, kubernetes
from tests.deploy.sandbox import wait_until
from tests.nats_server import binary
from tests.ports import free_ports
from tests.test_compose import send, wait_ready

PASSWORDS = {"receiver": "secretr", "worker": "secretw", "reader": "secretl"}
SECRETS = {"telstate": {"webhook-secret": SECRET, "daily-api-key": "key"}, "nats": PASSWORDS}
READER = {"USER": "reader", "PASSWORD": PASSWORDS["reader"], "INBOX": "_INBOX_reader"}


def servers(folder: Path) -> Iterator[tuple[list[str], int]]:
    """The command of each NATS server, with addresses and folders of this machine, and its port."""
    config: str = kubernetes()[0]["data"]["nats.conf"]
    (folder / "permissions.conf").write_text((DEPLOY.parent / "cluster" / "permissions.conf").read_text())
    ports = [free_ports(3) for _ in range(3)]
    for number, (client, route, http) in enumerate(ports):
        text = config
        for other, (_, its_route, _) in enumerate(ports):
            text = text.replace(f"nats-{other}.nats:6222", f"127.0.0.1:{its_route}")
        own = {"0.0.0.0:4222": client, "0.0.0.0:6222": route, "0.0.0.0:8222": http}
        for listening, port in own.items():
            assert listening in text
            text = text.replace(listening, f"127.0.0.1:{port}")
        text = text.replace("/data", str(folder / f"store{number}")).replace("/var/run/nats", str(folder))
        path = folder / f"nats-{number}.conf"
        path.write_text(text.replace("nats.pid", f"nats-{number}.pid"))
        yield [binary(), "--name", f"nats-{number}", "--config", str(path)], client


def mounted(folder: Path, pod: Mapping[str, Any]) -> Path:
    """Write the secrets of a pod where its container finds them."""
    folder.mkdir()
    (volume,) = pod["volumes"]
    for source in volume["projected"]["sources"]:
        for item in source["secret"]["items"]:
            (folder / item["path"]).write_text(SECRETS[source["secret"]["name"]][item["key"]])
    return folder


@pytest.mark.long
def test_its_processes_handle_a_call(tmp_path: Path) -> None:
    """With the secrets as files, and the permissions of each role. The receiver is ready once a worker has declared the streams."""
    urls = {}

    def log_text() -> str:
        return (tmp_path / "log").read_text()[-5000:]

    with ExitStack() as stack, (tmp_path / "log").open("ab") as log:

        def start(command: list[str], env: Mapping[str, str]) -> None:
            process = subprocess.Popen(command, cwd=DEPLOY, env=environment({**env}), stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)

        started = list(servers(tmp_path))
        for command, _ in started:
            start(command, {f"{role.upper()}_PASSWORD": password for role, password in PASSWORDS.items()})
        nats = ",".join(f"127.0.0.1:{port}" for _, port in started)
        for container, pod in containers():
            if container["name"] == "nats":
                continue
            (port,) = free_ports(1)
            urls[container["name"]] = f"http://127.0.0.1:{port}"
            _, *arguments = container["command"]
            for name, value in (("--nats", f"nats://{nats}"), ("--host", "127.0.0.1"), ("--port", str(port))):
                arguments[arguments.index(name) + 1] = value
            (mount,) = container["volumeMounts"]
            secrets = str(mounted(tmp_path / container["name"], pod))
            given = {one["name"]: one["value"].replace(mount["mountPath"], secrets) for one in container["env"]}
            start([sys.executable, "-m", "telstate", *arguments], given)
        for url in urls.values():
            wait_ready(url)
        asyncio.run(send(f"{urls['receiver']}/webhooks"))
        wait_until(lambda: "s1 ended: completed" in log_text(), log_text)
        reader = {f"TELSTATE_NATS_{name}": value for name, value in READER.items()}
        (row, _) = json_lines(telstate("replay", "--json", f"nats://{nats}/telstate/production", env=reader))
        assert (row["session"]["session_id"], row["session"]["state"]) == ("s1", "stopped")
