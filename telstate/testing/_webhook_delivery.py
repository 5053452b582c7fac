"""Brings webhooks to those who asked for them: signed, in the order of each session, tried again, and never in anybody's way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import httpx

from telstate.sources._signatures import Headers, Secret
from telstate.testing._sender import WebhookSender, body_of

__all__ = ["Delivery", "Sink", "WebhookDelivery"]

_AT_ONCE = 16
"""Requests on their way at a time, to one receiver: with each connection more, httpx looks longer for a free one. Measured with 8,
16 and 48: 860, 730 and 500 webhooks a second."""


class Delivery(NamedTuple):
    """A webhook that was delivered, or given up."""

    at: float
    """When that was, by `time.monotonic`."""
    url: str
    type: str
    """Of the event; `pinless` for a caller on hold."""
    body: dict[str, Any]
    delivered: bool


class Sink(NamedTuple):
    """Somebody who wants webhooks."""

    url: str
    secret: str | Secret | None = None
    retry: Literal["exponential", "circuit-breaker"] = "exponential"
    headers: Headers | None = None
    hook: dict[str, Any] | None = None
    """The webhook as REST tells it: what becomes of a delivery is noted there."""

    @property
    def key(self) -> tuple[object, ...]:
        """Tells sinks apart."""
        return self.url, self.secret, self.retry, None if self.hook is None else self.hook["uuid"]

    @property
    def is_active(self) -> bool:
        """False if Daily would send nothing there."""
        return self.hook is None or self.hook.get("state", "ACTIVE") == "ACTIVE"


class WebhookDelivery:
    """Delivers, each webhook in a task of its own.

    Args:
        pauses: seconds before each further try.
        fail: takes what no receiver can be blamed for.
    """

    def __init__(self, pauses: Sequence[float], fail: Callable[[BaseException], None]) -> None:
        self._pauses = tuple(pauses)
        self._fail = fail
        self._senders: dict[tuple[object, ...], _Sender] = {}
        self._last: dict[tuple[object, ...], asyncio.Task[None]] = {}
        self._due: dict[asyncio.Task[None], str] = {}
        self._open = AsyncExitStack()
        self._is_closed = False
        self.sent: list[Delivery] = []

    @property
    def due(self) -> list[str]:
        """The types of what is neither delivered nor given up yet."""
        return list(self._due.values())

    def send(
        self,
        sink: Sink,
        kind: str,
        body: dict[str, Any],
        *,
        after: Iterable[str] = (),
        delay: float | None = None,
        times: int = 1,
    ) -> None:
        """Deliver in the background.

        Args:
            sink: to whom.
            kind: the event's type.
            body: what.
            after: sessions; whatever was sent of them before comes first.
            delay: seconds to wait, instead of that.
            times: how often.
        """
        if self._is_closed:
            return  # timers run on while the server ends
        keys = [(*sink.key, session) for session in after] if delay is None else []
        before = [self._last[key] for key in keys if key in self._last]
        task = asyncio.create_task(self._deliver(sink, kind, body, before, delay=delay or 0.0, times=times))
        self._due[task] = kind
        self._last.update(dict.fromkeys(keys, task))
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._due[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    async def _deliver(
        self,
        sink: Sink,
        kind: str,
        body: dict[str, Any],
        before: list[asyncio.Task[None]],
        *,
        delay: float,
        times: int,
    ) -> None:
        if before:
            await asyncio.wait(before)
        if delay:
            await asyncio.sleep(delay)
            body = {**body, "event_ts": round(time.time(), 3)}
        sender = self._sender(sink)
        for _ in range(times):
            delivered = sink.is_active and await sender.deliver(body_of(body))
            self.sent.append(Delivery(time.monotonic(), sink.url, kind, body, delivered))
            if sink.hook is not None and sink.is_active:
                _note(sink.hook, sender, delivered=delivered)

    def _sender(self, sink: Sink) -> _Sender:
        if (sender := self._senders.get(sink.key)) is None:
            sender = self._senders[sink.key] = _Sender(
                sink.url, sink.secret, retry=sink.retry, pauses=self._pauses, headers=sink.headers
            )
            self._open.push_async_exit(sender)
        if sink.hook is not None and sink.is_active and sender.state == "FAILED":
            sender.reactivate()  # by an update of the webhook, else its state would say it too
        return sender

    async def aclose(self) -> None:
        """Leave everything undelivered that is."""
        self._is_closed = True
        for task in list(self._due):
            task.cancel()
        if self._due:
            await asyncio.wait(list(self._due))
        await self._open.aclose()


class _Sender(WebhookSender):
    """One that has only so many requests on their way."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def post(self, body: bytes, **headers: str) -> httpx.Response:
        """Send once, when it is its turn."""
        async with self._turns:
            return await super().post(body, **headers)


def _note(hook: dict[str, Any], sender: WebhookSender, *, delivered: bool) -> None:
    """Source of the fields: docs.daily.co/reference/rest-api/webhooks."""
    told: Mapping[str, Any] = {"failedCount": sender.failed_count, "state": sender.state}
    hook.update(told)
    if delivered:
        hook["lastMomentPushed"] = datetime.now(UTC).isoformat()
