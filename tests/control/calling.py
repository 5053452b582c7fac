"""Everything that a dial-out needs, with real parts but for the cloud: a fake Daily over HTTP, a receiver of its webhooks, a
dispatcher and a dialer, all in a hurry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio

from telstate import Dispatcher, Router
from telstate.control import DailyApi, Webhooks
from telstate.control._dialer import Dialer
from telstate.control._rest import RestControl
from telstate.options import PhoneDialout
from telstate.sources._webhooks import webhook_app
from telstate.testing import FakeDaily
from tests.control.receiving import SECRET
from tests.sources.serving import serving

__all__ = ["NUMBER", "ROOM", "Phone", "phone", "until"]

NUMBER = "+12025550101"
ROOM = "support"


class Phone(NamedTuple):
    """All that there is."""

    daily: FakeDaily
    api: DailyApi
    calls: Dispatcher
    dialer: Dialer

    async def dial(self, number: str = NUMBER, **how: Any) -> Any:
        """Dial a number, in a hurry."""
        return await self.dialer.dial(PhoneDialout(phone_number=number), **{"ring_timeout": 0.5, **how})


@asynccontextmanager
async def phone(
    daily: FakeDaily | None = None,
    router: Router | None = None,
    *,
    start_timeout: float = 0.5,
    calls: dict[str, Any] | None = None,
    **dialer: Any,
) -> AsyncIterator[Phone]:
    """Set it up, with somebody in the room, and take it down."""
    quick = {"pauses": [0.01], "find_within": 1.0, "looks": [0.05], "stops": [0.3, 0.3, 0.3]}
    with daily or FakeDaily() as fake:
        async with DailyApi(fake.key, url=fake.url, timeout=2.0, pauses=(0.02, 0.05)) as api:
            control = RestControl(api, start_timeout=start_timeout)
            async with (
                Dispatcher(router or Router(), control=control, **(calls or {})) as taking,
                serving(webhook_app(taking, secrets=[SECRET]), lifespan="off") as url,
                Dialer(taking, room=ROOM, **{**quick, **dialer}) as dialing,
            ):
                await Webhooks(api).create(f"{url}/webhooks", secret=SECRET)
                fake.host(ROOM)
                yield Phone(fake, api, taking, dialing)


async def until(holds: Callable[[], object]) -> None:
    """Wait until something holds, or fail after five seconds."""
    with anyio.fail_after(5):
        while not holds():  # noqa: ASYNC110 - the fake lives in another thread
            await anyio.sleep(0.01)
