"""Where settings come from: the command line, the environment and its files, a directory of secrets, a file, in this order.

The first that has a setting decides it; `Loaded.origins` says which one that was. An unknown key of the file is an error. An unknown variable
of the environment is a warning, because the environment has other users.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from telstate.calls._settings import Settings
from telstate.cli._config import (
    COMMAND_LINE,
    TAGS,
    Receiver,
    ServiceConfig,
    all_uses,
    instead_of,
    is_secret,
    use_of,
    variable_of,
)
from telstate.cli._variables import (
    PREFIX,
    SECRETS_DIR,
    environment,
    named_files,
    secret_files,
    secrets_dir,
    text_of_file,
)
from telstate.events._masking import mask

__all__ = ["CONFIG", "FILE", "ConfigError", "Loaded", "Origin", "load"]

CONFIG = "TELSTATE_CONFIG"
"""The variable that names the file."""
FILE = "telstate.toml"
"""Is read in the current folder, if no other file is named."""
_OF_OTHERS = {
    CONFIG,
    SECRETS_DIR,
    "TELSTATE_RECORDS",
    "TELSTATE_REDACT_KEY",
    "TELSTATE_TRUNK_PASSWORD",
    "TELSTATE_COMPLETE",
}
"""Variables that are no settings of a service."""
_KUBERNETES = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$")
"""What Kubernetes sets in every container for a service whose name begins with `telstate`; and `…_PORT`, with a URL."""


class Origin(NamedTuple):
    """Where the value of a setting came from."""

    kind: str
    """`command line`, `environment`, `secrets`, `file` or `default`."""
    name: str = ""
    """The flag, the variable, or the file."""

    def __str__(self) -> str:
        return self.name or self.kind


class Loaded(NamedTuple):
    """The settings that hold."""

    config: ServiceConfig
    origins: Mapping[str, Origin]
    """By setting; those of the engine as `settings.NAME`. What is not in it has its default."""
    warnings: list[str]
    file: Path | None
    """The file that was read."""
    secrets: Path | None
    """The directory of secrets that was read."""

    def origin(self, name: str) -> Origin:
        """Return where a setting came from."""
        return self.origins.get(name, Origin("default"))

    def place(self, name: str) -> str:
        """Return where a setting stands, for errors: its flag, its variable, or the file and its key there."""
        origin = self.origin(name)
        return f"{origin}: {name}" if origin.kind == "file" else str(origin)


class ConfigError(ValueError):
    """Settings that cannot be right.

    Args:
        problems: each in words.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(self.problems))


def load(
    given: Mapping[str, Any] | None = None,
    *,
    flags: Mapping[str, str] | None = None,
    file: str | None = None,
    directory: str | None = None,
) -> Loaded:
    """Read all sources.

    Args:
        given: what the command line says, by setting.
        flags: how to call these settings in errors.
        file: the configuration file, if the command line names one.
        directory: the directory of secrets, likewise.

    Raises:
        ConfigError: if a value, a key or a file cannot be right. It names all of them.
    """
    try:
        secrets = secrets_dir(directory)
        path = _file(file)
        flags = flags or {}
        sources: list[tuple[Mapping[str, Any], Callable[[str], Origin]]] = [
            (given or {}, lambda name: Origin(COMMAND_LINE, flags.get(name, name))),
            (_texts(environment()), lambda name: Origin("environment", variable_of(name))),
            (
                _in_files(named_files(_variables())),
                lambda name: Origin("environment", f"{variable_of(name)}_FILE"),
            ),
            (
                _in_files(stored := secret_files(secrets, _variables()) if secrets else {}),
                lambda name: Origin("secrets", str(stored[variable_of(name)])),
            ),
            (_in_toml(path), lambda _: Origin("file", str(path))),
        ]
    except ValueError as error:
        raise ConfigError([str(error)]) from None
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for source, origin_of in sources:
        for name, value in _flat(source):
            if name not in values:
                values[name], origins[name] = value, origin_of(name)
    try:
        config = ServiceConfig.model_validate(_nested(values))
    except ValidationError as error:
        raise ConfigError(_problem(line, origins) for line in error.errors(include_url=False)) from None
    return Loaded(config, origins, [*_unknown_variables(secrets)], path, secrets)


class _Sources(ServiceConfig, BaseSettings):
    """The settings as pydantic-settings reads them."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="_", env_nested_max_split=1, enable_decoding=False, extra="forbid"
    )


class _Texts(EnvSettingsSource):
    """Settings from texts, by the names of variables."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        super().__init__(_Sources)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): text for name, text in self._texts.items()}

    def explode_env_vars(self, field_name: str, field: Any, env_vars: Mapping[str, str | None]) -> dict[str, Any]:
        """Only the engine's settings have parts: TELSTATE_NOTIFY_SECRET is none of TELSTATE_NOTIFY."""
        return super().explode_env_vars(field_name, field, env_vars) if field_name == "settings" else {}


class _Toml(TomlConfigSettingsSource):
    """A file of settings, with or without the mark that editors on Windows write before it."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        return tomllib.loads(file_path.read_text(encoding="utf-8-sig"))


def _texts(texts: Mapping[str, str]) -> dict[str, Any]:
    known = {*_variables()}
    given = {name: text for name, text in texts.items() if name in known}
    return _Texts(given)() if given else {}  # a look takes more than a millisecond


def _in_files(files: Mapping[str, Path]) -> dict[str, Any]:
    """Read files that stand for variables. Where the value is a file's name, it is that of this file. Empty ones count as none."""
    paths = {variable_of(name) for name, field in ServiceConfig.model_fields.items() if use_of(field).is_path}
    texts = {name: str(path) if name in paths else text_of_file(path, name) for name, path in files.items()}
    return _texts({name: text for name, text in texts.items() if text})


def _file(given: str | None) -> Path | None:
    """Return the configuration file, if there is one."""
    named = given or environment().get(CONFIG)
    path = Path(named or FILE)
    if path.is_file():
        return path
    if named:
        raise ValueError(f"{'--config' if given else CONFIG}: there is no file {named}")
    return None


def _in_toml(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return _Toml(_Sources, path)()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no TOML: {error}") from None


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the settings of a source; the engine's as `settings.NAME`, so that each may come from another source."""
    for name, value in values.items():
        if name == "settings" and isinstance(value, Mapping):
            for one, its in value.items():
                yield f"settings.{one}", its
        else:
            yield name, value


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in values.items():
        group, _, one = name.partition(".")
        if one:
            nested.setdefault(group, {})[one] = value
        else:
            nested[group] = value
    return nested


def _variables() -> list[str]:
    return [variable_of(name) for name in _keys()]


def _keys() -> list[str]:
    """Return the names of all settings; `settings.NAME` of the engine's."""
    return [
        *(name for name in ServiceConfig.model_fields if name != "settings"),
        *(f"settings.{name}" for name in Settings.model_fields),
    ]


# --- what cannot be right ---------------------------------------------------------------------------------------------


def _problem(error: Any, origins: Mapping[str, Origin]) -> str:
    """Say what is wrong with a value, and where it stands."""
    place = [f"{part + 1}" if isinstance(part, int) else part for part in error["loc"] if part not in TAGS]
    name = ".".join(place[:2]) if place[0] == "settings" else place[0]
    origin = origins.get(name) or Origin("default", name)
    if error["type"] == "extra_forbidden":
        return f"{origin}: there is no {_instead(place)}"
    where = f"{origin}: {' '.join(place)}" if origin.kind == "file" else str(origin)
    text = mask(str(error["msg"]).removeprefix("Value error, "))
    if text.startswith("takes "):
        return f"{where} {text}"
    return f"{where}: {text[0].lower()}{text[1:]}{_shown(place[0], error['input'])}"


def _shown(name: str, value: Any) -> str:
    """What came, unless it may be a secret; without phone numbers."""
    field = ServiceConfig.model_fields.get(name)
    if field is None or is_secret(field) or name == "notify" or not isinstance(value, str | int | float):
        return ""
    return f", not {mask(repr(value))}"


def _instead(place: list[str]) -> str:
    """Name a key that there is not, and say what there is."""
    *group, key = place
    if not group:
        return f"{key}{_meant(key, str)}`telstate config show` lists all settings"
    known = Receiver.model_fields if group[0] == "notify" else Settings.model_fields
    return f"{key} in {' '.join(group)}{instead_of(key, known)}"


def _unknown_variables(directory: Path | None) -> Iterator[str]:
    """Warn of variables, and of files in the directory of secrets, that look like settings."""
    for name, value in sorted(environment().items()):
        if name.startswith(PREFIX) and not _is_of_kubernetes(name, value):
            yield from _unknown(name, name)
    for path in sorted(directory.iterdir()) if directory else ():
        if path.name.upper().startswith(PREFIX):
            yield from _unknown(path.name.upper(), str(path))


def _unknown(name: str, shown: str) -> Iterator[str]:
    if not {name, name.removesuffix("_FILE")} & {*_variables(), *_OF_OTHERS}:
        meant = _meant(name.removeprefix(PREFIX).lower(), variable_of)
        yield f"{shown} is no setting, and has no effect{meant}`telstate config show` lists all settings"


def _is_of_kubernetes(name: str, value: str) -> bool:
    return _KUBERNETES.search(name) is not None or (name.endswith("_PORT") and "://" in value)


def _meant(key: str, named: Callable[[str], str]) -> str:
    """Ask whether another setting was meant: one whose flag has this name, or whose own name is like it."""
    same = [name for name, _, use in all_uses() if use.flag and _key(use.flag) == key]
    meant = same or get_close_matches(key, _keys(), 3, 0.75)
    return f": did you mean {' or '.join(map(named, meant))}? " if meant else ". "


def _key(flag: str) -> str:
    return flag.partition("/")[0].strip("-").replace("-", "_")
