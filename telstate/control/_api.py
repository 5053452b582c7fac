"""Daily's REST API: one request gives an answer or one clear error, and nothing is done twice by accident.

    async with DailyApi(key) as api:
        rooms = await api.request("GET", "/rooms")

A GET is retried when Daily cannot be reached, is overloaded or fails. Any other request is retried only if nothing was sent, or if
it is idempotent. The key stays in here: no error has one of httpx's as its context, because those hold the request with its headers.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import urlsplit

import anyio
from pydantic import SecretStr

from telstate.control._error_mapping import ADVICE, meaning_of, one_line
from telstate.control._tls import tls_for
from telstate.errors import DailyError, DefinitionError, NotAllowed, NotRunning, TemporarilyNotAvailable, UnknownResult
from telstate.routing._log import Log

if TYPE_CHECKING:
    import httpx

__all__ = ["DAILY", "DailyApi", "unix_seconds"]

DAILY = "https://api.daily.co/v1"
"""Source: docs.daily.co/reference/rest-api."""

_PAUSES = (0.5, 1.0, 2.0)
_LONGEST_PAUSE = 60.0
"""Seconds. If Daily asks for more, the error is raised at once."""
_LONGEST_ANSWER = 10_000_000
"""Bytes; a list of all rooms is far smaller."""
_SHORTEST_SECRET = 3
"""Characters. Shorter ones are in any text."""
_KEY = re.compile(r"[!-~]+")
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}

_BY_STATUS = {401: NotAllowed, 403: NotAllowed}
"""The meaning of a status if the text is not known: docs.daily.co/docs/rest-api/errors."""
_ADVICE_BY_STATUS = {
    401: "The API key is not valid: take it from the Developers section of Daily's dashboard.",
    403: "The API key may not do this: check that it belongs to the right domain, and that Daily has enabled this for the account.",
    404: "It does not exist (any more), or belongs to another domain than the API key: check its name or id for a typo.",
}


class _Try(NamedTuple):
    """The result of sending a request once."""

    status: int | None = None
    body: bytes = b""
    retry_after: float = 0.0
    """Seconds that Daily asks to wait."""
    problem: str = ""
    """Why there is no usable answer."""
    sent: bool = True
    """False if it is certain that nothing reached Daily."""
    ok: bool = True
    """False if the answer says that it is not ok, with any status."""
    date: float | None = None
    """When the server sent it, by the server's clock; Unix seconds."""

    @property
    def is_inconclusive(self) -> bool:
        """True if neither Daily nor a gateway said whether the request was carried out."""
        return self.status is None or self.status >= 500

    def without_end(self, body: bytes, problem: str) -> _Try:
        """Return what is known if the body came in part: a refusal is one without it, of anything else nothing is known."""
        is_refusal = self.status is not None and 300 <= self.status < 500
        return self._replace(body=body) if is_refusal else _Try(problem=problem)


class Answer(NamedTuple):
    """An answer of Daily's."""

    value: Any
    """Decoded from JSON; None if it is empty."""
    repeated: bool
    """As `DailyError.repeated`."""
    date: float | None
    """When Daily sent it, by Daily's clock: Unix seconds, without their fraction. None if the answer does not say."""


class DailyApi:
    """Daily's REST API with one domain's key; an async context manager. Any number of tasks can share one.

    All its times are real time: no dispatcher's clock governs them.

    Args:
        key: the domain's API key (Daily's dashboard, Developers). It is never shown.
        url: the base URL; https, or http on this machine, because each request carries the key.
        timeout: seconds to connect, and seconds that Daily may stay silent; an answer may take twice that in total.
        pauses: seconds before each retry; empty for no retries.

    Raises:
        DefinitionError: if httpx is not installed, or the key or the URL is not valid.
    """

    def __init__(
        self, key: str | SecretStr, *, url: str = DAILY, timeout: float = 10.0, pauses: Sequence[float] = _PAUSES
    ) -> None:
        if find_spec("httpx") is None:
            raise DefinitionError("Daily's REST API needs httpx: pip install 'telstate[rest]'")
        self._url = url.rstrip("/")
        key = key.get_secret_value() if isinstance(key, SecretStr) else key
        key = self._key = SecretStr(key.strip())  # error reporters show local variables: no other one holds it
        if not _KEY.fullmatch(self._key.get_secret_value()):  # httpx would show it in its error
            raise DefinitionError("the API key is empty, or has characters that no key has: copy it again from Daily")
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise DefinitionError(f"{url!r} must begin with https://: each request carries the API key")
        self._timeout = timeout
        self._pauses = tuple(pauses)
        self._client: httpx.AsyncClient | None = None
        self._log = Log()

    def __repr__(self) -> str:
        return f"DailyApi(url={self._url!r})"

    async def __aenter__(self) -> Self:
        import httpx  # noqa: PLC0415 - an extra

        # A function adds the key at the last moment, so that no argument and no default header holds it.
        self._client = httpx.AsyncClient(auth=self._sign, verify=await tls_for(self._url))
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
        idempotent: bool = False,
        hide: Collection[SecretStr] = (),
    ) -> Any:
        """Send a request; return Daily's answer, decoded from JSON; None if it is empty.

        Args:
            method: `GET`, `POST`, `PUT` or `DELETE`.
            path: the path below the base URL, beginning with a slash; quote untrusted parts.
            body: what to send as JSON.
            timeout: seconds, for this request only.
            idempotent: True if doing it twice is the same as doing it once: it is then retried like a GET.
            hide: secrets in the body, which an error must not show even if the answer repeats them.

        Raises:
            DailyError: if Daily refused, could not be reached, or gave no readable answer to a GET. If Daily's text says why, the
                error is the subclass for that: see `telstate.errors`.
            UnknownResult: if the answer to another method was lost, cannot be read, or says that Daily failed.
            NotRunning: outside the `async with`.
            DefinitionError: if the path is not valid.
        """
        return (await self.send(method, path, body, timeout=timeout, idempotent=idempotent, hide=hide)).value

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
        idempotent: bool = False,
        hide: Collection[SecretStr] = (),
    ) -> Answer:
        """As `request`; the answer also says whether the request was sent more than once."""
        if self._client is None:
            raise NotRunning("use a DailyApi in an `async with`")
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        safe = idempotent or method.upper() == "GET"
        answer = await self._send(self._client, method.upper(), path, content, timeout or self._timeout, safe, hide)
        if isinstance(answer, DailyError):  # raised here, where no local variable holds the response
            raise answer
        return answer

    async def _send(  # noqa: PLR0917 - one request, in httpx's words
        self,
        client: httpx.AsyncClient,
        method: str,
        path: str,
        content: bytes | None,
        timeout: float,  # noqa: ASYNC109
        safe: bool,
        hide: Collection[SecretStr],
    ) -> Answer | DailyError:
        """Send it as often as allowed; return the answer, or the error."""
        repeated, tried = False, _Try()
        for pause in (*self._pauses, None):
            tried = await self._try(client, method, path, content, timeout)
            if not tried.problem and tried.status is not None and 200 <= tried.status < 300:
                try:
                    value = json.loads(tried.body) if tried.body else None
                except (ValueError, RecursionError):
                    tried = tried._replace(problem="the answer is not JSON")
                else:
                    if method == "GET" or _is_ok(value):
                        return Answer(value, repeated, tried.date)
                    tried = tried._replace(ok=False)
            is_temporary = tried.is_inconclusive or tried.status == 429
            may_retry = not tried.sent or (is_temporary and safe)
            if pause is None or not may_retry or tried.retry_after > _LONGEST_PAUSE:
                break
            wait = max(pause, tried.retry_after)
            reason = self._clean(tried.problem) or tried.status
            self._log.info("daily.retry", method=method, path=path, reason=reason, seconds=wait)
            await anyio.sleep(wait)
            repeated = repeated or (tried.sent and tried.is_inconclusive)
        error = self._error(method, path, tried._replace(body=_without(tried.body, hide)))
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
    ) -> _Try:
        """Send it once. Returns problems: an exception raised from here would have httpx's as its context."""
        import httpx  # noqa: PLC0415 - an extra

        headers = {"Accept-Encoding": "identity"}  # a few kB of compressed JSON can become gigabytes
        if content is not None:
            headers["Content-Type"] = "application/json"
        request = {"content": content, "headers": headers, "timeout": timeout}
        tried, body = _Try(), bytearray()
        try:
            with anyio.fail_after(2 * timeout) as scope:
                async with client.stream(method, self._url + path, **request) as response:  # type: ignore[arg-type]
                    pause, date = (
                        _seconds(response.headers.get("Retry-After")),
                        unix_seconds(response.headers.get("Date")),
                    )
                    tried = _Try(response.status_code, retry_after=pause, date=date)
                    encoding = response.headers.get("Content-Encoding", "identity")
                    if encoding.strip().lower() not in ("identity", ""):
                        return tried._replace(problem=f"the answer is compressed ({encoding}), which was not asked for")
                    async for chunk in response.aiter_raw():
                        body += chunk
                        if len(body) > _LONGEST_ANSWER:
                            scope.cancel()  # a break would leave httpx's generators open
                    if len(body) <= _LONGEST_ANSWER:
                        return tried._replace(body=bytes(body))
            return tried._replace(problem=f"the answer has more than {_LONGEST_ANSWER:,} bytes")
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
            return _Try(problem=str(error) or type(error).__name__, sent=False)
        except TimeoutError:
            return tried.without_end(bytes(body), f"no complete answer within {2 * timeout:g} seconds")
        except httpx.TimeoutException:
            return tried.without_end(bytes(body), f"no answer within {timeout:g} seconds")
        except httpx.HTTPError as error:
            return tried.without_end(bytes(body), str(error) or type(error).__name__)
        except httpx.InvalidURL:
            raise DefinitionError(f"{path!r} cannot be the path of a URL") from None

    def _error(self, method: str, path: str, tried: _Try) -> DailyError:
        """Return the error: what was requested, what came, what to do."""
        request = f"{method} {path}"
        problem = self._clean(tried.problem)
        if not tried.sent:
            return DailyError(f"{request} was not sent, {self._url} cannot be reached: {problem}")
        error, info = self._read_error(tried.body)
        status = f"Daily answered {tried.status}" if tried.ok else "Daily answered that it is not ok"
        got = problem or ": ".join(filter(None, [status, error, info]))
        kind, advice = self._classify(tried, f"{error} {info}", has_error_name=error is not None)
        if method == "GET" and kind is UnknownResult:
            kind, advice = DailyError, "Try again later."
        text = f"{request}: {got.rstrip('.')}. {advice}".rstrip()
        raised = kind(text, status=tried.status, error=error, info=info)
        if isinstance(raised, TemporarilyNotAvailable):
            raised.retry_after = tried.retry_after
        return raised

    def _classify(self, tried: _Try, text: str, *, has_error_name: bool) -> tuple[type[DailyError], str]:
        """Return the exception type, and what to do."""
        refused = not tried.problem and tried.status is not None and (tried.status >= 300 or not tried.ok)
        meaning, advice = meaning_of(text) if refused else (DailyError, "")
        kind = meaning if issubclass(meaning, DailyError) else DailyError
        if not refused or (tried.status or 0) >= 500:
            # A gateway may fail after it has passed the request on, or have no worker itself. Only Daily, with an error in its own
            # form, can say that nothing was done.
            if kind is TemporarilyNotAvailable and has_error_name:
                return kind, advice
            return UnknownResult, ADVICE[UnknownResult]
        if tried.status == 429:
            when = f"in {tried.retry_after:.0f} seconds" if tried.retry_after else "later"
            return (
                TemporarilyNotAvailable,
                f"There were too many requests, and this one was not done: try again {when}.",
            )
        if kind is not DailyError:
            return kind, advice
        return _BY_STATUS.get(tried.status or 0, DailyError), advice or _ADVICE_BY_STATUS.get(tried.status or 0, "")

    def _read_error(self, body: bytes) -> tuple[str | None, str | None]:
        """Return error and info. Daily's form is `{"error": …, "info": …}`; a gateway may send anything."""
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            return None, self._clean(body.decode("utf-8", "replace")) or None
        error, info = value.get("error"), value.get("info")
        return (self._clean(str(error)) if error else None), (self._clean(str(info)) if info else None)

    def _clean(self, text: str) -> str:
        """Return a text on one line, cut short, and without the key, in case the answer repeats it."""
        return one_line(text.replace(self._key.get_secret_value(), "•••"))


def _without(body: bytes, secrets: Collection[SecretStr]) -> bytes:
    """Return an answer without secrets: as they are, as JSON spells them, and as JSON in a text of JSON does."""
    for secret in secrets:
        spelled = {secret.get_secret_value()}
        for _ in range(2):
            spelled |= {
                json.dumps(text, ensure_ascii=ascii_only)[1:-1] for text in spelled for ascii_only in (True, False)
            }
        for text in sorted(spelled, key=len, reverse=True):  # the longest first: others may be a part of it
            if len(text) >= _SHORTEST_SECRET:
                body = body.replace(text.encode(), b"***")
    return body


def _is_ok(value: Any) -> bool:
    """Return False if `ok` says anything but true: it was not done then. Requests that act on a call answer `"ok": "true"`, a string."""
    return not isinstance(value, dict) or str(value.get("ok", True)).lower() in ("true", "1")


def _seconds(retry_after: str | None) -> float:
    """`Retry-After` is a number of seconds or a date (RFC 9110, 10.2.3); 0 if it is neither."""
    if retry_after is None:
        return 0.0
    if re.fullmatch(r"\d{1,9}", retry_after, re.ASCII):
        return float(retry_after)
    until = unix_seconds(retry_after)
    return 0.0 if until is None else max(0.0, until - time.time())


def unix_seconds(date: str | None) -> float | None:
    """Read a date of HTTP (RFC 9110, 5.6.7); None if it is none."""
    if date is None:
        return None
    try:
        read = parsedate_to_datetime(date)
        return read.replace(tzinfo=read.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None
