"""The flags of `telstate serve` and `telstate work`, made from the settings: the command gets what the command line and all other sources say."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from inspect import cleandoc
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import typer
from annotated_types import Ge, Le
from pydantic.fields import FieldInfo

from telstate.cli._config import CAMPAIGN, RECEIVE, SERVE, ServiceConfig, Use, all_uses, is_secret, use_of, variable_of
from telstate.cli._shared_options import parameters_of
from telstate.cli._terminal import misuse, say

if TYPE_CHECKING:
    from telstate.cli._config_sources import Loaded

__all__ = ["ConfigFile", "SecretsDir", "configured", "flag_of", "given_flags", "load_config"]

ConfigFile = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The file with the settings, in TOML; TELSTATE_CONFIG names it, too. By default telstate.toml in this folder, if it exists.",
    ),
]
SecretsDir = Annotated[
    str | None,
    typer.Option(
        "--secrets-dir",
        metavar="FOLDER",
        help="A folder with a file for each secret, named as its variable; TELSTATE_SECRETS_DIR names it, too. By default /run/secrets, if it exists.",
    ),
]


_OTHER_SOURCES = (
    "Settings may also be in variables of the environment, in files with secrets, and in a file: `telstate config show` lists all, with"
    " their names."
)
"""Stands in the help of each command that has them, before its example."""


def configured(command: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command its flags besides its own ones, and pass it the settings that hold as `loaded`.

    Args:
        command: `SERVE`, `WORK` or `CAMPAIGN`.
    """

    def decorate(run: Callable[..., None]) -> Callable[..., None]:
        more = [one for one in parameters_of(run) if one.name != "loaded"]
        names = [one.name for one in more]

        @wraps(run)
        def with_config(context: typer.Context, config: str | None, secrets_dir: str | None, **flags: Any) -> None:
            loaded = load_config(config, secrets_dir, given_flags(context), _flags(command))
            if loaded.file is not None:  # nobody may have named it
                say(f"settings from {loaded.file}")
            run(loaded=loaded, **{name: flags[name] for name in names})

        kind = inspect.Parameter.KEYWORD_ONLY
        own = [
            inspect.Parameter("context", kind, annotation=typer.Context),
            inspect.Parameter("config", kind, annotation=ConfigFile, default=None),
            inspect.Parameter("secrets_dir", kind, annotation=SecretsDir, default=None),
        ]
        with_config.__signature__ = inspect.Signature([*more, *_parameters(command), *own])  # type: ignore[attr-defined]
        with_config.__annotations__ = {}
        with_config.__doc__ = cleandoc(run.__doc__ or "").replace("\n\nExample", f"\n\n{_OTHER_SOURCES}\n\nExample")
        return with_config

    return decorate


def given_flags(context: typer.Context) -> dict[str, Any]:
    """Return the settings that the command line gives."""

    def is_given(name: str) -> bool:
        source = context.get_parameter_source(name)
        return source is not None and source.name == "COMMANDLINE"

    return {
        name: value for name, value in context.params.items() if name in ServiceConfig.model_fields and is_given(name)
    }


def load_config(
    file: str | None,
    directory: str | None,
    given: Mapping[str, Any] | None = None,
    flags: Mapping[str, str] | None = None,
) -> Loaded:
    """Read all settings; what cannot be right ends the command, and what has no effect is reported. Arguments as for `load`."""
    try:
        from telstate.cli._config_sources import ConfigError, load  # noqa: PLC0415 - takes a while to import
    except ModuleNotFoundError as error:
        misuse(f"the settings need {error.name}: pip install 'telstate[cli]'")
    try:
        loaded = load(given, flags=flags, file=file, directory=directory)
    except ConfigError as error:
        for problem in error.problems[:-1]:
            say(problem)
        misuse(error.problems[-1])
    for warning in loaded.warnings:
        say(warning)
    return loaded


def _uses(command: str) -> Iterator[tuple[str, FieldInfo, Use]]:
    wanted = {SERVE: {SERVE, RECEIVE}, CAMPAIGN: {SERVE}}.get(command, {command})
    return (one for one in all_uses() if wanted & {*one[2].by, *one[2].refused_by})


def _flags(command: str) -> dict[str, str]:
    """How errors call what the command line gives."""
    return {name: (use.flag or use.metavar).partition("/")[0] for name, _, use in _uses(command)}


def _parameters(command: str) -> Iterator[inspect.Parameter]:
    kind = inspect.Parameter.KEYWORD_ONLY
    for name, field, use in _uses(command):
        default = None if is_secret(field) or field.default == () else field.default
        if name == "program":
            argument = typer.Argument(metavar=use.metavar, help=use.about)
            yield inspect.Parameter(name, kind, annotation=Annotated[str | None, argument], default=None)
        elif use.flag:
            yield inspect.Parameter(
                name, kind, annotation=Annotated[_type(field), _option(name, field, use)], default=default
            )


def _option(name: str, field: FieldInfo, use: Use) -> Any:
    least = next((one.ge for one in field.metadata if isinstance(one, Ge)), None)
    most = next((one.le for one in field.metadata if isinstance(one, Le)), None)
    bounds: dict[str, Any] = {"min": least, "max": most} if int in _types(field) or float in _types(field) else {}
    return typer.Option(
        use.flag, metavar=use.metavar or None, help=_help(name, field, use), hidden=use.is_hidden, **bounds
    )


def flag_of(name: str) -> Any:
    """Return the flag of a setting, for a command that has few of them."""
    field = ServiceConfig.model_fields[name]
    return _option(name, field, use_of(field))


def _help(name: str, field: FieldInfo, use: Use) -> str:
    more = f"Better in {variable_of(name)}: every user of this machine can read arguments." if is_secret(field) else ""
    many = "May be repeated." if tuple in _types(field) else ""
    return " ".join(filter(None, (use.about, many, more)))


def _types(field: FieldInfo) -> tuple[Any, ...]:
    """The type of a setting, or the types it is one of."""
    if get_origin(field.annotation) is tuple:
        return (tuple,)
    return get_args(field.annotation) or (field.annotation,)


def _type(field: FieldInfo) -> Any:
    """Return the type of a setting's flag: others than these are read by the setting itself."""
    types = _types(field)
    plain = next((one for one in (bool, int, float) if one in types), str)
    return list[str] | None if tuple in types else plain | None if type(None) in types else plain
