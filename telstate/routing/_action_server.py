"""Acting for other dispatchers: one asks, and the one whose session it is carries it out.

A request is an event in the journal of the session's dispatcher. Before that sends anything to Daily, it appends that it has begun; the
answer is an event, too. So a request is sent once at most, whoever owns the journal: a successor that finds it begun and not answered
does not send it again, and answers that nobody knows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from telstate.calls._outcome import OutcomeKind
from telstate.errors import (
    DailyError,
    NotSupported,
    TemporarilyNotAvailable,
    UnknownResult,
)
from telstate.events import ActionAnswered, ActionBegun, ActionRequested, Event
from telstate.events._masking import mask
from telstate.options import Dtmf, Refer, Transfer
from telstate.routing._call_control import CallControl
from telstate.routing._handlers import Hook, Registration, register
from telstate.routing._log import Log, text_of
from telstate.routing._sequencer import Sequencer
from telstate.routing._starting import START, options_from, refused_event, requested_event

__all__ = ["CARRY_OUT", "ActionServer"]


class ActionServer:
    """Carries out what others ask for.

    Args:
        sequencer: knows how far a request is, and takes in the answer.
        control: acts.
    """

    def __init__(self, sequencer: Sequencer, control: CallControl) -> None:
        self._sequencer = sequencer
        self._control = control
        self._log = Log()

    async def carry_out(self, event: ActionRequested) -> None:
        """Carry out a request, unless that was begun before."""
        request = self._sequencer.engine.request(event.request_id)
        if request is None or request.is_over:
            return
        if event.verb == START and not request.is_begun:
            await self._start(event)
            return
        failure: Exception | None
        if request.is_begun:
            failure = UnknownResult(
                f"{event.verb}: its owner ended before the answer: it may have been done, or not. It is not done again"
            )
        elif (failure := self._too_late(event)) is None:
            if not await self._begin(event):
                return
            failure = await self._try(event)
        await self._sequencer.submit_events(_answer(event, failure))

    def _too_late(self, event: ActionRequested) -> TemporarilyNotAvailable | None:
        if (self._sequencer.now() or 0.0) <= event.expires_at:
            return None
        return TemporarilyNotAvailable(f"{event.verb}: it waited for too long; nothing was sent, try again")

    async def _begin(self, event: ActionRequested) -> bool:
        """Append that it is about to be sent. Returns False if another owner was faster, and answers, or nobody waits any more."""
        (outcome,) = await self._sequencer.submit_events(ActionBegun(request_id=event.request_id))
        return outcome.kind is OutcomeKind.NOTED

    async def _start(self, event: ActionRequested) -> None:
        """Start a call, once. What comes of it is kept together with the answer."""
        try:
            options = options_from(event.argument or {})
        except NotSupported as error:
            await self._sequencer.submit_events(_answer(event, error))
            return
        if (late := self._too_late(event)) is not None:
            await self._sequencer.submit_events(_answer(event, late))
            return
        if not await self._begin(event):
            return
        failure: Exception | None = None
        kept: list[Event] = []
        try:
            kept.append(requested_event(await self._control.start(options, event.target_id), options, event.target_id))
        except UnknownResult as error:
            failure = error
        except DailyError as error:
            failure = error
            kept.append(refused_event(error, options, event.target_id))
        except Exception as error:
            failure = error
        started_id = kept[0].session_id if kept else None
        await self._sequencer.submit_events(*kept, _answer(event, failure, started_id))

    async def _try(self, event: ActionRequested) -> Exception | None:
        try:
            await self._act(event)
        except Exception as error:
            self._log.info(
                "call.request_failed", verb=event.verb, session_id=event.target_id, error=mask(text_of(error))
            )
            return error
        return None

    def _act(self, event: ActionRequested) -> Awaitable[None]:
        """Begin what was asked for.

        Raises:
            NotRunning: if this telstate has no such verb.
        """
        control, target, argument = self._control, event.target_id, event.argument or {}
        verbs: dict[str, Callable[[], Awaitable[None]]] = {
            "stop": lambda: control.stop(target, argument.get("reason")),
            "send_dtmf": lambda: control.send_dtmf(target, Dtmf.model_validate(argument)),
            "transfer": lambda: control.transfer(target, Transfer.model_validate(argument)),
            "refer": lambda: control.refer(target, Refer.model_validate(argument)),
        }
        if event.verb not in verbs:
            raise NotSupported(f"{event.verb}: the owner of this session is an older telstate, which cannot do it")
        return verbs[event.verb]()


async def _carry_out(event: ActionRequested, calls: Any) -> None:
    await calls._run.actions.carry_out(event)


CARRY_OUT: Registration = register(_carry_out, Hook.EVENT, event=ActionRequested)
"""Carries out requests as a handler does its work: it runs again after a crash, waits for the lease, and is marked as done."""


def _answer(event: ActionRequested, failure: Exception | None, started_id: str | None = None) -> ActionAnswered:
    told = None if failure is None else _failure_of(failure)
    return ActionAnswered(request_id=event.request_id, failure=told, started_id=started_id)


def _failure_of(error: Exception) -> dict[str, Any]:
    failure: dict[str, Any] = {"type": type(error).__name__, "text": text_of(error)}
    if isinstance(error, DailyError):
        told = {"status": error.status, "error": error.error, "info": error.info}
        failure.update((name, value) for name, value in told.items() if value is not None)
    if isinstance(error, TemporarilyNotAvailable):
        failure["retry_after"] = error.retry_after
    return failure
