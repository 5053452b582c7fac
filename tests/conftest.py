"""Settings of all tests."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

# A failing example must come again on every machine, so CI draws the same ones each time; `deep` is for a night.
settings.register_profile("ci", deadline=None, max_examples=150, derandomize=True, print_blob=True)
settings.register_profile(
    "deep", deadline=None, max_examples=5000, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# Whoever runs the tests in the background ignores Ctrl-C, and every process that they start would ignore it too.
signal.signal(signal.SIGINT, signal.default_int_handler)
