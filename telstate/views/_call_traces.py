"""Follows a replay, and keeps what happened in some calls.

Which calls are wanted is known before (`CallIds`), so whatever a long log has, only the events of these calls are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

from telstate.calls._address import plain_uri
from telstate.calls._caller import Caller
from telstate.calls._endings import holds_sign
from telstate.calls._engine import Engine
from telstate.calls._outcome import Outcome, OutcomeKind
from telstate.calls._session import Session
from telstate.events import SessionAnnotated
from telstate.events._base import Subject
from telstate.views._call_groups import CallIds
from telstate.views._call_trace import CallTrace, Seen, end_of_session

__all__ = ["CallTraces"]

_RECENT = 2_000
"""Events of no known session that are remembered, for the calls that turn out to be theirs."""


class CallTraces:
    """Follows a replay, and keeps the events of some calls.

    Args:
        calls: the wanted ones.
        engine: returns the engine of the replay.
    """

    def __init__(self, calls: Iterable[CallIds], engine: Callable[[], Engine]) -> None:
        self._all: dict[CallTrace, None] = {}
        self._engine = engine
        self._of: dict[str, CallTrace] = {}
        self._of_caller: dict[str, CallTrace] = {}
        self._of_sip: dict[str, CallTrace] = {}
        """By the SIP Call-IDs of their sessions."""
        self._numbers = count(1)
        self._begun: dict[CallTrace, None] = {}
        self._open: dict[CallTrace, None] = {}
        """Those that may not have ended, in the order of their last events: an event without a session may concern any of them."""
        self._recent: deque[tuple[tuple[str, str], Seen]] = deque(maxlen=_RECENT)
        self._ready: dict[str, Seen] = {}
        """The last event of each endpoint that is ready: a call may come long after."""

        for ids in calls:
            self.want(ids)

    @property
    def traces(self) -> list[CallTrace]:
        """The wanted calls, without those that were taken."""
        return list(self._all)

    def want(self, ids: CallIds) -> None:
        """Keep the events of a call from now on."""
        trace = CallTrace(ids)
        self._all[trace] = None
        self._of.update(dict.fromkeys(ids.sessions, trace))
        self._of_caller.update(dict.fromkeys(ids.callers, trace))

    def take(self, one: str) -> CallTrace | None:
        """Return the trace of a call that has left memory, and forget it.

        Args:
            one: the id of one of its sessions, or of its caller on hold.
        """
        trace = self._of.get(one) or self._of_caller.get(one)
        if trace is not None:
            for index in (self._of, self._of_caller, self._of_sip):
                for key in [*trace.ids.sessions, *trace.ids.callers, *trace.sip_calls]:
                    if index.get(key) is trace:
                        del index[key]
            for some in (self._all, self._begun, self._open):
                some.pop(trace, None)
        return trace

    def wants(self, outcome: Outcome) -> bool:
        """Return whether an event may concern one of the calls: most of a long log do not."""
        event = outcome.event
        session_id = event.session_id if outcome.session is None else outcome.session.session_id
        if session_id is None:
            return True
        if session_id in self._of or (outcome.session is None and bool(self._begun)):
            return True
        return any(session.session_id in self._of for session in outcome.changed)

    def see(self, outcome: Outcome, at: float | None, dialect: str | None = None, key: Any = None) -> None:
        """Take in an event that is wanted.

        Args:
            outcome: what the event was to its session.
            at: the time of its line, in Unix seconds.
            dialect: of the line.
            key: of its record in a journal.
        """
        event, session = outcome.event, outcome.session
        seen = Seen(
            next(self._numbers), at, event, outcome.kind, dialect, key, anomalies=outcome.anomalies,
            session_id=event.session_id if session is None else session.session_id,
            lost=None if (lost := getattr(outcome, "lost_caller", None)) is None else lost.state,
        )  # fmt: skip
        call_id = getattr(event, "call_id", None)
        if session is not None:
            self._see_from_afar(outcome, seen)
        if (trace := self._of.get(seen.session_id or "")) is not None:
            self._see_own(trace, outcome, seen)
        elif session is not None:
            return
        elif call_id is not None:
            if (trace := self._of_caller.get(call_id)) is not None:
                self._see_caller(trace, seen, call_id)
            else:
                self._recent.append((("caller", call_id), seen))
        elif isinstance(event, SessionAnnotated):
            self._recent.append((("user", event.user_id or ""), seen))
        else:
            self._see_others(outcome, seen)

    def infer(self, outcome: Outcome) -> None:
        """Take in an end that no line of the log has."""
        session = outcome.session
        trace = None if session is None else self._of.get(session.session_id)
        if session is None or trace is None:
            return
        due_at = getattr(outcome.event, "due_at", None)
        seen = Seen(next(self._numbers), due_at if self._engine().now is not None else None, outcome.event, None)
        trace.ends[session.session_id] = end = end_of_session(session)
        trace.add(
            seen._replace(session=session, session_id=session.session_id, moves=outcome.moves, ended=True, after=end)
        )

    def depart(self, gone: Session | Caller, record: dict[str, Any]) -> None:
        """Keep the record of a session or caller that left memory."""
        if isinstance(gone, Session):
            trace, own_id = self._of.get(gone.session_id), gone.session_id
        else:
            trace, own_id = self._of_caller.get(gone.call_id), gone.call_id
        if trace is not None:
            trace.records[own_id] = record

    def _see_own(self, trace: CallTrace, outcome: Outcome, seen: Seen) -> None:
        """An event of a session of the call; without a session it waits for it."""
        self._begin(trace)
        session = outcome.session
        if session is None:
            trace.add(seen)
            return
        session_id = session.session_id
        known = trace.sessions.get(session_id)
        if known is not session:
            trace.anomalies[session_id] = len(session.anomalies) - len(outcome.anomalies) if not outcome.opened else 0
            trace.ends.pop(session_id, None)
        before, after = trace.ends.get(session_id), end_of_session(session) if session.ended else None
        if after is not None:
            trace.ends[session_id] = after
        new_anomalies = session.anomalies[trace.anomalies.get(session_id, 0) :]
        trace.anomalies[session_id] = len(session.anomalies)
        trace.learn(session)
        seen = self._with_signs(trace, outcome, seen)._replace(
            session=session,
            state=session.state,
            moves=outcome.moves,
            opened=outcome.opened,
            continued=known is not session and not outcome.opened,
            reused=known is not None and known is not session,
            ended=outcome.ended,
            before=before,
            after=after,
            anomalies=new_anomalies,
        )
        trace.add(seen)
        self._look_back(trace, session, seen)

    def _see_from_afar(self, outcome: Outcome, seen: Seen) -> None:
        """An event of a session that says something about one of another call, as the next caller on an endpoint does."""
        own = self._of.get(seen.session_id or "")
        for trace in {
            id(one): one for session in outcome.changed if (one := self._of.get(session.session_id))
        }.values():
            if trace is own or trace not in self._begun:
                continue
            signed = self._with_signs(trace, outcome, seen)
            if signed.signs or signed.relieved or signed.doubtful:
                trace.add(signed._replace(foreign=True, kind=OutcomeKind.NOTED, anomalies=()))

    def _see_caller(self, trace: CallTrace, seen: Seen, call_id: str) -> None:
        """An event of the caller on hold of the call."""
        self._begin(trace)
        trace.add(seen)
        caller = self._engine().caller(call_id)
        if caller is not None:
            trace.callers[call_id] = caller
        if (uri := getattr(seen.event, "sip_endpoint", None)) is not None:
            trace.learn_endpoint(uri)
            self._pull_ready(trace, uri)

    def _see_others(self, outcome: Outcome, seen: Seen) -> None:
        """An event that names no session of the calls: of a room, a client, a source, or of nobody that is known."""
        event = seen.event
        subject = type(event)._subject
        unmatched = outcome.kind is OutcomeKind.UNMATCHED
        for trace in self._perhaps_concerned(outcome):
            signed = self._with_signs(trace, outcome, seen)
            told = signed.signs or signed.doubtful or signed.relieved
            if event.sip_call_id is not None and unmatched:
                concerned = event.sip_call_id in trace.sip_calls
            else:
                concerned = trace.is_open and trace.concerns_it(event, subject)
            if told or concerned:
                trace.add(signed)
        if outcome.kind is OutcomeKind.UNMATCHED and event.sip_call_id is not None:
            self._recent.append((("sip", event.sip_call_id), seen))
        elif subject is Subject.ENDPOINT:
            uri = plain_uri(getattr(event, "sip_endpoint", ""))
            self._ready.pop(uri, None)
            self._ready[uri] = seen
            if len(self._ready) > _RECENT:
                del self._ready[next(iter(self._ready))]

    def _perhaps_concerned(self, outcome: Outcome) -> Iterable[CallTrace]:
        """Return the calls that an event without a session may concern: not all that have begun, of which a long log has thousands."""
        for trace in [trace for trace in self._open if not trace.is_open]:
            del self._open[trace]
        changed = (self._of.get(session.session_id) for session in outcome.changed)
        of_sip = self._of_sip.get(outcome.event.sip_call_id or "")
        return dict.fromkeys(one for one in (*changed, of_sip, *self._open) if one is not None and one in self._begun)

    def _with_signs(self, trace: CallTrace, outcome: Outcome, seen: Seen) -> Seen:
        """Add what the event says about the ends of the call's sessions."""
        signs, relieved, doubtful = [], [], []
        engine = self._engine()
        dues = engine._grace.ends if engine.now is not None else {}  # in a log without times no time means anything
        changed = dict.fromkeys([*outcome.changed, *([outcome.session] if outcome.session is not None else [])])
        for session in changed:
            if session.ended or session.session_id not in trace.ids.sessions:
                continue
            session_id, holds = session.session_id, holds_sign(session)
            if holds and session_id not in trace.doubted:
                signs.append((session_id, dues.get(session_id)))
            elif not holds and session_id in trace.doubted:
                relieved.append(session_id)
            elif session.uncertain and not holds and session_id not in trace.uncertain:
                doubtful.append(session_id)
            _put(trace.doubted, session_id, holds)
            _put(trace.uncertain, session_id, session.uncertain and not holds)
        return seen._replace(signs=tuple(signs), relieved=tuple(relieved), doubtful=tuple(doubtful))

    def _begin(self, trace: CallTrace) -> None:
        self._begun[trace] = self._open[trace] = None

    def _look_back(self, trace: CallTrace, session: Session, seen: Seen) -> None:
        """Find the earlier events that turn out to be the call's, now that more is known of a session."""
        if session.sip_call_id is not None and session.sip_call_id not in trace.sip_calls:
            trace.sip_calls[session.sip_call_id] = seen
            self._of_sip[session.sip_call_id] = trace
            self._pull(trace, ("sip", session.sip_call_id))
        if session.user_id is not None and session.user_id not in trace.users:
            trace.users.add(session.user_id)
            self._pull(trace, ("user", session.user_id))
        if session.pinless_call_id is not None and session.pinless_call_id not in self._of_caller:
            self._adopt(trace, session.pinless_call_id)
        if session.sip_endpoint is not None:
            self._pull_ready(trace, session.sip_endpoint)

    def _adopt(self, trace: CallTrace, call_id: str) -> None:
        """A session of the call was a caller on hold before."""
        self._of_caller[call_id] = trace
        trace.ids.callers.append(call_id)
        caller = self._engine().caller(call_id)
        if caller is not None:
            trace.callers[call_id] = caller
        self._pull(trace, ("caller", call_id))

    def _pull(self, trace: CallTrace, key: tuple[str, str]) -> None:
        for of, seen in self._recent:
            if of == key:
                trace.add(seen)

    def _pull_ready(self, trace: CallTrace, uri: str) -> None:
        if (ready := self._ready.get(plain_uri(uri))) is not None:
            trace.add(ready)


def _put(among: set[str], one: str, is_one: bool) -> None:
    """Add an id to a set, or remove it."""
    (among.add if is_one else among.discard)(one)
