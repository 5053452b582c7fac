"""The public names of `telstate.sources` and `telstate.testing`: importable without extras, which are named if they are missing."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from tests.sources.live import installed

PACKAGES = ("telstate.sources", "telstate.testing")
EXTRAS = {"daily", "httpx", "pipecat", "starlette", "uvicorn"}


@pytest.mark.parametrize("package", PACKAGES)
def test_all_names_exist(package: str) -> None:
    """Those that need an extra too."""
    installed("daily")
    module = importlib.import_module(package)
    assert all(hasattr(module, name) for name in module.__all__)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'no_such_name'"):
        _ = module.no_such_name


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_needs_no_extra(package: str) -> None:
    """Nothing of them is loaded."""
    code = f"import sys, {package}; print(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert not EXTRAS & set(run.stdout.decode().split())


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "missing", "extra"),
    [
        ("telstate.sources.webhook_app", "starlette", "serve"),
        ("telstate.sources.serve_webhooks", "uvicorn", "serve"),
        ("telstate.sources.DailyEvents", "daily", "daily"),
        ("telstate.testing.FakeDaily", "uvicorn", "rest,serve"),
        ("telstate.testing.WebhookSender", "httpx", "rest"),
    ],
)
def test_a_missing_extra_is_named(name: str, missing: str, extra: str) -> None:
    """With the command that installs it."""
    package, _, attribute = name.rpartition(".")
    code = f"import sys; sys.modules[{missing!r}] = None\nfrom {package} import {attribute}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60)
    assert f"ModuleNotFoundError: {name} needs {missing}: pip install 'telstate[{extra}]'" in run.stderr.decode()
