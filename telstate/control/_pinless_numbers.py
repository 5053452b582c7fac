"""Points a phone number at a program of yours: the domain's list of pinless numbers, which Daily replaces as a whole.

Source: docs.daily.co/reference/rest-api/domain/set-domain-config, `pinless_dialin`: what a POST leaves out is removed, and an entry without
an `hmac` gets a new one.
"""

from __future__ import annotations

import secrets
from base64 import b64decode, b64encode
from typing import Any, NamedTuple, TypeAlias

from pydantic import SecretStr

from telstate.control._api import DailyApi
from telstate.control._dialin_address import DialinAddress, digits_of, read_address
from telstate.errors import DailyError, DefinitionError, UnknownResult
from telstate.options import DialinConfig
from telstate.routing._log import Log

__all__ = ["PinlessChange", "PinlessNumbers"]

_LIST = "pinless_dialin"
_Entry: TypeAlias = dict[str, Any]
_Entries: TypeAlias = list[_Entry]


class PinlessChange(NamedTuple):
    """What `PinlessNumbers.set` did."""

    address: DialinAddress
    """The number, as Daily has it now."""
    new_secret: bool
    """True if its secret was made now: the receiver needs it."""
    meanwhile: tuple[str, ...]
    """Other entries that are not as they were sent: another program changed the list at the same time. Each says what."""


class PinlessNumbers:
    """The domain's pinless numbers: whoever calls one is on hold until your program forwards them.

    Newer domains may have numbers in `DialinConfigs` too; a number is in one of the two.

    All methods raise:
        DailyError: if Daily refused, or cannot be asked.

    Args:
        api: Daily's API with the domain's key, entered before the first request.
    """

    def __init__(self, api: DailyApi) -> None:
        self._api = api
        self._log = Log()

    def __repr__(self) -> str:
        return f"PinlessNumbers({self._api!r})"

    async def list(self) -> tuple[DialinAddress, ...]:
        """Return the numbers and SIP addresses, in Daily's order."""
        return tuple(read_address(entry, _LIST) for entry in await self._entries())

    async def set(
        self, number: str, url: str, secret: SecretStr | None = None, *, new_secrets: bool = False
    ) -> PinlessChange:
        """Let a URL learn of a number's callers. All other entries stay, with their secrets.

        Daily cannot change one entry: the whole list is read, changed, sent, and read again. What another program changes in the fraction
        of a second between reading and sending is overwritten; what it changes afterwards is in `meanwhile`.

        Args:
            number: the number, in E.164.
            url: the URL, that of `telstate.sources.webhook_app` with the path `/pinless`.
            secret: signs the requests to it; base64. By default the number keeps its own, and a new number gets one made here.
            new_secrets: True to go on although Daily shows no secret of another entry. It makes a new one for it then, and
                that entry's receiver refuses all callers until it has it.

        Raises:
            pydantic.ValidationError: if the number, the URL or the secret is not valid.
            DefinitionError: if another entry shows no secret, and `new_secrets` is not True. Nothing was sent.
            UnknownResult: if the answer was lost, or the list has not what was sent: read it to check.
        """
        DialinConfig(type="pinless_dialin", phone_number=number, room_creation_api=url, hmac=secret)
        before = await self._entries()
        old: _Entry = next((entry for entry in before if digits_of(entry.get("phone_number")) == digits_of(number)), {})
        others = [entry for entry in before if digits_of(entry.get("phone_number")) != digits_of(number)]
        if not new_secrets and (hidden := [_name_of(entry) for entry in others if _secret_of(entry) is None]):
            raise DefinitionError(
                f"Daily shows no secret for {', '.join(hidden)}, and would make a new one: its receiver would refuse all callers."
                " Nothing was sent. If that is what you want, say new_secrets=True (--new-secrets)"
            )
        kept = secret.get_secret_value() if secret is not None else _secret_of(old)
        hmac = kept or _new_secret()
        ours = {**old, "phone_number": number, "room_creation_api": url, "hmac": hmac}
        wanted = [ours if entry is old else entry for entry in before if entry is old or entry in others]
        if not old:
            wanted.append(ours)
        await self._post(wanted)
        return await self._verified(ours, others, new_secret=kept is None)

    async def _post(self, entries: _Entries) -> None:
        secrets = [SecretStr(secret) for secret in map(_secret_of, entries) if secret is not None]
        try:
            await self._api.request("POST", "/", {"properties": {_LIST: entries}}, idempotent=True, hide=secrets)
        except DailyError as error:
            if error.status != 400:
                raise
            hint = "If the number has a config of its own (telstate pinless show), change that: DialinConfigs.update."
            raise DailyError(f"{error} {hint}", status=400, error=error.error, info=error.info) from error

    async def _verified(self, ours: _Entry, others: _Entries, *, new_secret: bool) -> PinlessChange:
        """Read the list again, and compare it with what was sent."""
        after = await self._entries()
        found = next((one for one in after if _same(one, ours)), None)
        if found is None or _differs(found, ours):
            raise UnknownResult(
                f"POST /: Daily took the list, but {_name_of(ours)} is not in it as it was sent: another program changed it at the same"
                " time. See telstate pinless show, and set it again",
                status=200,
            )
        meanwhile = _changes(others, [one for one in after if one is not found])
        if meanwhile:
            hint = "another program changed the list at the same time; see telstate pinless show"
            self._log.warning("pinless.changed_meanwhile", changes=len(meanwhile), hint=hint)
        return PinlessChange(read_address({**ours, **found}, _LIST), new_secret, tuple(meanwhile))

    async def _entries(self) -> _Entries:
        answer = await self._api.request("GET", "/")
        config = answer.get("config") if isinstance(answer, dict) else None
        if not isinstance(config, dict):
            raise DailyError("GET /: Daily's answer is not the domain's configuration", status=200)
        listed = config.get(_LIST) or []
        if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
            # A list that cannot be read must not be sent back without what was not understood.
            raise DailyError(f"GET /: {_LIST} is not a list of entries", status=200)
        return listed


def _changes(sent: _Entries, found: _Entries) -> list[str]:
    """Return what differs between the other entries that were sent and those that are there now."""
    left, changes = list(found), []
    for entry in sent:
        match = next((one for one in left if _same(one, entry)), None)
        if match is None:
            changes.append(f"{_name_of(entry)} is gone")
            continue
        left.remove(match)
        if different := _differs(match, entry):
            changes.append(f"{_name_of(entry)} has another {' and '.join(different)}")
    return [*changes, *(f"{_name_of(entry)} is new" for entry in left)]


def _same(one: _Entry, other: _Entry) -> bool:
    """Return whether both are the same number, or without a number the same SIP address."""
    key = "phone_number" if other.get("phone_number") else "sip_uri"
    if key == "phone_number":
        return digits_of(one.get(key)) == digits_of(other[key])
    return not one.get("phone_number") and one.get(key) == other.get(key)


def _differs(now: _Entry, sent: _Entry) -> list[str]:
    """Return the fields that are not as they were sent. Those that Daily does not show are not compared."""
    shown = [name for name in sent if name in now and name != "phone_number"]
    if _secret_of(now) is None or _secret_of(sent) is None:
        shown = [name for name in shown if name != "hmac"]
    return [name for name in shown if now[name] != sent[name]]


def _secret_of(entry: _Entry) -> str | None:
    """Return the secret; None if it is absent or masked: sent back, it would be a wrong one."""
    secret = entry.get("hmac")
    try:
        return secret if isinstance(secret, str) and b64decode(secret, validate=True) else None
    except ValueError:
        return None


def _name_of(entry: _Entry) -> str:
    return str(entry.get("phone_number") or entry.get("sip_uri") or entry.get("name_prefix") or "a SIP address")


def _new_secret() -> str:
    return b64encode(secrets.token_bytes(32)).decode()
