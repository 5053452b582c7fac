"""Events that only this program can know: its requests to Daily, limits that passed, and gaps in its sources.

They are written and read as daily-js events with names of telstate's own. The decoders of Daily's other dialects do not
accept these names, so no webhook can pretend that this program requested a stop.
"""

from enum import StrEnum
from typing import Any, ClassVar, Literal, Self
from uuid import uuid4

from telstate.events._base import Event, Id, Seconds, Subject, Text
from telstate.events._sessionless import SessionlessEvent
from telstate.events._telephony import DialoutEvent

__all__ = [
    "ActionAnswered",
    "ActionBegun",
    "ActionRequested",
    "ActionWithdrawn",
    "AttemptBegun",
    "AttemptEnded",
    "CampaignPaused",
    "CampaignResumed",
    "CampaignStopped",
    "DeadlinePassed",
    "DialoutRefused",
    "DialoutRequested",
    "ForwardRefused",
    "IntentClaimed",
    "IntentHeld",
    "IntentReleased",
    "PinlessForwarded",
    "Presence",
    "PresenceChecked",
    "SessionAnnotated",
    "SessionsLinked",
    "SettingsChanged",
    "SourceGap",
    "StopRequested",
    "TransferFailed",
    "TransferRequested",
]


class DialoutRequested(DialoutEvent):
    """Daily accepted our request for a dial-out and gave it this session id."""

    local: ClassVar[bool] = True

    action: Literal["dialout-requested"] = "dialout-requested"
    session_id: Id


class DialoutRefused(DialoutEvent):
    """Daily refused our request for a dial-out. In Python only the answer to the request says so, no event does."""

    local: ClassVar[bool] = True

    action: Literal["dialout-refused"] = "dialout-refused"
    session_id: Id
    error_msg: Text | None = None

    @classmethod
    def new(cls, error_msg: str, **fields: Any) -> Self:
        """Create the event for a request that got no session id; it gets a new one, `local-<uuid>`.

        Args:
            error_msg: Daily's answer.
            fields: known fields of the attempt: `destination`, `room`, `call_client_id`, `user_id`.
        """
        return cls(session_id=f"local-{uuid4()}", error_msg=error_msg, **fields)


class _AttachedEvent(Event):
    """A request or an observation of this program about one session, or about a caller on hold."""

    _subject: ClassVar[Subject] = Subject.ATTACHED
    local: ClassVar[bool] = True

    @property
    def sip_call_id(self) -> None:
        """Always None: the id is enough."""


class _LocalEvent(_AttachedEvent):
    """A request or an observation of this program about one session."""

    session_id: Id


class StopRequested(_LocalEvent):
    """Daily accepted our request to end this session."""

    action: Literal["stop-requested"] = "stop-requested"
    reason: Text | None = None
    """Why, in the program's words. The session keeps it as its note `reason`."""
    by_dialer: bool | None = None
    """True if a dialer gave the call up, and may dial again; None if the program ended it."""


class TransferRequested(_LocalEvent):
    """Daily accepted our request to transfer this session."""

    action: Literal["transfer-requested"] = "transfer-requested"
    to_endpoint: Text | None = None


class SessionAnnotated(_AttachedEvent):
    """The program wrote something down about a session, about a caller on hold, which may become one, or about a call before it starts."""

    action: Literal["session-annotated"] = "session-annotated"
    session_id: Id | None = None
    """The session; None if it is not known yet."""
    call_id: Id | None = None
    """The call id of the caller on hold, if the notes are about one."""
    user_id: Id | None = None
    """The `userId` of a start that is about to be sent, if they are about its call: a session with that user id gets them."""
    notes: dict[str, Any]
    """JSON values by name. A later note replaces an earlier one of its name."""


class TransferFailed(_LocalEvent):
    """The program learned that a transfer did not happen. None of Daily's events says so."""

    action: Literal["transfer-failed"] = "transfer-failed"
    to_endpoint: Text | None = None
    """The target of the transfer. If it is missing, the only target of the session until then is meant."""
    reason: Text | None = None
    """Why it failed, for people. It stands in the journal."""


class SessionsLinked(_LocalEvent):
    """Two sessions are legs of one call: the program declared it, or it follows from what several partitions know."""

    action: Literal["sessions-linked"] = "sessions-linked"
    other_session_id: Id
    elsewhere: bool | None = None
    """True if the events of the other session are in another partition: this one never sees it."""
    derived: bool | None = None
    """True if no program declared it. What is derived may be withdrawn."""
    withdrawn: bool | None = None
    """True if what was derived holds no more."""
    other_endpoint: Text | None = None
    """The SIP endpoint of ours by which the other session came: it may be the far leg of a transfer to that."""
    other_started_at: Seconds | None = None
    """The time of the first event of such a far leg, in Unix seconds."""
    other_picked_up: bool | None = None
    """True if the far leg picked up."""
    other_ended: bool | None = None
    """True if the far leg has ended."""


class DeadlinePassed(_AttachedEvent):
    """A limit of a session or of a caller on hold passed. It is an event, so a replay has it at the same place."""

    action: Literal["deadline-passed"] = "deadline-passed"
    session_id: Id | None = None
    """The session; None for a limit of a caller on hold."""
    call_id: Id | None = None
    """The caller on hold; None for a limit of a session."""
    deadline: str
    """The limit: `setup`, `ring`, `media`, `silence`, `meeting` or `presence`; of a caller `hold` or `hold-limit`."""
    due_at: Seconds
    """When it was due, in Unix seconds. If the session had an event since, this one is late and does nothing."""


class Presence(StrEnum):
    """Whether a session still exists, according to somebody who can ask Daily."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"
    """The answer is not known, or not known yet. It never ends a session."""


class PresenceChecked(_LocalEvent):
    """The answer to whether a session still exists. Checked after silence, or when events may have been missed."""

    action: Literal["presence-checked"] = "presence-checked"
    presence: Presence


class SettingsChanged(SessionlessEvent):
    """The program was started with other settings than before. From here on these apply, also in a replay."""

    _subject: ClassVar[Subject] = Subject.SETTINGS
    local: ClassVar[bool] = True

    action: Literal["settings-changed"] = "settings-changed"
    settings: dict[str, Any]
    """All settings, as `Settings.model_dump()` writes them."""


class PinlessForwarded(SessionlessEvent):
    """Daily accepted our request to forward a waiting caller to a SIP endpoint."""

    _subject: ClassVar[Subject] = Subject.CALLER
    local: ClassVar[bool] = True

    action: Literal["pinless-forwarded"] = "pinless-forwarded"
    call_id: Id
    sip_endpoint: Id
    held: dict[str, Any] | None = None
    """What is known of the caller, where they waited in another partition than that of the endpoint's room."""
    handed_over: bool | None = None
    """True if they were handed over so: the other partition goes on with them."""


class ForwardRefused(SessionlessEvent):
    """Daily refused our request to forward a waiting caller to a SIP endpoint."""

    _subject: ClassVar[Subject] = Subject.CALLER
    local: ClassVar[bool] = True

    action: Literal["forward-refused"] = "forward-refused"
    call_id: Id
    sip_endpoint: Id | None = None
    """Where to; None if pipecat's transport made the request, which does not say."""
    error: Text | None = None
    """Daily's answer."""


class SourceGap(SessionlessEvent):
    """A source lost its connection: events may have been missed. Without room and client it concerns all sessions."""

    _subject: ClassVar[Subject] = Subject.SOURCE
    local: ClassVar[bool] = True

    action: Literal["source-gap"] = "source-gap"
    reason: Text | None = None


class _ActionEvent(SessionlessEvent):
    """Something about an action that a dispatcher of another partition asked for."""

    _subject: ClassVar[Subject] = Subject.ACTION
    local: ClassVar[bool] = True

    request_id: Id
    """The request's own id. Each is carried out once at most."""


class ActionRequested(_ActionEvent):
    """A dispatcher of another partition asked to act on a session of this one, or to start a call in a room. Whoever owns this partition does it."""

    action: Literal["action-requested"] = "action-requested"
    verb: Id
    """What to do, as the method of the dispatcher is called."""
    target_id: Id
    """The session; of a start the room."""
    argument: dict[str, Any] | None = None
    """The options, as they are sent to Daily; of a stop the reason."""
    expires_at: Seconds
    """Not begun after this time, in Unix seconds: nobody waits for it any more."""


class ActionBegun(_ActionEvent):
    """The owner is about to send what was requested. If no answer follows, nobody knows whether it was sent."""

    action: Literal["action-begun"] = "action-begun"


class ActionAnswered(_ActionEvent):
    """What was requested was done, or was not."""

    action: Literal["action-answered"] = "action-answered"
    failure: dict[str, Any] | None = None
    """Why not: the `type` and the `text` of the error, and what Daily answered. None if it was done."""
    started_id: Id | None = None
    """Of a start: the session of the call, or that of the refusal."""


class ActionWithdrawn(_ActionEvent):
    """Who requested it waits no more. If it was not begun before, it never is."""

    action: Literal["action-withdrawn"] = "action-withdrawn"


class _IntentEvent(SessionlessEvent):
    """Something that a dialer does for an intent: see `Dialer.dial`."""

    _subject: ClassVar[Subject] = Subject.INTENT
    local: ClassVar[bool] = True

    intent: Id
    """The name that the program gave it."""


class IntentClaimed(_IntentEvent):
    """A dialer begins to dial for an intent, or still does."""

    action: Literal["intent-claimed"] = "intent-claimed"
    claim: Id
    """Names this turn of this dialer."""
    expires_at: Seconds
    """When others may claim it, in Unix seconds, unless it is claimed again."""
    takes_over: bool | None = None
    """True if whoever claimed it before has certainly ended: their process did."""


class AttemptBegun(_IntentEvent):
    """A dialer is about to start a call for an intent. If no end follows, nobody knows whether it was sent."""

    action: Literal["attempt-begun"] = "attempt-begun"
    claim: Id
    user_id: Id
    """The `userId` of the start."""
    destination: Text


class AttemptEnded(_IntentEvent):
    """What came of a start for an intent."""

    action: Literal["attempt-ended"] = "attempt-ended"
    user_id: Id
    outcome: Id
    """A `DialOutcome`; or `withdrawn`, if the start does not count."""
    ended_session_id: Id | None = None
    """Its session, if there is one."""
    error: Text | None = None
    ended_at: Seconds | None = None
    rang: bool | None = None
    verdict: Text | None = None
    """What answered, in the program's words."""


class IntentReleased(_IntentEvent):
    """A dialer stops dialling for an intent."""

    action: Literal["intent-released"] = "intent-released"
    claim: Id
    outcome: Id | None = None
    """The `DialOutcome` that ends the intent; None if it may be dialled again."""


class IntentHeld(_IntentEvent):
    """Somebody still needs an intent: it is remembered for its whole time to live from now on."""

    action: Literal["intent-held"] = "intent-held"


class CampaignPaused(_IntentEvent):
    """A campaign starts no more calls until it is resumed. Its `intent` is the campaign's name."""

    action: Literal["campaign-paused"] = "campaign-paused"


class CampaignResumed(_IntentEvent):
    """A campaign that was paused goes on. Its `intent` is the campaign's name."""

    action: Literal["campaign-resumed"] = "campaign-resumed"


class CampaignStopped(_IntentEvent):
    """A campaign starts no more calls, ever. Its `intent` is the campaign's name."""

    action: Literal["campaign-stopped"] = "campaign-stopped"
