"""A fake of Daily for tests: real HTTP on loopback, real webhooks, simulated calls. Nothing reaches Daily.

    with FakeDaily(webhook="http://127.0.0.1:8080/webhooks", secret=SECRET) as daily:
        daily.host("support")
        daily.lines["+12025550101"] = PhoneLine(answers=0.2, talks=1.0)
        …                                       # a program that uses DailyApi(daily.key, url=daily.url)
        daily.settled()
        assert daily.most_at_once("+12025550101") == 1

It answers as Daily's documents say; where they are silent, the docstring says SIMULATED. It runs in a thread of its own, so it serves
asyncio, trio and other processes. Needs the extras `telstate[rest,serve]`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from shutil import which
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from telstate.errors import NotRunning
from telstate.sources._signatures import WEBHOOK, Secret
from telstate.testing._bot_runner import RUNNER
from telstate.testing._domain import SimulatedDomain
from telstate.testing._faults import Fault, FaultRules
from telstate.testing._generator import Noise
from telstate.testing._incoming import IncomingCalls
from telstate.testing._phone_lines import Answerer, LinePlan, PhoneLine, PhoneLines
from telstate.testing._rooms import Leg
from telstate.testing._routes import API
from telstate.testing._server import FakeServer, ReceivedRequest
from telstate.testing._simulation import Simulation
from telstate.testing._trunk_calls import TrunkCall
from telstate.testing._webhook_delivery import SentWebhook, WebhookTarget

__all__ = ["KEY", "FakeDaily"]

KEY = "0123456789abcdef-the-key-of-the-domain"
"""The default API key of a fake."""

_PAUSES = (0.05, 0.1, 0.3, 1.0)
_T = TypeVar("_T")


class FakeDaily(IncomingCalls):
    """One Daily domain, as a context manager. SIMULATED, and all times are real seconds.

    Use it from any thread. Methods that change the simulated world return when the change is done; the webhooks that follow are
    delivered in the background.

    Args:
        webhook: a URL that receives every event; None if only webhooks created by `POST /webhooks` receive events.
        secret: signs the requests to `webhook` and `pinless`; base64, None to send no signatures.
        pinless: a URL that receives callers on hold.
        key: the API key that requests must carry.
        host: the address to listen on.
        port: the port to listen on; 0 takes a free one.
        line: the line of numbers that are not in `lines`.
        joins: when a dialled party joins the room: at the `answer`, or when it `ring`s. Nothing documents which.
        registers: seconds until the SIP endpoints of a hosted room are ready.
        presence: what a room's presence says: who is there (`on`), that nobody is (`none`), or nothing, as it is refused (`off`).
        presence_lag: seconds by which presence is behind; Daily documents up to 15.
        pauses: seconds before each retry of a webhook that was not answered with 200. Daily waits up to 15 minutes.
        ringback: seconds for which a trunk's caller hears ringback; without a 2xx by then the call is rejected.
        noise: which share of the webhooks is lost, late or sent twice.
        seed: of the random numbers for that.
        bot: what the stand-in for a bot runner starts: a command (a list of words), or a URL that it posts to; None: a bot that only joins.
            By default, callers on hold go to that stand-in if there is a bot, and neither `pinless` nor REST says otherwise.
        bot_joins: seconds from a bot's start until it is in its room.
        bot_in_new_rooms: True to start a bot for each room that REST makes.
        watch: is called with a line of text about each thing that happens, in the fake's thread; numbers and names are in full.

    Raises:
        ValueError: if the secret is not base64, an option is out of its range, or there is no such command.
    """

    def __init__(
        self,
        webhook: str | None = None,
        secret: str | None = None,
        *,
        pinless: str | None = None,
        key: str = KEY,
        host: str = "127.0.0.1",
        port: int = 0,
        line: LinePlan | None = None,
        joins: Literal["answer", "ring"] = "answer",
        registers: float = 0.0,
        presence: Literal["on", "none", "off"] = "on",
        presence_lag: float = 0.0,
        pauses: Sequence[float] = _PAUSES,
        ringback: float = 12.0,
        noise: Noise | None = None,
        seed: int = 0,
        bot: str | Sequence[str] | None = None,
        bot_joins: float = 0.0,
        bot_in_new_rooms: bool = False,
        watch: Callable[[str], None] | None = None,
    ) -> None:
        if presence not in ("on", "none", "off"):
            raise ValueError(f"presence= is 'on', 'none' or 'off', not {presence!r}")
        if joins not in ("answer", "ring") or registers < 0 or presence_lag < 0 or not ringback > 0:
            raise ValueError(
                "joins= is 'answer' or 'ring', registers= and presence_lag= are seconds from 0 on, ringback= above 0"
            )
        if not bot_joins >= 0 or not _can_start(bot):
            raise ValueError(
                f"bot= is a command that exists, as a list of words, or a URL, and bot_joins= seconds from 0 on, not {bot!r}"
            )
        self.key: str = key
        self.lines: PhoneLines = PhoneLines(PhoneLine() if line is None else line)
        """What numbers and SIP URIs do: a `PhoneLine`; one for each dial, the last for all further ones; or a script of `lines`."""
        self._secret = Secret(secret) if secret is not None else None
        self._webhook = webhook
        self._pinless = pinless
        self._options: dict[str, Any] = {
            "bot": bot,
            "bot_joins": bot_joins,
            "bot_in_new_rooms": bot_in_new_rooms,
            "watch": watch,
            "key": key,
            "host": host,
            "port": port,
            "joins": joins,
            "registers": registers,
            "presence": presence,
            "presence_lag": presence_lag,
            "pauses": tuple(pauses),
            "ringback": ringback,
            "noise": noise or Noise(),
            "seed": seed,
        }
        self._running: FakeServer | None = None
        self._is_open = False

    def __enter__(self) -> Self:
        if self._running is not None:
            raise NotRunning("a FakeDaily can be entered once: make another one")
        target = WebhookTarget(self._webhook, self._secret, headers=WEBHOOK) if self._webhook is not None else None
        self._running = FakeServer(self.lines, target, **self._options)
        domain, bots = self._running.domain, self._running.bots
        if self._pinless is None and self._options["bot"] is not None:
            self._pinless = self.bot_runner + "/daily-dialin-webhook"
        simulation = Simulation(self, domain.unix, lambda room, body: bots.start(domain.room(room), body))
        self._running.start(simulation.routes())
        self._is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop everything, within a second, and commands of bots within five; then raise the fake's own errors, if there were any."""
        self._is_open = False
        self._server.stop()
        if self._server.errors:
            raise BaseExceptionGroup("FakeDaily failed: a bug in it, or a fault that raises", self._server.errors)

    @property
    def url(self) -> str:
        """The base URL of the REST API: `DailyApi(daily.key, url=daily.url)`."""
        return f"{self._server.address}{API}"

    @property
    def bot_runner(self) -> str:
        """The URL of the stand-in for a bot runner, which has pipecat's paths: `/start`, and `/daily-dialin-webhook` for a number."""
        return f"{self._server.address}{RUNNER}"

    # --- the simulated world ----------------------------------------------------------------------------------------

    def host(self, room: str, **properties: Any) -> tuple[str, ...]:
        """Put a bot into a room, which is created if it does not exist; return the room's SIP endpoints, which register.

        A room that is created here may dial out and has one endpoint, unless `properties` say otherwise
        (`enable_dialout=False`, `sip=None`, `max_sip_pstn_sessions_per_room=2`): they are Daily's room properties.
        """

        def do(domain: SimulatedDomain) -> tuple[str, ...]:
            if room not in domain.rooms:
                sip = {"sip_mode": "dial-in", "display_name": room, "num_endpoints": 1}
                domain.make(room, {"enable_dialout": True, "sip": sip, **properties})
            elif properties:
                domain.change(room, properties)
            domain.host(domain.rooms[room])
            return tuple(endpoint.uri for endpoint in domain.rooms[room].endpoints)

        return self._do(do)

    def leave(self, room: str, *, line: PhoneLine | None = None) -> None:
        """Let the bot leave: the meeting ends, and every telephone session in it.

        Args:
            room: the room.
            line: what happens to the events of that (`loses`, `delays`, `twice`): `PhoneLine(loses={"dialin.stopped"},
                delays={"meeting.ended": 2.0})` reports only the meeting's end, and late; its other options are ignored.
        """

        def do(domain: SimulatedDomain) -> None:
            if room in domain.rooms:
                domain.end_meeting(domain.rooms[room], line)

        self._do(do)

    # --- the network ------------------------------------------------------------------------------------------------

    @property
    def faults(self) -> deque[Fault]:
        """Faults for the next requests, one each: see `telstate.testing.faults`."""
        return self._server.faults

    @property
    def rules(self) -> FaultRules:
        """Faults for every request to a path: `daily.rules["/rooms/*/dialOut/stop"] = faults.hang`. Those in `faults` come first.

        A pattern that matches no path of the fake is refused.
        """
        return self._server.rules

    # --- what happened ----------------------------------------------------------------------------------------------

    @property
    def hooks(self) -> dict[str, dict[str, Any]]:
        """The webhooks created by REST, by uuid, as Daily returns them. You may change them: `hook["state"] = "FAILED"`."""
        return self._server.subscriptions.hooks

    @hooks.setter
    def hooks(self, hooks: dict[str, dict[str, Any]]) -> None:
        self._server.subscriptions.hooks = hooks

    @property
    def new_secret_on_update(self) -> bool:
        """True if an update of a webhook gives it a new `hmac`; nothing documents whether it does. False by default."""
        return self._server.subscriptions.new_secret_on_update

    @new_secret_on_update.setter
    def new_secret_on_update(self, value: bool) -> None:
        self._server.subscriptions.new_secret_on_update = value

    @property
    def seen(self) -> list[ReceivedRequest]:
        """The requests that were received, those with a fault included."""
        return list(self._server.seen)

    @property
    def sent(self) -> list[SentWebhook]:
        """The webhooks that were delivered or given up, in that order."""
        return list(self._server.delivery.sent)

    @property
    def sessions(self) -> list[Leg]:
        """All sessions, ended ones too, in the order in which they began."""
        return list(self._server.domain.legs)

    @property
    def waiting(self) -> list[str]:
        """The call ids of the callers on hold."""
        return list(self._server.domain.waiting)

    @property
    def trunk_calls(self) -> list[TrunkCall]:
        """All calls on SIP trunks, in the order in which they came."""
        return list(self._server.trunk_calls.calls.values())

    def session(self, session_id: str) -> Leg:
        """Return one session.

        Raises:
            KeyError: if there was never one with that id.
        """
        for leg in reversed(self.sessions):
            if leg.session_id == session_id:
                return leg
        raise KeyError(session_id)

    def simulated_answerer(self, session_id: str) -> Answerer | None:
        """Return who or what is on the line of a dial-out: a person, a voicemail, a menu, or the carrier's trunk. None before the answer.

        This is the truth of the simulation. Daily tells it nobody, in no event and no answer: there, a program's bot has to hear it.
        Use it where a test stands in for that bot, as in `confirm=` of a `Dialer`.

        Raises:
            KeyError: if there was never such a session.
        """
        return self.session(session_id).answered_by

    def live(self, destination: str | None = None) -> list[Leg]:
        """Return the sessions that have not ended; only those to a destination, if one is given."""
        return [leg for leg in self.sessions if leg.live and destination in (None, leg.destination)]

    def starts(self, destination: str) -> int:
        """Return how often a destination was dialled: starts that were carried out, whether or not their answers arrived."""
        return sum(leg.destination == destination for leg in self.sessions)

    def most_at_once(self, destination: str) -> int:
        """Return the greatest number of sessions to a destination that were live at a time: 2 means that it was called twice."""
        steps: list[tuple[float, int]] = []
        for leg in self.sessions:
            if leg.destination == destination:
                ended_at = leg.ended_at
                steps += [(leg.started_at, 1), (time.monotonic() if ended_at is None else ended_at, -1)]
        most = now = 0
        for _, step in sorted(steps):  # at the same time, ends come first
            now += step
            most = max(most, now)
        return most

    def settled(self, timeout: float = 5.0) -> None:
        """Wait until every webhook so far was delivered or given up, delayed ones too.

        It blocks its thread. If the receiver runs on this thread's event loop, call it in another thread:
        `await anyio.to_thread.run_sync(daily.settled)`.

        Raises:
            TimeoutError: after `timeout` seconds.
        """
        until = time.monotonic() + timeout
        while due := self._do(lambda _: self._server.delivery.due):
            if time.monotonic() > until:
                raise TimeoutError(
                    f"not delivered after {timeout:g} s: {', '.join(sorted(set(due)))} ({len(due)} in all)"
                )
            time.sleep(0.005)

    def _do(self, what: Callable[[SimulatedDomain], _T]) -> _T:
        if not self._is_open:
            raise NotRunning("a FakeDaily can only be used inside its `with`")
        server = self._server
        return server.do(lambda: what(server.domain))

    @property
    def _server(self) -> FakeServer:
        if self._running is None:
            raise NotRunning("a FakeDaily can only be used inside its `with`")
        return self._running


def _can_start(bot: str | Sequence[str] | None) -> bool:
    if bot is None or isinstance(bot, str):
        return bot is None or bot.startswith(("http://", "https://"))
    return bool(bot) and which(bot[0]) is not None
