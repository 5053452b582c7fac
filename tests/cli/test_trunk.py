"""`telstate trunk`, against a fake of Daily on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from telstate.testing import FakeDaily
from telstate.testing._daily import KEY
from telstate.testing._faults import instead, lost
from tests.cli.running import telstate
from tests.cli.test_webhook import TextRun, error, variables
from tests.control.receiving import SECRET, Receiver

PASSWORD = "hunter2 of the carrier"
UNSET = dict.fromkeys(("TELSTATE_TRUNK_PASSWORD", "TELSTATE_TRUNK_SECRET"))
ALLOWED = ("--allow", "203.0.113.7")


def trunk(daily: FakeDaily | None, *arguments: object, **more: str) -> TextRun:
    """Run a command; neither the key nor a password is in its output."""
    run = telstate("trunk", *arguments, env={**UNSET, **variables(daily, **more)})
    text = TextRun(run.returncode, run.stdout.decode(), run.stderr.decode())
    assert KEY not in text.stdout + text.stderr
    assert PASSWORD not in text.stdout + text.stderr
    return text


def made(daily: FakeDaily, receiver: Receiver, *arguments: object, name: str = "support") -> str:
    """Let there be a trunk; return its id."""
    given = ("create", name, receiver.url, *(arguments or ALLOWED), "--json")
    run = trunk(daily, *given, TELSTATE_WEBHOOK_SECRET=SECRET)
    assert run.returncode == 0, run.stderr
    trunk_id: str = json.loads(run.stdout)["id"]
    return trunk_id


def body(daily: FakeDaily, method: str = "POST") -> dict[str, Any]:
    """The last request of a kind."""
    found: dict[str, Any] = [one.body for one in daily.seen if one.method == method][-1]
    return found


@pytest.mark.long
def test_create_shows_the_secret_and_no_other_verb_does(daily: FakeDaily, receiver: Receiver) -> None:
    """With the address for the carrier, and the command that starts the service."""
    run = trunk(daily, "create", "support", receiver.url, *ALLOWED)
    assert run.returncode == 0, run.stderr
    (listed,) = [json.loads(line) for line in trunk(daily, "list", "--json").stdout.splitlines()]
    trunk_id, hmac = listed["id"], secret_of(daily, listed["id"])
    address = "sip:example-support.siptrunk.sip-us.daily.co"
    assert run.stdout.startswith(f"{trunk_id} created. Let your carrier send calls to {address}\n")
    assert f"    TELSTATE_TRUNK_SECRET={hmac} telstate serve\n" in run.stdout
    for verb in (["list"], ["show", trunk_id], ["check"], ["check", trunk_id], ["update", trunk_id, "--enable"]):
        for arguments in (verb, [*verb, "--json"]):
            again = trunk(daily, *arguments)
            assert again.returncode == 0, again.stderr
            assert trunk_id in again.stdout
            assert hmac not in again.stdout + again.stderr


def secret_of(daily: FakeDaily, trunk_id: str) -> str:
    """The secret of a trunk."""
    secret: str = daily._server.trunk_calls._trunks.trunks[trunk_id]["hmac"]
    return secret


def test_create_sends_all_that_is_given(daily: FakeDaily, receiver: Receiver, tmp_path: Path) -> None:
    """Secrets come from files or the environment, the file first; they are not shown."""
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    (tmp_path / "room").write_text('{"enable_recording": "cloud"}')
    options = (*ALLOWED, "--allow", "2001:db8::/32", "--username", "carrier", "--password-file", tmp_path / "password")
    more = ("--description", "Our carrier", "--room-template", tmp_path / "room", "--exp-offset", "60")
    run = trunk(daily, "create", "a", receiver.url, *options, *more, "--secret-file", tmp_path / "secret")
    assert run.returncode == 0, run.stderr
    assert "Daily signs with the secret you gave" in run.stdout
    assert SECRET not in run.stdout
    assert body(daily) == {
        "trunk_name": "a",
        "notification": {"webhook_url": receiver.url, "hmac": SECRET},
        "trunk_config": {
            "allowed_ips": ["203.0.113.7", "2001:db8::/32"],
            "credential": {"username": "carrier", "password": PASSWORD},
            "exp_offset": 60,
            "is_open": False,
        },
        "room_template": {"enable_recording": "cloud"},
        "description": "Our carrier",
    }
    run = trunk(daily, "create", "b", receiver.url, "--username", "u", "--json", TELSTATE_TRUNK_PASSWORD=PASSWORD)
    created = json.loads(run.stdout)
    assert created["hmac"] == secret_of(daily, created["id"])
    assert (created["username"], "password" in created) == ("u", False)
    assert body(daily)["trunk_config"]["credential"] == {"username": "u", "password": PASSWORD}


def test_a_trunk_is_open_only_by_request(daily: FakeDaily, receiver: Receiver) -> None:
    """Nothing is sent otherwise."""
    assert "nothing limits who may call: give --allow ADDRESS" in error(trunk(daily, "create", "a", receiver.url))
    for everybody in ("0.0.0.0/0", "::/0"):
        assert "that is everybody" in error(trunk(daily, "create", "a", receiver.url, "--allow", everybody))
    both = trunk(daily, "create", "a", receiver.url, "--open", *ALLOWED)
    assert "is_open lets everybody in, whatever allowed_ips says" in error(both)
    assert daily.seen == []
    trunk_id = made(daily, receiver, "--open")
    found = trunk(daily, "check", trunk_id)
    assert (found.returncode, "warning: it is open: everybody" in found.stdout) == (0, True)


def test_list_and_show(daily: FakeDaily, receiver: Receiver) -> None:
    """A table, the fields of one, or JSON."""
    assert trunk(daily, "list").stdout.endswith("\n0 trunks\n")
    assert trunk(daily, "list", "--json").stdout == ""
    one = made(daily, receiver, *ALLOWED, "--description", "Our carrier", "--exp-offset", "60")
    two = made(daily, receiver, "--open", name="sales")
    lines = trunk(daily, "list").stdout.splitlines()
    assert lines[1].split() == [one, "support", "enabled", "203.0.113.7", receiver.url]
    assert lines[2].split() == [two, "sales", "enabled", "everybody", receiver.url]
    assert lines[-1] == "2 trunks"
    shown = trunk(daily, "show", one).stdout
    assert "address         sip:example-support.siptrunk.sip-us.daily.co\n" in shown
    assert "who may call    203.0.113.7\n" in shown
    assert "rooms expire    after 60 s\n" in shown
    daily.faults.append(instead(200, json.dumps({"id": one, "description": "Our\x1b[31m carrier"}).encode()))
    assert "description     Our\ufffd[31m carrier\n" in trunk(daily, "show", one).stdout
    as_json = json.loads(trunk(daily, "show", two, "--json").stdout)
    assert (as_json["id"], as_json["open"], as_json["webhook_url"]) == (two, True, receiver.url)
    assert not {"hmac", "password"} & set(as_json)


@pytest.mark.long
def test_update_changes_what_is_given(daily: FakeDaily, receiver: Receiver, tmp_path: Path) -> None:
    """And nothing else."""
    trunk_id = made(daily, receiver)
    (tmp_path / "room").write_text("{}")
    (tmp_path / "secret").write_text("bmV3IHNlY3JldA==")
    for arguments, sent in (
        (["--disable"], {"enabled": False}),
        (["--enable", "--description", "new"], {"enabled": True, "description": "new"}),
        (["--open"], {"trunk_config": {"is_open": True}}),
        (["--allow", "203.0.113.0/24"], {"trunk_config": {"allowed_ips": ["203.0.113.0/24"], "is_open": False}}),
        (["--room-template", tmp_path / "room"], {"room_template": {}}),
        (["--url", f"{receiver.url}/2"], {"notification": {"webhook_url": f"{receiver.url}/2"}}),
        (
            ["--secret-file", tmp_path / "secret"],
            {"notification": {"webhook_url": f"{receiver.url}/2", "hmac": "bmV3IHNlY3JldA=="}},
        ),
    ):
        run = trunk(daily, "update", trunk_id, *arguments)
        assert run.returncode == 0, run.stderr
        assert body(daily, "PUT") == sent
    assert secret_of(daily, trunk_id) == "bmV3IHNlY3JldA=="
    assert "nothing to change" in error(trunk(daily, "update", trunk_id))
    assert "together with who may call" in error(trunk(daily, "update", trunk_id, "--exp-offset", "60"))
    assert trunk(daily, "delete", trunk_id).stdout == f"{trunk_id} deleted\n"
    assert "404" in error(trunk(daily, "delete", trunk_id))


@pytest.mark.long
def test_check_finds_what_is_wrong(daily: FakeDaily, receiver: Receiver) -> None:
    """And says what to do, with exit code 1; one trunk can be checked alone."""
    good, bad = made(daily, receiver), made(daily, receiver, name="sales")
    assert trunk(daily, "update", bad, "--disable").returncode == 0
    run = trunk(daily, "check")
    assert run.returncode == 1
    first, second = run.stdout.splitlines()
    assert first == f"{good}: ok (sip:example-support.siptrunk.sip-us.daily.co)"
    assert f"{bad}: it is disabled and takes no calls: telstate trunk update {bad} --enable" in second
    assert trunk(daily, "check", good).returncode == 0
    receiver.answers = 401
    alone = trunk(daily, "check", good, "--json")
    found = json.loads(alone.stdout)
    assert (alone.returncode, found["id"], found["ok"], found["status"]) == (1, good, False, 401)
    assert "give it the trunk's secret" in found["problems"][0]


def test_check_fails_without_any_trunk(daily: FakeDaily) -> None:
    """No call could come."""
    run = trunk(daily, "check")
    assert (run.returncode, run.stdout) == (1, "")
    assert "telstate trunk create NAME URL --allow ADDRESS" in run.stderr


def test_check_takes_the_secret_from_the_environment(daily: FakeDaily, receiver: Receiver) -> None:
    """If Daily does not show it."""
    shown = {"id": "t", "enabled": True, "notification": {"webhook_url": receiver.url}}
    daily.faults.extend([instead(200, json.dumps(shown).encode())] * 2)
    assert "warning: its webhook_url was not tested" in trunk(daily, "check", "t").stdout
    assert trunk(daily, "check", "t", TELSTATE_WEBHOOK_SECRET=SECRET).stdout == "t: ok (None)\n"
    assert "x-siptrunk-signature" in receiver.headers[-1]


@pytest.mark.parametrize(
    "secrets",
    [
        {"TELSTATE_TRUNK_SECRET": SECRET},
        {"TELSTATE_TRUNK_SECRET": f"{SECRET}, b2xk", "TELSTATE_WEBHOOK_SECRET": "b3RoZXI="},
        {"TELSTATE_TRUNK_SECRET": "", "TELSTATE_WEBHOOK_SECRET": f" {SECRET},b2xk"},
    ],
)
def test_create_takes_the_secret_with_which_the_service_runs(
    daily: FakeDaily, receiver: Receiver, secrets: dict[str, str]
) -> None:
    """Its own before the common one, and of several that are valid the first."""
    assert trunk(daily, "create", "a", receiver.url, *ALLOWED, **secrets).returncode == 0
    assert body(daily)["notification"]["hmac"] == SECRET


def test_errors_are_one_line_that_says_what_to_do(daily: FakeDaily, receiver: Receiver, tmp_path: Path) -> None:
    """With exit code 2, and without secrets."""
    assert "DAILY_API_KEY is not set" in error(trunk(None, "list"))
    create = ("create", "a", receiver.url)
    receiver.answers = 401
    assert "must answer with 2xx: check that" in error(trunk(daily, *create, *ALLOWED))
    assert "--username needs a password: --password-file FILE" in error(trunk(daily, *create, "--username", "u"))
    assert "must be an IP address, or a range" in error(trunk(daily, *create, "--allow", "carrier.example"))
    assert "webhook_url must be a URL" in error(trunk(daily, "create", "a", "example.com", *ALLOWED))
    (tmp_path / "odd").write_bytes(b"[7]")
    assert "must be a JSON object" in error(trunk(daily, *create, *ALLOWED, "--room-template", tmp_path / "odd"))
    assert "must be base64" in error(trunk(daily, *create, *ALLOWED, "--secret-file", tmp_path / "odd"))
    assert "cannot read" in error(trunk(daily, *create, "--username", "u", "--password-file", tmp_path / "no"))
    assert "404" in error(trunk(daily, "show", "nope"))
    receiver.answers = 200
    daily.faults.append(lost)
    assert "check before you send it again" in error(trunk(daily, *create, *ALLOWED))
