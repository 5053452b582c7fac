"""Notifications: signed webhooks that tell other systems about calls. See README.md beside this file."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import anyio

from telstate.control._notify_sender import SendingLimits, TargetSender
from telstate.control._notify_target import NotifyTarget
from telstate.control._tls import tls_context
from telstate.routing._log import Log, traceback_of
from telstate.routing._ports import OutgoingMessages

__all__ = ["Notifier"]

_LOOK_EVERY = 0.01


class Notifier:
    """Tells receivers about calls: `Dispatcher(router, journal=…, notify=Notifier(NotifyTarget(url, secret)))`.

    Messages are JSON, signed as Standard Webhooks asks for, and have the complete record: phone numbers and names are NOT masked. Each
    arrives at least once; a repetition has the same `webhook-id`. Those about one session arrive in order, one after another. One
    receiver never waits for another, nor do handlers or `receive` wait for any of them.

    One `Notifier` serves one dispatcher.

    Args:
        targets: the receivers.
        allow: hosts that may have private, loopback and link-local addresses, and be reached by http: their names as in the URL.
        keep_trying: for how long a message is tried that is not accepted; then it is a dead letter.
        timeout: seconds for one attempt, from the look-up of the name to the end of the answer.
        at_once: how many requests one receiver may get at the same time.

    Raises:
        ValueError: if two receivers have the same name, or one needs http and is not allowed; or if a number is out of range.
    """

    def __init__(
        self,
        *targets: NotifyTarget,
        allow: Iterable[str] = (),
        keep_trying: timedelta = timedelta(days=1),
        timeout: float = 15.0,
        at_once: int = 16,
    ) -> None:
        if timeout <= 0 or at_once < 1 or keep_trying < timedelta():
            raise ValueError("timeout= takes seconds above 0, at_once= a number from 1 on, and keep_trying= a duration")
        allowed = frozenset(host.lower() for host in allow)
        self._targets = {target.name: target for target in targets}
        if len(self._targets) < len(targets):
            raise ValueError("two receivers have the same name: give each a name= of its own")
        for target in targets:
            if not target.is_secure and target.host not in allowed:
                raise ValueError(
                    f"the records have phone numbers, so {target.host} needs https; for http, allow the host by name:"
                    f" allow=[{target.host!r}], or --notify-allow {target.host}"
                )
        import telstate.control._poster  # noqa: F401, PLC0415 - an extra; now, not while calls are handled

        self._tls = tls_context() if any(target.is_secure for target in targets) else None
        self._limits = SendingLimits(allowed, keep_trying.total_seconds(), timeout, at_once)
        self._senders: dict[str, TargetSender] = {}
        self._log = Log()

    def has(self, target: str) -> bool:
        """Return whether there is a receiver of this name."""
        return target in self._targets

    def wants_kind(self, kind: str) -> bool:
        """Return whether any receiver may want messages of a kind."""
        return any(target.wants_kind(kind) for target in self._targets.values())

    def wants(self, kind: str, record: Mapping[str, Any]) -> Sequence[str]:
        """Return the names of the receivers that want a message."""
        return [name for name, target in self._targets.items() if self._wants(target, kind, record)]

    def posted(self, targets: Collection[str]) -> None:
        """There are new messages for these receivers."""
        for name in targets:
            if name in self._senders:
                self._senders[name].wake()

    async def run(self, messages: OutgoingMessages) -> None:
        """Send messages until cancelled. A dispatcher does this."""
        self._senders = {
            name: TargetSender(target, messages, self._limits, self._tls) for name, target in self._targets.items()
        }
        try:
            await self._name_unknown(messages)
            async with anyio.create_task_group() as group:
                for sender in self._senders.values():
                    group.start_soon(sender.run)
        finally:
            self._senders = {}

    async def drain(self) -> None:
        """Wait until what is due is sent, except to receivers that fail: what waits for those goes on after a restart."""
        while any(sender.is_busy and not sender.is_failing for sender in self._senders.values()):  # noqa: ASYNC110 - several tell
            await anyio.sleep(_LOOK_EVERY)

    def _wants(self, target: NotifyTarget, kind: str, record: Mapping[str, Any]) -> bool:
        sender = self._senders.get(target.name)
        if sender is not None and sender.is_gone:
            return False
        try:
            return target.wants(kind, record)
        except Exception as error:
            hint = "its condition raised, so it is not told"
            self._log.error("notify.filter_failed", target=target.name, exception=traceback_of(error), hint=hint)
            return False

    async def _name_unknown(self, messages: OutgoingMessages) -> None:
        """Say which messages wait for a receiver that there is no more."""
        try:
            waiting = await messages.waiting()
        except Exception as error:
            self._log.error("notify.error", exception=traceback_of(error))
            return
        for name in waiting.keys() - self._targets.keys():
            hint = "no receiver has this name now; they are sent when one has it again"
            self._log.warning("notify.no_receiver", target=name, messages=waiting[name], hint=hint)
