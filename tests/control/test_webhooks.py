"""Webhooks: created, listed, watched and reactivated, with a fake that tests the receiver as Daily does."""

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
from telstate.testing import FakeDaily
from telstate.testing._daily import KEY
from telstate.testing._faults import instead, lost
from tests.control.receiving import SECRET, Receiver

pytestmark = pytest.mark.anyio


def api_of(daily: FakeDaily) -> DailyApi:
    """A client with one short retry."""
    return DailyApi(KEY, url=daily.url, pauses=[0.01])


def test_needed_lists_every_known_event_type() -> None:
    """The dialect reads each of them. Any other known event is local, or not sent to a webhook of this kind."""
    known = {name for name, kind in event_types().items() if not kind.local}
    read = [translate({"type": name, "payload": {}})["action"] for name in NEEDED]
    assert len(set(read)) == len(NEEDED)
    elsewhere = {"dtmf-event", "pinless-dialin", "sip-trunk-incoming", "left-meeting", "network-connection"}
    assert known - set(read) == elsewhere
    assert set(read) <= known


async def test_create_subscribes_to_all_needed_events(daily: FakeDaily, receiver: Receiver) -> None:
    """With exponential retries and a secret of Daily's, after Daily has tested the receiver."""
    async with api_of(daily) as api:
        made = await Webhooks(api).create(receiver.url)
        assert receiver.received == [{"test": "test"}]
        assert daily.seen[0].body == {"url": receiver.url, "eventTypes": list(NEEDED), "retryType": "exponential"}
        assert made.hmac is not None
        assert made.hmac.get_secret_value() == daily.hooks[made.uuid]["hmac"]
        assert (made.state, made.silent, made.lacks(), made.failed_count) == ("ACTIVE", False, (), 0)
        assert await Webhooks(api).list() == (made,)
        assert await Webhooks(api).get(made.uuid) == made


async def test_create_with_options(daily: FakeDaily, receiver: Receiver) -> None:
    """Fewer events, our secret, the circuit breaker."""
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
    """Daily waits for it before it answers, so create must wait longer than Daily."""
    receiver.delay = 0.7
    async with DailyApi(KEY, url=daily.url, timeout=0.2, pauses=[]) as api:
        made = await Webhooks(api).create(receiver.url)
    assert daily.hooks.keys() == {made.uuid}


async def test_secrets_are_not_shown(daily: FakeDaily, receiver: Receiver) -> None:
    """Nor in the error of an answer that makes no sense."""
    async with api_of(daily) as api:
        made = await Webhooks(api).create(receiver.url, secret=SECRET)
        daily.hooks[made.uuid]["basicAuth"] = "dXNlcjpwYXNz"
        read = await Webhooks(api).get(made.uuid)
        assert read.basic_auth is not None
        shown = f"{read!r} {read} {read.model_dump()} {read.model_dump_json()}"
        daily.faults.append(instead(200, f'{{"hmac": "{SECRET}", "uuid": 7}}'.encode()))
        with pytest.raises(DailyError, match="not a webhook with a uuid") as raised:
            await Webhooks(api).get(made.uuid)
        shown += "".join(traceback.format_exception(raised.value))
        assert raised.value.__context__ is None
    with pytest.raises(ValidationError) as refused:
        Webhook.model_validate({"hmac": SECRET, "uuid": 7})
    assert SECRET not in shown + str(refused.value)
    assert "dXNlcjpwYXNz" not in shown


@pytest.mark.parametrize(("value", "state"), [(0, "FAILED"), (1, "ACTIVE"), (2, "INACTIVE"), ("failed", "FAILED")])
def test_old_and_new_states(value: object, state: str) -> None:
    """Older answers are numbers."""
    webhook = Webhook.model_validate({"uuid": "u", "state": value})
    assert (webhook.state, webhook.silent) == (state, state != "ACTIVE")


def test_odd_fields_do_not_affect_others() -> None:
    """An unknown state is not silent; unknown fields are kept."""
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
    for pushed in ("2023-08-15T18:29:52.000Z", 1692124192):  # the page of today, and the older one
        last = Webhook.model_validate({"uuid": "u", "lastMomentPushed": pushed}).last_moment_pushed
        assert last == datetime(2023, 8, 15, 18, 29, 52, tzinfo=UTC)


async def test_a_receiver_that_does_not_answer(daily: FakeDaily, receiver: Receiver) -> None:
    """Daily creates no webhook, and the error says what to check. Other refusals are not changed."""
    async with api_of(daily) as api:
        receiver.answers = 401
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


async def test_a_lost_answer_may_have_created_a_webhook(daily: FakeDaily, receiver: Receiver) -> None:
    """`list` shows it."""
    async with api_of(daily) as api:
        daily.faults.append(lost)
        with pytest.raises(UnknownResult, match="check before you send it again"):
            await Webhooks(api).create(receiver.url)
        assert [one.url for one in await Webhooks(api).list()] == [receiver.url]


async def test_reactivate(daily: FakeDaily, receiver: Receiver) -> None:
    """Once its receiver answers. Its settings are kept; a new secret is logged."""
    async with api_of(daily) as api:
        hooks = Webhooks(api)
        made = await hooks.create(receiver.url)
        daily.hooks[made.uuid].update(state="FAILED", failedCount=3)
        receiver.answers = 500
        with pytest.raises(DailyError, match="got no 200"):
            await hooks.reactivate(made.uuid)
        assert (await hooks.get(made.uuid)).silent
        receiver.answers = 200
        with capture_logs() as logs:
            assert await hooks.reactivate(made.uuid) == made
        assert logs == []
        updated = [one.body for one in daily.seen if one.method == "POST"][-1]
        assert updated == {"url": receiver.url, "eventTypes": list(NEEDED), "retryType": "exponential"}
        daily.new_secret_on_update = True
        with capture_logs() as logs:
            await hooks.reactivate(made.uuid)
        assert [line["event"] for line in logs] == ["webhook.secret_changed"]
        assert SECRET not in str(logs)


async def test_a_webhook_that_does_not_exist(daily: FakeDaily) -> None:
    """No UUID leads to another path."""
    async with api_of(daily) as api:
        for uuid in ("nope", "../rooms", "a b?c"):
            with pytest.raises(DailyError, match=r"404.*for a typo") as raised:
                await Webhooks(api).reactivate(uuid)
            assert raised.value.status == 404
        with pytest.raises(DefinitionError, match="UUID is empty"):
            await Webhooks(api).get("")
    assert {one.method for one in daily.seen} == {"GET"}
    assert all(one.path.startswith("/v1/webhooks/") for one in daily.seen)


async def test_lists_in_both_forms(daily: FakeDaily) -> None:
    """Bare, as the page shows it, or under `data`, as Daily's other lists."""
    async with api_of(daily) as api:
        daily.faults.extend([instead(200, b'{"total_count": 1, "data": [{"uuid": "u"}]}'), instead(200, b'{"a": 1}')])
        assert await Webhooks(api).list() == (Webhook(uuid="u"),)
        with pytest.raises(DailyError, match="not a list of webhooks"):
            await Webhooks(api).list()


@pytest.mark.parametrize("all_of_them", [False, True])
async def test_watch_yields_each_change_of_state(daily: FakeDaily, receiver: Receiver, *, all_of_them: bool) -> None:
    """At first, then only changes. Each silence is logged once, and after a failed request it goes on."""
    async with api_of(daily) as api:
        made = await Webhooks(api).create(receiver.url)
        hook = daily.hooks[made.uuid]
        states: list[str | None] = []
        with capture_logs() as logs:
            async with aclosing(watch(api, None if all_of_them else made.uuid, every=0.01)) as looks:
                async for webhook in looks:
                    assert webhook.uuid == made.uuid
                    states.append(webhook.state)
                    if len(states) == 1:
                        hook["state"] = "FAILED"
                        hook["failedCount"] = 3
                    elif len(states) == 2:
                        hook["state"] = "ACTIVE"
                        daily.faults.extend([instead(500)] * 2 + [instead(429)] * 2)  # two requests, each retried once
                    elif len(states) == 3:
                        break
    assert states == ["ACTIVE", "FAILED", "ACTIVE"]
    warned = [line for line in logs if line["log_level"] == "warning"]
    assert [line["event"] for line in warned] == ["webhook.silent", "webhook.not_checked", "webhook.not_checked"]
    assert warned[0]["hint"] == f"events are being lost; telstate webhook reactivate {made.uuid}"


async def test_watch_reports_nothing_twice(daily: FakeDaily, receiver: Receiver) -> None:
    """A webhook that stays FAILED gives one warning. New webhooks are yielded, and deleted ones are logged."""
    async with api_of(daily) as api:
        made = await Webhooks(api).create(receiver.url)
        daily.hooks[made.uuid]["state"] = "FAILED"
        yielded: list[str] = []
        with capture_logs() as logs:
            async with aclosing(watch(api, every=0.01)) as looks:
                async for webhook in looks:
                    yielded.append(webhook.uuid)
                    if len(yielded) == 1:
                        daily.faults.extend([instead(200, b'[{"uuid": "%s", "state": 0}]' % made.uuid.encode())] * 5)
                        daily.hooks = {"new": {"uuid": "new", "state": "ACTIVE"}}
                    elif len(yielded) == 2:
                        daily.faults.extend([instead(200, b'[{"uuid": "new", "state": 1}]')] * 5)
                        daily.hooks["new"]["state"] = "UNHEARD-OF"
                    else:
                        break
    assert yielded == [made.uuid, "new", "new"]
    # A slow machine may lose an idle connection; the retry is logged too, but not as a warning.
    assert [(line["event"], line["uuid"]) for line in logs if line["log_level"] == "warning"] == [
        ("webhook.silent", made.uuid),
        ("webhook.gone", made.uuid),
    ]


async def test_watch_ends_with_an_error_if_it_cannot_work(daily: FakeDaily) -> None:
    """An unknown webhook, a wrong key, no pause between requests."""
    async with api_of(daily) as api:
        with pytest.raises(DailyError, match="404"):
            await anext(aiter(watch(api, "nope")))
        for every in (0.0, -1.0, float("nan")):
            with pytest.raises(DefinitionError, match="number of seconds"):
                await anext(aiter(watch(api, every=every)))
    async with DailyApi("wrong", url=daily.url) as api:
        with pytest.raises(DailyError, match="401"):
            await anext(aiter(watch(api)))
