"""What `telstate doctor` finds at the running service: whether it answers, whether it knows the secrets, and whether clocks agree.

The secrets are shown by a signed `sip_trunk.test`. telstate's receiver verifies it as any other request, answers whether it accepted the
signature, and keeps nothing: it carries no event.
"""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from secrets import token_bytes
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import anyio
from pydantic import SecretStr

from telstate.calls._signs import CLOCKS_DIFFER
from telstate.cli._checkup import Observation, Once, fault, fine, together, unchecked, unknown_host, warning
from telstate.control._api import unix_seconds
from telstate.control._error_mapping import one_line
from telstate.control._tls import tls_for
from telstate.control._trunk_probe import ProbeKind, probe
from telstate.errors import DailyError, DefinitionError
from telstate.sources._signatures import AHEAD, TOLERANCE, Secret
from telstate.views._findings import spoken

if TYPE_CHECKING:
    import httpx

    from telstate.cli._doctor_daily import DailyDomain

__all__ = [
    "PATHS",
    "ClockOffset",
    "GivenSecret",
    "Service",
    "Signed",
    "check_clocks",
    "check_secrets",
    "check_services",
    "is_base64",
    "is_loopback_url",
    "signed_test",
]

PATHS: Mapping[ProbeKind, str] = {"webhook": "/webhooks", "pinless": "/pinless", "siptrunk": "/sip-trunk"}
"""Where a service takes each kind of request."""
_TIMEOUT = 5.0
_LONGEST_ANSWER = 64 * 1024
"""Bytes that are read of an answer: whatever answers there, it may be anything."""
_LOST = "what Daily sends is lost: a webhook with circuit-breaker is switched off after three failures, one with exponential gives each event up after five tries"


class GivenSecret(NamedTuple):
    """A secret of the environment."""

    name: str
    """Where it is, for people."""
    kind: ProbeKind
    """What it signs."""
    value: SecretStr


class ClockOffset(NamedTuple):
    """How a clock compares with this machine's."""

    ahead: float
    """Seconds that it is ahead."""
    within: float
    """Seconds by which that may be wrong: a Date header has no fraction, and the answer took a while."""

    @property
    def agrees(self) -> bool:
        """True if times of both count as the same."""
        return abs(self.ahead) <= CLOCKS_DIFFER + self.within

    def said_of(self, clock: str, other: str) -> str:
        """Return that one clock is ahead or behind."""
        return f"{clock} is {spoken(abs(self.ahead))} {'ahead of' if self.ahead > 0 else 'behind'} {other}"


class ServiceAnswer(NamedTuple):
    """What a service says of itself."""

    status: int | None
    """Of `GET /ready`; None if nothing answered."""
    clock: ClockOffset | None
    reason: str
    """Why it is not ready, or why nothing answered."""
    is_telstate: bool = False
    """Whether it answers in the form that telstate's `/ready` has."""


class Service:
    """A running service, by one of its URLs.

    Args:
        url: the URL below which it has `/webhooks` and `/ready`.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.answer: Once[ServiceAnswer] = Once(self._ask)

    async def _ask(self) -> ServiceAnswer:
        import httpx  # noqa: PLC0415 - an extra

        if (problem := await unknown_host(self.url)) is not None:
            return ServiceAnswer(None, None, problem)
        try:
            with anyio.fail_after(_TIMEOUT):
                async with httpx.AsyncClient(timeout=_TIMEOUT, verify=await tls_for(self.url)) as client:
                    began = time.time()
                    async with client.stream("GET", f"{self.url}/ready") as response:
                        clock = clock_of(response.headers.get("Date"), began)
                        return ServiceAnswer(response.status_code, clock, *_said(await _start_of(response)))
        except (TimeoutError, httpx.TimeoutException):
            return ServiceAnswer(None, None, f"no complete answer came within {_TIMEOUT:g} seconds")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return ServiceAnswer(None, None, one_line(str(error)).rstrip(".") or type(error).__name__)


def clock_of(date: str | float | None, began: float) -> ClockOffset | None:
    """Compare the clock of a server that has just answered with ours.

    Args:
        date: the Date header of its answer, or Unix seconds.
        began: when the request was sent, by our clock.
    """
    now = time.time()
    at = unix_seconds(date) if isinstance(date, str) else date
    return None if at is None else ClockOffset(at + 0.5 - (began + now) / 2, 0.5 + (now - began) / 2)


async def _start_of(response: httpx.Response) -> bytes:
    """Return an answer; of one that is too long to be telstate's, the first bytes. What is compressed stays so."""
    text = bytearray()
    async for chunk in response.aiter_raw():
        text += chunk
        if len(text) > _LONGEST_ANSWER:
            break
    return bytes(text)


def _said(text: bytes) -> tuple[str, bool]:
    """Return the reason that an answer of `/ready` gives, and whether it is one."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return "", False
    if not isinstance(answer, dict):
        return "", False
    error = answer.get("error")
    return one_line(error).rstrip(".") if isinstance(error, str) else "", isinstance(answer.get("ok"), bool)


def is_loopback_url(url: str) -> bool:
    """Return whether a URL leads to this machine, whatever names it has elsewhere."""
    host = urlsplit(url).hostname or ""
    return host in {"localhost", "::1"} or host.startswith("127.")


# --- the service ---------------------------------------------------------------------------------------------------


async def check_services(services: Sequence[Service]) -> list[Observation]:
    """Whether each URL leads to a service that takes calls."""
    if not services:
        return [unchecked("no URL of a running service was given")]
    answers = await together(*(service.answer() for service in services))
    return [_judged(service.url, answer) for service, answer in zip(services, answers, strict=True)]


def _judged(url: str, answer: ServiceAnswer) -> Observation:
    status, reason = answer.status, answer.reason
    if status is None:
        do = "start telstate serve; then check the address, the proxy before it and its certificate"
        return fault(f"{url} does not answer: {reason}", _LOST, do)
    if status == 200 and answer.is_telstate:
        return fine(f"{url} answers, and takes calls")
    if status == 503:
        do = "see the log of the service, and telstate doctor --journal where the service runs"
        return fault(f"{url} takes no calls now: {reason or 'it does not say why'}", _LOST, do)
    if 300 <= status < 400:
        return fault(
            f"{url} answers {status}, a redirect, which Daily counts as a failure",
            _LOST,
            "use the URL to which it leads",
        )
    do = "give the URL below which /webhooks is, such as https://HOST; or let the proxy pass /ready on"
    what = f"{status}, and not what telstate says there" if status == 200 else str(status)
    return fault(f"{url}/ready answers {what}, so this is no service of telstate's, or not its URL", _LOST, do)


# --- secrets -------------------------------------------------------------------------------------------------------


class Signed(NamedTuple):
    """What a receiver makes of a signed test."""

    accepted: bool | None
    """None if it does not say, or nothing answered."""
    does: str
    more: str = ""

    def said_of(self, test: str) -> str:
        """Return what it did, as a part of a sentence."""
        return f"{self.does} {test}{self.more}"


async def signed_test(url: str, secret: SecretStr, kind: ProbeKind) -> Signed:
    """Send a signed test, which carries no event.

    Args:
        url: the whole URL.
        secret: signs it.
        kind: as what it is signed.
    """
    if (problem := await unknown_host(url)) is not None:
        return Signed(None, "does not answer", f": {problem}")
    try:
        answer = await probe(url, secret, "telstate doctor", _TIMEOUT, kind=kind)
    except DefinitionError:
        return Signed(False, "cannot accept", ": the secret is not base64")
    if answer.status is None:
        return Signed(None, "does not answer", f": {answer.failure}")
    if answer.verified is False or answer.status in (401, 403):
        return Signed(False, "refuses")
    if answer.verified is True and answer.status == 200:
        return Signed(True, "accepts")
    return Signed(None, f"answers {answer.status} to", ", and does not say whether it accepts it")


async def check_secrets(services: Sequence[Service], secrets: Sequence[GivenSecret]) -> list[Observation]:
    """Whether each service accepts what is signed with the secrets of this environment, and refuses everything else."""
    if not services:
        return [unchecked("no URL of a running service was given")]
    found = [_not_base64(secret.name) for secret in secrets if not is_base64(secret.value)]
    right = [secret for secret in secrets if is_base64(secret.value)]
    of_each = await together(*(_with_secrets(service, right) for service in services))
    return [*found, *(one for each in of_each for one in each)]


async def _with_secrets(service: Service, secrets: Sequence[GivenSecret]) -> list[Observation]:
    url = service.url
    if (await service.answer()).status is None:
        return [unchecked(f"{url} does not answer")]
    wrong, *answers = await together(
        signed_test(f"{url}{PATHS['webhook']}", SecretStr(b64encode(token_bytes(32)).decode()), "webhook"),
        *(signed_test(f"{url}{PATHS[one.kind]}", one.value, one.kind) for one in secrets),
    )
    if wrong.accepted:
        return [_takes_everything(url)]
    found = [
        fine(f"{url} refuses a test with a wrong signature")
        if wrong.accepted is False
        else warning(
            f"{url} {wrong.said_of('a test with a wrong signature')}",
            "it is not certain that strangers are refused",
            "check that the URL leads to telstate, and not to something that answers for it",
        )
    ]
    if not secrets:
        found.append(
            unchecked("there is no secret in TELSTATE_WEBHOOK_SECRET, so no test was signed with the right one")
        )
    return [*found, *(_of_secret(url, secret, signed) for secret, signed in zip(secrets, answers, strict=True))]


def _of_secret(url: str, secret: GivenSecret, signed: Signed) -> Observation:
    test = f"a test that is signed with {secret.name}"
    if signed.accepted:
        return fine(f"{url} accepts {test}")
    text = f"{url} {signed.said_of(test)}"
    if signed.accepted is False:
        do = f"start the service with this {secret.name}, or look in its log: which secret it misses, or whether its clock is wrong"
        return fault(text, "it refuses what Daily signs with this secret, and Daily gives these events up", do)
    why = "it is not certain that it accepts what Daily sends"
    return warning(text, why, "check the path of the URL, and what stands between here and the service")


def _takes_everything(url: str) -> Observation:
    text = f"{url} accepts a test with a wrong signature: the service has no secret"
    do = "set TELSTATE_WEBHOOK_SECRET, and start the service again"
    if is_loopback_url(url):
        return warning(text, "only this machine is let in without one, so Daily is refused", do)
    return fault(text, "whoever knows the URL can invent calls", do)


def is_base64(secret: SecretStr) -> bool:
    """Return whether a text can be a secret."""
    try:
        Secret(secret.get_secret_value())
    except ValueError:
        return False
    return True


def _not_base64(name: str) -> Observation:
    why = "the service does not start with it"
    return fault(
        f"{name} is not base64", why, "set it to the hmac that Daily shows, or make one: openssl rand -base64 32"
    )


# --- clocks --------------------------------------------------------------------------------------------------------


async def check_clocks(
    domain: DailyDomain | None, services: Sequence[Service], tolerance: float = TOLERANCE
) -> list[Observation]:
    """Whether this machine's clock and those of the services agree with Daily's; without Daily, with each other.

    Args:
        domain: Daily's.
        services: the running services.
        tolerance: seconds for which they accept a signature.
    """
    daily = None
    if domain is not None:
        try:
            daily = (await domain.facts()).clock
        except DailyError:
            daily = None
    clocks = {service.url: (await service.answer()).clock for service in services if not is_loopback_url(service.url)}
    known = {url: clock for url, clock in clocks.items() if clock is not None}
    found = []
    if daily is not None:
        found.append(_compared("this machine's clock", ClockOffset(-daily.ahead, daily.within), "Daily's", tolerance))
    for url, clock in known.items():
        other, name = (daily, "Daily's") if daily is not None else (ClockOffset(0.0, 0.0), "this machine's")
        difference = ClockOffset(clock.ahead - other.ahead, clock.within + other.within)
        found.append(_compared(f"the clock of {url}", difference, name, tolerance))
    return found or [unchecked("no other clock is known: Daily was not asked, and no service on another machine")]


def _compared(name: str, clock: ClockOffset, other: str, tolerance: float) -> Observation:
    """Judge a receiver's clock against the one that signs: a signature may be younger or older than now, but not by much."""
    ahead, within = clock
    early = min(AHEAD, tolerance)
    if clock.agrees:
        return fine(f"{name} agrees with {other} to within {spoken(abs(ahead) + within)}")
    text = clock.said_of(name, other)
    do = "let chrony or another NTP client set it"
    if ahead - within > tolerance - early or -ahead - within > early:
        limits = f"signatures are accepted for {spoken(tolerance - early)}, and {spoken(early)} before their time"
        return fault(text, f"{limits}: everything that Daily sends is refused", do)
    why = (
        f"times that differ by more than {spoken(CLOCKS_DIFFER)} decide which of two events came first, so calls may get a wrong end;"
        f" at {spoken(early)} behind, everything is refused"
    )
    return warning(text, why, do)
