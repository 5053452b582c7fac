"""Who may look at live calls: whoever sends a token, or signed in with one, or is on this machine where no token is asked for.

A browser signs in once: it posts the token, and gets a cookie that proves it. The cookie has an end and a signature, and not the token, so
nothing that reads it can sign in; no script can read it (`HttpOnly`), no page of another site can use it (`SameSite=Strict`), and it is only
sent to the board. The key of the signature is the token: with another token all cookies are void, and a restart voids none.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from telstate._asgi import PROXY_HEADERS, header_of, is_local

__all__ = ["COOKIE", "OTHER_SITE", "SIGNED_IN_FOR", "Admission", "LiveAccess", "checked_token"]

COOKIE = "telstate_board"
SIGNED_IN_FOR = 12 * 3600
"""Seconds: a shift."""
_SHORTEST_TOKEN = 16
_SITES = ("same-origin", "none")
"""What a browser says of a request that no page of another site has caused."""
OTHER_SITE = (
    "the request comes from a page of another site, or a proxy changes the Host header: let it pass the browser's"
)
_HOW_TO_OPEN = (
    "the live view has no token: start the service with one, as TELSTATE_VIEW_TOKEN (at least 16 characters; `openssl rand -hex 24` makes"
    " one). The board asks for it; other readers send it as `Authorization: Bearer …`"
)
_NOT_LOCAL = (
    f"{_HOW_TO_OPEN}. Without one, it answers only on this machine, to a loopback address, and through no proxy"
)
_WRONG = "the token is missing or wrong: send `Authorization: Bearer …` with the service's TELSTATE_VIEW_TOKEN"


class Admission(NamedTuple):
    """The answer to who asks."""

    refusal: Response | None
    """What to answer instead; None if they may read."""
    numbers: bool = False
    """Whether they see phone numbers, SIP users and names in full."""


class LiveAccess:
    """Who may read.

    Args:
        token: what readers must send.
        numbers_token: what readers send who see phone numbers and names in full.
        numbers: everybody sees them in full.
        allow_local: without a token, whether requests of this machine are accepted.
        clock: returns Unix seconds.

    Raises:
        ValueError: if a token is too short, or has characters that a header cannot have; or if both are the same.
    """

    def __init__(
        self,
        token: str | None,
        *,
        numbers_token: str | None = None,
        numbers: bool = False,
        allow_local: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tokens = [
            (checked_token(one).encode(), full)
            for one, full in ((token, numbers), (numbers_token, True))
            if one is not None
        ]
        if token is not None and token == numbers_token:
            raise ValueError("the token that shows numbers has to be another one than that which does not")
        self._numbers = numbers
        self._allow_local = allow_local
        self._clock = clock

    @property
    def needs_token(self) -> bool:
        """True if there is a token: then who is admitted has proved that they know it."""
        return bool(self._tokens)

    def admit(self, scope: Scope, *, signed_in: bool = False) -> Admission:
        """Decide about a request.

        Args:
            scope: of the request.
            signed_in: whether a browser that signed in is admitted, too.
        """
        if self._tokens:
            return self._admit_token(scope, signed_in=signed_in)
        if self._allow_local and is_local(scope, PROXY_HEADERS) and is_of_this_site(scope):
            return Admission(None, self._numbers)
        return Admission(JSONResponse({"error": _NOT_LOCAL if self._allow_local else _HOW_TO_OPEN}, 403))

    def _admit_token(self, scope: Scope, *, signed_in: bool) -> Admission:
        given = (header_of(scope, b"authorization") or "").encode("latin-1")
        for token, numbers in self._tokens:
            if hmac.compare_digest(given, b"Bearer " + token):
                return Admission(None, numbers)
        if signed_in and is_of_this_site(scope):
            numbers_or_none = self._read_cookie(scope)
            if numbers_or_none is not None:
                return Admission(None, numbers_or_none)
        return Admission(JSONResponse({"error": _WRONG}, 401, {"WWW-Authenticate": "Bearer"}))

    def admit_to_files(self, scope: Scope) -> Response | None:
        """Return the answer to a request for a file that holds nothing of any call, if it is refused; None if not.

        Where there is a token, everybody gets the page that asks for it. A link on another site may lead here.
        """
        if self._tokens or (self._allow_local and is_local(scope, PROXY_HEADERS)):
            return None
        return self.admit(scope).refusal

    def cookie(self, token: str) -> str | None:
        """Return the value of the cookie for whoever sends this token; None if it is wrong."""
        for known, _ in self._tokens:
            if hmac.compare_digest(token.encode("utf-8", "replace"), known):
                end = f"{self._clock() + SIGNED_IN_FOR:.0f}"
                return f"{end}.{_signature(known, end)}"
        return None

    def _read_cookie(self, scope: Scope) -> bool | None:
        """Return whether a browser that signed in sees numbers; None if it did not sign in, or too long ago."""
        cookies = cookie_parser(
            header_of(scope, b"cookie") or ""
        )  # as browsers do: `http.cookies` reads none beside an odd one
        end, _, signature = cookies.get(COOKIE, "").partition(".")
        if not (end.isascii() and end.isdecimal() and len(end) < 12) or int(end) < self._clock():
            return None
        for token, numbers in self._tokens:
            if hmac.compare_digest(signature.encode("utf-8", "replace"), _signature(token, end).encode()):
                return numbers
        return None


def is_of_this_site(scope: Scope) -> bool:
    """Return False if a browser says that a page of another site has caused the request.

    Browsers say it of all requests over TLS, and to this machine. Of others the origin is compared with the name that was asked for, which a proxy
    may have changed; not its scheme: behind a proxy that ends TLS it is another one.
    """
    origin, site = header_of(scope, b"origin"), header_of(scope, b"sec-fetch-site")
    if site is not None:
        return site in _SITES
    try:
        return origin is None or urlsplit(origin).netloc == (header_of(scope, b"host") or "")
    except ValueError:  # `http://[`
        return False


def _signature(token: bytes, end: str) -> str:
    return hmac.new(token, f"telstate board until {end}".encode(), sha256).hexdigest()


def checked_token(token: str) -> str:
    """Return a token with which readers may sign in.

    Raises:
        ValueError: if it is too short, or cannot be sent in a header.
    """
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(
            f"a view token has at least {_SHORTEST_TOKEN} printable ASCII characters and no spaces: `openssl rand -hex 24` makes one"
        )
    return token
