"""Participants of a room. Most of them are not callers; a caller's participant has the id of the session."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from telstate.events._base import Event, Id, Subject, Text, invalid_fields, seconds_of

__all__ = ["Participant", "ParticipantEvent", "ParticipantJoined", "ParticipantLeft"]


class Participant(BaseModel):
    """A participant. daily-js writes these keys in snake_case; all other keys are kept in `model_extra`."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="allow")

    session_id: Id
    """The id of the participant. For a telephone participant it is the session id of the call."""
    user_id: Text | None = None
    user_name: Text | None = None


class ParticipantEvent(Event):
    """Somebody joined or left the room."""

    _subject: ClassVar[Subject] = Subject.PARTICIPANT

    participant: Participant

    @property
    def session_id(self) -> str:
        """The participant's id: the session id of the call, if the participant is on the telephone."""
        return self.participant.session_id

    @property
    def joined_at(self) -> float | None:
        """When the participant joined, in Unix seconds, if the dialect has it (webhooks). It tells their stays apart."""
        extra = self.participant.__pydantic_extra__
        return seconds_of(extra.get("joined_at")) if extra else None

    @property
    def sip_call_id(self) -> None:
        """Always None: participants have no SIP Call-ID."""

    def _forget_empty(self) -> None:
        super()._forget_empty()
        fields = self.participant.__dict__
        fields.update(user_id=fields["user_id"] or None, user_name=fields["user_name"] or None)

    @property
    def anomalies(self) -> tuple[str, ...]:
        """One sentence for each invalid field of the event and of its participant."""
        outer, inner = self.__pydantic_extra__, self.participant.__pydantic_extra__
        anomalies = invalid_fields(type(self), outer) if outer else ()
        return anomalies + invalid_fields(Participant, inner) if inner else anomalies


class ParticipantJoined(ParticipantEvent):
    """A participant joined. With the id of a dial-in session it means that media flows: Daily has no `dialin-answered`."""

    action: Literal["participant-joined"] = "participant-joined"


class ParticipantLeft(ParticipantEvent):
    """A participant left. It is a sign of the end of their call, not the end: they may join again, and a transfer emits it too."""

    action: Literal["participant-left"] = "participant-left"
    reason: Text | None = None
