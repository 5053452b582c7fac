"""Lines of a `FakeDaily` from a file or from options of a command, with the names and the units of `PhoneLine`.

JSON, with `*` for all other numbers:

    {"+12025550101": {"busy": true},
     "+12025550102": [{"gives_up": 20}, {"answers": 4, "talks": 60}],
     "+12025550103": {"voicemail": {"rings": 4}},
     "+12025550104": {"flaky": [[0.3, {"busy": true}], [0.7, {"answers": 4}]]},
     "*": {"local_hours": {"zone": "America/New_York", "opens": "09:00", "night": {"voicemail": {}}}}}

CSV: a column `number`, and a column for each field that is used; `zone` lets the number answer by day only. A number with several
rows does one after another. An empty cell is the default. An option is a row: `+12025550101 answers=4,talks=60`, `+12025550102 voicemail`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import time
from difflib import get_close_matches
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from telstate.testing import _refusals
from telstate.testing._line_scripts import flaky, local_hours, trunk, voicemail
from telstate.testing._phone_lines import LinePlan, PhoneLine
from telstate.testing._refusals import Refusal

__all__ = ["lines_of_file", "lines_of_options"]

_WORDS = ("loses", "twice")
"""Fields that are several words; a cell has spaces between them."""
_FIELDS: dict[str, TypeAdapter[Any]] = {
    name: TypeAdapter(frozenset[str] if name in _WORDS else kind) for name, kind in get_type_hints(PhoneLine).items()
}
_REFUSALS: Mapping[str, Refusal] = {
    name: one for name, one in vars(_refusals).items() if isinstance(one, Refusal) and not name.startswith("_")
}
_HOUR = TypeAdapter(time)
_SCRIPTS: Mapping[str, Callable[..., PhoneLine]] = {"voicemail": voicemail, "trunk": trunk}


def lines_of_file(path: Path, seed: int) -> dict[str, LinePlan]:
    """Read a file.

    Args:
        path: of a file whose name ends in .json or .csv.
        seed: for lines by chance that have none of their own.

    Raises:
        ValueError: if it is not such a file; the message says where and how.
        TypeError: if the file is JSON, and no object.
        OSError: if it cannot be read.
    """
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix.lower() == ".csv":
        return _of_rows(_csv_rows(path, text))
    try:
        plans = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(plans, dict):
        raise TypeError(f"{path} must be a JSON object: of each number, or of '*', its line")
    return {number: _where(f"{path}, {number}", partial(_plan, plan, seed)) for number, plan in plans.items()}


def lines_of_options(options: Iterable[str]) -> dict[str, LinePlan]:
    """Read options such as `+12025550101 answers=4,talks=60`.

    Raises:
        ValueError: if one cannot be read.
    """
    return _of_rows(_option_row(option) for option in options)


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    reader = csv.DictReader(text.splitlines())
    if "number" not in (reader.fieldnames or ()):
        raise ValueError(f"{path} has no column `number` in its first line")
    for row in reader:
        given = {name: cell.strip() for name, cell in row.items() if name and isinstance(cell, str) and cell.strip()}
        where = f"{path}, line {reader.line_num}"
        if None in row or "number" not in given:
            raise ValueError(f"{where}: expected a number, and a cell for each column")
        yield where, given.pop("number"), given


def _option_row(option: str) -> tuple[str, str, dict[str, str]]:
    number, _, text = option.strip().partition(" ")
    pairs = [each.partition("=") for each in text.split(",") if each.strip()]
    return f"--line {number}", number, {name.strip(): value.strip() if sign else "true" for name, sign, value in pairs}


def _of_rows(rows: Iterable[tuple[str, str, dict[str, str]]]) -> dict[str, LinePlan]:
    """Join the rows of each number, one for each of its dials."""
    found: dict[str, list[PhoneLine]] = {}
    zones: dict[str, tuple[str, str]] = {}
    for where, number, given in rows:
        if "zone" in given:
            zones[number] = where, given.pop("zone")
        found.setdefault(number, []).append(_where(where, partial(_line, given)))
    return {
        number: each
        if number not in zones
        else _where(zones[number][0], partial(local_hours, zones[number][1], day=each))
        for number, each in found.items()
    }


def _where(where: str, make: Callable[[], Any]) -> Any:
    """Say of an error where it is."""
    try:
        return make()
    except ValidationError as error:
        raise ValueError(f"{where}: {error.errors()[0]['msg']}") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None


def _plan(given: Any, seed: int) -> LinePlan:
    if isinstance(given, list):
        return [_line(one) for one in given]
    if isinstance(given, dict) and "flaky" in given:
        return flaky(_shares(given["flaky"]), **{"seed": seed, **_others(given, "flaky")})
    if isinstance(given, dict) and "local_hours" in given:
        _others(given, "local_hours")
        return _hours(given["local_hours"], seed)
    return _line(given)


def _shares(given: Any) -> list[tuple[float, PhoneLine]]:
    if not isinstance(given, list) or any(not isinstance(one, list) or len(one) != 2 for one in given):
        raise TypeError(f'flaky takes pairs such as [[0.3, {{"busy": true}}], [0.7, {{"answers": 4}}]], not {given!r}')
    return [(float(share), _line(line)) for share, line in given]


def _hours(given: Any, seed: int) -> LinePlan:
    def read(name: str, value: Any) -> Any:
        return _plan(value, seed) if name in ("day", "night") else _HOUR.validate_python(value)

    others = dict(_arguments("local_hours", ("zone", "opens", "closes", "day", "night"), given))
    if "zone" not in others:
        raise ValueError("local_hours needs a zone, such as America/New_York")
    return local_hours(others.pop("zone"), **{name: read(name, value) for name, value in others.items()})


def _line(given: Any) -> PhoneLine:
    if not isinstance(given, dict):
        raise TypeError(f'a line is an object such as {{"busy": true}}, not {given!r}')
    for name, make in _SCRIPTS.items():
        if name in given:
            _others(given, name)
            defaults = given[name] in (True, "true")  # an option or a cell has no other value for it
            return make(**({} if defaults else _arguments(name, signature(make).parameters, given[name])))
    for name in given:
        if name not in _FIELDS:
            near = get_close_matches(name, _FIELDS, 1)
            hint = f"but {near[0]!r}" if near else f"it has {', '.join(_FIELDS)}"
            raise ValueError(f"a line has no {name!r}, {hint}")
    return PhoneLine(**{name: _field(name, value) for name, value in given.items()})


def _field(name: str, value: Any) -> Any:
    """Read a field, of JSON or of a cell."""
    if name == "refuses" and isinstance(value, str):
        if value not in _REFUSALS:
            raise ValueError(f"refuses: {value!r} is none of {', '.join(_REFUSALS)}")
        return _REFUSALS[value]
    if isinstance(value, str):
        value = None if value == "never" else value.split() if name in _WORDS else value
    try:
        return _FIELDS[name].validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{name}: {error.errors()[0]['msg']}, not {value!r}") from None


def _arguments(name: str, known: Iterable[str], given: Any) -> dict[str, Any]:
    """Check what a script is given."""
    names = list(known)
    if not isinstance(given, dict):
        raise TypeError(f"{name} takes an object with {', '.join(names)}, not {given!r}")
    for one in given:
        if one not in names:
            raise ValueError(f"{name} has no {one!r}; it has {', '.join(names)}")
    return given


def _others(given: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what stands beside the one name that decides."""
    others = {key: value for key, value in given.items() if key != name}
    if wrong := [key for key in others if (name, key) != ("flaky", "seed")]:
        raise ValueError(f"beside {name!r} there can be no {wrong[0]!r}")
    return others
