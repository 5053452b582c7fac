"""The image, built without a container engine: the steps of the Dockerfile, in a root file system for each stage.

What the base image would bring is this machine's: its files, and this Python at /usr/local.
"""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from collections.abc import Mapping
from io import BytesIO
from typing import NamedTuple

from tests.deploy.files import steps
from tests.deploy.sandbox import Root, Sandbox
from tests.documents import ROOT

__all__ = ["Image", "build"]


class Image(NamedTuple):
    """What a Dockerfile makes."""

    root: Root
    folder: str
    """Where its command starts."""
    environment: Mapping[str, str]
    user: str
    """As `UID:GID`."""
    command: list[str]
    health: list[str]
    """The command of the health check."""


def build(sandbox: Sandbox) -> Image:
    """Follow the steps; one that fails, or that is not known here, is an error."""
    stages: dict[str, Root] = {}
    root = sandbox.root("unnamed")
    folder, environment, arguments = "/", dict[str, str](), dict[str, str]()
    user, command, health = "", list[str](), list[str]()
    for name, text in steps():
        value = re.sub(
            r"\$\{?(PROGRAM|PATH)\}?",
            lambda match: {"PATH": "/usr/local/bin:/usr/bin:/bin", **arguments}[match[1]],
            text,
        )
        match name:
            case "FROM":
                stage = value.partition(" AS ")[2] or "last"
                stages[stage] = root = sandbox.root(stage)
                folder, environment = "/", {}
            case "ARG":
                key, _, default = value.partition("=")
                arguments[key] = default
            case "WORKDIR":
                folder = value
                root.run("mkdir", "-p", folder)
            case "COPY" if value.startswith("--from="):
                source, path, target = value.removeprefix("--from=").split()
                assert path == target, "this copies to the same place only"
                root.copy_from(stages[source], path)
            case "COPY":
                *sources, target = value.split()
                _copy(root, sources, f"{folder}/{target}")
            case "RUN":
                root.run("sh", "-ec", value, cwd=folder, env=environment)
            case "ENV":
                environment |= dict(one.split("=", 1) for one in value.split())
            case "USER":
                user = value
            case "HEALTHCHECK":
                health = json.loads(value[value.index("[") :])
            case "CMD":
                command = json.loads(value)
            case _:
                assert name in {"VOLUME", "EXPOSE"}, name
    return Image(root, folder, environment, user, command, health)


def _copy(root: Root, sources: list[str], target: str) -> None:
    """Copy files of the project to a folder, as COPY does: of a folder its content. Only what git has, or would take."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *sources]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path in (ROOT / name for name in names if name):
            folder = next((ROOT / source for source in sources if path.is_relative_to(ROOT / source)), ROOT)
            if path.exists():
                tar.add(path, path.name if path == folder else str(path.relative_to(folder)))
    root.unpack(packed.getvalue(), target)
