"""What `telstate doctor` finds at Daily: the key, the webhooks, the rooms, the numbers and the trunks. It only reads there.

A webhook, a number or a trunk of one domain may belong to another service. So only those are judged that point to one of the URLs
that were given; of the others it says where they point.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import SecretStr

from telstate.cli._checkup import Observation, Once, fault, fine, together, unchecked, unknown_host, warning
from telstate.cli._daily_api import place_of
from telstate.cli._doctor_service import (
    PATHS,
    ClockOffset,
    GivenSecret,
    Service,
    clock_of,
    is_base64,
    is_loopback_url,
    signed_test,
)
from telstate.cli._pinless import all_numbers
from telstate.cli._webhook import problems_of
from telstate.control import DailyApi, DialinAddress, Room, Rooms, Trunk, Trunks, Webhook, Webhooks
from telstate.control._trunk_probe import ProbeKind
from telstate.errors import DailyError
from telstate.events._masking import mask_address
from telstate.views._findings import count, spoken

__all__ = [
    "DailyDomain",
    "check_daily",
    "check_pinless",
    "check_rooms",
    "check_trunks",
    "check_webhooks",
    "with_domain",
]

_TIMEOUT = 5.0
_UNHEARD = 300.0
"""Seconds by which the journal's last event may be older than what Daily sent last: clocks differ, and retries take a while."""
_BREAKER = "circuit-breaker"
_NO_URL = "no URL of a running service was given, so it is not known which of them are its own"


class DomainFacts(NamedTuple):
    """What Daily says of the domain."""

    name: str
    config: dict[str, Any]
    clock: ClockOffset | None
    """Daily's."""


class DailyDomain:
    """A domain of Daily's.

    Args:
        api: with the domain's key, entered.
        url: where the API is.
    """

    def __init__(self, api: DailyApi, url: str) -> None:
        self.api = api
        self._url = url
        self.facts: Once[DomainFacts] = Once(self._ask)

    async def _ask(self) -> DomainFacts:
        if (problem := await unknown_host(self._url)) is not None:
            raise DailyError(f"GET / was not sent: {problem}")
        began = time.time()
        answer = await self.api.send("GET", "/")
        value = answer.value if isinstance(answer.value, dict) else {}
        config = value.get("config")
        name = value.get("domain_name")
        if not isinstance(name, str):  # whatever answers there, it may not be Daily
            raise DailyError(f"GET /: the answer of {self._url} names no domain: check TELSTATE_DAILY_API_URL")
        return DomainFacts(name, config if isinstance(config, dict) else {}, clock_of(answer.date, began))


def with_domain(
    domain: DailyDomain | None, look: Callable[[DailyDomain], Awaitable[Sequence[Observation]]]
) -> Callable[[], Awaitable[Sequence[Observation]]]:
    """Return a check that looks only where Daily can be asked: that it cannot is one fault, not five."""

    async def check() -> Sequence[Observation]:
        if domain is None:
            return [unchecked("there is no API key in DAILY_API_KEY")]
        try:
            await domain.facts()
        except DailyError:
            return [unchecked("Daily cannot be asked: see the check `daily`")]
        return await look(domain)

    return check


async def check_daily(domain: DailyDomain | None) -> list[Observation]:
    """Whether the API answers, and takes the key."""
    if domain is None:
        return [unchecked("there is no API key in DAILY_API_KEY")]
    try:
        facts = await domain.facts()
    except DailyError as error:
        why = "the service cannot act on calls, and nothing at Daily can be checked"
        do = "take the key from the Developers section of Daily's dashboard" if error.status in (400, 401, 403) else ""
        return [fault(str(error), why, do or "check the network of this machine and https://status.daily.co")]
    return [fine(f"the API key is that of the domain {facts.name}")]


# --- webhooks ------------------------------------------------------------------------------------------------------


async def check_webhooks(
    domain: DailyDomain, services: Sequence[Service], secrets: Sequence[GivenSecret], heard: Once[float | None] | None
) -> list[Observation]:
    """Whether Daily sends all events to this service.

    Args:
        domain: the domain.
        services: the URLs of the service.
        secrets: those of the environment.
        heard: when the journal got its last event from a webhook, in Unix seconds; None without a journal.
    """
    listed = await Webhooks(domain.api).list()
    lost = "no event of a call reaches this service"
    if not listed:
        return [fault("the domain has no webhook", lost, "telstate webhook create URL, while the service runs")]
    if not services:
        return [unchecked(_NO_URL), *(one for webhook in listed for one in _state_of(webhook))]
    ours = [webhook for webhook in listed if _serves(webhook.url, services)]
    found = _elsewhere("webhook", [(f"the webhook {one.uuid}", one.url) for one in listed], services)
    if not ours and all(is_loopback_url(service.url) for service in services):
        only_here = (
            "only URLs of this machine were given, and not the one that Daily knows: whether a webhook points there"
        )
        return [*found, unchecked(only_here), *(one for webhook in listed for one in _state_of(webhook))]
    if not ours:
        do = f"telstate webhook create {services[0].url}{PATHS['webhook']}, while the service runs"
        return [*found, fault("no webhook of the domain points here", lost, do)]
    tests = await together(
        *(_signed(f"the webhook {one.uuid}", one.url or "", one.hmac, "webhook", secrets) for one in ours)
    )
    for webhook, signed in zip(ours, tests, strict=True):
        found += [*_state_of(webhook), signed]
    if len(ours) > 1:
        why = "each event comes several times; telstate drops the repetitions, and each of them costs a request"
        found.append(warning(f"{len(ours)} webhooks point here", why, "delete all but one at Daily"))
    if heard is not None:
        found += _heard(ours, await heard())
    return found


def _state_of(webhook: Webhook) -> list[Observation]:
    name = f"the webhook {webhook.uuid}"
    why = "telstate cannot know what Daily does not send"
    found = [fault(f"{name}: {problem.text}", why, problem.do) for problem in problems_of(webhook)]
    if webhook.failed_count and not webhook.silent:
        text = f"{count(webhook.failed_count, 'delivery')} in a row of {name} failed".replace("deliverys", "deliveries")
        why = "Daily switches it off after three" if webhook.retry_type == _BREAKER else "events are late or lost"
        found.append(warning(text, why, "see why in the log of the service"))
    if webhook.retry_type == _BREAKER:
        why = "Daily switches it off after three failures in a row, and sends nothing more"
        do = "create one more by telstate webhook create URL --another, which asks for exponential, and delete this one"
        found.append(warning(f"{name} has the retry type {_BREAKER}", why, do))
    return found or [fine(f"{name} is {webhook.state or 'there'}, and has all event types that telstate needs")]


def _heard(webhooks: Sequence[Webhook], heard: float | None) -> list[Observation]:
    """Compare when Daily last sent something with when the journal last got something."""
    pushed = max((one.last_moment_pushed.timestamp() for one in webhooks if one.last_moment_pushed), default=None)
    if pushed is None or (heard is not None and pushed - heard <= _UNHEARD):
        return []
    text = f"Daily last sent something {spoken(max(0.0, time.time() - pushed))} ago"
    before = "has nothing" if heard is None else f"got its last event {spoken(pushed - heard)} before that"
    why = "events go to another service or another journal, unless that was the test of a new webhook"
    do = "check that --journal is the file of the service that the webhook points to"
    return [warning(f"{text}, and the journal {before}", why, do)]


# --- rooms ---------------------------------------------------------------------------------------------------------


async def check_rooms(domain: DailyDomain, names: Sequence[str]) -> list[Observation]:
    """Whether each room may dial out, and how it can be called."""
    of_domain = (await domain.facts()).config.get("enable_dialout")
    if not names:
        return [
            fine("dial-out is enabled for the domain") if of_domain is True else unchecked("no room was given (--room)")
        ]
    of_each = await together(*(_room(domain, name, of_domain) for name in names))
    return [one for each in of_each for one in each]


async def _room(domain: DailyDomain, name: str, of_domain: object) -> list[Observation]:
    try:
        room = await Rooms(domain.api).get(name)
    except DailyError as error:
        if error.status != 404:
            raise
        why = "nothing can be dialled from there, and nobody can come in"
        return [fault(f"there is no room {name}", why, "create it, or check its name and the domain of the API key")]
    found = [_dialout(room, of_domain)]
    exp = room.config.get("exp")
    if isinstance(exp, int | float) and 0 < exp < time.time():
        why = "nobody can join it any more"
        found.append(fault(f"the room {name} expired {spoken(time.time() - exp)} ago", why, "create another one"))
    ways = [
        *([count(len(room.endpoints), "SIP endpoint")] if room.sip is not None else []),
        *(["a PIN"] if room.pin else []),
    ]
    found.append(fine(f"callers reach the room {name} by {' and '.join(ways) or 'pinless forwarding or a link only'}"))
    return found


def _dialout(room: Room, of_domain: object) -> Observation:
    enabled = room.config.get("enable_dialout", of_domain)
    if enabled is True:
        return fine(f"the room {room.name} may dial out")
    text = f"the room {room.name} {'may not dial out' if enabled is False else 'is not said to dial out'}"
    do = "Rooms(api).update(name, enable_dialout=True); Daily must have approved dial-out for the account, too"
    return fault(text, "each dial-out is refused (NotAllowed)", do)


# --- numbers and trunks --------------------------------------------------------------------------------------------


async def check_pinless(
    domain: DailyDomain, services: Sequence[Service], secrets: Sequence[GivenSecret]
) -> list[Observation]:
    """Whether this service learns of the callers of each number."""
    listed = await all_numbers(domain.api)
    numbers = [one for one in listed if one.kind == "pinless_dialin"]
    by_pin = len(listed) - len(numbers)
    found = [fine(f"{count(by_pin, 'number')} with a PIN, which needs no URL")] if by_pin else []
    if not numbers:
        return found or [fine("the domain has no numbers, so nobody is put on hold")]
    if not services:
        return [*found, unchecked(_NO_URL)]
    ours = [one for one in numbers if _serves(one.room_creation_api, services)]
    found += _elsewhere("number", [(f"the number {_number(one)}", one.room_creation_api) for one in numbers], services)
    alike: dict[tuple[str, SecretStr | None], list[DialinAddress]] = {}  # thousands may share a URL and a secret
    for one in ours:
        alike.setdefault((one.room_creation_api or "", one.hmac), []).append(one)
    found += await together(
        *(_signed(_names(some), url, hmac, "pinless", secrets) for (url, hmac), some in alike.items())
    )
    return found


def _names(addresses: Sequence[DialinAddress]) -> str:
    more = len(addresses) - 1
    return f"the number {_number(addresses[0])}{f' and of {more} more' if more else ''}"


def _number(address: DialinAddress) -> str:
    return mask_address(address.phone_number or address.sip_uri or "without a number")


async def check_trunks(
    domain: DailyDomain, services: Sequence[Service], secrets: Sequence[GivenSecret]
) -> list[Observation]:
    """Whether calls on each trunk get through."""
    try:
        listed = await Trunks(domain.api).list()
    except DailyError as error:
        if error.status not in (403, 404):
            raise
        return [unchecked("Daily shows no trunks to this domain: they may not be enabled for it")]
    if not listed:
        return [fine("the domain has no SIP trunks")]
    if not services:
        return [unchecked(_NO_URL)]
    ours = [one for one in listed if _serves(one.webhook_url, services)]
    found = _elsewhere("trunk", [(f"the trunk {one.id}", one.webhook_url) for one in listed], services)
    given = next(iter(_of_kind("siptrunk", secrets)), None)
    of_each = await together(*(_trunk(domain, one, None if given is None else given.value) for one in ours))
    return [*found, *(one for each in of_each for one in each)]


async def _trunk(domain: DailyDomain, trunk: Trunk, secret: SecretStr | None) -> list[Observation]:
    """As `telstate trunk check`."""
    check = await Trunks(domain.api).check(trunk.id, secret=_readable(trunk.hmac) or secret, timeout=_TIMEOUT)
    name, do = f"the trunk {trunk.id}", f"mend that, then telstate trunk check {trunk.id}"
    found = [fault(f"{name}: {problem}", "calls on it do not get through", do) for problem in check.problems]
    found += [
        warning(f"{name}: {text}", "calls get through, but perhaps not as you mean it", do) for text in check.warnings
    ]
    address = trunk.sip_uri or "an address that Daily does not show"
    return found or [fine(f"{name} is enabled at {address}, and its URL accepts a signed test")]


# --- what they share -----------------------------------------------------------------------------------------------


async def _signed(
    name: str, url: str, shown: SecretStr | None, kind: ProbeKind, secrets: Sequence[GivenSecret]
) -> Observation:
    """Send a test to where Daily sends, signed with the secret that Daily signs with, if it shows that."""
    given = next(iter(_of_kind(kind, secrets)), None)
    shown = _readable(shown)
    secret = shown or (None if given is None else given.value)
    if secret is None:
        return unchecked(f"Daily does not show the secret of {name}, and no setting has one")
    signed = await signed_test(url, secret, kind)
    whose = "with the secret that Daily has" if shown is not None else "with that of the settings"
    if signed.accepted:
        return fine(f"the URL of {name} accepts a test that is signed {whose}")
    text = f"the URL of {name} {signed.said_of(f'a test that is signed {whose}')}"
    if signed.accepted is False:
        variables = {"webhook": "TELSTATE_WEBHOOK_SECRET", "pinless": "TELSTATE_PINLESS_SECRET"}
        do = f"put the hmac that Daily has into {variables.get(kind, 'TELSTATE_TRUNK_SECRET')}, and start the service again"
        return fault(text, "it refuses all that Daily sends there", do)
    return fault(
        text, "what Daily sends there may be lost", "check the URL, and what stands between Daily and the service"
    )


def _readable(shown: SecretStr | None) -> SecretStr | None:
    """Return a secret as Daily shows it; None if that is masked."""
    return shown if shown is not None and is_base64(shown) else None


def _of_kind(kind: ProbeKind, secrets: Iterable[GivenSecret]) -> list[GivenSecret]:
    """Those that may sign this kind: its own first, then those for all."""
    own = [one for one in secrets if one.kind == kind]
    return own if kind == "webhook" else [*own, *(one for one in secrets if one.kind == "webhook")]


def _host_of(url: str | None) -> str:
    place = place_of(url or "")
    return "an address that cannot be read" if place is None else place[1] or "nowhere"


def _serves(url: str | None, services: Iterable[Service]) -> bool:
    """Return whether a URL is one at which a service takes requests. It takes all kinds on each of its paths."""
    paths = {place_of(f"{service.url}{path}") for service in services for path in PATHS.values()}
    return url is not None and place_of(url) in paths - {None}


def _is_host_of(url: str | None, services: Iterable[Service]) -> bool:
    place = None if url is None else place_of(url)
    hosts = {known[:3] for service in services if (known := place_of(service.url)) is not None}
    return place is not None and place[:3] in hosts


def _elsewhere(what: str, urls: Iterable[tuple[str, str | None]], services: Sequence[Service]) -> list[Observation]:
    """Say which do not point here, by host alone: the rest of a URL may be a secret of another service."""
    others = [(name, url) for name, url in urls if not _serves(url, services)]
    found = [_wrong_path(name, url) for name, url in others if _is_host_of(url, services)]
    hosts = Counter(_host_of(url) for _, url in others if not _is_host_of(url, services))
    if hosts:
        listed = ", ".join(f"{host} ({number})" if number > 1 else host for host, number in sorted(hosts.items()))
        number = hosts.total()
        found.append(
            fine(f"{count(number, what)} of the domain {'points' if number == 1 else 'point'} elsewhere: {listed}")
        )
    return found


def _wrong_path(name: str, url: str | None) -> Observation:
    return warning(
        f"{name} points to this host, but to {urlsplit(url or '').path or '/'}, where the URLs that were given have nothing",
        "unless another program serves that, what Daily sends there is lost",
        f"let it point to one of {', '.join(PATHS.values())}, below the URL of the service",
    )
