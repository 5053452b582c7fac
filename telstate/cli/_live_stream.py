"""The live stream of a running service, over as many connections as it takes: see `telstate.views.live_app` for what it sends."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from random import uniform
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from telstate.cli._terminal import VIEW_TOKEN, misuse, say
from telstate.errors import cut_text

if TYPE_CHECKING:
    import httpx

__all__ = ["LiveMessage", "LiveStream", "is_url"]

_VERSION = 1
"""Of the messages that this reads."""
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
"""Seconds between two attempts to connect; they double."""
_CONNECT_TIMEOUT = 10.0
_SILENCE = 45.0
"""Seconds: three heartbeats of the service."""
_LONGEST_MESSAGE = 32 * 1024 * 1024
_LONGEST_ERROR, _LONGEST_ERROR_READ = 10_000, 5.0
"""Bytes and seconds for which the body of a refusal is read: its status is enough."""
_HOW_TO_SHOW = f"give the service's {VIEW_TOKEN} in that variable, or as --token"


class LiveMessage(NamedTuple):
    """One message of the stream."""

    kind: str
    data: dict[str, Any]
    event_id: str | None


def is_url(name: str) -> bool:
    """Return True for what is the address of a service, and no file."""
    return name.lower().startswith(("http://", "https://"))


class LiveStream:
    """Reads the stream, and connects again where a connection is lost.

    Args:
        url: the address of the service.
        token: what it wants to see; None if there is none.
    """

    def __init__(self, url: str, token: str | None) -> None:
        if find_spec("httpx") is None:
            misuse("to follow a service, tail needs httpx: pip install 'telstate[rest]'")
        self._url = _address(url)
        if token is not None and not (token.isascii() and token.isprintable()):
            misuse(f"the token has characters that a token cannot have: {_HOW_TO_SHOW}")
        self._token = token
        self._last_event_id: str | None = None
        self._has_connected = self._is_lost = False
        self._pause = _FIRST_PAUSE

    def messages(self) -> Iterator[LiveMessage]:
        """Yield every message, without end. What cannot be helped by another attempt ends the command."""
        import httpx  # noqa: PLC0415 - an extra

        timeout = httpx.Timeout(_CONNECT_TIMEOUT, read=_SILENCE)
        with httpx.Client(timeout=timeout) as client:
            while True:
                wait = 0.0
                try:
                    with client.stream("GET", self._url, headers=self._headers()) as response:
                        wait = self._check(response)
                        if not wait:
                            yield from self._read(response)
                            self._note_lost("the service ended the stream")
                except httpx.TransportError as error:
                    if not self._has_connected and isinstance(error, httpx.ConnectError):
                        misuse(f"nobody answers at {self._url} ({error}): is `telstate serve` running there?")
                    self._note_lost(str(error) or type(error).__name__)
                time.sleep(max(wait, self._pause * uniform(0.5, 1.0)))  # noqa: S311 - many clients must not return at once
                self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if self._last_event_id is not None:
            headers["Last-Event-ID"] = self._last_event_id
        return headers

    def _check(self, response: httpx.Response) -> float:
        """Return 0 if the stream comes, or after how many seconds to ask again."""
        status = response.status_code
        if status == 200 and response.headers.get("content-type", "").startswith("text/event-stream"):
            return 0.0
        if status >= 500:
            after = response.headers.get("retry-after", "")
            self._note_lost(f"{status}: {_error_of(response)}")
            return min(float(after), _LONGEST_PAUSE) if after.isdecimal() and len(after) < 9 else _FIRST_PAUSE
        if status == 401:
            misuse(f"{self._url}: the token is {'wrong' if self._token else 'missing'}: {_HOW_TO_SHOW}")
        if status == 403:
            misuse(f"{self._url} refuses: {_error_of(response)}")
        if status in (404, 405):
            misuse(
                f"{self._url}: there is no live view ({status}): the address is not that of `telstate serve`, or that is older than"
                " this telstate"
            )
        text = f"is not the live view of a telstate service: it answers {status}"
        if response.is_redirect:
            text = f"redirects to {response.headers.get('location')}: give that address"
        return misuse(f"{self._url} {text}")

    def _read(self, response: httpx.Response) -> Iterator[LiveMessage]:
        messages = _messages_of(response.iter_bytes())
        while (one := self._next(messages)) is not None:
            if one.kind == "hello":
                self._note_connected(one.data)
            elif one.kind == "end":
                self._note_lost(str(one.data.get("text")))
                return
            yield one
            if one.event_id is not None:  # not before it was taken
                self._last_event_id = one.event_id

    def _next(self, messages: Iterator[LiveMessage]) -> LiveMessage | None:
        try:
            return next(messages, None)
        except (ValueError, RecursionError) as error:
            self.refuse(error)

    def refuse(self, error: Exception) -> NoReturn:
        """End the command: a message is not what this telstate expects."""
        misuse(
            f"{self._url} sends what this telstate cannot read ({type(error).__name__}: {error}): use the same version of both"
        )

    def _note_connected(self, hello: dict[str, Any]) -> None:
        if hello.get("version") != _VERSION:
            misuse(
                f"{self._url}: the service and this telstate do not understand each other: use the same version of both"
            )
        if self._is_lost:
            missed = "; what happened meanwhile is not kept there any more, so these are the calls as they are now"
            say(f"connected again{missed if hello.get('missed') else ''}")
        self._has_connected, self._is_lost, self._pause = True, False, _FIRST_PAUSE

    def _note_lost(self, reason: str) -> None:
        """Say once of each interruption that there is one."""
        if not self._is_lost:
            self._is_lost = True
            say(f"{self._url}: {cut_text(reason, 300)}; trying again until Ctrl-C")


def _messages_of(chunks: Iterable[bytes]) -> Iterator[LiveMessage]:
    """Split server-sent events, of the form in which `live_app` writes them: each field on one line."""
    fields: dict[str, str] = {}
    for line in _lines_of(chunks):
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            if "event" in fields:  # else it is a heartbeat, whose name is empty
                data = json.loads(fields.get("data", "{}"))
                if not isinstance(data, dict):
                    raise ValueError("expected a JSON object")
                yield LiveMessage(fields["event"], data, fields.get("id"))
            fields = {}


def _lines_of(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LONGEST_MESSAGE:
            raise ValueError(f"a message is longer than {_LONGEST_MESSAGE} bytes")
        yield from (line.decode("ascii", "replace") for line in lines)


def _address(text: str) -> str:
    """Return the address of the stream."""
    import httpx  # noqa: PLC0415 - an extra

    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as error:
        misuse(f"{text}: {error}")
    if not url.host:
        misuse(f"{text}: there is no host in it: give an address such as http://127.0.0.1:8080")
    if url.userinfo or url.query:
        _refuse_secret()
    path = url.path.rstrip("/")
    return str(url.copy_with(path=path if path.endswith("/live") else f"{path}/live", fragment=None))


def _refuse_secret() -> NoReturn:
    misuse(f"an address with a password or a query is kept in logs: leave that out, and {_HOW_TO_SHOW}")


def _error_of(response: httpx.Response) -> str:
    """Return what a service says about a request that it does not answer."""
    import httpx  # noqa: PLC0415 - an extra

    body, until = b"", time.monotonic() + _LONGEST_ERROR_READ
    try:
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > _LONGEST_ERROR or time.monotonic() > until:
                break
        return cut_text(str(json.loads(body)["error"]), 1_000)
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        return response.reason_phrase
