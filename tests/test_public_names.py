"""The public names are listed in `public_names.txt`, so that none comes or goes by accident."""

from __future__ import annotations

import builtins
import importlib
import inspect
import sys
from importlib.metadata import packages_distributions

import pytest

from telstate import Outcome, Retry, Settings
from telstate.control import Answered, Attempt, NotAnswered
from telstate.testing import PhoneLine, Request
from tests.public_names import LIST, PACKAGES, exported, imported, public_names
from tests.sources.live import installed


def test_the_list_is_what_the_packages_export() -> None:
    """If the change is intended: `python -m tests.public_names`, and a line in the changelog."""
    listed = LIST.read_text(encoding="utf-8").splitlines()
    exist = public_names()
    assert {"new": sorted(set(exist) - set(listed)), "gone": sorted(set(listed) - set(exist))} == {
        "new": [],
        "gone": [],
    }
    assert listed == exist


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_exports_what_it_imports(package: str) -> None:
    """`__all__` is a literal list of exactly these names; a package without one exports nothing. (ruff sorts it.)"""
    assert set(exported(package) or []) - {"__version__"} == imported(package)


def test_a_star_import_hides_nothing() -> None:
    """No exported name is that of a builtin, of a module of the standard library, or of an installed package."""
    taken = {*dir(builtins), *sys.stdlib_module_names, *packages_distributions()}
    assert {name for name in public_names() if name.rpartition(".")[2] in taken} == set()


def test_every_public_name_has_a_docstring() -> None:
    """And every public method of a public class that is defined here."""
    installed("daily")
    missing = []
    for name in public_names():
        package, _, last = name.rpartition(".")
        thing = getattr(importlib.import_module(package), last)
        if (inspect.isclass(thing) or inspect.isroutine(thing)) and not thing.__doc__:
            missing.append(name)
        if isinstance(thing, type) and thing.__module__.startswith("telstate"):
            for member, value in vars(thing).items():
                described = callable(value) or isinstance(value, property)
                if described and not member.startswith("_") and not value.__doc__:
                    missing.append(f"{name}.{member}")
    assert missing == []


def test_help_shows_the_fields_that_programs_read() -> None:
    """`help` shows no field of a named tuple, a dataclass or a pydantic model: the class's docstring has to."""
    for thing in (Settings, Outcome, Retry, Answered, NotAnswered, Attempt, PhoneLine, Request):
        fields = Settings.model_fields if thing is Settings else inspect.get_annotations(thing)
        assert [name for name in fields if f"    {name}: " not in (thing.__doc__ or "")] == [], thing
