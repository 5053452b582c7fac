"""A domain's SIP trunks: create, list, change and delete them, and check that calls on them would get through.

Source of all names: docs.daily.co/reference/rest-api/sip-trunk and the pages below it; docs.daily.co/docs/guides/features/dial-in-dial-out/sip-trunk.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote

from pydantic import SecretStr

from telstate.control._api import DailyApi
from telstate.control._trunk_probe import PROBE_TIMEOUT, TrunkProbe, probe
from telstate.errors import DailyError, DefinitionError, UnknownResult
from telstate.options import SipTrunk, TrunkAccess, TrunkNotification
from telstate.routing._log import Log

__all__ = ["Trunk", "TrunkCheck", "Trunks"]

_VERIFY_TIMEOUT = 30.0
"""Seconds for create and update: Daily first sends a test to the receiver and waits for its answer."""
_ABOUT_THE_TEST = re.compile(r"webhook|endpoint|notification|sip_trunk\.test", re.IGNORECASE)
"""In the text of a 400 whose cause is the receiver. No page shows that text."""
_SLOW = 3.0
"""Seconds. Daily waits about 12 in all, and a request that fails takes its part of them."""


@dataclass(frozen=True)
class Trunk:
    """A SIP trunk, as Daily describes it. What Daily does not say is None. The secrets show only by `get_secret_value()`."""

    id: str
    trunk_name: str | None = None
    sip_uri: str | None = None
    """The address to which your carrier sends calls."""
    description: str | None = None
    enabled: bool | None = None
    webhook_url: str | None = None
    """The URL that learns of each call."""
    hmac: SecretStr | None = None
    """The secret that signs the requests to it; base64."""
    allowed_ips: tuple[str, ...] = ()
    """The addresses from which calls may come."""
    username: str | None = None
    """The name with which the carrier authenticates."""
    password: SecretStr | None = None
    is_open: bool | None = None
    """True if everybody may call who knows the address."""
    exp_offset: int | None = None
    """Seconds after which a call's room expires."""
    room_template: dict[str, Any] = field(default_factory=dict)
    """The properties of each call's room."""

    @property
    def lets_everybody_in(self) -> bool:
        """True if nothing limits who may call: by `is_open`, or by a range that has all addresses."""
        return self.is_open is True or any(one.endswith("/0") for one in self.allowed_ips)


class TrunkCheck(NamedTuple):
    """What is wrong with a trunk. It is true if no problem was found."""

    trunk: Trunk
    problems: tuple[str, ...]
    """Why calls do not get through, and what to do."""
    warnings: tuple[str, ...]
    """What works, and may not be meant."""
    probe: TrunkProbe | None
    """The answer of the `webhook_url`; None if it was not asked."""

    def __bool__(self) -> bool:
        """Return whether calls get through, as far as can be checked from here."""
        return not self.problems


class Trunks:
    """The SIP trunks of one domain.

    All methods raise:
        DailyError: if Daily refused, for example because there is no such trunk (status 404), or cannot be asked.
        UnknownResult: if the answer to a change was lost or makes no sense: use `list` to check.

    Args:
        api: Daily's API with the domain's key, entered before the first request.
    """

    def __init__(self, api: DailyApi) -> None:
        self._api = api
        self._log = Log()

    def __repr__(self) -> str:
        return f"Trunks({self._api!r})"

    async def create(self, trunk: SipTrunk) -> Trunk:
        """Create a trunk; its `sip_uri` is the address for your carrier, its `hmac` the secret for your receiver.

        Daily first sends a signed `sip_trunk.test` to the `webhook_url`, and creates none unless the answer is 2xx. If the receiver is
        to verify that, give the secret yourself (`TrunkNotification(hmac=…)`) and start the receiver with it before.

        Raises:
            DailyError: also if the receiver did not answer the test.
        """
        answer = await self._verified("POST", "/sip-trunk", trunk.body(), trunk.notification, trunk.trunk_config)
        return _trunk(answer, UnknownResult)

    async def list(self) -> tuple[Trunk, ...]:
        """Return all trunks of the domain."""
        answer = await self._api.request("GET", "/sip-trunk")
        if isinstance(answer, dict):  # the page shows no answer; Daily's other lists are bare, or under `data`
            answer = answer.get("data")
        if not isinstance(answer, list):
            raise DailyError("GET /sip-trunk: Daily's answer is not a list of trunks", status=200)
        return tuple(_trunk(one) for one in answer)

    async def get(self, trunk_id: str) -> Trunk:
        """Return one trunk."""
        return _trunk(await self._api.request("GET", _path(trunk_id)))

    async def update(
        self,
        trunk_id: str,
        *,
        notification: TrunkNotification | None = None,
        trunk_config: TrunkAccess | None = None,
        room_template: Mapping[str, Any] | None = None,
        description: str | None = None,
        enabled: bool | None = None,
    ) -> Trunk:
        """Change a trunk, and return it as it is then. What is None stays.

        Args:
            trunk_id: the trunk.
            notification: another URL or secret; Daily tests it, as in `create`.
            trunk_config: who may call. It is not documented whether Daily replaces or merges it, so give all that shall hold.
            room_template: the properties of each call's room.
            description: a text; empty removes it.
            enabled: False stops calls.

        Raises:
            DefinitionError: if nothing is to be changed.
        """
        fields: dict[str, Any] = {
            "notification": None if notification is None else notification.body(),
            "trunk_config": None if trunk_config is None else trunk_config.body(),
            "room_template": None if room_template is None else dict(room_template),
            "description": description,
            "enabled": enabled,
        }
        body = {key: value for key, value in fields.items() if value is not None}
        if not body:
            raise DefinitionError(f"nothing to change: give one of {', '.join(fields)}")
        before = await self.get(trunk_id)
        await self._verified("PUT", _path(trunk_id), body, notification, trunk_config)
        after = await self.get(trunk_id)
        given = notification.hmac if notification is not None else None
        if given is None and before.hmac is not None and after.hmac != before.hmac:
            hint = "configure the receiver with the new secret, or it refuses all calls"
            self._log.warning("trunk.secret_changed", trunk=trunk_id, hint=hint)
        return after

    async def delete(self, trunk_id: str) -> None:
        """Delete a trunk: its carrier's calls are refused from then on."""
        try:
            await self._api.request("DELETE", _path(trunk_id), idempotent=True)
        except DailyError as error:
            if error.status != 404 or not error.repeated:  # else the first request deleted it, and its answer was lost
                raise

    async def check(
        self,
        trunk_id: str,
        *,
        secret: SecretStr | None = None,
        timeout: float = PROBE_TIMEOUT,  # noqa: ASYNC109 - not of the whole check
    ) -> TrunkCheck:
        """Check whether calls on a trunk would get through: it is enabled, and its `webhook_url` answers a signed `sip_trunk.test`.

        The test is sent from this machine, which may reach an address that Daily cannot, and the other way round.

        Args:
            trunk_id: the trunk.
            secret: signs the test; by default the trunk's `hmac`, if Daily shows it.
            timeout: seconds in which the URL must answer; by default those for which Daily keeps a caller.
        """
        trunk = await self.get(trunk_id)
        problems, warnings = [], []
        if trunk.enabled is False:
            problems.append(f"it is disabled and takes no calls: telstate trunk update {trunk.id} --enable")
        if trunk.lets_everybody_in:
            warnings.append(
                "it is open: everybody who knows its address can call, at your cost; limit it to your carrier"
            )
        answer = None
        secret = secret or trunk.hmac
        if trunk.webhook_url is None:
            problems.append("it has no webhook_url, so nobody learns of its calls: set one")
        elif secret is None:
            warnings.append(
                "its webhook_url was not tested: Daily does not show the secret that signs the test, so give it"
            )
        else:
            answer = await probe(trunk.webhook_url, secret, trunk.trunk_name or "", timeout)
            if (problem := answer.problem) is not None:
                problems.append(f"its webhook_url {trunk.webhook_url} {problem}; Daily rejects every call with 480")
            elif answer.seconds > _SLOW:
                slow = f"its webhook_url took {answer.seconds:.1f} s: Daily waits about 12 s in all; answer first, then do the work"
                warnings.append(slow)
        return TrunkCheck(trunk, tuple(problems), tuple(warnings), answer)

    async def _verified(
        self,
        method: str,
        path: str,
        body: dict[str, Any],
        notification: TrunkNotification | None,
        access: TrunkAccess | None,
    ) -> Any:
        """Send a change; if the receiver did not answer Daily's test, the error says what to do."""
        credential = access.credential if access is not None else None
        secrets = [credential.password] if credential is not None else []
        if notification is not None and notification.hmac is not None:
            secrets.append(notification.hmac)
        how: dict[str, Any] = {"timeout": _VERIFY_TIMEOUT, "idempotent": method == "PUT", "hide": secrets}
        try:
            return await self._api.request(method, path, body, **how)
        except DailyError as error:
            text = f"{error.error} {error.info}"
            if notification is None or error.status != 400 or not _ABOUT_THE_TEST.search(text):
                raise
            hint = (
                f" Daily sends a signed sip_trunk.test to {notification.webhook_url}, which must answer with 2xx: check that the"
                " service runs, can be reached from the internet at exactly this URL, and has the trunk's secret; then try again."
            )
            raise DailyError(f"{error}{hint}", status=error.status, error=error.error, info=error.info) from error


def _path(trunk_id: str) -> str:
    if not trunk_id:
        raise DefinitionError("the trunk's id is empty: `telstate trunk list` shows all trunks")
    return f"/sip-trunk/{quote(trunk_id, safe='')}"


def _trunk(answer: Any, error: type[DailyError] = DailyError) -> Trunk:
    """Read a trunk from an answer; if it is not one, raise `error`. What Daily spells in a new way is None."""
    top = _Fields(answer)
    trunk_id = top.text("id")
    if not trunk_id:
        raise error("Daily's answer is not a trunk with an id", status=200)
    notification, access = _Fields(top.get("notification")), _Fields(top.get("trunk_config"))
    credential = _Fields(access.get("credential"))
    listed = access.get("allowed_ips")
    exp_offset, template = access.get("exp_offset"), top.get("room_template")
    return Trunk(
        trunk_id,
        trunk_name=top.text("trunk_name"),
        sip_uri=top.text("sip_uri"),
        description=top.text("description"),
        enabled=top.flag("enabled"),
        webhook_url=notification.text("webhook_url"),
        hmac=top.secret("hmac") or notification.secret("hmac"),
        allowed_ips=tuple(one for one in listed if isinstance(one, str)) if isinstance(listed, list) else (),
        username=credential.text("username"),
        password=credential.secret("password"),
        is_open=access.flag("is_open"),
        exp_offset=exp_offset if type(exp_offset) is int else None,
        room_template=template if isinstance(template, dict) else {},
    )


class _Fields:
    """The fields of a JSON object; anything else has none."""

    def __init__(self, value: Any) -> None:
        self._fields: dict[str, Any] = value if isinstance(value, dict) else {}

    def get(self, name: str) -> Any:
        return self._fields.get(name)

    def text(self, name: str) -> str | None:
        value = self.get(name)
        return value if isinstance(value, str) else None

    def flag(self, name: str) -> bool | None:
        value = self.get(name)
        return value if isinstance(value, bool) else None

    def secret(self, name: str) -> SecretStr | None:
        value = self.text(name)
        return SecretStr(value) if value else None
