"""Webhooks: made, found, watched and brought back, on a fake that tests the receiver as Daily does."""

from __future__ import annotations

import traceback
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from structlog.testing import capture_logs

from telstate.control import NEEDED, DailyApi, Webhook, Webhooks, watch
from telstate.errors import DailyError, DefinitionError, UnknownResult
from telstate.events._base import event_types
from telstate.events._dialects.webhook import translate
from telstate.testing._daily import KEY, FakeDaily
from telstate.testing._faults import instead, lost
from tests.control.receiving import SECRET, Receiver

pytestmark = pytest.mark.anyio


def api_of(daily: FakeDaily) -> DailyApi:
    """One that gives up soon."""
    return DailyApi(KEY, url=daily.url, pauses=[0.01])


def test_needed_is_all_that_telstate_knows_of_webhooks() -> None:
    """The dialect reads each of them, and every other event known is local, or not told by a webhook of this kind."""
    known = {name for name, kind in event_types().items() if not kind.local}
    read = [translate({"type": name, "payload": {}})["action"] for name in NEEDED]
    assert len(set(read)) == len(NEEDED)
    assert known - set(read) == {"dtmf-event", "pinless-dialin"}
    assert set(read) <= known


async def test_a_webhook_is_made_for_all_that_is_needed(daily: FakeDaily, receiver: Receiver) -> None:
    """With retries that never break, and a secret of Daily's; Daily has tested the receiver before."""
    async with api_of(daily) as api:
        made = await Webhooks(api).create(receiver.url)
        assert receiver.received == [{"test": "test"}]
        assert daily.seen[0].body == {"url": receiver.url, "eventTypes": list(NEEDED), "retryType": "exponential"}
        assert made.hmac is not None
        assert made.hmac.get_secret_value() == daily.hooks[made.uuid]["hmac"]
        assert (made.state, made.silent, made.lacks(), made.failed_count) == ("ACTIVE", False, (), 0)
        assert await Webhooks(api).list() == (made,)
        assert await Webhooks(api).get(made.uuid) == made


async def test_a_webhook_is_made_as_asked(daily: FakeDaily, receiver: Receiver) -> None:
    """Fewer events, a secret of ours."""
    async with api_of(daily) as api:
        secret = SecretStr(SECRET)
        made = await Webhooks(api).create(receiver.url, ["dialin.ready"], secret, "circuit-breaker")
        assert (made.event_types, made.retry_type, made.hmac) == (("dialin.ready",), "circuit-breaker", secret)
        assert made.lacks() == NEEDED[1:]
        for wrong in ("", "no base64!", "é"):
            with pytest.raises(DefinitionError, match="must be base64"):
                await Webhooks(api).create(receiver.url, secret=wrong)
        assert len(daily.seen) == 1


async def test_a_slow_receiver_is_waited_for(daily: FakeDaily, receiver: Receiver) -> None:
    """Daily waits for it before it answers, and whoever makes the webhook must wait longer than Daily."""
    receiver.takes = 0.7
    async with DailyApi(KEY, url=daily.url, timeout=0.2, pauses=[]) as api:
        made = await Webhooks(api).create(receiver.url)
    assert daily.hooks.keys() == {made.uuid}


async def test_the_secrets_show_only_when_asked_for(daily: FakeDaily, receiver: Receiver) -> None:
    """Also not where an answer makes no sense."""
    async with api_of(daily) as api:
        made = await Webhooks(api).create(receiver.url, secret=SECRET)
        daily.hooks[made.uuid]["basicAuth"] = "dXNlcjpwYXNz"
        seen = await Webhooks(api).get(made.uuid)
        assert seen.basic_auth is not None
        shown = f"{seen!r} {seen} {seen.model_dump()} {seen.model_dump_json()}"
        daily.faults.append(instead(200, f'{{"hmac": "{SECRET}", "uuid": 7}}'.encode()))
        with pytest.raises(DailyError, match="no webhook with a uuid") as raised:
            await Webhooks(api).get(made.uuid)
        shown += "".join(traceback.format_exception(raised.value))
        assert raised.value.__context__ is None
    with pytest.raises(ValidationError) as refused:
        Webhook.model_validate({"hmac": SECRET, "uuid": 7})
    assert SECRET not in shown + str(refused.value)
    assert "dXNlcjpwYXNz" not in shown


@pytest.mark.parametrize(("told", "state"), [(0, "FAILED"), (1, "ACTIVE"), (2, "INACTIVE"), ("failed", "FAILED")])
def test_states_old_and_new(told: object, state: str) -> None:
    """Older answers have numbers."""
    webhook = Webhook.model_validate({"uuid": "u", "state": told})
    assert (webhook.state, webhook.silent) == (state, state != "ACTIVE")


def test_odd_and_unknown_fields_cost_nothing_else() -> None:
    """A state that nobody knows is no alarm; what is new is kept."""
    odd: dict[str, Any] = {
        "url": 7,
        "hmac": 7,
        "eventTypes": ["dialin.ready", 7],
        "state": "PAUSED",
        "failedCount": "many",
        "lastMomentPushed": "yesterday",
        "brandNew": {"a": 1},
    }
    webhook = Webhook.model_validate({"uuid": "u", **odd})
    assert (webhook.url, webhook.hmac, webhook.failed_count, webhook.last_moment_pushed) == (None,) * 4
    assert (webhook.event_types, webhook.state, webhook.silent) == (("dialin.ready",), "PAUSED", False)
    assert webhook.model_extra == {"brandNew": {"a": 1}}
    assert Webhook(uuid="u").lacks() == NEEDED
    for told in ("2023-08-15T18:29:52.000Z", 1692124192):  # today's page and the older one
        last = Webhook.model_validate({"uuid": "u", "lastMomentPushed": told}).last_moment_pushed
        assert last == datetime(2023, 8, 15, 18, 29, 52, tzinfo=UTC)


async def test_a_receiver_that_does_not_answer(daily: FakeDaily, receiver: Receiver) -> None:
    """Daily makes none, and the error says what to look at; other refusals are left as they are."""
    async with api_of(daily) as api:
        receiver.says = 401
        with pytest.raises(
            DailyError, match=r"recvd 401\. Daily sent .* to http://127.*/receiver and got no 200"
        ) as raised:
            await Webhooks(api).create(receiver.url)
        assert (raised.value.status, raised.value.error) == (400, "invalid-request-error")
        with pytest.raises(DailyError, match=r"recvd undefined\. Daily sent"):
            await Webhooks(api).create("http://127.0.0.1:1/")
        daily.faults.append(instead(400, b'{"error": "invalid-request-error", "info": "eventTypes: no"}'))
        with pytest.raises(DailyError, match=r"eventTypes: no\.$"):
            await Webhooks(api).create(receiver.url)
        assert not daily.hooks


async def test_an_answer_that_was_lost_made_a_webhook_all_the_same(daily: FakeDaily, receiver: Receiver) -> None:
    """One, and `list` finds it."""
    async with api_of(daily) as api:
        daily.faults.append(lost)
        with pytest.raises(UnknownResult, match="look before you send it again"):
            await Webhooks(api).create(receiver.url)
        assert [one.url for one in await Webhooks(api).list()] == [receiver.url]


async def test_a_webhook_that_failed_is_brought_back(daily: FakeDaily, receiver: Receiver) -> None:
    """Once its receiver answers; all that it had stays."""
    async with api_of(daily) as api:
        hooks = Webhooks(api)
        made = await hooks.create(receiver.url)
        daily.hooks[made.uuid].update(state="FAILED", failedCount=3)
        receiver.says = 500
        with pytest.raises(DailyError, match="got no 200"):
            await hooks.reactivate(made.uuid)
        assert (await hooks.get(made.uuid)).silent
        receiver.says = 200
        with capture_logs() as logs:
            assert await hooks.reactivate(made.uuid) == made
        assert logs == []
        asked = [one.body for one in daily.seen if one.method == "POST"][-1]
        assert asked == {"url": receiver.url, "eventTypes": list(NEEDED), "retryType": "exponential"}
        daily.new_secret_on_update = True
        with capture_logs() as logs:
            await hooks.reactivate(made.uuid)
        assert [line["event"] for line in logs] == ["webhook.secret_changed"]
        assert SECRET not in str(logs)


async def test_a_webhook_that_is_not_there(daily: FakeDaily) -> None:
    """Whatever is given for its UUID, no other address is asked."""
    async with api_of(daily) as api:
        for uuid in ("nope", "../rooms", "a b?c"):
            with pytest.raises(DailyError, match=r"404.*for a typo") as raised:
                await Webhooks(api).reactivate(uuid)
            assert raised.value.status == 404
        with pytest.raises(DefinitionError, match="UUID is empty"):
            await Webhooks(api).get("")
    assert {one.method for one in daily.seen} == {"GET"}
    assert all(one.path.startswith("/v1/webhooks/") for one in daily.seen)


async def test_lists_of_either_form(daily: FakeDaily) -> None:
    """Bare, as the page shows it, or under `data`, as Daily's other lists are."""
    async with api_of(daily) as api:
        daily.faults.extend([instead(200, b'{"total_count": 1, "data": [{"uuid": "u"}]}'), instead(200, b'{"a": 1}')])
        assert await Webhooks(api).list() == (Webhook(uuid="u"),)
        with pytest.raises(DailyError, match="no list of webhooks"):
            await Webhooks(api).list()


@pytest.mark.parametrize("all_of_them", [False, True])
async def test_watching_tells_each_change_of_state(daily: FakeDaily, receiver: Receiver, *, all_of_them: bool) -> None:
    """The first look, then changes only; each silence is warned of once, and a look that fails is made again."""
    async with api_of(daily) as api:
        made = await Webhooks(api).create(receiver.url)
        hook = daily.hooks[made.uuid]
        told: list[str | None] = []
        with capture_logs() as logs:
            async with aclosing(watch(api, None if all_of_them else made.uuid, every=0.01)) as looks:
                async for webhook in looks:
                    assert webhook.uuid == made.uuid
                    told.append(webhook.state)
                    if len(told) == 1:
                        hook["state"] = "FAILED"
                        hook["failedCount"] = 3
                    elif len(told) == 2:
                        hook["state"] = "ACTIVE"
                        daily.faults.extend([instead(500)] * 2 + [instead(429)] * 2)  # two looks, each tried twice
                    elif len(told) == 3:
                        break
    assert told == ["ACTIVE", "FAILED", "ACTIVE"]
    warned = [line for line in logs if line["log_level"] == "warning"]
    assert [line["event"] for line in warned] == ["webhook.silent", "webhook.not_seen", "webhook.not_seen"]
    assert warned[0]["hint"] == f"events are being lost; telstate webhook reactivate {made.uuid}"


async def test_watching_says_nothing_twice(daily: FakeDaily, receiver: Receiver) -> None:
    """Many looks at one that stays FAILED give one warning; another webhook is told when it comes, and one that goes."""
    async with api_of(daily) as api:
        made = await Webhooks(api).create(receiver.url)
        daily.hooks[made.uuid]["state"] = "FAILED"
        told: list[str] = []
        with capture_logs() as logs:
            async with aclosing(watch(api, every=0.01)) as looks:
                async for webhook in looks:
                    told.append(webhook.uuid)
                    if len(told) == 1:
                        daily.faults.extend([instead(200, b'[{"uuid": "%s", "state": 0}]' % made.uuid.encode())] * 5)
                        daily.hooks = {"new": {"uuid": "new", "state": "ACTIVE"}}
                    elif len(told) == 2:
                        daily.faults.extend([instead(200, b'[{"uuid": "new", "state": 1}]')] * 5)
                        daily.hooks["new"]["state"] = "UNHEARD-OF"
                    else:
                        break
    assert told == [made.uuid, "new", "new"]
    # A slow machine may lose a connection that was idle; that it was asked again is told too, and is no warning.
    assert [(line["event"], line["uuid"]) for line in logs if line["log_level"] == "warning"] == [
        ("webhook.silent", made.uuid),
        ("webhook.gone", made.uuid),
    ]


async def test_watching_ends_where_it_makes_no_sense(daily: FakeDaily) -> None:
    """One that is not there, a key that is wrong, no time between looks."""
    async with api_of(daily) as api:
        with pytest.raises(DailyError, match="404"):
            await anext(aiter(watch(api, "nope")))
        for every in (0.0, -1.0, float("nan")):
            with pytest.raises(DefinitionError, match="number of seconds"):
                await anext(aiter(watch(api, every=every)))
    async with DailyApi("wrong", url=daily.url) as api:
        with pytest.raises(DailyError, match="401"):
            await anext(aiter(watch(api)))
