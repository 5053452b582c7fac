"""Names what blocks the event loop: a thread looks at the loop's own thread when the loop has not turned for a while.

    with watching(1.0) as watch:
        await watch.run()

A handler that calls `time.sleep` or a driver that is not async stops everything here: other calls, webhooks, timeouts. Nothing in
the loop can say so while that lasts. The thread wakes a few times a second, compares two numbers, and sleeps again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread, get_ident
from time import monotonic
from traceback import format_stack
from types import FrameType

import anyio

from telstate.events._masking import mask
from telstate.routing._log import Log

__all__ = ["LoopWatch", "watching"]

_LOOKS = 4
"""How many looks and beats there are in the time after which a loop counts as blocked."""
_FRAMES = 12
"""How many frames are shown, from the innermost on."""
_RUNNER = "telstate.routing._runner"
_TELSTATE = "telstate."


class LoopWatch:
    """Watches the loop of the thread in which it is made.

    Args:
        blocked_after: seconds after which a loop that does not turn is named in the log.
    """

    def __init__(self, blocked_after: float) -> None:
        self.users = 0
        self._blocked_after = blocked_after
        self._loop = get_ident()
        self._beat = monotonic()
        self._named = 0.0
        """The beat after which the loop was blocked, once the log has said so."""
        self._beating = anyio.Lock()
        self._stop = Event()
        self._log = Log()

    def start(self) -> None:
        """Start the thread. It is a daemon: it never keeps the program from ending."""
        Thread(target=self._look_again, name="telstate loop watch", daemon=True).start()

    def stop(self) -> None:
        """Let the thread end."""
        self._stop.set()

    async def run(self) -> None:
        """Beat, in the loop. Of all that run this, one beats; the others take over when it ends."""
        async with self._beating:
            while True:
                now = monotonic()
                blocked, self._beat = self._named == self._beat, now
                if blocked:
                    self._log.warning("loop.turns_again", seconds=round(now - self._named, 1))
                await anyio.sleep(self._blocked_after / _LOOKS)

    def _look_again(self) -> None:
        while not self._stop.wait(self._blocked_after / _LOOKS):
            beat = self._beat
            # The loop beats after each pause, so the pause itself is no sign.
            late = monotonic() - beat - self._blocked_after / _LOOKS
            if late >= self._blocked_after and self._named != beat:
                frame = sys._current_frames().get(self._loop)
                if frame is not None and self._beat == beat:
                    self._named = beat
                    self._say(frame, late)

    def _say(self, frame: FrameType, seconds: float) -> None:
        hint = "nothing else runs meanwhile: await something async in its place, or use anyio.to_thread.run_sync"
        self._log.error(
            "loop.blocked",
            seconds=round(seconds, 1),
            handler=_handler_of(frame),
            at=f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}",
            hint=hint,
            exception=mask("".join(format_stack(frame)[-_FRAMES:])),
        )


def _handler_of(frame: FrameType | None) -> str | None:
    """Return the name of the handler that runs: the outermost function that the runner called and that is not telstate's."""
    found = None
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module == _RUNNER:
            return found
        if not module.startswith(_TELSTATE):
            found = f"{module}.{frame.f_code.co_qualname}"
        frame = frame.f_back
    return None


_WATCHES: dict[int, LoopWatch] = {}
_CHANGING = Lock()


@contextmanager
def watching(blocked_after: float) -> Iterator[LoopWatch]:
    """Give the watch of this thread's loop. All dispatchers of a loop share one, with the time that the first of them gave."""
    thread = get_ident()
    with _CHANGING:
        watch = _WATCHES.get(thread)
        if watch is None:
            watch = _WATCHES[thread] = LoopWatch(blocked_after)
            watch.start()
        watch.users += 1
    try:
        yield watch
    finally:
        with _CHANGING:
            watch.users -= 1
            if not watch.users:
                del _WATCHES[thread]
                watch.stop()
