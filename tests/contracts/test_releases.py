"""What Daily's packages have, release by release, against what telstate reads and calls.

Every name that a release has is heard, or is in `unheard.py` with a reason; every request has the arguments with which it is sent. When
Daily adds an event, one of these tests fails and names it. They use the released packages themselves: daily-python runs, pipecat's source
is read, as is daily-js's type definition, and baresip-python makes real calls on this machine.
"""

from __future__ import annotations

import ast
import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from telstate import DialoutError, parse
from telstate.events import event_types
from telstate.sources._callbacks import EVENTS, LEFT, STATE
from telstate.sources._pipecat import _HEARD
from tests.contracts import releases
from tests.contracts.type_definitions import Definition, definitions, event_names, payloads_of
from tests.contracts.unheard import DAILY_JS, DAILY_PYTHON, PIPECAT
from tests.documents import ROOT
from tests.sources.sip_transport import HANDLERS, SIPTransport, new_process

pytestmark = pytest.mark.long

SINCE_0_36 = {"on_network_connection_status_updated"}
"""What older releases of daily-python do not have."""
ARGUMENTS = {
    "start_dialout": "settings",
    "stop_dialout": "participant_id",
    "send_dtmf": "settings",
    "sip_call_transfer": "settings",
    "sip_refer": "settings",
}
"""The requests and their argument; daily-python's also take a completion."""
TELEPHONY = ("dialin-", "dialout-", "dtmf-")


def run(module: str, package: Path, *arguments: str) -> Any:
    """Run a module of these tests with a package on its path, and return what it prints."""
    path = os.pathsep.join([str(package), str(ROOT)])
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(
        command, capture_output=True, check=False, timeout=120, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return json.loads(done.stdout)


def test_each_released_line_of_daily_python(tmp_path: Path) -> None:
    """Its callbacks, and what their arguments are called; its requests, sent for real, without a room; and a start that it refuses."""
    lines = releases.lines_since("daily-python", releases.lower_bound("daily-python"))
    assert len(lines) >= 12
    problems = dict[str, list[str]]()
    for version in lines:
        folder = tmp_path / version
        folder.mkdir()
        found = run("tests.contracts.daily_python_check", releases.unpack("daily-python", version, folder))
        assert found["file"].startswith(str(folder))
        names, wrong = set(found["handlers"]), list[str]()
        wrong += [f"{name} is neither heard nor in unheard.py" for name in names - {*EVENTS, STATE, *DAILY_PYTHON}]
        older = SINCE_0_36 if tuple(map(int, version.split(".")[:2])) < (0, 36) else set()
        wrong += [f"{name} is gone" for name in {*EVENTS, STATE, *DAILY_PYTHON} - names - older]
        wrong += [f"{name} is not overridden" for name in {*EVENTS, STATE} - set(found["own"])]
        for name, argument in ARGUMENTS.items():
            if found["arguments"][name] != ["self", argument, "completion"]:
                wrong.append(f"{name} takes {found['arguments'][name]}")
        for name, arguments in found["handler_arguments"].items():
            if len(arguments) != (3 if name == "on_participant_left" else 2):
                wrong.append(f"{name} gets {arguments}")
        if found["cause"] != "refused":
            wrong.append(f"a refused start came as {found['cause']}")
        wrong += [f"{name} without a room: {kind}" for name, kind in found["answers"].items() if kind != "NotHosting"]
        if wrong:
            problems[version] = sorted(wrong)
    assert problems == {}


def registered(module: ast.Module) -> set[str]:
    """Return the events that the transports of a module register."""
    calls = (node for node in ast.walk(module) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    named = (call.args[0] for call in calls if call.func.attr == "_register_event_handler" and call.args)  # type: ignore[attr-defined]
    return {one.value for one in named if isinstance(one, ast.Constant) and isinstance(one.value, str)}


def requests(module: ast.Module, transport: str) -> dict[str, list[str]]:
    """Return the arguments of the public coroutines of a transport."""
    (kind,) = (node for node in module.body if isinstance(node, ast.ClassDef) and node.name == transport)
    methods = (node for node in kind.body if isinstance(node, ast.AsyncFunctionDef))
    return {method.name: [argument.arg for argument in method.args.args[1:]] for method in methods}


def test_each_released_line_of_pipecat(tmp_path: Path) -> None:
    """All its transports that have phone calls: today one, and its SIPTransport once it is released."""
    lines = releases.lines_since("pipecat-ai", releases.lower_bound("pipecat-ai"))
    assert lines
    problems = dict[str, list[str]]()
    for version in lines:
        folder = tmp_path / version
        folder.mkdir()
        transports = releases.unpack("pipecat-ai", version, folder) / "pipecat" / "transports"
        modules = {path: ast.parse(path.read_bytes()) for path in transports.rglob("*.py")}
        names_by_path = {path: registered(module) for path, module in modules.items()}
        with_calls = {path: names for path, names in names_by_path.items() if any("_dial" in name for name in names)}
        wrong = [
            f"{path.relative_to(folder)}: {name} is neither heard nor in unheard.py"
            for path, names in with_calls.items()
            for name in sorted(names - {*_HEARD, *PIPECAT})
        ]
        daily = transports / "daily" / "transport.py"
        wrong += [f"{name} is gone" for name in _HEARD if name not in with_calls.get(daily, set())]
        methods = requests(modules[daily], "DailyTransport")
        wrong += [f"{name} takes {methods.get(name)}" for name in ARGUMENTS if len(methods.get(name) or ()) != 1]
        texts = daily.read_text(encoding="utf-8")
        wrong += [
            f"{text!r} is gone"
            for text in ("handle dialin-ready event (status: {", '"signalling"')
            if text not in texts
        ]
        if wrong:
            problems[version] = wrong
    assert problems == {}


def test_the_lists_have_only_what_there_is() -> None:
    """Nothing is both heard and unheard, and the fake of SIPTransport has no name that is on no list."""
    assert not {*EVENTS, STATE} & set(DAILY_PYTHON)
    assert not set(_HEARD) & set(PIPECAT)
    assert LEFT in _HEARD
    assert set(HANDLERS) <= {*_HEARD, *PIPECAT}
    assert not set(event_types()) & set(DAILY_JS)


def read_type_definitions(tmp_path: Path) -> str:
    """Return the newest `index.d.ts`."""
    version = releases.newest_npm("@daily-co/daily-js")
    package = releases.unpack_npm("@daily-co/daily-js", version, tmp_path)
    return (package / "index.d.ts").read_text(encoding="utf-8")


def problems_of(definition: Definition) -> list[str]:
    """Return what is wrong with what telstate reads from the payloads of an event."""
    wrong = list[str]()
    for payload in payloads_of(definition):
        event = parse(payload)
        without_null = {key: value for key, value in payload.items() if value is not None}
        if event.name != definition.name:
            wrong.append(f"{definition.name} is read as {event.name or event.action}")
        wrong += [f"{definition.name}: {text}" for text in event.anomalies]
        wrong += [f"{definition.name}: {key} is not a field" for key in event.model_extra or ()]
        written = {key: value for key, value in json.loads(event.to_json()).items() if value is not None}
        if written != without_null:
            wrong.append(f"{definition.name}: {without_null} is written as {written}")
        if parse(event.to_json()) != event:
            wrong.append(f"{definition.name}: {payload} is not read back")
    return wrong


def test_the_newest_daily_js(tmp_path: Path) -> None:
    """Every event is read or on the list, and every field of a telephony event, whether it is there, absent, or null."""
    source = read_type_definitions(tmp_path)
    known = {name for name, kind in event_types().items() if not kind.local}
    names = event_names(source)
    assert sorted(names - known - set(DAILY_JS)) == [], "neither read nor in unheard.py"
    assert sorted(set(DAILY_JS) - names) == [], "gone"
    found = {one.name: one for one in definitions(source, TELEPHONY)}
    assert {name for name in names if name.startswith(TELEPHONY)} == set(found)
    assert len(found) >= 11
    assert {"sipHeaders", "sipFrom"} <= set(found["dialin-connected"].optional)
    assert found["dialin-error"].nullable == {"type"}
    assert [text for one in found.values() for text in problems_of(one)] == []
    (connection,) = definitions(source.replace("type: NetworkConnectionType", "type: string"), ("network-connection",))
    assert [text for text in problems_of(connection) if "is not a field" not in text] == []
    assert "'signaling' | 'peer-to-peer' | 'sfu'" in source


def test_the_newest_baresip_python_and_the_fake_of_its_transport(tmp_path: Path) -> None:
    """Real calls on this machine: the numbers start anew in each process, and the kinds and texts of errors are those that mean unanswered."""
    kinds = ("CallBusy", "CallDeclined", "CallTimeout")
    package = releases.install("baresip-python", tmp_path)
    first, second = (run("tests.contracts.sip_check", package, *kinds) for _ in range(2))
    assert first["calls"] == second["calls"]
    assert not set(first["sip_call_ids"]) & set(second["sip_call_ids"])
    assert all("CallFailed" in bases for bases in first["errors"].values())
    handles = [call["handle"] for call in first["calls"].values()]
    assert handles[0] < 10
    assert [(one - handles[0]) % (1 << 24) for one in handles] == [0, 0, 0]
    new_process()
    assert asyncio.run(SIPTransport().start_dialout({"sipUri": "sip:b@127.0.0.1"})) == ("2", None)
    calls = first["calls"]
    assert calls["answered"]["error"] is None
    for how, kind in (("busy", "CallBusy"), ("abandoned", "CallFailed")):
        assert calls[how]["error"] == kind
        error = DialoutError(session_id="2", error=kind, error_msg=calls[how]["message"])
        assert error.is_unanswered, calls[how]
