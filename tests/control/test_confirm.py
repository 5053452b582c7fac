"""`confirm` decides whether an answer was one, and the first answer of several targets wins."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from telstate import DefinitionError, Router, Session, SessionAnnotated
from telstate.control import Attempt, DialOutcome, Verdict
from telstate.errors import NotSupported
from telstate.events import AttemptEnded
from telstate.options import PhoneDialout
from telstate.testing import PhoneLine, refusals
from tests.control.dial_setup import NUMBER, in_memory

pytestmark = pytest.mark.asyncio
OTHER, THIRD = "+12025550102", "+12025550103"
BUSY, RINGS_ON = PhoneLine(busy=True), PhoneLine(answers=None)
NAME = "order-4711"


def targets(*numbers: str) -> list[PhoneDialout]:
    """Several."""
    return [PhoneDialout(phone_number=number) for number in numbers]


# --- confirm ----------------------------------------------------------------------------------------------------------


async def person(session: Session, attempt: Attempt) -> Verdict:
    """Everybody is one."""
    assert session.session_id == attempt.session_id
    return Verdict(True, "person")


async def test_an_answer_that_counts() -> None:
    """The verdict is a note on the session, and stands in the attempt."""
    async with in_memory() as phone:
        result = await phone.dial(confirm=person)
        assert result
        assert result.session.notes == {"verdict": "person"}
        assert result.attempts[0].verdict == "person"
        assert [leg.session_id for leg in phone.daily.live()] == [result.session.session_id]


async def test_an_answer_that_does_not_count_is_dialled_again_within_the_budget() -> None:
    """After its call was ended."""
    verdicts = [Verdict(False, "voicemail"), Verdict(False, "ivr"), Verdict(True, "person")]

    async def confirm(session: Session, attempt: Attempt) -> Verdict:
        assert session.state == "answered"
        assert attempt.rang
        return verdicts.pop(0)

    async with in_memory() as phone:
        result = await phone.dial(confirm=confirm, attempts=2)
        assert (result.outcome, bool(result)) == (DialOutcome.UNCONFIRMED, False)
        assert [attempt.verdict for attempt in result.attempts] == ["voicemail", "ivr"]
        assert result.session is not None
        assert (result.session.ended_by, result.session.notes) == ("local", {"verdict": "ivr"})
        assert phone.daily.live() == []
        assert phone.daily.most_at_once() == 1
        result = await phone.dial(confirm=confirm, attempts=1)
        assert result


async def test_who_hangs_up_before_the_verdict_is_not_confirmed() -> None:
    """The function is cancelled then."""
    cancelled: list[bool] = []

    async def confirm(session: Session, attempt: Attempt) -> Verdict:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(True)
        raise AssertionError

    async with in_memory(line=PhoneLine(talks=0.1)) as phone:
        result = await phone.dial(confirm=confirm, attempts=2)
        assert [attempt.outcome for attempt in result.attempts] == ["unconfirmed", "unconfirmed"]
        assert [attempt.verdict for attempt in result.attempts] == [None, None]
        assert cancelled == [True, True]


async def test_a_confirm_that_fails_or_takes_too_long_leaves_no_call() -> None:
    """An error is the program's; a deadline holds for it too."""

    async def fail(session: Session, attempt: Attempt) -> Verdict:
        raise ZeroDivisionError

    async def wait(session: Session, attempt: Attempt) -> Verdict:
        await anyio.sleep_forever()
        raise AssertionError

    async with in_memory() as phone:
        with pytest.raises(ZeroDivisionError):
            await phone.dial(confirm=fail)
        assert phone.daily.live() == []
        result = await phone.dial(confirm=wait, until=1.0)
        assert [attempt.outcome for attempt in result.attempts] == ["unconfirmed"]
        assert phone.daily.live() == []
        with pytest.raises(DefinitionError, match="confirm="):
            await phone.dial(confirm=lambda *_: None)


async def test_an_intent_keeps_verdicts() -> None:
    """An unconfirmed answer does not end it, a confirmed one does."""
    verdicts = [Verdict(False, "voicemail"), Verdict(True, "person")]

    async def confirm(session: Session, attempt: Attempt) -> Verdict:
        return verdicts.pop(0)

    async with in_memory() as phone:
        for starts in (1, 2, 2):
            result = await phone.dial(confirm=confirm, attempts=starts, intent=NAME)
            assert phone.daily.starts(NUMBER) == starts
        assert [attempt.verdict for attempt in result.attempts] == ["voicemail", "person"]
        assert result


async def test_a_verdict_is_kept_before_anything_else_is_done_with_it() -> None:
    """So after a kill nobody is asked again, or dialled again, who was reached. Whether it can be noted decides nothing."""
    events: list[str] = []
    router = Router()

    @router.on(AttemptEnded)
    async def ended() -> None:
        events.append("kept")

    @router.on(SessionAnnotated)
    async def annotated() -> None:
        events.append("noted")

    async def too_long(session: Session, attempt: Attempt) -> Verdict:
        return Verdict(True, "person" * 1000)

    async with in_memory(router=router) as phone:
        assert await phone.dial(confirm=person, intent=NAME)
        await phone.calls.idle()
        assert events == ["kept", "noted"]
        result = await phone.dial(confirm=too_long, intent="another")
        assert result
        assert result.session.notes == {}


# --- several targets --------------------------------------------------------------------------------------------------


async def test_the_first_answer_wins_and_the_others_are_ended() -> None:
    """All ring at once."""
    async with in_memory() as phone:
        phone.daily.lines[NUMBER] = RINGS_ON
        phone.daily.lines[OTHER] = PhoneLine(answers=0.3)
        phone.daily.lines[THIRD] = PhoneLine(answers=0.6)
        result = await phone.dialer.dial(targets(NUMBER, OTHER, THIRD), ring_timeout=5)
        assert result
        assert result.destination == OTHER
        assert sorted(attempt.outcome for attempt in result.attempts) == ["answered", "cancelled", "cancelled"]
        assert [leg.destination for leg in phone.daily.live()] == [OTHER]
        assert phone.daily.most_at_once() == 3
        assert phone.dialer.sizes() == {"dials": 0, "starts": 0, "slots": 1}


async def test_the_first_confirmed_answer_wins() -> None:
    """The others go on while it is asked."""

    async def confirm(session: Session, attempt: Attempt) -> Verdict:
        await anyio.lowlevel.checkpoint()
        return Verdict(attempt.destination == OTHER, "it")

    async with in_memory() as phone:
        phone.daily.lines[NUMBER] = PhoneLine(answers=0.1)
        phone.daily.lines[OTHER] = PhoneLine(answers=0.4)
        result = await phone.dialer.dial(targets(NUMBER, OTHER), ring_timeout=5, confirm=confirm)
        assert result
        assert result.destination == OTHER
        assert {attempt.destination: attempt.outcome for attempt in result.attempts} == {
            NUMBER: "unconfirmed",
            OTHER: "answered",
        }
        assert [leg.destination for leg in phone.daily.live()] == [OTHER]


async def test_answers_at_the_same_time_leave_one_call() -> None:
    """Whichever was first."""
    async with in_memory(line=PhoneLine(answers=0.2)) as phone:
        result = await phone.dialer.dial(targets(NUMBER, OTHER, THIRD), ring_timeout=5)
        assert result
        assert [leg.session_id for leg in phone.daily.live()] == [result.session.session_id]
        assert sorted(attempt.outcome for attempt in result.attempts) == ["answered", "cancelled", "cancelled"]


async def test_rounds_leave_out_who_must_not_be_dialled_again() -> None:
    """A refusal that would be repeated is that of one target; each has the budget."""
    async with in_memory() as phone:
        phone.daily.lines[NUMBER] = PhoneLine(refuses=refusals.NOT_ALLOWED)
        phone.daily.lines[OTHER] = [BUSY, BUSY, PhoneLine()]
        result = await phone.dialer.dial(targets(NUMBER, OTHER), attempts=3)
        assert result
        assert (phone.daily.requested.count(NUMBER), phone.daily.requested.count(OTHER)) == (1, 3)
        phone.daily.lines[OTHER] = BUSY
        result = await phone.dialer.dial(targets(NUMBER, OTHER), attempts=2)
        assert result.outcome is DialOutcome.UNANSWERED
        phone.daily.lines[OTHER] = PhoneLine(refuses=refusals.NOT_ALLOWED)
        assert (await phone.dialer.dial(targets(NUMBER, OTHER), attempts=2)).outcome is DialOutcome.REFUSED


async def test_an_intent_of_several_targets() -> None:
    """One result for all of them."""
    async with in_memory() as phone:
        phone.daily.lines[NUMBER] = RINGS_ON
        phone.daily.lines[OTHER] = PhoneLine(answers=0.2)
        for _ in range(2):
            result = await phone.dialer.dial(targets(NUMBER, OTHER), ring_timeout=5, intent=NAME)
            assert result
            assert result.destination == OTHER
            assert sorted(attempt.outcome for attempt in result.attempts) == ["answered", "cancelled"]
        assert len(phone.daily.requested) == 2


async def test_an_error_of_one_target_is_raised_as_it_is_and_leaves_no_call() -> None:
    """It is the program's to mend."""
    async with in_memory(line=RINGS_ON) as phone:
        start = phone.daily.start

        async def picky(options: PhoneDialout, room: str | None = None) -> str:
            if options.destination == OTHER:
                raise NotSupported("not by this way")
            started: str = await start(options, room)
            return started

        phone.daily.start = picky
        with pytest.raises(NotSupported, match="not by this way"):
            await phone.dialer.dial(targets(NUMBER, OTHER), ring_timeout=5)
        assert phone.daily.live() == []
        for none in ([], targets(NUMBER, NUMBER)):
            with pytest.raises(DefinitionError, match="different"):
                await phone.dialer.dial(none)
