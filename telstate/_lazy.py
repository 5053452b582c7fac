"""Exports that are imported at first use: those that need an optional package, and those that few of a package's users need.

Importing everything takes most of a second, which people wait for at every command.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy_exports"]


def lazy_exports(package: str, exports: Mapping[str, str | tuple[str, str]]) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package (PEP 562).

    Args:
        package: the package's name.
        exports: for each name, the module that defines it: inside the package, or its whole path. `_module:` is the module itself. A pair
            if that needs an extra, which comes second.
    """

    def load(name: str) -> Any:
        if name not in exports:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        export = exports[name]
        place, extra = (export, None) if isinstance(export, str) else export
        module, itself, _ = place.partition(":")
        try:
            loaded = import_module(module if "." in module else f"{package}.{module}")
            value = loaded if itself else getattr(loaded, name)
        except ModuleNotFoundError as error:
            missing = (error.name or "telstate").partition(".")[0]
            if extra is None or missing == "telstate":
                raise
            hint = f"{package}.{name} needs {missing}: pip install 'telstate[{extra}]'"
            raise ModuleNotFoundError(hint, name=missing) from error
        setattr(sys.modules[package], name, value)
        return value

    return load
