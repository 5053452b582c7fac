"""The metrics: what happened is what they say, nothing in them says who, and Prometheus' own tool finds nothing wrong with them."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from telstate import DefinitionError, Dispatcher, Event, Router, Session, event_types
from telstate.cli._service import metrics_routes
from telstate.control import Notifier, NotifyTarget
from telstate.journals import SqliteJournal
from telstate.sources import webhook_app
from telstate.testing import FakeClock, WebhookSender, simulate
from telstate.views import PrometheusMetrics, metrics_app
from tests.calls import js, webhook
from tests.control.notifying import SECRET as NOTIFY_SECRET
from tests.sources.serving import serving

pytestmark = pytest.mark.anyio

SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
LABELS = {
    "event",
    "outcome",
    "dialect",
    "direction",
    "state",
    "cause",
    "ended_by",
    "end_source",
    "handler",
    "reason",
    "code",
    "partition",
    "le",
}
"""Every label that there is. None of them can have as many values as there are calls."""


@pytest.fixture
def anyio_backend() -> str:
    """Most programs that are scraped run on asyncio."""
    return "asyncio"


class Scraped:
    """What a dispatcher shows."""

    def __init__(self, calls: Dispatcher) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(PrometheusMetrics(calls))

    def text(self) -> str:
        return generate_latest(self.registry).decode()

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def samples(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The names and the labels of an exposition."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, sample.labels


async def test_events_calls_and_handlers_are_counted() -> None:
    """By type, outcome and dialect; durations from Daily's own times; a handler that raises is an error and a dead letter."""
    router = Router()

    @router.on_end()
    async def ended(session: Session) -> None:
        raise ValueError("no")

    calls = Dispatcher(router, clock=FakeClock(start=1030.0))
    seen = Scraped(calls)
    async with calls:
        assert seen("telstate_ready") == 1
        await calls.receive(webhook("dialout.connected", "a", timestamp=1000))
        await calls.receive(webhook("dialout.answered", "a", timestamp=1008))
        await calls.receive(webhook("dialout.answered", "a", timestamp=1008))
        await calls.receive(js("dialin-connected", "b"))
        assert seen("telstate_sessions_live", direction="dialout", state="answered") == 1
        assert seen("telstate_sessions_live", direction="dialin", state="connected") == 1
        await calls.receive(webhook("dialout.stopped", "a", timestamp=1028))
        await calls.receive({"action": "of-tomorrow", "sessionId": "x"})
        await calls.receive({"To": "+12025550100", "From": "+12025550142", "callId": "c", "callDomain": "d"})
        await calls.idle()
        assert seen("telstate_callers_on_hold", state="waiting") == 1
    events = "telstate_events_total"
    assert seen(events, event="dialout-answered", outcome="moved", dialect="webhook") == 1
    assert seen(events, event="dialout-answered", outcome="duplicate", dialect="webhook") == 1
    assert seen(events, event="other", outcome="noted", dialect="daily-js") == 1
    assert seen("telstate_event_delay_seconds_sum", dialect="webhook") == 30 + 22 + 2  # without the duplicate
    assert seen("telstate_event_delay_seconds_bucket", dialect="webhook", le="2.0") == 1
    end = {"direction": "dialout", "cause": "completed", "ended_by": "unknown", "end_source": "told"}
    assert seen("telstate_sessions_ended_total", **end) == 1
    assert seen("telstate_session_ring_seconds_sum", direction="dialout") == 8
    assert seen("telstate_session_talk_seconds_sum", direction="dialout") == 20
    assert seen("telstate_session_talk_seconds_bucket", direction="dialout", le="15.0") == 0
    assert seen("telstate_session_talk_seconds_bucket", direction="dialout", le="30.0") == 1
    handler = {"handler": f"{__name__}.{ended.__qualname__}", "event": "dialout-stopped"}
    assert seen("telstate_handler_errors_total", **handler) == seen("telstate_handler_seconds_count", **handler) == 1
    assert seen("telstate_dead_letters_total", reason="handler-raised") == 1
    assert seen("telstate_ready") == 0


async def test_what_a_run_counted_stays_counted() -> None:
    """A counter that falls would be taken for a restart; gauges are those of what runs."""
    router, release = Router(), anyio.Event()

    @router.on("dialout-answered")
    async def wait() -> None:
        await release.wait()
        raise ValueError

    calls = Dispatcher(router, pending_limit=1)
    seen = Scraped(calls)
    for entered in (1, 2):
        async with calls, anyio.create_task_group() as group:
            await calls.receive(js("dialout-answered", "a"))
            assert seen("telstate_pending_events") == seen("telstate_pending_events_limit") == 1
            group.start_soon(calls.receive, js("dialout-answered", "b"))
            await anyio.wait_all_tasks_blocked()
            assert seen("telstate_receives_waiting") == 1
            assert seen("telstate_receive_waits_total") == entered
            release.set()
        release = anyio.Event()
        assert seen("telstate_dead_letters_total", reason="handler-raised") == 2 * entered
        assert seen("telstate_receives_waiting") == seen("telstate_pending_events") == 0
        assert (seen("telstate_receive_wait_seconds_total") or 0) > 0


async def test_a_handler_that_runs_again_after_a_restart_is_a_redelivery(tmp_path: Path) -> None:
    """With the size of the journal, and how far its checkpoint is behind."""
    router, cut_off = Router(), True

    @router.on("dialout-answered")
    async def slow() -> None:
        if cut_off:
            await anyio.sleep_forever()

    calls = Dispatcher(router, journal=SqliteJournal(tmp_path / "calls.db"), drain=0)
    seen = Scraped(calls)
    async with calls:
        await calls.receive(js("dialout-answered", "a"))
        with anyio.fail_after(20):
            while seen("telstate_checkpoint_age_seconds") is None:  # noqa: ASYNC110 - it wants its first one within a second
                await anyio.sleep(0.05)
        assert (seen("telstate_journal_size_bytes") or 0) > 0
        assert seen("telstate_journal_records") == 1
        assert seen("telstate_checkpoint_behind_records") == 0
        received = 1
        while seen("telstate_checkpoint_behind_records") == 0:  # unless a checkpoint is saved at this very moment
            received += 1
            await calls.receive(js("dialin-connected", f"b{received}"))
        assert 0 < (seen("telstate_checkpoint_behind_records") or 0) < received
        assert (seen("telstate_journal_free_bytes") or 0) > 0
    cut_off = False
    async with calls:
        await calls.idle()
    name = f"{__name__}.{slow.__qualname__}"
    assert seen("telstate_handler_redeliveries_total", handler=name, event="dialout-answered") == 1
    assert seen("telstate_handler_errors_total", handler=name, event="dialout-answered") == 0


async def test_no_label_says_who() -> None:
    """Whatever comes: labels have only words of telstate's and the names of handlers, and no more than those."""
    router = Router()

    @router.on(Event)
    async def note() -> None:
        pass

    calls = Dispatcher(router)
    seen = Scraped(calls)
    async with calls:
        for sent in simulate(7, calls=150):
            await calls.receive(sent.line())
        for number in range(100):
            await calls.receive({"action": f"of-tomorrow-{number}", "sessionId": f"x{number}"})
        await calls.idle()
        text = seen.text()
        ids = [session.session_id for session in calls.sessions()]
    found = list(samples(text))
    assert {name for _, labels in found for name in labels} <= LABELS
    assert len({labels["event"] for _, labels in found if "event" in labels}) <= len(event_types()) + 2
    values = {value for _, labels in found for name, value in labels.items() if name not in ("le", "handler", "code")}
    assert all(re.fullmatch(r"[a-z-]+", value) for value in values), values
    assert not any(session_id in text for session_id in ids)
    assert not re.search(r"\+\d{6}|sip:|@", text)


async def test_it_can_be_scraped_from_another_thread() -> None:
    """As prometheus_client.start_http_server does, while sessions come and go."""
    calls = Dispatcher(Router())
    seen = Scraped(calls)
    stop, failures, scrapes = threading.Event(), list[BaseException](), 0

    def scrape() -> None:
        nonlocal scrapes
        while not stop.is_set():
            try:
                seen.text()
                scrapes += 1
            except BaseException as error:
                failures.append(error)
                return

    async with calls:
        thread = threading.Thread(target=scrape)
        thread.start()
        for sent in simulate(3, calls=400):
            await calls.receive(sent.line())
        while scrapes < 5 and not failures:  # noqa: ASYNC110 - a thread counts
            await anyio.sleep(0.01)
        stop.set()
        thread.join(10)
    assert failures == []


async def test_metrics_are_switched_on_before_the_start() -> None:
    """Counters that begin in the middle would be wrong."""
    async with Dispatcher(Router()) as calls:
        with pytest.raises(DefinitionError, match="before"):
            PrometheusMetrics(calls)


async def test_the_app_serves_them_with_the_answers_of_the_receiver() -> None:
    """Without a secret, in the format that was asked for, and with the metrics of the process."""
    calls = Dispatcher(Router())
    app = webhook_app(calls, secrets=[SECRET])
    app.routes.extend(metrics_app(calls, webhooks=app).routes)
    async with serving(app) as url, httpx.AsyncClient(base_url=url) as client:
        async with WebhookSender(f"{url}/webhooks", SECRET) as sender:
            await sender.post(webhook("dialout.answered", "a"))
        refused = await client.post("/webhooks", json={"type": "dialout.answered"})
        assert refused.status_code == 401
        answer = await client.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        assert 'telstate_webhook_requests_total{code="200"} 1.0' in answer.text
        assert 'telstate_webhook_requests_total{code="401"} 1.0' in answer.text
        assert 'telstate_webhook_requests_total{code="503"} 0.0' in answer.text
        assert "process_resident_memory_bytes" in answer.text
        open_metrics = await client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
        assert open_metrics.text.endswith("# EOF\n")
        assert (await client.post("/metrics")).status_code == 405


async def test_without_the_extra_the_answer_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service runs all the same."""

    def missing(*_: Any, **__: Any) -> None:
        raise ModuleNotFoundError("telstate.views.metrics_app needs prometheus_client", name="prometheus_client")

    monkeypatch.setattr("telstate.views.metrics_app", missing, raising=False)
    calls = Dispatcher(Router())
    app = webhook_app(calls, secrets=[SECRET])
    app.routes.extend(metrics_routes(calls, app))
    async with serving(app) as url, httpx.AsyncClient(base_url=url) as client:
        answer = await client.get("/metrics")
    assert (answer.status_code, answer.text) == (
        501,
        "/metrics needs prometheus_client: pip install 'telstate[metrics]'\n",
    )


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool: apt-get install prometheus")
async def test_promtool_finds_nothing_wrong_with_them() -> None:
    """Names, types, help texts and units are as Prometheus wants them."""
    router = Router()

    @router.on_end()
    async def ended() -> None:
        pass

    calls = Dispatcher(router)
    seen = Scraped(calls)
    async with calls:
        for sent in simulate(1, calls=50):
            await calls.receive(sent.line())
        await calls.idle()
        text = seen.text()
    run = await anyio.run_process(["promtool", "check", "metrics"], input=text.encode(), check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")


async def test_messages_that_wait_for_a_receiver_are_counted(tmp_path: Path) -> None:
    """From the start on, those of the last run too; and none, once they are sent."""
    journal, target = tmp_path / "calls.db", NotifyTarget("http://127.0.0.1:9/calls", NOTIFY_SECRET, name="crm")
    notifier = Notifier(target, allow=["127.0.0.1"])
    async with Dispatcher(Router(), journal=SqliteJournal(journal), notify=notifier) as calls:
        await calls.receive(js("dialout-connected"))
        await calls.receive(js("dialout-stopped"))
        await calls.idle()
    again = Dispatcher(Router(), journal=SqliteJournal(journal), notify=Notifier(target, allow=["127.0.0.1"]))
    registry = CollectorRegistry()
    registry.register(PrometheusMetrics(again))
    async with again:
        assert registry.get_sample_value("telstate_notifications_waiting", {"target": "crm"}) == 2
