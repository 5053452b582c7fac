"""Where the calls of a number go. Source: docs.daily.co/reference/rest-api/dial-in/create-config and update-config."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import ConfigDict

from telstate.options._base import Conflict, Options
from telstate.options._fields import Base64Secret, PhoneNumber, Text, WebUrl, one_of

__all__ = ["DialinConfig", "SpokenMessage"]

_Kind: TypeAlias = Literal["pinless_dialin", "pin_dialin"]
_PINLESS_ONLY = ("room_creation_api", "hmac", "hold_music_url")


class SpokenMessage(Options):
    """A text that Daily reads to a caller.

    Raises:
        pydantic.ValidationError: if it is empty.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(alias_generator=None)

    message: Text
    """The text."""


class DialinConfig(Options):
    """Where the calls of a number go: to a program of yours (`pinless_dialin`), or to a room by its PIN (`pin_dialin`).

    Raises:
        pydantic.ValidationError: if Daily would refuse the request, or ignore a part of it.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(alias_generator=None, hide_input_in_errors=True)
    _hides_input: ClassVar[bool] = True

    type: Annotated[_Kind, one_of(_Kind)]
    """Which of the two."""
    phone_number: PhoneNumber | None = None
    """A number that you bought, and that has no other config. A pinless one without a number has a SIP address only."""
    name_prefix: Text | None = None
    """A name for people."""
    room_creation_api: WebUrl | None = None
    """Pinless only: the URL that learns of each caller on hold, that of `telstate.sources.webhook_app` with the path `/pinless`."""
    hmac: Base64Secret | None = None
    """Pinless only: signs the requests to it; base64. Without it Daily makes one."""
    hold_music_url: WebUrl | None = None
    """Pinless only: an MP3 file for callers on hold."""
    timeout_config: SpokenMessage | None = None
    """Is read to a caller to whom nobody reacts."""
    ivr_greeting: SpokenMessage | None = None
    """PIN only: is read to a caller who shall enter the PIN."""

    def _conflicts(self) -> Iterator[Conflict]:
        if self.type == "pinless_dialin":
            if self.room_creation_api is None:
                text = "room_creation_api is missing: a pinless number needs the URL that learns of its callers"
                yield Conflict(("room_creation_api",), None, text)
            if self.ivr_greeting is not None:
                yield Conflict(("ivr_greeting",), None, "ivr_greeting is for pin_dialin only: remove it")
            return
        for name in _PINLESS_ONLY:
            if getattr(self, name) is not None:
                yield Conflict((name,), None, f"{name} is for pinless_dialin only: remove it, or change the type")
