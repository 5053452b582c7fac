"""Lines by a rule: who answers is in no event, and each dial's result can be foretold."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, time
from typing import Any, Literal

import anyio
import pytest

from telstate import Session
from telstate.control import Attempt, Verdict
from telstate.testing import FakeClock, FakeDaily, PhoneLine, lines
from telstate.testing._phone_lines import PhoneLines
from tests.control.dial_setup import over_http
from tests.testing.world import ROOM, watched

ANN, BOB = "+12025550101", "+12025550102"
BUSY, ANSWERED = PhoneLine(busy=True), PhoneLine()
CHANCES = [(0.3, BUSY), (0.0, PhoneLine(answers=None)), (0.7, ANSWERED)]


def results(plans: PhoneLines, *destinations: str) -> dict[str, list[PhoneLine]]:
    """What each dial meets, in this order of dials."""
    met: dict[str, list[PhoneLine]] = {}
    for destination in destinations:
        met.setdefault(destination, []).append(plans.dial(destination))
    return met


def test_chance_depends_on_the_seed_and_not_on_the_order_of_dials() -> None:
    """So a test with many calls at once can be repeated."""

    def run(seed: int, *destinations: str) -> dict[str, list[PhoneLine]]:
        return results(PhoneLines(lines.flaky(CHANCES, seed=seed)), *destinations)

    first = run(7, *[ANN, BOB] * 50)
    assert first == run(7, *[BOB] * 50, *[ANN] * 50)
    assert first != run(8, *[ANN, BOB] * 50)
    assert first[ANN] != first[BOB]


def test_chance_has_the_given_shares() -> None:
    """A share of 0 is never met."""
    met = results(PhoneLines(lines.flaky([(weight * 10, line) for weight, line in CHANCES])), *[ANN] * 1000)[ANN]
    counted = Counter("busy" if line.busy else "answered" if line.is_answered else "silent" for line in met)
    assert set(counted) == {"busy", "answered"}
    assert 250 < counted["busy"] < 350


def test_one_line_for_each_dial_of_each_number_is_a_default_too() -> None:
    """Each number has its own count, and a new line of a number begins anew."""
    plans = PhoneLines([BUSY, ANSWERED])
    assert results(plans, ANN, ANN, BOB, ANN, BOB) == {ANN: [BUSY, ANSWERED, ANSWERED], BOB: [BUSY, ANSWERED]}
    plans[ANN] = [BUSY, BUSY, ANSWERED]
    assert results(plans, *[ANN] * 4)[ANN] == [BUSY, BUSY, ANSWERED, ANSWERED]


@pytest.mark.parametrize(
    ("zone", "hours", "answered_at"),
    [
        ("UTC", {}, range(9, 21)),
        ("America/New_York", {}, range(14, 26)),  # UTC-5 in January
        ("Asia/Kolkata", {"opens": time(9, 30), "closes": time(17, 30)}, range(4, 12)),  # UTC+5:30
        ("UTC", {"opens": time(20), "closes": time(4)}, range(20, 28)),  # over midnight
        ("UTC", {"opens": time(9), "closes": time(9)}, range(0)),
    ],
    ids=["utc", "new-york", "kolkata", "night", "never"],
)
def test_a_line_answers_in_its_local_hours(zone: str, hours: dict[str, Any], answered_at: range) -> None:
    """By the clock that is given."""
    now = 0.0
    plans = PhoneLines(lines.local_hours(zone, **hours, clock=lambda: now))
    midnight = datetime(2027, 1, 15, tzinfo=UTC).timestamp()
    answered = set()
    for hour in range(24):
        now = midnight + hour * 3600.0
        if plans.dial(ANN).is_answered:
            answered.add(hour)
    assert answered == {hour % 24 for hour in answered_at}


def test_a_line_by_hours_has_plans_for_day_and_night() -> None:
    """With the count of the number's dials."""
    clock = FakeClock(start=datetime(2027, 1, 15, 12, tzinfo=UTC).timestamp())
    by_day = [BUSY, ANSWERED]
    plans = PhoneLines(lines.local_hours("UTC", day=by_day, night=lines.voicemail(), clock=clock.now))
    assert results(plans, ANN, ANN) == {ANN: [BUSY, ANSWERED]}
    clock = FakeClock(start=clock.now() + 12 * 3600)
    plans = PhoneLines(lines.local_hours("UTC", day=by_day, night=lines.voicemail(), clock=clock.now))
    assert plans.dial(ANN) == lines.voicemail()


def test_lines_that_make_no_sense_raise() -> None:
    """Where they are written."""
    for shares in ([], [(0.0, BUSY)], [(-1.0, BUSY), (2.0, BUSY)]):
        with pytest.raises(ValueError, match="shares"):
            lines.flaky(shares)
    with pytest.raises(TypeError, match="a PhoneLine"):
        lines.flaky([(1.0, "busy")])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="America/New_York"):
        lines.local_hours("Mars/Olympus_Mons")
    with pytest.raises(TypeError, match="night="):
        lines.local_hours("UTC", night="closed")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="person, voicemail, ivr, trunk"):
        PhoneLine(answered_by="robot")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="another answerer"):
        PhoneLine(put_through=1.0)
    with pytest.raises(ValueError, match="seconds"):
        lines.voicemail(rings=-1)
    with pytest.raises(TypeError, match="must return a PhoneLine"):
        PhoneLines(lambda _: None).dial(ANN)  # type: ignore[arg-type,return-value]
    wrong: list[Any] = [PhoneLine, [], "busy"]
    for nothing in wrong:
        with pytest.raises(TypeError, match="a PhoneLine, or one for each dial"):
            FakeDaily(line=nothing)
    with pytest.raises(ValueError, match="presence="):
        FakeDaily(presence="maybe")  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_no_event_says_who_answers() -> None:
    """A voicemail, a trunk and a person give the same events; the truth is told by the simulation alone."""
    async with watched() as world:
        daily = world.daily
        daily.lines["+12025550103"] = lines.voicemail(rings=2, ring=0.05, records=0.1)
        daily.lines["+12025550104"] = lines.trunk(person=0.15, talks=0.05)
        daily.lines["+12025550105"] = lines.trunk(gives_up=0.1)
        daily.lines["+12025550106"] = PhoneLine(answers=0.1, talks=0.1)
        daily.lines["+12025550107"] = BUSY
        ids = [await world.dial(f"+120255501{n:02}") for n in range(3, 8)]
        voicemail, picked_up, given_up, person, busy = ids
        await world.until(lambda: not daily.live())
        answerers = [daily.simulated_answerer(one) for one in ids]
        assert answerers == ["voicemail", "person", "trunk", "person", None]
        expected = ["connected", "answered", "joined", "left", "stopped"]
        for one in (voicemail, picked_up, given_up, person):
            assert [kind.partition(".")[2] for kind in world.webhook_types(one)] == expected
        said = str([one.body for one in daily.sent])
        assert not any(word in said for word in ("voicemail", "person", "trunk"))
        assert daily.session(voicemail).answered_at - daily.session(voicemail).started_at >= 0.1  # type: ignore[operator]
        assert daily.session(busy).answered_by is None
        with pytest.raises(KeyError):
            daily.simulated_answerer("nobody")


@pytest.mark.asyncio
async def test_confirm_learns_who_answers_from_the_simulation() -> None:
    """A busy line and a voicemail are dialled again; a trunk counts once a person has picked up behind it."""
    async with over_http() as phone:
        phone.daily.lines[ANN] = [BUSY, lines.voicemail(rings=1, ring=0.05), lines.trunk(person=0.1)]

        async def listen(session: Session, attempt: Attempt) -> Verdict:
            assert session.session_id == attempt.session_id
            with anyio.move_on_after(20):
                while phone.daily.simulated_answerer(session.session_id) == "trunk":  # noqa: ASYNC110 - ringback
                    await anyio.sleep(0.01)
            heard = phone.daily.simulated_answerer(session.session_id)
            return Verdict(heard == "person", heard)

        result = await phone.dial(ANN, attempts=3, confirm=listen, ring_timeout=20)
        assert [one.outcome for one in result.attempts] == ["unanswered", "unconfirmed", "answered"]
        assert [one.verdict for one in result.attempts] == [None, "voicemail", "person"]
        assert phone.daily.most_at_once(ANN) == 1


@pytest.mark.parametrize(("presence", "status", "listed"), [("on", 200, 2), ("none", 200, 0), ("off", 403, None)])
@pytest.mark.asyncio
async def test_presence_can_say_nothing(
    presence: Literal["on", "none", "off"], status: int, listed: int | None
) -> None:
    """While the bot and a caller are there."""
    async with watched(presence=presence) as world:
        await world.dial(ANN)
        await world.until(lambda: "dialout.answered" in world.webhook_types())
        answer = await world.rest.get(f"/rooms/{ROOM}/presence")
        assert (answer.status_code, answer.json().get("total_count")) == (status, listed)
