"""The shipped dashboard, alerts and tables fit the metrics that there are; a real Prometheus scrapes a real service."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml  # type: ignore[import-untyped]

from telstate.testing import WebhookSender, simulate
from telstate.testing._sender import body_of
from telstate.views import PrometheusMetrics
from tests.calls import webhook
from tests.cli.test_serve import SECRET, serving
from tests.documents import ROOT
from tests.ports import free_port

MONITORING = ROOT / "examples" / "monitoring"
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
ALERTS: dict[str, Any] = yaml.safe_load((MONITORING / "alerts.yml").read_text())
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
UNITS = {"short", "s", "bytes", "reqps", "percentunit"}

with_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool: apt-get install prometheus"
)


class Worker:
    """What has all metrics: a worker, without a server."""

    not_ready = None

    def instrument(self, instrument: object) -> None:
        """Measure nothing."""

    def partitions(self) -> list[Any]:
        """It has none yet."""
        return []


def metrics() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Every metric that there is, with its type and its labels."""
    found = {}
    for metric in PrometheusMetrics(Worker()).collect():
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        found[name] = (metric.type, tuple(getattr(metric, "_labelnames", ())))
    return found


def series() -> set[str]:
    """The names that a query can use."""
    names = set()
    for name, (kind, _) in metrics().items():
        names |= {f"{name}_{end}" for end in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return names


def named(text: str) -> set[str]:
    """The metrics of telstate's that a query names."""
    return set(re.findall(r"\btelstate_\w+", text))


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels, without the rows."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> Iterator[str]:
    """The dashboard's queries."""
    for panel in panels():
        yield from (target["expr"] for target in panel["targets"])


def test_the_table_lists_every_metric_and_no_other() -> None:
    """With its type and its labels."""
    text = (ROOT / "telstate" / "views" / "README.md").read_text()
    rows = re.findall(r"^\| `(telstate_\w+)` \| (\w+) \| ([^|]*) \|", text, re.MULTILINE)
    assert {name: (kind, tuple(re.findall(r"\w+", labels))) for name, kind, labels in rows} == metrics()
    assert len(rows) == len(metrics())


def test_the_dashboard_and_the_alerts_name_only_metrics_that_there_are() -> None:
    """And the dashboard shows each of them somewhere."""
    shown = set().union(*map(named, queries()))
    assert shown <= series()
    assert set().union(*(named(rule["expr"]) for rule in RULES)) <= series()
    without_suffix = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert set(metrics()) - without_suffix - shown == set()


def test_queries_group_and_filter_by_labels_that_there_are() -> None:
    """Of the metric that they name; a wrong label finds nothing, and says nothing."""
    known = {"job", "instance", "le", "alertname", "alertstate"}
    for query in (*queries(), *(rule["expr"] for rule in RULES)):
        labels = {
            label
            for name in named(query)
            for label in metrics().get(re.sub(r"_(bucket|sum|count)$", "", name), ("", ()))[1]
        }
        labels |= {label for name in named(query) for label in metrics().get(name, ("", ()))[1]}
        used = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=(?!=))\s*\"", query))
        used |= {label for group in re.findall(r"by \(([^)]*)\)", query) for label in re.findall(r"\w+", group)}
        assert used <= labels | known, query


def test_the_dashboard_is_in_order() -> None:
    """Ids are unique, panels lie in the grid and do not overlap, each says what it shows, and the data source is a variable."""
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    assert len({panel["title"] for panel in DASHBOARD["panels"]}) == len(ids)
    for panel in panels():
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert [one["name"] for one in DASHBOARD["templating"]["list"]] == ["datasource", "job", "instance"]
    first = next(panel for panel in DASHBOARD["panels"] if panel["type"] == "row")
    assert (first["title"], first["gridPos"]["y"]) == ("What is wrong", 0)


def test_durations_and_sizes_are_shown_as_such() -> None:
    """A query of seconds has the unit of seconds, one of bytes that of bytes."""
    for panel in panels():
        unit = panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            if "histogram_quantile" in target["expr"]:
                assert unit == "s", panel["title"]
            if re.search(r"telstate_\w+_bytes", target["expr"]):
                assert unit == "bytes", panel["title"]


def test_every_alert_says_what_to_do() -> None:
    """With a severity of two."""
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert len(rule["annotations"]["description"]) > 20, rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]


@pytest.mark.long
@with_promtool
@pytest.mark.parametrize(
    "arguments", ["check rules alerts.yml", "test rules alerts_test.yml", "check config prometheus.yml"]
)
def test_promtool_accepts_the_rules_and_each_alert_is_raised(arguments: str) -> None:
    """By the series that should, and not by those that come close."""
    run = subprocess.run(
        ["promtool", *arguments.split()], cwd=MONITORING, capture_output=True, text=True, check=False, timeout=60
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_there_is_a_unit_test_for_each_alert() -> None:
    """One that raises it, and one that does not."""
    tests: list[dict[str, Any]] = yaml.safe_load((MONITORING / "alerts_test.yml").read_text())["tests"]
    names = sorted(test["name"] for test in tests)
    assert names == sorted(f"{rule['alert']} {what}" for rule in RULES for what in ("is raised", "stays quiet"))


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[httpx.Client]:
    """A real Prometheus with the shipped configuration, which scrapes one service every second."""
    config: dict[str, Any] = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (folder / "targets.yml").write_text(yaml.safe_dump([{"targets": [target]}]))
    alerts: dict[str, Any] = yaml.safe_load((MONITORING / "alerts.yml").read_text())
    for group in alerts["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)  # nobody waits for minutes here
    (folder / "alerts.yml").write_text(yaml.safe_dump(alerts))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        "prometheus",
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        f"--web.listen-address={address}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://{address}/api/v1", timeout=30) as client:
            yield client
    finally:
        process.terminate()
        process.wait(30)


def asked(client: httpx.Client, query: str) -> list[dict[str, Any]]:
    """The answer to a query."""
    answer = client.get("/query", params={"query": query})
    assert answer.status_code == 200, f"{query}: {answer.text}"
    found: list[dict[str, Any]] = answer.json()["data"]["result"]
    return found


def until_found(client: httpx.Client, query: str) -> list[dict[str, Any]]:
    """Wait until a query finds something."""
    give_up = time.monotonic() + 60
    while True:
        try:
            if found := asked(client, query):
                return found
        except (httpx.TransportError, AssertionError):
            if time.monotonic() > give_up:
                raise
        assert time.monotonic() < give_up, query
        time.sleep(0.2)


RAISED = 'ALERTS{alertname!="TelstateDiskFillsUp"}'
"""The alerts, without that of the disk, on which other tests write."""
PROGRAM = """
from telstate import Router
router = Router()

@router.on("dialout-answered")
async def greet() -> None:
    raise ValueError("no")
"""


@pytest.mark.long
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Prometheus: apt-get install prometheus")
def test_a_real_prometheus_scrapes_a_real_service_and_raises_its_alerts(tmp_path: Path) -> None:
    """Every query of the dashboard and of the alerts is understood; a handler that raises is an alert, and so is a service that dies."""
    (tmp_path / "app.py").write_text(PROGRAM)

    async def send(url: str, *payloads: dict[str, Any]) -> None:
        async with WebhookSender(f"{url}/webhooks", SECRET) as sender:
            for payload in payloads:
                assert (await sender.post(body_of(payload))).status_code == 200

    with (
        serving(tmp_path, "app:router", "--secret", SECRET) as (process, url),
        prometheus(tmp_path, url.removeprefix("http://")) as client,
    ):
        until_found(client, "telstate_ready == 1")
        until_found(client, f"absent({RAISED})")
        dialouts = [sent.payload for sent in simulate(5, calls=20, dialects=["webhook"])]
        asyncio.run(
            send(url, *dialouts, webhook("dialout.answered", "one"), webhook("dialout.answered", "one", id="again"))
        )
        until_found(client, 'telstate_events_total{outcome="duplicate"} > 0')
        assert until_found(client, 'ALERTS{alertname="TelstateDeadLetters"}')
        for query in queries():
            asked(client, query.replace("$job", ".*").replace("$instance", ".*"))
        for rule in RULES:
            asked(client, rule["expr"])
        process.kill()
        assert until_found(client, 'ALERTS{alertname="TelstateDown", alertstate="firing"}')
