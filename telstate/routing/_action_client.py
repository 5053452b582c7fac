"""Asking other dispatchers to act on their sessions: see `_action_server.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from telstate.calls._session import Session
from telstate.errors import (
    CallEnded,
    DailyError,
    DefinitionError,
    JournalError,
    NotRunning,
    NotSupported,
    TelstateError,
    TemporarilyNotAvailable,
    UnknownResult,
)
from telstate.events import ActionAnswered, ActionRequested
from telstate.options import Dialout
from telstate.routing._backlog import Backlog
from telstate.routing._ports import Elsewhere
from telstate.routing._sequencer import Sequencer
from telstate.routing._starting import START, start_argument

__all__ = ["ActionClient"]

_BEGIN_WITHIN = 30.0
"""Seconds after which a request is not begun any more: a call should not be transferred minutes later."""
_ANSWER_WITHIN = 45.0
"""Seconds for the answer: a session's dispatcher may die, and its successor take over, meanwhile."""
_DAILY_ERRORS: list[type[DailyError]] = [DailyError, *DailyError.__subclasses__()]
_OWN_ERRORS: list[type[TelstateError]] = [NotSupported, DefinitionError, JournalError]
_OF_DAILY = {kind.__name__: kind for kind in _DAILY_ERRORS}
_OWN = {kind.__name__: kind for kind in _OWN_ERRORS}


class ActionClient:
    """Asks other dispatchers to act on their sessions.

    Args:
        sequencer: has the time.
        backlog: a handler that waits for an answer is not among those that `receive` waits for.
        elsewhere: the way to the others.
    """

    def __init__(self, sequencer: Sequencer, backlog: Backlog, elsewhere: Elsewhere) -> None:
        self._sequencer = sequencer
        self._backlog = backlog
        self._elsewhere = elsewhere

    async def ask(self, session: Session, verb: str, argument: Mapping[str, Any] | None) -> None:
        """Ask, and wait for the answer.

        Raises:
            Exception: what the action raised there. UnknownResult: if no answer came.
        """
        answer = await self._answer(session, verb, session.session_id, argument)
        if answer.failure is not None:
            raise _error_of(answer.failure, session)

    async def start(self, room: str, options: Dialout) -> tuple[str | None, DailyError | None]:
        """Ask for a start in a room, and wait for the answer.

        Returns:
            The session of the call, or that of the refusal and why. Neither session nor call if nobody sent it.

        Raises:
            Exception: what the start raised there, if that was no refusal. UnknownResult: if no answer came.
        """
        answer = await self._answer(room, START, room, start_argument(options))
        error = None if answer.failure is None else _error_of(answer.failure)
        if error is not None and (isinstance(error, UnknownResult) or not isinstance(error, DailyError)):
            raise error
        return answer.started_id, error

    async def _answer(
        self, place: Session | str, verb: str, target_id: str, argument: Mapping[str, Any] | None
    ) -> ActionAnswered:
        request = ActionRequested(
            request_id=uuid4().hex,
            verb=verb,
            target_id=target_id,
            argument=None if argument is None else dict(argument),
            expires_at=(self._sequencer.now() or 0.0) + _BEGIN_WITHIN,
        )
        with self._backlog.awaiting_events():
            answer = await self._elsewhere.ask(place, request, _ANSWER_WITHIN)
        if answer is None:
            raise UnknownResult(
                f"{verb}: the owner of {target_id} did not answer for {_ANSWER_WITHIN:g} seconds: it may have been done, or not"
            )
        return answer


def _error_of(failure: Mapping[str, Any], session: Session | None = None) -> Exception:
    """Make the error that the action raised, of the same type and with the same text."""
    name, text = str(failure.get("type")), str(failure.get("text"))
    if name == CallEnded.__name__ and session is not None:
        return CallEnded(session)
    if (kind := _OF_DAILY.get(name)) is not None:
        error = kind(text, status=failure.get("status"), error=failure.get("error"), info=failure.get("info"))
        if isinstance(error, TemporarilyNotAvailable):
            error.retry_after = float(failure.get("retry_after", 0.0))
        return error
    if name == NotRunning.__name__:
        return UnknownResult(text)
    if (own := _OWN.get(name)) is not None:
        return own(text)
    if name in ("TypeError", "ValueError", "ValidationError"):
        return ValueError(text)
    return DailyError(f"{name}: {text}")
