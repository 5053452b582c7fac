"""`telstate pinless`, against a fake of Daily on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from telstate.testing import FakeDaily
from telstate.testing._daily import KEY
from telstate.testing._faults import instead
from tests.cli.running import telstate
from tests.cli.test_webhook import TextRun, error, variables
from tests.control.receiving import SECRET

NUMBER, OTHER = "+12025550100", "+12025550101"
URL = "https://example.com/pinless"


@pytest.fixture
def daily(daily: FakeDaily) -> FakeDaily:
    """A domain with another number and a SIP address."""
    entries = [{"phone_number": OTHER, "room_creation_api": "https://other"}, {"room_creation_api": "https://sip"}]
    rest(daily, "POST", "/", {"properties": {"pinless_dialin": entries}})
    return daily


def rest(daily: FakeDaily, method: str, path: str, body: Any = None) -> Any:
    """Send a request with the key."""
    headers = {"Authorization": f"Bearer {KEY}"}
    return httpx.request(method, daily.url + path, json=body, headers=headers, trust_env=False).json()


def entries(daily: FakeDaily) -> list[dict[str, Any]]:
    """The domain's list."""
    listed: list[dict[str, Any]] = rest(daily, "GET", "/")["config"]["pinless_dialin"]
    return listed


def pinless(daily: FakeDaily | None, *arguments: object, **more: str) -> TextRun:
    """Run a command; the key is nowhere in its output."""
    run = telstate("pinless", *arguments, env={"TELSTATE_PINLESS_SECRET": None, **variables(daily, **more)})
    text = TextRun(run.returncode, run.stdout.decode(), run.stderr.decode())
    assert KEY not in text.stdout + text.stderr
    return text


def test_set_keeps_the_other_numbers(daily: FakeDaily) -> None:
    """A new secret is shown once; set again, the number keeps it."""
    before = entries(daily)
    run = pinless(daily, "set", NUMBER, URL)
    assert run.returncode == 0, run.stderr
    *others, ours = entries(daily)
    assert others == before
    assert (ours["phone_number"], ours["room_creation_api"]) == (NUMBER, URL)
    assert run.stdout.startswith(f"{NUMBER}: its callers are reported to {URL}\n")
    assert f"    TELSTATE_PINLESS_SECRET={ours['hmac']} telstate serve\n" in run.stdout
    again = pinless(daily, "set", NUMBER, f"{URL}/2")
    assert again.stdout == f"{NUMBER}: its callers are reported to {URL}/2\n"
    assert entries(daily)[-1]["hmac"] == ours["hmac"]
    assert not any(one["hmac"] in again.stdout + pinless(daily, "show", "--json").stdout for one in entries(daily))


@pytest.mark.long
def test_set_takes_a_secret(daily: FakeDaily, tmp_path: Path) -> None:
    """From a file or the environment, the file first; it is not shown."""
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    run = pinless(daily, "set", NUMBER, URL, "--secret-file", tmp_path / "secret", TELSTATE_WEBHOOK_SECRET="b3RoZXI=")  # noqa: S106
    assert "Daily signs with the secret you gave" in run.stdout
    assert entries(daily)[-1]["hmac"] == SECRET
    both = {"TELSTATE_PINLESS_SECRET": SECRET, "TELSTATE_WEBHOOK_SECRET": "b3RoZXI="}
    run = pinless(daily, "set", OTHER, URL, "--json", **both)
    assert entries(daily)[0]["hmac"] == SECRET
    assert json.loads(run.stdout)["hmac"] is None
    assert SECRET not in run.stdout
    assert json.loads(pinless(daily, "set", "+12025550102", URL, "--json").stdout)["hmac"] == entries(daily)[-1]["hmac"]


@pytest.mark.long
def test_show(daily: FakeDaily) -> None:
    """Those of the list and those with a config of their own, as a table or JSON; one alone says by its exit code if it is there."""
    rest(daily, "POST", "/domain-dialin-config", {"type": "pin_dialin", "phone_number": "+12025550103"})
    lines = pinless(daily, "show").stdout.splitlines()
    assert lines[1].split()[:3] == [OTHER, "pinless_dialin", "https://other"]
    assert lines[2].split()[:3] == ["-", "pinless_dialin", "https://sip"]
    assert lines[3].split() == ["+12025550103", "pin_dialin"]
    assert lines[-1] == "3 numbers"
    found = [json.loads(line) for line in pinless(daily, "show", "--json").stdout.splitlines()]
    assert [one["kind"] for one in found] == ["pinless_dialin", "pinless_dialin", "pin_dialin"]
    assert all("hmac" not in one for one in found)
    assert pinless(daily, "show", OTHER).returncode == 0
    missing = pinless(daily, "show", NUMBER)
    assert (missing.returncode, missing.stdout.splitlines()[-1]) == (1, "0 numbers")
    daily.rules["/domain-dialin-config"] = instead(404)
    assert pinless(daily, "show").stdout.splitlines()[-1] == "2 numbers"


def test_another_program_changes_the_list(daily: FakeDaily) -> None:
    """The number is set, and the exit code is 1."""
    ours = {"phone_number": NUMBER, "room_creation_api": URL, "hmac": SECRET}
    shown: tuple[list[dict[str, Any]], ...] = (entries(daily), [], [ours])
    bodies = [json.dumps({"config": {"pinless_dialin": one}}).encode() for one in shown]
    daily.faults.extend(instead(200, body) for body in bodies)
    run = pinless(daily, "set", NUMBER, URL, TELSTATE_WEBHOOK_SECRET=SECRET)
    assert run.returncode == 1
    assert f"another program changed the list at the same time: {OTHER} is gone" in run.stderr
    assert run.stdout.startswith(f"{NUMBER}: its callers are reported to {URL}\n")


def test_errors_are_one_line_that_says_what_to_do(daily: FakeDaily) -> None:
    """With exit code 2, and nothing is changed."""
    before = entries(daily)
    assert "DAILY_API_KEY is not set" in error(pinless(None, "show"))
    wrong = error(pinless(daily, "set", "2025550100", "example.com"))
    assert "phone_number must be in E.164" in wrong
    assert "room_creation_api must be a URL" in wrong
    assert "must be base64" in error(pinless(daily, "set", NUMBER, URL, TELSTATE_WEBHOOK_SECRET="no!"))  # noqa: S106
    rest(daily, "POST", "/domain-dialin-config", {"type": "pin_dialin", "phone_number": NUMBER})
    assert "one config only" in error(pinless(daily, "set", NUMBER, URL))
    hidden = {"config": {"pinless_dialin": [{"phone_number": OTHER, "room_creation_api": "https://other"}]}}
    daily.faults.append(instead(200, json.dumps(hidden).encode()))
    assert "say new_secrets=True (--new-secrets)" in error(pinless(daily, "set", "+12025550104", URL))
    assert entries(daily) == before
