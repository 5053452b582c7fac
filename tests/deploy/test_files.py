"""The files of examples/deploy say what telstate, their schemas and each other understand."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from typer.main import get_command

from telstate import Router
from telstate.cli import app
from telstate.cli._config import ServiceConfig, is_secret, variable_of
from telstate.cli._variables import SECRETS_DIR
from tests.deploy.files import (
    COMPOSE,
    DEPLOY,
    DOCKERFILE,
    MANIFEST,
    UNIT,
    UNITS,
    WORKER_UNIT,
    Command,
    commands,
    compose,
    containers,
    kubernetes,
    steps,
    unit,
)
from tests.documents import ROOT, blocks
from tests.views.test_monitoring import series

DRAIN, ANSWERING = 30, 15
"""Seconds that handlers have after SIGTERM by default, and that the server has to answer what was asked."""
SECRETS = {variable_of(name).lower() for name, field in ServiceConfig.model_fields.items() if is_secret(field)}
VARIABLES = {SECRETS_DIR, *map(variable_of, ServiceConfig.model_fields)}


def seconds(text: str) -> int:
    """A time as compose files have it."""
    number, unit_name = int(text[:-1]), text[-1]
    return number * {"s": 1, "m": 60}[unit_name]


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.where)
def test_its_command_is_understood(command: Command) -> None:
    """By the real command line: an option that was renamed, or a value that cannot be, is an error here. The handlers are there."""
    verb, *arguments = command.arguments
    group: Any = get_command(app)
    named = group.commands[verb].make_context(verb, arguments).params.get("program")
    if command.where.endswith("receiver"):
        assert named is None
        return
    module, _, name = named.partition(":")
    folder = ROOT / "examples" / "cluster" if command.where.startswith("cluster") else DEPLOY
    assert isinstance(runpy.run_path(str(folder / f"{module}.py"))[name], Router)


def test_every_command_was_found() -> None:
    """One that the other tests do not see could be wrong."""
    assert [command.where for command in commands()] == [
        "Dockerfile",
        "telstate.service",
        "telstate-worker.service",
        "deploy/compose.yaml, telstate",
        "cluster/compose.yaml, receiver",
        "cluster/compose.yaml, worker",
        "kubernetes.yaml, receiver",
        "kubernetes.yaml, worker",
    ]


def test_variables_and_secrets_are_those_that_telstate_reads() -> None:
    """A secret is a file that is named as its variable."""
    units = [unit(path) for path in UNITS]
    named = [value.partition("=")[0] for one in units for line in one["Environment"] for value in line.split()]
    files = [value.partition(":")[0] for one in units for value in one["LoadCredential"]]
    for path in COMPOSE:
        for service in compose(path)["services"].values():
            named += service.get("environment", {})
            files += [name for name in service.get("secrets", []) if name != "grafana_password"]
    for container, pod in containers():
        named += [one["name"] for one in container["env"]]
        for volume in pod["volumes"]:
            for source in volume.get("projected", {}).get("sources", []):
                files += [item["path"] for item in source.get("secret", {}).get("items", [])]
    ours = {name for name in named if name.startswith(("TELSTATE_", "DAILY_"))}
    assert ours <= VARIABLES
    assert SECRETS_DIR in ours
    assert {*files} <= SECRETS
    assert {"telstate_webhook_secret", "telstate_nats_password", "daily_api_key"} <= {*files}


def test_the_commands_of_the_readme_are_understood() -> None:
    """As those of the files."""
    group: Any = get_command(app)
    found = re.findall(
        r"telstate (doctor .*)", "".join(block.text for block in blocks("text") if block.readme.parent == DEPLOY)
    )
    assert len(found) == 3
    for line in found:
        verb, *arguments = shlex.split(line)
        group.commands[verb].make_context(verb, arguments)


# --- the image --------------------------------------------------------------------------------------------------------


def test_the_image_is_built_from_files_that_there_are() -> None:
    """And that the ignore file lets into the build; every extra exists."""
    let_in = [
        line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    for program in ("examples/deploy", "examples/cluster"):
        for name, value in steps():
            if name == "COPY" and not value.startswith("--from"):
                for source in value.replace("${PROGRAM}", program).split()[:-1]:
                    assert (ROOT / source).exists(), source
                    assert any(Path(source).match(pattern) for pattern in let_in), source
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    (installed,) = re.findall(r"\[([\w,]+)\]\"", DOCKERFILE.read_text())
    assert {"cli", "metrics", "nats", "notify", "rest", "serve"} == set(installed.split(",")) <= extras


def test_the_image_runs_as_nobody_and_takes_signals() -> None:
    """Its user is a number, which Kubernetes can see is not root; no shell stands before telstate; images are pinned."""
    assert [value for name, value in steps() if name == "USER"] == ["10001:10001"]
    assert isinstance(json.loads(next(value for name, value in steps() if name == "CMD")), list)
    (serve,) = [command for command in commands() if command.where == "Dockerfile"]
    health = next(value for name, value in steps() if name == "HEALTHCHECK")
    assert f"http://127.0.0.1:{serve.option('--port')}/health" in health
    json.loads(health[health.index("[") :])
    (volume,) = [value for name, value in steps() if name == "VOLUME"]
    assert serve.option("--journal").startswith(f"{volume}/")
    images = [value.split()[0] for name, value in steps() if name == "FROM"]
    images += [service["image"] for path in COMPOSE for service in compose(path)["services"].values()]
    images += [container["image"] for container, _ in containers()]
    for image in images:
        assert re.search(r":v?\d+\.\d+\.\d+(-[\w-]+)?\}?$", image), image


# --- time to stop -----------------------------------------------------------------------------------------------------


def test_who_stops_a_service_is_as_patient_as_it_needs() -> None:
    """For live calls, for handlers, and for what was asked: who kills it before cuts calls off."""
    by_name = {command.where: command for command in commands()}
    calls = int(by_name["telstate.service"].option("--calls-end-within"))
    assert int(unit(UNIT)["TimeoutStopSec"][0]) >= calls + DRAIN + ANSWERING
    drain = int(by_name["telstate-worker.service"].option("--drain"))
    assert int(unit(WORKER_UNIT)["TimeoutStopSec"][0]) > drain
    service = compose(DEPLOY / "compose.yaml")["services"]["telstate"]
    calls = int(by_name["deploy/compose.yaml, telstate"].option("--calls-end-within"))
    assert seconds(service["stop_grace_period"]) >= calls + DRAIN + ANSWERING
    for container, pod in containers():
        if container["name"] == "receiver":
            pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
            assert pod["terminationGracePeriodSeconds"] >= pause + ANSWERING
        elif container["name"] == "worker":
            drain = int(by_name["kubernetes.yaml, worker"].option("--drain"))
            assert pod["terminationGracePeriodSeconds"] > drain
        else:
            (lame_duck,) = re.findall(r'lame_duck_duration: "(\d+)s"', kubernetes()[0]["data"]["nats.conf"])
            assert pod["terminationGracePeriodSeconds"] > int(lame_duck)


# --- compose ----------------------------------------------------------------------------------------------------------


def test_the_compose_file_monitors_with_the_shipped_files() -> None:
    """Prometheus and Grafana get them from examples/monitoring, and find each other; ports are for this machine only."""
    parsed = compose(DEPLOY / "compose.yaml")
    for one in (*parsed["configs"].values(), parsed["services"]["telstate"]["build"]):
        assert (DEPLOY / one.get("file", one.get("context"))).exists(), one
    monitoring = {Path(one["file"]).name for one in parsed["configs"].values() if "monitoring" in one["file"]}
    assert monitoring == {"prometheus.yml", "alerts.yml", "dashboard.json"}
    services = parsed["services"]
    telstate = next(command for command in commands() if command.where.startswith("deploy/compose"))
    targets = yaml.safe_load((DEPLOY / "targets.yml").read_text())
    assert targets == [{"targets": [f"telstate:{telstate.option('--port')}"]}]
    (source,) = yaml.safe_load((DEPLOY / "grafana" / "datasource.yaml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    mounted = {one["source"]: one["target"] for one in services["grafana"]["configs"]}
    (provider,) = yaml.safe_load((DEPLOY / "grafana" / "dashboards.yaml").read_text())["providers"]
    assert Path(mounted["dashboard"]).parent == Path(provider["options"]["path"])
    assert services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == mounted["dashboard"]
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        volumes = [one.partition(":")[0] for one in service["volumes"]]
        assert {*volumes} <= {*parsed["volumes"]}
        assert {one["source"] for one in service.get("configs", [])} <= {*parsed["configs"]}
        assert {*service.get("secrets", [])} <= {*parsed["secrets"]}
    assert telstate.option("--journal").startswith(services["telstate"]["volumes"][0].partition(":")[2] + "/")


# --- Kubernetes -------------------------------------------------------------------------------------------------------


def test_every_container_is_confined_and_probed_where_it_listens() -> None:
    """Not root, nothing writable but what is mounted, no token of the cluster; liveness asks /health, readiness /ready."""
    by_name = {command.where.partition(", ")[2]: command for command in commands() if "kubernetes" in command.where}
    templates = [one for resource in kubernetes() for one in resource.get("spec", {}).get("volumeClaimTemplates", [])]
    claims = {one["metadata"]["name"] for one in templates}
    for container, pod in containers():
        name = container["name"]
        assert pod["automountServiceAccountToken"] is False, name
        assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001), name
        assert container["securityContext"] == {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert "memory" in container["resources"]["limits"], name
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
        assert all(probe["port"] in ports for probe in probes.values()), name
        mounted = {one["name"] for one in container["volumeMounts"]}
        volumes = {one["name"] for one in pod["volumes"]}
        assert volumes <= mounted <= volumes | claims, name
        if name in by_name:
            assert ports["http"] == int(by_name[name].option("--port")), name
            assert by_name[name].option("--host") == "0.0.0.0", name
            assert [probe["path"] for probe in probes.values()] == ["/health", "/ready", "/health"], name


def test_selectors_find_what_they_are_for() -> None:
    """Services, disruption budgets and spreading; what comes in from outside is what Daily sends, and nothing else."""
    pods = {}
    for resource in kubernetes():
        spec = resource.get("spec", {})
        if "template" in spec:
            labels = spec["template"]["metadata"]["labels"]
            pods[labels["app"]] = {port["name"] for port in spec["template"]["spec"]["containers"][0]["ports"]}
            assert spec["selector"]["matchLabels"] == labels
            annotations = spec["template"]["metadata"].get("annotations", {})
            if annotations:
                assert (
                    int(annotations["prometheus.io/port"])
                    == spec["template"]["spec"]["containers"][0]["ports"][0]["containerPort"]
                )
    assert set(pods) == {"nats", "receiver", "worker"}
    budgets = set()
    for resource in kubernetes():
        if resource["kind"] == "Service":
            named = {port.get("targetPort", port["name"]) for port in resource["spec"]["ports"]}
            assert named <= pods[resource["spec"]["selector"]["app"]]
        if resource["kind"] == "PodDisruptionBudget":
            budgets.add(resource["spec"]["selector"]["matchLabels"]["app"])
        if resource["kind"] == "Ingress":
            (rule,) = resource["spec"]["rules"]
            assert [path["path"] for path in rule["http"]["paths"]] == ["/webhooks", "/pinless", "/sip-trunk"]
            assert {path["backend"]["service"]["name"] for path in rule["http"]["paths"]} == {"receiver"}
    assert budgets == set(pods)


def test_the_readme_makes_what_the_files_name() -> None:
    """Each secret with its keys, the ConfigMap, the folders; and each metric exists that a comment names."""
    readme = (DEPLOY / "README.md").read_text()
    made = {
        name: set(re.findall(r"--from-(?:literal|file)=([\w.-]+)=", text))
        for name, text in re.findall(r"create secret generic ([\w-]+) ((?:.*\\\n)*.*)", readme)
    }
    needed: dict[str, set[str]] = {}
    for container, pod in containers():
        for one in container["env"]:
            if key := one.get("valueFrom", {}).get("secretKeyRef"):
                needed.setdefault(key["name"], set()).add(key["key"])
        for volume in pod["volumes"]:
            for source in volume.get("projected", {}).get("sources", []):
                if secret := source.get("secret"):
                    needed.setdefault(secret["name"], set()).update(item["key"] for item in secret["items"])
    assert made == needed
    assert "create configmap nats-permissions --from-file=../cluster/permissions.conf" in readme
    for path in UNITS:
        assert f"/etc/systemd/system {path.name}" in readme
        for value in unit(path)["LoadCredential"]:
            assert Path(value.partition(":")[2]).name in readme
    for name in compose(DEPLOY / "compose.yaml")["secrets"]:
        assert f"secrets/{name}" in readme
    named = {
        name
        for path in DEPLOY.iterdir()
        if path.is_file()
        for name in re.findall(r"telstate_\w+_seconds\b", path.read_text())
    }
    assert named <= series()


# --- schemas and linters ----------------------------------------------------------------------------------------------


def tool(name: str) -> str:
    """A linter that the test group installs."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert found is not None, f"there is no {name}: pip install --group test"
    return found


def accepts(*command: str) -> None:
    """A linter has nothing to say."""
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.long
@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_the_manifest_follows_the_schemas_of_kubernetes(version: str) -> None:
    """Those of the oldest release that it says it needs, and of a new one; without a field that there is not."""
    accepts(tool("kubernetes-validate"), "--strict", "--kubernetes-version", version, str(MANIFEST))


@pytest.mark.long
def test_the_compose_files_follow_the_schema() -> None:
    """That of the compose specification."""
    accepts(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", *map(str, COMPOSE))


@pytest.mark.long
def test_hadolint_accepts_the_dockerfile() -> None:
    """With everything that it can say."""
    accepts(tool("hadolint"), "--failure-threshold", "style", str(DOCKERFILE))


with_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and "CI" not in os.environ, reason="needs systemd: apt-get install systemd"
)


each_unit = pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)


@with_systemd
@pytest.mark.long
@each_unit
def test_systemd_accepts_the_unit(path: Path, tmp_path: Path) -> None:
    """Each setting exists and has a value that it can have."""
    text = path.read_text()
    assert "/opt/telstate/bin/telstate" in text
    copy = tmp_path / path.name
    copy.write_text(text.replace("/opt/telstate/bin/telstate", "/bin/true"))
    run = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")


@with_systemd
@pytest.mark.long
@each_unit
def test_systemd_finds_the_unit_well_confined(path: Path) -> None:
    """Its own measure, from 0 (best) to 100: the unit has 12; what is left is the network, which a service needs."""
    accepts("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15", str(path))


def test_the_units_are_confined_alike() -> None:
    """Also after one of them was changed."""
    serve, work = (path.read_text().partition("# Nothing else of the machine.\n")[2] for path in UNITS)
    assert serve == work != ""
