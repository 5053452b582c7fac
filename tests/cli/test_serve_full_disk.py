"""`telstate serve` on a disk that is full: it says so everywhere, and goes on by itself when there is space."""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from telstate.testing import WebhookSender
from telstate.testing._sender import body_of
from tests.cli.test_serve import SECRET, event, sent, serving


async def answers(url: str, *payloads: dict[str, Any]) -> list[tuple[int, str]]:
    """Post events; return the status and the text of each answer."""
    async with WebhookSender(f"{url}/webhooks", SECRET) as sender:
        found = [await sender.post(body_of(payload)) for payload in payloads]
    return [(answer.status_code, answer.text) for answer in found]


async def answer_on_trunk(url: str) -> tuple[int, str]:
    """Post a call on a SIP trunk; return the status and the text of the answer."""
    call = {"type": "sip_trunk.incoming", "id": "t", "payload": {"room": {"name": "r"}, "more": "x" * 9000}}
    async with WebhookSender(f"{url}/sip-trunk", SECRET) as sender:
        answer = await sender.post(call)
    return answer.status_code, answer.text


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can limit the files of another process")
def test_a_full_disk_is_said_in_the_log_the_answer_and_ready(tmp_path: Path) -> None:
    """One line of the log for fifty refused events. The process lives all the time, and is ready again without another event."""
    with serving(tmp_path, TELSTATE_WEBHOOK_SECRET=SECRET) as (process, url):
        assert asyncio.run(sent(url, SECRET, event(1))) == [200]
        assert httpx.get(f"{url}/ready").status_code == 200
        size = (tmp_path / "calls.db-wal").stat().st_size
        _, most = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        refused = asyncio.run(answers(url, *({**event(number), "more": "x" * 9000} for number in range(2, 52))))
        assert {status for status, _ in refused} == {503}
        assert all("the disk failed or is full" in text for _, text in refused)
        status, text = asyncio.run(answer_on_trunk(url))
        assert (status, "the disk failed or is full" in text) == (503, True)
        assert "could not be taken in for" not in text, "it is answered at once"
        ready = httpx.get(f"{url}/ready")
        assert ready.status_code == 503
        assert "the disk failed or is full" in ready.json()["error"]
        assert httpx.get(f"{url}/health").status_code == 200
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, most))
        until = time.monotonic() + 60
        while httpx.get(f"{url}/ready").status_code != 200 and time.monotonic() < until:
            time.sleep(0.1)
        assert asyncio.run(sent(url, SECRET, event(100))) == [200]
        assert asyncio.run(answer_on_trunk(url))[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr is not None
        log = process.stderr.read()
    assert log.count("journal.cannot_keep_events") <= 4  # one in ten seconds, and those of the counts
    assert log.count("webhook.refused") < 30
    assert "the disk failed or is full" in log
    assert log.count("journal.keeps_events_again") == 1
