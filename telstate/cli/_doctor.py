"""`telstate doctor`: look at a whole installation, and say what is right, what is wrong, why it matters and what to do."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple
from urllib.parse import urlsplit

import anyio
import typer
from pydantic import SecretStr

from telstate.cli._checkup import Check, Health, Observation, Tell, fault, run_checks, unchecked
from telstate.cli._checkup_report import CheckupReport, JsonCheckupReport, TextCheckupReport
from telstate.cli._config import ServiceConfig
from telstate.cli._config_flags import ConfigFile, SecretsDir, flag_of, given_flags, load_config
from telstate.cli._daily_api import JsonFlag
from telstate.cli._doctor_journal import DoctoredJournal, check_journal
from telstate.cli._doctor_others import check_notify, check_records, check_versions
from telstate.cli._doctor_service import PATHS, GivenSecret, Service, check_clocks, check_secrets, check_services
from telstate.cli._doctor_settings import check_settings
from telstate.cli._nats import NatsAddress, read_address, refuse_names_alone
from telstate.cli._notify import notifier_of, targets_of
from telstate.cli._terminal import misuse, tidy_exit, width
from telstate.control._api import DAILY, DailyApi
from telstate.control._notify_target import NotifyTarget
from telstate.control._trunk_probe import ProbeKind
from telstate.errors import DefinitionError

if TYPE_CHECKING:
    from telstate.cli._config_sources import Loaded

__all__ = ["doctor"]

_SECRETS: dict[str, ProbeKind] = {"webhook_secret": "webhook", "pinless_secret": "pinless", "trunk_secret": "siptrunk"}


class Installation(NamedTuple):
    """What is to be looked at."""

    loaded: Loaded
    services: list[Service]
    secrets: list[GivenSecret]
    api: DailyApi | DefinitionError | None
    """Daily's API; or why it cannot be used; None without a key."""
    rooms: list[str]
    journal: DoctoredJournal | None
    nats: NatsAddress | None
    records: str | None
    receivers: list[NotifyTarget]


def doctor(
    context: typer.Context,
    urls: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="URL",
            help="A URL of the running service, below which /webhooks is: the one that Daily knows, and others by which this machine"
            " reaches it.",
        ),
    ] = None,
    *,
    journal: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The service's journal; by default that of its settings, or calls.db, if it is in this folder. An empty name for none.",
        ),
    ] = None,
    room: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A room that dials out or is called; may be repeated.")
    ] = None,
    nats: Annotated[str | None, flag_of("nats")] = None,
    app: Annotated[str | None, flag_of("app")] = None,
    environment: Annotated[str | None, flag_of("environment")] = None,
    records: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="TELSTATE_RECORDS",
            help="The database that `telstate records --into` writes. A URL with a password is better in TELSTATE_RECORDS.",
        ),
    ] = None,
    notify: Annotated[list[str] | None, flag_of("notify")] = None,
    notify_allow: Annotated[list[str] | None, flag_of("notify_allow")] = None,
    daily_api_url: Annotated[str | None, flag_of("daily_api_url")] = None,
    config: ConfigFile = None,
    secrets_dir: SecretsDir = None,
    as_json: JsonFlag = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on a warning too.")] = False,
) -> None:
    """Look at a whole installation: Daily's side, the running service, its journal, NATS, clocks, secrets, and where records go.

    Each finding is ok, a warning or a fault, says what was found, why it matters and what to do. What was not looked at is named,
    with what is missing. It has the same settings as `telstate serve` and `telstate work`, from the same places (`telstate config show`):
    run it as the user of the service, with its environment. With an API key it looks at Daily, with secrets it sends signed tests.

    It changes nothing: it reads at Daily, sends the service signed tests that carry no event, and writes to no journal, stream or
    database. No check takes longer than 15 seconds. Phone numbers are masked, and no secret is shown.

    The exit code is 0 if all is right, 1 if there is a fault (with --strict also a warning), 2 for misuse.

    Example: telstate doctor https://calls.example.com --journal calls.db --room support
    """
    del journal, nats, app, environment, notify, notify_allow, daily_api_url  # they are among the settings
    report: CheckupReport = JsonCheckupReport() if as_json else TextCheckupReport(width())
    counts: Counter[Health] = Counter()

    def tell(check: str, found: Sequence[Observation]) -> None:
        counts.update(one.health for one in found)
        sys.stdout.write(f"{report.findings(check, found)}\n")
        sys.stdout.flush()

    with tidy_exit():
        given = given_flags(context)
        loaded = load_config(config, secrets_dir, given)
        refuse_names_alone(loaded.config, given)
        if find_spec("httpx") is None and (urls or loaded.config.daily_api_key):
            misuse("a service and Daily's API are asked with httpx: pip install 'telstate[rest]'")
        notifier_of(loaded.config)  # refuses what cannot be right
        installation = Installation(
            loaded,
            services=[Service(_base_of(url)) for url in urls or []],
            secrets=_secrets(loaded),
            api=_api(loaded.config),
            rooms=room or [],
            journal=_journal(loaded),
            nats=_nats(loaded.config),
            records=records,
            receivers=targets_of(loaded.config),
        )
        with _silent_log():
            anyio.run(_examine, installation, tell)
        sys.stdout.write(f"{report.summary(counts)}\n")
    if counts[Health.FAULT] or (strict and counts[Health.WARNING]):
        raise typer.Exit(1)


async def _examine(installation: Installation, tell: Tell) -> None:
    async with AsyncExitStack() as stack:
        if isinstance(installation.api, DailyApi):
            await stack.enter_async_context(installation.api)
        await run_checks(_checks(installation), tell)


def _checks(one: Installation) -> list[Check]:
    """All checks, in the order in which they are reported."""
    from telstate.cli._doctor_daily import (  # noqa: PLC0415 - with httpx
        DailyDomain,
        check_daily,
        check_pinless,
        check_rooms,
        check_trunks,
        check_webhooks,
        with_domain,
    )

    domain = DailyDomain(one.api, one.loaded.config.daily_api_url or DAILY) if isinstance(one.api, DailyApi) else None
    heard = None if one.journal is None else one.journal.heard
    services, secrets = one.services, one.secrets

    async def daily() -> Sequence[Observation]:
        if isinstance(one.api, DefinitionError):
            return [fault(str(one.api), "nothing at Daily can be checked", "copy the key again from Daily's dashboard")]
        return await check_daily(domain)

    return [
        Check("versions", check_versions),
        Check("settings", partial(check_settings, one.loaded)),
        Check("service", partial(check_services, services)),
        Check("secrets", partial(check_secrets, services, secrets)),
        Check("daily", daily),
        Check(
            "webhooks",
            with_domain(domain, partial(check_webhooks, services=services, secrets=secrets, heard=heard)),
        ),
        Check("rooms", with_domain(domain, partial(check_rooms, names=one.rooms))),
        Check("pinless", with_domain(domain, partial(check_pinless, services=services, secrets=secrets))),
        Check("trunks", with_domain(domain, partial(check_trunks, services=services, secrets=secrets))),
        Check("clocks", partial(check_clocks, domain, services, one.loaded.config.signature_tolerance)),
        Check("journal", partial(check_journal, one.journal, services)),
        _nats_check(one.nats, one.loaded.config),
        Check("records", partial(check_records, one.records)),
        Check("notify", partial(check_notify, one.receivers, one.loaded.config.notify_allow)),
    ]


def _nats_check(address: NatsAddress | None, config: ServiceConfig) -> Check:
    async def not_given() -> Sequence[Observation]:
        return [unchecked("no streams were given (--nats)")]

    if address is None:
        return Check("nats", not_given)
    connection = address.connection("telstate doctor", config)
    from telstate.cli._doctor_nats import check_nats  # noqa: PLC0415 - an extra

    return Check("nats", partial(check_nats, address, connection))


def _base_of(url: str) -> str:
    """Read a URL of a service; the path at which it takes requests may follow."""
    base = url.rstrip("/")
    for path in PATHS.values():
        base = base.removesuffix(path)
    try:
        parts = urlsplit(base)
        _ = parts.port
        is_right = parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
    except ValueError:
        is_right = False
    if not is_right or parts.username is not None:
        misuse("the URL of a service is https://HOST or http://HOST:PORT, perhaps with a path, and without a user")
    return base


def _api(config: ServiceConfig) -> DailyApi | DefinitionError | None:
    """Daily's API, asked once: a doctor says what is, and does not try again for long."""
    key = config.daily_api_key
    try:
        return None if key is None else DailyApi(key, url=config.daily_api_url or DAILY, timeout=5.0, pauses=())
    except DefinitionError as error:
        return error


def _secrets(loaded: Loaded) -> list[GivenSecret]:
    """The secrets of the service, each with the place where it stands."""
    found = []
    for setting, kind in _SECRETS.items():
        values: Sequence[SecretStr] = getattr(loaded.config, setting)
        origin = loaded.origin(setting)
        place = f"{setting} in {origin}" if origin.kind == "file" else str(origin)
        for number, secret in enumerate(values, 1):
            name = place if len(values) == 1 else f"{place} ({number} of {len(values)})"
            found.append(GivenSecret(name, kind, secret))
    return found


def _journal(loaded: Loaded) -> DoctoredJournal | None:
    """The journal that is named; the default one only where it is, and with a service that would have one."""
    path = loaded.config.journal
    is_default = loaded.origin("journal").kind == "default"
    if not path or (is_default and (loaded.config.nats is not None or not Path(path).exists())):
        return None
    return DoctoredJournal(path, loaded.config.archive)


def _nats(config: ServiceConfig) -> NatsAddress | None:
    if config.nats is None:
        return None
    return read_address(config.nats, app=config.app, environment=config.environment)


@contextmanager
def _silent_log() -> Iterator[None]:
    """What libraries and the parts of telstate log while they are asked is in the findings."""
    handler, loggers = logging.NullHandler(), [logging.getLogger(name) for name in ("telstate", "asyncio")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
