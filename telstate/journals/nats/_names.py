"""The names of everything in NATS: of the streams and the subjects of one app in one environment.

    telstate-default-events     telstate-default.in.<room>        what receivers publish; the server maps it to the next one
                                telstate-default.ev.<p>.in        the same in the stream, in the partition of the room
                                telstate-default.ev.<p>.own       what the owner of the partition appends
    telstate-default-marks      telstate-default.done.<p>         lists of numbers of finished work
                                telstate-default.again.<p>        lists of numbers of dead letters to retry
    telstate-default-dead       telstate-default.dead.<p>         dead letters
    telstate-default-state      telstate-default.state.<p>.head, .pointer, .piece.<save>.<n>     settings and checkpoints
    telstate-default-owners     telstate-default.own.w.<worker>, .own.p.<p>
    telstate-default-views      telstate-default.view.<p>.<kind>.<id>     what is known in a partition, for all others

`telstate` is the app and `default` the environment; both have these defaults. A subject of a receiver never becomes one of an
owner, so permissions can keep the two apart. NATS has no wildcards inside a token: permissions list each stream by its name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b

from telstate.errors import DefinitionError

__all__ = ["DEFAULT_APP", "DEFAULT_ENVIRONMENT", "Names", "partition_of", "room_token"]

DEFAULT_APP = "telstate"
DEFAULT_ENVIRONMENT = "default"

_app = re.compile(r"[a-z0-9_-]{1,64}").fullmatch
_environment = re.compile(r"[a-z0-9_]{1,64}").fullmatch
_plain = re.compile(r"[A-Za-z0-9_-]{1,100}").fullmatch


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one app in one environment. Whoever has the same ones shares the same streams.

    Raises:
        DefinitionError: if one of them has other characters.
    """

    app: str = DEFAULT_APP
    """Lower-case letters, digits, `_` and `-`."""
    environment: str = DEFAULT_ENVIRONMENT
    """The same without `-`, so that no two pairs have the same names."""

    def __post_init__(self) -> None:
        """Check them."""
        if not _app(self.app):
            raise DefinitionError(f"app: expected 1 to 64 of a-z, 0-9, _ and -, got {self.app!r}")
        if not _environment(self.environment):
            raise DefinitionError(f"environment: expected 1 to 64 of a-z, 0-9 and _, got {self.environment!r}")

    @property
    def prefix(self) -> str:
        """What every name begins with: one token."""
        return f"{self.app}-{self.environment}"

    # --- streams --------------------------------------------------------------------------------------------------

    @property
    def events(self) -> str:
        """The stream of the events."""
        return f"{self.prefix}-events"

    @property
    def marks(self) -> str:
        """The stream of what is done."""
        return f"{self.prefix}-marks"

    @property
    def dead(self) -> str:
        """The stream of the dead letters."""
        return f"{self.prefix}-dead"

    @property
    def state(self) -> str:
        """The stream of the settings and checkpoints."""
        return f"{self.prefix}-state"

    @property
    def owners(self) -> str:
        """The stream of workers and owners."""
        return f"{self.prefix}-owners"

    @property
    def views(self) -> str:
        """The stream of what the owners of partitions show to all others."""
        return f"{self.prefix}-views"

    @property
    def streams(self) -> tuple[str, ...]:
        """All of them."""
        return self.events, self.marks, self.dead, self.state, self.owners, self.views

    # --- subjects -------------------------------------------------------------------------------------------------

    def received(self, token: str) -> str:
        """Where a receiver publishes an event; `*` for all rooms. See `room_token`."""
        return f"{self.prefix}.in.{token}"

    def events_in(self, partition: int | str) -> str:
        """Where the events of receivers are in the stream."""
        return f"{self.prefix}.ev.{partition}.in"

    def events_own(self, partition: int | str) -> str:
        """Where the owner of a partition publishes its events."""
        return f"{self.prefix}.ev.{partition}.own"

    def events_of(self, partition: int | str) -> str:
        """All events of a partition; `*` for those of all partitions."""
        return f"{self.prefix}.ev.{partition}.*"

    def done(self, partition: int | str) -> str:
        """The marks of a partition."""
        return f"{self.prefix}.done.{partition}"

    def again(self, partition: int | str) -> str:
        """The requests to retry dead letters of a partition."""
        return f"{self.prefix}.again.{partition}"

    def letters(self, partition: int | str) -> str:
        """The dead letters of a partition."""
        return f"{self.prefix}.dead.{partition}"

    def head(self, partition: int | str) -> str:
        """The settings of a partition."""
        return f"{self.prefix}.state.{partition}.head"

    def pointer(self, partition: int | str) -> str:
        """What says where a partition's checkpoints are, and who owns them."""
        return f"{self.prefix}.state.{partition}.pointer"

    def piece(self, partition: int | str, save: str, number: int | str) -> str:
        """A piece of a checkpoint."""
        return f"{self.prefix}.state.{partition}.piece.{save}.{number}"

    def worker(self, worker: str) -> str:
        """The key of a worker."""
        return f"{self.prefix}.own.w.{worker}"

    def owner(self, partition: int | str) -> str:
        """The key that says who owns a partition."""
        return f"{self.prefix}.own.p.{partition}"

    @property
    def ownership(self) -> str:
        """All keys of workers and owners."""
        return f"{self.prefix}.own.>"

    def view(self, partition: int | str, kind: str, token: str) -> str:
        """What a partition shows: a session, a caller, an endpoint or the answer to a request. See `room_token`."""
        return f"{self.prefix}.view.{partition}.{kind}.{token}"

    @property
    def shown(self) -> str:
        """All that is shown."""
        return f"{self.prefix}.view.>"


def room_token(room: str) -> str:
    """Return a room's name, or any other id, as one token of a subject: as it is where that is possible, else a hash of it.

    Should two rooms have one token, they only share a partition.
    """
    return room if _plain(room) else "x" + blake2b(room.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def partition_of(token: str, partitions: int) -> int:
    """Return the partition to which the server maps a token: FNV-1a, 32 bits, modulo the number of partitions."""
    number = 0x811C9DC5
    for byte in token.encode():
        number = ((number ^ byte) * 0x01000193) & 0xFFFFFFFF
    return number % partitions
