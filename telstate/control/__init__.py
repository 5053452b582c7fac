"""How to act on calls: typed options, ways to carry them out, and a dialer. What speaks REST needs the extra `telstate[rest]`."""

from __future__ import annotations

from telstate.control.api import DAILY, DailyApi
from telstate.control.carrier import Carrier, Present
from telstate.control.client import ClientControl
from telstate.control.dialer import Dialer
from telstate.control.hooks import NEEDED, Webhook, Webhooks, watch
from telstate.control.options import (
    Codecs,
    Dialout,
    Dtmf,
    Permissions,
    PhoneDialout,
    Refer,
    SipDialout,
    SipRoom,
    Transfer,
    VideoSettings,
)
from telstate.control.rest import RestControl
from telstate.control.results import Attempt, DialOutcome, DialResult
from telstate.control.rooms import Room, Rooms
from telstate.control.telephony import Telephony
from telstate.control.transport import TransportControl
from telstate.control.uris import dialin_uri, sip_uri

__all__ = [
    "DAILY",
    "NEEDED",
    "Attempt",
    "Carrier",
    "ClientControl",
    "Codecs",
    "DailyApi",
    "DialOutcome",
    "DialResult",
    "Dialer",
    "Dialout",
    "Dtmf",
    "Permissions",
    "PhoneDialout",
    "Present",
    "Refer",
    "RestControl",
    "Room",
    "Rooms",
    "SipDialout",
    "SipRoom",
    "Telephony",
    "Transfer",
    "TransportControl",
    "VideoSettings",
    "Webhook",
    "Webhooks",
    "dialin_uri",
    "sip_uri",
    "watch",
]
