"""Options that a way to Daily does not carry: they are refused, because it would drop them without an error.

REST: its pages (docs.daily.co/reference/rest-api/rooms/dialout) do not have these fields. A call client: measured with daily-python
0.36, which takes any value for these keys, so it does not read them; pipecat's transport passes its dict on unchanged. Tests repeat the
measurement with the installed version, for each field of each option.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from telstate.errors import NotSupported
from telstate.options import Dtmf, Permissions, PhoneDialout, SipDialout, Transfer
from telstate.options._base import Options

__all__ = ["IN_ROOM", "REST", "Dropped", "refuse_dropped"]

Dropped: TypeAlias = Mapping[type[Options], Mapping[str, str | Callable[[Any], Iterator[tuple[str, str]]]]]
"""By option class and field: what to do instead. A function looks at the value: it yields what is dropped of it, and what to do instead."""

_BY_CLIENT = "start the call with a call client (ClientControl or TransportControl), or leave it out"

REST: Dropped = {
    SipDialout: {
        "permissions": _BY_CLIENT,
        "provider": "leave it out; a call client (ClientControl or TransportControl) takes 'daily'",
    },
    PhoneDialout: {
        "permissions": _BY_CLIENT,
        "provider": "leave it out: Daily's default is the one carrier for phone numbers",
    },
    Dtmf: {"method": "send it with a call client (ClientControl or TransportControl), or omit the method"},
}


def _other_provider(provider: str) -> Iterator[tuple[str, str]]:
    """daily-python refuses them itself, but its text does not say which option is wrong."""
    if provider != "daily":
        yield f"provider {provider!r}", "write 'daily', or leave it out"


_RECEIVERS = ("base", "byUserId", "byParticipantId")


def _other_permissions(permissions: Permissions) -> Iterator[tuple[str, str]]:
    for key in permissions.can_receive:
        if key not in _RECEIVERS:
            yield f"permissions.can_receive[{key!r}]", f"remove it; daily-python reads {', '.join(_RECEIVERS)}"


_BY_REST = "start the call with RestControl(api), or leave it out"

IN_ROOM: Dropped = {
    SipDialout: {
        "video_settings": _BY_REST,
        "permissions": _other_permissions,
        "provider": _other_provider,
    },
    PhoneDialout: {
        "permissions": _other_permissions,
        "provider": "leave it out: Daily's default is the one carrier for phone numbers",
    },
    Transfer: {
        "extension": "transfer with RestControl(api), or to a number that needs no extension",
        "wait_before_extension_dial_sec": "transfer with RestControl(api)",
    },
}


def refuse_dropped(way: str, dropped: Dropped, options: Options) -> None:
    """Refuse options with a value that would be dropped. What is not sent, for example a default, is no reason.

    Args:
        way: how errors name it.
        dropped: what it drops.
        options: what is about to be sent.

    Raises:
        NotSupported: if there is one. The message names all of them, and says what to do instead of each.
    """
    found = [f"{what}: {advice}" for what, advice in _find(dropped, options)]
    if found:
        kind = type(options).__name__
        raise NotSupported(f"{way} does not carry a part of this {kind}, nothing was sent. {'. '.join(found)}")


def _find(dropped: Dropped, options: Options) -> Iterator[tuple[str, str]]:
    fields = next((dropped[kind] for kind in type(options).__mro__ if kind in dropped), None)
    if not fields:
        return
    body = options.body()
    for name, advice in fields.items():
        if (type(options).model_fields[name].alias or name) not in body:
            continue
        if isinstance(advice, str):
            yield name, advice
        else:
            yield from advice(getattr(options, name))
