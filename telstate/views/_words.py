"""Words and numbers as all reports show them."""

from __future__ import annotations

from collections.abc import Mapping

from telstate.calls._table import EndSign
from telstate.calls._transfers import TransferOutcome

__all__ = ["SIGNS", "TRANSFERS", "duration"]

SIGNS: Mapping[EndSign, str] = {
    EndSign.PARTICIPANT_LEFT: "the participant left",
    EndSign.MEETING_ENDED: "the meeting ended",
    EndSign.CLIENT_LEFT: "our call client left",
    EndSign.NEXT_CALLER: "another caller came on its endpoint",
    EndSign.GONE: "Daily does not know the call any more",
}

TRANSFERS: Mapping[TransferOutcome, str] = {
    TransferOutcome.REACHED: "reached",
    TransferOutcome.HANDED_OVER: "handed over, no event says whether it was reached",
    TransferOutcome.NOT_REACHED: "not reached",
    TransferOutcome.PENDING: "pending",
}


def duration(seconds: float | None) -> str:
    """Seconds as people write them: 1.2s, 45s, 3m07s, 2h05m; empty if unknown."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02}m"
