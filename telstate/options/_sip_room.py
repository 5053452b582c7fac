"""A room that can be dialled by SIP. Source: docs.daily.co/docs/guides/features/dial-in-dial-out/sip."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import ConfigDict

from telstate.options._base import Conflict, Options
from telstate.options._codecs import Codecs
from telstate.options._fields import Flag, Positive, Text, one_of

__all__ = ["SipRoom"]

_Mode: TypeAlias = Literal["dial-in"]


class SipRoom(Options):
    """A room's property `sip`, which lets SIP callers dial in. Daily spells its fields in snake_case.

    The room's `max_sip_pstn_sessions_per_room` limits how many SIP and phone sessions it can have at a time, in both
    directions: 5, or more if Daily has agreed to it.

    Raises:
        pydantic.ValidationError: if Daily would refuse the request, or ignore a part of it.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(alias_generator=None)

    display_name: Text
    """The name of callers in the room, unless the URI they dial sets another: see `telstate.options.dialin_uri`."""
    sip_mode: Annotated[_Mode, one_of(_Mode)] = "dial-in"
    """Daily has no other mode."""
    num_endpoints: Positive | None = None
    """How many addresses to create, at least 1. An address takes one call at a time. Daily's default is 1."""
    video: Flag = False
    """Whether callers can send and receive video."""
    codecs: Codecs | None = None
    """Audio codecs, and with `video` also video codecs."""
    provider: Text | None = None
    """The carrier, as in `SipDialout`. It determines what the address looks like."""

    def body(self) -> dict[str, Any]:
        """Return what Daily takes as `properties.sip` of a room. Daily requires `sip_mode`, so it is always included."""
        return {"sip_mode": self.sip_mode, **super().body()}

    def _conflicts(self) -> Iterator[Conflict]:
        if self.codecs is not None and self.codecs.video is not None and not self.video:
            text = "codecs.video is for a room with video only: set video to True, or remove it"
            yield Conflict(("codecs", "video"), self.codecs.video, text)
