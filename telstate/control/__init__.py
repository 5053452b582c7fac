"""How to act on calls: typed options, ways to carry them out, and a dialer. What speaks REST needs the extra `telstate[rest]`."""

from __future__ import annotations

from telstate.control._api import DAILY, DailyApi
from telstate.control._call_transport import CallTransport, RoomParticipant
from telstate.control._client import ClientControl
from telstate.control._dialer import Dialer
from telstate.control._pipecat import TransportControl
from telstate.control._rest import RestControl
from telstate.control._results import Attempt, DialOutcome, DialResult
from telstate.control._rooms import Room, Rooms
from telstate.control._telephony import Telephony
from telstate.control._webhooks import NEEDED, Webhook, Webhooks, watch
from telstate.options import (
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
from telstate.options._uris import dialin_uri, sip_uri

__all__ = [
    "DAILY",
    "NEEDED",
    "Attempt",
    "CallTransport",
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
    "Refer",
    "RestControl",
    "Room",
    "RoomParticipant",
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
