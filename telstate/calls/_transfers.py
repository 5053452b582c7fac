"""Transfers: the targets a session was transferred to, and what became of each.

Daily has no event that says that a transfer failed, and an accepted transfer need not succeed: callers talk on with the bot
while the target does not answer. So a session keeps each target with the evidence for it, and the outcome follows from the
evidence whenever it is asked for. It is never stored, so it converges like the state: times decide, never arrival.

The evidence of a target is a JSON object in `session._rare["transfers"]`, by its plain address (`_address.py`):

- `to`, `to_at`: its address in the spelling with the earliest time
- `steps`: for each step (`requested`, `triggered`, `initiated`, `answered`, `completed`, `failed`) its earliest and latest
  time, or an empty list if it has no time
- `leg`: its far leg, if one is known (`_far_legs.py`): its session id, the time of its first event, whether it was answered,
  whether it ended
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from telstate.calls._address import plain_uri
from telstate.calls._signs import CLOCKS_DIFFER

__all__ = [
    "HANDED_OVER_WITHIN",
    "ROUNDING",
    "TransferOutcome",
    "TransferRecord",
    "accepted_at",
    "add_step",
    "begins_from",
    "latest_times",
    "picked_up_at",
    "records_of",
    "targets_of",
    "transferred_to",
]

Target = dict[str, Any]

_ACCEPTED_BY_DAILY = ("triggered", "initiated")
_ACCEPTED = ("requested", *_ACCEPTED_BY_DAILY)
"""The steps that say that a transfer was accepted, not that anybody picked up."""
_PICKED_UP = ("answered", "completed")

ROUNDING = 1.0
"""Seconds by which a far leg may seem to begin before the acceptance: webhooks round to whole seconds."""
HANDED_OVER_WITHIN = 60.0
"""Seconds after the acceptance within which a leg that is transferred ends."""
_MAX_TARGETS = 8
_MAX_TIMES = 8


class TransferOutcome(StrEnum):
    """What became of a transfer to one target."""

    REACHED = "reached"
    """The target picked up: Daily reported it, or the far leg was answered (a dial-in: connected)."""
    HANDED_OVER = "handed-over"
    """The session ended by the transfer. No event says whether the target picked up, as after a SIP REFER."""
    NOT_REACHED = "not-reached"
    """The target did not pick up, or the call went on without it."""
    PENDING = "pending"
    """The session lives, and nothing is known yet."""


class TransferRecord(NamedTuple):
    """One target of a session's transfers, and what became of it."""

    target: str | None
    """The number or SIP address; None if no event named it."""
    outcome: TransferOutcome


def add_step(
    targets: Mapping[str, Target], to: str | None, step: str, at: float | None
) -> tuple[dict[str, Target], str | None]:
    """Add a step of a transfer; return the targets, and the plain address of one that had to leave for it.

    A session keeps eight targets. A ninth replaces the one that was accepted first.
    """
    plain = plain_uri(to) if to else ""
    target = targets.get(plain) or {"to": to or None, "to_at": at, "steps": {}}
    if to and at is not None and (target["to_at"] is None or (at, to) < (target["to_at"], target["to"])):
        target = {**target, "to": to, "to_at": at}
    elif to and at is None and target["to_at"] is None and to < target["to"]:
        target = {**target, "to": to}
    kept = {**targets, plain: _with_step(target, step, at)}
    if len(kept) <= _MAX_TARGETS:
        return kept, None
    oldest = min(kept, key=lambda key: _place(kept[key]))
    del kept[oldest]
    return kept, oldest


def latest_times(times: Iterable[float | None], at: float | None) -> list[float | None]:
    """Add a time to the latest eight different ones. None, an unknown time, is one of them."""
    return sorted({*times, at}, key=lambda time: float("inf") if time is None else time)[-_MAX_TIMES:]


def targets_of(transfers: Mapping[str, Target] | None) -> dict[str, Target]:
    """Return the targets by their plain address; none for None. A step that named none belongs to the only target until then."""
    if not transfers:
        return {}
    if "" not in transfers or len(transfers) == 1:
        return dict(transfers)
    targets = {plain: target for plain, target in transfers.items() if plain}
    first, *later = sorted(targets, key=lambda plain: _place(targets[plain]))
    until = _place(targets[later[0]])[1] if later else None
    for step, times in transfers[""]["steps"].items():
        for at in times or (None,):
            is_of_first = until is None or (at is not None and at < until)
            plain = first if is_of_first else ""
            targets[plain] = _with_step(targets.get(plain) or {**transfers[""], "steps": {}}, step, at)
    return targets


def _with_step(target: Target, step: str, at: float | None) -> Target:
    times = target["steps"].get(step, [])
    if at is not None:
        times = [min((*times, at)), max((*times, at))]
    return {**target, "steps": {**target["steps"], step: times}}


def accepted_at(target: Target) -> float | None:
    """Return when a transfer to a target was accepted last; None if that is not known."""
    return max((time for step in _ACCEPTED for time in target["steps"].get(step, ())), default=None)


def begins_from(target: Target) -> float | None:
    """Return from when on the far leg of a transfer may begin; None if it is not known when the transfer was accepted.

    This program notes a request when Daily has answered it, by another clock than Daily's, so Daily's own time is better.
    """
    steps: Mapping[str, list[float]] = target["steps"]
    told = max((time for step in _ACCEPTED_BY_DAILY for time in steps.get(step, ())), default=None)
    requested = max(steps.get("requested", ()), default=None)
    if told is not None and (requested is None or requested <= told + CLOCKS_DIFFER):
        return told - ROUNDING
    return None if requested is None else requested - CLOCKS_DIFFER


def picked_up_at(target: Target) -> float | None:
    """Return the earliest time at which a target is said to have picked up; None if that is not known."""
    return min((time for step in _PICKED_UP for time in target["steps"].get(step, ())), default=None)


def records_of(
    transfers: Mapping[str, Target],
    *,
    ended: bool,
    end_known: bool,
    ended_at: float | None,
    alive_at: float | None,
    stopped_at: Iterable[float | None],
) -> tuple[TransferRecord, ...]:
    """Derive what became of each target of a session, in the order in which they were first accepted.

    Args:
        transfers: the evidence.
        ended: whether the session ended.
        end_known: whether the end is more than an assumption after silence.
        ended_at: when it ended.
        alive_at: its last sign of life.
        stopped_at: when this program requested its stop.
    """
    targets = sorted(targets_of(transfers).values(), key=_place)
    last = max((place for place, target in enumerate(targets) if _is_accepted(target)), default=0)

    def outcome(place: int, target: Target) -> TransferOutcome:
        accepted, leg = accepted_at(target), target.get("leg")
        if any(step in target["steps"] for step in _PICKED_UP) or (leg and leg[2]):
            return TransferOutcome.REACHED
        if (
            _has_failed(target, accepted)
            or (leg and leg[3])
            or place < last  # another target was accepted later
            or (accepted is not None and alive_at is not None and alive_at > accepted + CLOCKS_DIFFER)
            or any(_is_between(accepted, at, ended_at if ended else None) for at in stopped_at)
        ):
            return TransferOutcome.NOT_REACHED
        if not ended:
            return TransferOutcome.PENDING
        in_time = None in (accepted, ended_at) or ended_at - accepted <= HANDED_OVER_WITHIN  # type: ignore[operator]
        return TransferOutcome.HANDED_OVER if end_known and in_time else TransferOutcome.NOT_REACHED

    return tuple(TransferRecord(target["to"], outcome(place, target)) for place, target in enumerate(targets))


def transferred_to(records: Iterable[TransferRecord]) -> TransferRecord | None:
    """Return where a session was transferred to: the latest target that was reached, else the latest handed over to."""
    found = None
    for record in records:
        if record.outcome is TransferOutcome.REACHED or (
            record.outcome is TransferOutcome.HANDED_OVER
            and (found is None or found.outcome is TransferOutcome.HANDED_OVER)
        ):
            found = record
    return found


def _is_accepted(target: Target) -> bool:
    return any(step in target["steps"] for step in _ACCEPTED)


def _place(target: Target) -> tuple[bool, float, str]:
    """Sort targets by their first acceptance, then by text. One that was never accepted has its first other step."""
    steps = target["steps"]
    first = min((time for step in _ACCEPTED for time in steps.get(step, ())), default=None)
    if first is None and not _is_accepted(target):
        first = min((time for times in steps.values() for time in times), default=None)
    return (first is not None, first or 0.0, target["to"] or "")


def _has_failed(target: Target, accepted: float | None) -> bool:
    """Return whether a transfer failed, and was not accepted again since."""
    times = target["steps"].get("failed")
    if times is None:
        return False
    return not times or accepted is None or accepted <= times[1] + CLOCKS_DIFFER


def _is_between(accepted: float | None, stopped: float | None, ended: float | None) -> bool:
    """Return whether a stop was requested between the acceptance and the end, as far as the times are known."""
    after = accepted is None or stopped is None or accepted <= stopped
    return after and (ended is None or stopped is None or stopped <= ended + CLOCKS_DIFFER)
