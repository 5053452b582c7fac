"""How the engine writes to a session. A session refuses assignment, so these functions write to its dict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any

from telstate.calls._address import is_anonymous, is_one_address
from telstate.calls._evidence import Evidence
from telstate.calls._session import Session, rare, set_state
from telstate.calls._table import TERMINAL, State
from telstate.calls._transition import STEPS, Transition
from telstate.events import Direction
from telstate.events._json import is_unknown

__all__ = [
    "AMENDED",
    "FACTS",
    "Recorder",
    "bounded",
    "link_elsewhere",
    "note_anomaly",
    "note_departure",
    "note_life",
    "note_stay",
    "note_warning",
    "rise",
    "set_rare",
]

FACTS, AMENDED = 1, 2
"""What an event did to the record: it reported new facts, it amended the session after its end."""

_BY_DAILY: Mapping[str | None, int] = {
    "connected_at": Evidence.CONNECTED_BY_DAILY,
    "answered_at": Evidence.ANSWERED_BY_DAILY,
    "_told_at": Evidence.TOLD_BY_DAILY,
}
"""The evidence that a time is Daily's own."""

_MAY_DIFFER = frozenset({"display_name", "sip_headers", "provider"})
"""Facts that two observers of one session legitimately report differently."""

_MAY_BE_HIDDEN = frozenset({"sip_from", "origin", "caller_id", "display_name"})
"""Facts about a caller, who may hide them: another value takes the place of `anonymous`. Of other facts that is a name like any."""

_TEXT_LIMIT = 1024
_HEADER_LIMIT = 64
_ANOMALY_LIMIT = 20
_WARNING_LIMIT = 5
_NO_TEXT = "a warning without text"


class Recorder:
    """Records what one type of event reports about sessions of one direction.

    Args:
        evidence: the evidence that it is.
        time: the field of the session that keeps its time, if any.
        facts: the facts that it can report, at least two.
    """

    __slots__ = ("_by_daily", "_evidence", "_facts", "_headers", "_read", "_time", "_unknown")

    def __init__(self, evidence: int, time: str | None, facts: Iterable[str]) -> None:
        self._evidence = evidence
        self._time = time
        self._by_daily = _BY_DAILY.get(time, 0)
        self._facts = tuple(facts)
        self._read = itemgetter(*self._facts)
        self._unknown = (None,) * len(self._facts)
        self._headers = "sip_headers" in self._facts

    def record(self, session: Session, event: Mapping[str, Any], at: float | None, by_daily: bool, told_by: int) -> int:
        """Record an event, also when it is late: it may be the first to report something.

        Args:
            session: the session that the event is about.
            event: the fields of the event.
            at: when it happened, in Unix seconds; None if unknown.
            by_daily: whether that is Daily's time, not that of the receipt.
            told_by: the dialect that reported it, as evidence; 0 for an event of this program.

        Returns:
            `FACTS` if it reports new ones, plus `AMENDED` if it amended the session.
        """
        fields, found = session.__dict__, 0
        if at is not None and (time := self._time) is not None:
            known = fields[time]
            if known is None or (self._outweighs(session, at, known, by_daily) if self._by_daily else at < known):
                fields[time] = at
                if by_daily:
                    told_by |= self._by_daily
            if session.started_at is None or at < session.started_at:
                fields["started_at"] = at
        if self._evidence and session.ended:
            found = _amend(session, self._evidence)
        evidence = session._evidence
        told_by |= self._evidence
        if told_by & ~evidence:
            fields["_evidence"] = evidence | told_by
        reported, known = self._read(event), self._read(fields)  # both at once: usually they agree
        if reported != known:
            if known == self._unknown and self._is_short(event, reported):
                fields.update(zip(self._facts, reported, strict=True))
                return found | FACTS
            facts = zip(self._facts, reported, strict=True)
            new = (
                _record_endpoint(session, dict(facts))
                if session._evidence & Evidence.ENDPOINT_DERIVED
                else _record_facts(session, facts)
            )
            if new:
                found |= FACTS
        return found

    def _outweighs(self, session: Session, at: float, known: float, by_daily: bool) -> bool:
        """Return whether a time takes the place of the known one: Daily's time outweighs a receipt's, then the earliest counts."""
        if by_daily is not bool(session._evidence & self._by_daily):
            return by_daily
        return at < known

    def _is_short(self, event: Mapping[str, Any], reported: tuple[Any, ...]) -> bool:
        """Return whether the facts can be kept as they are: texts that are not too long, and no headers."""
        if self._headers and event["sip_headers"] is not None:
            return False
        try:
            return max(map(len, filter(None, reported)), default=0) <= _TEXT_LIMIT
        except TypeError:  # an event that was made without validation
            return False


def rise(session: Session, target: State, event: str, parked: bool = False) -> Transition:
    """Move a session to `target` and record the transition."""
    transition, step = STEPS[session.state, target, event, parked]
    fields = session.__dict__
    fields["_path"] = session._path + step
    if target in TERMINAL:
        fields["ended"] = True
    set_state(session, target)
    return transition


def _amend(session: Session, evidence: int) -> int:
    """Add evidence after the end. It amends the session, unless it is the stopped that follows an error."""
    fields, before = session.__dict__, (session.cause, session.end_source)
    if fields["_evidence"] & evidence:
        return 0
    fields["_evidence"] |= evidence
    if evidence == Evidence.STOPPED and (session.cause, session.end_source) == before:
        return 0
    fields["amended"] = True
    return AMENDED


def _record_facts(session: Session, reported: Iterable[tuple[str, Any]]) -> bool:
    """Keep the first value of each fact; a later one that differs is an anomaly. Return whether there was a first value."""
    fields, new = session.__dict__, False
    for name, value in reported:
        if not value:  # nothing, or what a program gave an event of its own: empty is unknown
            continue
        known = fields[name]
        if name == "sip_headers" and isinstance(value, dict):
            new |= _record_headers(fields, value)
        elif known is None:
            fields[name] = bounded(value)
            new = True
        elif known == value or (name in _MAY_BE_HIDDEN and is_anonymous(value)):
            continue
        elif name in _MAY_BE_HIDDEN and is_anonymous(known):
            fields[name] = bounded(value)
            new = True
        elif name == "call_client_id":
            fields["_evidence"] |= Evidence.BY_CLIENTS
        elif name not in _MAY_DIFFER and not is_one_address(known, bounded(value)):
            note_anomaly(session, f"{name}: was {_short(known)}, then {_short(value)}")
    return new


def _record_headers(fields: dict[str, Any], reported: Mapping[str, Any]) -> bool:
    """Keep the first value of each header: an observer may know only some of them. Return whether there was a first value."""
    known: Mapping[str, Any] = fields["sip_headers"] or {}
    names = {name.lower() for name in known}
    new = {name: value for name, value in reported.items() if not (is_unknown(value) or name.lower() in names)}
    if new:
        fields["sip_headers"] = bounded({**known, **new})
    return bool(new)


def _record_endpoint(session: Session, reported: dict[str, Any]) -> bool:
    """Record facts of a session whose endpoint is derived: what is reported replaces that, and is no disagreement."""
    uri, fields = reported.pop("sip_endpoint", None), session.__dict__
    if uri is not None:
        fields["sip_endpoint"] = bounded(uri)
        fields["_evidence"] &= ~Evidence.ENDPOINT_DERIVED
    return _record_facts(session, reported.items()) or uri is not None


def note_life(session: Session, at: float, by_daily: bool) -> None:
    """Keep the last sign of life, by the clock that gave its time."""
    fields, name = session.__dict__, "_alive" if by_daily else "_alive_by_receipt"
    known = fields[name]
    if known is None or at > known:
        fields[name] = at


def note_stay(session: Session, joined_at: float) -> int:
    """Keep since when a participant who left was there, by Daily's clock: nobody may have reported that they joined.

    The media of a dial-in flowed since then. Return `FACTS` if that is new, plus `AMENDED` if it amended the session.
    """
    fields, evidence = session.__dict__, session._evidence
    if session.started_at is None or joined_at < session.started_at:
        fields["started_at"] = joined_at
    if session.direction is not Direction.DIALIN:
        return 0
    known = session.answered_at
    if known is not None and evidence & Evidence.ANSWERED_BY_DAILY and known <= joined_at:
        return 0
    fields["answered_at"] = joined_at
    amended = _amend(session, Evidence.JOINED) if session.ended else 0
    fields["_evidence"] |= Evidence.JOINED | Evidence.ANSWERED_BY_DAILY
    return FACTS | amended


def note_anomaly(session: Session, text: str) -> None:
    """Record something odd once, and at most twenty different texts."""
    if text not in session.anomalies and len(session.anomalies) < _ANOMALY_LIMIT:
        vars(session)["anomalies"] += (text,)


def note_warning(session: Session, text: str | None) -> None:
    """Record the text of a warning once, and at most five different texts. Webhooks may have none for what another observer has in words."""
    known = tuple(one for one in session.warnings if one != _NO_TEXT)
    text = _NO_TEXT if text is None else bounded(text)
    if (text != _NO_TEXT or not known) and text not in known and len(known) < _WARNING_LIMIT:
        vars(session)["warnings"] = (*known, text)


def set_rare(session: Session, name: str, value: Any) -> None:
    """Set a value that few sessions have: JSON values, which are replaced and never changed, as a snapshot may hold them."""
    vars(session)["_rare"] = {**(session._rare or {}), name: value}


LEGS_NOTED = 100
"""Legs in the record of a session that left memory. If each event has the same SIP Call-ID, such as "unknown", thousands belong together."""


def note_departure(session: Session, legs: Iterable[Session]) -> None:
    """Keep the legs of a call for the records: those of a session that leaves memory, and the session for those that stay."""
    legs = list(legs)
    for leg in legs:
        set_rare(leg, "legs", [*(rare(leg, "legs") or ()), session.session_id][:LEGS_NOTED])
    set_rare(session, "legs", [*(rare(session, "legs") or ()), *(leg.session_id for leg in legs)][:LEGS_NOTED])


def link_elsewhere(session: Session, other: str, *, linked: bool) -> None:
    """Keep or withdraw that a session of another partition, by its id, is a leg of a session's call."""
    known = rare(session, "linked") or []
    if linked is not (other in known):
        set_rare(session, "linked", [*known, other][:LEGS_NOTED] if linked else [one for one in known if one != other])


def bounded(value: Any) -> Any:
    """Cut a value that would stay in memory for hours. Real values are far below the limits."""
    if isinstance(value, str):
        return value if len(value) <= _TEXT_LIMIT else value[:_TEXT_LIMIT] + "…"
    if isinstance(value, dict):
        return {
            bounded(key): bounded(item) if isinstance(item, (str, int, float, bool)) else bounded(str(item))
            for key, item in list(value.items())[:_HEADER_LIMIT]
        }
    return value


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:80] + "…"
