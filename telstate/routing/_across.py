"""What a dispatcher knows, and what others know where many share the calls: its own knowledge comes first.

Without an `Elsewhere` there is only its own, at no cost.
"""

from __future__ import annotations

from telstate.calls._caller import Caller
from telstate.calls._endpoints import Endpoint
from telstate.calls._engine import Engine
from telstate.calls._intents import Intent
from telstate.calls._outcome import Outcome, OutcomeKind
from telstate.calls._session import Session, rare
from telstate.events import Event, SessionsLinked
from telstate.routing._ports import Elsewhere, Place
from telstate.routing._sequencer import Sequencer

__all__ = ["Across"]


class Across:
    """Answers about sessions, callers and endpoints, wherever they are.

    Args:
        sequencer: has what this dispatcher knows.
        elsewhere: has what others know, if there are any.
    """

    def __init__(self, sequencer: Sequencer, elsewhere: Elsewhere | None) -> None:
        self._sequencer = sequencer
        self.elsewhere: Elsewhere | None = elsewhere

    @property
    def _engine(self) -> Engine:
        return self._sequencer.engine

    def session(self, session_id: str) -> Session | None:
        """Find a session."""
        session = self._engine.session(session_id)
        return session if session is not None or self.elsewhere is None else self.elsewhere.session(session_id)

    def far(self, session: object) -> Session | None:
        """Find a session that others know, and this dispatcher does not, by itself or its id."""
        session_id = session.session_id if isinstance(session, Session) else session
        if self.elsewhere is None or not isinstance(session_id, str) or self._engine.session(session_id) is not None:
            return None
        return self.elsewhere.session(session_id)

    def legs(self, any_id: str) -> list[Session]:
        """Find the legs of a call, in order of first sight."""
        own = self._engine.legs(any_id)
        if self.elsewhere is None:
            return own
        legs = {leg.session_id: leg for leg in own}
        ids = {any_id, *legs}
        for leg in own:
            ids.update((*(rare(leg, "legs") or ()), *(rare(leg, "linked") or ())))
            if leg.sip_call_id is not None:
                ids.add(leg.sip_call_id)
        for leg in self.elsewhere.legs(ids):
            legs.setdefault(leg.session_id, self._engine.session(leg.session_id) or leg)
        return sorted(legs.values(), key=lambda leg: leg.opened)

    def waiting(self) -> list[Caller]:
        """List the callers on hold, in order of first sight."""
        own = self._engine.waiting()
        if self.elsewhere is None:
            return own
        callers = {caller.call_id: caller for caller in (*self.elsewhere.waiting(), *own)}
        return sorted(callers.values(), key=lambda caller: caller._number)

    def caller(self, call_id: str) -> Caller | None:
        """Find a caller. One that was handed over is known better where they are now."""
        own = self._engine.caller(call_id)
        if self.elsewhere is None or (own is not None and not own.is_elsewhere):
            return own
        return self.elsewhere.caller(call_id) or own

    def own_caller(self, call_id: str) -> Caller | None:
        """Find a caller of this dispatcher."""
        return self._engine.caller(call_id)

    def caller_elsewhere(self, call_id: str) -> Caller | None:
        """Find a caller of others."""
        return None if self.elsewhere is None else self.elsewhere.caller(call_id)

    def own_intent(self, name: str) -> Intent | None:
        """Find an intent whose ledger this dispatcher keeps."""
        return self._engine.intent(name)

    def endpoint(self, uri: str) -> Endpoint | None:
        """Find a SIP endpoint."""
        endpoint = self._engine.endpoint(uri)
        return endpoint if endpoint is not None or self.elsewhere is None else self.elsewhere.endpoint(uri)

    def room_of(self, sip_endpoint: str) -> Endpoint | None:
        """Find the endpoint of a room that others know, and this dispatcher does not."""
        if self.elsewhere is None or self._engine.endpoint(sip_endpoint) is not None:
            return None
        return self.elsewhere.endpoint(sip_endpoint)

    # --- telling others -------------------------------------------------------------------------------------------

    async def submit(self, event: Event) -> Outcome:
        """Append an event to this dispatcher's own journal, and step it."""
        return (await self._sequencer.submit_events(event))[0]

    async def publish(self, place: Place, event: Event) -> Outcome:
        """Append an event to the journal of whoever has a place. What comes of it is decided there."""
        assert self.elsewhere is not None  # noqa: S101
        outcome = Outcome(OutcomeKind.NOTED, event, place if isinstance(place, Session) else None)
        outcome.seq = await self.elsewhere.publish(place, event)
        outcome.journal_id = self._sequencer.journal_id
        return outcome

    async def link(self, one: str, other: str) -> Outcome:
        """Make two sessions legs of one call. Each that is known, wherever that is, gets an event that names the other.

        One that is not known yet is awaited where the other is, or here if neither is known.
        """
        links: list[tuple[Session | None, SessionsLinked]] = []
        for session_id, leg in ((one, other), (other, one)):
            is_known = True if self.session(leg) is not None else None  # else it waits there until it is
            event = SessionsLinked(session_id=session_id, other_session_id=leg, elsewhere=is_known)
            if (far := self.far(session_id)) is not None:
                links.append((far, event))
            elif self._engine.session(session_id) is not None:
                links.append((None, event))
        if all(far is None for far, _ in links):
            event = SessionsLinked(session_id=one, other_session_id=other)
            return await self.submit(event)
        outcome: Outcome | None = None
        for far, event in links:
            if far is not None:
                published = await self.publish(far, event)
                outcome = outcome or published
            else:
                outcome = await self.submit(event)
        assert outcome is not None  # noqa: S101 - one of them is elsewhere
        return outcome
