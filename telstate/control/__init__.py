"""Acting on calls: three ways to reach Daily, a dialer, rooms, webhooks, trunks and numbers. See README.md beside this file.

Everything that speaks Daily's REST API needs the extra `telstate[rest]`. The options are in `telstate.options`.
"""

from __future__ import annotations

from telstate.control._api import DAILY, DailyApi
from telstate.control._call_transport import CallTransport, RoomParticipant
from telstate.control._client import ClientControl
from telstate.control._dialer import Dialer
from telstate.control._dialin_address import DialinAddress
from telstate.control._dialin_configs import DialinConfigs
from telstate.control._pinless_numbers import PinlessChange, PinlessNumbers
from telstate.control._pipecat import TransportControl
from telstate.control._rest import RestControl
from telstate.control._results import Answered, Attempt, DialOutcome, DialResult, NotAnswered
from telstate.control._rooms import Room, Rooms
from telstate.control._telephony import Telephony
from telstate.control._trunk_probe import TrunkProbe
from telstate.control._trunks import Trunk, TrunkCheck, Trunks
from telstate.control._webhooks import NEEDED, Webhook, Webhooks, watch

__all__ = [
    "DAILY",
    "NEEDED",
    "Answered",
    "Attempt",
    "CallTransport",
    "ClientControl",
    "DailyApi",
    "DialOutcome",
    "DialResult",
    "Dialer",
    "DialinAddress",
    "DialinConfigs",
    "NotAnswered",
    "PinlessChange",
    "PinlessNumbers",
    "RestControl",
    "Room",
    "RoomParticipant",
    "Rooms",
    "Telephony",
    "TransportControl",
    "Trunk",
    "TrunkCheck",
    "TrunkProbe",
    "Trunks",
    "Webhook",
    "Webhooks",
    "watch",
]
