"""Variables of the environment, and the files that stand for them where containers keep secrets.

    TELSTATE_VIEW_TOKEN=…                              the value
    TELSTATE_VIEW_TOKEN_FILE=/etc/telstate/token       a file that has it
    /run/secrets/telstate_view_token                   a file of the secrets directory, in capitals or not

The first that is there counts. The directory is /run/secrets, or what TELSTATE_SECRETS_DIR names. An empty variable counts as none, as compose
files make them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from telstate.cli._terminal import misuse

__all__ = [
    "PREFIX",
    "SECRETS_DIR",
    "environment",
    "listed",
    "named_files",
    "secret_files",
    "secrets_dir",
    "text_of_file",
    "variable",
]

PREFIX = "TELSTATE_"
SECRETS_DIR = "TELSTATE_SECRETS_DIR"
_SECRETS_DIR = "/run/secrets"
"""Where Docker, Podman and compose put them."""
_LONGEST = 1 << 20
"""Bytes: no secret is that long, but a device or a log that was named by mistake may be."""


def variable(name: str, *, is_path: bool = False) -> str | None:
    """Return the value of a variable, or of the file that stands for it; None if there is none.

    A file that cannot be read ends the command.

    Args:
        name: the variable.
        is_path: its value is the name of a file: then that of the file that stands for it is returned.
    """
    try:
        if (value := environment().get(name)) and f"{name}_FILE" not in environment():
            return value
        files = named_files([name])
        if not files and (directory := secrets_dir(None)) is not None:
            files = secret_files(directory, [name])
        if not files:
            return None
        return str(files[name]) if is_path else text_of_file(files[name], name) or None
    except ValueError as error:
        misuse(str(error))


def listed(name: str) -> list[str]:
    """Return the values of a variable that has several, with commas or blanks between."""
    return (variable(name) or "").replace(",", " ").split()


def environment() -> Mapping[str, str]:
    """Return the variables that are set and not empty, by their names in capitals."""
    return {name.upper(): value for name, value in os.environ.items() if value}


def named_files(names: Iterable[str]) -> dict[str, Path]:
    """Return the files that `NAME_FILE` names, by variable.

    Raises:
        ValueError: if the variable itself is set too.
    """
    found, given = {}, environment()
    for name in names:
        if file := given.get(f"{name}_FILE"):
            if name in given:
                raise ValueError(f"{name} and {name}_FILE are both set: leave one of them out")
            found[name] = Path(file)
    return found


def secrets_dir(given: str | None) -> Path | None:
    """Return the directory of secrets, if there is one.

    Args:
        given: what an option says.

    Raises:
        ValueError: if one is named that does not exist.
    """
    named = given or environment().get(SECRETS_DIR)
    directory = Path(named or _SECRETS_DIR)
    if directory.is_dir():
        return directory
    if named:
        raise ValueError(f"{'--secrets-dir' if given else SECRETS_DIR}: there is no directory {named}")
    return None


def secret_files(directory: Path, names: Iterable[str]) -> dict[str, Path]:
    """Return the files of the secrets directory, by variable; other files are not looked at.

    Raises:
        ValueError: if the directory cannot be read.
    """
    wanted = {*names}
    try:
        return {
            name: one for one in sorted(directory.iterdir()) if (name := one.name.upper()) in wanted and one.is_file()
        }
    except OSError as error:
        raise ValueError(f"cannot read the secrets in {directory}: {error.strerror}") from None


def text_of_file(path: Path, name: str) -> str:
    """Return the text of a file, without blanks and line ends around it, and without the mark that editors on Windows write before it.

    Args:
        path: of the file.
        name: the variable that it stands for.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST + 1)
        if len(data) > _LONGEST:
            raise ValueError(f"{path}, for {name}, is longer than {_LONGEST} bytes: no secret is")
        return data.decode("utf-8-sig").strip()
    except OSError as error:
        raise ValueError(f"cannot read {path}, for {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}, for {name}, is no text in UTF-8") from None
