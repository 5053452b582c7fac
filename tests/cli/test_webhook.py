"""`telstate webhook`, against a fake of Daily on this machine."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from telstate.control import NEEDED
from telstate.testing import FakeDaily
from telstate.testing._daily import KEY
from telstate.testing._faults import instead, lost
from tests.cli.running import command, environment, telstate
from tests.control.receiving import SECRET, Receiver
from tests.ports import free_port


class TextRun(NamedTuple):
    """What came of a command, as text."""

    returncode: int
    stdout: str
    stderr: str


def variables(daily: FakeDaily | None, **more: str) -> dict[str, str | None]:
    """The environment of a user with a key, or without Daily and a key."""
    ours = {"DAILY_API_KEY": KEY, "TELSTATE_DAILY_API_URL": daily.url} if daily is not None else {}
    unset = dict.fromkeys(("DAILY_API_KEY", "TELSTATE_DAILY_API_URL", "TELSTATE_WEBHOOK_SECRET"))
    return {**unset, **ours, **more}


def webhook(daily: FakeDaily | None, *arguments: object, **more: str) -> TextRun:
    """Run a command; the key is nowhere in its output."""
    run = telstate("webhook", *arguments, env=variables(daily, **more))
    text = TextRun(run.returncode, run.stdout.decode(), run.stderr.decode())
    assert KEY not in text.stdout + text.stderr
    return text


def made(daily: FakeDaily, receiver: Receiver, **fields: Any) -> str:
    """Let there be a webhook; return its id."""
    uuid = f"u{len(daily.hooks)}"
    whole = {"uuid": uuid, "url": receiver.url, "hmac": SECRET, "state": "ACTIVE", "eventTypes": list(NEEDED)}
    daily.hooks[uuid] = {**whole, **fields}
    return uuid


def test_create_shows_the_secret_and_no_other_verb_does(daily: FakeDaily, receiver: Receiver) -> None:
    """With the command that starts the service."""
    run = webhook(daily, "create", receiver.url)
    assert run.returncode == 0, run.stderr
    ((uuid, hook),) = daily.hooks.items()
    assert (hook["eventTypes"], hook["retryType"]) == (list(NEEDED), "exponential")
    assert run.stdout.startswith(f"{uuid} created for {receiver.url}\n")
    assert f"    TELSTATE_WEBHOOK_SECRET={hook['hmac']} telstate serve\n" in run.stdout
    for verb in (["list"], ["check"], ["reactivate", uuid]):
        for arguments in (verb, [*verb, "--json"]):
            again = webhook(daily, *arguments)
            assert again.returncode == 0, again.stderr
            assert uuid in again.stdout
            assert hook["hmac"] not in again.stdout + again.stderr


def test_create_takes_a_secret(daily: FakeDaily, receiver: Receiver, tmp_path: Path) -> None:
    """From a file or the environment, the file first; it is not shown."""
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    by_file = webhook(daily, "create", receiver.url, "--secret-file", file, TELSTATE_WEBHOOK_SECRET="b3RoZXI=")  # noqa: S106
    another = ["--another", "--event", "dialin.ready"]
    by_variable = webhook(daily, "create", receiver.url, *another, TELSTATE_WEBHOOK_SECRET=f"{SECRET},b2xk")
    for run in (by_file, by_variable):
        assert run.returncode == 0, run.stderr
        assert "the secret you gave" in run.stdout
        assert SECRET not in run.stdout
    assert [hook["hmac"] for hook in daily.hooks.values()] == [SECRET, SECRET]
    assert [len(hook["eventTypes"]) for hook in daily.hooks.values()] == [len(NEEDED), 1]


def test_create_as_json(daily: FakeDaily, receiver: Receiver) -> None:
    """One line; the secret is in it if Daily made it."""
    created = json.loads(webhook(daily, "create", receiver.url, "--json").stdout)
    assert created["hmac"] == daily.hooks[created["uuid"]]["hmac"]
    daily.hooks.clear()
    created = json.loads(webhook(daily, "create", receiver.url, "--json", TELSTATE_WEBHOOK_SECRET=SECRET).stdout)
    assert created["hmac"] is None


def test_create_makes_no_second_webhook_for_a_url_unless_asked_to(daily: FakeDaily, receiver: Receiver) -> None:
    """However the URL is spelled. It names the one that is there; `--another` is for one that takes its place."""
    uuid = made(daily, receiver)
    for url in (receiver.url, f"{receiver.url}/", receiver.url.replace("http:", "HTTP:")):
        said = error(webhook(daily, "create", url))
        assert f"the webhook {uuid} sends to {url} already, so nothing was created" in said
        assert "--another" in said
    assert list(daily.hooks) == [uuid]
    assert webhook(daily, "create", receiver.url, "--another").returncode == 0
    assert len(daily.hooks) == 2


@pytest.mark.parametrize("fields", [{"eventTypes": ["recording.ready"]}, {"url": "http://127.0.0.1:1/webhooks"}])
def test_create_goes_on_beside_a_webhook_for_something_else(
    daily: FakeDaily, receiver: Receiver, fields: dict[str, Any]
) -> None:
    """Other events, or another URL: nothing comes twice."""
    made(daily, receiver, **fields)
    made(daily, receiver, url=f"{receiver.url}?tenant=acme")
    assert webhook(daily, "create", receiver.url).returncode == 0
    assert webhook(daily, "create", receiver.url, "--event", "dialin.ready").returncode == 2
    assert len(daily.hooks) == 3


def test_list_prints_a_table_or_json(daily: FakeDaily, receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing else is on standard output, even when a request had to be retried."""
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
    with caplog.at_level(logging.INFO, "telstate"):
        run = webhook(daily, "list")
    assert "daily.retry" in caplog.text
    assert run.stderr == ""
    lines = run.stdout.splitlines()
    assert lines[1].split() == ["u0", "ACTIVE", "2", "2023-08-15", "18:29:52", "exponential", receiver.url]
    assert lines[2].split() == ["u1", "FAILED", receiver.url]
    assert lines[-1] == "2 webhooks"
    found = [json.loads(line) for line in webhook(daily, "list", "--json").stdout.splitlines()]
    assert found[0] == {
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
    assert (found[1]["silent"], found[1]["lacks"]) == (True, list(NEEDED))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"state": "FAILED"}, "it is FAILED, Daily sends nothing, and events are being lost"),
        ({"state": "INACTIVE"}, "telstate webhook reactivate u1"),
        ({"eventTypes": list(NEEDED[2:])}, "it lacks dialin.ready, dialin.connected: create one that has all"),
    ],
)
def test_check_finds_what_is_wrong(daily: FakeDaily, receiver: Receiver, fields: dict[str, Any], problem: str) -> None:
    """And says what to do, with exit code 1; one webhook can be checked alone."""
    made(daily, receiver)
    assert webhook(daily, "check").returncode == 0
    made(daily, receiver, **fields)
    run = webhook(daily, "check")
    assert run.returncode == 1
    good, bad = run.stdout.splitlines()
    assert good == f"u0: ok ({receiver.url})"
    assert problem in bad
    assert webhook(daily, "check", "u0").returncode == 0
    alone = webhook(daily, "check", "u1", "--json")
    assert (alone.returncode, json.loads(alone.stdout)["uuid"]) == (1, "u1")


def test_check_fails_without_any_webhook(daily: FakeDaily) -> None:
    """No call would be reported."""
    run = webhook(daily, "check")
    assert (run.returncode, run.stdout) == (1, "")
    assert "telstate webhook create URL" in run.stderr


@pytest.mark.long
@pytest.mark.parametrize("as_json", [False, True])
def test_check_every_goes_on_until_interrupted(daily: FakeDaily, receiver: Receiver, *, as_json: bool) -> None:
    """Changes are printed as they come, with a warning on standard error; Ctrl-C ends it quietly."""
    uuid = made(daily, receiver)
    process = subprocess.Popen(
        command("webhook", "check", "--every", "1", *(["--json"] if as_json else [])),
        env=environment(variables(daily)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
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
        assert first == f"{uuid}: ok ({receiver.url})\n"
        assert "it is FAILED" in second
    assert err.count("webhook.silent") == 1
    assert f"telstate webhook reactivate {uuid}" in err
    assert "Traceback" not in err
    assert KEY not in first + second + err


def test_reactivate(daily: FakeDaily, receiver: Receiver) -> None:
    """It works once the receiver answers."""
    uuid = made(daily, receiver, state="FAILED")
    receiver.answers = 503
    run = webhook(daily, "reactivate", uuid)
    assert (run.returncode, run.stdout) == (2, "")
    assert f"to {receiver.url} and got no 200" in run.stderr
    receiver.answers = 200
    assert webhook(daily, "reactivate", uuid).stdout == f"{uuid} is ACTIVE\n"
    assert daily.hooks[uuid]["state"] == "ACTIVE"
    assert json.loads(webhook(daily, "reactivate", uuid, "--json").stdout)["state"] == "ACTIVE"


def error(run: TextRun) -> str:
    """The one line of a run that failed."""
    assert (run.returncode, run.stdout) == (2, "")
    (line,) = run.stderr.splitlines()
    return line


def test_errors_are_one_line_that_says_what_to_do(daily: FakeDaily, receiver: Receiver, tmp_path: Path) -> None:
    """With exit code 2."""
    assert "DAILY_API_KEY is not set" in error(webhook(None, "list"))
    assert "DAILY_API_KEY is not set" in error(webhook(None, "list", DAILY_API_KEY=""))
    assert "401: authentication-error. The API key is not valid" in error(webhook(daily, "list", DAILY_API_KEY="x"))
    receiver.answers = 404
    assert "got no 200 within some seconds" in error(webhook(daily, "create", receiver.url))
    receiver.answers = 200
    assert "404" in error(webhook(daily, "check", "nope"))
    assert "404" in error(webhook(daily, "check", "nope", "--every", "5"))
    daily.faults.append(instead(429, retry_after="600"))
    assert "try again in 600 seconds" in error(webhook(daily, "list"))
    (tmp_path / "empty").touch()
    (tmp_path / "odd").write_bytes(b"\xff\x00")
    for name in ("empty", "odd"):
        assert "must be base64" in error(webhook(daily, "create", "https://u", "--secret-file", tmp_path / name))
    assert "is not a URL that Daily can send to" in error(webhook(daily, "create", "ftp://u"))
    assert "cannot read" in error(webhook(daily, "create", "https://u", "--secret-file", tmp_path / "not there"))
    assert "must begin with https://" in error(webhook(daily, "list", "--api-url", "http://daily.example"))


def test_a_lost_answer_is_not_a_failure(daily: FakeDaily, receiver: Receiver) -> None:
    """The webhook may exist; the error says so."""
    daily.faults.append(lost)
    assert "check before you send it again" in error(webhook(daily, "create", receiver.url, "--another"))


@pytest.mark.long
def test_an_unreachable_daily_is_named() -> None:
    """Once the retries are used up."""
    with FakeDaily(port=free_port()) as gone:
        pass
    assert "cannot be reached" in error(webhook(gone, "list"))


@pytest.mark.parametrize(
    ("verb", "status"), [(["webhook", "list"], 2), pytest.param(["diagram", "dialin"], 0, marks=pytest.mark.long)]
)
def test_without_httpx(daily: FakeDaily, verb: list[str], status: int) -> None:
    """It says what to install; the other verbs do not need it."""
    code = "import sys; sys.modules['httpx'] = None\nfrom telstate.__main__ import main\nmain()"
    run = subprocess.run(
        [sys.executable, "-c", code, *verb],
        env=environment(variables(daily)),
        capture_output=True,
        check=False,
        timeout=60,
        text=True,
    )
    assert run.returncode == status
    assert ("pip install 'telstate[rest]'" in run.stderr) == (status == 2)
