"""The architecture: imports go down only, the pure part is pure, modules and classes have names of their own, ruff passes."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.documents import ROOT
from tests.sources.live import installed

PACKAGE = ROOT / "telstate"
FILES = sorted(PACKAGE.rglob("*.py"))

# What each part may import of telstate, besides itself and those that every part may. The edges do not know each other.
EVERYWHERE = {"errors", "_lazy"}
CORE = {"events", "calls", "options", "routing"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "_lazy": set(),
    "_asgi": set(),
    "events": set(),
    "calls": {"events"},
    "options": set(),
    "routing": {"events", "calls", "options"},
    "journals": CORE,
    "sources": CORE | {"_asgi"},
    "control": CORE,
    "views": CORE | {"_asgi"},
    "testing": CORE | {"sources", "control", "views"},
}
ANYTHING = {"__init__", "__main__", "cli"}
PURE = {"errors", "events", "calls", "options"}
PURE_MAY_IMPORT = {"telstate", "pydantic", "pydantic_core", "transitions", *sys.stdlib_module_names}
# Only the edges have a clock, files, sockets and randomness.
IMPURE = {
    "time",
    "datetime",
    "random",
    "os",
    "io",
    "sys",
    "socket",
    "asyncio",
    "threading",
    "pathlib",
    "logging",
    "secrets",
}
WITHOUT_MIRROR = {"attacks", "corpus", "property", "contracts", "benchmarks", "cluster", "crash", "deploy", "soak"}
"""Folders of tests that belong to no single part."""


@cache  # every worker imports this module, and one of them needs the trees
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def part_of(path: Path) -> str:
    """The part a file belongs to: a folder of telstate/, or a module directly in it."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever the import stands."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
            if node.module == "telstate":
                yield from (f"telstate.{alias.name}" for alias in node.names)


def modules() -> list[str]:
    """Every module of the package by its name."""
    return ["telstate", *(info.name for info in pkgutil.walk_packages([str(PACKAGE)], "telstate."))]


def test_imports_go_down_only() -> None:
    """And name the whole path."""
    assert {part_of(path) for path in FILES} <= set(ALLOWED) | ANYTHING, (
        "a new part must say in ALLOWED what it may import"
    )
    parts = set(ALLOWED) | ANYTHING
    wrong = []
    for path in FILES:
        for name in imports_of(path):
            top, _, rest = name.partition(".")
            if top == "":
                wrong.append(f"{path.relative_to(ROOT)}: relative import of {name}")
            elif top == "telstate" and part_of(path) not in ANYTHING:
                imported = rest.split(".")[0]
                if imported in parts and imported not in ALLOWED[part_of(path)] | EVERYWHERE | {part_of(path)}:
                    wrong.append(f"{path.relative_to(ROOT)} imports {name}")
                elif rest == "" or imported not in parts:
                    wrong.append(f"{path.relative_to(ROOT)} imports from the top package: {name}")
    assert wrong == []


def test_the_pure_part_is_pure() -> None:
    """The standard library, pydantic and transitions; no clock, no I/O, no randomness, no async."""
    wrong = []
    for path in (path for path in FILES if part_of(path) in PURE):
        names = {name.split(".")[0] for name in imports_of(path)}
        wrong += [f"{path.relative_to(ROOT)} imports {name}" for name in names & IMPURE | names - PURE_MAY_IMPORT]
        if any(isinstance(node, (ast.AsyncFunctionDef, ast.Await)) for node in ast.walk(tree_of(path))):
            wrong.append(f"{path.relative_to(ROOT)} is async")
    assert wrong == []


def test_no_client_reads_certificates_in_an_event_loop() -> None:
    """Each client of httpx is given what it checks certificates with: see `telstate/control/_tls.py`. By itself it would read them when it is made."""
    wrong = []
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("AsyncClient"):
                given = {keyword.arg for keyword in node.keywords}
                wrong += [f"{path.relative_to(ROOT)}:{node.lineno}"] if "verify" not in given else []
    assert wrong == []


def test_modules_that_are_not_public_begin_with_an_underscore() -> None:
    """Or are in such a folder: what is public is what packages export, and the errors."""
    paths = [path.relative_to(PACKAGE) for path in FILES]
    assert [str(path) for path in paths if not any(part.startswith("_") for part in path.parts)] == ["errors.py"]


def test_no_two_classes_share_a_name() -> None:
    """Private ones included: a search for a name finds one class."""
    places: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_every_module_has_a_docstring_and_what_it_lists() -> None:
    """Each name of `__all__` exists and stands there once."""
    installed("daily")
    for name in modules():
        module = importlib.import_module(name)
        assert module.__doc__, name
        listed = getattr(module, "__all__", [])
        assert len(set(listed)) == len(listed), name
        for one in listed:
            assert hasattr(module, one), f"{name}.{one}"


def test_importing_telstate_needs_no_extra() -> None:
    """anyio, transitions, pydantic and structlog are all that may be needed. (structlog itself looks for rich.)"""
    extras = {
        "typer",
        "click",
        "httpx",
        "httpcore",
        "standardwebhooks",
        "sqlalchemy",
        "pyarrow",
        "starlette",
        "uvicorn",
        "daily",
        "pipecat",
        "nats",
        "tenacity",
        "prometheus_client",
        "opentelemetry",
        "hypothesis",
        "pytest",
    }
    code = "import sys, telstate; print(*{name.split('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert extras & set(run.stdout.split()) == set()


def test_tests_mirror_the_package() -> None:
    """The tests of a part are in a folder with the part's name."""
    parts = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert parts - folders == set()
    assert folders - parts <= WITHOUT_MIRROR


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_has_nothing_to_say(command: list[str]) -> None:
    """Over everything. The type checkers are in test_types.py."""
    run = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert run.returncode == 0, run.stdout + run.stderr
