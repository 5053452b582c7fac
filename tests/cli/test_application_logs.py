"""The logs that people have: of an application, compressed, rotated, in a folder. Each command that reads logs reads them."""

from __future__ import annotations

import gzip
import json
import signal
from pathlib import Path

import pytest

from tests.cli.running import CALL, LOGS, STOP, json_lines, telstate
from tests.cli.test_tail import tail, write
from tests.corpus import HERE

BOT = HERE / "logs" / "logs-loguru-plain.log"
ANSWERED = b"2026-01-01 12:00:00.250 | INFO     | bot:on_dialout_answered:7 - {'sessionId': 's'}\n"
STOPPED = b"2026-01-01 12:00:09.250 | INFO     | bot:on_dialout_stopped:9 - {'sessionId': 's'}\n"
NOISE = b"2026-01-01 12:00:01.000 | DEBUG    | bot:run:1 - nothing\nTraceback (most recent call last):\n  x = {\n{}\n"
READERS = [("replay",), ("replay", "--json"), ("tail",), ("export",)]


def summary(out: bytes) -> dict[str, int]:
    """The totals of a replay."""
    counts: dict[str, int] = json.loads(out.splitlines()[-1])["summary"]
    return counts


def test_ordinary_lines_are_counted_in_one_line() -> None:
    """However many there are. They are invalid, so --strict fails."""
    given = NOISE * 100 + ANSWERED + NOISE * 400 + STOPPED
    run = telstate("replay", "--json", given=given)
    assert run.returncode == 0
    found = {kind: value for line in run.stdout.splitlines() for kind, value in json.loads(line).items()}
    assert len(run.stdout.splitlines()) == len(found) == 3
    assert found["invalid"] == {"file": "-", "line": 1, "error": "2000 lines of this application log hold no event"}
    assert found["session"]["talk_s"] == 9.0
    assert (found["summary"]["received"], found["summary"]["invalid"]) == (2, 2000)
    assert telstate("replay", "--json", "--strict", given=given).returncode == 1
    assert telstate("replay", "--json", "--strict", given=ANSWERED + STOPPED).returncode == 0
    text = telstate("replay", given=given).stdout.decode()
    assert "-: 2000 lines of this application log hold no event, the first is line 1\n" in text
    assert text.endswith("2 events: 2 moved\n2000 lines could not be read\n")
    shown = telstate("tail", given=given)
    assert shown.stderr.decode() == "-: 2000 lines of this application log hold no event, the first is line 1\n"
    assert [line.split()[:3] for line in shown.stdout.decode().splitlines()] == [
        ["2026-01-01", "12:00:00", "moved"],
        ["2026-01-01", "12:00:09", "moved"],
    ]


def test_lines_of_an_event_log_are_still_reported_one_by_one() -> None:
    """Each may be an event that was lost; so is one in an application's log that names a field."""
    run = telstate("replay", "--json", given=CALL + b"nope\n" + STOP[:20] + b"\n{}\n")
    assert [json.loads(line)["invalid"]["line"] for line in run.stdout.splitlines() if b"invalid" in line[:12]] == [
        2,
        3,
        4,
    ]
    stamped = b'{"ts": 1767268800.5, "handler": "on_dialout_answered", "data": {"sessionId": "s"}}\n'
    run = telstate("replay", "--json", given=b"no\n" + stamped + b"nope\n{}\n")
    assert [json.loads(line)["invalid"]["line"] for line in run.stdout.splitlines() if b"invalid" in line[:12]] == [
        1,
        3,
        4,
    ]
    broken = b'{"action":"dialout-answered","sessionId":5}\n'
    run = telstate("replay", "--json", given=ANSWERED + NOISE + broken)
    reported = [json.loads(line)["invalid"] for line in run.stdout.splitlines() if b"invalid" in line[:12]]
    assert [(one["line"], one["error"][:20]) for one in reported] == [
        (6, "sessionId: expected "),
        (2, "4 lines of this appl"),
    ]


@pytest.mark.parametrize("verb", ["replay", "calls", "ladder", "lint", "tail", "export"])
def test_an_array_of_events_is_not_read_as_its_first_one(verb: str) -> None:
    """`jq -s` makes one of a log: nobody may take the first call for all."""
    array = b"[" + CALL.strip() + b"," + STOP.strip() + b"]\n"
    run = telstate(verb, *(("-",) if verb == "export" else ()), given=array)
    if verb in ("replay", "tail", "export"):
        assert b"a JSON array of 2: put each on a line of its own" in run.stdout + run.stderr
    assert b"dialout-connected" not in run.stdout
    assert b" connected" not in run.stdout


@pytest.mark.parametrize("reader", READERS, ids=" ".join)
@pytest.mark.parametrize("given", [b"nope\n{}\n", NOISE], ids=["nothing", "noise"])
def test_where_nothing_can_be_read_it_says_how_to_record(reader: tuple[str, ...], given: bytes, tmp_path: Path) -> None:
    """And fails; an export writes no file."""
    target = [tmp_path / "out.jsonl"] if reader == ("export",) else []
    run = telstate(*reader, "-", *target, given=given)
    assert run.returncode == 1
    said = run.stdout if reader == ("replay",) else run.stderr
    assert b"SqliteJournal('calls.db')" in said
    assert b"`telstate export calls.db`" in said
    assert not list(tmp_path.iterdir())
    assert telstate(*reader, "-", given=b"").returncode == 0


@pytest.mark.parametrize("reader", READERS, ids=" ".join)
@pytest.mark.parametrize("log", [BOT, LOGS / "few-calls.webhook.jsonl"], ids=["bot", "webhooks"])
def test_compressed_and_rotated_logs_give_the_same(reader: tuple[str, ...], log: Path, tmp_path: Path) -> None:
    """A call may begin in one file and end in the next."""
    wanted = telstate(*reader, log)
    lines = log.read_bytes().splitlines(keepends=True)
    (tmp_path / "odd").write_bytes(gzip.compress(b"".join(lines)))
    packed = telstate(*reader, tmp_path / "odd")
    assert (packed.returncode, packed.stdout.replace(str(tmp_path / "odd").encode(), b"")) == (
        0,
        wanted.stdout.replace(str(log).encode(), b""),
    )
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "bot.log").write_bytes(b"".join(lines[8:]))
    (folder / "bot.log.1").write_bytes(b"".join(lines[4:8]))
    (folder / "bot.log.2.gz").write_bytes(gzip.compress(b"".join(lines[:4])))
    rotated = telstate(*reader, folder)
    assert rotated.returncode == 0
    without_noise = [
        b"\n".join(line for line in out.splitlines() if b"application log" not in line)
        for out in (rotated.stdout, wanted.stdout)
    ]
    assert without_noise[0] == without_noise[1]


def test_the_export_of_an_application_log_has_its_events_and_their_times(tmp_path: Path) -> None:
    """Numbered, in telstate's own form."""
    run = telstate("export", BOT)
    records = [json.loads(line) for line in run.stdout.splitlines()]
    assert [record["seq"] for record in records] == [*range(1, 9)]
    assert {record["dialect"] for record in records} == {"daily-python"}
    assert records[0]["at"] == 1789984802.0
    assert run.stderr.decode() == f"{BOT}: 9 lines of this application log hold no event, the first is line 1\n"
    mixed = telstate(
        "export",
        "-",
        given=CALL + ANSWERED + b'{"v":1,"seq":7,"at":5.0,"dialect":"daily-js","payload":' + STOP.rstrip() + b"}\n",
    )
    assert [json.loads(line)["seq"] for line in mixed.stdout.splitlines()] == [1, 2, 7]


def test_a_folder_without_logs_is_misuse(tmp_path: Path) -> None:
    """It says which names count."""
    for reader in READERS:
        run = telstate(*reader, tmp_path)
        assert (run.returncode, run.stdout) == (2, b"")
        assert b"no logs in it: their names end in .log, .jsonl" in run.stderr


def test_a_damaged_archive_is_reported_and_what_it_has_is_read(tmp_path: Path) -> None:
    """In its place among the lines; --strict fails."""
    path = tmp_path / "calls.gz"
    path.write_bytes(gzip.compress(CALL + STOP)[:-4])
    run = telstate("replay", "--json", path)
    assert run.returncode == 0
    assert json.loads(run.stdout.splitlines()[0])["invalid"]["error"].startswith("the gzip file is cut short")
    assert summary(run.stdout)["received"] == 2
    assert telstate("replay", "--strict", path).returncode == 1


@pytest.mark.parametrize(
    "line",
    [
        '{"ts": 1767268800.5, "handler": "on_dialout_answered", "data": {"sessionId": "s"}}',
        '{"handler": "on_dialout_answered", "data": {"sessionId": "s"}, "time": "2026-01-01T12:00:00.500Z"}',
        '{"action": "dialout-answered", "sessionId": "s", "timestamp": "2026-01-01T12:00:00.500+00:00"}',
        '{"action": "dialout-answered", "sessionId": "s", "level": "info", "@timestamp": 1767268800500}',
        "{'action': 'dialout-answered', 'sessionId': 's', 'ts': '2026-01-01 12:00:00.500'}",
    ],
)
def test_a_time_that_a_recorder_added_counts(line: str) -> None:
    """Of all dialects only webhooks have one."""
    session, _ = json_lines(telstate("replay", "--json", "--strict", given=line.encode() + b"\n"))
    assert session["session"]["answered_at"] == 1767268800.5


def test_numbers_in_an_application_log_are_masked() -> None:
    """As everywhere."""
    given = (
        ANSWERED + b"12:00:00 on_dialin_connected {'sessionId': 't', 'sipFrom': '+12025550199', 'displayName': 'Ada'}\n"
    )
    for command in (("replay",), ("replay", "--json"), ("tail", "--json")):
        out = telstate(*command, given=given).stdout
        assert b"+12025550199" not in out
        assert b"Ada" not in out
    assert (
        json_lines(telstate("replay", "--json", "--numbers", given=given))[1]["session"]["sip_from"] == "+12025550199"
    )


def test_what_cannot_be_followed_is_misuse(tmp_path: Path) -> None:
    """Nothing is added to an archive, and a folder is no file."""
    (tmp_path / "a.gz").write_bytes(gzip.compress(CALL))
    for name, text in (("a.gz", b"is compressed"), ("", b"is a folder")):
        run = telstate("tail", "--follow", tmp_path / name)
        assert (run.returncode, text in run.stderr) == (2, True)


@pytest.mark.long
def test_an_application_log_can_be_followed(tmp_path: Path) -> None:
    """Its other lines are mentioned once."""
    log = tmp_path / "bot.log"
    write(log, ANSWERED)
    with tail("-f", log) as running:
        assert "moved" in running.line()
        write(log, NOISE)
        assert "only lines with an event are shown" in running.error()
        write(log, NOISE + STOPPED)
        assert "answered > stopped" in running.line()
        assert running.end(signal.SIGINT) == 0
        assert running.rest() == []
