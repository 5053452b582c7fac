"""Tools for tests of programs that use telstate: a clock, a control, simulated calls, ladders, a fake Daily. See README.md beside this file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from telstate._lazy import lazy_exports as _lazy_exports

if TYPE_CHECKING:
    from telstate.testing import _faults as faults
    from telstate.testing import _line_scripts as lines
    from telstate.testing import _refusals as refusals
    from telstate.testing._clock import FakeClock
    from telstate.testing._control import FakeControl, Request
    from telstate.testing._daily import FakeDaily
    from telstate.testing._domain import CallRejected
    from telstate.testing._generator import Noise, Sent, simulate
    from telstate.testing._ladders import ladder
    from telstate.testing._phone_lines import Answerer, Dial, LinePlan, LineScript, PhoneLine
    from telstate.testing._refusals import Refusal
    from telstate.testing._rooms import Leg
    from telstate.testing._scripts import SCRIPTS, Script, ScriptedEvent, SimulatedCall
    from telstate.testing._sender import WebhookSender
    from telstate.testing._spelling import spell
    from telstate.testing._trunk_calls import TrunkCall
else:
    # pytest imports this package at every start, for the plugin beside this file; that must not take longer than the tests.
    __getattr__ = _lazy_exports(
        __name__,
        {
            "SCRIPTS": "_scripts",
            "Answerer": "_phone_lines",
            "CallRejected": "_domain",
            "Dial": "_phone_lines",
            "FakeClock": "_clock",
            "FakeControl": "_control",
            "FakeDaily": ("_daily", "rest,serve"),
            "Leg": "_rooms",
            "LinePlan": "_phone_lines",
            "LineScript": "_phone_lines",
            "Noise": "_generator",
            "PhoneLine": "_phone_lines",
            "Refusal": "_refusals",
            "Request": "_control",
            "Script": "_scripts",
            "ScriptedEvent": "_scripts",
            "Sent": "_generator",
            "SimulatedCall": "_scripts",
            "TrunkCall": ("_trunk_calls", "rest,serve"),
            "WebhookSender": ("_sender", "rest"),
            "faults": "_faults:",
            "ladder": "_ladders",
            "lines": "_line_scripts:",
            "refusals": "_refusals:",
            "simulate": "_generator",
            "spell": "_spelling",
        },
    )

__all__ = [
    "SCRIPTS",
    "Answerer",
    "CallRejected",
    "Dial",
    "FakeClock",
    "FakeControl",
    "FakeDaily",
    "Leg",
    "LinePlan",
    "LineScript",
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
    "lines",
    "refusals",
    "simulate",
    "spell",
]
