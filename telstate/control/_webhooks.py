"""A domain's webhooks: which there are, whether Daily still sends to them, and how to bring them back.

Source of all names: docs.daily.co/reference/rest-api/webhooks and the pages below it.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Iterable
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote

import anyio
from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, ValidationError, WrapValidator
from pydantic.alias_generators import to_camel

from telstate.control._api import DailyApi
from telstate.errors import DailyError, DefinitionError
from telstate.routing._log import Log

__all__ = ["NEEDED", "Webhook", "Webhooks", "watch"]

NEEDED = (
    "dialin.ready",
    "dialin.connected",
    "dialin.stopped",
    "dialin.error",
    "dialin.warning",
    "dialout.connected",
    "dialout.answered",
    "dialout.stopped",
    "dialout.error",
    "dialout.warning",
    "calltransfer.triggered",
    "calltransfer.initiated",
    "calltransfer.answered",
    "calltransfer.completed",
    "participant.joined",
    "participant.left",
    "meeting.ended",
)
"""The event types that telstate makes use of: all that it knows and Daily sends to a webhook of this kind."""

_VERIFIED = 30.0
"""Seconds for create and reactivate: Daily first asks the receiver and waits for it, by public code's word 8 seconds."""
_STATES = {0: "FAILED", 1: "ACTIVE", 2: "INACTIVE"}
"""An older page of Daily's: "FAILED: 0, ACTIVE: 1, STOPPED: 2"; newer pages say INACTIVE."""


def _state(told: Any) -> Any:
    if isinstance(told, str):
        return told.upper()
    return _STATES.get(told, str(told)) if isinstance(told, int) else None


def _or_none(value: Any, validate: Any) -> Any:
    """What Daily may leave out or spell in a new way costs that field alone."""
    try:
        return validate(value)
    except ValueError:
        return None


def _texts(value: Any) -> Any:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else ()


_Lenient = WrapValidator(_or_none)


class Webhook(BaseModel):
    """A webhook as Daily tells of it. Unknown fields are kept as extra; the two secrets show only by `get_secret_value()`."""

    model_config = ConfigDict(
        frozen=True,
        extra="allow",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        hide_input_in_errors=True,  # the input holds the secrets
    )

    uuid: str
    url: Annotated[str | None, _Lenient] = None
    hmac: Annotated[SecretStr | None, _Lenient] = None
    """Signs what Daily sends; base64."""
    basic_auth: Annotated[SecretStr | None, _Lenient] = None
    """What Daily puts into the `Authorization` header of what it sends."""
    retry_type: Annotated[str | None, _Lenient] = None
    """`circuit-breaker` (three failures in a row make it FAILED) or `exponential` (five tries for each event)."""
    event_types: Annotated[tuple[str, ...], BeforeValidator(_texts)] = ()
    state: Annotated[str | None, BeforeValidator(_state)] = None
    """`ACTIVE`, `FAILED`, `INACTIVE`, or whatever Daily comes to say; None if it says nothing."""
    failed_count: Annotated[int | None, _Lenient] = None
    """Failures in a row; a success sets it to 0."""
    last_moment_pushed: Annotated[datetime | None, _Lenient] = None
    """When Daily last sent something."""

    @property
    def silent(self) -> bool:
        """True if Daily sends nothing to it: what happens now is lost for whoever listens there."""
        return self.state in ("FAILED", "INACTIVE")

    def lacks(self, event_types: Iterable[str] = NEEDED) -> tuple[str, ...]:
        """Those of `event_types` that it does not ask for."""
        return tuple(one for one in event_types if one not in self.event_types)


class Webhooks:
    """The webhooks of the domain whose key `api` has. A webhook hears of all rooms of its domain."""

    def __init__(self, api: DailyApi) -> None:
        self._api = api
        self._log = Log()

    async def create(
        self,
        url: str,
        event_types: Iterable[str] = NEEDED,
        secret: str | SecretStr | None = None,
        retry: Literal["exponential", "circuit-breaker"] = "exponential",
    ) -> Webhook:
        """Make one. Daily sends `{"test": "test"}` to `url` at once and makes none if that is not answered by 200.

        Args:
            url: where to send events.
            event_types: which.
            secret: base64, to sign with; without it Daily makes one, and the answer's `hmac` is it.
            retry: `exponential` never gives up on the webhook, only on an event after five tries; `circuit-breaker`,
                Daily's own default, sends nothing more after three failures in a row.

        Raises:
            DefinitionError: if the secret is not base64, or the URL is none.
            DailyError: if Daily refuses, also because the receiver did not answer.
            UnknownResult: if the answer was lost: see by `list` whether there is one now.
        """
        if not url.startswith(("https://", "http://")):
            raise DefinitionError(f"{url!r} is no address Daily can send to: give https://<your host>/webhooks")
        body: dict[str, Any] = {"url": url, "eventTypes": list(event_types), "retryType": retry}
        if secret is not None:
            body["hmac"] = _base64(secret)
        return _webhook(await self._verified("/webhooks", url, body))

    async def list(self) -> tuple[Webhook, ...]:
        """All of the domain.

        Raises:
            DailyError: if Daily cannot be asked.
        """
        told = await self._api.request("GET", "/webhooks")
        if isinstance(told, dict):  # the page shows a bare list; Daily's other lists stand under `data`
            told = told.get("data")
        if not isinstance(told, list):
            raise DailyError("GET /webhooks: Daily answered something that is no list of webhooks", status=200)
        return tuple(_webhook(one) for one in told)

    async def get(self, uuid: str) -> Webhook:
        """One.

        Raises:
            DailyError: if there is none such (status 404), or Daily cannot be asked.
        """
        return _webhook(await self._api.request("GET", _path(uuid)))

    async def reactivate(self, uuid: str) -> Webhook:
        """Let Daily send again to a webhook that FAILED, and return it as it is then. What was lost meanwhile stays lost.

        Daily does it for an update with the same URL, and tests the receiver first, as in `create`.

        Raises:
            DailyError: if there is none such, or Daily refuses, also because the receiver did not answer.
            UnknownResult: if the answer was lost: see by `get` how it is.
        """
        before = await self.get(uuid)
        # No page says what an update does to what it leaves out, so only the secrets are: they may come masked.
        body = {"url": before.url, "eventTypes": list(before.event_types), "retryType": before.retry_type}
        told = {key: value for key, value in body.items() if value}
        await self._verified(_path(uuid), before.url or "", told)
        after = await self.get(uuid)
        if before.hmac is not None and after.hmac != before.hmac:
            self._log.warning(
                "webhook.secret_changed", uuid=uuid, hint="give the receiver the new one, else it refuses all"
            )
        return after

    async def _verified(self, path: str, url: str, body: dict[str, Any]) -> Any:
        try:
            return await self._api.request("POST", path, body, timeout=_VERIFIED)
        except DailyError as error:
            # Seen on real traffic: "non-200 status code returned from webhook endpoint, recvd undefined"
            if error.status != 400 or "endpoint" not in (error.info or ""):
                raise
            hint = (
                f'Daily sent {{"test":"test"}} to {url} and got no 200 within some seconds: see that the service runs, is'
                " reached from the internet at exactly this URL, and knows the secret if one was given; then do this again."
            )
            raise DailyError(f"{error} {hint}", status=error.status, error=error.error, info=error.info) from error


async def watch(api: DailyApi, uuid: str | None = None, every: float = 60.0) -> AsyncGenerator[Webhook, None]:
    """Look at a webhook, or at all of the domain, again and again: each is given at first and at every change of its state.

    When Daily has stopped to send to one, that is logged as a warning, once for each time. That Daily could not be asked is
    logged too, and the next look comes in its time. It has no end: leave it by `contextlib.aclosing` or a cancellation.

    Args:
        api: where to ask.
        uuid: which; None for all.
        every: seconds between two looks.

    Raises:
        DailyError: if Daily refuses, for example because the key is wrong or the webhook is gone.
        DefinitionError: if `every` is no time.
    """
    if not every > 0:
        raise DefinitionError(f"every={every!r} must be a number of seconds above 0")
    log = Log()
    hooks = Webhooks(api)
    known: dict[str, str | None] = {}
    while True:
        try:
            seen = await hooks.list() if uuid is None else (await hooks.get(uuid),)
        except DailyError as error:
            if error.status is not None and 400 <= error.status < 500 and error.status != 429:
                raise
            log.warning("webhook.not_seen", uuid=uuid, error=str(error))
            seen = ()
        else:
            for gone in known.keys() - {webhook.uuid for webhook in seen}:
                del known[gone]
                log.warning("webhook.gone", uuid=gone, hint="events are being lost; telstate webhook create URL")
        for webhook in seen:
            if webhook.uuid in known and known[webhook.uuid] == webhook.state:
                continue
            known[webhook.uuid] = webhook.state
            if webhook.silent:
                hint = f"events are being lost; telstate webhook reactivate {webhook.uuid}"
                log.warning("webhook.silent", uuid=webhook.uuid, state=webhook.state, hint=hint)
            yield webhook
        await anyio.sleep(every)


def _path(uuid: str) -> str:
    if not uuid:
        raise DefinitionError("a webhook's UUID is empty: `telstate webhook list` tells which there are")
    return f"/webhooks/{quote(uuid, safe='')}"


def _base64(secret: str | SecretStr) -> str:
    text = secret.get_secret_value() if isinstance(secret, SecretStr) else secret
    try:
        if base64.b64decode(text, validate=True):
            return text
    except ValueError:
        pass
    raise DefinitionError("the secret must be base64 and not empty: `openssl rand -base64 32` makes one")


def _webhook(told: Any) -> Webhook:
    try:
        return Webhook.model_validate(told)
    except ValidationError:
        pass
    # Outside the except: what is wrong is in the context otherwise, and a secret may be in that.
    raise DailyError("Daily answered something that is no webhook with a uuid", status=200)
