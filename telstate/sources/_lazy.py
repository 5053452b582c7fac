"""Exports that need an optional package: imported at first use, so that importing the package needs no extra."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy_exports"]


def lazy_exports(package: str, exports: Mapping[str, tuple[str, str]]) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package (PEP 562).

    Args:
        package: the package's name.
        exports: for each name, the module inside the package that defines it, and the extra that the module needs.
    """

    def load(name: str) -> Any:
        if name not in exports:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, extra = exports[name]
        try:
            value = getattr(import_module(f"{package}.{module}"), name)
        except ModuleNotFoundError as error:
            missing = (error.name or "telstate").partition(".")[0]
            if missing == "telstate":
                raise
            hint = f"{package}.{name} needs {missing}: pip install 'telstate[{extra}]'"
            raise ModuleNotFoundError(hint, name=missing) from error
        setattr(sys.modules[package], name, value)
        return value

    return load
