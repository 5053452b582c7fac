"""Receivers of notifications, from URLs, from tables of the configuration, and from files of their own."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from telstate.cli._config import Receiver, ServiceConfig, instead_of, variable_of
from telstate.cli._terminal import misuse
from telstate.cli._variables import listed, text_of_file
from telstate.control._notifier import Notifier
from telstate.control._notify_target import NotifyTarget
from telstate.errors import DefinitionError
from telstate.views import FIELDS, Condition

__all__ = ["notifier_of", "refuse_notify", "targets_of"]

_SECRET = variable_of("notify_secret")
_URL = re.compile("https?://", re.IGNORECASE)
_RECORD_FIELDS = (*FIELDS, "call_id", "from", "to")
"""Of sessions and of callers on hold."""


def notifier_of(config: ServiceConfig) -> Notifier | None:
    """Make the notifier; None if nobody is to be told. What cannot be right ends the command."""
    if not config.notify:
        if config.notify_allow:
            misuse("--notify-allow is about receivers: give --notify with it")
        return None
    targets = targets_of(config)
    try:
        return Notifier(*targets, allow=config.notify_allow)
    except (ValueError, DefinitionError) as error:
        misuse(f"--notify: {error}")


def targets_of(config: ServiceConfig) -> list[NotifyTarget]:
    """Return the receivers. What cannot be right ends the command."""
    try:
        return [target for number, one in enumerate(config.notify, 1) for target in _targets(one, number, config)]
    except (ValueError, DefinitionError) as error:
        misuse(f"--notify: {error}")


def refuse_notify(config: ServiceConfig) -> None:
    """End a command that publishes to NATS, or reads from there, where it is to notify."""
    if config.notify:
        misuse(
            "--notify works with `telstate serve` on a journal of its own only: messages wait for a receiver for up to a day, and the"
            " streams in NATS have no place for them that would move to another worker with its partition. Tell others in a handler"
            " (on_end, on_retired) instead"
        )


def _targets(given: str | Receiver, number: int, config: ServiceConfig) -> Iterator[NotifyTarget]:
    if isinstance(given, Receiver):
        yield _in_place(f"receiver {number}", given, config.notify_secret)
    elif not _URL.match(given):
        for place, one in _in_file(given):
            yield _in_place(place, one, config.notify_secret)
    elif config.notify_secret:
        yield _target(Receiver(url=given), config.notify_secret)
    else:
        misuse(f"--notify needs a secret in {_SECRET}: make one with `echo whsec_$(openssl rand -base64 32)`")


def _in_file(name: str) -> Iterator[tuple[str, Receiver]]:
    """Yield the receivers of a file, `[[receiver]]` with `url` and more, and their places.

    Raises:
        ValueError: if it is not such a file.
    """
    try:
        tables = tomllib.loads(Path(name).read_text(encoding="utf-8-sig"))
    except OSError as error:
        misuse(f"--notify takes a URL that begins with https://, or a file: {name}: {error.strerror}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: {error}") from None
    receivers = tables.pop("receiver", None)
    if tables or not isinstance(receivers, list) or not all(isinstance(one, dict) for one in receivers):
        raise ValueError(f"{name}: expected tables [[receiver]], and nothing else")
    for number, one in enumerate(receivers, 1):
        place = f"{name}, receiver {number}"
        try:
            yield place, Receiver.model_validate(one)
        except ValidationError as error:
            problems = "; ".join(map(_problem, error.errors(include_url=False, include_input=False)))
            raise ValueError(f"{place}: {problems}") from None


def _problem(error: Any) -> str:
    key = error["loc"][0]
    if error["type"] == "extra_forbidden":
        return f"there is no {key}{instead_of(str(key), sorted(Receiver.model_fields))}"
    text = str(error["msg"])
    return f"{key}: {text[0].lower()}{text[1:]}"


def _in_place(place: str, receiver: Receiver, secrets: Sequence[SecretStr]) -> NotifyTarget:
    try:
        return _target(receiver, secrets)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _target(receiver: Receiver, secrets: Sequence[SecretStr]) -> NotifyTarget:
    where = receiver.where
    return NotifyTarget(
        receiver.url,
        _secrets(receiver) or [one.get_secret_value() for one in secrets] or _none(receiver),
        events=receiver.events,
        where=None if where is None else Condition(where, _RECORD_FIELDS).holds,
        name=receiver.name,
    )


def _secrets(receiver: Receiver) -> list[str]:
    """Return a receiver's own secrets."""
    if receiver.secrets:
        return [one.get_secret_value() for one in receiver.secrets]
    if receiver.secret_file is not None:
        return text_of_file(Path(receiver.secret_file), "secret_file").replace(",", " ").split() or _none(receiver)
    if receiver.secret_env is not None:
        return listed(receiver.secret_env) or _none(receiver)
    return []


def _none(receiver: Receiver) -> list[str]:
    place = receiver.secret_file or receiver.secret_env or _SECRET
    raise ValueError(
        f"it needs secrets, secret_file, or secret_env, the name of a variable that has them ({place} has none)"
    )
