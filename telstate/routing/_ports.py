"""What the edges must offer: a journal, a clock, a way to act. Whatever has these methods will do; for each there is one suite
of tests that holds all of its kind."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple, Protocol

from telstate.calls._session import Session

__all__ = ["Clock", "Control", "DeadLetter", "Entry", "Journal", "KeptLetter", "Record"]


class Entry(NamedTuple):
    """One payload to keep."""

    at: float
    """When it was received, in Unix seconds."""
    dialect: str
    payload: bytes
    """The JSON object as it came."""


class Record(NamedTuple):
    """One payload that is kept."""

    seq: int
    """Its place: numbers rise, from 1."""
    at: float
    dialect: str
    payload: bytes
    done: bool
    """True if all its handlers are known to have run."""


class DeadLetter(NamedTuple):
    """Something that was given up, to be looked at by a person, with all it takes to try it again."""

    seq: int
    """The number of the work: see `Journal`. 0 for a payload that no journal has."""
    reason: str
    """`LaneFull`, or the name of the exception."""
    handler: str | None
    """The handler that was not run to its end; None for all of the event's."""
    detail: str
    """The exception's text."""
    at: float
    """When it was given up, in Unix seconds."""
    dialect: str = "daily-js"
    payload: bytes = b""
    """The event; empty where a session was to be retired."""
    facts: dict[str, Any] | None = None
    """What else its handlers were given: see `telstate.routing._job_codec`."""


class KeptLetter(NamedTuple):
    """A dead letter in a journal."""

    number: int
    """Its number there, from 1."""
    letter: DeadLetter
    again: bool
    """True if somebody asked to try it again."""


class Journal(Protocol):
    """An append-only log of payloads, with marks that say which were handled, checkpoints, and dead letters.

    Work is numbered: n is the handlers of event n, and -n the handlers of the retirement of the session that event n opened.

    `read` and `letters` work without `open` too, on what another process may be writing just then.
    """

    @property
    def id(self) -> str:
        """The journal's own name, made once: with a sequence number it names an event for good."""

    @property
    def settings(self) -> dict[str, Any] | None:
        """The settings that the journal was begun with; None in a new one."""

    async def open(self, settings: dict[str, Any]) -> None:
        """Make ready to append. A new journal keeps `settings` in its head."""

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Keep entries, all or none; durable on return. Returns their sequence numbers."""

    def read(self, after: int = 0) -> AsyncGenerator[Record, None]:
        """Read what was kept after a sequence number, in order."""

    async def done(self, seqs: Sequence[int]) -> None:
        """Mark work as done. May be lost in a crash: then its handlers run again."""

    async def finished(self, seqs: Sequence[int]) -> set[int]:
        """Tell which of these are marked."""

    async def save(self, key: str, state: bytes, revision: int | None) -> int:
        """Keep a checkpoint if its revision is still the one given (None: there is none yet). Returns the new revision.

        Raises:
            RevisionConflict: if somebody else saved since.
        """

    async def load(self, key: str) -> tuple[bytes, int] | None:
        """Read a checkpoint and its revision."""

    async def dead(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters."""

    def letters(self, *, again: bool = False) -> AsyncGenerator[KeptLetter, None]:
        """Read the dead letters that were not dropped, in order; or only those that somebody asked to try again."""

    async def retry(self, numbers: Sequence[int]) -> None:
        """Ask to try letters again. Whoever runs the handlers does it."""

    async def drop(self, numbers: Sequence[int]) -> None:
        """Forget letters."""

    async def aclose(self) -> None:
        """Write what is late, and let go."""


class Clock(Protocol):
    """The time, and the waiting for it."""

    timers: bool
    """False where time is only that of a recorded log, which has no timers to fire."""

    def now(self) -> float | None:
        """Unix seconds; None where no time was told yet."""

    def follow(self, at: float | None) -> None:
        """Told of the time that each payload carries, if it does."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class Control(Protocol):
    """A way to act on a call: Daily's REST API or a call client; see `telstate.control`.

    Every method returns once Daily has accepted. All raise:
        DailyError: if Daily refused; the subclass says why. `UnknownResult` if its answer was lost.
        NotSupported: if this way cannot carry it. Nothing was sent.
        ValueError: if an argument is none that Daily takes. Nothing was sent.
    """

    async def stop(self, session: Session) -> None:
        """End a session."""

    async def send_dtmf(
        self, session: Session, tones: str, *, method: str | None = None, digit_duration_ms: int | None = None
    ) -> None:
        """Press keys."""

    async def transfer(
        self,
        session: Session,
        to: str,
        *,
        caller_id: str | None = None,
        extension: str | None = None,
        wait_before_extension_dial_sec: int | None = None,
    ) -> None:
        """Hand a session on to a SIP URI or a number; Daily stays in its path."""

    async def refer(self, session: Session, to: str) -> None:
        """Hand a session on to a SIP URI; Daily leaves it."""

    async def forward(self, call_id: str, call_domain: str, sip_endpoint: str) -> None:
        """Connect a caller on hold to a SIP endpoint that is ready."""
