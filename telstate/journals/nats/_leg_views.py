"""The legs among the views: what ties sessions to each other, which of them are one call, and who wants to hear of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from telstate.journals.nats._view import Ties

__all__ = ["LegViews"]

_LEGS = 16
"""Legs of a call. Where more sessions seem to be one, as with a SIP Call-ID "unknown", the records of each partition have only its own."""
_NONE = Ties(None, [])

Watch = Callable[[str], None]


class LegViews:
    """The sessions that have anything to do with others."""

    def __init__(self) -> None:
        self._ties: dict[str, Ties] = {}
        self._of_sip_call: dict[str, dict[str, None]] = {}
        """The ids of the sessions with a SIP Call-ID."""
        self._naming: dict[str, dict[str, None]] = {}
        """The ids of the sessions whose views name a session as another leg."""
        self._at: dict[str, dict[str, None]] = {}
        """The ids of the dial-ins that came by an endpoint, by its plain address."""
        self._watchers: dict[str, dict[Watch, None]] = {}
        """Those who watch an endpoint."""

    def put(self, session_id: str, ties: Ties) -> None:
        """Take note of a session."""
        self.forget(session_id)
        if ties.sip_call_id is None and ties.endpoint is None and not ties.legs:
            return
        self._ties[session_id] = ties
        for index, key in self._indexed(ties):
            index.setdefault(key, {})[session_id] = None

    def forget(self, session_id: str) -> None:
        """A session is shown no longer, or otherwise."""
        ties = self._ties.pop(session_id, None)
        for index, key in () if ties is None else self._indexed(ties):
            names = index.get(key, {})
            names.pop(session_id, None)
            if not names:
                index.pop(key, None)

    def _indexed(self, ties: Ties) -> Iterator[tuple[dict[str, dict[str, None]], str]]:
        """Iterate over the indexes that have a session with such ties, each with its key there."""
        if ties.sip_call_id is not None:
            yield self._of_sip_call, ties.sip_call_id
        if ties.endpoint is not None:
            yield self._at, ties.endpoint
        for leg in ties.legs:
            yield self._naming, leg

    def __len__(self) -> int:
        return len(self._ties) + len(self._of_sip_call) + len(self._naming) + len(self._at)

    # --- asking ---------------------------------------------------------------------------------------------------

    def ties(self, session_id: str) -> Ties:
        """Return what ties a session to others, as its view says."""
        return self._ties.get(session_id, _NONE)

    def arrived(self, endpoint: str) -> list[str]:
        """List the ids of the dial-ins that came by an endpoint, given by its plain address."""
        return list(self._at.get(endpoint, ()))

    def near(self, any_id: str) -> list[str]:
        """List what a session id or a SIP Call-ID is tied to directly: session ids, and a SIP Call-ID."""
        near = [*self._of_sip_call.get(any_id, ()), *self._naming.get(any_id, ())]
        ties = self.ties(any_id)
        near += ties.legs
        return near if ties.sip_call_id is None else [*near, ties.sip_call_id]

    def call_of(self, session_id: str, known: Callable[[str], Ties | None] = lambda _: None) -> set[str]:
        """Return the ids of all legs of a session's call, that session's included; none if there are too many to be one call.

        Args:
            session_id: the session.
            known: returns what is known better of a session than its view says; None if nothing is.
        """
        found, to_visit = {session_id}, [session_id]
        while to_visit:
            name = to_visit.pop()
            ties = known(name) or self.ties(name)
            naming = islice(self._naming.get(name, ()), _LEGS + 1)
            near = {one for one in naming if (better := known(one)) is None or name in better.legs}
            near.update(ties.legs)
            if ties.sip_call_id is not None:
                near.update(islice(self._of_sip_call.get(ties.sip_call_id, ()), _LEGS + 1))
            new = near - found
            found |= new
            to_visit += new
            if len(found) > _LEGS:
                return set()
        return found

    # --- watching -------------------------------------------------------------------------------------------------

    def watch_arrivals(self, endpoint: str, changed: Watch) -> Callable[[], None]:
        """Call a function with the id of each dial-in of which there is news, if it came by an endpoint, or was shown so before.

        Args:
            endpoint: its plain address.
            changed: the function.

        Returns:
            A function that ends it.
        """
        self._watchers.setdefault(endpoint, {})[changed] = None
        return lambda: self._unwatch(endpoint, changed)

    def _unwatch(self, endpoint: str, changed: Watch) -> None:
        watchers = self._watchers.get(endpoint, {})
        watchers.pop(changed, None)
        if not watchers:
            self._watchers.pop(endpoint, None)

    def tell(self, session_id: str, before: Ties, after: Ties) -> set[str]:
        """Tell those who watch the endpoint of a session of which there is news; return whose calls that may have changed."""
        for endpoint in {before.endpoint, after.endpoint} - {None}:
            for watch in list(self._watchers.get(endpoint or "", ())):
                watch(session_id)
        legs = self.call_of(session_id)
        for left in set(before.legs) - set(after.legs):  # they may be legs no more
            legs |= self.call_of(left)
        return legs
