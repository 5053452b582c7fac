"""Settings of `serve` and `work`: which source decides, what is refused, and what `telstate config show` says and hides."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from telstate.cli import _nats
from telstate.cli._commands import _make
from telstate.cli._config import (
    CAMPAIGN,
    SERVE,
    WORK,
    Receiver,
    ServiceConfig,
    all_uses,
    is_secret,
    use_of,
    variable_of,
)
from telstate.cli._config_sources import _OF_OTHERS, ConfigError, _variables, load
from telstate.cli._variables import text_of_file
from telstate.testing import FakeDaily
from telstate.testing._daily import KEY
from tests.cli.config_tables import README, with_tables
from tests.cli.running import ROOT, command, environment, json_lines, telstate
from tests.cli.test_serve import PROGRAM, SECRET, event, sent
from tests.cli.test_start import SLOW, imported_by

SECRETS = {
    "TELSTATE_WEBHOOK_SECRET": "c2VjcmV0LW9uZQ==,c2VjcmV0LXR3bw==",
    "TELSTATE_VIEW_TOKEN": "a-token-of-length",
    "DAILY_API_KEY": "the-key-of-the-domain",
    "TELSTATE_NATS_PASSWORD": "the-password",
    "TELSTATE_NATS": "nats://user:in-the-address@host:4222",
    "TELSTATE_NOTIFY": "https://crm.example/a-path-that-is-secret",
    "TELSTATE_NOTIFY_SECRET": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, without settings in the environment."""
    for name in [variable_of(one) for one in ServiceConfig.model_fields]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(*arguments: object, env: dict[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """What `config show` says of each setting."""
    lines = json_lines(telstate("config", "show", "--json", *arguments, env=env))
    return {line["setting"]: line for line in lines if "setting" in line}


def refused(*arguments: object, env: dict[str, str] | None = None) -> str:
    """What it says of settings that cannot be right."""
    run = telstate("config", "show", *arguments, env=env)
    assert (run.returncode, run.stdout) == (2, b"")
    return run.stderr.decode()


# --- which source decides ---------------------------------------------------------------------------------------------


def test_the_first_source_that_has_a_setting_decides(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flags, then the environment and its files, then secrets, then the file. Where each value came from is known."""
    (folder / "run").mkdir()
    (folder / "value").write_text("5\n")
    for place, keys in (("run", "slow_after drain lane_limit"), ("file", "slow_after drain lane_limit max_body")):
        for key in keys.split():
            if place == "run":
                (folder / "run" / variable_of(key).lower()).write_text("3")
            else:
                with (folder / "telstate.toml").open("a") as file:
                    file.write(f"{key} = 2048\n")
    monkeypatch.setenv("TELSTATE_SLOW_AFTER", "7")
    monkeypatch.setenv("TELSTATE_DRAIN_FILE", str(folder / "value"))
    given: list[tuple[dict[str, Any], float, str]] = [({"slow_after": 9}, 9, "--slow"), ({}, 7, "TELSTATE_SLOW_AFTER")]
    for command_line, value, origin in given:
        loaded = load(command_line, flags={"slow_after": "--slow"}, directory=str(folder / "run"))
        assert (loaded.config.slow_after, str(loaded.origin("slow_after"))) == (value, origin)
    config = loaded.config
    assert (config.drain, config.lane_limit, config.max_body, config.max_deliveries) == (5, 3, 2048, 5)
    origins = [str(loaded.origin(name)) for name in ("drain", "lane_limit", "max_body", "max_deliveries")]
    secret = folder / "run" / "telstate_lane_limit"
    assert origins == ["TELSTATE_DRAIN_FILE", str(secret), "telstate.toml", "default"]


def test_each_of_the_engines_settings_has_a_source_of_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable for one of them leaves those of the file."""
    (folder / "telstate.toml").write_text("[settings]\nring_deadline = 30\nhold_limit = 60\n")
    monkeypatch.setenv("TELSTATE_SETTINGS_HOLD_LIMIT", "90")
    loaded = load()
    settings = loaded.config.settings
    assert (settings.ring_deadline, settings.hold_limit, settings.end_grace) == (30, 90, 60)
    names = ("settings.ring_deadline", "settings.hold_limit", "settings.end_grace")
    assert [loaded.origin(name).kind for name in names] == ["file", "environment", "default"]


def test_a_list_is_written_with_commas_and_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As compose files make them; an empty secret file is none either, and TELSTATE_NOTIFY_SECRET is no part of TELSTATE_NOTIFY."""
    monkeypatch.setenv("TELSTATE_WEBHOOK_SECRET", "new, old")
    monkeypatch.setenv("TELSTATE_NOTIFY_SECRET", "one")
    monkeypatch.setenv("DAILY_API_KEY", "")
    monkeypatch.setenv("TELSTATE_VIEW_TOKEN_FILE", "/dev/null")
    config = load().config
    assert [one.get_secret_value() for one in config.webhook_secret] == ["new", "old"]
    assert (config.daily_api_key, config.view_token, config.notify) == (None, None, ())


def test_a_secret_that_is_a_file_is_named_and_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A .creds file of the secrets directory, or in …_FILE: NATS reads it itself, again at each reconnect."""
    for name in ("telstate_nats_credentials", "nkey"):
        (folder / name).write_text("its content")
    monkeypatch.setenv("TELSTATE_NATS_NKEY_FILE", "nkey")
    monkeypatch.setenv("TELSTATE_SECRETS_DIR", str(folder))
    config = load().config
    assert (config.nats_credentials, config.nats_nkey) == (str(folder / "telstate_nats_credentials"), "nkey")
    assert _nats._from_environment("nats_credentials") == config.nats_credentials
    assert {name for name, _, use in all_uses() if use.is_path} == _nats._PATHS


def test_files_that_an_editor_on_windows_wrote_are_read(folder: Path) -> None:
    """They begin with a mark of their encoding, and lines end with CR LF."""
    (folder / "token").write_bytes(b"\xef\xbb\xbf0123456789abcdef\r\n")
    (folder / "telstate.toml").write_bytes(
        b"\xef\xbb\xbflisten_port = 1234\r\n[[notify]]\r\nurl = 'https://a.example'\r\n"
    )
    assert text_of_file(folder / "token", "TELSTATE_VIEW_TOKEN") == "0123456789abcdef"
    loaded = load()
    assert (loaded.config.listen_port, len(loaded.config.notify)) == (1234, 1)


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        (("webhook", "list"), b"0 webhooks"),
        (("trunk", "list"), b"0 trunks"),
        (("pinless", "show"), b"0 numbers"),
    ],
    ids=["webhook", "trunk", "pinless"],
)
def test_commands_that_ask_daily_have_the_settings_of_the_service(
    arguments: tuple[str, ...], made: bytes, folder: Path
) -> None:
    """The address of its API and the key: those of the file, of the environment before it, and the flag before that."""
    with FakeDaily() as daily, FakeDaily() as other:
        (folder / "telstate.toml").write_text(f"daily_api_url = '{daily.url}'\ndaily_api_key = '{KEY}'\n")
        run = telstate(*arguments)
        assert (run.returncode, run.stderr) == (0, b"telstate: settings from telstate.toml\n")
        assert made in run.stdout
        assert not other.seen
        telstate(*arguments, env={"TELSTATE_DAILY_API_URL": other.url})
        asked = len(daily.seen), len(other.seen)
        assert asked[0] == asked[1] > 0
        telstate(*arguments, "--api-url", daily.url, env={"TELSTATE_DAILY_API_URL": other.url})
        assert (len(daily.seen), len(other.seen)) == (2 * asked[0], asked[1])
        moved = (folder / "telstate.toml").rename(folder / "other.toml")
        assert b"DAILY_API_KEY is not set" in telstate(*arguments).stderr
        assert made in telstate(*arguments, "--config", moved).stdout
        moved.write_text("daily_api_uri = 'http://127.0.0.1'\n")
        assert (
            b"there is no daily_api_uri: did you mean daily_api_url" in telstate(*arguments, "--config", moved).stderr
        )


def test_other_commands_read_secrets_from_files_too(folder: Path) -> None:
    """The API key: what is reported is what comes after it."""
    (folder / "key").write_text("a key\n")
    reached = {"DAILY_API_KEY_FILE": str(folder / "key"), "DAILY_API_KEY": None}
    nobody = ("webhook", "list", "--api-url", "http://127.0.0.1:1/v1")
    assert b"DAILY_API_KEY is not set" not in telstate(*nobody, env=reached).stderr
    assert b"DAILY_API_KEY is not set" in telstate(*nobody, env={"DAILY_API_KEY": None}).stderr
    (folder / "telstate_records").write_text("of.nothing")
    into = {"TELSTATE_SECRETS_DIR": str(folder)}
    assert b"not of.nothing" in telstate("records", "calls.db", env=into).stderr
    assert b"set TELSTATE_RECORDS" in telstate("records", "calls.db").stderr
    both = telstate(*nobody, env={"DAILY_API_KEY_FILE": "key", "DAILY_API_KEY": "x"})
    assert b"DAILY_API_KEY and DAILY_API_KEY_FILE are both set" in both.stderr


@pytest.mark.long
def test_a_service_runs_from_a_file_and_secrets_alone(folder: Path) -> None:
    """Without a flag: `telstate serve`, as a container starts it."""
    (folder / "app.py").write_text(PROGRAM)
    (folder / "secrets").mkdir()
    (folder / "secrets" / "telstate_webhook_secret").write_text(f"{SECRET}\n")
    (folder / "telstate.toml").write_text("program = 'app:router'\njournal = 'kept.db'\nlisten_port = 0\n")
    env = environment({"TELSTATE_SECRETS_DIR": str(folder / "secrets")})
    process = subprocess.Popen(command("serve"), cwd=folder, env=env, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == "telstate: settings from telstate.toml\n"
        line = next(line for line in process.stderr if "listening on" in line)
        url = line.split("listening on ")[1].split(",")[0]
        assert "journal kept.db" in line
        assert asyncio.run(sent(url, SECRET, event(1))) == [200]
        assert asyncio.run(sent(url, "c29tZWJvZHk=", event(2))) == [401]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()
    assert (folder / "handled").read_text() == "1-answered\n"
    assert (folder / "kept.db").exists()


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("jornal = 'x'", "telstate.toml: there is no jornal: did you mean journal? `telstate config show`"),
        ("port = 80", "did you mean listen_port or health_port?"),
        ("listen_port = 'a'", "telstate.toml: listen_port: input should be a valid integer"),
        ("keep = 'a week'", "telstate.toml: keep takes a number of days, or `all`, not 'a week'"),
        ("max_deliveries = 1", "greater than or equal to 2, not 1"),
        ("view_token = 5", "telstate.toml: view_token: input should be a valid string"),
        ("[settings]\nretenton = 5", "there is no retenton in settings: did you mean retention?"),
        ("[settings]\ncolour = 5", "there is no colour in settings; there are key_ttl, retention"),
        ("[settings]\nretention = 5", "retention must not be less than key_ttl"),
        (
            "[[notify]]\nurl = 'https://a.example'\nsecret = 'x'",
            "there is no secret in notify 1: did you mean secrets?",
        ),
        ("[[notify]]\nurl = 5", "telstate.toml: notify 1 url: input should be a valid string"),
        ("[settings\n", "telstate.toml is no TOML: "),
    ],
)
def test_what_cannot_be_right_in_the_file_is_named(folder: Path, text: str, said: str) -> None:
    """With its place, what came, and what there is."""
    (folder / "telstate.toml").write_text(text)
    assert said in refused()


def test_a_file_of_a_thousand_brackets_is_no_toml(folder: Path) -> None:
    """It is refused in a line."""
    (folder / "telstate.toml").write_text("a = " + "[" * 100_000)
    assert "telstate.toml is no TOML: " in refused()


def test_all_that_is_wrong_is_named_at_once(folder: Path) -> None:
    """Each on a line, with the source that has it; a command says the same, and does not start."""
    (folder / "telstate.toml").write_text("jornal = 'x'\n")
    env = {"TELSTATE_LISTEN_PORT": "http", "TELSTATE_DRAIN": "-1"}
    lines = refused(env=env).splitlines()
    assert [re.match(r"telstate: (\S+): ", line)[1] for line in lines] == [  # type: ignore[index]
        "TELSTATE_LISTEN_PORT",
        "TELSTATE_DRAIN",
        "telstate.toml",
    ]
    assert telstate("serve", env=env).stderr.decode().splitlines() == lines
    flagged = telstate("serve", "--port", "0", "--drain", "1", env=env).stderr.decode().splitlines()
    assert flagged == lines[2:]


@pytest.mark.parametrize(
    ("env", "arguments", "said"),
    [
        ({"TELSTATE_CONFIG": "missing.toml"}, (), "there is no file missing.toml"),
        ({}, ("--config", "missing.toml"), "--config: there is no file missing.toml"),
        ({"TELSTATE_SECRETS_DIR": "missing"}, (), "TELSTATE_SECRETS_DIR: there is no directory missing"),
        ({"TELSTATE_VIEW_TOKEN_FILE": "missing"}, (), "cannot read missing, for TELSTATE_VIEW_TOKEN: No such file"),
        ({"TELSTATE_VIEW_TOKEN_FILE": "/dev/zero"}, (), "/dev/zero, for TELSTATE_VIEW_TOKEN, is longer than"),
        ({"TELSTATE_VIEW_TOKEN_FILE": "/"}, (), "cannot read /, for TELSTATE_VIEW_TOKEN: Is a directory"),
        ({"TELSTATE_VIEW_TOKEN": "a", "TELSTATE_VIEW_TOKEN_FILE": "b"}, (), "are both set: leave one of them out"),
    ],
)
def test_files_that_are_not_there_are_named(env: dict[str, str], arguments: tuple[str, ...], said: str) -> None:
    """With the variable or the option that names them."""
    said_here = refused(*arguments, env=env)
    assert said in said_here
    assert "Traceback" not in said_here


def test_a_variable_that_is_no_setting_is_reported(folder: Path) -> None:
    """It may be another program's, so it ends nothing. What Kubernetes sets for a service named telstate is not reported."""
    (folder / "run").mkdir()
    (folder / "run" / "telstate_view_tokn").write_text("x")
    env = {
        "TELSTATE_WEBHOK_SECRET": "x",
        "TELSTATE_TTL": "5",
        "TELSTATE_SETTINGS_RETENTON": "5",
        "TELSTATE_PORT": "tcp://10.0.0.1:8080",
        "TELSTATE_SERVICE_PORT_HTTP": "8080",
        "TELSTATE_NATS_PORT_4222_TCP_ADDR": "10.0.0.2",
        **dict.fromkeys(_OF_OTHERS - {"TELSTATE_CONFIG", "TELSTATE_SECRETS_DIR"}, "of another command"),
    }
    run = telstate("config", "show", "--secrets-dir", folder / "run", env=env)
    assert run.returncode == 0
    assert [line.partition(". ")[0].partition("? ")[0] for line in run.stderr.decode().splitlines()] == [
        "telstate: TELSTATE_SETTINGS_RETENTON is no setting, and has no effect: did you mean TELSTATE_SETTINGS_RETENTION",
        "telstate: TELSTATE_TTL is no setting, and has no effect: did you mean TELSTATE_LEASE_TTL",
        "telstate: TELSTATE_WEBHOK_SECRET is no setting, and has no effect: did you mean TELSTATE_WEBHOOK_SECRET",
        f"telstate: {folder}/run/telstate_view_tokn is no setting, and has no effect: did you mean TELSTATE_VIEW_TOKEN",
    ]
    unknown_value = telstate("config", "show", env={"TELSTATE_PORT": "8080"}).stderr
    assert b"did you mean TELSTATE_LISTEN_PORT or TELSTATE_HEALTH_PORT?" in unknown_value


def test_a_wrong_secret_is_not_shown(folder: Path) -> None:
    """Nor a phone number in a value that is wrong."""
    (folder / "telstate.toml").write_text(
        "webhook_secret = [5, 'the-secret']\nkeep = '+12025550143'\n[view_token]\na = 'the-secret'\n"
    )
    said = refused()
    assert said.count("telstate.toml: ") == 3
    assert "the-secret" not in said
    assert "5550143" not in said


def test_what_is_needed_for_another_command_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Receivers and workers share an environment: only a flag without an effect is refused, and notifications that would not be sent."""
    monkeypatch.setenv("TELSTATE_NATS", "nats://h/telstate/production/3")
    monkeypatch.setenv("TELSTATE_PROGRAM", "no_such_module")
    monkeypatch.setenv("TELSTATE_JOURNAL", "calls.jsonl")
    assert b"publishes to all partitions" in telstate("serve", "--port", "0").stderr
    assert b"--journal has no effect" in telstate("serve", "--journal", "calls.db").stderr
    assert b"leave the number out" in telstate("work").stderr
    monkeypatch.setenv("TELSTATE_NOTIFY", "https://crm.example/")
    monkeypatch.setenv("TELSTATE_NATS", "nats://h")
    for verb in ("serve", "work"):
        assert b"streams in NATS have no place" in telstate(verb).stderr


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_secrets_and_numbers_are_hidden() -> None:
    """In both forms, and in the settings as Python shows them."""
    env = {**SECRETS, "TELSTATE_ARCHIVE": "of +12025550143"}
    hidden = [
        *("c2VjcmV0", "a-token", "the-key", "the-password", "in-the-address", "a-path", "whsec_", "5550143"),
    ]
    for option in ((), ("--json",)):
        run = telstate("config", "show", *option, env=env)
        assert run.returncode == 0
        text = run.stdout.decode()
        assert [one for one in hidden if one in text] == []
        assert "nats://host:4222" in text
        assert "https://crm.example" in text
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        assert [
            one for one in ("c2VjcmV0", "a-token", "the-key", "the-password", "whsec_") if one in repr(load())
        ] == []


def test_it_says_what_holds_and_where_it_came_from(folder: Path) -> None:
    """Of every setting, with its variable; and which files were read."""
    (folder / "telstate.toml").write_text(
        "keep = 7\n[[notify]]\nurl = 'https://a.example/x'\nwhere = \"from == '+12025550143'\"\n"
    )
    rows = shown(env={"DAILY_API_KEY": "x", "TELSTATE_SETTINGS_HOLD_LIMIT": "60"})
    keys = ("value", "from", "origin")
    assert [rows["keep"][key] for key in keys] == ["7", "file", "telstate.toml"]
    assert [rows["settings.hold_limit"][key] for key in keys] == [60, "environment", "TELSTATE_SETTINGS_HOLD_LIMIT"]
    assert [rows["daily_api_key"][key] for key in keys] == ["hidden", "environment", "DAILY_API_KEY"]
    assert [rows["reconcile"][key] for key in keys] == [True, "default", None]
    assert rows["notify"]["value"] == [{"url": "https://a.example/…", "where": "from == '+12•••••••43'"}]
    assert shown(env={"DAILY_API_KEY": ""})["reconcile"]["value"] is False
    text = telstate("config", "show").stdout.decode()
    assert text.startswith("file: telstate.toml\nsecrets dir: none\n\nsetting ")
    assert re.search(r"^keep +7 +telstate.toml$", text, re.MULTILINE)
    assert re.search(r"^drain +30 +default \(TELSTATE_DRAIN\)$", text, re.MULTILINE)


@pytest.mark.parametrize("command", [SERVE, WORK])
def test_every_flag_is_a_setting_with_its_default(command: str) -> None:
    """And every setting with a flag is one of a command that uses it."""
    flags = {one.name: one for one in _make(command, f"_{command}.{command}").params}
    own = {"config", "secrets_dir", "help"}
    assert flags.keys() - own <= ServiceConfig.model_fields.keys()
    for name, field, use in all_uses():
        if use.flag and command in use.by:
            default = None if is_secret(field) or field.default == () else field.default
            assert flags[name].default == default
            assert use.flag.partition("/")[0] in flags[name].opts


@pytest.mark.parametrize("name", [SERVE, WORK, CAMPAIGN])
def test_the_help_of_each_command_with_settings_says_where_they_may_be(name: str) -> None:
    """Before its example."""
    text = " ".join(telstate(*name.split(), "--help").stdout.decode().split())
    assert "`telstate config show` lists all, with their names. Example" in text


def test_names_are_clear_of_one_another() -> None:
    """No variable reads as the file of another one, or as what Kubernetes sets for a service named after its beginning."""
    names = [variable_of(name) for name in ServiceConfig.model_fields]
    assert len({*names}) == len(names)
    assert not [name for name in names if name.endswith("_FILE")]
    assert {variable_of(name) for name in _nats._OPTIONS.values()} <= {*names}
    assert all(use_of(field).about.endswith(".") for field in ServiceConfig.model_fields.values())


def test_a_variable_of_another_command_is_not_reported() -> None:
    """Every variable that the code or an example names is a setting, or is known to be something else."""
    known = {*_variables(), *_OF_OTHERS, "TELSTATE_IMAGE", "TELSTATE_PORT"}  # of a compose file, and of Kubernetes
    found = {
        name.removesuffix("_FILE")
        for folder in ("telstate", "examples")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".md", ".yaml", ".service", ".toml"}
        for name in re.findall(r"\bTELSTATE_[A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8"))
    }
    assert found - known == set()
    assert len(found) > 20


# --- documents --------------------------------------------------------------------------------------------------------


def test_the_readme_lists_every_setting() -> None:
    """`python -m tests.cli.config_tables` writes the tables."""
    text = README.read_text(encoding="utf-8")
    assert with_tables(text) == text
    assert all(f"`{key}`" in text for key in Receiver.model_fields)


def test_the_example_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file in `examples`, and the one in the README: every key is a setting."""
    config = load(file=str(ROOT / "examples" / "telstate.toml")).config
    assert (config.keep, config.settings.ring_deadline, config.listen_port) == ("90", 45, 8080)
    assert [one.name for one in config.notify if isinstance(one, Receiver)] == ["crm", "billing"]
    block = re.search(r"^```toml\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert block is not None
    Path("telstate.toml").write_text(block[1])
    assert load().config.settings.ring_deadline == 45
    Path("telstate.toml").write_text(block[1].replace("journal", "jurnal"))
    with pytest.raises(ConfigError, match="did you mean journal"):
        load()


def test_showing_settings_imports_nothing_slow() -> None:
    """Neither the server nor the parts that run handlers. pydantic-settings itself imports asyncio."""
    assert imported_by("config", "show") & (SLOW - {"asyncio"}) == set()
