"""For tests, ours and our users': simulated calls, told as Daily tells them. Nothing here is a recording.

What needs extras is imported by its own name: `telstate.testing.daily` has `FakeDaily`, a fake of Daily's cloud over real HTTP;
`telstate.testing.sender` sends signed webhooks.
"""

from __future__ import annotations

from telstate.testing.clock import FakeClock
from telstate.testing.generator import Noise, Sent, simulate
from telstate.testing.scripts import SCRIPTS, Happening, Script, SimulatedCall
from telstate.testing.spelling import spell

__all__ = ["SCRIPTS", "FakeClock", "Happening", "Noise", "Script", "Sent", "SimulatedCall", "simulate", "spell"]
