"""The public names: what the packages' `__init__` files export. `python -m tests.public_names` writes the list anew."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

from tests.documents import ROOT

__all__ = ["LIST", "PACKAGES", "exported", "imported", "public_names"]

LIST = Path(__file__).with_suffix(".txt")
PACKAGES = (
    "telstate",
    "telstate.calls",
    "telstate.control",
    "telstate.events",
    "telstate.journals",
    "telstate.journals.nats",
    "telstate.options",
    "telstate.routing",
    "telstate.sources",
    "telstate.testing",
    "telstate.views",
)


def exported(package: str) -> list[str] | None:
    """The list `__all__` as it stands in a package's file; None if there is none.

    Raises:
        ValueError: it is not a literal, so neither people nor tools can read it without running it.
    """
    for node in _tree(package).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            value: list[str] = ast.literal_eval(node.value)
            return value
    return None


def imported(package: str) -> set[str]:
    """The public names that a package's `__init__` imports or defines, also those it imports only when they are asked for."""
    names = set()
    for node in ast.walk(_tree(package)):
        match node:
            case ast.ImportFrom(module=module) if module != "__future__" and (module or "").startswith("telstate"):
                names |= {alias.asname or alias.name for alias in node.names}
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
    return {name for name in names if name != "*" and not name.startswith("_")}


def public_names() -> list[str]:
    """Every public name with its package, sorted."""
    modules = {package: importlib.import_module(package) for package in PACKAGES}
    return sorted(f"{package}.{name}" for package, module in modules.items() for name in getattr(module, "__all__", ()))


def _tree(package: str) -> ast.Module:
    return ast.parse((ROOT.joinpath(*package.split(".")) / "__init__.py").read_text(encoding="utf-8"))


if __name__ == "__main__":
    LIST.write_text("".join(f"{name}\n" for name in public_names()), encoding="utf-8")
