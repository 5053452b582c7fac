"""What another process can do with a fake: ask its simulation, and let bots be started as pipecat's runner starts them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from telstate import State
from telstate.testing import FakeDaily, Noise, PhoneLine, _bot_runner, lines
from tests.routing import until
from tests.sources.serving import serving
from tests.testing.world import ROOM, watched

pytestmark = pytest.mark.asyncio

NUMBER, CALLER = "+12025550150", "+12025550142"
BOT = """
import json, os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: sys.exit((folder / "ended").touch()))
(folder / "new").write_text(json.dumps(json.load(sys.stdin) | {"url": os.environ["DAILY_API_URL"]}))
(folder / "new").rename(folder / "told")
time.sleep(60)
"""
"""Writes down what it is told, and that it is told to end."""


def rest(daily: FakeDaily) -> httpx.AsyncClient:
    """A client of the fake, with its key."""
    headers = {"Authorization": f"Bearer {daily.key}"}
    return httpx.AsyncClient(base_url=daily.url.removesuffix("/v1"), headers=headers, trust_env=False)


async def test_a_caller_on_hold_gets_a_bot_of_a_command(tmp_path: Path) -> None:
    """It is told what Pipecat Cloud tells a bot, connects its caller, and is told to end when they have gone."""
    (tmp_path / "bot.py").write_text(BOT)
    command = [sys.executable, str(tmp_path / "bot.py"), str(tmp_path)]
    async with watched(bot=command, registers=0.05) as world:
        daily = world.daily
        runner = f"{daily.bot_runner}/daily-dialin-webhook"
        call_id = daily.call_in(NUMBER, CALLER, pinless=runner, sip_headers={"X-Way": "in"})
        await world.until(lambda: (tmp_path / "told").exists() and daily.sessions)
        told = json.loads((tmp_path / "told").read_text())
        settings, (leg,) = told["body"]["dialin_settings"], daily.sessions
        assert settings.items() >= {"call_id": call_id, "To": NUMBER, "From": CALLER}.items()
        assert settings["sip_headers"] == {"X-Way": "in"}
        assert (told["body"]["daily_api_key"], told["body"]["daily_api_url"]) == (daily.key, daily.url)
        assert (told["url"], told["room_url"].rpartition("/")[2], leg.call_id) == (daily.url, leg.room, call_id)
        assert daily.hang_up(call_id)
        await world.until(lambda: (tmp_path / "ended").exists() and "meeting.ended" in world.webhook_types())
        (session,) = world.calls.sessions()
        assert (session.state, session.room) == (State.STOPPED, leg.room)


async def test_a_bot_is_started_by_its_url() -> None:
    """For a room that the runner makes, or one that exists; a URL that refuses brings no bot."""
    told: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        told.append(json.loads((await receive())["body"]))
        status = 500 if told[-1]["body"].get("fail") else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    seen: list[str] = []
    async with serving(app, lifespan="off") as url:
        with FakeDaily(bot=f"{url}/bot", watch=seen.append) as daily:
            daily.lines[NUMBER] = PhoneLine(answers=None)  # whoever answers joins the room, too
            async with rest(daily) as client:
                wanted = {
                    "createDailyRoom": True,
                    "dailyRoomProperties": {"enable_dialout": True},
                    "body": {"order": 7},
                }
                answer = (await client.post("/bot-runner/start", json=wanted)).json()
                room = answer["dailyRoom"].rpartition("/")[2]
                await until(lambda: any(line.startswith(f"event participant.joined {room}") for line in seen))
                assert told[0] == {
                    "room_url": answer["dailyRoom"],
                    "token": answer["dailyToken"],
                    "session_id": answer["sessionId"],
                    "body": {"order": 7},
                }
                started = await client.post(f"/v1/rooms/{room}/dialOut/start", json={"phoneNumber": NUMBER})
                assert started.status_code == 200
                assert (await client.delete(f"/simulation/rooms/{room}/bot")).status_code == 200
                assert daily.session(started.json()["sessionId"]).ended_by == "meeting"
                await client.post(f"/simulation/rooms/{room}/bot", json={"fail": True})
                await until(lambda: any(line.startswith(f"bot of {room}: ") and "500" in line for line in seen))
                assert not [line for line in seen if "participant.joined" in line][1:]
                for wrong in ({}, {"createDailyRoom": False}, {"createDailyRoom": True, "dailyRoomProperties": []}):
                    assert (await client.post("/bot-runner/start", json=wrong)).status_code == 400


async def test_only_a_caller_on_hold_gets_a_bot() -> None:
    """So nobody else can start commands. One that does not exist is an error at once."""
    with pytest.raises(ValueError, match="command that exists"):
        FakeDaily(bot=["no-such-command-of-anybody"])
    with pytest.raises(ValueError, match="list of words"):
        FakeDaily(bot="python bot.py")
    with FakeDaily(bot=[sys.executable, "-c", ""]) as daily:
        async with rest(daily) as client:
            hook = "/bot-runner/daily-dialin-webhook"
            caller = {"To": NUMBER, "From": CALLER, "callId": "nobody", "callDomain": "d"}
            assert (await client.post(hook, json=caller)).status_code == 404
            assert (await client.post(hook, json={"test": "test"})).status_code == 200
            assert (await client.post(hook, json={"To": NUMBER})).status_code == 400
            client.headers.clear()
            for path in ("/bot-runner/start", "/simulation/calls", "/simulation/rooms/r/bot"):
                assert (await client.post(path, json={})).status_code == 400  # no key
            assert daily.waiting == []


async def test_a_second_bot_leaves_the_first_one_alone() -> None:
    """The fake has one in a room."""
    with FakeDaily() as daily:
        daily.host(ROOM)
        async with rest(daily) as client:
            assert (await client.post(f"/simulation/rooms/{ROOM}/bot")).status_code == 200
            await asyncio.sleep(0.05)  # it could do harm now
            started = await client.post(f"/v1/rooms/{ROOM}/dialOut/start", json={"phoneNumber": NUMBER})
            assert started.status_code == 200


@pytest.mark.long
async def test_a_bot_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """When the fake is left."""
    monkeypatch.setattr(_bot_runner, "_TO_END", 0.1)
    code = "import os, pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(60)"
    with FakeDaily(bot=[sys.executable, "-c", code, str(tmp_path / "pid")]) as daily:
        daily.call_in(NUMBER)
        await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_every_new_room_can_have_a_bot() -> None:
    """So a backend that makes rooms can dial out."""
    async with watched(bot_in_new_rooms=True, bot_joins=0.02) as world:
        assert (await world.rest.post("/rooms", json={"name": "new"})).status_code == 200
        expected = ["dialin.ready", "participant.joined", "participant.joined"]
        await world.until(lambda: sorted(world.webhook_types()) == expected)  # each has a request of its own
        await world.rest.delete("/rooms/new")
        await world.until(lambda: "meeting.ended" in world.webhook_types())


async def test_a_test_in_another_process_asks_the_simulation() -> None:
    """Who answered, how often a number was dialled, and whether somebody calls."""
    async with watched() as world, rest(world.daily) as client:
        world.daily.lines[NUMBER] = lines.trunk(person=0.0)
        session_id = await world.dial(NUMBER)
        await world.until(lambda: world.daily.simulated_answerer(session_id) == "person")
        said = (await client.get(f"/simulation/sessions/{session_id}")).json()
        assert (said["answeredBy"], said["destination"], said["endedAt"]) == ("person", NUMBER, None)
        assert said["startedAt"] <= said["answeredAt"]
        assert (await client.post("/simulation/hangUp", json={"id": session_id})).json() == {"hungUp": True}
        assert (await client.post("/simulation/hangUp", json={"id": session_id})).json() == {"hungUp": False}
        for number, count in ((NUMBER, 1), (CALLER, 0)):
            found = (await client.get("/simulation/sessions", params={"destination": number})).json()
            assert found["total_count"] == count
        call_id = (await client.post("/simulation/calls", json={"to": NUMBER, "waits": 60})).json()["callId"]
        assert world.daily.waiting == [call_id]
        await world.settled()
        assert [caller.call_id for caller in world.calls.waiting()] == [call_id]
        for wrong in ({}, {"to": 5}, {"to": NUMBER, "talks": -1}, {"to": NUMBER, "waits": "long"}):
            assert (await client.post("/simulation/calls", json=wrong)).status_code == 400
        assert (await client.get("/simulation/sessions/nobody")).status_code == 404
        assert (await client.post("/simulation/rooms/nowhere/bot")).status_code == 404


@pytest.mark.long
async def test_webhooks_on_a_bad_network() -> None:
    """They are lost and repeated, and the calls go on."""
    async with watched(noise=Noise(lost=1.0)) as world:
        world.daily.lines[NUMBER] = PhoneLine(answers=0.0, talks=0.0)
        await world.dial(NUMBER)
        await world.until(lambda: not world.daily.live())
        assert world.daily.sent == []
    async with watched(noise=Noise(repeated=1.0)) as world:
        await world.settled()
        assert sorted(world.webhook_types()) == ["dialin.ready"] * 2 + ["participant.joined"] * 2
