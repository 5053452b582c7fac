"""examples/cluster/compose.yaml: its commands exist, its roles have the documented permissions, and its processes work together.

Docker does not run here: the same commands run on this machine, with loopback addresses in place of the services' names.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml  # type: ignore[import-untyped]

from telstate.testing import WebhookSender
from tests.cli.running import json_lines, telstate
from tests.documents import ROOT, blocks
from tests.nats_server import binary
from tests.ports import free_ports

FOLDER = ROOT / "examples" / "cluster"
NODES = ("nats-one", "nats-two", "nats-three")
SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
VARIABLES = {
    "RECEIVER_PASSWORD": "secretr",
    "WORKER_PASSWORD": "secretw",
    "READER_PASSWORD": "secretl",
    "TELSTATE_WEBHOOK_SECRET": SECRET,
}
WITHIN = 60.0


def services() -> dict[str, dict[str, Any]]:
    """The services of the file."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    return found


def arguments(service: Mapping[str, Any]) -> list[str]:
    """The command of a service."""
    command = service["command"]
    return shlex.split(command) if isinstance(command, str) else list(command)


def environment(service: Mapping[str, Any]) -> dict[str, str]:
    """The environment of a service, with the variables of this test."""
    return {
        name: re.sub(r"\$\{(\w+)(:-|:\?)\}", lambda match: VARIABLES.get(match[1], ""), value)
        for name, value in service["environment"].items()
    }


def test_its_commands_have_only_options_that_exist() -> None:
    """And the workers' handlers, and the files that it names."""
    found = {}
    for name, service in services().items():
        program, *given = arguments(service)
        if program == "telstate":
            verb, *rest = given
            known = set(re.findall(r"--[a-z][a-z-]+", telstate(verb, "--help").stdout.decode()))
            assert {one for one in rest if one.startswith("--")} <= known, name
            found[name] = verb
        else:
            assert program == "nats-server"
            help_text = subprocess.run([binary(), "--help"], capture_output=True, check=True, text=True).stdout
            assert {one for one in given if one.startswith("--")} <= set(re.findall(r"--[a-z]+", help_text))
    assert found == {"receiver": "serve", "worker": "work"}
    assert "handlers:router" in arguments(services()["worker"])
    assert services()["worker"]["image"] == services()["receiver"]["image"]
    assert ROOT / services()["receiver"]["build"]["args"]["PROGRAM"] == FOLDER
    assert (FOLDER / "handlers.py").exists()


def test_it_keeps_three_copies_on_three_nodes() -> None:
    """Each has a volume and a place of its own, and everybody knows all three."""
    parsed = services()
    assert tuple(name for name in parsed if name.startswith("nats")) == NODES
    assert len({str(parsed[name]["volumes"]) for name in NODES}) == 3
    assert len({str(parsed[name]["deploy"]) for name in NODES}) == 3
    assert all(arguments(parsed[name])[1:3] == ["--name", name] for name in NODES)
    worker = arguments(parsed["worker"])
    assert worker[worker.index("--replicas") + 1] == "3"
    for name in ("receiver", "worker"):
        command = arguments(parsed[name])
        assert command[command.index("--nats") + 1] == "nats://" + ",".join(f"{node}:4222" for node in NODES)
        assert f":{command[command.index('--port') + 1]}/health" in str(parsed[name]["healthcheck"])
    grace = int(parsed["worker"]["stop_grace_period"].removesuffix("s"))
    assert grace > int(worker[worker.index("--drain") + 1])


def test_each_role_has_the_permissions_of_the_readme() -> None:
    """Another test tries what they forbid."""
    (block,) = blocks("conf")
    documented = block.text[block.text.index("authorization {") :]
    assert (FOLDER / "permissions.conf").read_text().endswith(documented)
    assert (FOLDER / "nats.conf").read_text().endswith('include "permissions.conf"\n')
    for node in NODES:
        mounted = {one["source"]: one["target"] for one in services()[node]["configs"]}
        assert mounted == {"nats": "/etc/nats/nats.conf", "permissions": "/etc/nats/permissions.conf"}


def local(text: str, ports: Mapping[str, tuple[int, int]]) -> str:
    """The text with loopback addresses in place of the nodes' names."""
    for node, (client, route) in ports.items():
        text = text.replace(f"{node}:4222", f"127.0.0.1:{client}").replace(f"{node}:6222", f"127.0.0.1:{route}")
    return text


def processes(folder: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """The commands of all services and their environments, as they run on this machine."""
    shutil.copy(FOLDER / "permissions.conf", folder)
    numbers = free_ports(2 * len(NODES) + len(NODES))
    ports = {node: (numbers[2 * place], numbers[2 * place + 1]) for place, node in enumerate(NODES)}
    for place, node in enumerate(NODES):
        config = local((FOLDER / "nats.conf").read_text(), ports)
        for old, new in (("0.0.0.0:4222", ports[node][0]), ("0.0.0.0:6222", ports[node][1])):
            config = config.replace(old, f"127.0.0.1:{new}")
        config = config.replace("127.0.0.1:8222", f"127.0.0.1:{numbers[6 + place]}")
        path = folder / f"{node}.conf"
        path.write_text(config.replace('"/data"', f'"{folder / node}"'))
        command = [binary(), *arguments(services()[node])[1:]]
        yield [str(path) if one == "/etc/nats/nats.conf" else one for one in command], environment(services()[node])
    for name in ("receiver", "worker"):
        service = services()[name]
        yield [sys.executable, "-m", *(local(one, ports) for one in arguments(service))], environment(service)
    assert not [name for name in services() if name not in {*NODES, "receiver", "worker"}]


def wait_ready(url: str) -> None:
    """Wait until a process does its part."""
    deadline = time.monotonic() + WITHIN
    answer: object = None
    while answer != {"ok": True}:
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)
        try:
            answer = httpx.get(f"{url}/ready").json()
        except httpx.TransportError as error:
            answer = error


@pytest.mark.long
def test_its_processes_handle_a_call(tmp_path: Path) -> None:
    """Three nodes, a receiver and a worker, each with the user and the permissions of its role."""
    outside = {key: value for key, value in os.environ.items() if not key.startswith(("DAILY_", "TELSTATE_"))}
    written = tmp_path / "calls.jsonl"
    urls = []
    with ExitStack() as stack:
        commands = list(processes(tmp_path))
        for command, given in commands:
            if "--port" in command:  # of this machine
                place = command.index("--port") + 1
                (port,) = free_ports(1)
                command[place] = str(port)
                urls.append(f"http://127.0.0.1:{port}")
            more = {**given, "CALLS_FILE": str(written)}
            with (tmp_path / "log").open("ab") as log:
                process = subprocess.Popen(command, cwd=FOLDER, env=outside | more, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
        for url in urls:
            wait_ready(url)
        asyncio.run(send(f"{urls[0]}/webhooks"))
        deadline = time.monotonic() + WITHIN
        while not (written.exists() and b'"finish", "handler": "ended"' in written.read_bytes()):
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.1)
        worker, given = commands[-1]
        servers = worker[worker.index("--nats") + 1]
        (row, _) = json_lines(telstate("replay", "--json", f"{servers}/telstate/production", env=given))
        assert (row["session"]["session_id"], row["session"]["state"]) == ("s1", "stopped")


async def send(url: str) -> None:
    """Post a call as Daily does."""
    async with WebhookSender(url, SECRET) as sender:
        for name in ("answered", "stopped"):
            payload = {"session_id": "s1", "room": "lobby", "timestamp": str(int(time.time()))}
            event = {"type": f"dialout.{name}", "id": name, "payload": payload, "event_ts": time.time()}
            assert await sender.deliver(event)
