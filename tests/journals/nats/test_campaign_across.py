"""Two workers run one campaign on a shared journal: with a real server, both in one process."""

from __future__ import annotations

import anyio
import pytest

from telstate.control import Campaign, CampaignState, ContactResult, Dialer, RetryPlan
from telstate.journals.nats import Names, NatsConnection
from telstate.journals.nats._reading import StreamLog
from telstate.options import PhoneDialout
from tests.calls import webhook
from tests.journals.nats.test_dialing_across import QUICK, Dialing, dialing
from tests.journals.nats.workers import THERE
from tests.nats_server import NatsServer
from tests.routing import until

pytestmark = [pytest.mark.anyio, pytest.mark.long]
PEOPLE = [f"+1202555{place:04}" for place in range(6)]
PLAN = RetryPlan(attempts=2, busy=0.5)


async def answer(one: Dialing) -> None:
    """Let the first start to each number be busy, and the second answered and over soon."""
    seen: dict[str, int] = {}
    place = 0
    while True:
        for request in one.control.requests[place:]:
            place += 1
            if isinstance(request.argument, PhoneDialout):
                number, session_id = request.argument.phone_number, request.target
                seen[number] = seen.get(number, 0) + 1
                names = ["dialout.connected", *(["dialout.answered"] if seen[number] > 1 else []), "dialout.stopped"]
                for name in names:
                    fields = {"room": THERE, "destination": number, "user_id": request.argument.user_id or ""}
                    await one.both.publish(webhook(name, session_id, **fields), THERE)
        await anyio.sleep(0.02)


async def test_two_workers_call_nobody_twice(shared_nats: NatsServer, names: Names) -> None:
    """Each number has the starts of one campaign, and both say what came of all. A pause that another process asks for halts both."""
    async with (
        dialing(shared_nats, names, per_room=None) as one,
        Dialer(one.there, room=THERE, per_room=None, **QUICK) as other,
        anyio.create_task_group() as group,
    ):
        campaigns = [Campaign("spring", PEOPLE, retry=PLAN, room=THERE, ring_timeout=10) for _ in range(2)]
        found: list[list[ContactResult]] = [[], []]

        async def run(place: int, dialer: Dialer) -> None:
            found[place].extend([result async for result in campaigns[place].run(dialer)])

        other_process = await StreamLog.open(NatsConnection(shared_nats.url), names)
        await other_process.request_campaign("spring", "pause")
        await until(lambda: one.here.intent_ledger("spring").read().halt == "paused")
        await until(lambda: one.there.intent_ledger("spring").read().halt == "paused")
        group.start_soon(answer, one)
        group.start_soon(run, 0, one.dialer)
        group.start_soon(run, 1, other)
        await until(lambda: all(each.progress.state is CampaignState.PAUSED for each in campaigns))
        await anyio.sleep(0.3)
        assert one.verbs() == []
        await other_process.request_campaign("spring", "resume")
        await other_process._connection.aclose()
        await until(lambda: all(found), 60)
        for results in found:
            assert sorted(result.number for result in results) == PEOPLE
            assert [str(result.outcome) for result in results] == ["answered"] * len(PEOPLE)
            assert {len(result.attempts) for result in results} == {2}
        called = [request.argument.destination for request in one.control.requests if request.verb == "start"]  # type: ignore[union-attr]
        assert sorted(called) == sorted(PEOPLE * 2)
        group.cancel_scope.cancel()
