"""Checks files of credentials before they are used: nats-py reads a file that is something else for ever, or fails without its name."""

from __future__ import annotations

import re
from pathlib import Path

from telstate.errors import DefinitionError

__all__ = ["check_credentials", "check_seed"]

_JWT = re.compile(r"-----BEGIN NATS USER JWT-----\r?\n(\S+)\r?\n")
_SEED = re.compile(r"-----BEGIN USER NKEY SEED-----\r?\n(\S+)\r?\n")
_USER = "SU"
"""What the seed of a user begins with."""


def check_credentials(path: str) -> None:
    """Check a `.creds` file: it has the JWT of a user, and the seed of the user's nkey.

    Raises:
        DefinitionError: if it cannot be used. The message never has what is in the file.
    """
    text = _read(path, "a .creds file, as `nsc generate creds` writes it")
    seed = _SEED.search(text)
    if seed is None or _JWT.search(text) is None:
        raise DefinitionError(
            f"{path} is no .creds file: expected the blocks NATS USER JWT and USER NKEY SEED, as `nsc generate creds` writes them"
        )
    _check(path, seed[1])


def check_seed(path: str) -> None:
    """Check a file with the seed of a user's nkey.

    Raises:
        DefinitionError: as `check_credentials`.
    """
    _check(path, _read(path, "a file with the seed of an nkey, as `nk -gen user` writes it").strip())


def _read(path: str, expected: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except OSError as error:
        raise DefinitionError(f"{path} cannot be read ({error.strerror}): expected {expected}") from error
    except UnicodeDecodeError as error:
        raise DefinitionError(f"{path} is not text: expected {expected}") from error


def _check(path: str, seed: str) -> None:
    try:
        import nkeys  # type: ignore[import-untyped]  # noqa: PLC0415 - nats-py needs it for credentials only
    except ImportError as error:
        raise DefinitionError(
            f"credentials and nkeys of NATS need the package {error.name}: pip install 'telstate[nats]'"
        ) from error
    try:
        nkeys.from_seed(bytearray(seed.encode())).wipe()
        is_seed = seed.startswith(_USER)
    except (nkeys.NkeysError, ValueError):
        is_seed = False
    if not is_seed:
        raise DefinitionError(f"{path} has no seed of a user's nkey, which begins with {_USER} and has 58 characters")
