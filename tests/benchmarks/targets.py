"""The targets, and whether they are met. Each is a ratio within one run, or a size that is the same on every machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from telstate import Dialect
from tests.benchmarks.costs import Starts
from tests.benchmarks.harness import FLOOR
from tests.benchmarks.recovery import Recovery

__all__ = ["Figure", "of_costs", "of_peers", "of_processes", "row"]

LIVE = "telstate, live"
WEBHOOKS = f"telstate, {Dialect.WEBHOOK}, live"
PARSE = f"telstate, {Dialect.DAILY_JS}, parse"


class Figure(NamedTuple):
    """One measured figure."""

    what: str
    value: float
    unit: str
    """`x` for a ratio."""
    target: float | None = None
    """The highest value that meets it; None if there is no target."""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        return None if self.target is None else self.value <= self.target


def of_peers(ratios: Mapping[str, float]) -> list[Figure]:
    """The targets that compare peers. `ratios` are ratios to the floor."""

    def figure(what: str, one: str, other: str, target: float | None) -> Figure:
        return Figure(what, ratios[one] / ratios[other], "x", target)

    memory = "telstate, 256 in flight"
    return [
        figure("parsing a webhook, against daily-js", f"telstate, {Dialect.WEBHOOK}, parse", PARSE, 1.3),
        figure("parsing daily-python, against daily-js", f"telstate, {Dialect.DAILY_PYTHON}, parse", PARSE, 1.3),
        figure("live, against the pydantic floor", LIVE, FLOOR, 1.6),
        figure("live, against dictionaries by hand", LIVE, "dicts by hand", 1.2),
        figure("live, against pipecat's path", LIVE, "pipecat's path", 0.45),
        figure("live, against an AsyncMachine per session", LIVE, "AsyncMachine per session", 0.05),
        figure("live in batches, against the pydantic floor", "telstate, in batches", FLOOR, None),
        figure("replay of a log, against the pydantic floor", "telstate, replay", FLOOR, 1.1),
        figure("webhooks with metrics, against without", f"{WEBHOOKS} with metrics", WEBHOOKS, 1.3),
        figure("webhooks with metrics and 1 % of traces", f"{WEBHOOKS} with metrics and sampled traces", WEBHOOKS, 1.3),
        figure("webhooks with all traces", f"{WEBHOOKS} with all traces", WEBHOOKS, None),
        figure("SQLite, 256 in flight, against memory", f"{memory}, SQLite", memory, 4.0),
        figure("SQLite, in batches, against memory", "telstate, in batches, SQLite", "telstate, in batches", None),
    ]


def of_processes(started: Starts, replayed: Mapping[str, float], recovered: Recovery) -> list[Figure]:
    """The targets for whole processes: how they start, and how they read a log or a journal. `replayed` are ratios to the script."""
    return [
        Figure("import telstate, against its four dependencies", started.imported, "x", 1.3),
        Figure("import telstate and use it, against the same", started.used, "x"),
        Figure("telstate --help, against the same", started.help, "x", 1.5),
        Figure("replay --json of webhooks, against a script", replayed["telstate replay --json"], "x", 3.0),
        Figure("replay of webhooks as text, against a script", replayed["telstate replay"], "x"),
        Figure("recovery without a checkpoint, against the floor", recovered.ratio, "x", 4.0),
        Figure("recovery with a checkpoint of up to 10 000 calls", recovered.seconds_with_checkpoint, "s"),
    ]


def of_costs(bytes_per_session: float, collection_ms: float, scaling: float) -> list[Figure]:
    """The targets for memory, and for what depends on it."""
    return [
        Figure("memory of a live session", bytes_per_session, "bytes", 1500),
        Figure("full garbage collection, 100 000 live sessions", collection_ms, "ms", 20),
        Figure("an event at 1 000 000 live sessions, against 1 000", scaling, "x", 1.5),
    ]


def row(figure: Figure) -> str:
    """One figure as text."""
    aimed = "" if figure.target is None else f"   target {figure.target:g}, {'met' if figure.met else 'MISSED'}"
    return f"{figure.what:<52}{figure.value:>9.2f} {figure.unit}{aimed}"
