"""`telstate doctor`: an installation that is right, and what it finds at a service. A real service, and one that says what a test wants."""

from __future__ import annotations

import getpass
import hashlib
import re
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from telstate.testing import FakeDaily
from telstate.testing._faults import hang
from tests.cli.doctor_setup import OTHER, SECRET, Served, StandIn, doctor, hook, listed
from tests.cli.running import command, environment, telstate
from tests.cli.test_serve import serving
from tests.documents import blocks

NUMBER = "+12025550143"


def test_an_installation_that_is_right(daily: FakeDaily, service: Served) -> None:
    """Everything that is looked at is ok; what is not is named, with what is missing. Nothing is changed."""
    daily.host("support")
    hook(daily, f"{service.url}/webhooks")
    listed(daily, {"phone_number": NUMBER, "room_creation_api": f"{service.url}/pinless", "hmac": SECRET})
    trunk = ("trunk", "create", "a", f"{service.url}/sip-trunk", "--allow", "203.0.113.7")
    env = {"DAILY_API_KEY": daily.key, "TELSTATE_DAILY_API_URL": daily.url, "TELSTATE_WEBHOOK_SECRET": SECRET}
    assert telstate(*trunk, env=env).returncode == 0
    before, seen = digest(service.journal), len(daily.seen)
    run = doctor(
        f"{service.url}/webhooks",
        "--journal",
        service.journal,
        "--room",
        "support",
        "--strict",
        daily=daily,
        env={"TELSTATE_WEBHOOK_SECRET": SECRET},
    )
    assert run.returncode == 0, run.found
    assert [(one["check"], one["found"]) for one in run.found if one["health"] == "not checked"] == [
        ("nats", "no streams were given (--nats)"),
        ("records", "no database for records was given (--records)"),
        ("notify", "no receiver of notifications was given (--notify)"),
    ]
    assert run.summary == {"ok": 17, "warning": 0, "fault": 0, "not_checked": 3}
    assert run.of("service") == [("ok", f"{service.url} answers, and takes calls")]
    refuses, accepts = (text for _, text in run.of("secrets"))
    assert (refuses, accepts) == (
        f"{service.url} refuses a test with a wrong signature",
        f"{service.url} accepts a test that is signed with TELSTATE_WEBHOOK_SECRET",
    )
    assert run.of("daily") == [("ok", "the API key is that of the domain example")]
    assert run.of("rooms")[0] == ("ok", "the room support may dial out")
    assert run.of("rooms")[1] == ("ok", "callers reach the room support by 1 SIP endpoint")
    assert "+12•••••••43 accepts a test that is signed with the secret that Daily has" in run.of("pinless")[0][1]
    address = "sip:example-a.siptrunk.sip-us.daily.co"
    assert run.of("trunks")[0][1].endswith(f" is enabled at {address}, and its URL accepts a signed test")
    assert "this machine's clock agrees with Daily's to within" in run.one("clocks", "ok")
    texts = [text for _, text in run.of("journal")]
    assert texts[0].endswith("its disk takes what is written")
    assert "are free on the disk" in texts[1]
    assert texts[2] == f"a process has {service.journal} open for writing, as a running service does"
    assert texts[3].startswith(f"{service.journal} can be read: 0 events")
    assert {one.method for one in daily.seen[seen:]} == {"GET"}
    assert digest(service.journal) == before
    assert sorted(path.name for path in service.folder.iterdir()) == ["calls.db", "calls.db-shm", "calls.db-wal"]


def digest(journal: Path) -> str:
    """What the journal's files have."""
    return hashlib.sha256(b"".join(Path(f"{journal}{end}").read_bytes() for end in ("", "-wal"))).hexdigest()


def test_without_anything_it_says_what_it_needs() -> None:
    """That is no fault."""
    run = doctor("--journal", "")
    assert (run.returncode, run.summary["not_checked"]) == (0, 12)
    assert {one["found"] for one in run.found if one["health"] == "not checked"} == {
        "no URL of a running service was given",
        "there is no API key in DAILY_API_KEY",
        "no other clock is known: Daily was not asked, and no service on another machine",
        "no journal was given (--journal)",
        "no streams were given (--nats)",
        "no database for records was given (--records)",
        "no receiver of notifications was given (--notify)",
    }


def test_for_people_and_for_scripts(service: Served) -> None:
    """A line for each finding, then why and what to do. A warning is an exit code with --strict only."""
    journal = ("--journal", service.journal)
    unset = {"DAILY_API_KEY": None, "TELSTATE_WEBHOOK_SECRET": OTHER, "TELSTATE_NATS": None}
    run = telstate("doctor", service.url, *journal, env=unset)
    text = run.stdout.decode()
    assert run.returncode == 1
    assert f"ok           service: {service.url} answers, and takes calls\n" in text
    assert (
        f"fault        secrets: {service.url} refuses a test that is signed with TELSTATE_WEBHOOK_SECRET\n"
        "             why it refuses what Daily signs with this secret, and Daily gives these events up\n"
        "             do  start the service with this TELSTATE_WEBHOOK_SECRET, or look in its log: which secret it misses, or whether its clock is wrong\n"
    ) in text
    assert text.endswith("\n\n8 ok, 1 fault, 9 not checked\n")
    assert doctor(service.url, *journal, "--strict", env={"TELSTATE_WEBHOOK_SECRET": SECRET}).returncode == 0


def test_it_prints_what_the_readme_shows(daily: FakeDaily, service: Served) -> None:
    """Line by line, but for versions, sizes and times."""
    daily.host("support")
    hook(daily, f"{service.url}/webhooks", uuid="0cb313e1", state="FAILED")
    variables = {"DAILY_API_KEY": daily.key, "TELSTATE_DAILY_API_URL": daily.url, "TELSTATE_WEBHOOK_SECRET": SECRET}
    options = ("--room", "support", "--journal", str(service.journal))
    run = telstate("doctor", service.url, *options, env={**variables, "TELSTATE_NATS": None, "TELSTATE_RECORDS": None})
    (block,) = [one for one in blocks("text") if one.text.startswith("$ telstate doctor https://")]
    shown = run.stdout.decode().replace(service.url, "https://calls.example.com")
    shown = shown.replace(str(service.journal), "calls.db").replace(f" {getpass.getuser()} may", " telstate may")
    shown = shown.replace("the command line (1), ", "")  # of the journal, which is in another folder here

    def plain(text: str) -> list[str]:
        return [re.sub(r"[\d.]+ (s|kB|MB|GB)\b", "N", line) for line in text.splitlines() if " versions: " not in line]

    assert plain(shown) == plain(block.text)[1:]
    assert run.returncode == 1


def test_it_has_the_settings_of_the_service(service: Served, tmp_path: Path) -> None:
    """From a file, and from the directory of secrets, as the service reads them. What cannot be right ends both."""
    (tmp_path / "telstate.toml").write_text(f'journal = "{service.journal}"\npinless_secret = ["{OTHER}"]\n')
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "telstate_webhook_secret").write_text(f"{SECRET}\n")
    options = ("--config", tmp_path / "telstate.toml", "--secrets-dir", tmp_path / "secrets")
    run = doctor(service.url, *options)
    place = f"{tmp_path / 'secrets'} (1), {tmp_path / 'telstate.toml'} (2)"
    assert run.of("settings") == [("ok", f"they come from {place}")]
    secret = tmp_path / "secrets" / "telstate_webhook_secret"
    assert ("ok", f"{service.url} accepts a test that is signed with {secret}") in run.of("secrets")
    refused = f"{service.url} refuses a test that is signed with pinless_secret in {tmp_path / 'telstate.toml'}"
    assert ("fault", refused) in run.of("secrets")
    assert ("ok", f"a process has {service.journal} open for writing, as a running service does") in run.of("journal")
    (tmp_path / "telstate.toml").write_text("journl = 1\n")
    assert telstate("doctor", *options).returncode == 2


def test_secrets_that_everybody_can_read() -> None:
    """In files of their own, and in the file of settings; but not where a folder keeps others out."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # pytest's own folder is its owner's
        folder = Path(name)
        secret, config, ours = (folder / name for name in ("telstate_webhook_secret", "telstate.toml", "crm"))
        secret.write_text(SECRET)
        receiver = f'[[notify]]\nurl = "https://127.0.0.1:9"\nsecret_file = "{ours}"\n'
        config.write_text(f'pinless_secret = ["{OTHER}"]\n{receiver}')
        ours.write_text("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
        for path in (secret, config, ours):
            path.chmod(0o644)
        options = ("--config", config, "--secrets-dir", folder, "--journal", "")
        assert [health for health, _ in doctor(*options).of("settings")] == ["ok"]
        folder.chmod(0o755)
        _, *found = doctor(*options).of("settings")
        said = [("warning", f"every user of this machine can read {path}") for path in (secret, config, ours)]
        assert sorted(found) == sorted(said)
        secret.chmod(0o640)
        assert len(doctor(*options).of("settings")) == 3


def test_a_token_with_which_no_service_starts() -> None:
    """It is too short; it is not shown."""
    run = doctor("--journal", "", env={"TELSTATE_VIEW_TOKEN": "short-secret"})
    assert "a view token has at least 16 printable ASCII characters" in run.one("settings", "fault")
    assert "short-secret" not in str(run)


def test_a_reader_that_stops_reading_is_no_error() -> None:
    """As `telstate doctor | head` does."""
    with subprocess.Popen(
        command("doctor", "--journal", ""), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.parametrize(
    "arguments",
    [["ftp://host"], ["https://user:word@host"], ["https://host:x"], ["https://host?a"], ["--app", "a"]],
    ids=lambda arguments: arguments[-1],
)
def test_misuse(arguments: list[str]) -> None:
    """Is said in a line, with exit code 2."""
    run = telstate("doctor", *arguments, env={"TELSTATE_NATS": None})
    assert (run.returncode, run.stdout) == (2, b"")
    assert run.stderr.startswith(b"telstate: ")
    assert b"word" not in run.stderr


@pytest.mark.long
def test_a_service_that_takes_no_calls(stand_in: StandIn) -> None:
    """Nothing there, not ready, something else, a redirect."""
    nobody = doctor("http://127.0.0.1:9", env={"TELSTATE_WEBHOOK_SECRET": SECRET})
    assert "http://127.0.0.1:9 does not answer: " in nobody.one("service", "fault")
    assert nobody.one("secrets", "not checked") == "http://127.0.0.1:9 does not answer"
    assert "no address of telstate.invalid is known" in doctor("https://telstate.invalid").one("service", "fault")
    for ready, said in (
        ((503, b'{"ok": false, "error": "the disk is full"}'), "takes no calls now: the disk is full"),
        ((503, b"<html>"), "takes no calls now: it does not say why"),
        ((404, b""), "/ready answers 404, so this is no service of telstate's, or not its URL"),
        ((301, b""), "answers 301, a redirect, which Daily counts as a failure"),
        ((200, b"<html>"), "/ready answers 200, and not what telstate says there"),
        ((200, b"[" * 50_000_000), "/ready answers 200, and not what telstate says there"),
    ):
        stand_in.ready = ready
        assert said in doctor(stand_in.url).one("service", "fault")


@pytest.mark.long
def test_secrets_that_are_not_right(service: Served, stand_in: StandIn, tmp_path: Path) -> None:
    """Of the environment, of the service, and of something that is no service."""
    secret = doctor(
        service.url, env={"TELSTATE_WEBHOOK_SECRET": f"{SECRET},{OTHER}", "TELSTATE_PINLESS_SECRET": "no base64"}
    )
    refused = f"{service.url} refuses a test that is signed with TELSTATE_WEBHOOK_SECRET (2 of 2)"
    assert ("fault", refused) in secret.of("secrets")
    assert ("fault", "TELSTATE_PINLESS_SECRET (1 of 2) is not base64") in secret.of("secrets")
    assert "so no test was signed with the right one" in doctor(service.url).one("secrets", "not checked")
    url = stand_in.url
    stand_in.answer = (200, b'{"ok": true, "verified": true}')
    takes = f"{url} accepts a test with a wrong signature: the service has no secret"
    assert doctor(url, env={"TELSTATE_TRUNK_SECRET": SECRET}).of("secrets") == [("fault", takes)]
    stand_in.answer = (200, b"hello")
    unsure = doctor(url, env={"TELSTATE_TRUNK_SECRET": SECRET}).of("secrets")
    assert [health for health, _ in unsure] == ["warning", "warning"]
    assert f"{url} answers 200 to a test with a wrong signature, and does not say whether it accepts it" in unsure[0][1]
    with serving(tmp_path) as (_, without):
        assert doctor(without).of("secrets") == [("warning", takes.replace(url, without))]


@pytest.mark.long
@pytest.mark.parametrize("ahead", [-400.0, 7200.0, -60.0, 60.0, 2.0], ids=str)
def test_clocks(stand_in: StandIn, ahead: float) -> None:
    """A service whose clock is wrong refuses what Daily signs, by how long a signature is accepted; a small difference is a warning."""
    stand_in.ahead = ahead
    ((health, text),) = doctor(stand_in.url).of("clocks")
    assert health == {-400.0: "fault", 7200.0: "fault", 2.0: "ok"}.get(ahead, "warning")
    if health != "ok":
        assert f"the clock of {stand_in.url} is " in text
        assert f" {'ahead of' if ahead > 0 else 'behind'} this machine's" in text


def test_the_clocks_of_this_machine_and_of_daily(stand_in: StandIn, daily: FakeDaily) -> None:
    """Daily signs, so its clock is the one to compare with: that of a stand-in for Daily, which is 400 seconds ahead."""
    stand_in.ready = (200, b'{"domain_name": "example"}')
    stand_in.ahead = 400.0
    url = stand_in.url.replace("0.0.0.0", "127.0.0.1")
    run = doctor(env={"DAILY_API_KEY": "key-of-a-domain", "TELSTATE_DAILY_API_URL": url})
    assert re.fullmatch(r"this machine's clock is 6 min \d\d s behind Daily's", run.one("clocks", "fault"))
    stand_in.ahead = 20.0  # a service that accepts signatures for a minute only
    strict = doctor(stand_in.url, daily=daily, env={"TELSTATE_SIGNATURE_TOLERANCE": "60"})
    text = strict.one("clocks", "fault")
    assert text.startswith(f"the clock of {stand_in.url} is ")
    assert text.endswith(" s ahead of Daily's")
    stand_in.ahead = 0.0
    assert "agrees with Daily's to within" in doctor(stand_in.url, daily=daily).of("clocks")[1][1]


@pytest.mark.long
def test_nobody_who_is_silent_holds_it_up(daily: FakeDaily, stand_in: StandIn) -> None:
    """A Daily that hangs and a service that is asked in vain cost some seconds, and all of them at the same time."""
    daily.rules["*"] = hang
    stand_in.delay = 60.0
    began = time.monotonic()
    run = doctor(stand_in.url, "--room", "a", daily=daily)
    assert time.monotonic() - began < 15
    assert "no answer within 5 seconds" in run.one("daily", "fault")
    assert "no complete answer came within 5 seconds" in run.one("service", "fault")
