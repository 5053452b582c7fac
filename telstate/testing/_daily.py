"""A fake of Daily's cloud for tests: real HTTP on loopback, real webhooks, simulated calls. Nothing of it reaches Daily.

    with FakeDaily(webhook="http://127.0.0.1:8080/webhooks", secret=SECRET) as daily:
        daily.host("support")
        daily.lines["+12025550101"] = PhoneLine(answers=0.2, talks=1.0)
        …                                       # a program that uses DailyApi(daily.key, url=daily.url)
        daily.settled()
        assert daily.most_at_once("+12025550101") == 1

It answers as Daily's documents say; where they are silent it says SIMULATED in the docstring of what does it. It runs in a thread
of its own, so it serves asyncio, trio and other processes alike. Needs the extras `telstate[serve,rest]`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar
from uuid import uuid4

from telstate.errors import DefinitionError, NotRunning
from telstate.sources._signatures import PINLESS, WEBHOOK, Secret
from telstate.testing._domain import DOMAIN_ID, CallRejected, HeldCaller, SimulatedDomain
from telstate.testing._faults import Fault, Rules
from telstate.testing._legs import Leg
from telstate.testing._phone_lines import DIALIN_FAILED, DIALOUT_FAILED, PhoneLine, PhoneLines, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from telstate.testing._server import Seen, Server
    from telstate.testing._webhook_delivery import Delivery

__all__ = ["KEY", "CallRejected", "FakeDaily", "Leg", "PhoneLine", "Refusal"]

KEY = "0123456789abcdef-the-key-of-the-domain"
"""The API key of a fake, unless it is given another."""

_PAUSES = (0.05, 0.1, 0.3, 1.0)
_NEEDS = ("starlette", "uvicorn", "httpx")
_T = TypeVar("_T")


class FakeDaily:
    """One domain of Daily's, as a context manager. SIMULATED, and all times are real seconds.

    Everything may be used from any thread. Methods that tell the world what to do return when it is done; the webhooks that
    come of it are delivered in the background.

    Args:
        webhook: a URL that gets every event; None for none but those that ask for events by `POST /webhooks`.
        secret: signs what is sent there and to `pinless`; base64, None to sign nothing.
        pinless: a URL that is told of callers on hold.
        key: the API key with which requests must come.
        port: where to listen; 0 takes a free one.
        line: what numbers do that are not in `lines`.
        joins: when a dialled party joins the room: at the `answer`, or when it `ring`s. Nothing documents which.
        registers: seconds until the SIP endpoints of a hosted room are ready.
        presence_lag: seconds by which presence is behind; Daily documents up to 15.
        pauses: seconds before each further try of a webhook that was not answered by 200. Daily waits up to 15 minutes.

    Raises:
        DefinitionError: if starlette, uvicorn or httpx is not installed.
        ValueError: if the secret is no base64, or an option makes no sense.
    """

    def __init__(
        self,
        webhook: str | None = None,
        secret: str | None = None,
        *,
        pinless: str | None = None,
        key: str = KEY,
        port: int = 0,
        line: PhoneLine | None = None,
        joins: Literal["answer", "ring"] = "answer",
        registers: float = 0.0,
        presence_lag: float = 0.0,
        pauses: Sequence[float] = _PAUSES,
    ) -> None:
        if missing := [name for name in _NEEDS if find_spec(name) is None]:
            raise DefinitionError(f"FakeDaily needs {' and '.join(missing)}: pip install 'telstate[serve,rest]'")
        if joins not in ("answer", "ring") or registers < 0 or presence_lag < 0:
            raise ValueError("joins= is 'answer' or 'ring', registers= and presence_lag= are seconds from 0 on")
        self.key = key
        self.lines = PhoneLines(line or PhoneLine())
        """What numbers and SIP URIs do: a `PhoneLine`, or one for each dial, the last for all further ones."""
        self._secret = Secret(secret) if secret is not None else None
        self._webhook = webhook
        self._pinless = pinless
        self._options: dict[str, Any] = {
            "key": key,
            "port": port,
            "joins": joins,
            "registers": registers,
            "presence_lag": presence_lag,
            "pauses": tuple(pauses),
        }
        self._running: Server | None = None
        self._is_open = False

    def __enter__(self) -> Self:
        from telstate.testing._server import Server  # noqa: PLC0415 - an extra
        from telstate.testing._webhook_delivery import Sink  # noqa: PLC0415 - an extra

        if self._running is not None:
            raise NotRunning("a FakeDaily can be entered once: make another one")
        sink = Sink(self._webhook, self._secret, headers=WEBHOOK) if self._webhook is not None else None
        self._running = Server(self.lines, sink, **self._options)
        self._running.start()
        self._is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop everything, within a second; then tell the fake's own defects, if there were any."""
        self._is_open = False
        self._server.stop()
        if self._server.defects:
            raise BaseExceptionGroup("the fake of Daily has a defect, or a fault that raises", self._server.defects)

    @property
    def url(self) -> str:
        """The base of the REST API: `DailyApi(daily.key, url=daily.url)`."""
        return f"http://127.0.0.1:{self._server.port}/v1"

    # --- what the world does ----------------------------------------------------------------------------------------

    def host(self, room: str, **properties: Any) -> tuple[str, ...]:
        """Let a bot be in a room, which is made if it is not there; its SIP endpoints register, and are returned.

        A room that is made here may dial out and has one endpoint, unless `properties` say otherwise
        (`enable_dialout=False`, `sip=None`, `max_sip_pstn_sessions_per_room=2`): they are Daily's room properties.
        """

        def do(cloud: SimulatedDomain) -> tuple[str, ...]:
            if room not in cloud.rooms:
                sip = {"sip_mode": "dial-in", "display_name": room, "num_endpoints": 1}
                cloud.make(room, {"enable_dialout": True, "sip": sip, **properties})
            elif properties:
                cloud.change(room, properties)
            cloud.host(cloud.rooms[room])
            return tuple(endpoint.uri for endpoint in cloud.rooms[room].endpoints)

        return self._do(do)

    def leave(self, room: str) -> None:
        """Let the bot leave: the meeting ends, and with it every telephone session in it."""

        def do(cloud: SimulatedDomain) -> None:
            if room in cloud.rooms:
                cloud.end_meeting(cloud.rooms[room])

        self._do(do)

    def dial_in(
        self,
        sip_endpoint: str,
        sip_from: str = "sip:+12025550142@carrier.example",
        *,
        talks: float | None = None,
        media: float | None = 0.0,
        sip_headers: Mapping[str, str] | None = None,
        line: PhoneLine | None = None,
    ) -> str:
        """Let a SIP client dial an endpoint; return the session's id.

        Args:
            sip_endpoint: of a room that is hosted; `?x-daily_display_name=…` names the caller.
            sip_from: who calls.
            talks: seconds from the media's flow until the caller hangs up; None: until somebody ends it.
            media: seconds until media flows, and the caller joins; None: that never happens.
            sip_headers: told with the events.
            line: what becomes of the events (`loses`, `delays`, `twice`), and whether the call `fails` or `warns`, and with
                which `error`; nothing else of it is looked at.

        Raises:
            CallRejected: if there is no such endpoint, it is not ready, somebody is on it, or the room is full.
        """
        how = _dial_in_line(line, talks)
        headers = dict(sip_headers) if sip_headers is not None else None
        leg = self._do(lambda cloud: cloud.dial_in(sip_endpoint, sip_from, media=media, line=how, sip_headers=headers))
        return leg.session_id

    def call_in(
        self,
        to: str,
        from_: str = "+12025550142",
        *,
        pinless: str | None = None,
        sip_headers: Mapping[str, str] | None = None,
        talks: float | None = None,
        media: float | None = 0.0,
    ) -> str:
        """Let somebody call a number of the domain: he is on hold until `pinlessCallUpdate`. Return the call's id.

        Args:
            to: the number that is called.
            from_: the number that calls.
            pinless: the URL that is told of it, by a signed POST; by default that of the constructor.
            sip_headers: told with it.
            talks: seconds from the media's flow until the caller hangs up; None: until somebody ends it.
            media: seconds from the forwarding until media flows; None: that never happens.

        Raises:
            ValueError: if there is no URL.
        """
        from telstate.testing._webhook_delivery import Sink  # noqa: PLC0415 - an extra

        if (url := pinless or self._pinless) is None:
            raise ValueError("call_in() needs a URL: call_in(…, pinless=URL), or FakeDaily(pinless=URL)")
        headers = dict(sip_headers) if sip_headers is not None else None
        waiting = HeldCaller(str(uuid4()), to, from_, headers, talks, media)
        body: dict[str, Any] = {"To": to, "From": from_, "callId": waiting.call_id, "callDomain": DOMAIN_ID}
        if headers is not None:
            body["sipHeaders"] = headers
        server, sink = self._server, Sink(url, self._secret, headers=PINLESS)

        def do(cloud: SimulatedDomain) -> str:
            cloud.waiting[waiting.call_id] = waiting
            server.courier.send(sink, "pinless", body)
            return waiting.call_id

        return self._do(do)

    def hang_up(self, any_id: str) -> bool:
        """Let the far side of a session hang up, or a caller on hold (by his call id); False if it had ended before."""

        def do(cloud: SimulatedDomain) -> bool:
            if cloud.waiting.pop(any_id, None) is not None:
                return True
            leg = cloud.leg(any_id)
            return leg is not None and cloud.end(leg, "remote")

        return self._do(do)

    # --- what the network does --------------------------------------------------------------------------------------

    @property
    def faults(self) -> deque[Fault]:
        """What befalls the next requests, one each: see `telstate.testing._faults`."""
        return self._server.faults

    @property
    def rules(self) -> Rules:
        """What befalls every request to a path: `daily.rules["/rooms/*/dialOut/stop"] = hang`; `faults` come before them.

        A pattern that fits none of the fake's paths is refused.
        """
        return self._server.rules

    # --- what was done ----------------------------------------------------------------------------------------------

    @property
    def hooks(self) -> dict[str, dict[str, Any]]:
        """The webhooks made by REST, by their uuid and as Daily tells them. May be changed: `hook["state"] = "FAILED"`."""
        return self._server.hooks.hooks

    @hooks.setter
    def hooks(self, hooks: dict[str, dict[str, Any]]) -> None:
        self._server.hooks.hooks = hooks

    @property
    def new_secret_on_update(self) -> bool:
        """Whether an update of a webhook gives it a new `hmac`; no page says. False unless set."""
        return self._server.hooks.new_secret_on_update

    @new_secret_on_update.setter
    def new_secret_on_update(self, value: bool) -> None:
        self._server.hooks.new_secret_on_update = value

    @property
    def seen(self) -> list[Seen]:
        """The requests that came, those that a fault befell included."""
        return list(self._server.seen)

    @property
    def sent(self) -> list[Delivery]:
        """The webhooks that were delivered or given up, in the order of that."""
        return list(self._server.courier.sent)

    @property
    def sessions(self) -> list[Leg]:
        """All sessions there ever were, in the order of their beginning."""
        return list(self._server.cloud.legs)

    @property
    def waiting(self) -> list[str]:
        """The call ids of the callers on hold."""
        return list(self._server.cloud.waiting)

    def session(self, session_id: str) -> Leg:
        """One session.

        Raises:
            KeyError: if there never was one of that id.
        """
        for leg in reversed(self.sessions):
            if leg.session_id == session_id:
                return leg
        raise KeyError(session_id)

    def live(self, destination: str | None = None) -> list[Leg]:
        """The sessions that have not ended; only those to a destination, if one is named."""
        return [leg for leg in self.sessions if leg.live and destination in (None, leg.destination)]

    def starts(self, destination: str) -> int:
        """How often a destination was dialled: starts that were carried out, whatever became of their answers."""
        return sum(leg.destination == destination for leg in self.sessions)

    def most_at_once(self, destination: str) -> int:
        """The greatest number of sessions to a destination that lived at one time: 2 means that it was called twice."""
        steps: list[tuple[float, int]] = []
        for leg in self.sessions:
            if leg.destination == destination:
                ended_at = leg.ended_at
                steps += [(leg.started_at, 1), (time.monotonic() if ended_at is None else ended_at, -1)]
        most = now = 0
        for _, step in sorted(steps):  # of one moment, ends come first
            now += step
            most = max(most, now)
        return most

    def settled(self, timeout: float = 5.0) -> None:
        """Wait until every webhook of what has happened was delivered or given up, late ones included.

        It blocks its thread. Where the receiver runs on this thread's own event loop, give it another one:
        `await anyio.to_thread.run_sync(daily.settled)`.

        Raises:
            TimeoutError: if that takes longer than `timeout` seconds.
        """
        until = time.monotonic() + timeout
        while due := self._do(lambda _: self._server.courier.due):
            if time.monotonic() > until:
                raise TimeoutError(
                    f"after {timeout:g} s not delivered: {', '.join(sorted(set(due)))} ({len(due)} in all)"
                )
            time.sleep(0.005)

    def _do(self, what: Callable[[SimulatedDomain], _T]) -> _T:
        if not self._is_open:
            raise NotRunning("a FakeDaily can be used in its `with` only")
        server = self._server
        return server.do(lambda: what(server.cloud))

    @property
    def _server(self) -> Server:
        if self._running is None:
            raise NotRunning("use a FakeDaily in a `with`")
        return self._running


def _dial_in_line(line: PhoneLine | None, talks: float | None) -> PhoneLine:
    line = line or PhoneLine()
    error = DIALIN_FAILED if line.error == DIALOUT_FAILED else line.error
    told = {"loses": line.loses, "delays": line.delays, "twice": line.twice, "warns": line.warns, "fails": line.fails}
    return PhoneLine(talks=talks, error=error, **told)  # type: ignore[arg-type]
