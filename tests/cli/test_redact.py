"""`telstate redact`: nothing private is left of a log, and its replay says the same."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from random import Random
from typing import Any

import phonenumbers
import pytest
from phonenumbers import PhoneNumberFormat

from telstate.events import ActionAnswered, ActionRequested
from telstate.options import Dtmf, PhoneDialout, Refer, SipDialout, Transfer
from telstate.testing import Noise, simulate
from tests.cli.running import LOGS, telstate
from tests.cli.test_privacy import events as seeded_events
from tests.cli.test_privacy import leaks, numbers
from tests.corpus import HERE

NAME, USER = "Ada Lovelace", "augusta.byron"
PRIVATE = (
    *("destination", "origin", "caller_id", "sip_from", "sip_endpoint", "sip_headers", "caller", "called", "display_name"),
    *("user_id", "error", "warnings", "transferred_to", "anomalies", "notes", "transfers", "from", "to", "fields"),
)  # fmt: skip


def said(log: Path | bytes) -> list[dict[str, Any]]:
    """What a replay says, with only the shape of what is private: whether it is known, and how many there are."""
    run = telstate("replay", "--json", "--numbers", *([] if isinstance(log, bytes) else [log]), given=log if isinstance(log, bytes) else b"")  # fmt: skip
    found = []
    for line in run.stdout.splitlines():
        ((kind, record),) = json.loads(line).items()
        record.pop("file", None)
        shape = {key: shape_of(record.pop(key)) for key in PRIVATE if key in record}
        if kind == "invalid":
            record.pop("error", None)
            shape = {}
        found.append({"kind": kind, **record, "shape": shape})
    return found


def shape_of(value: Any) -> Any:
    """Outcomes of transfers stay; all else is counted."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        return [outcome for _, outcome in value]
    return len(value) if isinstance(value, (list, dict)) else value is not None


def redacted(log: Path | bytes, *options: object) -> bytes:
    """The redacted log."""
    given = log if isinstance(log, bytes) else b""
    run = telstate("redact", *options, "-" if isinstance(log, bytes) else log, given=given)
    replaced = any(line.startswith(b'{"redacted":') for line in run.stdout.splitlines())
    assert (run.returncode, len(run.stderr.splitlines())) == (0, int(replaced))
    return run.stdout


CORPUS = sorted((HERE / "logs").glob("*.jsonl"))


@pytest.mark.parametrize("log", CORPUS, ids=lambda path: path.stem)
def test_a_replay_says_the_same(log: Path) -> None:
    """States, causes, durations, links, counts: of every log of the corpus."""
    assert said(redacted(log)) == said(log)


@pytest.mark.parametrize("dialect", ["daily-js", "webhook", "daily-python", "journal"])
def test_a_replay_of_a_bad_day_says_the_same(dialect: str) -> None:
    """With everything that a network does."""
    sent = simulate(7, calls=60, dialects=[dialect], noise=Noise.of_a_bad_day())
    log = b"".join(one.line() for one in sent)
    assert said(redacted(log, "--key", "k")) == said(log)


def test_callers_are_found_by_the_ends_of_their_numbers() -> None:
    """A national spelling on hold, an international one when connected: one caller, before and after. Others stay others."""
    hold = {"To": "+4930901820", "From": "030 761 8637", "callId": "c", "callDomain": "d"}
    for number, caller in (("+49307618637", True), ("+49307618638", False), ("0049 (30) 7618637", True)):
        log = b"".join(
            json.dumps({"v": 1, "seq": at, "at": 1_790_000_000.0 + at, "dialect": dialect, "event": None, "payload": payload}).encode() + b"\n"
            for at, (dialect, payload) in enumerate(
                [("webhook", hold), ("daily-js", {"action": "dialin-connected", "sessionId": "s", "sipFrom": f"sip:{number}@x.example"})], 1
            )
        )  # fmt: skip
        for shown in (log, redacted(log)):
            (session, *_) = [json.loads(line)["session"] for line in telstate("replay", "--json", given=shown).stdout.splitlines() if b'"session"' in line[:12]]  # fmt: skip
            assert (session["caller"] is not None) is caller, number


def spelled(payload: dict[str, Any]) -> list[dict[str, Any]]:
    """A webhook in the other forms that a log may have."""
    forms: list[dict[str, Any]] = [
        payload,
        {"v": 1, "seq": 1, "at": 1_790_000_000.5, "dialect": "webhook", "event": None, "payload": payload},
    ]
    if "payload" in payload:
        inner = payload["payload"]
        camel = {re.sub(r"_(\w)", lambda found: found[1].upper(), key): value for key, value in inner.items()}
        action = payload["type"].replace(".", "-")
        forms += [{"action": action, **camel}, {"handler": f"on_{action.replace('-', '_')}", "data": camel}]
    return forms


def test_nothing_seeded_is_left() -> None:
    """No number of eight countries in any spelling, no user, no name: in every dialect and place, also where nobody expects them."""
    lines = []
    for at, number in enumerate(numbers()):
        for payload in seeded_events(number, at):
            lines += spelled(payload)
        deep = {
            "profile": {
                "full_name": NAME,
                "reach": [number, {"mail": f"{USER}@x.example"}],
                "said": f"{NAME} at {number}",
            }
        }
        lines += spelled(
            {"type": "dialout.connected", "id": "1", "payload": {"session_id": f"deep-{at}", "custom": deep}}
        )
        lines += spelled({"type": "dialin.connected", "id": "2", "payload": {"session_id": f"h-{at}", "sip_headers": {"X-From": f"{NAME} <tel:{number}>", "P-Asserted-Identity": f"<sip:{number}@x>", "X-Odd": f"{USER}"}}})  # fmt: skip
    log = "".join(json.dumps(line) + "\n" for line in lines)
    raw = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    bad = f'{{"to": "{numbers()[0]}", "displayName": "{NAME}"\n{NAME} {numbers()[1]}\n["{numbers()[2]}"]\n'
    for text in (log + bad, raw + bad):
        assert leaks(text)
        shown = redacted(text.encode()).decode()
        assert leaks(shown) == []
        assert shown.count("\n") == text.count("\n")


@pytest.mark.long
def test_every_country() -> None:
    """A number of every country and kind, in four formats, as a destination and in a text, is gone; as JSON's number too."""
    formats = (PhoneNumberFormat.E164, PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.NATIONAL, PhoneNumberFormat.RFC3966)  # fmt: skip
    lines: list[dict[str, Any]] = []
    seeded = []
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        example = phonenumbers.example_number(region)
        assert example is not None
        for form in formats:
            number = phonenumbers.format_number(example, form)
            seeded.append(number)
            lines.append({"action": "dialout-connected", "sessionId": f"{region}-{form}", "destination": number})
            if len(re.sub(r"\D", "", number)) >= 7:
                lines.append(
                    {"action": "dialout-error", "sessionId": f"{region}-{form}", "errorMsg": f"no route to {number}."}
                )
        lines.append({"action": "dialout-sang", "who": int(f"{example.country_code}{example.national_number}")})
    shown = redacted("".join(json.dumps(line) + "\n" for line in lines).encode()).decode()
    assert [number for number in seeded if f'"{number}"' in shown or f" {number}." in shown] == []
    whole = {f"{one.country_code}{one.national_number}" for one in map(phonenumbers.example_number, phonenumbers.SUPPORTED_REGIONS) if one}  # fmt: skip
    found = set(re.findall(r"\d+", re.sub(r"[ \-().+]", "", shown)))
    assert whole & found == set()


def test_pseudonyms_are_numbers_that_are_nobodys() -> None:
    """With the country code 999, so masks take them for numbers; users and names have forms of their own."""
    log = json.dumps({"action": "dialin-connected", "sessionId": "s", "sipFrom": '"Ada Lovelace" <sip:+1 (202) 555-0142@carrier.example;user=phone>', "displayName": "Ada Lovelace"}).encode()  # fmt: skip
    shown = json.loads(redacted(log))
    assert re.fullmatch(r'"Name-\w+" <sip:\+999\d \(\d{3}\) \d{3}-\d{4}@carrier\.example;user=phone>', shown["sipFrom"])
    assert re.fullmatch(r"Name-\w+", shown["displayName"])
    assert shown["displayName"] in shown["sipFrom"]
    masked = telstate("replay", given=json.dumps(shown).encode()).stdout.decode()
    assert "•" in masked
    assert shown["sipFrom"] not in masked


def test_a_key_gives_the_same_pseudonyms() -> None:
    """In another log too; a random key does not."""
    log = LOGS / "few-calls.webhook.jsonl"
    assert redacted(log, "--key", "one") == redacted(log, "--key", "one")
    assert redacted(log, "--key", "one") != redacted(log, "--key", "two")
    assert redacted(log) != redacted(log)
    run = telstate("redact", log, env={"TELSTATE_REDACT_KEY": "one"})
    assert run.stdout == redacted(log, "--key", "one")


def test_secrets_and_keys_pressed_are_gone() -> None:
    """People type PINs; pipecat's runner sends the key of Daily's API."""
    log = "\n".join(
        json.dumps(one)
        for one in (
            {"dialin_settings": {"call_id": "c", "call_domain": "d", "From": "+12025550142"}, "daily_api_key": "k3y", "daily_api_url": "https://x"},
            {"action": "dtmf-event", "sessionId": "s", "tone": "7"},
            {"action": "dialin-connected", "sessionId": "s", "meetingToken": "eyJ", "nested": {"Authorization": "Bearer eyJ", "apiKey": "k3y"}},
        )
    )  # fmt: skip
    shown = redacted(log.encode()).decode()
    assert "k3y" not in shown
    assert "eyJ" not in shown
    assert "https://x" not in shown
    assert '"tone": "*"' in shown


@pytest.mark.parametrize(
    ("verb", "options", "private"),
    [
        ("send_dtmf", Dtmf(tones="4711#"), ["4711"]),
        ("transfer", Transfer(to_end_point="+12025550190"), ["12025550190"]),
        ("refer", Refer(to_end_point="sip:ada.l@example.com"), ["ada.l"]),
        (
            "start",
            PhoneDialout(
                phone_number="+12025550142", caller_id="+12025550100", display_name=NAME, user_id="ada.l", extension="4711#"
            ),
            ["12025550142", "12025550100", "Ada", "Lovelace", "ada.l", "4711"],
        ),
        ("start", SipDialout(sip_uri="sip:ada.l@example.com?X-Caller=%2B12025550142&X-Name=Ada%20Lovelace"), ["ada.l", "12025550142", "Lovelace"]),
    ],
)  # fmt: skip
def test_what_is_asked_of_another_partition_is_redacted(verb: str, options: Any, private: list[str]) -> None:
    """As where a program does it in its own: keys, targets, numbers, names and headers."""
    asked = ActionRequested(request_id="r", verb=verb, target_id="room", argument=options.body(), expires_at=1e9)
    answered = ActionAnswered(request_id="r", started_id="s", failure={"type": "E", "text": f"no {private[0]}!"})
    shown = redacted(asked.to_json() + b"\n" + (answered.to_json() if verb == "start" else b"")).decode()
    assert [word for word in private if word in shown] == []
    assert '"targetId":"room"' in shown
    assert verb != "start" or '"startedId":"s"' in shown


def test_ids_rooms_and_times_stay() -> None:
    """Line by line, in the form that it had."""
    before = (LOGS / "few-calls.webhook.jsonl").read_bytes().splitlines()
    after = redacted(LOGS / "few-calls.webhook.jsonl").splitlines()
    for one, other in zip(map(json.loads, before), map(json.loads, after), strict=True):
        assert list(one) == list(other)
        assert [one["id"], one["type"], one["event_ts"]] == [other["id"], other["type"], other["event_ts"]]
        for key in ("session_id", "room", "domain_id", "timestamp", "joined_at"):
            assert one["payload"].get(key) == other["payload"].get(key)
    assert b'":' in after[0]
    assert b'": ' not in after[0]
    hidden = {"action": "dialin-connected", "sessionId": "s", "sipFrom": "sip:anonymous@anonymous.invalid"}
    assert json.loads(redacted(json.dumps(hidden).encode())) == hidden


def test_files_compressed_and_plain(tmp_path: Path) -> None:
    """gzip in and out; a file that exists is kept unless --force."""
    packed = tmp_path / "log.jsonl.gz"
    packed.write_bytes(gzip.compress((LOGS / "few-calls.webhook.jsonl").read_bytes()))
    target = tmp_path / "out.jsonl.gz"
    run = telstate("redact", packed, "-o", target, "--key", "k")
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")
    assert gzip.decompress(target.read_bytes()) == redacted(LOGS / "few-calls.webhook.jsonl", "--key", "k")
    assert telstate("replay", target).returncode == 0
    again = telstate("redact", packed, "-o", target)
    assert (again.returncode, b"--force" in again.stderr) == (2, True)
    assert telstate("redact", packed, "-o", target, "--force").returncode == 0


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: data[:40] + b"xx" + data[42:]])
def test_a_damaged_gzip_file_says_so(damage: Any, tmp_path: Path) -> None:
    """Of every command."""
    packed = tmp_path / "log.jsonl.gz"
    packed.write_bytes(damage(gzip.compress((LOGS / "few-calls.webhook.jsonl").read_bytes())))
    run = telstate("redact", packed, "-o", tmp_path / "out.jsonl")
    assert run.returncode == 2
    assert b"is damaged or cut off" in run.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_a_log_that_is_none(tmp_path: Path) -> None:
    """A missing file is misuse, an empty one stays empty."""
    missing = telstate("redact", tmp_path / "nothing.jsonl")
    assert (missing.returncode, missing.stdout) == (2, b"")
    (tmp_path / "empty").touch()
    assert redacted(tmp_path / "empty") == b""


def test_a_torn_record_is_left_out() -> None:
    """It was copied while it was written; a replay leaves it out as well."""
    whole = b'{"v":1,"seq":1,"at":1.0,"dialect":"daily-js","event":null,"payload":{"action":"dialout-connected","sessionId":"s"}}\n'
    assert redacted(whole + whole[:60]) == whole


@pytest.mark.parametrize("engine", ["eJyrrgUAAXUA+Q==", "KzQ5MzA3NjE4NjM=", "damaged"])
def test_what_a_prune_left_is_left_out(engine: str) -> None:
    """It is packed, so it cannot be redacted; a line on standard error says so."""
    base = f'{{"v":1,"base":3,"engine":"{engine}"}}\n'.encode()
    call = b'{"v":1,"seq":4,"at":1.0,"dialect":"daily-js","event":null,"payload":{"action":"dialout-connected","sessionId":"s"}}\n'
    run = telstate("redact", given=base + call)
    assert run.returncode == 0
    assert run.stdout == call
    assert b"what a prune left of earlier calls is left out" in run.stderr


def test_a_journal_can_be_redacted(tmp_path: Path) -> None:
    """SQLite in, JSON Lines out."""
    journal = Path(__file__).parents[1] / "journals" / "data" / "before-signs.db"
    copy = tmp_path / "calls.db"
    copy.write_bytes(journal.read_bytes())
    assert said(redacted(copy)) == said(copy)


SPELLINGS = ("+49301234567", "0049301234567", "030 1234567", "030/1234567", "tel:+49-30-1234567", "sip:+49301234567@c.example", '"Bo" <sip:+49301234567@c.example>', "anonymous", "+4930123456", "sip:bob@c.example", "sip:Bob@c.example", "bob", "1001")  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_callers_endpoints_and_transfers_correlate_as_before(seed: int) -> None:
    """Whatever spellings of few addresses meet, in whatever order."""
    rng = Random(seed)
    lines = []
    for at in range(1, 25):
        number, other, room = rng.choice(SPELLINGS), rng.choice(SPELLINGS), rng.choice(("sip:r.0@x.sip.daily.co", SPELLINGS[0]))  # fmt: skip
        caller, dialin, dialout = (f"{kind}{rng.randrange(4)}" for kind in "cio")
        dialect, payload = rng.choice(
            [
                ("webhook", {"To": other, "From": number, "callId": caller, "callDomain": "d"}),
                ("daily-js", {"action": "dialin-connected", "sessionId": dialin, "sipFrom": number, "sipEndpoint": room}),
                ("daily-js", {"action": "pinless-forwarded", "callId": caller, "sipEndpoint": room}),
                ("daily-js", {"action": rng.choice(("dialout-requested", "dialout-connected", "dialout-answered")), "sessionId": dialout, "destination": number, "room": "r", "callClientId": "k"}),
                ("webhook", {"type": rng.choice(("calltransfer.initiated", "calltransfer.answered")), "id": str(at), "payload": {"session_id": dialin, "room": "r", "to_endpoint": number}}),
                ("daily-js", {"action": rng.choice(("dialin-stopped", "dialout-stopped")), "sessionId": rng.choice((dialin, dialout))}),
            ]
        )  # fmt: skip
        lines.append({"v": 1, "seq": at, "at": 1_790_000_000.0 + 9 * at, "dialect": dialect, "event": None, "payload": payload})  # fmt: skip
    log = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    assert said(redacted(log)) == said(log)


def test_the_copy_of_an_application_log_says_how_to_keep_its_events() -> None:
    """Its lines are replaced as a whole, and a pipe keeps what they had."""
    log = HERE / "logs" / "logs-loguru-plain.log"
    run = telstate("redact", log)
    lines = log.read_bytes().count(b"\n")
    assert f"telstate: {lines} lines that were no JSON object are replaced as a whole".encode() in run.stderr
    assert b"telstate export LOG | telstate redact" in run.stderr
    events = telstate("redact", given=telstate("export", log).stdout)
    assert events.stderr == b""
    assert telstate("diff", log, "-", given=events.stdout).returncode == 0
