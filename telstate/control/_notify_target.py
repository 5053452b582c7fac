"""A receiver of notifications: its URL, the secrets that sign them, and what it wants to hear of."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from telstate.control._tls import is_secure
from telstate.errors import DefinitionError
from telstate.routing._outbox import NotificationKind

if TYPE_CHECKING:
    from standardwebhooks import Webhook

__all__ = ["NotifyTarget"]

_SHORTEST_SECRET = 24
"""Bytes: what Standard Webhooks asks for."""
_LONGEST_NAME = 100
_UNREADABLE = "the URL of a receiver cannot be read: expected https://HOST/PATH"


class NotifyTarget:
    """One receiver of notifications. No representation shows its secrets, nor the path of its URL, which may be one.

    Args:
        url: where they are sent. https; http only for a host that the `Notifier` allows.
        secrets: one or several secrets as Standard Webhooks writes them, `whsec_` and base64. Messages are signed with each, so that a
            receiver can go over from one to the next. The receiver needs one of them.
        events: the kinds that it wants, such as `call.ended`; by default all.
        where: a function of the record that says whether it wants the message, such as `Condition("talk_s > 30", FIELDS).holds`. It must
            not wait. A message about a caller has a caller's record.
        name: what the log and dead letters call it. Messages that wait belong to this name, also if the URL changes. By default made of
            the host and a hash of the URL.

    Raises:
        DefinitionError: if `telstate[notify]` is not installed.
        ValueError: if the URL, a secret, a kind or the name cannot be right.
    """

    def __init__(
        self,
        url: str,
        secrets: str | Sequence[str],
        *,
        events: Iterable[NotificationKind | str] | None = None,
        where: Callable[[Mapping[str, Any]], bool] | None = None,
        name: str | None = None,
    ) -> None:
        for package in ("httpx", "standardwebhooks"):
            if find_spec(package) is None:
                raise DefinitionError(f"notifications need {package}: pip install 'telstate[notify]'")
        self.host: str = _host_of(url)
        self.url: str = url
        self.is_secure: bool = is_secure(url)
        self.name: str = name or f"{self.host}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
        if len(self.name) > _LONGEST_NAME or not self.name.isprintable():
            raise ValueError(f"the name of a receiver has at most {_LONGEST_NAME} printable characters")
        self._signers = _signers(secrets)
        self._kinds = frozenset(NotificationKind) if events is None else _kinds(events)
        self._where = where

    def __repr__(self) -> str:
        return f"NotifyTarget({self.name})"

    @property
    def signers(self) -> Sequence[Webhook]:
        """What signs its messages."""
        return self._signers

    def wants_kind(self, kind: str) -> bool:
        """Return whether it wants any message of a kind."""
        return kind in self._kinds

    def wants(self, kind: str, record: Mapping[str, Any]) -> bool:
        """Return whether it wants a message. Raises any exception of `where`."""
        return kind in self._kinds and (self._where is None or bool(self._where(record)))


def _host_of(url: str) -> str:
    """Check a URL, and return its host. No error shows the URL: it may hold a secret."""
    from httpx import URL, InvalidURL  # noqa: PLC0415 - an extra

    try:
        parts, host = urlsplit(url), URL(url).raw_host.decode()  # the second as the sender reads it
        _ = parts.port
    except (InvalidURL, ValueError):  # their texts have parts of it
        raise ValueError(_UNREADABLE) from None
    if host != (parts.hostname or ""):
        raise ValueError(_UNREADABLE)
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("the URL of a receiver begins with https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"the URL of a receiver has no user and no password ({host}): the signature says who sends")
    if parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"the URL of a receiver is plain ASCII without a fragment ({host})")
    return host


def _signers(secrets: str | Sequence[str]) -> list[Webhook]:
    from standardwebhooks import Webhook  # noqa: PLC0415 - an extra

    given = [secrets] if isinstance(secrets, str) else list(secrets)
    if not given:
        raise ValueError("a receiver needs a secret: without a signature it could not know who sends")
    return [Webhook(_key(secret)) for secret in given]


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.strip().removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < _SHORTEST_SECRET:
        raise ValueError(
            f"a secret is `whsec_` and at least {_SHORTEST_SECRET} random bytes in base64: make one with"
            " `echo whsec_$(openssl rand -base64 32)`"
        )
    return key


def _kinds(events: Iterable[NotificationKind | str]) -> frozenset[NotificationKind]:
    given = [events] if isinstance(events, str) else list(events)
    known = {kind.value: kind for kind in NotificationKind}
    for one in given:
        if one not in known:
            raise ValueError(f"{one!r} is none of {', '.join(known)}")
    if not given:
        raise ValueError(f"events: name at least one of {', '.join(known)}")
    return frozenset(known[one] for one in given)
