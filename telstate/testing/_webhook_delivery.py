"""Delivers webhooks in the background: signed, retried, and in order within each session."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from itertools import chain, repeat
from typing import Any, Literal, NamedTuple

import anyio
import httpx

from telstate.sources._signatures import Secret, SignatureHeaders
from telstate.testing._sender import WebhookSender

__all__ = ["SentWebhook", "WebhookDelivery", "WebhookTarget"]

_MAX_IN_FLIGHT = 16
"""How many requests may be in flight to one receiver: with more connections, httpx takes longer to find a free one. Measured with
8, 16 and 48: 860, 730 and 500 webhooks a second."""


class SentWebhook(NamedTuple):
    """A webhook that was delivered or given up."""

    at: float
    """When that was, by `time.monotonic`."""
    url: str
    type: str
    """The event's type; `pinless` for a caller on hold; `sip_trunk.incoming` for a trunk's caller, with all its tries."""
    body: dict[str, Any]
    delivered: bool


class WebhookTarget(NamedTuple):
    """A receiver of webhooks."""

    url: str
    secret: str | Secret | None = None
    retry: Literal["exponential", "circuit-breaker"] = "exponential"
    headers: SignatureHeaders | None = None
    hook: dict[str, Any] | None = None
    """The webhook as REST returns it; deliveries update it."""

    @property
    def key(self) -> tuple[object, ...]:
        """Identifies the target."""
        return self.url, self.secret, self.retry, None if self.hook is None else self.hook["uuid"]

    @property
    def is_active(self) -> bool:
        """False if Daily would send nothing to it."""
        return self.hook is None or self.hook.get("state", "ACTIVE") == "ACTIVE"


class WebhookDelivery:
    """Delivers each webhook in a task of its own.

    Args:
        pauses: seconds before each retry.
        fail: is called with errors that are bugs, not failures of a receiver.
        tell: is called with each webhook that was delivered or given up.
    """

    def __init__(
        self, pauses: Sequence[float], fail: Callable[[BaseException], None], tell: Callable[[SentWebhook], None]
    ) -> None:
        self._pauses = tuple(pauses)
        self._fail = fail
        self._tell = tell
        self._senders: dict[tuple[object, ...], _LimitedSender] = {}
        self._last: dict[tuple[object, ...], asyncio.Task[None]] = {}
        self._due: dict[asyncio.Task[None], str] = {}
        self._open = AsyncExitStack()
        self._is_closed = False
        self.sent: list[SentWebhook] = []

    @property
    def due(self) -> list[str]:
        """The types of the webhooks that are neither delivered nor given up yet."""
        return list(self._due.values())

    def send(
        self,
        target: WebhookTarget,
        kind: str,
        body: dict[str, Any],
        *,
        after: Iterable[str] = (),
        delay: float | None = None,
        times: int = 1,
    ) -> None:
        """Deliver in the background.

        Args:
            target: the receiver.
            kind: the event's type.
            body: the payload.
            after: sessions whose earlier webhooks are delivered first.
            delay: seconds to wait, instead of waiting for those.
            times: how many times to send it.
        """
        if self._is_closed:
            return  # timers still run while the server stops
        keys = [(*target.key, session) for session in after] if delay is None else []
        before = [self._last[key] for key in keys if key in self._last]
        task = asyncio.create_task(self._deliver(target, kind, body, before, delay=delay or 0.0, times=times))
        self._due[task] = kind
        self._last.update(dict.fromkeys(keys, task))
        task.add_done_callback(self._done)

    def notify(
        self,
        target: WebhookTarget,
        kind: str,
        body: dict[str, Any],
        *,
        within: float,
        wanted: Callable[[], bool],
        then: Callable[[bool], None],
    ) -> None:
        """Send in the background until it is answered with 2xx, as a trunk's call is.

        Args:
            target: the receiver.
            kind: the event's type.
            body: the payload.
            within: seconds for all tries.
            wanted: is asked before each further try whether it still matters.
            then: is called with whether it was answered.
        """
        if self._is_closed:
            return
        task = asyncio.create_task(self._notify(target, kind, body, within, wanted, then))
        self._due[task] = kind
        task.add_done_callback(self._done)

    async def _notify(  # noqa: PLR0917 - the arguments of `notify`
        self,
        target: WebhookTarget,
        kind: str,
        body: dict[str, Any],
        within: float,
        wanted: Callable[[], bool],
        then: Callable[[bool], None],
    ) -> None:
        delivered = await self._sender(target).persist(body, within, wanted)
        self._note(target, kind, body, delivered=delivered)
        then(delivered)

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._due[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    async def _deliver(
        self,
        target: WebhookTarget,
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
        sender = self._sender(target)
        for _ in range(times):
            delivered = target.is_active and await sender.deliver(body)
            self._note(target, kind, body, delivered=delivered)
            if target.hook is not None and target.is_active:
                _update(target.hook, sender, delivered=delivered)

    def _note(self, target: WebhookTarget, kind: str, body: dict[str, Any], *, delivered: bool) -> None:
        webhook = SentWebhook(time.monotonic(), target.url, kind, body, delivered)
        self.sent.append(webhook)
        self._tell(webhook)

    def _sender(self, target: WebhookTarget) -> _LimitedSender:
        if (sender := self._senders.get(target.key)) is None:
            sender = self._senders[target.key] = _LimitedSender(
                target.url, target.secret, retry=target.retry, pauses=self._pauses, headers=target.headers
            )
            self._open.push_async_exit(sender)
        if target.hook is not None and target.is_active and sender.state == "FAILED":
            sender.reactivate()  # an update of the webhook reactivated it, or its state would be FAILED too
        return sender

    async def aclose(self) -> None:
        """Cancel what is not delivered yet."""
        self._is_closed = True
        for task in list(self._due):
            task.cancel()
        if self._due:
            await asyncio.wait(list(self._due))
        await self._open.aclose()


class _LimitedSender(WebhookSender):
    """A sender with a limit of requests in flight."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._limit = asyncio.Semaphore(_MAX_IN_FLIGHT)

    async def persist(self, payload: Mapping[str, Any], within: float, wanted: Callable[[], bool]) -> bool:
        """Send until an answer is 2xx, for so many seconds. Each attempt is signed anew."""
        pauses = chain(self._pauses, repeat(self._pauses[-1] if self._pauses else within))
        with anyio.move_on_after(within):
            for pause in pauses:
                with suppress(httpx.HTTPError):
                    if (await self.post(payload)).is_success:
                        return True
                await anyio.sleep(pause)
                if not wanted():
                    return False
        return False

    async def post(self, payload: Mapping[str, Any] | bytes, **headers: str) -> httpx.Response:
        """Send once, when the limit allows it."""
        async with self._limit:
            return await super().post(payload, **headers)


def _update(hook: dict[str, Any], sender: WebhookSender, *, delivered: bool) -> None:
    """Source of the fields: docs.daily.co/reference/rest-api/webhooks."""
    hook.update(failedCount=sender.failed_count, state=sender.state)
    if delivered:
        hook["lastMomentPushed"] = datetime.now(UTC).isoformat()
