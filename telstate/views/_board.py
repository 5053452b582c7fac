"""The live board: an ASGI app with a page that shows what all calls do now.

    app.mount("/calls", board_app(calls, token=os.environ["TELSTATE_VIEW_TOKEN"]))     # a browser opens /calls/board

The page and its scripts are files beside this one, which hold nothing of any call: whoever may not read gets no more than them. What calls do comes
by the live stream, as JSON, and the page shows it as text. All its addresses are relative, so it works below any prefix. It changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from telstate._asgi import confirm_sender
from telstate.errors import JournalError, NotRunning
from telstate.routing._dispatcher import Dispatcher
from telstate.views._board_feed import BoardFacts, BoardFeed
from telstate.views._ladder import Ladder
from telstate.views._ladder_html import LADDER_PAGE_CSS, ladder_html_fragment
from telstate.views._ladder_times import has_fractions, step_label, time_of_day
from telstate.views._live_access import COOKIE, OTHER_SITE, SIGNED_IN_FOR, LiveAccess, is_of_this_site
from telstate.views._live_ladder import live_ladder
from telstate.views._live_search import LiveSearch, TooMany
from telstate.views._live_stream import LiveStreams, unavailable

__all__ = ["board_app", "board_routes"]

_FILES = Path(__file__).parent / "_board_page"
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_LONGEST_BODY = 16 * 1024
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types telstate-ladder",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_REVALIDATE = {"Cache-Control": "no-cache"}
"""A browser asks each time, and is answered 304 unless a file changed: a page of one version never runs the scripts of another."""
_PRIVATE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def board_app(
    calls: Dispatcher,
    *,
    token: str | None = None,
    numbers_token: str | None = None,
    allow_local: bool = False,
    numbers: bool = False,
    max_readers: int = 32,
) -> Starlette:
    """Make the app: the page at `/board`, and the live stream at `/live`, as `live_app` has it. Mount it next to `webhook_app`.

    Enter `async with calls` before: until then the page says that it waits. Phone numbers, SIP users and names are masked; a number can be
    searched for all the same. The ladder of a call shows all its events if the dispatcher has a journal; else those since somebody looked.

    Args:
        calls: the dispatcher.
        token: what a reader has to know, at least 16 characters. A browser asks for it once in twelve hours; programs send it as
            `Authorization: Bearer …`. With it, every reader needs it, on this machine too.
        numbers_token: another token, whose readers see phone numbers, SIP users and names in full.
        allow_local: without a token, accept requests from this machine, addressed to it by a loopback name. A proxy on it that hides itself and
            the name is not detected: use a token where there is one.
        numbers: every reader sees phone numbers, SIP users and names in full.
        max_readers: how many may look at a time. Each takes a connection.

    Raises:
        ValueError: if a token is too short, or has characters that a header cannot have; or if both are the same.
    """
    access = LiveAccess(token, numbers_token=numbers_token, numbers=numbers, allow_local=allow_local)
    return Starlette(routes=board_routes(BoardFacts(calls), access, max_readers=max_readers))


def board_routes(facts: BoardFacts, access: LiveAccess, *, max_readers: int) -> list[Route]:
    """Make the routes of the app.

    Args:
        facts: of the dispatcher.
        access: who may read.
        max_readers: how many may look at a time.
    """
    board = _Board(facts, access, max_readers)
    pages = [Route(f"/board/{name}", board.file(name)) for name in board.files if name != "index.html"]
    return [
        Route("/", _to_board),
        Route("/board", board.file("index.html")),
        Route("/board/", _to_board_from_below),
        *pages,
        Route("/board/ladder.css", board.ladder_style),
        Route("/board/live", board.streams.endpoint(board.feed)),
        Route("/board/ladder", board.ladder, methods=["POST"]),
        Route("/board/search", board.search, methods=["POST"]),
        Route("/board/sign-in", board.sign_in, methods=["POST"]),
        Route("/board/sign-out", board.sign_out, methods=["POST"]),
        *([] if facts.playback is None else [Route("/board/playback", board.set_playback, methods=["POST"])]),
        Route("/live", board.streams.endpoint()),
    ]


class _PageFile(NamedTuple):
    content: bytes
    kind: str
    tag: str
    """For `If-None-Match`."""


class _BadRequest(Exception):
    """A body that is not what the page sends."""


class _Board:
    """The endpoints."""

    def __init__(self, facts: BoardFacts, access: LiveAccess, max_readers: int) -> None:
        self.facts = facts
        self._calls = calls = facts.calls
        self._access = access
        self.streams = LiveStreams(calls, access, max_readers=max_readers)
        self._searches = LiveSearch(calls)
        self._ladders = anyio.Lock()
        """One ladder at a time: each may read much of a journal."""
        self.files = {path.name: _read(path) for path in sorted(_FILES.iterdir()) if path.suffix in _KINDS}
        self._ladder_style = _file(LADDER_PAGE_CSS.encode(), ".css")

    def feed(self, numbers: bool) -> BoardFeed:
        """Return what adds to the stream of one reader."""
        return BoardFeed(self.facts, numbers=numbers, signed_in=self._access.needs_token)

    def file(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        """Return the endpoint of a file. It holds nothing of any call."""

        async def answer(request: Request) -> Response:
            return self._file(request, self.files[name])

        return answer

    async def ladder_style(self, request: Request) -> Response:
        """Answer with the style of ladders."""
        return self._file(request, self._ladder_style)

    async def ladder(self, request: Request) -> Response:
        """Answer with the ladder of a call. A POST, as what is looked for must not stand in the logs of a proxy."""
        return await self._answer(request, self._make_ladder)

    async def search(self, request: Request) -> Response:
        """Answer with the ids of the calls of a number."""
        return await self._answer(request, self._search)

    async def set_playback(self, request: Request) -> Response:
        """Pause or go on with a log that is played, or change its speed."""
        return await self._answer(request, self._set_playback)

    async def sign_in(self, request: Request) -> Response:
        """Give a cookie to a browser that sends the token."""
        if not is_of_this_site(request.scope):
            return JSONResponse({"error": OTHER_SITE}, 403, _PRIVATE)
        try:
            token = _text_of(await _body(request), "token")
        except _BadRequest as error:
            return JSONResponse({"error": str(error)}, 400, _PRIVATE)
        value = self._access.cookie(token)
        if value is None:
            self.streams.refuse(request.scope, Response(status_code=401))
            return JSONResponse({"error": "This is not the token of this service."}, 401, _PRIVATE)
        confirm_sender(request.scope)
        answer = Response(status_code=204, headers=_PRIVATE)
        self._set_cookie(request, answer, value, SIGNED_IN_FOR)
        return answer

    async def sign_out(self, request: Request) -> Response:
        """Take the cookie back."""
        if not is_of_this_site(request.scope):
            return JSONResponse({"error": OTHER_SITE}, 403, _PRIVATE)
        answer = Response(status_code=204, headers=_PRIVATE)
        self._set_cookie(request, answer, "", 0)
        return answer

    # --- what is answered to readers ----------------------------------------------------------------------------------

    async def _make_ladder(self, body: dict[str, Any], *, numbers: bool) -> Response:
        one = _text_of(body, "id")
        async with self._ladders:
            try:
                found = await live_ladder(self._calls, one, self.facts.tape, numbers=numbers)
            except JournalError as error:
                return JSONResponse({"error": f"The journal cannot be read: {error}"}, 503, _PRIVATE)
        if found is None:
            text = "This call is not in memory any more. `telstate ladder` shows it, from the journal or a log."
            return JSONResponse({"error": text}, 404, _PRIVATE)
        parts = {"html": ladder_html_fragment(found.ladder), "steps": _steps(found.ladder), "lacks": found.lacks}
        return JSONResponse(parts, 200, _PRIVATE)

    async def _search(self, body: dict[str, Any], *, numbers: bool) -> Response:
        try:
            found = await self._searches.find(_text_of(body, "text"), numbers=numbers)
        except TooMany as error:
            headers = {**_PRIVATE, "Retry-After": str(error.seconds)}
            return JSONResponse({"error": f"Too many searches for numbers. Wait {error.seconds} s."}, 429, headers)
        return JSONResponse(found._asdict(), 200, _PRIVATE)

    async def _set_playback(self, body: dict[str, Any], *, numbers: bool) -> Response:  # noqa: ARG002 - all have these parameters
        playback, paused, speed = self.facts.playback, body.get("paused"), body.get("speed")
        if playback is None or not (paused is None or isinstance(paused, bool)):
            raise _BadRequest("expected paused: true or false")
        if not (speed is None or (isinstance(speed, (int, float)) and not isinstance(speed, bool))):
            raise _BadRequest("expected speed: a number")
        try:
            playback.set(paused=paused, speed=speed)
        except ValueError as error:
            raise _BadRequest(str(error)) from None
        return JSONResponse(playback.to_dict(), 200, _PRIVATE)

    async def _answer(self, request: Request, make: Callable[..., Awaitable[Response]]) -> Response:
        """Answer a reader; refuse everybody else."""
        refusal, numbers = self._access.admit(request.scope, signed_in=True)
        if refusal is not None:
            return self.streams.refuse(request.scope, refusal)
        if self._access.needs_token:
            confirm_sender(request.scope)
        try:
            return await make(await _body(request), numbers=numbers)
        except _BadRequest as error:
            return JSONResponse({"error": str(error)}, 400, _PRIVATE)
        except NotRunning:
            return unavailable(self._calls.not_ready or "it is not running", 2)

    def _file(self, request: Request, file: _PageFile) -> Response:
        refusal = self._access.admit_to_files(request.scope)
        if refusal is not None:
            return self.streams.refuse(request.scope, refusal)
        headers = {**_HEADERS, **_REVALIDATE, "ETag": file.tag}
        if file.tag in (one.strip() for one in request.headers.get("if-none-match", "").split(",")):
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=headers, media_type=file.kind)

    def _set_cookie(self, request: Request, answer: Response, value: str, seconds: int) -> None:
        """Set the cookie. Without a path it is sent to this folder only, whatever prefix a proxy hides from us."""
        is_https = request.headers.get("origin", "").startswith("https://") or request.url.scheme == "https"
        secure = "; Secure" if is_https else ""
        answer.headers["Set-Cookie"] = f"{COOKIE}={value}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"


def _steps(ladder: Ladder) -> list[dict[str, Any]]:
    """Return the steps of a ladder as texts: for narrow screens, and for people who do not see the picture."""
    fractions = has_fractions(ladder)
    return [
        {
            "at": "" if step.at is None else time_of_day(step.at, fractions=fractions),
            "way": " to ".join(dict.fromkeys(ladder.lanes[lane].name for lane in (step.source, step.target))),
            "label": step_label(step),
            "states": " → ".join(step.states),
            "notes": list(step.notes),
            "kind": "failed" if step.failed else "moved" if step.states else "" if step.counts else "ignored",
        }
        for step in ladder.steps
    ]


async def _to_board(_: Request) -> Response:
    return RedirectResponse("board", 307)


async def _to_board_from_below(_: Request) -> Response:
    return RedirectResponse("../board", 307)


async def _body(request: Request) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        _BadRequest: if it is none, or too long.
    """
    read = b""
    async for chunk in request.stream():
        read += chunk
        if len(read) > _LONGEST_BODY:
            raise _BadRequest(f"the body is longer than {_LONGEST_BODY} bytes")
    try:
        body = json.loads(read)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise _BadRequest("the body is not a JSON object")
    return body


def _text_of(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise _BadRequest(f"expected {name}: a text")
    return value


def _read(path: Path) -> _PageFile:
    return _file(path.read_bytes(), path.suffix)


def _file(content: bytes, suffix: str) -> _PageFile:
    return _PageFile(content, f"{_KINDS[suffix]}; charset=utf-8", f'"{sha256(content).hexdigest()[:32]}"')
