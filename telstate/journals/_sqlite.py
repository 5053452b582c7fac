"""A journal in a SQLite database: the one a service runs on.

WAL, synchronous=FULL: an append is one transaction for all entries that came together, and is on the disk when it returns. Marks
that were given before go along in it. Other marks, and the pieces of a checkpoint, do not wait for the disk: if a power failure
loses marks, handlers run again. One process writes a journal at a time; any number may read it meanwhile.

It prunes itself in the disk thread, a few events at a time, between the commits: see `_pruning.py`.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from shutil import disk_usage
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from telstate.errors import JournalError
from telstate.events._dialects.journal import base_line, header_line, wrap
from telstate.journals import _campaign_requests as campaign_requests
from telstate.journals import _outbox as outbox
from telstate.journals import _pruning as pruning
from telstate.journals import _queries as queries
from telstate.journals._archive import Archive, ArchiveEnd
from telstate.journals._database import (
    connect,
    create_or_check,
    explained,
    header_of,
    is_sqlite,
    read_only,
    set_apart,
    transaction,
)
from telstate.journals._disk_thread import DiskThread
from telstate.journals._file_lock import FileLock, WalLock
from telstate.journals._file_watch import FileWatch
from telstate.routing._campaign_wishes import campaign_event
from telstate.routing._checkpoint_codec import decode_checkpoint
from telstate.routing._ports import (
    Base,
    CampaignRequest,
    DeadLetter,
    Entry,
    JournalUsage,
    KeptLetter,
    KeptNotification,
    Notification,
    Record,
)

__all__ = ["SqliteJournal", "base_of_journal", "beginning", "is_sqlite", "lines", "lines_left", "query"]

T = TypeVar("T")

_CHECKPOINT_EVERY = 20_000
"""Reading so many events again takes half a second."""
_PIECE = 1 << 20
"""Bytes of a checkpoint written in one transaction. Appends wait for one piece at most."""
_BASES_IN_KEEP = 8
"""So many bases are kept for the time of `keep`: events are kept an eighth of it longer than asked."""
_BASES_APART = 10.0
"""Seconds between two bases, at least."""
_PRUNE_AT_ONCE = 200
"""Events that are deleted in one transaction: appends wait for one at most."""
_PRUNE_PAUSE = 0.03
"""Seconds between two of them."""
_PRUNE_VISIT = 30
"""So many in one call of `tend`."""
_MARK = "INSERT OR IGNORE INTO done VALUES (?)"
_SLACK = 512
"""Free pages that the file keeps: it needs them again soon."""
_GIVE_BACK_AT_ONCE = 64
"""Pages that are given back in one transaction."""


class SqliteJournal:
    """Keeps events in a SQLite database at `path`, and in `path-wal` and `path-shm` while it is open.

    Args:
        path: the file; it and missing parent folders are created. Not on a network file system: SQLite's locks do not work there.
        keep: how long events stay that are finished and whose sessions have left memory; then they are deleted. None keeps all.
        archive: a file to which events are moved instead, as JSON Lines; compressed if its name ends in `.gz`.
        busy: seconds to wait for another program that writes to the database, such as `telstate dead drop`.

    Raises:
        ValueError: if `keep` is negative.
        TypeError: if it is no timedelta.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        keep: timedelta | None = timedelta(days=30),
        *,
        archive: str | os.PathLike[str] | None = None,
        busy: float = 5.0,
    ) -> None:
        if keep is not None and not isinstance(keep, timedelta):
            raise TypeError(f"keep= takes a timedelta, such as timedelta(days=7), or None, not {keep!r}")
        if keep is not None and keep < timedelta():
            raise ValueError(f"keep= takes a timedelta from 0 on, or None, not {keep!r}")
        self.path: Path = Path(path)
        self._keep = None if keep is None else keep.total_seconds()
        self._archive = None if archive is None else Archive(archive)
        self._busy = busy
        self._database: sqlite3.Connection | None = None
        self._lock: FileLock | None = None
        self._wal_lock: WalLock | None = None
        self._watch: FileWatch | None = None
        self._disk = DiskThread()
        self._saving = anyio.Lock()
        self._id = ""
        self._settings: dict[str, Any] | None = None
        self._seq = 0
        self._asked_at = 0.0
        """When `tend` last asked for a checkpoint."""
        self._done_with_next: Sequence[int] = ()
        self._usage: JournalUsage | None = None

    @property
    def id(self) -> str:
        """The journal's own name, made once."""
        return self._id

    @property
    def settings(self) -> dict[str, Any] | None:
        """The settings that the journal began with; None before `open`."""
        return self._settings

    @property
    def checkpoint_every(self) -> int | None:
        """How many events to step between two checkpoints, at least."""
        return _CHECKPOINT_EVERY

    @property
    def usage(self) -> JournalUsage | None:
        """How much it keeps, as of the last look, which `tend` takes; None before the first."""
        return self._usage

    async def open(self, settings: dict[str, Any]) -> None:
        """Open the database for appending. A new one keeps `settings` in its header.

        Raises:
            JournalError: if another process writes it, or it is not a journal, is damaged, or has another version's schema.
        """
        self._saving = anyio.Lock()
        await self._disk.run(lambda: self._open(settings))

    async def append(self, entries: Sequence[Entry]) -> Sequence[int]:
        """Append entries, all or none. They are on the disk on return. Returns their sequence numbers.

        Raises:
            JournalError: if the disk is full, or the database is locked or damaged. Nothing was appended then.
        """
        if not entries:
            return []
        done, self._done_with_next = self._done_with_next, ()
        return await self._disk.run(lambda: self._append(entries, done))

    def done_with_next(self, seqs: Sequence[int]) -> None:
        """Let the next `append` mark this work as done, in its own transaction: that costs a tenth of one of theirs."""
        self._done_with_next = seqs

    async def read(self, after: int = 0) -> AsyncGenerator[Record, None]:
        """Yield the records after a sequence number, in order."""
        while found := await self._query(partial(queries.records, after=after)):
            for record in found:
                yield record
            after = found[-1].seq

    async def done(self, seqs: Sequence[int]) -> None:
        """Mark work as done, without waiting for the disk."""
        await self._change(_MARK, [(seq,) for seq in seqs], sync=False)

    async def finished(self, seqs: Sequence[int]) -> set[int]:
        """Return which of these are marked as done."""
        return await self._query(partial(queries.finished, seqs=seqs))

    async def save(self, key: str, state: bytes, revision: int | None) -> int:
        """Keep a checkpoint if its revision is still the one given; it replaces the last one when all of it is written.

        Raises:
            RevisionConflict: if it has another revision by now. Nothing was changed.
        """
        new = (revision or 0) + 1
        async with self._saving:  # two saves at once would mix their pieces
            await self._disk.run(lambda: self._begin_saving(key, revision))
            await self._write_pieces(key, new, state)
            await self._disk.run(lambda: self._end_saving(key, revision, new))
        return new

    async def load(self, key: str) -> tuple[bytes, int] | None:
        """Read a checkpoint and its revision."""
        return await self._query(partial(queries.checkpoint, key=key))

    async def add_dead_letters(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters."""
        columns = "seq, reason, handler, detail, at, dialect, payload, facts"
        rows = [
            (*letter[:7], None if letter.facts is None else json.dumps(letter.facts, default=str)) for letter in letters
        ]
        await self._change(f"INSERT INTO dead_letters ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)  # noqa: S608

    async def dead_letters(self, *, retry_requested: bool = False) -> AsyncGenerator[KeptLetter, None]:
        """Yield the dead letters that were not dropped, or only those that somebody asked to retry."""
        after = 0
        while found := await self._query(partial(queries.dead_letters, after=after, only_retry=retry_requested)):
            for kept in found:
                yield kept
            after = found[-1].number

    async def request_retry(self, numbers: Sequence[int]) -> None:
        """Ask to retry dead letters. Works while another process has the journal open: it sees it within seconds."""
        rows = [(number,) for number in numbers]
        await self._change("UPDATE dead_letters SET retry_requested = 1 WHERE number = ?", rows, shared=True)

    async def drop_dead_letters(self, numbers: Sequence[int]) -> None:
        """Forget dead letters. Works while another process has the journal open."""
        rows = [(number,) for number in numbers]
        await self._change("DELETE FROM dead_letters WHERE number = ?", rows, shared=True)

    async def request_campaign(self, campaign: str, wish: str) -> None:
        """Ask something of a campaign: `pause`, `resume` or `stop`. Works while another process has the journal open.

        The process that runs the campaign does it within seconds, else the next one that does. No name is checked: a campaign may be paused
        before its first run.

        Raises:
            ValueError: if the wish is something else.
            JournalError: if it could not be kept.
        """
        campaign_event(campaign, wish)  # it is checked here, where somebody is told
        await self._disk.run(lambda: self._change_shared(partial(campaign_requests.add, campaign=campaign, wish=wish)))

    async def campaign_requests(self, campaign: str) -> list[CampaignRequest]:
        """Return what was asked of a campaign and not dropped, in order."""
        return await self._query(partial(campaign_requests.of_campaign, campaign=campaign))

    async def drop_campaign_requests(self, numbers: Sequence[int]) -> None:
        """Forget what was asked: it was done."""
        await self._disk.run(lambda: self._change_shared(partial(campaign_requests.drop, numbers=numbers)))

    async def outbox_seq(self) -> int:
        """Return the highest number of an event whose messages were added; 0 before the first."""
        return await self._query(outbox.seq)

    async def add_messages(self, messages: Sequence[Notification]) -> None:
        """Keep messages, without waiting for the disk: marks that are added later do not reach it without them."""
        if messages:
            await self._disk.run(lambda: self._change_outbox(partial(outbox.add, messages=messages)))

    async def first_messages(self, target: str, limit: int) -> list[KeptNotification]:
        """Return the first message of each lane of a target, those due first in front."""
        return await self._query(partial(outbox.first, target=target, limit=limit))

    async def postpone_message(self, number: int, attempts: int, due_at: float) -> None:
        """Try a message again later."""
        change = partial(outbox.postpone, number=number, attempts=attempts, due_at=due_at)
        await self._disk.run(lambda: self._change_outbox(change))

    async def hasten_messages(self, target: str, now: float) -> None:
        """Try the first message of each lane of a target now."""
        await self._disk.run(lambda: self._change_outbox(partial(outbox.hasten, target=target, now=now)))

    async def remove_messages(self, numbers: Sequence[int]) -> None:
        """Forget messages. The next ones of their lanes are due."""
        await self._disk.run(lambda: self._change_outbox(partial(outbox.remove, numbers=numbers)))

    async def count_messages(self) -> dict[str, int]:
        """Return how many messages wait for each target."""
        return await self._query(outbox.count)

    async def tend(self, now: float | None) -> bool:
        """Check the files, as each write does too, and delete or archive some of what is older than `keep`.

        Returns:
            True if a checkpoint is wanted: what it has may be deleted later.

        Raises:
            JournalError: if the files are not those that were opened: nothing is kept any more until the journal is opened
                again. Or if the archive cannot be written: nothing is deleted then.
        """
        await self._disk.run(self._check_files)
        if self._keep is None or now is None:
            return False
        keep = self._keep
        await self._disk.run(lambda: self._activate(now - keep))
        for _ in range(_PRUNE_VISIT):
            if not await self._prune():
                break
            await anyio.sleep(_PRUNE_PAUSE)
        if now < self._asked_at + _BASES_APART or not await self._disk.run(lambda: self._wants_base(now)):
            return False
        self._asked_at = now
        return True

    async def prune(self) -> int:
        """Delete or archive everything that the active base allows; return how many events."""
        count = 0
        while removed := await self._prune():
            count += removed
        return count

    async def give_all_back(self) -> None:
        """Write the database anew, without its free pages. Takes as long as that, and as much space meanwhile."""
        await self._disk.run(self._vacuum)

    async def keep_base(self, base: Base) -> None:
        """Keep a checkpoint as a base, unless there is one that is young enough."""
        async with self._saving:
            if self._keep is None or not await self._disk.run(lambda: self._wants_base(max(base.at, self._asked_at))):
                return
            await self._add_base(base)

    async def use_base(self, base: Base) -> None:
        """Keep a checkpoint as a base, and prune what is before it from now on."""
        async with self._saving:
            await self._add_base(base)
            await self._disk.run(lambda: self._activate(float("inf")))

    async def base(self) -> Base | None:
        """Return the base that stands for the events that were pruned; None if none were."""
        return await self._query(pruning.active_base)

    async def aclose(self) -> None:
        """Close the database."""
        await self._disk.run(self._close)

    async def _add_base(self, base: Base) -> None:
        await self._write_pieces(pruning.KEY, base.seq, base.state)
        await self._disk.run(lambda: self._add_candidate(base))

    async def _write_pieces(self, key: str, revision: int, state: bytes) -> None:
        for place, start in enumerate(range(0, len(state) or 1, _PIECE)):
            piece = [(key, revision, place, state[start : start + _PIECE])]
            await self._change("INSERT OR REPLACE INTO pieces VALUES (?, ?, ?, ?)", piece, sync=False)

    async def _prune(self) -> int:
        """Delete the next events, or move them to the archive; return how many. When there are none, give pages back."""
        rows = await self._query(partial(pruning.old_events, limit=_PRUNE_AT_ONCE))
        if not rows:
            return await self._disk.run(self._give_back) and 1
        end = None
        if self._archive is not None:
            end = await self._query(archive_end)
            lines = [wrap(*row) for row in rows]
            header = header_line(self._id, self._settings or {})
            with explained(self._archive.path):  # not in the disk thread: an append does not wait for this file
                end = await anyio.to_thread.run_sync(self._archive.add, lines, header, end)
        await self._disk.run(lambda: self._remove(rows[-1][0], end))
        return len(rows)

    async def _query(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        return await self._disk.run(lambda: query(self.path, ask, self._database))

    async def _change(
        self, statement: str, rows: Sequence[tuple[Any, ...]], *, sync: bool = True, shared: bool = False
    ) -> None:
        if rows:
            await self._disk.run(lambda: self._execute(statement, rows, sync=sync, shared=shared))

    # --- in the disk thread ---------------------------------------------------------------------------------------

    def _open(self, settings: dict[str, Any]) -> None:
        if self._lock is not None:
            raise JournalError(f"{self.path} is open already: one journal serves one dispatcher")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise JournalError(
                f"the folder {self.path.parent} cannot be made: {error.strerror}. Make it, and let this user write there, or use another file"
            ) from error
        self._lock = FileLock(self.path)
        try:
            with explained(self.path):
                wal = set_apart(self.path)
                self._database = connect(self.path, busy=self._busy)
                create_or_check(self._database, settings)
                self._id, self._settings = header_of(self._database)
                self._wal_lock = WalLock(wal)
                self._watch = FileWatch(self.path, self._lock, self._database, self._id)
                self._seq = self._database.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0]
        except BaseException:
            self._close()
            raise

    def _append(self, entries: Sequence[Entry], done: Sequence[int]) -> list[int]:
        seqs = list(range(self._seq + 1, self._seq + 1 + len(entries)))
        rows = [(seq, entry.at, entry.dialect, entry.payload) for seq, entry in zip(seqs, entries, strict=True)]
        with self._writable() as database, transaction(database):
            database.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
            if done:
                database.executemany(_MARK, [(seq,) for seq in done])
        self._seq = seqs[-1]
        return seqs

    def _execute(
        self, statement: str, rows: Sequence[tuple[Any, ...]], *, sync: bool = True, shared: bool = False
    ) -> None:
        with (
            self._writable(shared=shared) as database,
            nullcontext() if sync else _unsynced(database),
            transaction(database),
        ):
            database.executemany(statement, rows)

    def _change_shared(self, change: Callable[[sqlite3.Connection], None]) -> None:
        with self._writable(shared=True) as database, transaction(database):
            change(database)

    def _change_outbox(self, change: Callable[[sqlite3.Connection], None]) -> None:
        with self._writable() as database, _unsynced(database), transaction(database):
            change(database)

    def _begin_saving(self, key: str, revision: int | None) -> None:
        with self._writable() as database, transaction(database):
            queries.expect_revision(database, key, revision)
            # What a save that was cut short left behind.
            database.execute("DELETE FROM pieces WHERE key = ? AND revision <> ?", (key, revision or 0))

    def _end_saving(self, key: str, revision: int | None, new: int) -> None:
        with self._writable() as database, transaction(database):
            queries.expect_revision(database, key, revision)
            database.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?)", (key, new))
            database.execute("DELETE FROM pieces WHERE key = ? AND revision <> ?", (key, new))

    def _activate(self, before: float) -> None:
        with self._writable() as database:
            pruning.activate(database, before)

    def _wants_base(self, now: float) -> bool:
        if self._keep is None or self._database is None:
            return False
        last = pruning.last_candidate(self._database)
        if last is None:
            return self._seq > 0
        is_of_use = last.oldest < self._seq  # else there is nothing between it and a new one
        return is_of_use and now >= last.at + max(self._keep / _BASES_IN_KEEP, _BASES_APART)

    def _add_candidate(self, base: Base) -> None:
        with self._writable() as database:
            pruning.add_candidate(database, base)

    def _remove(self, last: int, end: ArchiveEnd | None) -> None:
        with self._writable() as database, _unsynced(database), transaction(database):
            pruning.remove(database, last)
            if end is not None:
                database.execute("DELETE FROM archive")
                database.execute("INSERT INTO archive VALUES (?, ?, ?)", end)

    def _give_back(self) -> bool:
        """Give free pages back to the system; return whether there may be more."""
        with self._writable() as database, _unsynced(database):
            free = database.execute("PRAGMA freelist_count").fetchone()[0]
            if free <= _SLACK or not database.execute("PRAGMA auto_vacuum").fetchone()[0]:
                return False
            database.executescript(f"PRAGMA incremental_vacuum({_GIVE_BACK_AT_ONCE})")  # `execute` does one page only
            assert self._watch is not None  # noqa: S101
            self._watch.is_shrinking()
            return True

    def _vacuum(self) -> None:
        with self._writable() as database:
            database.execute("PRAGMA auto_vacuum=INCREMENTAL")  # a journal of an earlier schema begins with it here
            database.execute("VACUUM")
            assert self._watch is not None  # noqa: S101
            self._watch.is_shrinking()

    def _check_files(self) -> None:
        with self._writable() as database:
            self._usage = self._look_at_usage(database)

    def _look_at_usage(self, database: sqlite3.Connection) -> JournalUsage:
        first = database.execute("SELECT min(seq) FROM events").fetchone()[0]
        with suppress(OSError):
            wal = self.path.with_name(f"{self.path.name}-wal")
            size = self.path.stat().st_size + (wal.stat().st_size if wal.exists() else 0)
            return JournalUsage(size, 0 if first is None else self._seq + 1 - first, disk_usage(self.path.parent).free)
        return JournalUsage(None, None, None)

    @contextmanager
    def _writable(self, *, shared: bool = False) -> Iterator[sqlite3.Connection]:
        """Give the open database, or, if `shared`, a connection of its own: another process may have the journal open."""
        with explained(self.path):
            if self._database is not None and self._watch is not None:
                self._watch.before_write()
                yield self._database
                self._watch.check()  # nothing is acknowledged that went to a file that is gone by now
            elif not shared:
                raise JournalError(f"{self.path} is not open")
            elif not self.path.exists():
                raise JournalError(f"there is no journal {self.path}")
            else:
                with closing(connect(self.path, busy=self._busy)) as database:
                    yield database

    def _close(self) -> None:
        database, self._database = self._database, None
        lock, self._lock = self._lock, None
        wal_lock, self._wal_lock = self._wal_lock, None
        watch, self._watch = self._watch, None
        try:
            if database is not None:
                if watch is not None:
                    watch.before_close()
                database.close()  # it removes no file of that name if the database is another one by now
        finally:
            if wal_lock is not None:
                wal_lock.release()
            if lock is not None:
                lock.release()


def _engine_of(base: Base, path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        engine: dict[str, Any] = decode_checkpoint(base.state)["engine"]
    except Exception as error:
        raise JournalError(f"{path}: its base, which stands for what was pruned, is damaged: {error!r}") from error
    return engine


@contextmanager
def _unsynced(database: sqlite3.Connection) -> Iterator[None]:
    """Do not wait for the disk: the next transaction with FULL syncs this one too."""
    database.execute("PRAGMA synchronous=NORMAL")
    try:
        yield
    finally:
        database.execute("PRAGMA synchronous=FULL")


def archive_end(database: sqlite3.Connection) -> ArchiveEnd | None:
    """Return where the archive ended when something was last deleted."""
    row = database.execute("SELECT device, inode, length FROM archive").fetchone()
    return None if row is None else ArchiveEnd(*row)


def lines(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """Yield a journal as the lines of a log: its header, its base if it was pruned, then its events. Also while a service writes it.

    Raises:
        JournalError: if it is not a journal, is damaged, or has another version's schema; or if it was pruned meanwhile, beyond
            the events that were read.
    """
    begin, seq = beginning(path)
    yield from begin
    yield from _event_lines(path, seq)


def lines_left(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """Yield the header, then all events that are left. Of a journal that was pruned, see `base_of_journal` for what these are.

    Raises:
        JournalError: as `lines`.
    """
    yield header_line(*query(path, header_of))
    yield from _event_lines(path, query(path, queries.first) - 1)


def base_of_journal(path: str | os.PathLike[str]) -> Base | None:
    """Return the base of a journal that was pruned: of sessions that are not among its known ones, the first events may be gone.

    Raises:
        JournalError: as `lines`.
    """
    return query(path, pruning.active_base)


def _event_lines(path: str | os.PathLike[str], after: int) -> Iterator[bytes]:
    seq = after
    while found := query(path, partial(queries.records, after=seq)):
        if found[0].seq > seq + 1 and query(path, pruning.pruned_below) > seq + 1:
            raise JournalError(f"{path} was pruned while it was read: read it again")
        for seq, at, dialect, payload, *_ in found:
            yield wrap(seq, at, dialect, payload)


def beginning(path: str | os.PathLike[str]) -> tuple[list[bytes], int]:
    """Return the first lines of a journal, its header and its base, and the number of the last event that the base stands for.

    Raises:
        JournalError: as `lines`.
    """
    header, base = header_line(*query(path, header_of)), query(path, pruning.active_base)
    if base is None:
        return [header], 0
    return [header, base_line(base.seq, _engine_of(base, path))], base.seq


def query(
    path: str | os.PathLike[str], ask: Callable[[sqlite3.Connection], T], database: sqlite3.Connection | None = None
) -> T:
    """Query the open database, or one that is opened for this.

    Raises:
        JournalError: as `lines`.
    """
    with explained(Path(path)):
        if database is not None:
            return ask(database)
        with closing(read_only(Path(path))) as opened:
            return ask(opened)
