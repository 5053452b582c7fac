"""Root file systems of their own on this machine, for what a container engine or a systemd would run. Nothing of it is left behind.

    with Sandbox() as sandbox:
        root = sandbox.root("build")
        root.run("pip", "--version")

A root is an overlay over this machine's files, in memory and in a mount namespace that ends with the sandbox. This Python is at /usr/local in it, as in
Docker's images of Python. It needs root, and `systemd-nspawn` (Debian: systemd-container).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from types import TracebackType
from typing import Self

import pytest

__all__ = ["Container", "Root", "Sandbox", "wait_until"]

_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_OWN = ("proc", "sys", "dev")
_NSPAWN = "/run/systemd/nspawn"
"""Where systemd-nspawn keeps notes."""


class Sandbox:
    """A mount namespace in which roots are made. Where the tools are missing, the test is skipped; in CI it fails.

    A machine may have the tools and be a container that may mount nothing: there it is skipped in CI, too.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._base = Path()
        self._holder: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        if os.geteuid() != 0 or shutil.which("systemd-nspawn") is None:
            hint = "it needs root and systemd-nspawn: apt-get install systemd-container"
            if "CI" in os.environ:
                pytest.fail(hint)
            pytest.skip(hint)
        if (refusal := _refusal()) is not None:
            pytest.skip(f"this machine lets nobody make a sandbox: {refusal}")
        self._base = Path(self._stack.enter_context(TemporaryDirectory(prefix="sandbox")))
        mounts = [f"mkdir -p {one} && mount -t tmpfs -o mode=0755 tmpfs {one}" for one in (self._base, _NSPAWN)]
        script = "\n".join((*mounts, "echo ready", "exec sleep infinity"))
        self._holder = subprocess.Popen(["unshare", "--mount", "sh", "-ec", script], stdout=subprocess.PIPE)
        self._stack.callback(self._holder.wait)
        self._stack.callback(self._holder.kill)
        assert self._holder.stdout is not None
        self._stack.callback(self._holder.stdout.close)
        assert self._holder.stdout.readline() == b"ready\n", "this kernel makes no namespaces"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def root(self, name: str) -> Root:
        """Make a root file system."""
        return Root(self, self._base / name)

    def command(self, *command: str) -> list[str]:
        """The command as it runs inside the namespace, where the roots are."""
        return ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", *command]

    def run(self, *command: str, given: bytes = b"") -> str:
        """Run a command inside the namespace, on this machine's own root; return its output."""
        return _output(self.command(*command), given=given)


@cache
def _refusal() -> str | None:
    """Return what keeps this machine from making a container in a root of its own; None if nothing does."""
    with TemporaryDirectory(prefix="sandbox") as base:
        lines = [
            f"mount -t tmpfs tmpfs {base}",
            f"mkdir -p {base}/upper {base}/work {base}/root {_NSPAWN}",
            f"mount -t tmpfs tmpfs {_NSPAWN}",
            f"mount -t overlay overlay -o lowerdir=/,upperdir={base}/upper,workdir={base}/work {base}/root",
            f"systemd-nspawn --quiet --register=no --keep-unit --directory={base}/root /bin/true",
        ]
        tried = subprocess.run(
            ["unshare", "--mount", "sh", "-ec", "\n".join(lines)], capture_output=True, check=False, timeout=60
        )
    return None if tried.returncode == 0 else tried.stderr.decode(errors="replace").strip()[-300:]


class Root:
    """A root file system.

    Args:
        sandbox: where it is.
        folder: of its own, inside the namespace.
    """

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self._sandbox = sandbox
        self._folder = folder
        self.path = folder / "root"
        layers = ",".join((f"upperdir={folder}/upper", f"workdir={folder}/work"))
        lines = [
            f"mkdir -p {folder}/upper {folder}/work {self.path}",
            f"mount -t overlay overlay -o lowerdir=/,{layers} {self.path}",
        ]
        sandbox.run("sh", "-ec", "\n".join(lines))
        self.run("ldconfig")  # else an unprivileged user finds another libpython

    def run(self, *command: str, cwd: str = "/", env: Mapping[str, str] | None = None, timeout: float = 600) -> str:
        """Run a command in this root, as root; return its output."""
        mounts = [f"mount --rbind /{one} {self.path}/{one}" for one in _OWN]
        mounts.append(f"mount --bind {sys.base_prefix} {self.path}/usr/local")
        script = "\n".join((*mounts, f'exec chroot {self.path} env --chdir={cwd} "$@"'))
        inside = self._sandbox.command("unshare", "--mount", "sh", "-ec", script, "sh", *command)
        return _output(inside, env={**os.environ, "PATH": _PATH, **(env or {})}, timeout=timeout)

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file in this root."""
        data = content.encode() if isinstance(content, str) else content
        target = f"{self.path}{path}"
        script = 'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1"'
        self._sandbox.run("sh", "-ec", script, "sh", target, f"{mode:o}", given=data)

    def unpack(self, tar: bytes, folder: str) -> None:
        """Unpack an archive into a folder of this root, which is made."""
        script = 'mkdir -p "$1" && tar --extract --no-same-owner --directory="$1"'
        self._sandbox.run("sh", "-ec", script, "sh", f"{self.path}{folder}", given=tar)

    def copy_from(self, other: Root, path: str) -> None:
        """Copy a folder of another root to the same place."""
        self._sandbox.run("sh", "-ec", f"mkdir -p {self.path}{path} && cp -a {other.path}{path}/. {self.path}{path}")

    def container(self, *command: str, options: Sequence[str] = ()) -> Container:
        """Make a container with this root, and no network but a loopback interface of its own. It begins in its `with`.

        Args:
            command: its process 1.
            options: of systemd-nspawn.
        """
        run = [
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            f"--directory={self.path}",
            "--console=pipe",
        ]
        own = ["--private-network", f"--bind-ro={sys.base_prefix}:/usr/local"]
        return Container(self._sandbox.command(*run, *own, *options, *command))


class Container:
    """A running container.

    Args:
        command: which starts it.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._log = TemporaryFile()  # noqa: SIM115 - closed on leaving
        self._process: subprocess.Popen[bytes]
        self.leader = 0
        """Its process 1, as this machine sees it."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT
        )
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        wait_until(lambda: self._process.poll() is not None or children.read_text(), lambda: self.log)
        assert self._process.returncode is None, self.log
        self.leader = int(children.read_text().split()[0])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.leader, signal.SIGKILL)  # all its processes end with it
        self._process.wait(30)
        self._log.close()

    @property
    def log(self) -> str:
        """What it has written."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def wait(self, timeout: float) -> int:
        """Wait for its end; return what process 1 exited with."""
        return self._process.wait(timeout)

    def run(self, *command: str, given: str = "", check: bool = True) -> str:
        """Run another command inside, as root; return its output."""
        inside = ["nsenter", f"--target={self.leader}", "--mount", "--uts", "--ipc", "--net", "--pid", *command]
        run = subprocess.run(inside, input=given.encode(), capture_output=True, check=False, timeout=60)
        assert run.returncode == 0 or not check, f"{command}: {(run.stdout + run.stderr).decode()[-2000:]}"
        return (run.stdout + run.stderr).decode()


def wait_until(holds: Callable[[], object], facts: Callable[[], str], seconds: float = 60) -> None:
    """Wait for another process; if it takes too long, say what is known."""
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up, facts()
        time.sleep(0.1)


def _output(
    command: Sequence[str], *, given: bytes = b"", env: Mapping[str, str] | None = None, timeout: float = 60
) -> str:
    run = subprocess.run(command, input=given, env=env, capture_output=True, check=False, timeout=timeout)
    assert run.returncode == 0, f"{command}: {run.stdout.decode()[-2000:]}{run.stderr.decode()[-2000:]}"
    return run.stdout.decode()
