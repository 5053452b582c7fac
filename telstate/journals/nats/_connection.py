"""A connection to NATS: publishes, asks, and tries again until the server answers.

A publish always has a `Nats-Msg-Id` and is sent again with the same one until the server answers: one that got no answer may be
stored all the same, even minutes later, and the id keeps it from being stored twice.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar
from uuid import uuid4

from telstate.journals.nats._client import NatsClient, Receive
from telstate.journals.nats._errors import NatsRefused, NatsUnavailable
from telstate.journals.nats._refusals import IN_BATCH_ALREADY, NO_MESSAGE, meaning_of

__all__ = ["BATCH_LIMIT", "Message", "NatsConnection", "Stored"]

T = TypeVar("T")

BATCH_LIMIT = 1000
"""Messages that one atomic batch has at most."""

_WITHIN = 90.0
"""Seconds for which a publish is tried: the server knows a Msg-Id for two minutes, and after that would store it twice."""
_ASK_WITHIN = 15.0
_ANSWER_WITHIN = 3.0
_OPEN_WITHIN = 10.0
_PAUSE = 0.2


class Message(NamedTuple):
    """A message to publish."""

    subject: str
    data: bytes
    headers: Mapping[str, str] | None = None


class Stored(NamedTuple):
    """A message of a stream."""

    seq: int
    at: float
    """When the server stored it, in Unix seconds."""
    subject: str
    headers: Mapping[str, str]
    data: bytes
    pending: int = 0
    """How many more messages a reader had before it when this one was sent."""


class NatsConnection:
    """A connection to one or several NATS servers of one cluster. It comes back by itself after every failure.

    Args:
        servers: URLs such as `nats://host:4222`, several separated by commas or as a list; `tls://` for TLS.
        name: what the server's monitoring calls it.
        user, password, token: how it identifies itself, unless the URL says that.
        credentials: a `.creds` file, read again at each reconnect. nkey_seed: a file with the seed of a user's nkey.
        tls: for a private certificate authority, or a client certificate.
        inbox_prefix: what the subjects of answers begin with. Give each role its own, so that permissions keep the answers of
            one from another.

    Use it as `async with`, or call `open` and `aclose`. On asyncio only: nats-py does not run on trio.
    """

    def __init__(
        self,
        servers: str | Sequence[str],
        *,
        name: str = "telstate",
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        credentials: str | Path | None = None,
        nkey_seed: str | Path | None = None,
        tls: ssl.SSLContext | None = None,
        inbox_prefix: str = "_INBOX",
    ) -> None:
        listed = servers.split(",") if isinstance(servers, str) else list(servers)
        options: dict[str, Any] = {
            "name": name,
            "user": user,
            "password": password,
            "token": token,
            "user_credentials": None if credentials is None else str(credentials),
            "nkeys_seed": None if nkey_seed is None else str(nkey_seed),
            "tls": tls,
            "inbox_prefix": inbox_prefix,
        }
        self._client = NatsClient(listed, {name: value for name, value in options.items() if value is not None})
        self._shared: dict[str, Any] = {}

    def another(self) -> NatsConnection:
        """Return one more connection to the same servers, in the same way, that is not open yet."""
        made = NatsConnection.__new__(NatsConnection)
        made._client, made._shared = self._client.another(), {}
        return made

    def shared(self, key: str, make: Callable[[], T]) -> T:
        """Return what all users of this connection share under a key; the first of them makes it."""
        if key not in self._shared:
            self._shared[key] = make()
        found: T = self._shared[key]
        return found

    def __repr__(self) -> str:
        return f"<NatsConnection to {self.where}, {'connected' if self.is_connected else 'not connected'}>"

    @property
    def where(self) -> str:
        """The hosts, without passwords."""
        return self._client.where

    @property
    def is_connected(self) -> bool:
        """True while a server answers."""
        return self._client.is_connected

    @property
    def max_payload(self) -> int:
        """How many bytes one message may have."""
        return self._client.max_payload

    @property
    def server_version(self) -> tuple[int, int, int]:
        """The version of the server that it is connected to; zeros while it is not."""
        return self._client.server_version

    @property
    def reconnects(self) -> int:
        """How often the connection was lost and came back."""
        return self._client.reconnects

    @property
    def questions(self) -> int:
        """How many questions were asked: publishes, and what JetStream's API was asked."""
        return self._client.questions

    # --- opening and closing --------------------------------------------------------------------------------------

    async def open(self, within: float = _OPEN_WITHIN) -> None:
        """Connect, unless that was done.

        Raises:
            JournalError: if no server answers in that many seconds, or none lets this user in.
            DefinitionError: if it is called on trio, or a file of credentials cannot be used.
        """
        await self._client.open(within)

    async def aclose(self) -> None:
        """Close it. Whoever still waits for an answer gets a `NatsUnavailable`."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def on_reconnect(self, tell: Callable[[], None]) -> None:
        """Call a function after each reconnect, until `off_reconnect`: what came meanwhile was not heard."""
        self._client.on_reconnect(tell)

    def off_reconnect(self, tell: Callable[[], None]) -> None:
        """Call it no more."""
        self._client.off_reconnect(tell)

    # --- publishing -----------------------------------------------------------------------------------------------

    async def publish(
        self,
        subject: str,
        data: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        expect_last: int | None = None,
        within: float = _WITHIN,
        answer_within: float = _ANSWER_WITHIN,
    ) -> int:
        """Store one message in its stream; return its sequence number.

        Args:
            subject: decides which stream.
            data: the payload.
            headers: a `Nats-Msg-Id` is added unless they have one.
            expect_last: store it only if this is the sequence of the last message of this subject; 0 if there must be none.
            within: seconds for which it is sent again, with the same id, while nothing is answered. 0 for once only.
            answer_within: seconds that each answer may take.

        Raises:
            RevisionConflict: if the subject has another last message. After a repetition it may be this very one.
            StreamFull: at once, if there is no room.
            NatsNotPermitted, NatsRefused: if the server said no.
            NatsUnavailable: if nothing was answered in time. It may be stored all the same.
        """
        more = dict(headers or {})
        more.setdefault("Nats-Msg-Id", uuid4().hex)
        if expect_last is not None:
            more["Nats-Expected-Last-Subject-Sequence"] = str(expect_last)
        found = await self._until_answered(
            subject, lambda: self._client.ask(subject, data, more, answer_within), within=within
        )
        return int(found["seq"])

    async def post(self, subject: str, data: bytes) -> None:
        """Send one message to its stream, without an answer: it is stored, or not. For those who hear whether it came.

        Raises:
            NatsUnavailable: if there is no connection.
            NatsRefused: if it is too large.
        """
        await self._client.wait_connected(asyncio.get_running_loop().time())
        await self._client.send(subject, data)

    async def publish_batch(
        self, messages: Sequence[Message], *, within: float = _WITHIN, answer_within: float = _ANSWER_WITHIN
    ) -> int | None:
        """Store up to 1000 messages of one stream together, all or none, with sequence numbers that follow each other.

        Returns:
            The number of the last one; None if an earlier try has stored them, and so its answer was lost. They have
            `Nats-Msg-Id`s of the caller's, by which they can be found then.

        Raises:
            As `publish`. ValueError: if there are more, or none.
        """
        if not 0 < len(messages) <= BATCH_LIMIT:
            raise ValueError(f"expected 1 to {BATCH_LIMIT} messages in a batch, got {len(messages)}")
        try:
            found = await self._until_answered(
                messages[0].subject, lambda: self._batch(messages, answer_within), within=within
            )
        except NatsRefused as error:
            if error.code == IN_BATCH_ALREADY:
                return None
            raise
        return int(found["seq"])

    async def _batch(self, messages: Sequence[Message], answer_within: float) -> dict[str, Any]:
        batch, (*first, last) = uuid4().hex, messages
        for place, message in enumerate(first, 1):
            more = {**(message.headers or {}), "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(place)}
            await self._client.send(message.subject, message.data, more)
        more = {
            **(last.headers or {}),
            "Nats-Batch-Id": batch,
            "Nats-Batch-Sequence": str(len(messages)),
            "Nats-Batch-Commit": "1",
        }
        return await self._client.ask(last.subject, last.data, more, answer_within)

    async def _until_answered(
        self, subject: str, attempt: Callable[[], Awaitable[dict[str, Any]]], *, within: float
    ) -> dict[str, Any]:
        """Ask again and again until something is answered that asking again does not change."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + within
        while True:
            try:
                await self._client.wait_connected(give_up)
                found = await attempt()
                if (error := found.get("error")) is None:
                    return found
                raise meaning_of(error, subject)
            except NatsUnavailable as error:
                if self._client.is_closed:
                    raise NatsUnavailable(f"the connection to NATS at {self.where} was closed") from error
                if loop.time() + _PAUSE >= give_up:
                    raise
            await asyncio.sleep(_PAUSE if self.is_connected else _PAUSE / 4)

    # --- asking ---------------------------------------------------------------------------------------------------

    async def ask(
        self, subject: str, body: Any = None, *, within: float = _ASK_WITHIN, answer_within: float = 5.0
    ) -> dict[str, Any]:
        """Ask JetStream's API, again and again while nothing is answered: only for what may be done twice.

        Args:
            subject: such as `STREAM.INFO.name`, without `$JS.API.`.
            body: to be written as JSON.
            within, answer_within: as for `publish`.

        Raises:
            NatsRefused: with JetStream's code. NatsUnavailable: if nothing was answered in time.
        """
        whole, data = f"$JS.API.{subject}", b"" if body is None else json.dumps(body).encode()
        return await self._until_answered(
            whole, lambda: self._client.ask(whole, data, None, answer_within), within=within
        )

    async def last(self, stream: str, subject: str, *, within: float = _ASK_WITHIN) -> Stored | None:
        """Return the last message of a subject, which may have wildcards, as the stream's leader knows it."""
        return await self._get(stream, {"last_by_subj": subject}, within)

    async def get(self, stream: str, seq: int, *, within: float = _ASK_WITHIN) -> Stored | None:
        """Return the message of a sequence number, as the stream's leader knows it."""
        return await self._get(stream, {"seq": seq}, within)

    async def _get(self, stream: str, what: dict[str, Any], within: float) -> Stored | None:
        try:
            found = await self.ask(f"STREAM.MSG.GET.{stream}", what, within=within)
        except NatsRefused as error:
            if error.code == NO_MESSAGE:
                return None
            raise
        message = found["message"]
        return Stored(
            message["seq"],
            _seconds(message["time"]),
            message["subject"],
            _headers(b64decode(message.get("hdrs", ""))),
            b64decode(message.get("data", "")),
        )

    # --- reading --------------------------------------------------------------------------------------------------

    def new_reader(self) -> tuple[str, str]:
        """Return a name that no other consumer has, and the subject where this connection hears it."""
        return self._client.new_reader()

    def hear(self, consumer: str, receive: Receive) -> Callable[[], None]:
        """Call a function with what a consumer sends, and with what the server says of it. Returns a function that ends it.

        After a lost connection the consumer may be gone: see `on_reconnect`.
        """
        return self._client.hear(consumer, receive)

    async def send(self, subject: str, body: Any = None, *, reply: str = "") -> None:
        """Send to JetStream's API without waiting for an answer, which comes to `reply` if there is one.

        Raises:
            NatsUnavailable: if there is no connection.
        """
        await self._client.wait_connected(asyncio.get_running_loop().time())
        await self._client.send(f"$JS.API.{subject}", b"" if body is None else json.dumps(body).encode(), None, reply)


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def _headers(data: bytes) -> dict[str, str]:
    pairs = (line.partition(b":") for line in data.split(b"\r\n")[1:] if line)
    return {name.decode(errors="replace"): value.strip().decode(errors="replace") for name, _, value in pairs}
