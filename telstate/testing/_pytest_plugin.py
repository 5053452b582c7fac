"""A pytest plugin for programs that use telstate: a clock, a control, a log fed in, and ladders compared with files.

It comes with telstate, so there is nothing to register. Fixtures import what they need when a test asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

if TYPE_CHECKING:
    from telstate.calls._engine import Engine
    from telstate.testing._clock import FakeClock
    from telstate.testing._control import FakeControl

__all__ = ["assert_ladder", "pytest_addoption", "telstate_clock", "telstate_control", "telstate_replay"]

_FOLDER = "ladders"
Lines: TypeAlias = "Iterable[bytes | str | Mapping[str, Any]] | Path"
"""Events in any dialect, or the file of a log."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--update-ladders`."""
    group = parser.getgroup("telstate")
    group.addoption("--update-ladders", action="store_true", help="write the ladders that assert_ladder compares with")


@pytest.fixture
def telstate_clock() -> FakeClock:
    """A clock that only the test moves: `Dispatcher(router, clock=telstate_clock)`."""
    from telstate.testing._clock import FakeClock  # noqa: PLC0415

    return FakeClock()


@pytest.fixture
def telstate_control() -> FakeControl:
    """A control that records what is requested: `Dispatcher(router, control=telstate_control)`."""
    from telstate.testing._control import FakeControl  # noqa: PLC0415

    return FakeControl()


@pytest.fixture
def telstate_replay() -> Callable[..., Engine]:
    """A function that feeds a log, or events, and returns the engine: `telstate_replay(Path("call.jsonl")).sessions()`.

    Fields of `telstate.Settings` may be given by name. Sessions leave an engine two hours after their end, by the time of the log, so a log
    of a day needs `retention=86_400` for all of them.
    """

    def replay(lines: Lines, **settings: float) -> Engine:
        from telstate.calls._replay import Replay  # noqa: PLC0415
        from telstate.testing._ladders import as_lines  # noqa: PLC0415

        fed = Replay(settings)
        for line in as_lines(_read(lines)):
            fed.feed(line)
        fed.finish()
        return fed.engine

    return replay


@pytest.fixture
def assert_ladder(request: pytest.FixtureRequest) -> Callable[..., None]:
    """A function that compares the ladder of some events with a file beside the test: `ladders/TEST.txt`.

    `pytest --update-ladders` writes the file: read it before you keep it. A test with several ladders names each:
    `assert_ladder(lines, "after the transfer")`.
    """

    def check(lines: Lines, name: str = "", *, numbers: bool = False) -> None:
        from telstate.testing._ladders import ladder  # noqa: PLC0415

        text = ladder(_read(lines), numbers=numbers) + "\n"
        stem = f"{request.node.name} {name}".strip().translate(_UNSAFE)
        path = request.path.parent / _FOLDER / f"{stem}.txt"
        if request.config.getoption("--update-ladders"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists():
            pytest.fail(
                f"there is no {path}: write it with pytest --update-ladders, and read it\n\n{text}", pytrace=False
            )
        else:
            assert text == path.read_text(encoding="utf-8"), f"if it is right now: pytest --update-ladders ({path})"  # noqa: S101 - pytest shows how they differ

    return check


_UNSAFE = str.maketrans(dict.fromkeys('/\\:*?"<>|', "_"))


def _read(lines: Lines) -> Iterable[bytes | str | Mapping[str, Any]]:
    return [line for line in lines.read_bytes().splitlines() if line.strip()] if isinstance(lines, Path) else lines
