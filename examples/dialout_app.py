"""An app that only wants callbacks: the full dial-out flow of Daily's daily-js guide (start, ringing, answered, stopped, error,
key presses), without its guards. The guide keeps an `activeSessionId` and checks in every callback whether the event belongs to it;
here each session has its own screen, two calls at once are no problem, and late or repeated events need no code.

    python examples/dialout_app.py

A stand-in for Daily sends the events that a client would get, in a friendly order and in an unfriendly one.
"""

from __future__ import annotations

import anyio

from telstate import DialoutRefused, DialoutRequested, Dispatcher, Event, Router, Session, State, StopRequested

router = Router("app")


def update_ui(session: Session, status: str) -> None:
    """Update the screen of a session."""
    print(f"{session.destination}: {status}")


@router.on(DialoutRequested)
async def started(session: Session) -> None:
    """Our start was accepted."""
    update_ui(session, "calling")


@router.on_state(State.CONNECTED)
async def ringing(session: Session) -> None:
    """It rings."""
    update_ui(session, "ringing")


@router.on_state(State.ANSWERED)
async def connected(session: Session) -> None:
    """Somebody picked up."""
    update_ui(session, "connected")


@router.on_end()
async def ended(session: Session) -> None:
    """Stopped or failed, by either side, or never started."""
    text = f": {session.error_msg}" if session.error_msg else ""
    update_ui(session, f"{session.cause}, by {session.ended_by}{text}")


@router.on("dtmf-event")
async def pressed(session: Session) -> None:
    """The other end pressed a key."""
    update_ui(session, "key pressed")


class App:
    """The actions of a user."""

    def __init__(self, calls: Dispatcher, daily: StandIn) -> None:
        self._calls = calls
        self._daily = daily

    async def call_phone_number(self, number: str) -> str:
        """Dial. A refused start is an event like any other: errors need no second path."""
        try:
            session_id = await self._daily.start_dial_out(number)
        except RuntimeError as error:
            refused = DialoutRefused.new(str(error), destination=number)
            await self._calls.receive(refused)
            return refused.session_id
        await self._calls.receive(DialoutRequested(session_id=session_id, destination=number))
        return session_id

    async def end_call(self, session_id: str) -> None:
        """Hang up. The session then knows that we did."""
        session = self._calls.session(session_id)
        if session is not None and not session.ended:
            await self._calls.receive(StopRequested(session_id=session_id))
            await self._daily.send("dialout-stopped", session_id)


class StandIn:
    """Instead of Daily's client: it refuses some numbers, and sends events."""

    def __init__(self, calls: Dispatcher) -> None:
        self._calls = calls
        self._count = 0

    async def start_dial_out(self, number: str) -> str:
        """Accept, unless the number is not allowed."""
        if number.startswith("+999"):
            raise RuntimeError("NOT_ALLOWED")
        self._count += 1
        return f"session-{self._count}"

    async def send(self, event: str, session_id: str, **fields: object) -> None:
        """Send an event, as a client's callback would."""
        await self._calls.receive({"action": event, "sessionId": session_id, **fields})


@router.on(Event, where=lambda event: bool(event.anomalies))
async def odd(event: Event) -> None:
    """An event has an odd value; the call goes on."""
    print(f"odd: {', '.join(event.anomalies)}")


async def main() -> None:
    """Two calls at once, one of which fails; one that is refused; and one whose events come in the wrong order."""
    async with Dispatcher(router) as calls:
        daily = StandIn(calls)
        app = App(calls, daily)
        first = await app.call_phone_number("+12025550101")
        second = await app.call_phone_number("+12025550102")
        await app.call_phone_number("+9995550103")
        await daily.send("dialout-connected", first)
        await daily.send("dialout-connected", second)
        await daily.send("dialout-answered", first)
        await daily.send("dtmf-event", first, tone="5")
        await daily.send("dialout-error", second, errorMsg="DialOut failed with error: process error, Channel closed")
        await calls.idle()
        await app.end_call(first)
        await calls.idle()

        third = await app.call_phone_number("+12025550104")
        for event in (
            "dialout-answered",
            "dialout-connected",
            "dialout-answered",
            "dialout-stopped",
            "dialout-connected",
        ):
            await daily.send(event, third, origin=5)
            await calls.idle()


if __name__ == "__main__":
    anyio.run(main)
