"""What a dialer needs of a way to Daily: more than acting on a session, because there is none yet."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from telstate.control.options import Dialout
from telstate.routing.ports import Control

__all__ = ["Carrier", "Present"]


class Present(NamedTuple):
    """Somebody who is in a room."""

    session_id: str
    user_id: str | None = None
    """The `userId` that a dial-out was started with, or that of a meeting token."""
    user_name: str | None = None


class Carrier(Control, Protocol):
    """A way to Daily by which calls can be made and found again: `RestControl`, `ClientControl`, `TransportControl`."""

    async def start(self, options: Dialout, room: str | None = None) -> str:
        """Start a dial-out; return the session id that Daily gave it.

        Raises:
            DailyError: if Daily refused, and no call was made; the subclass says why.
            UnknownResult: if the answer was lost, or too late: there may be a call.
            NotSupported: if this way cannot carry an option, or needs a room. Nothing was sent.
        """

    async def presence(self, room: str | None = None) -> tuple[Present, ...]:
        """Tell who is in the room. Who has just joined may be missing, and who has just left may be in it (by Daily's
        documentation for 15 seconds), and nothing tells whether a dial-out that still rings is: it shows only who is there.

        Raises:
            DailyError: if Daily cannot be asked.
            NotSupported: if this way needs a room.
        """
