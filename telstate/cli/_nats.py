"""Streams in NATS, as commands name them: `nats://host:4222/app/environment`.

    nats://host:4222                                     app telstate, environment default
    nats://one:4222,two:4222/telstate/production         several servers of one cluster
    nats://host:4222/telstate/production/17              one partition

Credentials come from the environment, where other users of the machine cannot read them, or from the address: see `connection`.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from pydantic import SecretStr

from telstate.cli._terminal import misuse
from telstate.cli._variables import PREFIX, variable
from telstate.errors import DefinitionError
from telstate.journals.nats._names import DEFAULT_APP, DEFAULT_ENVIRONMENT, Names

if TYPE_CHECKING:
    from telstate.cli._config import ServiceConfig
    from telstate.journals.nats import NatsConnection

__all__ = ["NatsAddress", "is_nats", "read_address", "refuse_names_alone", "without_password"]

_SCHEMES = ("nats://", "tls://", "ws://", "wss://")
_FORM = "nats://HOST:4222/APP/ENVIRONMENT"
_OPTIONS = {
    "user": "nats_user",
    "password": "nats_password",
    "token": "nats_token",
    "credentials": "nats_credentials",
    "nkey_seed": "nats_nkey",
    "inbox_prefix": "nats_inbox",
}
"""The settings that say how a connection is made."""
_CA, _CERTIFICATE, _KEY = "nats_ca", "nats_certificate", "nats_key"
_PATHS = {"nats_credentials", "nats_nkey", _CA, _CERTIFICATE, _KEY}
"""Those whose values are names of files."""


class NatsAddress(NamedTuple):
    """Where streams are, and whose."""

    servers: tuple[str, ...]
    """URLs, which may have a password."""
    names: Names
    partition: int | None = None
    """None for all."""

    def connection(self, name: str, config: ServiceConfig | None = None) -> NatsConnection:
        """Make the connection, not open yet.

        Args:
            name: what the server's monitoring shall call it.
            config: the settings of a service; a command that has none asks the environment.
        """
        try:
            from telstate.journals.nats import NatsConnection  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            misuse(f"nats:// needs {error.name}: pip install 'telstate[nats]'")
        setting = _from_environment if config is None else partial(_from_config, config)
        given = {option: value for option, name in _OPTIONS.items() if (value := setting(name))}
        return NatsConnection(self.servers, name=name, tls=_tls(setting), **given)

    def __str__(self) -> str:
        """The address as commands take it, without a password."""
        place = "" if self.partition is None else f"/{self.partition}"
        scheme = self.servers[0].partition("://")[0]
        hosts = ",".join(urlsplit(one).netloc.rpartition("@")[2] for one in self.servers)
        return f"{scheme}://{hosts}/{self.names.app}/{self.names.environment}{place}"


def refuse_names_alone(config: ServiceConfig, given: Collection[str]) -> None:
    """Refuse flags that name streams where no server is named."""
    if config.nats is None and not {"app", "environment"}.isdisjoint(given):
        misuse("--app and --environment name streams in NATS: give --nats URL with them")


def is_nats(name: str) -> bool:
    """Return True for the address of streams, not a file."""
    return name.startswith(_SCHEMES)


def read_address(text: str, *, app: str | None = None, environment: str | None = None) -> NatsAddress:
    """Read an address.

    Args:
        text: the address.
        app, environment: options that say the same as the address, or more.
    """
    if not is_nats(text):
        misuse(f"{text!r} is no address of NATS: give {_FORM}")
    scheme, _, rest = text.partition("://")
    hosts, *path = _split(rest)
    said_app, said_environment, partition = _path(text, path)
    for option, said, given in (("--app", said_app, app), ("--environment", said_environment, environment)):
        if said is not None and given is not None and said != given:
            misuse(f"{option} says {given!r}, and the address says {said!r}: leave one of them out")
    try:
        names = Names(said_app or app or DEFAULT_APP, said_environment or environment or DEFAULT_ENVIRONMENT)
        servers = tuple(f"{scheme}://{one.removeprefix(f'{scheme}://').strip()}" for one in hosts.split(","))
        for server in servers:
            if not urlsplit(server).hostname:
                misuse(f"an address of NATS without a host: give {_FORM}")
            urlsplit(server).port  # noqa: B018 - it raises if it is none
    except DefinitionError as error:
        misuse(f"{without_password(text)}: {error}")
    except ValueError as error:
        misuse(f"{without_password(text)} is no address of NATS: {error}; give {_FORM}")
    return NatsAddress(servers, names, partition)


def without_password(name: str) -> str:
    """Return the name of a log as it may be shown: an address without the password in it."""
    if not is_nats(name):
        return name
    scheme, _, rest = name.partition("://")
    hosts, *path = _split(rest)
    shown = (one.rpartition("@")[2] for one in hosts.split(","))
    return f"{scheme}://{'/'.join((','.join(shown), *path))}"


def _split(rest: str) -> list[str]:
    """Split what follows the scheme at slashes, but not at those of further servers' schemes."""
    for scheme in _SCHEMES:
        rest = rest.replace(f",{scheme}", ",")
    return rest.rstrip("/").split("/")


def _path(text: str, path: list[str]) -> tuple[str | None, str | None, int | None]:
    if not path:
        return None, None, None
    if len(path) not in {2, 3} or not all(path) or not (path[2:] or ["0"])[0].isdecimal():
        misuse(f"{without_password(text)}: after the host come app, environment and perhaps a partition: {_FORM}")
    return path[0], path[1], int(path[2]) if len(path) == 3 else None


def _from_environment(name: str) -> str | None:
    return variable(f"{PREFIX}{name.upper()}", is_path=name in _PATHS)


def _from_config(config: ServiceConfig, name: str) -> str | None:
    value: str | SecretStr | None = getattr(config, name)
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _tls(setting: Callable[[str], str | None]) -> ssl.SSLContext | None:
    """Return how to check the server's certificate, where a setting says that; None for the system's way."""
    authority, certificate, key = map(setting, (_CA, _CERTIFICATE, _KEY))
    if not authority and not certificate:
        return None
    try:
        context = ssl.create_default_context(cafile=authority or None)
        if certificate:
            context.load_cert_chain(certificate, key or None)
    except OSError as error:  # ssl.SSLError is one
        names = [f"{PREFIX}{name.upper()}" for name in (_CA, _CERTIFICATE, _KEY)]
        misuse(f"{names[0]}, {names[1]} and {names[2]} name files in PEM form: {error}")
    return context
