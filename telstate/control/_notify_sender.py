"""Sends the messages for one receiver: many at once, but those about one call one after another.

A message that is not accepted is tried again with growing pauses, while those about other calls go on. A receiver that accepts nothing
any more is asked with one message at a time until it does; what had waited for it then goes at once.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from math import inf
from ssl import SSLContext
from time import time
from typing import TYPE_CHECKING, NamedTuple

import anyio
from anyio.abc import TaskGroup

from telstate.control._notify_target import NotifyTarget
from telstate.routing._log import Log, traceback_of
from telstate.routing._ports import KeptNotification, Notification, OutgoingMessages

if TYPE_CHECKING:
    from telstate.control._poster import PostAnswer

__all__ = ["SendingLimits", "TargetSender"]

_LONGEST_PAUSE = 900.0
"""Seconds between two attempts of one message, before jitter."""
_LONGEST_PROBE = 60.0
"""Seconds between two attempts to reach a receiver that is down, before jitter."""
_DOWN_AFTER = 5
"""Attempts in a row that fail, whatever they are about."""
_FEWEST_ATTEMPTS = 5
"""No message is given up after fewer, however old: the service itself may have been down for days."""
_GIVEN_UP_AFTER = 3600.0
"""Seconds for which a receiver accepts nothing. From then on what is old enough is given up without an attempt of its own: while it is down,
far more messages may come than are tried."""
_AGAIN = 1.0
"""Seconds after an error of the journal."""
_WRITE_WITHIN = 5.0
"""Seconds to write what became of a message, where the program ends meanwhile."""
_GONE = 410
_BURY_AT_ONCE = 50


class SendingLimits(NamedTuple):
    """What a `Notifier` was given for all its receivers."""

    allowed: frozenset[str]
    """Hosts that may have any address, and be reached by http."""
    keep_trying: float
    """Seconds from the event, after which a message is given up."""
    timeout: float
    at_once: int


class TargetSender:
    """The sending to one receiver.

    Args:
        target: the receiver.
        messages: those that wait.
        limits: how long, and how many at once.
        tls: for https.
    """

    def __init__(
        self, target: NotifyTarget, messages: OutgoingMessages, limits: SendingLimits, tls: SSLContext | None
    ) -> None:
        from telstate.control._poster import Poster  # noqa: PLC0415 - an extra

        self._target = target
        self._messages = messages
        self._limits = limits
        self._poster = Poster(
            target.url,
            any_address=target.host in limits.allowed,
            timeout=limits.timeout,
            connections=limits.at_once,
            tls=tls,
        )
        self._in_flight: set[int] = set()
        self._failures = 0
        """Attempts that failed since the last one that did not."""
        self._failing_since = 0.0
        """When the first of those began to fail."""
        self._problem = ""
        """Of the last one."""
        self._resume_at = 0.0
        """While the receiver is down: when it is asked next."""
        self._changed = anyio.Event()
        self.is_gone: bool = False
        """True once it has answered that it wants no more."""
        self.is_busy: bool = True
        """True while a message is due or under way."""
        self._log = Log(burst=3, every=60.0)

    def wake(self) -> None:
        """There are new messages."""
        self.is_busy = True
        self._changed.set()

    @property
    def is_failing(self) -> bool:
        """True if its last answer was none, or a refusal."""
        return self._failures > 0

    async def run(self) -> None:
        """Send until cancelled."""
        is_first = True
        try:
            async with anyio.create_task_group() as group:
                while True:
                    try:
                        if is_first:  # whatever was wrong with the receiver may be mended
                            await self._messages.hasten(self._target.name)
                        is_first = False
                        await self._turn(group)
                    except Exception as error:
                        self._log.error("notify.error", target=self._target.name, exception=traceback_of(error))
                        await anyio.sleep(_AGAIN)
        finally:
            with anyio.move_on_after(_WRITE_WITHIN, shield=True):
                await self._poster.aclose()

    async def _turn(self, group: TaskGroup) -> None:
        """Start what is due, and wait until something changes or something else is due."""
        self._changed = changed = anyio.Event()
        now = self._messages.clock.now() or 0.0
        if self.is_gone:
            await self._bury("Gone", "it answered 410 to another message")
        elif self._is_down and now - self._failing_since >= _GIVEN_UP_AFTER:
            detail = f"{self._problem}, and it accepts nothing since {_GIVEN_UP_AFTER / 60:.0f} minutes or more"
            await self._bury("NotDelivered", detail, now - self._limits.keep_trying)
        # Those under way are among them: they were due first.
        heads = await self._messages.first(self._target.name, 2 * self._limits.at_once + 1)
        waiting = [kept for kept in heads if kept.number not in self._in_flight]
        due = [kept for kept in waiting if kept.due_at <= now]
        self.is_busy = bool(due or self._in_flight)
        for kept in due[: self._room(now)]:
            self._in_flight.add(kept.number)
            group.start_soon(self._deliver, kept)
        times = [kept.due_at for kept in waiting if kept.due_at > now][:1]
        if due and self._is_down and not self._in_flight:
            times.append(self._resume_at)
        with self._messages.clock.move_on_after(max(0.0, min(times) - now) if times else None):
            await changed.wait()

    @property
    def _is_down(self) -> bool:
        return self._failures >= _DOWN_AFTER

    def _room(self, now: float) -> int:
        """Return how many more may be sent now."""
        if self.is_gone or (self._is_down and now < self._resume_at):
            return 0
        return max(0, (1 if self._is_down else self._limits.at_once) - len(self._in_flight))

    # --- one message ----------------------------------------------------------------------------------------------

    async def _deliver(self, kept: KeptNotification) -> None:
        """Try a message once. Raises nothing but cancellation."""
        from telstate.control._poster import NotPosted  # noqa: PLC0415 - an extra

        answer: PostAnswer | None = None
        try:
            try:
                answer = await self._poster.post(kept.message.body, self._headers(kept.message))
                problem = f"it answered {answer.status}"
            except NotPosted as error:
                problem = str(error)
            with anyio.move_on_after(_WRITE_WITHIN, shield=True):  # else it would be sent again for nothing
                await self._conclude(kept, answer, problem)
        except Exception as error:
            self._log.error("notify.error", target=self._target.name, exception=traceback_of(error))
            await anyio.sleep(_AGAIN)
        finally:
            self._in_flight.discard(kept.number)
            self._changed.set()

    def _headers(self, message: Notification) -> dict[str, str]:
        """Sign a message, with the time of this attempt."""
        at, body = datetime.fromtimestamp(int(time()), UTC), message.body.decode()
        return {
            "content-type": "application/json",
            "user-agent": "telstate",
            "webhook-id": message.id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signer.sign(message.id, at, body) for signer in self._target.signers),
        }

    async def _conclude(self, kept: KeptNotification, answer: PostAnswer | None, problem: str) -> None:
        """Let follow what follows from an attempt."""
        if answer is not None and 200 <= answer.status < 300:
            was_down, self._failures = self._is_down, 0
            await self._messages.sent(kept)
            if was_down:
                await self._messages.hasten(self._target.name)
            return
        if answer is not None and answer.status == _GONE:
            await self._gone(kept)
            return
        now = self._messages.clock.now() or 0.0
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        self._problem = problem
        if self._is_down:
            self._resume_at = now + _pause(self._failures - _DOWN_AFTER, _LONGEST_PROBE)
        attempts = kept.attempts + 1
        if now - kept.message.at >= self._limits.keep_trying and attempts >= _FEWEST_ATTEMPTS:
            await self._messages.give_up(kept, "NotDelivered", f"{problem}, at the last of {attempts} attempts")
            return
        pause = max(_pause(kept.attempts, _LONGEST_PAUSE), (answer and answer.retry_after) or 0.0)
        pause = min(pause, max(self._limits.keep_trying, _LONGEST_PAUSE))
        await self._messages.postpone(kept, pause)
        facts = {"target": self._target.name, "id": kept.message.id, "attempts": attempts}
        self._log.warning("notify.failed", **facts, error=problem, again_in=round(pause, 1))

    async def _gone(self, kept: KeptNotification) -> None:
        self.is_gone = True
        hint = "it answered 410 Gone: nothing more is sent to it until the program is started again; what waited is dead letters"
        self._log.error("notify.gone", target=self._target.name, hint=hint)
        await self._messages.give_up(kept, "Gone", "it answered 410")

    async def _bury(self, reason: str, detail: str, until: float = inf) -> None:
        """Make dead letters of what waits, is not under way, and is about events until a time."""
        while True:
            heads = await self._messages.first(self._target.name, _BURY_AT_ONCE + self._limits.at_once)
            old = [kept for kept in heads if kept.number not in self._in_flight and kept.message.at <= until]
            if not old:
                return
            for kept in old:
                await self._messages.give_up(kept, reason, detail)


def _pause(attempts: int, longest: float) -> float:
    """Return the seconds before the next attempt: doubled each time, half of them at random."""
    return min(longest, 2.0 ** min(attempts, 30)) * random.uniform(0.5, 1.5)  # noqa: S311 - it keeps no secret
