"""On a clean checkout each worker would compile the whole project. Here they share that: each compiles some files, and finds the rest."""

from __future__ import annotations

import compileall
import os
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest

__all__ = ["compile_a_share"]

_ROOT = Path(__file__).parents[1]


def compile_a_share(config: pytest.Config) -> None:
    """Compile this worker's share, if this is a worker that runs all tests; what is compiled already is left as it is."""
    if "PYTEST_XDIST_WORKER" not in os.environ or config.args != config.getini("testpaths"):
        return
    number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    files = [path for folder in ("telstate", "tests") for path in sorted((_ROOT / folder).rglob("*.py"))]
    tests = [path for path in files if path.name.startswith("test_")]
    for path in [path for path in files if path not in set(tests)][number::workers]:
        compileall.compile_file(path, quiet=2)
    for path in tests[number::workers]:
        with suppress(Exception, pytest.skip.Exception):  # what cannot be imported is reported when it is collected
            import_module(
                ".".join(path.relative_to(_ROOT).with_suffix("").parts)
            )  # pytest compiles tests in its own way
