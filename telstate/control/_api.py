"""Daily's REST API: one request, its answer or one clear error, and nothing done twice that must not be.

    async with DailyApi(key) as api:
        rooms = await api.request("GET", "/rooms")

What only asks (GET) is tried again when Daily cannot be reached, has too much to do or fails. What changes something is tried
again only where it is certain that nothing was sent, or where doing it twice is doing it once. The key stays in here: no error leaves with one of httpx's behind it,
because those hold the request with its headers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import urlsplit

import anyio
from pydantic import SecretStr

from telstate.control._error_mapping import ADVICE, error_type_of, one_line
from telstate.errors import DailyError, DefinitionError, NotAllowed, NotRunning, TemporarilyNotAvailable, UnknownResult
from telstate.routing._log import Log

if TYPE_CHECKING:
    import httpx

__all__ = ["DAILY", "DailyApi"]

DAILY = "https://api.daily.co/v1"
"""Source: docs.daily.co/reference/rest-api."""

_PAUSES = (0.5, 1.0, 2.0)
_LONGEST_PAUSE = 60.0
"""Seconds. If Daily asks for more, the caller is told, and decides."""
_LONGEST_ANSWER = 10_000_000
"""Bytes; a list of all rooms is far below it."""
_KEY = re.compile(r"[!-~]+")
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}

_BY_STATUS = {401: NotAllowed, 403: NotAllowed}
"""What a status means where the text says nothing: docs.daily.co/docs/rest-api/errors."""
_WHAT_TO_DO = {
    401: "The API key is not valid: take it from the Developers section of Daily's dashboard.",
    403: "The API key may not do this: see that it is of the right domain, and that Daily has opened this for the account.",
    404: "It is not there, or no longer, or belongs to another domain than the API key: see its name or id for a typo.",
}


class _Tried(NamedTuple):
    """What became of one try."""

    status: int | None = None
    body: bytes = b""
    retry_after: float = 0.0
    """Seconds that Daily asks to wait."""
    trouble: str = ""
    """Why there is no answer, or none that can be used."""
    sent: bool = True
    """False if it is certain that Daily has seen nothing of it."""
    ok: bool = True
    """False if the answer itself says that it is not ok, whatever its status."""

    @property
    def fails(self) -> bool:
        """Whether Daily, or what is before it, did not say what became of it."""
        return self.status is None or self.status >= 500


class Answer(NamedTuple):
    """What Daily said."""

    told: Any
    """Decoded from JSON; None if it is empty."""
    repeated: bool
    """As `DailyError.repeated`."""


class DailyApi:
    """Daily's REST API with one domain's key; an async context manager. One serves any number of tasks at once.

    Args:
        key: the domain's API key (Daily's dashboard, Developers). It is shown nowhere.
        url: where the API is; https, or http on this machine, because the key travels in each request.
        timeout: seconds to connect, and seconds that Daily may stay silent; an answer may take twice that in all.
        pauses: seconds before each further try; none at all means that nothing is tried again.

    Raises:
        DefinitionError: if httpx is not installed, or the key or the URL can be none.
    """

    def __init__(
        self, key: str | SecretStr, *, url: str = DAILY, timeout: float = 10.0, pauses: Sequence[float] = _PAUSES
    ) -> None:
        if find_spec("httpx") is None:
            raise DefinitionError("Daily's REST API needs httpx: pip install 'telstate[rest]'")
        self._url = url.rstrip("/")
        key = key.get_secret_value() if isinstance(key, SecretStr) else key
        key = self._key = SecretStr(key.strip())  # error reporters show local variables: no other has it
        if not _KEY.fullmatch(self._key.get_secret_value()):  # httpx would name it in its complaint
            raise DefinitionError("the API key is empty, or has characters that no key has: copy it again from Daily")
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise DefinitionError(f"{url!r} must begin with https://: the API key travels in each request")
        self._timeout = timeout
        self._pauses = tuple(pauses)
        self._client: httpx.AsyncClient | None = None
        self._log = Log()

    def __repr__(self) -> str:
        return f"DailyApi(url={self._url!r})"

    async def __aenter__(self) -> Self:
        import httpx  # noqa: PLC0415 - an extra

        # The key is put in by a function at the last moment, so that it stands in no argument and no default header.
        self._client = httpx.AsyncClient(auth=self._sign)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - httpx tells apart what timed out
        again: bool = False,
    ) -> Any:
        """Ask Daily, and return its answer, decoded from JSON; None if it is empty.

        Args:
            method: `GET`, `POST` or `DELETE`.
            path: from the base URL on, beginning with a slash; quote what comes from elsewhere.
            body: what to send as JSON.
            timeout: seconds, for this request alone.
            again: True for what does no more if it is done twice: it is then tried again as a GET is.

        Raises:
            DailyError: if Daily refused it, could not be reached, or an answer to a GET could not be had. Where Daily's words
                say why, it is the subclass that means that: see `telstate.errors`.
            UnknownResult: if the answer to another method was lost, cannot be read, or says that Daily failed.
            NotRunning: outside the `async with`.
            DefinitionError: if the path can be none.
        """
        return (await self.ask(method, path, body, timeout=timeout, again=again)).told

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
        again: bool = False,
    ) -> Answer:
        """As `request`, but tell too whether it was sent more than once."""
        if self._client is None:
            raise NotRunning("use a DailyApi in an `async with`")
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        answer = await self._ask(self._client, method.upper(), path, content, timeout or self._timeout, again)
        if isinstance(answer, DailyError):  # raised here, where no local variable holds what came
            raise answer
        return answer

    async def _ask(  # noqa: PLR0917 - one request, in httpx's words
        self,
        client: httpx.AsyncClient,
        method: str,
        path: str,
        content: bytes | None,
        timeout: float,  # noqa: ASYNC109
        safe: bool,
    ) -> Answer | DailyError:
        """Try as often as it may be tried; return the answer, or the error."""
        repeated = False
        for pause in (*self._pauses, None):
            tried = await self._try(client, method, path, content, timeout)
            if not tried.trouble and tried.status is not None and 200 <= tried.status < 300:
                try:
                    told = json.loads(tried.body) if tried.body else None
                except (ValueError, RecursionError):
                    tried = tried._replace(trouble="an answer that is no JSON")
                else:
                    if method == "GET" or _is_ok(told):
                        return Answer(told, repeated)
                    tried = tried._replace(ok=False)
            passing = tried.fails or tried.status == 429
            again = not tried.sent or (passing and (safe or method == "GET"))
            if pause is None or not again or tried.retry_after > _LONGEST_PAUSE:
                break
            wait = max(pause, tried.retry_after)
            why = self._clean(tried.trouble) or tried.status
            self._log.info("daily.again", method=method, path=path, why=why, seconds=wait)
            await anyio.sleep(wait)
            repeated = repeated or (tried.sent and tried.fails)
        error = self._error(method, path, tried)
        error.repeated = repeated
        return error

    def _sign(self, request: httpx.Request) -> httpx.Request:
        request.headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        return request

    async def _try(
        self,
        client: httpx.AsyncClient,
        method: str,
        path: str,
        content: bytes | None,
        timeout: float,  # noqa: ASYNC109
    ) -> _Tried:
        """One try. It returns what went wrong: raised from here, it would have httpx's exception for its context."""
        import httpx  # noqa: PLC0415 - an extra

        headers = {} if content is None else {"Content-Type": "application/json"}
        request = {"content": content, "headers": headers, "timeout": timeout}
        try:
            with anyio.fail_after(2 * timeout) as scope:
                async with client.stream(method, self._url + path, **request) as response:  # type: ignore[arg-type]
                    tried = _Tried(response.status_code, retry_after=_seconds(response.headers.get("Retry-After")))
                    body = bytearray()
                    async for chunk in response.aiter_bytes():
                        body += chunk
                        if len(body) > _LONGEST_ANSWER:
                            scope.cancel()  # to break off would leave httpx's generators open
                    if len(body) <= _LONGEST_ANSWER:
                        return tried._replace(body=bytes(body))
            return tried._replace(trouble=f"an answer of more than {_LONGEST_ANSWER:,} bytes")
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
            return _Tried(trouble=str(error) or type(error).__name__, sent=False)
        except TimeoutError:
            return _Tried(trouble=f"no whole answer within {2 * timeout:g} seconds")
        except httpx.TimeoutException:
            return _Tried(trouble=f"no answer within {timeout:g} seconds")
        except httpx.HTTPError as error:
            return _Tried(trouble=str(error) or type(error).__name__)
        except httpx.InvalidURL:
            raise DefinitionError(f"{path!r} is no path of a URL") from None

    def _error(self, method: str, path: str, tried: _Tried) -> DailyError:
        """The error that says it: what was asked, what came, what to do."""
        asked = f"{method} {path}"
        trouble = self._clean(tried.trouble)
        if not tried.sent:
            return DailyError(f"{asked} was not sent, {self._url} cannot be reached: {trouble}")
        error, info = self._said(tried.body)
        status = f"Daily answered {tried.status}" if tried.ok else "Daily answered that it is not ok"
        got = trouble or ": ".join(filter(None, [status, error, info]))
        kind, what = self._meaning(tried, f"{error} {info}", named=error is not None)
        if method == "GET" and kind is UnknownResult:
            kind, what = DailyError, "Try again later."
        text = f"{asked}: {got.rstrip('.')}. {what}".rstrip()
        told = kind(text, status=tried.status, error=error, info=info)
        if isinstance(told, TemporarilyNotAvailable):
            told.retry_after = tried.retry_after
        return told

    def _meaning(self, tried: _Tried, said: str, *, named: bool) -> tuple[type[DailyError], str]:
        """Which error it is, and what to do."""
        refused = not tried.trouble and tried.status is not None and (tried.status >= 300 or not tried.ok)
        kind = error_type_of(said) if refused else DailyError
        if not refused or (tried.status or 0) >= 500:
            # A gateway may have failed after it passed the request on, and have no worker of its own; only Daily itself, by an
            # error of its form, can say that nothing was done.
            if kind is TemporarilyNotAvailable and named:
                return kind, ADVICE[kind]
            return UnknownResult, ADVICE[UnknownResult]
        if tried.status == 429:
            when = f"in {tried.retry_after:.0f} seconds" if tried.retry_after else "later"
            return (
                TemporarilyNotAvailable,
                f"There were too many requests, and this one was not done: try again {when}.",
            )
        if kind is not DailyError:
            return kind, ADVICE[kind]
        return _BY_STATUS.get(tried.status or 0, DailyError), _WHAT_TO_DO.get(tried.status or 0, "")

    def _said(self, body: bytes) -> tuple[str | None, str | None]:
        """Daily's usual error is `{"error": …, "info": …}`; a gateway on the way says anything."""
        try:
            told = json.loads(body)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            return None, self._clean(body.decode("utf-8", "replace")) or None
        error, info = told.get("error"), told.get("info")
        return (self._clean(str(error)) if error else None), (self._clean(str(info)) if info else None)

    def _clean(self, text: str) -> str:
        """On one line, cut short, and without the key, should somebody repeat it to us."""
        return one_line(text.replace(self._key.get_secret_value(), "•••"))


def _is_ok(told: Any) -> bool:
    """What acts on a call is answered with `"ok": "true"`, a string; where that says anything else, it was not done."""
    return not isinstance(told, dict) or str(told.get("ok", True)).lower() in ("true", "1")


def _seconds(retry_after: str | None) -> float:
    """`Retry-After` is a number of seconds or a date (RFC 9110, 10.2.3); 0 if it is neither."""
    if retry_after is None:
        return 0.0
    if re.fullmatch(r"\d{1,9}", retry_after, re.ASCII):
        return float(retry_after)
    try:
        until = parsedate_to_datetime(retry_after)
        return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):
        return 0.0
