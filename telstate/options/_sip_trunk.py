"""A SIP trunk, by which a carrier sends calls to Daily. Source: docs.daily.co/reference/rest-api/sip-trunk/create and update."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import ConfigDict

from telstate.options._base import Conflict, Options
from telstate.options._fields import Base64Secret, Flag, IpRange, Password, Positive, Text, WebUrl

__all__ = ["SipTrunk", "TrunkAccess", "TrunkCredential", "TrunkNotification"]

_SNAKE_CASE: ConfigDict = ConfigDict(alias_generator=None, hide_input_in_errors=True)


class TrunkCredential(Options):
    """The name and password with which a carrier authenticates. No representation and no error shows the password.

    Raises:
        pydantic.ValidationError: if one is missing.
    """

    model_config: ClassVar[ConfigDict] = _SNAKE_CASE
    _hides_input: ClassVar[bool] = True

    username: Text
    """The name."""
    password: Password
    """The password."""


class TrunkAccess(Options):
    """Who may send calls to a trunk: some addresses, whoever has the credential, or, only if you say so, everybody.

    Raises:
        pydantic.ValidationError: if nothing limits who may call and `is_open` is not True: Daily refuses that, and whoever finds the
            trunk's address could fill your rooms at your cost.
    """

    model_config: ClassVar[ConfigDict] = _SNAKE_CASE
    _hides_input: ClassVar[bool] = True

    allowed_ips: tuple[IpRange, ...] | None = None
    """The addresses from which the carrier sends: each an IP address, or a range such as 203.0.113.0/24."""
    credential: TrunkCredential | None = None
    """The name and password that the carrier gives."""
    is_open: Flag = False
    """True lets everybody call who knows the trunk's address."""
    exp_offset: Positive | None = None
    """Seconds after which a call's room expires. Daily's default is 3600."""

    def body(self) -> dict[str, Any]:
        """Return what Daily takes as `trunk_config`. `is_open` is always in it: an update that omits it might leave a trunk open."""
        return {**super().body(), "is_open": self.is_open}

    def _conflicts(self) -> Iterator[Conflict]:
        limited = [name for name in ("allowed_ips", "credential") if getattr(self, name)]
        if self.is_open and limited:
            text = f"is_open lets everybody in, whatever {' and '.join(limited)} says: give either of the two"
            yield Conflict(("is_open",), True, text)
        elif not self.is_open and not limited:
            text = (
                "nothing limits who may call: give allowed_ips (your carrier's addresses) or a credential; only if everybody"
                " shall get through who finds the trunk's address, is_open=True"
            )
            yield Conflict(("is_open",), self.is_open, text)


class TrunkNotification(Options):
    """The URL that learns of each call of a trunk: that of `telstate.sources.webhook_app` with the path `/sip-trunk`.

    Raises:
        pydantic.ValidationError: if it is not a URL, or the hmac is not base64.
    """

    model_config: ClassVar[ConfigDict] = _SNAKE_CASE
    _hides_input: ClassVar[bool] = True

    webhook_url: WebUrl
    """Daily POSTs `sip_trunk.incoming` to it, and lets the caller in only if it answers with 2xx within about 12 seconds."""
    hmac: Base64Secret | None = None
    """Signs these requests; base64. Without it Daily makes one."""


class SipTrunk(Options):
    """A trunk: the address at Daily to which your carrier sends calls, each of which gets a room of its own.

    Raises:
        pydantic.ValidationError: if Daily would refuse it, or it would be open to everybody by accident.
    """

    model_config: ClassVar[ConfigDict] = _SNAKE_CASE
    _hides_input: ClassVar[bool] = True
    _misplaced: ClassVar[dict[str, str]] = {
        "webhook_url": "is a field of notification: write notification={'webhook_url': …}",
        "hmac": "is a field of notification: write notification={'hmac': …}",
        "allowed_ips": "is a field of trunk_config: write trunk_config={'allowed_ips': […]}",
        "credential": "is a field of trunk_config: write trunk_config={'credential': …}",
        "is_open": "is a field of trunk_config: write trunk_config={'is_open': …}",
        "exp_offset": "is a field of trunk_config: write trunk_config={'exp_offset': …}",
    }

    trunk_name: Text
    """A part of the trunk's address, `sip:<number>@<domain>-<trunk>.siptrunk.sip-us.daily.co`."""
    notification: TrunkNotification
    """Who learns of each call."""
    trunk_config: TrunkAccess
    """Who may call."""
    room_template: dict[str, Any] | None = None
    """The properties of each call's room, by Daily's names."""
    description: Text | None = None
    """Daily sends it with each call."""
    enabled: Flag = True
    """False: the trunk takes no calls."""

    def body(self) -> dict[str, Any]:
        """Return what Daily takes to create the trunk."""
        return {**super().body(), "trunk_config": self.trunk_config.body()}
