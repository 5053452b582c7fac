"""What `telstate doctor` finds at the settings: where they come from, and what is wrong with the secrets among them.

Settings that cannot be right have ended the command before.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from telstate.cli._checkup import Observation, aside, fault, fine, warning
from telstate.cli._config import ServiceConfig, all_uses, is_secret
from telstate.cli._variables import environment

if TYPE_CHECKING:
    from telstate.cli._config_sources import Loaded

__all__ = ["check_settings"]

_OF_CONTAINERS = Path("/run/secrets")
"""Files there may be read by all users of a container, and there is only one."""


async def check_settings(loaded: Loaded) -> list[Observation]:
    """Where settings come from, and which files with secrets every user of this machine can read."""
    places = Counter(
        {"file": str(loaded.file), "secrets": str(loaded.secrets)}.get(one.kind, f"the {one.kind}")
        for one in loaded.origins.values()
    )
    found = [fine(f"they come from {', '.join(f'{place} ({number})' for place, number in places.items())}")]
    if not places:
        found = [fine("all settings have their defaults")]
    found += _view_tokens(loaded.config)
    files = await aside(lambda: [path for path in dict.fromkeys(_files(loaded)) if _is_open(path)])
    why = "whoever has a secret can invent calls, act on them, or read who calls"
    return [
        *found,
        *(warning(f"every user of this machine can read {path}", why, f"chmod o= {path}") for path in files),
    ]


def _view_tokens(config: ServiceConfig) -> list[Observation]:
    """Whether a service starts with the tokens of its readers."""
    try:
        from telstate.views._live_access import LiveAccess  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:  # the check of versions names it
        return []
    given = (config.view_token, config.view_numbers_token)
    token, numbers_token = (None if one is None else one.get_secret_value() for one in given)
    try:
        LiveAccess(token, numbers_token=numbers_token)
    except ValueError as error:
        why = "telstate serve does not start with it"
        return [fault(str(error), why, "set TELSTATE_VIEW_TOKEN or TELSTATE_VIEW_NUMBERS_TOKEN to another one")]
    return []


def _files(loaded: Loaded) -> Iterator[Path]:
    """Yield the files that have secrets."""
    for name, field, use in all_uses():
        origin, value = loaded.origin(name), getattr(loaded.config, name)
        if use.is_path and name not in {"nats_ca", "nats_certificate"} and value:
            yield Path(value)
        if not is_secret(field):
            continue
        if origin.kind == "secrets":
            yield Path(origin.name)
        elif origin.kind == "file" and loaded.file is not None:
            yield loaded.file
        elif file := environment().get(origin.name) if origin.name.endswith("_FILE") else None:
            yield Path(file)
    for one in loaded.config.notify:
        if isinstance(one, str):
            continue
        if one.secret_file:
            yield Path(one.secret_file)
        if one.secrets and loaded.file is not None:
            yield loaded.file


def _is_open(path: Path) -> bool:
    """Return whether every user can read a file, and go through the folders that lead to it."""
    path = path.resolve()
    if os.name != "posix" or path.is_relative_to(_OF_CONTAINERS):
        return False
    try:
        may_read = path.stat().st_mode & stat.S_IROTH
        return bool(may_read) and all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents)
    except OSError:
        return False
