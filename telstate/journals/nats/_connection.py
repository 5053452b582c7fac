"""A connection to NATS: the only module that knows nats-py, whose successor may need other calls.

A publish always has a `Nats-Msg-Id` and is sent again with the same one until the server answers: one that got no answer may be
stored all the same, even minutes later, and the id keeps it from being stored twice. Refusals are told apart by meaning: a full
stream and a missing leader look nearly the same, but only the second one passes by waiting.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import anyio
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import AuthorizationError, MaxPayloadError, NoRespondersError
from nats.errors import Error as ClientError

from telstate.errors import DefinitionError, JournalError, RevisionConflict
from telstate.journals.nats._errors import NatsNotPermitted, NatsRefused, NatsUnavailable, StreamFull
from telstate.routing._log import Log, text_of

__all__ = ["BATCH_LIMIT", "Listening", "Message", "NatsConnection", "Stored"]

T = TypeVar("T")

BATCH_LIMIT = 1000
"""Messages that one atomic batch has at most."""

_WITHIN = 90.0
"""Seconds for which a publish is tried: the server knows a Msg-Id for two minutes, and after that would store it twice."""
_ASK_WITHIN = 15.0
_ANSWER_WITHIN = 3.0
_OPEN_WITHIN = 10.0
_PAUSE = 0.2
_RECONNECT_EVERY = 0.25
_PING_EVERY = 5
"""Seconds between two pings. A connection on which two of them get no answer is given up."""

_WRONG_LAST_SEQUENCE = frozenset({10071, 10164})
_NO_SPACE = frozenset({10023, 10028, 10047})
_STORE_FAILED = 10077
"""Mostly `maximum bytes exceeded`, with the code 503, which otherwise says that there is no leader."""
_NO_MESSAGE = 10037
_IN_BATCH_ALREADY = 10201
_BATCH_AGAIN = frozenset({10176, 10210})
"""A batch of which a message was lost on the way, and too many batches at once."""


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


Receive = Callable[[str, str, Mapping[str, str], bytes], None]
"""Takes the subject, the reply subject, the headers and the data of what arrives on a subscription. It must not wait."""


class NatsConnection:
    """A connection to one or several NATS servers of one cluster. It comes back by itself after every failure.

    Args:
        servers: URLs such as `nats://host:4222`, several separated by commas or as a list; `tls://` for TLS.
        name: what the server's monitoring calls it.
        user, password, token: how it identifies itself, unless the URL says that.
        credentials: a `.creds` file. nkey_seed: a file with the seed of an nkey. Both need `pip install nats-py[nkeys]`.
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
        self._servers = [_checked(one.strip()) for one in listed]
        options: dict[str, Any] = {
            "name": name,
            "user": user,
            "password": password,
            "token": token,
            "user_credentials": None if credentials is None else str(credentials),
            "nkeys_seed": None if nkey_seed is None else str(nkey_seed),
            "tls": tls,
            "inbox_prefix": inbox_prefix,
            "reconnect_time_wait": _RECONNECT_EVERY,
        }
        self._options = {name: value for name, value in options.items() if value is not None}
        self._client: Client | None = None
        self._opening: asyncio.Lock | None = None
        self._reopening: asyncio.Task[None] | None = None
        self._closed = False
        self.reconnects: int = 0
        """How often the connection was lost and came back."""
        self._on_reconnect: dict[Callable[[], None], None] = {}
        self._inbox = ""
        self._deaf: NatsNotPermitted | None = None
        """Why this user hears no answers."""
        self._sent = 0
        self._answers: dict[str, tuple[str, asyncio.Future[Msg]]] = {}
        """By reply subject: where the question went, and what waits for its answer."""
        self._last_error: Exception | None = None
        self._refused: asyncio.Event = asyncio.Event()
        """Set when a server does not let this user in."""
        self._shared: dict[str, Any] = {}
        self._log = Log(burst=2, every=10.0)

    def another(self) -> NatsConnection:
        """Return one more connection to the same servers, in the same way, that is not open yet."""
        made = NatsConnection(self._servers)
        made._options = dict(self._options)
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
        return ", ".join(urlsplit(url).netloc.rpartition("@")[2] for url in self._servers)

    @property
    def is_connected(self) -> bool:
        """True while a server answers."""
        return self._client is not None and self._client.is_connected

    @property
    def max_payload(self) -> int:
        """How many bytes one message may have."""
        return 1 << 20 if self._client is None else self._client.max_payload

    @property
    def server_version(self) -> tuple[int, int, int]:
        """The version of the server that it is connected to; zeros while it is not."""
        if self._client is None:
            return 0, 0, 0
        version = self._client.connected_server_version
        return version.major, version.minor, version.patch

    # --- opening and closing --------------------------------------------------------------------------------------

    async def open(self, within: float = _OPEN_WITHIN) -> None:
        """Connect, unless that was done.

        Raises:
            JournalError: if no server answers in that many seconds, or none lets this user in.
            DefinitionError: if it is called on trio.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise DefinitionError(
                "NATS runs on asyncio only, because nats-py does: use anyio.run(main), without trio"
            ) from None
        self._opening = self._opening or asyncio.Lock()
        async with self._opening:
            if self._closed:
                raise NatsUnavailable(f"the connection to NATS at {self.where} was closed: make another one")
            if self._client is None:
                self._client = await self._connect(within)

    async def _connect(self, within: float) -> Client:
        client = Client()
        self._refused.clear()
        self._deaf = None
        connected = False
        connecting = asyncio.ensure_future(self._connect_client(client))
        refused = asyncio.ensure_future(self._refused.wait())
        try:
            await asyncio.wait({connecting, refused}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
            if connecting.done():
                connecting.result()
                connected = True
                return client
        except (ClientError, OSError) as error:
            raise NatsUnavailable(f"no connection to NATS at {self.where}: {text_of(error)}") from error
        except ImportError as error:
            raise DefinitionError(
                f"credentials and nkeys need another package: pip install 'nats-py[nkeys]' ({error})"
            ) from error
        finally:
            for task in (connecting, refused):
                task.cancel()
            if not connected:
                with anyio.move_on_after(_PAUSE, shield=True):
                    await _close(client)
        if self._refused.is_set():
            raise NatsNotPermitted(
                f"NATS at {self.where} does not let this user in: check the user, the password or the credentials"
            )
        reason = "" if self._last_error is None else f": {text_of(self._last_error)}"
        raise NatsUnavailable(
            f"no connection to NATS at {self.where} within {within:g} seconds{reason}. Is the address right, and does the server run?"
        )

    async def _connect_client(self, client: Client) -> None:
        await client.connect(
            self._servers,
            error_cb=self._client_failed,
            reconnected_cb=self._reconnected,
            closed_cb=self._client_closed,
            max_reconnect_attempts=-1,
            connect_timeout=2,
            ping_interval=_PING_EVERY,
            max_outstanding_pings=2,
            **self._options,
        )
        self._inbox = client.new_inbox()
        await client.subscribe(f"{self._inbox}.*", cb=self._answered, pending_msgs_limit=0, pending_bytes_limit=0)

    async def aclose(self) -> None:
        """Close it. Whoever still waits for an answer gets a `NatsUnavailable`."""
        self._closed = True
        if self._reopening is not None:
            self._reopening.cancel()
        if self._client is not None:
            await _close(self._client)
        self._interrupt_questions(ConnectionError("the connection was closed"))

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- what the client reports ----------------------------------------------------------------------------------

    async def _client_failed(self, error: Exception) -> None:
        """The client reports an error that concerns no call: a refused permission is known only from here."""
        self._last_error = error
        text = text_of(error)
        if isinstance(error, AuthorizationError) or "authorization violation" in text.lower():
            self._refused.set()
        if (found := _violation(text)) is not None:
            act, subject = found
            self._not_permitted(act.startswith("subscri"), subject)
        self._log.warning("nats.error", error=text, at=self.where)

    def _not_permitted(self, to_subscribe: bool, subject: str) -> None:
        """Tell those whom a refused permission concerns; the server writes subjects in lower case here."""
        if not to_subscribe:
            hint = "the README of telstate.journals has the permissions of each role"
            refused = NatsNotPermitted(f"the user of this connection may not publish to {subject}: {hint}")
            self._interrupt_questions(refused, subject)
        elif subject == f"{self._inbox}.*".lower():
            self._deaf = NatsNotPermitted(
                f"the user of this connection may not subscribe to {self._options.get('inbox_prefix', '_INBOX')}.>: take the inbox_prefix"
                " of this role, which its permissions allow (TELSTATE_NATS_INBOX); without it, it hears no answers"
            )
            self._interrupt_questions(self._deaf)

    async def _reconnected(self) -> None:
        self.reconnects += 1
        self._log.info("nats.reconnected", at=self.where, times=self.reconnects)
        self._interrupt_questions(ConnectionResetError("the connection was lost before the answer"))
        for tell in list(self._on_reconnect):
            tell()

    def _interrupt_questions(self, error: Exception, subject: str | None = None) -> None:
        """No answer comes any more, to all questions or to those of a subject. Where it was only lost, it is asked again at once."""
        for asked, answer in self._answers.values():
            if not answer.done() and (subject is None or asked.lower() == subject):
                answer.set_exception(error)

    async def _client_closed(self) -> None:
        """The client has given up, as it does for some errors that concern one message only."""
        if not self._closed and self._client is not None and self._reopening is None:
            self._log.warning("nats.client_gave_up", at=self.where, error=str(self._last_error))
            self._reopening = asyncio.ensure_future(self._open_again())

    async def _open_again(self) -> None:
        while not self._closed:
            with suppress(JournalError):
                self._client = await self._connect(_OPEN_WITHIN)
                self._reopening = None
                await self._reconnected()
                return
            await asyncio.sleep(_PAUSE)

    def on_reconnect(self, tell: Callable[[], None]) -> None:
        """Call a function after each reconnect, until `off_reconnect`: what came meanwhile was not heard."""
        self._on_reconnect[tell] = None

    def off_reconnect(self, tell: Callable[[], None]) -> None:
        """Call it no more."""
        self._on_reconnect.pop(tell, None)

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
            subject, lambda: self._question(subject, data, more, answer_within), within=within
        )
        return int(found["seq"])

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
            if error.code == _IN_BATCH_ALREADY:
                return None
            raise
        return int(found["seq"])

    async def _batch(self, messages: Sequence[Message], answer_within: float) -> dict[str, Any]:
        batch, (*first, last) = uuid4().hex, messages
        for place, message in enumerate(first, 1):
            more = {**(message.headers or {}), "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(place)}
            await self._send(message.subject, message.data, more)
        more = {
            **(last.headers or {}),
            "Nats-Batch-Id": batch,
            "Nats-Batch-Sequence": str(len(messages)),
            "Nats-Batch-Commit": "1",
        }
        return await self._question(last.subject, last.data, more, answer_within)

    async def _until_answered(self, subject: str, attempt: Callable[[], Any], *, within: float) -> dict[str, Any]:
        """Ask again and again until something is answered that asking again does not change."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + within
        while True:
            try:
                await self._wait_connected(give_up)
                found: dict[str, Any] = await attempt()
                if (error := found.get("error")) is None:
                    return found
                problem = _meaning(error, subject)
                if not isinstance(problem, NatsUnavailable):
                    raise problem
            except NoRespondersError:
                problem = NatsUnavailable(
                    f"nothing in NATS at {self.where} takes {subject}: no stream for it is declared, or it has no leader now"
                )
            except MaxPayloadError:
                raise NatsRefused(
                    f"a message of {subject} is larger than the server's max_payload of {self.max_payload} bytes: raise that"
                ) from None
            except (ClientError, OSError, TimeoutError) as error:
                problem = NatsUnavailable(
                    f"NATS at {self.where} did not answer: {text_of(error) or type(error).__name__}"
                )
            if self._closed:
                raise NatsUnavailable(f"the connection to NATS at {self.where} was closed") from problem
            if loop.time() + _PAUSE >= give_up:
                raise problem
            await asyncio.sleep(_PAUSE if self.is_connected else _PAUSE / 4)

    async def _wait_connected(self, give_up: float) -> None:
        """Wait for a connection: what is sent without one would be buffered, and sent much later."""
        loop = asyncio.get_running_loop()
        if self._client is None:
            await self.open(max(1.0, give_up - loop.time()))
        while not self.is_connected:
            if self._closed or loop.time() >= give_up:
                raise ConnectionError("there is no connection")
            await asyncio.sleep(0.02)

    async def _send(self, subject: str, data: bytes, headers: Mapping[str, str] | None, reply: str = "") -> None:
        assert self._client is not None  # noqa: S101
        await self._client.publish(subject, data, reply=reply, headers=None if headers is None else dict(headers))

    async def _question(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None, answer_within: float
    ) -> dict[str, Any]:
        """Send, and wait for the answer: as the client's `request`, at a fraction of its price.

        Raises:
            TimeoutError, NoRespondersError, ConnectionError: if none came.
        """
        if self._deaf is not None:
            raise self._deaf
        loop = asyncio.get_running_loop()
        self._sent += 1
        reply = f"{self._inbox}.{self._sent}"
        answer: asyncio.Future[Msg] = loop.create_future()
        self._answers[reply] = subject, answer
        late = loop.call_later(answer_within, _give_up, answer, answer_within)
        try:
            await self._send(subject, data, headers, reply)
            found: dict[str, Any] = json.loads((await answer).data)
            return found
        finally:
            late.cancel()
            del self._answers[reply]
            if answer.done() and not answer.cancelled():
                answer.exception()  # it may have come while the message was sent, and nobody asks

    async def _answered(self, message: Msg) -> None:
        _, answer = self._answers.get(message.subject, ("", None))
        if answer is None or answer.done():
            return
        if message.headers and message.headers.get("Status") == "503":
            answer.set_exception(NoRespondersError())
        else:
            answer.set_result(message)

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
            whole, lambda: self._question(whole, data, None, answer_within), within=within
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
            if error.code == _NO_MESSAGE:
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

    # --- listening ------------------------------------------------------------------------------------------------

    def new_inbox(self) -> str:
        """Return a subject that nobody else has, under the prefix of this connection."""
        assert self._client is not None  # noqa: S101
        return self._client.new_inbox()

    async def listen(self, subject: str, receive: Receive) -> Listening:
        """Call a function with each message of a subject from now on. Nothing is dropped, however many there are.

        Raises:
            NatsUnavailable: if there is no connection. After a lost one, listen again: see `on_reconnect`.
        """
        try:
            await self._wait_connected(asyncio.get_running_loop().time())
            assert self._client is not None  # noqa: S101

            async def take(message: Msg) -> None:
                receive(message.subject, message.reply, message.headers or {}, message.data)

            return Listening(
                await self._client.subscribe(subject, cb=take, pending_msgs_limit=0, pending_bytes_limit=0)
            )
        except (ClientError, OSError) as error:
            raise NatsUnavailable(f"NATS at {self.where} is not connected: {text_of(error)}") from error

    async def send(self, subject: str, body: Any = None, *, reply: str = "") -> None:
        """Send to JetStream's API without waiting for an answer, which comes to `reply` if there is one.

        Raises:
            NatsUnavailable: if there is no connection.
        """
        try:
            await self._wait_connected(asyncio.get_running_loop().time())
            await self._send(f"$JS.API.{subject}", b"" if body is None else json.dumps(body).encode(), None, reply)
        except (ClientError, OSError) as error:
            raise NatsUnavailable(f"NATS at {self.where} is not connected: {text_of(error)}") from error


class Listening:
    """A subscription."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    async def stop(self) -> None:
        """Hear no more."""
        with suppress(ClientError, OSError):
            await self._subscription.unsubscribe()


async def _close(client: Client) -> None:
    with suppress(ClientError, OSError):
        await client.close()


def _violation(error: str) -> tuple[str, str] | None:
    """Return what a server does not permit: the act and the subject, from `permissions violation for publish to "x.y"`."""
    found = re.search(r'permissions violation for (\w+) to "([^"]+)"', error.lower())
    return None if found is None else (found[1], found[2])


def _checked(url: str) -> str:
    if not urlsplit(url).hostname or urlsplit(url).scheme not in {"nats", "tls", "ws", "wss"}:
        raise DefinitionError(f"NATS: expected URLs such as nats://host:4222, got {url!r}")
    return url


def _give_up(answer: asyncio.Future[Msg], seconds: float) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError(f"no answer for {seconds:g} seconds"))


def _meaning(error: dict[str, Any], subject: str) -> JournalError:
    """Return what a refusal means. A `NatsUnavailable` may pass by waiting, nothing else does."""
    code, text = error.get("err_code", 0), error.get("description", "no reason given")
    if code in _WRONG_LAST_SEQUENCE:
        return RevisionConflict(f"{subject}: somebody else has written it since ({text})")
    if code in _NO_SPACE or code == _STORE_FAILED:
        hint = "raise max_bytes of the stream, or give the server more storage"
        return StreamFull(f"NATS has no room for {subject}: {text} ({code}); {hint}", code)
    if error.get("code") == 503 or code in _BATCH_AGAIN:
        return NatsUnavailable(f"NATS cannot store {subject} now: {text} ({code})")
    return NatsRefused(f"NATS refused {subject}: {text} ({code})", code)


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def _headers(data: bytes) -> dict[str, str]:
    pairs = (line.partition(b":") for line in data.split(b"\r\n")[1:] if line)
    return {name.decode(errors="replace"): value.strip().decode(errors="replace") for name, _, value in pairs}
