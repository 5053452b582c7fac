"""A part of a log: the lines of the calls that the filters select, which `export` and `redact` write."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from telstate import Engine
from telstate.events._dialects.journal import base_line, wrap
from telstate.testing import Noise, simulate
from tests.calls import feed, js
from tests.cli.running import CALL, LOGS, STOP, telstate
from tests.corpus.test_logs import LOGS as CORPUS

FEW = LOGS / "few-calls.webhook.jsonl"
TRANSFERRED = "3c4b90d4-4bd2-4337-a6ea-81947b5d87f8"
READY = "3602-dial-in-ready-1790011981"
"""The webhook of the endpoint that it came by, which names no session."""


def records(log: Path) -> dict[str, list[dict[str, Any]]]:
    """What a replay says of each session and caller on hold, by its id."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in telstate("replay", "--json", "--numbers", log).stdout.splitlines():
        ((_, record),) = json.loads(line).items()
        if (name := record.get("session_id") or record.get("call_id")) is not None:
            found.setdefault(name, []).append(record)
    return found


def parts(log: Path, part: Path) -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """For each session and caller of a log: what a replay says of it, and what a replay says of the export of its call alone."""
    whole = records(log)
    for name, said in whole.items():
        assert telstate("export", log, part, "--call", name, "--force").returncode == 0
        yield said, records(part).get(name, [])


def without_patience(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Callers on hold as long as nothing says how long they waited: by other calls, the whole log lasts longer than a part of it."""
    given_up = ("gave-up", "unknown")
    return [
        {**one, "state": "waiting"} if one["state"] in given_up and one["held_s"] is None else one for one in records
    ]


@pytest.mark.parametrize("log", [*CORPUS, FEW], ids=lambda path: path.stem)
def test_the_export_of_a_call_says_all_of_it(log: Path, tmp_path: Path) -> None:
    """Word for word: with its other legs, its caller on hold, its room and the signs of its end, and without all other calls."""
    for said, said_of_part in parts(log, tmp_path / "part.jsonl"):
        assert without_patience(said_of_part) == without_patience(said)


@pytest.mark.long
@pytest.mark.parametrize("dialect", ["daily-js", "webhook", "daily-python", "journal"])
def test_the_export_of_a_call_of_a_bad_day_says_all_of_it(dialect: str, tmp_path: Path) -> None:
    """But by which endpoint of a room it came: other calls may have made that doubtful, and they are not there. And who of those on hold
    it was: a pinless request has no time of its own, and without the lines around it nothing says when it came."""
    doubtful = dict.fromkeys(("sip_endpoint", "caller", "called", "pinless_call_id", "held_s"))
    log = tmp_path / "log.jsonl"
    log.write_bytes(
        b"".join(one.line() for one in simulate(2, calls=40, dialects=[dialect], noise=Noise.of_a_bad_day()))
    )
    for said, said_of_part in parts(log, tmp_path / "part.jsonl"):
        assert [one | doubtful for one in without_patience(said_of_part)] == [
            one | doubtful for one in without_patience(said)
        ]


def test_only_the_lines_of_the_call_are_written_in_their_order(tmp_path: Path) -> None:
    """A form of input changes nothing: a file, gzip, a folder, standard input, a pipe with a name."""
    lines = [json.loads(line) for line in FEW.read_bytes().splitlines()]
    its_own = [one["id"] for one in lines if TRANSFERRED in json.dumps(one) or READY in json.dumps(one)]
    packed = tmp_path / "logs" / "log.jsonl.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(FEW.read_bytes()))
    outputs = [telstate("export", name, "--session", "3c4b").stdout for name in (FEW, packed, packed.parent)]
    outputs.append(telstate("export", "-", "--session", "3c4b", given=FEW.read_bytes()).stdout)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[FEW.read_bytes()])
    writer.start()
    outputs.append(telstate("export", pipe, "--session", "3c4b").stdout)
    writer.join()
    assert set(outputs) == {outputs[0]}
    written = [json.loads(line) for line in outputs[0].splitlines()]
    assert [one["payload"]["id"] for one in written] == its_own
    assert [one["seq"] for one in written] == list(range(1, len(its_own) + 1))


def test_every_filter_selects() -> None:
    """As it does for `calls`, which lists the same calls for the export as for the log."""
    for options in (
        ["--number", "+12025550122"],
        ["--room", "room-5"],
        ["--direction", "dialin"],
        ["--cause", "unanswered", "--cause", "failed"],
        ["--state", "error"],
        ["--since", "2026-09-21T17:00", "--until", "2026-09-21T18:10"],
        ["--where", "talk_s > 40"],
    ):
        part = telstate("export", FEW, *options).stdout
        *listed, _ = telstate("calls", "--json", FEW, *options).stdout.splitlines()
        assert telstate("calls", "--json", given=part).stdout.splitlines()[:-1] == listed
        assert 0 < len(listed) < 7, options


def test_nothing_is_written_where_nothing_matches(tmp_path: Path) -> None:
    """The exit code is 1, and what there is instead is named, masked."""
    for verb, file in (("export", [tmp_path / "out"]), ("redact", ["-o", tmp_path / "out"])):
        run = telstate(verb, FEW, *file, "--call", "nope")
        assert (run.returncode, run.stdout) == (1, b"")
        assert b"no call matches. The log has 7 call legs and callers; choose one with --call ID:" in run.stderr
        assert TRANSFERRED.encode() in run.stderr
        assert b"+1202555" not in run.stderr
        assert not (tmp_path / "out").exists()
        for given, why in ((b"", b"the log is empty"), (b"nope\n", b"no line could be read")):
            run = telstate(verb, "-", "--call", "nope", given=given)
            assert (run.returncode, run.stdout, why in run.stderr) == (1, b"", True)


def test_a_redacted_part_has_nothing_of_other_calls(tmp_path: Path) -> None:
    """The same lines as the export, in the form that they had, and the same pseudonyms as in the whole log."""
    out = tmp_path / "out.jsonl"
    run = telstate("redact", FEW, "-o", out, "--key", "k", "--session", TRANSFERRED)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")
    whole = telstate("redact", FEW, "--key", "k").stdout.splitlines()
    assert out.read_bytes().splitlines() == [
        line for line in whole if TRANSFERRED.encode() in line or READY.encode() in line
    ]


def test_bookkeeping_is_of_the_journal_or_of_the_calls() -> None:
    """The header stays, and of the marks and dead letters those of the written events; changed settings are every call's."""
    event = b'{"action":"%s","sessionId":"%s"}'
    lines = [
        b'{"v":1,"journal":"j","settings":{}}',
        wrap(1, 1.0, "daily-js", event % (b"dialout-connected", b"a")),
        wrap(2, 2.0, "daily-js", event % (b"dialout-connected", b"b")),
        wrap(3, 3.0, "daily-js", b'{"action":"settings-changed","settings":{"ring_deadline":9}}'),
        *(b'{"v":1,"done":%d}' % number for number in (1, 2, 3, -1, -2)),
        *(b'{"v":1,"dead":{"number":%d,"seq":%d}}' % (number, number) for number in (0, 1, 2)),
    ]
    run = telstate("export", "-", "--session", "b", given=b"\n".join(lines))
    assert run.stdout.splitlines() == [lines[0], *lines[2:4], lines[5], lines[6], lines[8], lines[11]]


@pytest.mark.parametrize(("session", "needs_it"), [("old", True), ("new", False)])
def test_what_a_prune_left_is_there_if_a_call_needs_it(session: str, needs_it: bool) -> None:
    """It has other calls too, which is said. A redacted log never has it."""
    engine = Engine()
    feed(engine, js("dialout-connected", "old", destination="+12025550100"), js("dialout-connected", "other"))
    end = b'{"action":"dialout-stopped","sessionId":"old"}'
    lines = [
        b'{"v":1,"journal":"j","settings":{}}',
        base_line(2, engine.snapshot()),
        wrap(3, 1.0, "daily-js", b'{"action":"dialout-connected","sessionId":"new"}'),
        wrap(4, 2.0, "daily-js", end),
    ]
    run = telstate("export", "-", "--session", session, given=b"\n".join(lines))
    written = run.stdout.splitlines()
    assert written == [lines[0], *([lines[1]] if needs_it else []), lines[3 if needs_it else 2]]
    assert (b"also of other calls" in run.stderr) is needs_it
    assert telstate("redact", "-", "--session", session, given=b"\n".join(lines)).stdout.count(b"\n") == 2


def test_an_id_that_is_used_again_is_two_calls() -> None:
    """Only the lines of the selected one are written."""
    later = b'{"v":1,"seq":%d,"at":%d,"dialect":"daily-js","event":null,"payload":%s}\n'
    log = b"".join(
        later % (seq, at, one.strip())
        for seq, (at, one) in enumerate([(1000, CALL), (1010, STOP), (90_000, CALL), (90_010, STOP)], 1)
    )
    run = telstate("export", "-", "--since", "1970-01-02", given=log)
    assert [json.loads(line)["seq"] for line in run.stdout.splitlines()] == [3, 4]
