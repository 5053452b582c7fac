"""Shared by tests of acting from inside a room: a call client without a network, and both controls that use it."""

from __future__ import annotations

import queue
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, contextmanager
from copy import deepcopy
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from telstate import Engine
from telstate.calls._session import Session
from telstate.control import CallTransport, ClientControl, TransportControl
from tests.calls import SESSION, feed, js
from tests.sources.live import installed

__all__ = ["NO_CALL", "FakeClient", "acting", "answered", "running", "session_of", "transport_of"]

NO_CALL = "Dialout(CallState(NotInACall))"
"""What daily-python 0.36 answers if no room was joined."""


class FakeClient:
    """Answers on its own thread, one request at a time, and swallows exceptions of completions, as daily-python does.

    Attributes:
        sent: the requests, by name, with a copy of the argument.
        answers: the arguments of the completion, by name: a tuple for each call of it. An empty list: it is never called.
        raises: the exception that a method raises, by name, instead of sending.
        people: the participants.
        joined: whether it is in a call.
        may_answer: set; until it is, answers wait.
        completed: how often completions were called.
        swallowed: the exceptions of completions.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []
        self.answers: dict[str, list[tuple[Any, ...]]] = {}
        self.raises: dict[str, Exception] = {}
        self.people: Any = {"local": {"id": "bot", "info": {"userName": "Bot", "isLocal": True}}}
        self.joined = True
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.completed = 0
        self.swallowed: list[BaseException] = []
        self._queue: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Answer the queued requests, and end."""
        self.may_answer.set()
        self._queue.put(None)
        self._thread.join(10)
        assert not self._thread.is_alive(), "a completion held up the thread"

    @property
    def acts(self) -> list[tuple[str, Any]]:
        """The requests, without those that only check whether it is in a call."""
        return [one for one in self.sent if one[0] != "update_remote_participants"]

    def participants(self) -> Any:
        """List the participants."""
        if error := self.raises.get("participants"):
            raise error
        return self.people

    def start_dialout(self, settings: Any = None, completion: Any = None) -> None:
        """Dial."""
        self._request("start_dialout", settings, completion)

    def stop_dialout(self, participant_id: str, completion: Any = None) -> None:
        """Stop."""
        self._request("stop_dialout", participant_id, completion)

    def eject_remote_participants(self, ids: list[str], completion: Any = None) -> None:
        """Remove."""
        self._request("eject_remote_participants", ids, completion)

    def update_remote_participants(self, remote_participants: Mapping[str, Any], completion: Any = None) -> None:
        """Change."""
        self._request("update_remote_participants", remote_participants, completion)

    def send_dtmf(self, settings: Any, completion: Any = None) -> None:
        """Press keys."""
        self._request("send_dtmf", settings, completion)

    def sip_call_transfer(self, settings: Any, completion: Any = None) -> None:
        """Transfer."""
        self._request("sip_call_transfer", settings, completion)

    def sip_refer(self, settings: Any, completion: Any = None) -> None:
        """Transfer by REFER."""
        self._request("sip_refer", settings, completion)

    def _request(self, name: str, argument: Any, completion: Any) -> None:
        if error := self.raises.get(name):
            raise error
        self.sent.append((name, deepcopy(argument)))
        number = len(self.sent)
        is_start = name == "start_dialout"
        error_or_none = None if self.joined else NO_CALL
        usual = (None if error_or_none else f"session-{number}", error_or_none) if is_start else (error_or_none,)
        answers = self.answers.get(name, [usual])

        def answer() -> None:
            self.may_answer.wait(60)
            for one in answers:
                self.completed += 1
                completion(*one)

        self._queue.put(answer)

    def _run(self) -> None:
        while (do := self._queue.get()) is not None:
            try:
                do()
            except BaseException as error:
                self.swallowed.append(error)


def session_of(*actions: str, **fields: Any) -> Session:
    """A session with these events."""
    engine = Engine()
    feed(engine, *(js(action, **fields) for action in actions))
    session = engine.session(SESSION)
    assert session is not None
    return session


def answered(direction: str = "dialout") -> Session:
    """A session with media."""
    return session_of(*(("dialout-connected", "dialout-answered") if direction == "dialout" else ("dialin-connected",)))


def transport_of() -> Any:
    """A real transport that has joined no room."""
    pipecat = installed("pipecat.transports.daily.transport")
    return pipecat.DailyTransport("https://example.daily.co/room", None, "bot")


@asynccontextmanager
async def running(transport: Any) -> AsyncIterator[None]:
    """Set up the transport's own client, as a pipeline does."""
    names = ("utils.asyncio.task_manager", "processors.frame_processor", "clocks.system_clock")
    tasks, frames, clocks = (installed(f"pipecat.{name}") for name in names)
    clock, manager = clocks.SystemClock(), tasks.TaskManager()
    await transport._client.setup(frames.FrameProcessorSetup(clock=clock, task_manager=manager, pipeline_worker=None))
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await transport._client.cleanup()


@contextmanager
def replaced(transport: Any, fake: FakeClient) -> Any:
    """Let the real transport use a fake of daily-python."""
    real, transport._client._client = transport._client._client, fake
    try:
        yield
    finally:
        transport._client._client = real


@asynccontextmanager
async def acting(kind: str, timeout: float = 10.0) -> AsyncIterator[tuple[CallTransport, FakeClient]]:  # noqa: ASYNC109
    """A control of this kind, and the fake that it uses."""
    fake = FakeClient()
    try:
        if kind == "client":
            yield ClientControl(fake, timeout=timeout), fake
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                transport = transport_of()
            async with running(transport):
                with replaced(transport, fake):
                    yield TransportControl(transport, timeout=timeout), fake
    finally:
        fake.release()
        await checkpoint()
        assert fake.swallowed == [], "an exception on daily-python's thread would be lost"
