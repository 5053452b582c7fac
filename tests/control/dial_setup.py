"""Everything a dial needs, in two forms with one interface.

`in_memory`: a `FakeCarrier` and a `FakeClock` that runs as fast as the tasks allow. `over_http`: a `FakeDaily`, its webhooks and
`RestControl`, in real time.
"""

from __future__ import annotations

import gc
import json
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any, Literal

import anyio
import anyio.lowlevel

from telstate import Dispatcher, Router, Session
from telstate.control import DailyApi, Dialer, DialResult, RestControl, Webhooks
from telstate.control._error_mapping import error_type_of
from telstate.errors import DailyError
from telstate.options import PhoneDialout
from telstate.routing._clock import SystemClock
from telstate.routing._ports import Clock
from telstate.sources._webhooks import webhook_app
from telstate.testing import FakeClock, FakeDaily, PhoneLine
from telstate.testing._faults import App, instead
from tests.control.arrivals import Arrivals
from tests.control.fake_carrier import FakeCarrier
from tests.control.receiving import SECRET
from tests.routing import until as holds_in_time
from tests.sources.serving import serving

__all__ = ["NUMBER", "QUICK", "ROOM", "DialSetup", "dialing", "in_memory", "over_http", "until"]

NUMBER = "+12025550101"
ROOM = "support"
QUICK: dict[str, Any] = {
    "room": ROOM,
    "pauses": [0.01],
    "find_within": 1.0,
    "find_intervals": [0.05],
    "stop_timeouts": [0.3, 0.3, 0.3],
}
"""Short times for a dialer."""
IN_REAL_TIME: dict[str, Any] = {"find_within": 3.0, "stop_timeouts": [2.0, 2.0, 2.0]}
"""What must be longer where a machine may stand still meanwhile."""


class DialSetup:
    """A carrier, a dispatcher and a dialer.

    Attributes:
        daily: the carrier: `lines`, `live`, `starts`, `most_at_once`, `sessions`.
        calls: the dispatcher.
        dialer: the dialer.
        clock: the dispatcher's clock.
        arrivals: the events that the dispatcher has.
    """

    def __init__(self, daily: Any, calls: Dispatcher, dialer: Dialer, clock: Clock, arrivals: Arrivals) -> None:
        self.daily = daily
        self.calls = calls
        self.dialer = dialer
        self.clock = clock
        self.arrivals = arrivals

    async def dial(self, number: str = NUMBER, **options: Any) -> DialResult:
        """Dial a number, with a short ring timeout. Over HTTP it is in real time, in which a machine may stand still."""
        usual = 3.0 if isinstance(self.daily, FakeDaily) else 0.5
        return await self.dialer.dial(PhoneDialout(phone_number=number), **{"ring_timeout": usual, **options})

    def within(self, seconds: float) -> AbstractContextManager[anyio.CancelScope]:
        """A cancel scope that is cancelled after so many seconds of the clock."""
        return self.clock.move_on_after(seconds)

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds, or fail after a while of real time."""
        if not isinstance(self.daily, FakeDaily):
            await until(holds)
            return
        await holds_in_time(holds)  # the fake lives in another thread

    def requests(self, what: Literal["start", "stop"]) -> int:
        """How many starts or stops were requested, also of those that were refused."""
        if isinstance(self.daily, FakeDaily):
            return sum(one.path.endswith(f"/dialOut/{what}") for one in self.daily.seen)
        return len(self.daily.stops if what == "stop" else self.daily.requested)

    def hold(self, kind: str, until: Callable[[], object]) -> None:
        """Let no event of a type arrive until something holds; nor those after it, unless its line delays it (0 seconds are enough)."""
        self.arrivals.held[kind] = until

    def on_stop(
        self,
        *,
        until: Callable[[], object] = lambda: True,
        refuse: str | None = None,
        status: int = 400,
        times: int = 100,
    ) -> None:
        """Hold the next stops until something holds, and refuse them."""
        left = times

        def counted() -> bool:
            nonlocal left
            left -= 1
            return left >= 0

        if isinstance(self.daily, FakeDaily):

            async def fault(app: App, scope: Any, receive: Any, send: Any) -> None:
                if not counted():
                    return await app(scope, receive, send)
                while not until():  # noqa: ASYNC110 - it lives in another thread
                    await anyio.sleep(0.005)
                if refuse is not None:
                    app = _answering(instead(status, b'{"error": "%b"}' % refuse.encode()), app)
                return await app(scope, receive, send)

            self.daily.rules["/rooms/*/dialOut/stop"] = fault
            return

        async def before_stop(_: Session) -> None:
            if counted():
                while not until():
                    await self.clock.sleep(0.02)
                if refuse is not None:
                    kind: Any = error_type_of(refuse)
                    raise kind(f"stop: Daily answered: {refuse}", status=status, error=refuse)

        self.daily.before_stop = before_stop

    def undo_on_stop(self) -> None:
        """Let stops through again."""
        if isinstance(self.daily, FakeDaily):
            del self.daily.rules["/rooms/*/dialOut/stop"]
        else:
            self.daily.before_stop = None


def _answering(fault: Any, app: App) -> App:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await fault(app, scope, receive, send)

    return answer


@asynccontextmanager
async def in_memory(
    *,
    router: Router | None = None,
    start_timeout: float = 0.5,
    line: PhoneLine | None = None,
    carrier: dict[str, Any] | None = None,
    calls: dict[str, Any] | None = None,
    **dialer: Any,
) -> AsyncIterator[DialSetup]:
    """Set it up with a fake carrier and a clock that runs fast."""
    clock = FakeClock()
    fake = FakeCarrier(clock, start_timeout=start_timeout, line=line, **(carrier or {}))
    async with dialing(fake, router=router, calls={"clock": clock, **(calls or {})}, **dialer) as dialer_:
        yield DialSetup(fake, fake.calls, dialer_, clock, fake.arrivals)


@asynccontextmanager
async def dialing(
    carrier: FakeCarrier, *, router: Router | None = None, calls: dict[str, Any] | None = None, **dialer: Any
) -> AsyncIterator[Dialer]:
    """Run a dialer on a fake carrier. A `FakeClock` runs as fast as the tasks allow."""
    options = calls or {}
    async with Dispatcher(router or Router(), control=carrier, **options) as taking:
        carrier.calls = taking
        async with anyio.create_task_group() as group:
            carrier.group = group
            if isinstance(taking.clock, FakeClock):
                group.start_soon(_run_fast, taking.clock, taking)
            async with Dialer(taking, **{**QUICK, **dialer}) as dialer_:
                be_patient(dialer_)
                yield dialer_
            group.cancel_scope.cancel()


def be_patient(dialer: Dialer) -> None:
    """What it waits for in real time, at the end of a dial and its own, takes longer where the machine stands still. Its clock is not meant."""
    dialer._timeouts = dialer._timeouts._replace(find_within=30.0, stop_timeouts=(30.0,))


async def _run_fast(clock: FakeClock, calls: Dispatcher | None = None) -> None:
    while True:
        # The clock stands still while a journal takes real time.
        while calls is not None and calls._sequencer.busy:  # noqa: ASYNC110
            await anyio.sleep(0.0005)
        await clock.advance(0.02)


@asynccontextmanager
async def over_http(
    *,
    router: Router | None = None,
    start_timeout: float = 5.0,
    daily: FakeDaily | None = None,
    calls: dict[str, Any] | None = None,
    **dialer: Any,
) -> AsyncIterator[DialSetup]:
    """Set it up with a fake Daily over HTTP, with somebody in the room."""
    arrivals = Arrivals()
    try:
        with daily or FakeDaily() as fake:
            async with DailyApi(fake.key, url=fake.url, timeout=10.0, pauses=(0.02, 0.05)) as api:
                control = RestControl(api, start_timeout=start_timeout)
                async with (
                    Dispatcher(router or Router(), control=control, **(calls or {})) as taking,
                    serving(_holding(webhook_app(taking, secrets=[SECRET]), arrivals), lifespan="off") as url,
                    Dialer(taking, **{**QUICK, **IN_REAL_TIME, **dialer}) as dialer_,
                ):
                    await _subscribe(Webhooks(api), f"{url}/webhooks")
                    fake.host(ROOM)
                    be_patient(dialer_)
                    yield DialSetup(fake, taking, dialer_, SystemClock(), arrivals)
    finally:
        collect_dropped_connections()


def _holding(app: Any, arrivals: Arrivals) -> App:
    """A receiver that lets webhooks wait for their turn."""

    async def receive_in_turn(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        kind = json.loads(body or b"{}").get("type")
        await arrivals.turn(kind, anyio.sleep)
        messages = [{"type": "http.request", "body": body}]

        async def again() -> Any:
            return messages.pop() if messages else await receive()

        await app(scope, again, send)
        arrivals.types.append(kind)

    return receive_in_turn


async def _subscribe(hooks: Webhooks, url: str) -> None:
    """Create the webhook. Daily refuses that if a receiver is slow, as one that stands still with the machine."""
    for left in reversed(range(5)):
        try:
            await hooks.create(url, secret=SECRET)
        except DailyError:
            if not left:
                raise
        else:
            return


def collect_dropped_connections() -> None:
    """Collect what httpcore drops unclosed when asyncio cancels its request twice, which no shield holds off.

    Otherwise the collector warns in the middle of another test.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


async def until(holds: Callable[[], object]) -> None:
    """Wait until something holds on this event loop, or fail after half a minute of real time."""
    with anyio.fail_after(30):
        while not holds():
            await anyio.lowlevel.checkpoint()
