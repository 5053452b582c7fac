"""The deployment files, read: the Dockerfile, the units, the compose files, the Kubernetes manifest."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]

from tests.documents import ROOT

__all__ = [
    "COMPOSE",
    "DEPLOY",
    "DOCKERFILE",
    "MANIFEST",
    "UNIT",
    "UNITS",
    "WORKER_UNIT",
    "Command",
    "Step",
    "commands",
    "compose",
    "containers",
    "kubernetes",
    "steps",
    "unit",
]

DEPLOY = ROOT / "examples" / "deploy"
DOCKERFILE = DEPLOY / "Dockerfile"
UNIT = DEPLOY / "telstate.service"
WORKER_UNIT = DEPLOY / "telstate-worker.service"
UNITS = [UNIT, WORKER_UNIT]
COMPOSE = [DEPLOY / "compose.yaml", ROOT / "examples" / "cluster" / "compose.yaml"]
MANIFEST = DEPLOY / "kubernetes.yaml"


class Step(NamedTuple):
    """An instruction of a Dockerfile."""

    name: str
    value: str


class Command(NamedTuple):
    """A command of telstate's that a file starts."""

    where: str
    arguments: list[str]
    """After `telstate`."""

    def option(self, name: str) -> str:
        """The value of an option."""
        return self.arguments[self.arguments.index(name) + 1]


def steps() -> list[Step]:
    """The instructions of the Dockerfile."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [Step(*line.split(maxsplit=1)) for line in joined.splitlines()]


def unit(path: Path) -> dict[str, list[str]]:
    """The settings of a unit, of all sections; a setting may stand there several times."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def compose(path: Path) -> dict[str, Any]:
    """A compose file."""
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


@cache
def kubernetes() -> list[dict[str, Any]]:
    """The resources of the manifest."""
    return list(yaml.safe_load_all(MANIFEST.read_text()))


def containers() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each container of the manifest, with its pod's specification."""
    for resource in kubernetes():
        if "template" in resource.get("spec", {}):
            pod = resource["spec"]["template"]["spec"]
            for container in pod["containers"]:
                yield container, pod


def commands() -> list[Command]:
    """Every command of telstate's that a file starts."""
    found: list[tuple[str, Sequence[str]]] = [
        ("Dockerfile", json.loads(next(value for name, value in steps() if name == "CMD"))),
    ]
    started = [(path.name, shlex.split(unit(path)["ExecStart"][0])) for path in UNITS]
    found += [(name, [re.sub("^/.*/", "", one) for one in command]) for name, command in started]
    for path in COMPOSE:
        for name, service in compose(path)["services"].items():
            given = service.get("command", [""])
            where = f"{path.parent.name}/{path.name}, {name}"
            found.append((where, shlex.split(given) if isinstance(given, str) else given))
    found += [(f"kubernetes.yaml, {container['name']}", container["command"]) for container, _ in containers()]
    return [Command(where, list(given[1:])) for where, given in found if given[0] == "telstate"]
