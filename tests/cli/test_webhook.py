"""`telstate webhook`, as a user runs it, against a fake of Daily on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from telstate.control import NEEDED
from telstate.testing._daily import KEY, FakeDaily
from telstate.testing._faults import instead, lost
from tests.control.receiving import SECRET, Receiver


@pytest.fixture
def daily() -> Iterator[FakeDaily]:
    """Daily's webhooks endpoints."""
    with FakeDaily() as fake:
        yield fake


@pytest.fixture
def webhook_app() -> Iterator[Receiver]:
    """Where webhooks can be sent."""
    with Receiver() as listening:
        yield listening


def environment(daily: FakeDaily | None, **more: str) -> dict[str, str]:
    """Of a user with a key."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TELSTATE_", "DAILY_"))}
    known = {"DAILY_API_KEY": KEY, "TELSTATE_DAILY_API_URL": daily.url} if daily is not None else {}
    return {**kept, **known, **more}


def webhook(daily: FakeDaily | None, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    """Run it; whatever comes out, the key does not."""
    command = [sys.executable, "-m", "telstate", "webhook", *map(str, arguments)]
    run = subprocess.run(
        command, env=environment(daily, **more), capture_output=True, check=False, timeout=60, text=True
    )
    assert KEY not in run.stdout + run.stderr
    assert "Traceback" not in run.stderr
    return run


def made(daily: FakeDaily, receiver: Receiver, **fields: Any) -> str:
    """A webhook that is there already."""
    uuid = f"u{len(daily.hooks)}"
    whole = {"uuid": uuid, "url": receiver.url, "hmac": SECRET, "state": "ACTIVE", "eventTypes": list(NEEDED)}
    daily.hooks[uuid] = {**whole, **fields}
    return uuid


def test_one_is_made_and_its_secret_shown_once(daily: FakeDaily, receiver: Receiver) -> None:
    """With the command to go on with; no other verb shows it."""
    run = webhook(daily, "create", receiver.url)
    assert run.returncode == 0, run.stderr
    ((uuid, hook),) = daily.hooks.items()
    assert (hook["eventTypes"], hook["retryType"]) == (list(NEEDED), "exponential")
    assert run.stdout.startswith(f"{uuid} made for {receiver.url}\n")
    assert f"    TELSTATE_WEBHOOK_SECRET={hook['hmac']} telstate serve\n" in run.stdout
    for verb in (["list"], ["check"], ["reactivate", uuid]):
        for arguments in (verb, [*verb, "--json"]):
            again = webhook(daily, *arguments)
            assert again.returncode == 0, again.stderr
            assert uuid in again.stdout
            assert hook["hmac"] not in again.stdout + again.stderr


def test_one_is_made_with_a_secret_of_ours(daily: FakeDaily, receiver: Receiver, tmp_path: Path) -> None:
    """From a file or the environment, the file first; it is not repeated."""
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    by_file = webhook(daily, "create", receiver.url, "--secret-file", file, TELSTATE_WEBHOOK_SECRET="b3RoZXI=")  # noqa: S106
    by_variable = webhook(daily, "create", receiver.url, "--event", "dialin.ready", TELSTATE_WEBHOOK_SECRET=SECRET)
    for run in (by_file, by_variable):
        assert run.returncode == 0, run.stderr
        assert "the secret you gave" in run.stdout
        assert SECRET not in run.stdout
    assert [hook["hmac"] for hook in daily.hooks.values()] == [SECRET, SECRET]
    assert [len(hook["eventTypes"]) for hook in daily.hooks.values()] == [len(NEEDED), 1]


def test_made_as_json(daily: FakeDaily, receiver: Receiver) -> None:
    """One line; the secret is in it if Daily made it."""
    told = json.loads(webhook(daily, "create", receiver.url, "--json").stdout)
    assert told["hmac"] == daily.hooks[told["uuid"]]["hmac"]
    told = json.loads(webhook(daily, "create", receiver.url, "--json", TELSTATE_WEBHOOK_SECRET=SECRET).stdout)
    assert told["hmac"] is None


def test_what_there_is(daily: FakeDaily, receiver: Receiver) -> None:
    """As a table and as JSON, on standard output alone also when Daily had to be asked again."""
    empty = webhook(daily, "list")
    assert empty.stdout.endswith("\n0 webhooks\n")
    assert webhook(daily, "list", "--json").stdout == ""
    made(
        daily,
        receiver,
        lastMomentPushed="2023-08-15T18:29:52.000Z",
        failedCount=2,
        retryType="exponential",
        basicAuth="dTpw",
    )
    made(daily, receiver, state=0, eventTypes=None)
    daily.faults.append(instead(500))
    run = webhook(daily, "list")
    assert "daily.retry" in run.stderr
    lines = run.stdout.splitlines()
    assert lines[1].split() == ["u0", "ACTIVE", "2", "2023-08-15", "18:29:52", "exponential", receiver.url]
    assert lines[2].split() == ["u1", "FAILED", receiver.url]
    assert lines[-1] == "2 webhooks"
    daily.faults.append(instead(500))
    told = [json.loads(line) for line in webhook(daily, "list", "--json").stdout.splitlines()]
    assert told[0] == {
        "uuid": "u0",
        "url": receiver.url,
        "retry_type": "exponential",
        "event_types": list(NEEDED),
        "state": "ACTIVE",
        "failed_count": 2,
        "last_moment_pushed": "2023-08-15T18:29:52Z",
        "silent": False,
        "lacks": [],
    }
    assert (told[1]["silent"], told[1]["lacks"]) == (True, list(NEEDED))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"state": "FAILED"}, "it is FAILED, Daily sends nothing, and events are being lost"),
        ({"state": "INACTIVE"}, "telstate webhook reactivate u1"),
        ({"eventTypes": list(NEEDED[2:])}, "it lacks dialin.ready, dialin.connected: make one that has all"),
    ],
)
def test_check_finds_what_is_wrong(daily: FakeDaily, receiver: Receiver, fields: dict[str, Any], said: str) -> None:
    """And says what to do, with exit code 1; the other one is well, and can be asked for alone."""
    made(daily, receiver)
    assert webhook(daily, "check").returncode == 0
    made(daily, receiver, **fields)
    run = webhook(daily, "check")
    assert run.returncode == 1
    well, ill = run.stdout.splitlines()
    assert well == f"u0: well ({receiver.url})"
    assert said in ill
    assert webhook(daily, "check", "u0").returncode == 0
    alone = webhook(daily, "check", "u1", "--json")
    assert (alone.returncode, json.loads(alone.stdout)["uuid"]) == (1, "u1")


def test_no_webhook_at_all_is_not_well(daily: FakeDaily) -> None:
    """Nobody tells telstate anything then."""
    run = webhook(daily, "check")
    assert (run.returncode, run.stdout) == (1, "")
    assert "telstate webhook create URL" in run.stderr


@pytest.mark.parametrize("as_json", [False, True])
def test_check_goes_on_until_interrupted(daily: FakeDaily, receiver: Receiver, *, as_json: bool) -> None:
    """Each change comes when it comes, the warning on standard error; an interrupt ends it quietly."""
    uuid = made(daily, receiver)
    command = [sys.executable, "-m", "telstate", "webhook", "check", "--every", "1", *(["--json"] if as_json else [])]
    process = subprocess.Popen(
        command, env=environment(daily), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    daily.hooks[uuid]["state"] = "FAILED"
    second = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    if as_json:
        assert [json.loads(line)["state"] for line in (first, second)] == ["ACTIVE", "FAILED"]
    else:
        assert first == f"{uuid}: well ({receiver.url})\n"
        assert "it is FAILED" in second
    assert err.count("webhook.silent") == 1
    assert f"telstate webhook reactivate {uuid}" in err
    assert "Traceback" not in err
    assert KEY not in first + second + err


def test_one_is_brought_back(daily: FakeDaily, receiver: Receiver) -> None:
    """Once its receiver answers."""
    uuid = made(daily, receiver, state="FAILED")
    receiver.answers = 503
    run = webhook(daily, "reactivate", uuid)
    assert (run.returncode, run.stdout) == (2, "")
    assert f"to {receiver.url} and got no 200" in run.stderr
    receiver.answers = 200
    assert webhook(daily, "reactivate", uuid).stdout == f"{uuid} is ACTIVE\n"
    assert daily.hooks[uuid]["state"] == "ACTIVE"
    assert json.loads(webhook(daily, "reactivate", uuid, "--json").stdout)["state"] == "ACTIVE"


def complaint(run: subprocess.CompletedProcess[str]) -> str:
    """The one line of a run that could not do it."""
    assert (run.returncode, run.stdout) == (2, "")
    (line,) = [line for line in run.stderr.splitlines() if "daily.retry" not in line]
    return line


def test_what_goes_wrong_is_told_in_one_line(daily: FakeDaily, receiver: Receiver, tmp_path: Path) -> None:
    """Who has to do what."""
    assert "DAILY_API_KEY is not set" in complaint(webhook(None, "list"))
    assert "DAILY_API_KEY is not set" in complaint(webhook(None, "list", DAILY_API_KEY=""))
    assert "401: authentication-error. The API key is not valid" in complaint(webhook(daily, "list", DAILY_API_KEY="x"))
    receiver.answers = 404
    assert "got no 200 within some seconds" in complaint(webhook(daily, "create", receiver.url))
    receiver.answers = 200
    assert "404" in complaint(webhook(daily, "check", "nope"))
    assert "404" in complaint(webhook(daily, "check", "nope", "--every", "5"))
    daily.faults.append(instead(429, retry_after="600"))
    assert "try again in 600 seconds" in complaint(webhook(daily, "list"))
    daily.faults.append(lost)
    assert "check before you send it again" in complaint(webhook(daily, "create", receiver.url))
    with FakeDaily() as nobody:
        pass
    assert "cannot be reached" in complaint(webhook(nobody, "list"))
    (tmp_path / "empty").touch()
    (tmp_path / "odd").write_bytes(b"\xff\x00")
    for name in ("empty", "odd"):
        assert "must be base64" in complaint(webhook(daily, "create", "https://u", "--secret-file", tmp_path / name))
    assert "is no address Daily can send to" in complaint(webhook(daily, "create", "ftp://u"))
    assert "cannot read" in complaint(webhook(daily, "create", "https://u", "--secret-file", tmp_path / "not there"))
    assert "must begin with https://" in complaint(webhook(daily, "list", "--api-url", "http://daily.example"))


def test_without_httpx(daily: FakeDaily) -> None:
    """What to install; the other verbs do without."""
    code = "import sys; sys.modules['httpx'] = None\nfrom telstate.__main__ import main\nmain()"
    for verb, status in (["webhook", "list"], 2), (["diagram", "dialin"], 0):
        command = [sys.executable, "-c", code, *verb]
        run = subprocess.run(command, env=environment(daily), capture_output=True, check=False, timeout=60, text=True)
        assert run.returncode == status
        assert ("pip install 'telstate[rest]'" in run.stderr) == (status == 2)
