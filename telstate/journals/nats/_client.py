"""One client of NATS, which comes back by itself. Only this module and `_patched_client` know nats-py, whose successor may need other calls.

All answers, and all that readers are sent, come to one subscription: hundreds of readers with one of their own each would cost an idle
process most of its time and memory. Errors of the client are `NatsUnavailable`s here, or `NatsRefused`s where trying again changes nothing.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import anyio
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import AuthorizationError, MaxPayloadError, NoRespondersError
from nats.errors import Error as ClientError

from telstate.errors import DefinitionError, JournalError
from telstate.journals.nats._credentials import check_credentials, check_seed
from telstate.journals.nats._errors import MessageTooLarge, NatsNotPermitted, NatsUnavailable
from telstate.journals.nats._patched_client import PatchedClient
from telstate.routing._log import Log, text_of

__all__ = ["NatsClient", "Receive"]

Receive = Callable[[str, str, Mapping[str, str], bytes], None]
"""Takes the subject, the reply subject, the headers and the data of what arrives. It must not wait."""

_PAUSE = 0.2
_RECONNECT_EVERY = 0.25
_PING_EVERY = 5
"""Seconds between two pings. A connection on which two of them get no answer is given up."""
_OPEN_WITHIN = 10.0
_CLOSE_WITHIN = 2.0
"""Seconds for the server to take in what is still to be sent. Nobody waits for that any more, and a server that hangs never does."""
_MOST_HEADERS = 4096
"""Bytes that the headers of a message have at most."""
_DELIVERED = "$JS.ACK."
"""What the reply subject of a message from a consumer begins with. Its subject is that in the stream."""


class NatsClient:
    """A client.

    Args:
        servers: URLs.
        options: of nats-py's client.
    """

    def __init__(self, servers: Sequence[str], options: Mapping[str, Any]) -> None:
        self._servers = [_checked(one.strip()) for one in servers]
        self._options = {"reconnect_time_wait": _RECONNECT_EVERY, **options}
        self._client: Client | None = None
        self._opening: asyncio.Lock | None = None
        self._reopening: asyncio.Task[None] | None = None
        self.is_closed: bool = False
        self.reconnects: int = 0
        """How often the connection was lost and came back."""
        self._on_reconnect: dict[Callable[[], None], None] = {}
        self._inbox = ""
        self._deaf: NatsNotPermitted | None = None
        """Why this user hears no answers."""
        self.questions: int = 0
        """How many were asked."""
        self._answers: dict[str, tuple[str, asyncio.Future[Msg]]] = {}
        """By reply subject: where the question went, and what waits for its answer."""
        self._readers: dict[str, Receive] = {}
        """By the name of their consumer."""
        self._last_error: Exception | None = None
        self._refused: asyncio.Event = asyncio.Event()
        """Set when a server does not let this user in."""
        self._log = Log(burst=2, every=10.0)

    def another(self) -> NatsClient:
        """Return one more for the same servers, in the same way."""
        return NatsClient(self._servers, self._options)

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

    async def open(self, within: float) -> None:
        """Connect, unless that was done.

        Raises:
            JournalError: if no server answers in that many seconds, or none lets this user in.
            DefinitionError: if it is called on trio, or a file of credentials cannot be used.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise DefinitionError(
                "NATS runs on asyncio only, because nats-py does: use anyio.run(main), without trio"
            ) from None
        self._opening = self._opening or asyncio.Lock()
        async with self._opening:
            if self.is_closed:
                raise NatsUnavailable(f"the connection to NATS at {self.where} was closed: make another one")
            if self._client is None:
                self._check_credentials()
                self._client = await self._connect(within)

    def _check_credentials(self) -> None:
        for option, check in (("user_credentials", check_credentials), ("nkeys_seed", check_seed)):
            if (path := self._options.get(option)) is not None:
                check(path)

    async def _connect(self, within: float) -> Client:
        client = PatchedClient()
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
        await client.subscribe(f"{self._inbox}.*", cb=self._arrived, pending_msgs_limit=0, pending_bytes_limit=0)

    async def aclose(self) -> None:
        """Close it. Whoever still waits for an answer gets a `NatsUnavailable`."""
        self.is_closed = True
        if self._reopening is not None:
            self._reopening.cancel()
        if self._client is not None:
            await _close(self._client)
        self._interrupt_questions(ConnectionError("the connection was closed"))

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
        if not self.is_closed and self._client is not None and self._reopening is None:
            self._log.warning("nats.client_gave_up", at=self.where, error=str(self._last_error))
            self._reopening = asyncio.ensure_future(self._open_again())

    async def _open_again(self) -> None:
        while not self.is_closed:
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

    # --- sending --------------------------------------------------------------------------------------------------

    async def wait_connected(self, give_up: float) -> None:
        """Wait for a connection, until a time of the loop: what is sent without one would be buffered, and sent much later.

        Raises:
            NatsUnavailable: if there is none by then.
        """
        loop = asyncio.get_running_loop()
        if self._client is None:
            await self.open(max(1.0, give_up - loop.time()))
        while not self.is_connected:
            if self.is_closed or loop.time() >= give_up:
                raise NatsUnavailable(f"NATS at {self.where} is not connected")
            await asyncio.sleep(0.02)

    async def send(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, reply: str = "") -> None:
        """Send one message.

        Raises:
            NatsUnavailable: if the connection is lost.
            MessageTooLarge: if it is.
        """
        with self._translated(subject):
            await self._send(subject, data, headers, reply)

    async def _send(self, subject: str, data: bytes, headers: Mapping[str, str] | None, reply: str) -> None:
        assert self._client is not None  # noqa: S101
        most = self._client.max_payload
        if len(data) + _MOST_HEADERS > most and len(data) + _size_of(headers) > most:
            raise MaxPayloadError  # the client looks at the data only, and the server closes the connection
        await self._client.publish(subject, data, reply=reply, headers=None if headers is None else dict(headers))

    async def ask(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None, answer_within: float
    ) -> dict[str, Any]:
        """Send, and return the answer: as the client's `request`, at a fraction of its price.

        Raises:
            NatsUnavailable: if none came within so many seconds.
            NatsNotPermitted: if this user may not send that, or hears no answers.
            MessageTooLarge: if it is.
        """
        if self._deaf is not None:
            raise self._deaf
        self.questions += 1
        reply = f"{self._inbox}.{self.questions}"
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._answers[reply] = subject, answer
        late = asyncio.get_running_loop().call_later(answer_within, _give_up, answer, answer_within)
        try:
            with self._translated(subject):
                await self._send(subject, data, headers, reply)
                found: dict[str, Any] = json.loads((await answer).data)
                return found
        finally:
            late.cancel()
            del self._answers[reply]
            if answer.done() and not answer.cancelled():
                answer.exception()  # it may have come while the message was sent, and nobody asks

    @contextmanager
    def _translated(self, subject: str) -> Iterator[None]:
        """Raise what the client's errors mean."""
        try:
            yield
        except NoRespondersError:
            raise NatsUnavailable(
                f"nothing in NATS at {self.where} takes {subject}: no stream for it is declared, or it has no leader now"
            ) from None
        except MaxPayloadError:
            raise MessageTooLarge(
                f"a message of {subject} is larger than the server's max_payload of {self.max_payload} bytes: raise that"
            ) from None
        except (ClientError, OSError, TimeoutError) as error:
            reason = text_of(error) or type(error).__name__
            raise NatsUnavailable(f"NATS at {self.where} did not answer: {reason}") from error

    # --- what arrives ---------------------------------------------------------------------------------------------

    def new_reader(self) -> tuple[str, str]:
        """Return a name that no other consumer has, and the subject where this client hears it."""
        assert self._client is not None  # noqa: S101
        name = self._client.new_inbox().rpartition(".")[2]
        return name, f"{self._inbox}.{name}"

    def hear(self, consumer: str, receive: Receive) -> Callable[[], None]:
        """Call a function with what a consumer sends, and with what the server says of it. Returns a function that ends it.

        After a lost connection the consumer may be gone: see `on_reconnect`.
        """
        self._readers[consumer] = receive
        return lambda: self._deafen(consumer)

    def _deafen(self, consumer: str) -> None:
        self._readers.pop(consumer, None)

    async def _arrived(self, message: Msg) -> None:
        """Give what arrives to whom it concerns."""
        reply = message.reply
        if reply.startswith(_DELIVERED):
            tokens = reply.split(
                ".", 6
            )  # with a domain and an account hash there are two more before the stream's name
            receive = self._readers.get(tokens[3]) or self._readers.get(tokens[5])
        else:
            found = self._answers.get(message.subject)
            if found is not None:
                _settle(found[1], message)
                return
            receive = self._readers.get(message.subject.rpartition(".")[2])
        if receive is not None:
            receive(message.subject, reply, message.headers or {}, message.data)


def _settle(answer: asyncio.Future[Msg], message: Msg) -> None:
    if answer.done():
        return
    if message.headers and message.headers.get("Status") == "503":
        answer.set_exception(NoRespondersError())
    else:
        answer.set_result(message)


def _size_of(headers: Mapping[str, str] | None) -> int:
    """Return how many bytes headers take in a message."""
    return 0 if headers is None else 12 + sum(len(name) + len(value.encode()) + 4 for name, value in headers.items())


async def _close(client: Client) -> None:
    with anyio.move_on_after(_CLOSE_WITHIN), suppress(ClientError, OSError):
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
