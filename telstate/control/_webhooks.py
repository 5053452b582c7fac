"""A domain's webhooks: list them, create them, check whether Daily still sends to them, and reactivate them.

Source of all names: docs.daily.co/reference/rest-api/webhooks and the pages below it.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Iterable
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal
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
"""The event types that telstate uses: all that it knows and that Daily sends to a webhook of this kind."""

_VERIFY_TIMEOUT = 30.0
"""Seconds for create and reactivate: Daily first sends a test to the receiver and waits for its answer, 8 seconds says public
code."""
_STATES = {0: "FAILED", 1: "ACTIVE", 2: "INACTIVE"}
"""From an older page of Daily's: "FAILED: 0, ACTIVE: 1, STOPPED: 2"; newer pages say INACTIVE."""


def _state(value: Any) -> Any:
    if isinstance(value, str):
        return value.upper()
    return _STATES.get(value, str(value)) if isinstance(value, int) else None


def _or_none(value: Any, validate: Any) -> Any:
    """Drop a value that Daily spells in a new way; the other fields are not affected."""
    try:
        return validate(value)
    except ValueError:
        return None


def _texts(value: Any) -> Any:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else ()


_Lenient = WrapValidator(_or_none)


class Webhook(BaseModel):
    """A webhook, as Daily describes it. Unknown fields are kept as extras; the two secrets show only by `get_secret_value()`."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
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
    """The secret that signs Daily's requests; base64."""
    basic_auth: Annotated[SecretStr | None, _Lenient] = None
    """The `Authorization` header of Daily's requests."""
    retry_type: Annotated[str | None, _Lenient] = None
    """`circuit-breaker` (three failures in a row make it FAILED) or `exponential` (five tries per event)."""
    event_types: Annotated[tuple[str, ...], BeforeValidator(_texts)] = ()
    state: Annotated[str | None, BeforeValidator(_state)] = None
    """`ACTIVE`, `FAILED`, `INACTIVE`, or a future state of Daily's; None if Daily gives none."""
    failed_count: Annotated[int | None, _Lenient] = None
    """Failures in a row; a success sets it to 0."""
    last_moment_pushed: Annotated[datetime | None, _Lenient] = None
    """When Daily last sent an event."""

    @property
    def silent(self) -> bool:
        """True if Daily sends nothing to it: events are being lost."""
        return self.state in ("FAILED", "INACTIVE")

    def lacks(self, event_types: Iterable[str] = NEEDED) -> tuple[str, ...]:
        """Return those of `event_types` that it does not subscribe to."""
        return tuple(one for one in event_types if one not in self.event_types)


class Webhooks:
    """The webhooks of one domain. A webhook receives the events of all rooms of its domain.

    Args:
        api: Daily's API with the domain's key, entered before the first request.
    """

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
        """Create a webhook. Daily first sends `{"test": "test"}` to `url`, and creates none unless the answer is 200.

        Args:
            url: where to send events.
            event_types: which events to send.
            secret: base64, signs the requests; without it Daily makes one, which is the `hmac` of the result.
            retry: `exponential` gives up on an event after five tries, never on the webhook; `circuit-breaker`, Daily's own default,
                sends nothing more after three failures in a row.

        Raises:
            DefinitionError: if the secret is not base64, or the URL is not valid.
            DailyError: if Daily refuses, for example because the receiver did not answer.
            UnknownResult: if the answer was lost: use `list` to check whether it was created.
        """
        if not url.startswith(("https://", "http://")):
            raise DefinitionError(f"{url!r} is not a URL that Daily can send to: use https://<your host>/webhooks")
        body: dict[str, Any] = {"url": url, "eventTypes": list(event_types), "retryType": retry}
        if secret is not None:
            body["hmac"] = _base64(secret)
        return _webhook(await self._post_verified("/webhooks", url, body))

    async def list(self) -> tuple[Webhook, ...]:
        """Return all webhooks of the domain.

        Raises:
            DailyError: if Daily cannot be asked.
        """
        answer = await self._api.request("GET", "/webhooks")
        if isinstance(answer, dict):  # the page shows a bare list; Daily's other lists are under `data`
            answer = answer.get("data")
        if not isinstance(answer, list):
            raise DailyError("GET /webhooks: Daily's answer is not a list of webhooks", status=200)
        return tuple(_webhook(one) for one in answer)

    async def get(self, uuid: str) -> Webhook:
        """Return one webhook.

        Raises:
            DailyError: if it does not exist (status 404), or Daily cannot be asked.
        """
        return _webhook(await self._api.request("GET", _path(uuid)))

    async def reactivate(self, uuid: str) -> Webhook:
        """Reactivate a webhook that FAILED; return its new state. Events that were lost meanwhile stay lost.

        Daily does this on an update with the same URL. It first tests the receiver, as in `create`.

        Raises:
            DailyError: if it does not exist, or Daily refuses, for example because the receiver did not answer.
            UnknownResult: if the answer was lost: use `get` to check.
        """
        before = await self.get(uuid)
        # It is not documented what an update does to fields that it omits, so only the secrets are omitted: they may be masked.
        fields = {"url": before.url, "eventTypes": list(before.event_types), "retryType": before.retry_type}
        body = {key: value for key, value in fields.items() if value}
        await self._post_verified(_path(uuid), before.url or "", body)
        after = await self.get(uuid)
        if before.hmac is not None and after.hmac != before.hmac:
            hint = "configure the receiver with the new secret, or it refuses all events"
            self._log.warning("webhook.secret_changed", uuid=uuid, hint=hint)
        return after

    async def _post_verified(self, path: str, url: str, body: dict[str, Any]) -> Any:
        try:
            return await self._api.request("POST", path, body, timeout=_VERIFY_TIMEOUT)
        except DailyError as error:
            # Seen in real traffic: "non-200 status code returned from webhook endpoint, recvd undefined"
            if error.status != 400 or "endpoint" not in (error.info or ""):
                raise
            hint = (
                f'Daily sent {{"test":"test"}} to {url} and got no 200 within some seconds: check that the service runs, can be'
                " reached from the internet at exactly this URL, and has the secret if one was given; then try again."
            )
            raise DailyError(f"{error} {hint}", status=error.status, error=error.error, info=error.info) from error


async def watch(api: DailyApi, uuid: str | None = None, every: float = 60.0) -> AsyncGenerator[Webhook, None]:
    """Poll one webhook, or all of the domain. Yields each webhook at first and at every change of its state.

    When Daily stops sending to a webhook, a warning is logged, once each time. If Daily cannot be asked, that is logged too, and
    polling goes on. It never ends by itself: leave it with `contextlib.aclosing` or a cancellation.

    Args:
        api: Daily's API.
        uuid: the webhook; None for all.
        every: seconds between two requests, in real time.

    Raises:
        DailyError: if Daily refuses, for example because the key is wrong or the webhook does not exist.
        DefinitionError: if `every` is not above 0.
    """
    if not every > 0:
        raise DefinitionError(f"every={every!r} must be a number of seconds above 0")
    log = Log()
    hooks = Webhooks(api)
    known: dict[str, str | None] = {}
    while True:
        try:
            listed = await hooks.list() if uuid is None else (await hooks.get(uuid),)
        except DailyError as error:
            if error.status is not None and 400 <= error.status < 500 and error.status != 429:
                raise
            log.warning("webhook.not_checked", uuid=uuid, error=str(error))
            listed = ()
        else:
            for gone in known.keys() - {webhook.uuid for webhook in listed}:
                del known[gone]
                log.warning("webhook.gone", uuid=gone, hint="events are being lost; telstate webhook create URL")
        for webhook in listed:
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
        raise DefinitionError("the webhook's UUID is empty: `telstate webhook list` shows all webhooks")
    return f"/webhooks/{quote(uuid, safe='')}"


def _base64(secret: str | SecretStr) -> str:
    text = secret.get_secret_value() if isinstance(secret, SecretStr) else secret
    try:
        if base64.b64decode(text, validate=True):
            return text
    except ValueError:
        pass
    raise DefinitionError("the secret must be base64 and not empty: `openssl rand -base64 32` makes one")


def _webhook(answer: Any) -> Webhook:
    try:
        return Webhook.model_validate(answer)
    except ValidationError:
        pass
    # Outside the except clause: else the ValidationError would be its context, and may hold a secret.
    raise DailyError("Daily's answer is not a webhook with a uuid", status=200)
