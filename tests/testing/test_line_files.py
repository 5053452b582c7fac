"""Lines in files and options: every kind is what the same line is in Python, and what is wrong is said with its place."""

from __future__ import annotations

import json
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import pytest

from telstate.testing import LinePlan, PhoneLine, lines, refusals
from telstate.testing._line_files import lines_of_file, lines_of_options
from telstate.testing._phone_lines import Dial, line_at
from tests.documents import blocks

ANN, BOB = "+12025550101", "+12025550102"
BUSY, ANSWERED = PhoneLine(busy=True), PhoneLine(answers=4.0)


def read(folder: Path, name: str, text: str, seed: int = 0) -> dict[str, LinePlan]:
    """Read a file with this text."""
    (folder / name).write_text(text)
    return lines_of_file(folder / name, seed)


def dials(plan: LinePlan, number: str = ANN) -> list[PhoneLine]:
    """What twenty dials meet."""
    return [line_at(plan, Dial(number, at)) for at in range(20)]


def test_json_has_every_kind(tmp_path: Path) -> None:
    """With the names and the arguments of Python."""
    night = {"voicemail": {"rings": 2, "ring": 0.5}}
    given: dict[str, Any] = {
        ANN: {"busy": True},
        BOB: [{"busy": True}, {"answers": 4}],
        "+12025550103": {"voicemail": {"rings": 3}},
        "+12025550104": {"trunk": {"person": 5, "talks": 9}},
        "+12025550105": {"flaky": [[0.3, {"busy": True}], [0.7, {"answers": 4}]]},
        "+12025550106": {"flaky": [[1, {"busy": True}], [1, {"answers": 4}]], "seed": 9},
        "+12025550107": {"loses": ["dialout.stopped"], "delays": {"dialout.answered": 2}, "refuses": "NOT_ALLOWED"},
        "sip:bob@pbx.example": {"gives_up": 2.5, "rings": None},
        "*": {"local_hours": {"zone": "UTC", "opens": "00:00", "closes": "00:00", "night": night}},
    }
    plans = read(tmp_path, "lines.json", json.dumps(given), seed=7)
    assert list(plans) == list(given)
    assert plans[ANN] == BUSY
    assert plans[BOB] == [BUSY, ANSWERED]
    assert plans["+12025550103"] == lines.voicemail(rings=3)
    assert plans["+12025550104"] == lines.trunk(person=5, talks=9)
    chance = lines.flaky([(0.3, BUSY), (0.7, ANSWERED)], seed=7)
    assert dials(plans["+12025550105"]) == dials(chance)
    assert dials(plans["+12025550106"]) == dials(lines.flaky([(1, BUSY), (1, ANSWERED)], seed=9))
    lost = {"loses": frozenset({"dialout.stopped"}), "delays": {"dialout.answered": 2.0}}
    assert plans["+12025550107"] == PhoneLine(**lost, refuses=refusals.NOT_ALLOWED)  # type: ignore[arg-type]
    assert plans["sip:bob@pbx.example"] == PhoneLine(gives_up=2.5, rings=None)
    assert set(map(repr, dials(plans["*"]))) == {repr(lines.voicemail(rings=2, ring=0.5))}


def test_the_file_in_the_readme(tmp_path: Path) -> None:
    """Is one."""
    (shown,) = [block for block in blocks("json") if block.readme.parent.name == "testing"]
    plans = read(tmp_path, "lines.json", shown.text)
    assert plans["+12025550101"] == [BUSY, PhoneLine(answers=4.0, talks=60.0)]
    assert len(plans) == 4


def test_csv_and_options_are_rows(tmp_path: Path) -> None:
    """Several rows of a number are one for each dial; an empty cell is the default."""
    text = f"\ufeffnumber,answers,busy,answered_by,twice\n{ANN},,yes,,\n{BOB},2,,voicemail,dialout.stopped dialout.answered\n{ANN},4,,,\n"
    plans = read(tmp_path, "lines.CSV", text)
    twice = frozenset({"dialout.stopped", "dialout.answered"})
    assert plans == {ANN: [BUSY, ANSWERED], BOB: [PhoneLine(answers=2.0, answered_by="voicemail", twice=twice)]}
    assert lines_of_options([f"{ANN} voicemail", f"{BOB} trunk=true"]) == {
        ANN: [lines.voicemail()],
        BOB: [lines.trunk()],
    }
    options = [f"{ANN} busy", f"{BOB} answers=2, answered_by=voicemail,twice=dialout.stopped dialout.answered"]
    assert lines_of_options([*options, f" {ANN} answers=4 ", "* answers=never"]) == {
        **plans,
        "*": [PhoneLine(answers=None)],
    }


def test_a_zone_in_a_row_lets_a_number_answer_by_day() -> None:
    """Each row is one dial of the day."""
    (plan,) = lines_of_options([f"{ANN} zone=UTC,busy", f"{ANN} answers=4"]).values()
    before = datetime.now(UTC).time()
    found = line_at(plan, Dial(ANN, 1))
    assert found in [
        ANSWERED if time(9) <= at < time(21) else PhoneLine(answers=None) for at in (before, datetime.now(UTC).time())
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({ANN: {"bussy": True}}, "+12025550101: a line has no 'bussy', but 'busy'"),
        ({ANN: {"answers": "soon"}}, "answers: .*valid number"),
        ({ANN: {"answers": -1}}, "seconds from 0 on"),
        ({ANN: {"loses": ["dialout-stopped"]}}, "'dialout.stopped'"),
        ({ANN: {"refuses": "NEVER"}}, "none of NOT_HOSTING"),
        ({ANN: {"voicemail": {"ring": 1}, "busy": True}}, "beside 'voicemail'"),
        ({ANN: {"voicemail": {"pings": 1}}}, "+12025550101: voicemail has no 'pings'; it has rings, ring, records"),
        ({ANN: {"voicemail": 4}}, "+12025550101: voicemail takes an object with rings, ring, records, not 4"),
        ({ANN: {"flaky": [{"busy": True}]}}, "+12025550101: flaky takes pairs such as"),
        ({ANN: {"local_hours": {"opens": "09:00"}}}, "+12025550101: local_hours needs a zone"),
        ({ANN: {"local_hours": {"zones": "UTC"}}}, "+12025550101: local_hours has no 'zones'; it has zone, opens"),
        ({ANN: {"local_hours": {"zone": "Mars"}}}, "America/New_York"),
        ({ANN: {"local_hours": {"zone": "UTC", "opens": "dawn"}}}, "+12025550101: .*time"),
        ({ANN: "busy"}, 'such as {"busy": true}'),
        ([], "must be a JSON object"),
    ],
    ids=[
        "field",
        "number",
        "negative",
        "webhook",
        "refusal",
        "beside",
        "argument",
        "no object",
        "share",
        "no zone",
        "zones",
        "zone",
        "hour",
        "text",
        "list",
    ],
)
def test_what_is_wrong_is_said_with_its_place(given: Any, said: str, tmp_path: Path) -> None:
    """In JSON."""
    with pytest.raises((TypeError, ValueError), match=said.replace("+", r"\+").replace("{", r"\{")) as raised:
        read(tmp_path, "lines.json", json.dumps(given))
    assert "lines.json" in str(raised.value)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    """JSON that is none, and tables without numbers."""
    for name, text, said in (
        ("a.json", "{", "is not JSON"),
        ("b.csv", "answers\n2\n", "no column `number`"),
        ("c.csv", f"number,answers\n{ANN},soon\n", r"c.csv, line 2: answers"),
        ("d.csv", f"number,answers\n{ANN},1,2\n", "line 2: expected a number"),
        ("e.csv", "number,answers\n,1\n", "line 2: expected a number"),
    ):
        with pytest.raises(ValueError, match=said):
            read(tmp_path, name, text)
    with pytest.raises(ValueError, match=r"--line \+12025550101: a line has no 'answer'"):
        lines_of_options([f"{ANN} answer=2"])
