"""Whether the journal keeps events: what its last failure was, and since when an append is under way.

The sequencer says what became of each append. A journal that has failed counts as failed until it has kept something: an event,
or what `probe` writes, because a service that is not ready may get no events any more.
"""

from __future__ import annotations

from time import monotonic

from telstate.errors import RevisionConflict
from telstate.routing._abilities import abilities_of
from telstate.routing._cancellation import own_cancellation_only
from telstate.routing._log import Log, text_of
from telstate.routing._ports import Journal

__all__ = ["JournalHealth"]

_KEY = "probe"
"""The name of the checkpoint that a probe writes."""
_PROBE = bytes(8192)
"""Larger than a page of a database, so that a full disk refuses it."""
_HANGS_AFTER = 5.0
"""Seconds after which an append that has not returned is one that hangs."""
_SAY_EVERY = 10.0


class JournalHealth:
    """What is known of a journal.

    Args:
        journal: open, once `probe` is called.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._probe = abilities_of(journal).probe
        self._failed_since: float | None = None
        self._reason = ""
        self._refused = 0
        self.refused: int = 0
        """How many events were not taken in since the journal was opened."""
        self._appending_since: float | None = None
        self._said_hangs = 0.0
        self._log = Log(burst=1, every=_SAY_EVERY)

    def begin(self) -> None:
        """A commit begins."""
        self._appending_since = monotonic()

    def kept(self) -> None:
        """An append has returned, and its events are kept."""
        if self._failed_since is not None:
            seconds, refused = round(monotonic() - self._failed_since, 1), self._refused
            self._failed_since, self._refused = None, 0
            self._log.warning("journal.keeps_events_again", seconds=seconds, refused=refused)

    def failed(self, error: Exception, events: int) -> None:
        """An append has failed. The log says so once, then every ten seconds while it goes on.

        Args:
            error: why.
            events: how many were not taken in.
        """
        self._reason = text_of(error)
        self._refused += events
        self.refused += events
        if self._failed_since is None:
            self._failed_since = monotonic()
        hint = "events are refused until it can; the senders are asked to retry"
        self._log.error("journal.cannot_keep_events", reason=self._reason, refused=self._refused, hint=hint)

    def end(self) -> None:
        """The commit has ended, also where it was cut off."""
        self._appending_since = None

    @property
    def has_failed(self) -> bool:
        """True from a failure until something was kept."""
        return self._failed_since is not None

    @property
    def problem(self) -> str | None:
        """Why events cannot be kept now, in words; None if they can."""
        if self._failed_since is not None:
            return f"the journal cannot keep events: {self._reason}"
        seconds = self.appending_s
        if seconds >= _HANGS_AFTER:
            return f"the journal has not answered for {seconds:.0f} seconds: its disk or its server hangs, or is much too slow"
        return None

    def look(self) -> None:
        """Log an append that hangs. Called now and then."""
        seconds = self.appending_s
        if seconds >= _HANGS_AFTER and monotonic() - self._said_hangs >= _SAY_EVERY:
            self._said_hangs = monotonic()
            hint = "its disk or its server hangs, or is much too slow; events wait"
            self._log.error("journal.hangs", seconds=round(seconds, 1), hint=hint)

    async def probe(self) -> None:
        """Write something small, and remove the failure if that works."""
        try:
            with own_cancellation_only():
                if self._probe is not None:
                    await self._probe()
                    self.kept()
                    return
                found = await self._journal.load(_KEY)
                await self._journal.save(_KEY, _PROBE, None if found is None else found[1])
        except RevisionConflict:
            pass  # somebody else wrote: that works, then
        except Exception as error:
            self._reason = text_of(error)
            return
        self.kept()

    @property
    def appending_s(self) -> float:
        """How long the append that is under way has taken so far, in seconds; 0 if none is."""
        return 0.0 if self._appending_since is None else monotonic() - self._appending_since
