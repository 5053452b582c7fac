"""The kinds of requests that Daily sends to the receiver, and who may send them: each kind has signature headers and secrets of its own.

A request is judged by the headers that it carries, whatever path it came by. Nothing here reads a clock or the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from telstate.sources._signatures import (
    PINLESS,
    TRUNK,
    WEBHOOK,
    BadSignature,
    Secret,
    SignatureHeaders,
    WrongSignature,
    verify,
)

__all__ = ["KnownSecrets", "is_signed", "what_is_missing"]

_KINDS = (TRUNK, PINLESS, WEBHOOK)
"""In the order in which they are tried: a call on a trunk waits for seconds only."""


class _Option(NamedTuple):
    """Where secrets are set: in a program, and for `telstate serve`."""

    argument: str
    variable: str


_SHARED = _Option("secrets", "TELSTATE_WEBHOOK_SECRET")
_OPTIONS = {
    WEBHOOK: (_SHARED,),
    PINLESS: (_Option("pinless_secrets", "TELSTATE_PINLESS_SECRET"), _SHARED),
    TRUNK: (_Option("trunk_secrets", "TELSTATE_TRUNK_SECRET"), _SHARED),
}


def is_signed(given: Mapping[str, str]) -> bool:
    """Return whether a request has the headers of a kind; not whether they are valid."""
    return any(kind.signature in given and kind.timestamp in given for kind in _KINDS)


def what_is_missing(given: Mapping[str, str]) -> str:
    """Say which headers a request lacks that is not signed."""
    for kind in _KINDS:
        if kind.signature in given or kind.timestamp in given:
            return f"the request has no {kind.signature} or no {kind.timestamp}"
    return f"the request is not signed: it has none of the headers {', '.join(kind.signature for kind in _KINDS)}"


class KnownSecrets:
    """The secrets that are valid for each kind of request.

    Args:
        shared: valid for all kinds.
        pinless: valid for callers on hold too.
        trunk: valid for calls on a SIP trunk too.

    Raises:
        ValueError: if one of them is not base64.
        TypeError: if they are not lists.
    """

    def __init__(
        self, shared: Iterable[str | Secret], pinless: Iterable[str | Secret], trunk: Iterable[str | Secret]
    ) -> None:
        of_all = _secrets(shared, "secrets")
        self._of: dict[SignatureHeaders, tuple[Secret, ...]] = {
            WEBHOOK: of_all,
            PINLESS: of_all + _secrets(pinless, "pinless_secrets"),
            TRUNK: of_all + _secrets(trunk, "trunk_secrets"),
        }

    def __bool__(self) -> bool:
        return any(self._of.values())

    def verify(self, given: Mapping[str, str], body: bytes, now: float, *, tolerance: float) -> SignatureHeaders:
        """Check that a request is validly signed as one of the kinds, and return which.

        Raises:
            BadSignature: if it is not. The message names the headers that it has, and where their secrets are set.
        """
        reasons = []
        for kind in _KINDS:
            if kind.signature not in given and kind.timestamp not in given:
                continue
            try:
                self._verify_as(kind, given, body, now, tolerance)
            except BadSignature as error:
                reasons.append(str(error))
            else:
                return kind
        raise BadSignature("; ".join(reasons) or what_is_missing(given))

    def _verify_as(
        self, kind: SignatureHeaders, given: Mapping[str, str], body: bytes, now: float, tolerance: float
    ) -> None:
        secrets = self._of[kind]
        if not secrets:
            raise BadSignature(f"the request has {kind.signature}, and no secret for that is known: {_hint(kind)}")
        try:
            verify(secrets, kind, given, body, now, tolerance=tolerance)
        except WrongSignature as error:
            raise BadSignature(f"{kind.signature}: {error}; {_hint(kind)}") from None
        except BadSignature as error:
            raise BadSignature(f"{kind.signature}: {error}") from None


def _hint(kind: SignatureHeaders) -> str:
    """Say where the secrets of a kind are set."""
    arguments = " or ".join(f"{option.argument}=[…]" for option in _OPTIONS[kind])
    variables = " or ".join(option.variable for option in _OPTIONS[kind])
    return f"set {arguments} (telstate serve: {variables}) to the `hmac` that Daily signs these requests with"


def _secrets(given: Iterable[str | Secret], name: str) -> tuple[Secret, ...]:
    if isinstance(given, (str, Secret)):
        raise TypeError(f"{name}= takes a list of secrets, so that you can rotate them: {name}=[…]")
    try:
        return tuple(secret if isinstance(secret, Secret) else Secret(secret) for secret in given)
    except ValueError as error:
        raise ValueError(f"{name}=: {error}") from None
