"""Only for type checkers: what a program knows of a `DialResult` after plain conditions. mypy and pyright both check it.

Every `type: ignore` here must be needed: mypy reports those that are not.
"""

from __future__ import annotations

from typing import assert_type

from telstate import DailyError, Dispatcher, Session
from telstate.control import Answered, Dialer, DialOutcome, DialResult, NotAnswered
from telstate.options import PhoneDialout


async def truthiness_narrows_the_session(dialer: Dialer, calls: Dispatcher) -> None:
    """The usual program."""
    result = await dialer.dial(PhoneDialout(phone_number="+12025550101"))
    assert_type(result, Answered | NotAnswered)
    if result:
        assert_type(result.session, Session)
        await calls.wait_for(result.session.session_id, "stopped")
    else:
        assert_type(result.session, Session | None)
        assert_type(result.error, DailyError | None)
    if not result:
        return
    assert_type(result.session, Session)


def the_outcome_narrows_too(result: DialResult) -> None:
    """By comparing it."""
    if result.outcome is DialOutcome.ANSWERED and result:
        assert_type(result.session, Session)
    assert_type(bool(result), bool)


def without_a_condition_there_may_be_no_session(result: DialResult) -> str:
    """A type checker says so."""
    return result.session.session_id  # type: ignore[union-attr]
