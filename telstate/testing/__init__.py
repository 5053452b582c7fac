"""For tests, ours and our users': simulated calls, told as Daily tells them. Nothing here is a recording.

What needs extras is imported by its own name: `telstate.testing._daily` has `FakeDaily`, a fake of Daily's cloud over real HTTP;
`telstate.testing._sender` sends signed webhooks.
"""

from __future__ import annotations

from telstate.testing._clock import FakeClock
from telstate.testing._generator import Noise, Sent, simulate
from telstate.testing._scripts import SCRIPTS, Script, ScriptedEvent, SimulatedCall
from telstate.testing._spelling import spell

__all__ = ["SCRIPTS", "FakeClock", "Noise", "Script", "ScriptedEvent", "Sent", "SimulatedCall", "simulate", "spell"]
