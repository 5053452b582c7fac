"""`python -m tests.attacks.strangers ATTACK PORT --connections N --addresses M`: attacks a receiver until it is killed.

Each attack keeps N connections open, from M addresses of this machine, and opens one anew after it was closed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

__all__ = ["ATTACKS", "VIEW_TOKEN", "Attack"]

VIEW_TOKEN = "a-token-that-strangers-know"
"""Of the live stream. Even whoever has it must not keep the sender with the webhook's secret from being heard."""
_GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
_FORGED = b"POST /webhooks HTTP/1.1\r\nHost: x\r\nX-Webhook-Signature: a\r\nX-Webhook-Timestamp: 1\r\nContent-Length: %d\r\n\r\n"
_LIVE = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"
_LIVE_ADMITTED = _LIVE[:-2] + f"Authorization: Bearer {VIEW_TOKEN}\r\n\r\n".encode()
_UNSIGNED = b'POST /webhooks HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"a": 10}'
_MALFORMED_AFTER_THE_ANSWER = (
    b"POST /nothing HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"not a chunk\r\n",
)


class Attack(NamedTuple):
    """What one connection sends."""

    first: bytes
    then: bytes = b""
    """Again and again."""
    every: float = 2.0
    """Seconds."""
    reads: bool = True


ATTACKS: dict[str, Attack] = {
    "idle": Attack(b""),
    "slow-head": Attack(b"POST /webhooks HTTP/1.1\r\nHost: x\r\n", b"X-A: b\r\n"),
    "slow-body": Attack(_FORGED % 60_000, b"x"),
    "slow-keep-alive": Attack(_GET + b"POST /webhooks HTTP/1.1\r\n", b"X-A: b\r\n"),
    "big-bodies": Attack(_FORGED % 65_536 + b"x" * 65_000),
    "too-big-bodies": Attack(_FORGED % 1_000_000 + b"x" * 100_000),
    "endless-chunks": Attack(
        _FORGED.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked") + b"3e8\r\n" + b"x" * 1000 + b"\r\n",
        b"3e8\r\n" + b"x" * 1000 + b"\r\n",
        0.2,
    ),
    "body-nobody-reads": Attack(_FORGED.replace(b"/webhooks", b"/nothing") % 10_000_000, b"x" * 100),
    "big-heads": Attack(_FORGED[:-4].replace(b"%d", b"100\r\nX-A: ") + b"x" * 15_000 + b"\r\n\r\n", b"x"),
    "polite": Attack(_GET, _GET, 2.0),
    "pipelined": Attack(_GET * 300, _GET * 300, 0.1, reads=False),
    "unsigned": Attack(_UNSIGNED, _UNSIGNED, 0.0),
    "live-without-token": Attack(_LIVE, _LIVE, 1.0),
    "live-slow-readers": Attack(_LIVE_ADMITTED, reads=False),
    "forged": Attack(_FORGED % 9 + b'{"a": 10}', _FORGED % 9 + b'{"a": 10}', 0.0),
    "not-http": Attack(b"\x16\x03\x01\r\n\r\n"),
    "malformed-late": Attack(*_MALFORMED_AFTER_THE_ANSWER, 0.05),
    "upgrade": Attack(
        b"GET /health HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        b"x",
    ),
}


class _Stranger(asyncio.Protocol):
    """One connection of an attack."""

    def __init__(self, attack: Attack) -> None:
        self.closed = asyncio.Event()
        self._attack = attack
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None

    def itself(self) -> _Stranger:
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if not self._attack.reads:
            transport.pause_reading()
        transport.write(self._attack.first)
        self._send_later()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._timer is not None:
            self._timer.cancel()
        self.closed.set()

    def _send_later(self) -> None:
        if self._attack.then:
            self._timer = asyncio.get_running_loop().call_later(max(self._attack.every, 0.01), self._send)

    def _send(self) -> None:
        if self._transport.get_write_buffer_size() < 100_000:
            self._transport.write(self._attack.then)
        self._send_later()


async def _keep_open(attack: Attack, port: int, addresses: Iterator[str], pause: float) -> None:
    loop = asyncio.get_running_loop()
    while True:
        stranger = _Stranger(attack)
        with suppress(OSError):
            await loop.create_connection(stranger.itself, "127.0.0.1", port, local_addr=(next(addresses), 0))
            await stranger.closed.wait()
        await asyncio.sleep(pause)


async def _attack(name: str, port: int, connections: int, addresses: int, pause: float) -> None:
    hosts = itertools.cycle(f"127.{1 + number // 250}.1.{1 + number % 250}" for number in range(addresses))
    chosen = ATTACKS.values() if name == "all" else [ATTACKS[name]]
    attacks = itertools.cycle(chosen)
    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            group.create_task(_keep_open(next(attacks), port, hosts, pause))
            if number % 100 == 99:
                await asyncio.sleep(0.01)


def main() -> int:
    """Attack."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks.strangers", description=__doc__)
    parser.add_argument("attack", choices=[*ATTACKS, "all"])
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=1_500)
    parser.add_argument("--addresses", type=int, default=1)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds before a closed connection is opened anew")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(_attack(options.attack, options.port, options.connections, options.addresses, options.pause))
    return 1


if __name__ == "__main__":
    sys.exit(main())
