"""Tools for tests of programs that use telstate: a clock, a control, simulated calls, ladders, a fake Daily. See README.md beside this file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from telstate._lazy import lazy_exports as _lazy_exports
from telstate.testing import _faults as faults
from telstate.testing import _refusals as refusals
from telstate.testing._clock import FakeClock
from telstate.testing._control import FakeControl, Request
from telstate.testing._domain import CallRejected
from telstate.testing._generator import Noise, Sent, simulate
from telstate.testing._ladders import ladder
from telstate.testing._phone_lines import PhoneLine
from telstate.testing._refusals import Refusal
from telstate.testing._rooms import Leg
from telstate.testing._scripts import SCRIPTS, Script, ScriptedEvent, SimulatedCall
from telstate.testing._spelling import spell

if TYPE_CHECKING:
    from telstate.testing._daily import FakeDaily
    from telstate.testing._sender import WebhookSender
    from telstate.testing._trunk_calls import TrunkCall
else:
    __getattr__ = _lazy_exports(
        __name__,
        {
            "FakeDaily": ("_daily", "rest,serve"),
            "TrunkCall": ("_trunk_calls", "rest,serve"),
            "WebhookSender": ("_sender", "rest"),
        },
    )

__all__ = [
    "SCRIPTS",
    "CallRejected",
    "FakeClock",
    "FakeControl",
    "FakeDaily",
    "Leg",
    "Noise",
    "PhoneLine",
    "Refusal",
    "Request",
    "Script",
    "ScriptedEvent",
    "Sent",
    "SimulatedCall",
    "TrunkCall",
    "WebhookSender",
    "faults",
    "ladder",
    "refusals",
    "simulate",
    "spell",
]
