"""A campaign: everybody on a list is called until a person answers, nobody twice, also if its process is killed on the way.

    python examples/campaign.py

Without `DAILY_API_KEY` it is simulated: a fake of Daily runs in another process (`telstate fake-daily`), 200 numbers are called, and the
process that calls them is killed five times (`kill -9`). At the end the fake says what really happened. With `DAILY_API_KEY`,
`DAILY_ROOM` (dial-out enabled, your bot in it), `TELSTATE_WEBHOOK_SECRET` and `PEOPLE` (a CSV file with a column `number`), it calls
for real. `telstate campaign run` does the same without a program.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from secrets import randbelow
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import httpx

from telstate import CallEnded, Dispatcher, Router, Session
from telstate.control import (
    Attempt,
    Campaign,
    Confirm,
    DailyApi,
    Dialer,
    RestControl,
    ResultFile,
    RetryPlan,
    Verdict,
    read_contacts,
)
from telstate.journals import SqliteJournal
from telstate.sources import serve_webhooks

AT_ONCE = 20


async def is_person(_session: Session, _attempt: Attempt) -> Verdict:
    """Your bot hears who is there: ask it. This one believes that everybody is a person."""
    return Verdict(True, "person")


async def talk(calls: Dispatcher, session_id: str) -> None:
    """Your bot talks to them, and hangs up. After a kill this runs again for those who are still there."""
    await anyio.sleep(0.3)
    session = calls.session(session_id)
    if session is not None:
        with suppress(CallEnded):
            await calls.stop(session)


async def main(confirm: Confirm, retry: RetryPlan, late_events: float = 900, **dialer: Any) -> None:
    """Call everybody; run it again after a kill."""
    secret, people = os.environ["TELSTATE_WEBHOOK_SECRET"], os.environ["PEOPLE"]
    room, port = os.environ["DAILY_ROOM"], int(os.environ.get("PORT", "8080"))
    api = DailyApi(os.environ["DAILY_API_KEY"], url=os.environ.get("TELSTATE_DAILY_API_URL", "https://api.daily.co/v1"))
    async with (
        api,
        Dispatcher(Router(), control=RestControl(api), journal=SqliteJournal("calls.db")) as calls,
        serve_webhooks(calls, secrets=[secret], port=port),
        Dialer(calls, room=room, per_room=AT_ONCE, **dialer) as dialling,
        anyio.create_task_group() as group,
    ):
        contacts = read_contacts(people)
        campaign = Campaign("spring", contacts, at_once=AT_ONCE, retry=retry, confirm=confirm, late_events=late_events)
        with ResultFile("results.jsonl") as file:
            async for result in campaign.run(dialling):
                file.write(result)
                if result and result.session_id is not None:  # a person; after a restart those of before it come again
                    group.start_soon(talk, calls, result.session_id)


# --- the simulation: not part of the program above --------------------------------------------------------------------

KILLS, NUMBERS, STARTS = 5, 200, 4
SIMULATION = "SIMULATION"
PERSON = {"answers": 0.2}  # they talk until the bot hangs up
VOICEMAIL = {"voicemail": {"rings": 1, "ring": 0.2}}
FLAKY = {"gives_up": 0.3}
LINES: tuple[Any, ...] = (
    *[PERSON] * 5,
    [{"busy": True}, PERSON],
    [FLAKY, {"busy": True}, PERSON],
    [VOICEMAIL, PERSON],
    {"busy": True},
    VOICEMAIL,
)


async def heard(session: Session, _attempt: Attempt) -> Verdict:
    """Who answered: the fake knows it, where a bot would hear it."""
    headers = {"Authorization": f"Bearer {os.environ['DAILY_API_KEY']}"}
    async with httpx.AsyncClient(headers=headers, trust_env=False) as client:
        found = await client.get(f"{os.environ[SIMULATION]}/sessions/{session.session_id}")
    who = found.json()["answeredBy"]
    return Verdict(who == "person", who)


async def dial_simulated() -> None:
    """Call with short times."""
    retry = RetryPlan(STARTS, busy=0.5, no_answer=0.5, never_rang=0.5, unconfirmed=0.5, failed=0.5, refused=0.5)
    await main(heard, retry, 2.0, find_within=4.0)


def simulate() -> int:
    """Run the fake and, again and again, the campaign; say what became of it. Returns how many promises did not hold."""
    print("SIMULATED: without DAILY_API_KEY a fake stands in for Daily, in another process, and nobody is called.")
    with TemporaryDirectory() as folder:
        port, fake, environment = start_fake(Path(folder))
        with fake:
            try:
                environment |= {"DAILY_ROOM": "garage", "PEOPLE": "people.csv", "PORT": str(port)}
                return run_and_kill(Path(folder), environment)
            finally:
                fake.terminate()


def start_fake(folder: Path) -> tuple[int, subprocess.Popen[bytes], dict[str, str]]:
    """Start `telstate fake-daily`; return where it sends webhooks to, and the environment with which it is reached."""
    people = [f"+1202555{place:04}" for place in range(NUMBERS)]
    (folder / "people.csv").write_text("number\n" + "\n".join(people) + "\n")
    lines = {number: LINES[place % len(LINES)] for place, number in enumerate(people)}
    (folder / "lines.json").write_text(json.dumps(lines))
    port = free_port()
    secret = b64encode(b"simulated").decode()
    options = f"--port 0 --room garage --per-room {AT_ONCE} --lines lines.json --secret {secret}".split()
    options += ["--webhook", f"http://127.0.0.1:{port}/webhooks", "--retries", ",".join(["0.5"] * 60)]
    command = [sys.executable, "-m", "telstate", "fake-daily", *options]
    printed = folder / "fake.log"
    with printed.open("w") as output:
        fake = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)  # noqa: S603 - this project's command
    while not (exported := re.search("export (.*)\n", printed.read_text())):
        if fake.poll() is not None:
            raise SystemExit(f"the fake has not started: {printed.read_text()}")
        time.sleep(0.02)
    found = dict(pair.split("=", 1) for pair in exported[1].split())
    found[SIMULATION] = found["TELSTATE_DAILY_API_URL"].removesuffix("/v1") + "/simulation"
    return port, fake, {**os.environ, **found, "TELSTATE_WEBHOOK_SECRET": secret}


def free_port() -> int:
    """A port that nobody listens on. Systems give connections higher ones, so it stays free while the campaign is down."""
    while True:
        port = 10_000 + randbelow(10_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def run_and_kill(folder: Path, environment: dict[str, str]) -> int:
    """Run the campaign, kill it so often, let it come to its end, and compare what it says with what the fake has seen."""
    command, results = [sys.executable, str(Path(__file__).resolve())], folder / "results.jsonl"
    for kill in range(KILLS):
        results.unlink(missing_ok=True)
        with subprocess.Popen(command, cwd=folder, env=environment) as process:  # noqa: S603 - this program
            while process.poll() is None and lines_of(results) < NUMBERS * (kill + 1) // (KILLS + 2):
                time.sleep(0.02)
            process.kill()
        print(f"kill -9, when {lines_of(results)} of {NUMBERS} had a result")
    subprocess.run(command, cwd=folder, env=environment, check=True)  # noqa: S603
    headers = {"Authorization": f"Bearer {environment['DAILY_API_KEY']}"}
    seen = httpx.get(f"{environment[SIMULATION]}/sessions", headers=headers, trust_env=False).json()["data"]
    return compare([json.loads(line) for line in results.read_text().splitlines()], seen)


def lines_of(path: Path) -> int:
    """How many lines a file has by now."""
    return len(path.read_text().splitlines()) if path.exists() else 0


def compare(results: list[dict[str, Any]], seen: list[dict[str, Any]]) -> int:
    """Print what became of it; return how many promises did not hold."""
    by_number = [result["number"] for result in results]
    outcomes = Counter(result["outcome"] for result in results)
    print("results:", ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())))
    reached = Counter(one["destination"] for one in seen if one["answeredBy"] == "person")
    answered = {result["number"] for result in results if result["outcome"] == "answered"}
    calls: dict[str, list[dict[str, Any]]] = {}
    for one in seen:
        calls.setdefault(one["destination"], []).append(one)
    broken = {
        "numbers without exactly one result": abs(NUMBERS - len(results)) + len(results) - len({*by_number}),
        "people who were reached twice": sum(count > 1 for count in reached.values()),
        "numbers that were called again while a call went on": sum(map(has_two_at_once, calls.values())),
        "numbers with more starts than planned": sum(len(some) > STARTS for some in calls.values()),
        "people counted as reached whom nobody reached": len(answered - set(reached)),
    }
    for promise, count in broken.items():
        print(f"{promise}: {count}")
    return sum(broken.values())


def has_two_at_once(calls: list[dict[str, Any]]) -> bool:
    """Return whether one of the calls began before another one had ended."""
    times = sorted((one["startedAt"], one["endedAt"] or float("inf")) for one in calls)
    return any(begun < ended for (_, ended), (begun, _) in pairwise(times))


if __name__ == "__main__":
    if "DAILY_API_KEY" not in os.environ:
        sys.exit(simulate())
    anyio.run(dial_simulated) if SIMULATION in os.environ else anyio.run(main, is_person, RetryPlan())
