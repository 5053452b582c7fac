"""Run as a process with baresip-python on the path: makes three calls to itself over SIP, and prints how they went, as JSON."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import sys
from typing import Any

import baresip  # type: ignore[import-not-found, unused-ignore]


def is_free(kind: socket.SocketKind, port: int) -> bool:
    """Return whether a port of 127.0.0.1 can be bound to."""
    with socket.socket(socket.AF_INET, kind) as tried:
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:  # another process has that one
            return False
        return True


def free_port() -> int:
    """Return a port that is free for UDP and TCP, and whose next one is free for TCP: baresip listens for TLS there.

    It is above the ports that baresip takes for audio, and below those that systems give to connections: nobody else gets it in between.
    """
    wanted = (socket.SOCK_DGRAM, 0), (socket.SOCK_STREAM, 0), (socket.SOCK_STREAM, 1)
    for port in random.sample(range(20_000, 32_000), 100):
        if all(is_free(kind, port + offset) for kind, offset in wanted):
            return port
    raise RuntimeError(
        "none of 100 ports of 127.0.0.1 is free for UDP, TCP and TLS: close what listens from 20000 to 32000"
    )


async def outcome_of(call: Any, hang_up: bool) -> dict[str, Any]:
    """Wait until a call is established or fails."""
    waiting = asyncio.ensure_future(call.wait_established(5))
    if hang_up:
        await asyncio.sleep(0.3)
        await call.hangup()
    try:
        await waiting
    except baresip.BaresipError as error:
        return {"handle": call.handle, "error": type(error).__name__, "message": str(error)}
    await call.hangup()
    return {"handle": call.handle, "error": None, "message": ""}


async def main() -> dict[str, Any]:
    """One callee is busy, one is hung up on while it rings, one answers."""
    port = free_port()
    runtime = baresip.Runtime()
    listen = f"sip_listen 127.0.0.1:{port}\n"
    await runtime.start(baresip.Config(net_interface="127.0.0.1", extra_config_text=listen))
    accounts = (baresip.Account(user=user, domain="127.0.0.1", password="", reg_interval=0) for user in ("a", "b"))
    caller, callee = [await baresip.UserAgent.create(runtime, account) for account in accounts]
    how, tasks, ids = [""], set[asyncio.Future[Any]](), list[str]()

    def incoming(call: Any) -> None:
        ids.append(call.call_id)
        if how[0] == "busy":
            tasks.add(asyncio.ensure_future(call.reject()))
        elif how[0] == "answered":
            tasks.add(asyncio.ensure_future(call.answer()))

    callee.on_incoming(incoming)
    found: dict[str, Any] = {}
    for how[0] in ("busy", "abandoned", "answered"):
        call = await caller.dial(f"sip:b@127.0.0.1:{port}")
        found[how[0]] = await outcome_of(call, hang_up=how[0] == "abandoned")
        await asyncio.sleep(0.2)
    await runtime.close()
    errors = {name: [base.__name__ for base in getattr(baresip, name).__mro__] for name in sys.argv[1:]}
    return {"calls": found, "sip_call_ids": ids, "errors": errors}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(asyncio.wait_for(main(), 60))))
