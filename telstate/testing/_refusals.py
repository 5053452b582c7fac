"""Answers with which Daily refuses a request, for `PhoneLine(refuses=refusals.NOT_ALLOWED)`.

Sources: docs.daily.co/reference/rest-api/rooms/dialout and texts that users of Daily have published. The form of the body,
`{"error": …, "info": …}`, is that of docs.daily.co/docs/rest-api/errors; no page shows one of a telephony error.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ALREADY_STARTED",
    "CALL_CLOSED",
    "DIALOUT_IN_PROGRESS",
    "INTERNATIONAL_NOT_SUPPORTED",
    "NOT_ALLOWED",
    "NOT_ENABLED_FOR_ROOM",
    "NOT_HOSTING",
    "NUMBERS_NOT_ENABLED",
    "TEMPORARILY_NOT_AVAILABLE",
    "TOO_MANY_REQUESTS",
    "TOO_MANY_SESSIONS",
    "Refusal",
    "RequestRefused",
]


@dataclass(frozen=True)
class Refusal:
    """An answer that refuses a request.

    Raises:
        ValueError: if the status is not one of an error.
    """

    status: int
    """The HTTP status."""
    error: str
    """Daily's name of the error."""
    info: str = ""
    """Daily's explanation."""

    def __post_init__(self) -> None:
        """Check the status."""
        if not 400 <= self.status <= 599:
            raise ValueError(f"a refusal has a status from 400 to 599, not {self.status!r}")


class RequestRefused(Exception):
    """Raised inside the fake where Daily would refuse a request; over HTTP it becomes the answer."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal: Refusal = refusal
        super().__init__(f"{refusal.status} {refusal.error}: {refusal.info}")


_INVALID = "invalid-request-error"

# Texts that Daily or its users have published for REST.
NOT_HOSTING = Refusal(404, "not-found", "Room is not hosting a call")
"""The room is empty, so it cannot dial out."""
ALREADY_STARTED = Refusal(400, _INVALID, "dialOut already started")
"""One dial-out too many."""
CALL_CLOSED = Refusal(400, _INVALID, "Call closed before command could be delivered")
"""The meeting ended during the request."""
NOT_ENABLED_FOR_ROOM = Refusal(400, _INVALID, "dial-out not enabled for room. add enable_dialout property to room")
"""The room lacks `enable_dialout`."""
NUMBERS_NOT_ENABLED = Refusal(
    400, _INVALID, "dial-out to PhoneNumber is not enabled for domain. Contact support to enable it for your domain"
)
"""The domain may call SIP URIs only."""
INTERNATIONAL_NOT_SUPPORTED = Refusal(
    400, _INVALID, "International dialout not supported. Contact sales to enable it for your domain"
)
"""The domain may not call that country."""

# The names are those of daily-js's startDialOut(). SIMULATED: the statuses, and that REST uses these names.
NOT_ALLOWED = Refusal(400, "NOT_ALLOWED", "SIP/PSTN is not enabled for the room")
"""Not enabled: a retry is of no use."""
DIALOUT_IN_PROGRESS = Refusal(400, "DIALOUT_IN_PROGRESS", "a dial-out is under way")
"""Another dial-out is in progress."""
TEMPORARILY_NOT_AVAILABLE = Refusal(503, "TEMPORARILY_NOT_AVAILABLE", "no workers available")
"""Daily has no free worker: a retry may succeed."""
TOO_MANY_REQUESTS = Refusal(429, "rate-limit-error", "too many requests")
"""Rate limited; docs.daily.co/reference/rest-api#rate-limits."""
TOO_MANY_SESSIONS = Refusal(400, _INVALID, "max_sip_pstn_sessions_per_room reached")
"""SIMULATED: the limit is documented, the refusal is not."""
