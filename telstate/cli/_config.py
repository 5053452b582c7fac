"""Every setting of `telstate serve` and `telstate work`, once: its type, its default, its flag, and who uses it.

The flags, the variables of the environment (`variable_of`), the keys of the configuration file and what `telstate config show` lists all come
from this model. `_config_sources` fills it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, NamedTuple, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, SecretStr, Tag
from pydantic.fields import FieldInfo

from telstate.calls._settings import Settings
from telstate.cli._variables import PREFIX

__all__ = [
    "CAMPAIGN",
    "COMMAND_LINE",
    "RECEIVE",
    "SERVE",
    "TAGS",
    "WORK",
    "Receiver",
    "ServiceConfig",
    "Use",
    "all_uses",
    "days_of",
    "instead_of",
    "is_secret",
    "use_of",
    "variable_of",
]

COMMAND_LINE = "command line"
"""The kind of origin of what a flag says."""
SERVE, RECEIVE, WORK = "serve", "serve --nats", "work"
"""Who uses a setting: a service with a journal of its own, a receiver that publishes to NATS, a worker."""
CAMPAIGN = "campaign run"
"""A service with a journal of its own, too: it uses what `SERVE` does."""
_ALL = (SERVE, RECEIVE, WORK)
_RECEIVERS = (SERVE, RECEIVE)
_HANDLERS = (SERVE, WORK)
_NATS = (RECEIVE, WORK)
_ALONE = (SERVE,)
_WORKER = (WORK,)


class Use(NamedTuple):
    """What is known of a setting besides its type and its default."""

    by: tuple[str, ...]
    about: str
    """One or two sentences, for the help of its flag and for tables."""
    metavar: str = ""
    flag: str | None = None
    """None for a setting that has no flag."""
    is_path: bool = False
    """Its value is the name of a file, whose content is the secret: a file of the secrets directory is named, not read."""
    is_hidden: bool = False
    """Not listed in the help."""
    refused_by: tuple[str, ...] = ()
    """Commands that have its flag only to say why it has no effect there."""


def days_of(keep: str) -> timedelta | None:
    """Read a number of days; None for `all`.

    Raises:
        ValueError: if it is neither.
    """
    if keep == "all":
        return None
    try:
        days = timedelta(days=float(keep))
    except (ValueError, OverflowError):
        days = timedelta(-1)
    if days < timedelta():
        raise ValueError(f"takes a number of days, or `all`, not {keep!r}")
    return days


def _checked_days(keep: str) -> str:
    days_of(keep)
    return keep


def _split(value: Any) -> Any:
    """Read a list as the environment has it: with commas or blanks between."""
    return [part for part in re.split(r"[,\s]+", value) if part] if isinstance(value, str) else value


Days = Annotated[
    str, BeforeValidator(lambda value: value if isinstance(value, bool) else str(value)), AfterValidator(_checked_days)
]
Words = Annotated[tuple[str, ...], BeforeValidator(_split)]
Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(_split)]
Hidden = Annotated[SecretStr | None, BeforeValidator(lambda value: value or None)]
"""An empty one is none: a token of no letters would let everybody in."""
Positive = Annotated[float, Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Receiver(BaseModel):
    """A receiver of notifications, as a table of a file describes it."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    url: str = Field("", repr=False)
    """Where they are sent. Its path may be a secret."""
    name: str | None = None
    """What the log and dead letters call it."""
    events: list[str] | None = None
    """The kinds it wants, such as `call.ended`; by default all."""
    where: str | None = None
    """A condition on the record."""
    secrets: list[SecretStr] = []
    """They sign its messages."""
    secret_env: str | None = None
    """The variable that has its secrets; by default those for all receivers are used."""
    secret_file: str | None = None
    """A file that has its secrets."""


TAGS = ("text", "table")
"""They stand in the place of an error, between the number of a receiver and its key."""
_UrlOrTable = Annotated[
    Annotated[str, Tag(TAGS[0])] | Annotated[Receiver, Tag(TAGS[1])],
    Discriminator(lambda one: TAGS[isinstance(one, Receiver | Mapping)]),
]


class ServiceConfig(BaseModel):
    """The settings of a service."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    program: Annotated[str | None, Use(_HANDLERS, "The router with the handlers to run.", "MODULE:ROUTER")] = None

    # --- events that are kept

    journal: Annotated[
        str, Use(_ALONE, "The SQLite database that stores events; created if missing.", "FILE", "--journal")
    ] = "calls.db"
    keep: Annotated[
        Days,
        Use(
            _ALONE,
            "Days for which the journal keeps events of calls that are over; `all` keeps everything.",
            "DAYS",
            "--keep",
        ),
    ] = "30"
    archive: Annotated[
        str | None,
        Use(
            _ALONE,
            "Move older events there, as JSON Lines, in place of deleting them; compressed if the name ends in .gz.",
            "FILE",
            "--archive",
        ),
    ] = None

    # --- requests

    listen_host: Annotated[str, Use(_ALL, "Address to listen on; of a worker, with --port.", "ADDRESS", "--host")] = (
        "127.0.0.1"
    )
    listen_port: Annotated[Port, Use(_RECEIVERS, "Port to listen on; 0 takes a free one.", "PORT", "--port")] = 8080
    health_port: Annotated[
        Port | None,
        Use(_WORKER, "Answer GET /health, /ready and /metrics there; 0 takes a free port.", "PORT", "--port"),
    ] = None
    webhook_secret: Annotated[
        Secrets,
        Use(
            _RECEIVERS,
            "The webhook's hmac, in base64; several while you rotate it. It is valid for pinless dial-in and SIP trunks too.",
            "SECRET",
            "--secret",
        ),
    ] = ()
    pinless_secret: Annotated[
        Secrets, Use(_RECEIVERS, "The hmac of pinless dial-in, where that has another one.", "SECRET")
    ] = ()
    trunk_secret: Annotated[Secrets, Use(_RECEIVERS, "The hmac of SIP trunks, where those have others.", "SECRET")] = ()
    signature_tolerance: Annotated[
        Positive, Use(_RECEIVERS, "Seconds for which a signature is accepted.", "SECONDS", "--tolerance")
    ] = 7200.0
    max_body: Annotated[int, Field(ge=1024), Use(_RECEIVERS, "The longest body of a request, in bytes.", "BYTES")] = (
        65_536
    )
    receive_timeout: Annotated[
        Positive,
        Use(
            _RECEIVERS,
            "Seconds that a request waits while events cannot be taken in, before it is answered with 503.",
            "SECONDS",
        ),
    ] = 10.0

    # --- readers

    view_token: Annotated[
        Hidden,
        Use(
            _ALONE,
            "What the board (/board), `telstate tail URL` and other readers of /live ask for.",
            "TOKEN",
            "--view-token",
        ),
    ] = None
    view_numbers_token: Annotated[
        Hidden,
        Use(_ALONE, "A second token, whose readers see phone numbers, SIP users and names in full.", "TOKEN"),
    ] = None
    view_numbers: Annotated[
        bool, Use(_ALONE, "Show all readers phone numbers, SIP users and names in full.", flag="--view-numbers")
    ] = False

    # --- Daily

    daily_api_key: Annotated[
        Hidden,
        Field(validation_alias="daily_api_key"),
        Use(_HANDLERS, "The API key of your domain, with which handlers act on calls.", "KEY"),
    ] = None
    daily_api_url: Annotated[
        str | None, Use(_HANDLERS, "Another address of Daily's API, for tests.", "URL", "--api-url", is_hidden=True)
    ] = None
    reconcile: Annotated[
        bool | None,
        Use(
            _HANDLERS,
            "Ask Daily whether a session is still in its room: before silence ends it, and after a restart of a service that has a journal. By default if there is an API key.",
            flag="--reconcile/--no-reconcile",
        ),
    ] = None

    # --- limits

    calls_end_within: Annotated[
        float,
        Field(ge=0),
        Use(
            _ALONE,
            "Seconds for which live calls may go on after SIGTERM, before it stops to listen.",
            "SECONDS",
            "--calls-end-within",
        ),
    ] = 0.0
    drain: Annotated[
        float, Field(ge=0), Use(_HANDLERS, "Seconds that handlers have to finish after SIGTERM.", "SECONDS", "--drain")
    ] = 30.0
    max_deliveries: Annotated[
        int,
        Field(ge=2),
        Use(
            _HANDLERS,
            "How often the process may end while an event's handlers run, before the event becomes a dead letter.",
            "N",
            "--max-deliveries",
        ),
    ] = 5
    lane_limit: Annotated[
        int, Field(ge=1), Use(_HANDLERS, "How many events of one session may wait for their handlers.", "N")
    ] = 1000
    pending_limit: Annotated[
        int | None,
        Field(ge=1),
        Use(
            _HANDLERS,
            "How many events may wait for handlers; by default 10000 in all, or 1000 in each partition of a worker.",
            "N",
        ),
    ] = None
    slow_after: Annotated[
        Positive, Use(_HANDLERS, "Seconds after which a running handler is named in the log.", "SECONDS")
    ] = 5.0
    log_transitions: Annotated[bool, Use(_HANDLERS, "Log each transition.")] = False

    # --- notifications

    notify: Annotated[
        tuple[_UrlOrTable, ...],
        BeforeValidator(_split),
        Use(
            _ALONE,
            "Tell a receiver about calls, by signed webhooks. A FILE in TOML has receivers with filters and secrets of their own."
            " Nothing in these messages is masked.",
            "URL|FILE",
            "--notify",
            refused_by=_WORKER,
        ),
    ] = ()
    notify_secret: Annotated[
        Secrets,
        Use(_ALONE, "Signs the messages to receivers that have no secret of their own: `whsec_` and base64.", "SECRET"),
    ] = ()
    notify_allow: Annotated[
        Words,
        Use(
            _ALONE,
            "A receiver that may be at a private address, and be reached by http: its name as in the URL.",
            "HOST",
            "--notify-allow",
        ),
    ] = ()

    # --- NATS

    nats: Annotated[
        str | None,
        Use(
            _NATS,
            "The servers, nats://HOST:4222, where receivers publish events and workers run the handlers; several have commas between them, tls:// encrypts. `telstate config show` lists the settings for credentials.",
            "URL",
            "--nats",
        ),
    ] = None
    app: Annotated[str | None, Use(_NATS, "The app, whose streams have its name.", "NAME", "--app")] = None
    environment: Annotated[
        str | None, Use(_NATS, "The environment, which is in the names of the streams too.", "NAME", "--environment")
    ] = None
    nats_user: Annotated[str | None, Use(_NATS, "The user's name.", "NAME")] = None
    nats_password: Annotated[Hidden, Use(_NATS, "The user's password.", "PASSWORD")] = None
    nats_token: Annotated[Hidden, Use(_NATS, "A token, in place of a user.", "TOKEN")] = None
    nats_credentials: Annotated[str | None, Use(_NATS, "A .creds file, as `nsc` writes it.", "FILE", is_path=True)] = (
        None
    )
    nats_nkey: Annotated[str | None, Use(_NATS, "A file with the seed of a user's nkey.", "FILE", is_path=True)] = None
    nats_inbox: Annotated[
        str | None, Use(_NATS, "What the subjects of answers begin with, _INBOX by default.", "PREFIX")
    ] = None
    nats_ca: Annotated[
        str | None, Use(_NATS, "The certificate authority of the servers, a file in PEM form.", "FILE", is_path=True)
    ] = None
    nats_certificate: Annotated[
        str | None, Use(_NATS, "The client's certificate, a file in PEM form.", "FILE", is_path=True)
    ] = None
    nats_key: Annotated[
        str | None, Use(_NATS, "The key of that certificate, a file in PEM form.", "FILE", is_path=True)
    ] = None
    lease_ttl: Annotated[
        float,
        Field(ge=1),
        Use(
            _WORKER,
            "Seconds after a crash until others take its partitions over, and no sooner.",
            "SECONDS",
            "--ttl",
        ),
    ] = 10.0
    stream_partitions: Annotated[
        int | None,
        Field(ge=1),
        Use(
            _WORKER,
            "How many units of work can move between workers, 256 by default. For the first start: it cannot be changed.",
            "N",
            "--partitions",
        ),
    ] = None
    stream_replicas: Annotated[
        int | None,
        Use(
            _WORKER,
            "How many servers of a cluster keep each stream, for the first start: 1, 3 or 5.",
            "N",
            "--replicas",
        ),
    ] = None
    stream_max_bytes: Annotated[
        int | None,
        Use(
            _WORKER,
            "How large the stream of events may be, for the first start; 2 GiB by default.",
            "BYTES",
            "--max-bytes",
        ),
    ] = None
    stream_keep: Annotated[
        float | None,
        Field(ge=0),
        Use(_WORKER, "Days for which the streams keep events, for the first start; 7 by default.", "DAYS", "--keep"),
    ] = None

    # --- the engine

    settings: Annotated[
        Settings,
        Use(_HANDLERS, "How long and how much is remembered, and the deadlines of calls: `telstate.Settings`."),
    ] = Settings()

    @property
    def asks_daily(self) -> bool:
        """Whether Daily is asked about sessions."""
        return self.daily_api_key is not None if self.reconcile is None else self.reconcile

    def limits(self) -> dict[str, Any]:
        """Return the arguments that dispatchers and workers have in common."""
        names = ("drain", "max_deliveries", "lane_limit", "pending_limit", "slow_after", "log_transitions", "settings")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def use_of(field: FieldInfo) -> Use:
    """Return what is known of a setting."""
    return next(one for one in field.metadata if isinstance(one, Use))


def is_secret(field: FieldInfo) -> bool:
    """Return True for a setting whose value nobody may see."""
    return SecretStr in (field.annotation, *get_args(field.annotation))


def all_uses() -> Iterator[tuple[str, FieldInfo, Use]]:
    """Yield all settings, in their order."""
    for name, field in ServiceConfig.model_fields.items():
        yield name, field, use_of(field)


def variable_of(name: str) -> str:
    """Return the variable of a setting; a dot stands before the name of one of the engine's."""
    alias = ServiceConfig.model_fields[name.partition(".")[0]].validation_alias
    return (str(alias) if alias else f"{PREFIX}{name.replace('.', '_')}").upper()


def instead_of(key: str, known: Iterable[str]) -> str:
    """Go on after `there is no KEY`: ask whether another key was meant, else say which there are."""
    names = list(known)
    near = get_close_matches(key, names, 1)
    return f": did you mean {near[0]}?" if near else f"; there are {', '.join(names)}"
