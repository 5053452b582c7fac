"""The house: imports go down only, names agree, and the checkers have nothing to say."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import telstate

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "telstate"
MODULES = sorted(info.name for info in pkgutil.walk_packages([str(PACKAGE)], "telstate."))

# What each part may import of telstate, besides itself and errors. Edges do not know each other.
ALLOWED = {
    "telstate.errors": set[str](),
    "telstate.events": set[str](),
    "telstate.options": set[str](),
    "telstate.calls": {"telstate.events"},
    "telstate.routing": {"telstate.events", "telstate.calls", "telstate.options"},
    "telstate.journals": {"telstate.events", "telstate.calls", "telstate.routing"},
    "telstate.sources": {"telstate.events", "telstate.calls", "telstate.routing"},
    "telstate.control": {"telstate.events", "telstate.calls", "telstate.options", "telstate.routing"},
    "telstate.views": {"telstate.events", "telstate.calls", "telstate.routing"},
    "telstate.testing": {
        "telstate.events",
        "telstate.calls",
        "telstate.options",
        "telstate.routing",
        "telstate.sources",
        "telstate.control",
    },
}
PURE = ("telstate.errors", "telstate.events", "telstate.options", "telstate.calls")
PURE_MAY = {"pydantic", "pydantic_core", "transitions"}
# Only the edges own a clock, files, sockets and randomness; a UUID is made only for a refusal, and never while parsing.
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


def imports_of(path: Path) -> set[str]:
    """Every module that a file names in an import, wherever it stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: say where it comes from"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "telstate"}
    return found


def part_of(module: str) -> str:
    """The part of the house a module is in."""
    return ".".join(module.split(".")[:2])


def file_of(module: str) -> Path:
    """Where a module stands."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@pytest.mark.parametrize("module", [module for module in MODULES if part_of(module) in ALLOWED])
def test_imports_go_down_only(module: str) -> None:
    """And edges do not know each other."""
    part = part_of(module)
    for name in imports_of(file_of(module)):
        if name.split(".")[0] == "telstate":
            assert part_of(name) in ALLOWED[part] | {part, "telstate.errors"}, f"{module} imports {name}"


def test_every_part_has_its_rule() -> None:
    """A new folder must say where it stands; only the top may import everything."""
    assert {part_of(module) for module in MODULES} <= set(ALLOWED) | {"telstate.cli", "telstate.__main__"}


@pytest.mark.parametrize("module", [module for module in MODULES if part_of(module) in PURE])
def test_the_pure_part_is_pure(module: str) -> None:
    """The standard library, pydantic and transitions; no clock, no I/O, no chance, no async."""
    tree = ast.parse(file_of(module).read_text(encoding="utf-8"))
    assert not any(isinstance(node, (ast.AsyncFunctionDef, ast.Await)) for node in ast.walk(tree))
    for name in {name.split(".")[0] for name in imports_of(file_of(module))} - {"telstate"}:
        assert name in PURE_MAY | set(sys.stdlib_module_names), f"{module} imports {name}"
        assert name not in IMPURE, f"{module} imports {name}"


@pytest.mark.parametrize("module", ["telstate", *MODULES])
def test_all_names_what_there_is(module: str) -> None:
    """Each module says what it offers, and has it."""
    loaded = importlib.import_module(module)
    assert loaded.__doc__
    if file_of(module).name == "__init__.py" and not hasattr(loaded, "__all__"):
        assert module in ("telstate.calls", "telstate.routing", "telstate.views", "telstate.sources")
        return
    for name in loaded.__all__:
        assert hasattr(loaded, name)
    assert len(set(loaded.__all__)) == len(loaded.__all__)


def test_every_public_name_has_a_docstring() -> None:
    """What it is for."""
    for name in telstate.__all__:
        thing = getattr(telstate, name)
        assert thing.__doc__, name
        if isinstance(thing, type) and thing.__module__.startswith("telstate"):
            for member, value in vars(thing).items():
                if callable(value) and not member.startswith("_"):
                    assert value.__doc__, f"{name}.{member}"


def test_importing_telstate_needs_no_extra() -> None:
    """anyio, transitions, pydantic and structlog are all it may ask for. (structlog itself looks for rich.)"""
    code = "import sys, telstate; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
        .stdout.decode()
        .split()
    )
    assert not {"typer", "click", "httpx", "starlette", "uvicorn", "daily", "pipecat", "hypothesis", "pytest"} & set(
        loaded
    )


def test_tests_mirror_the_house() -> None:
    """A test of a part lies where the part lies."""
    parts = {path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.glob("test_*.py"))}
    assert parts <= folders
    assert folders - parts <= {"corpus", "property", "contracts", "benchmarks", "crash", "soak"}


@pytest.mark.parametrize(
    "command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]], ids=["ruff", "format", "mypy"]
)
def test_the_checkers_have_nothing_to_say(command: list[str]) -> None:
    """Over the package, the tests and the examples."""
    run = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, check=False, timeout=240)
    assert run.returncode == 0, run.stdout.decode() + run.stderr.decode()
