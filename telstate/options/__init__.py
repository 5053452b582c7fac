"""Typed options for everything that can be asked of Daily about a call, validated before they are sent.

    SipDialout(sip_uri="sip:bob@example.com", video=True).body()  # {"sipUri": "sip:bob@example.com", "video": True}

Options take their fields by Python name or as Daily spells them, and refuse what Daily would refuse, or ignore without an
error. Mistakes raise pydantic's `ValidationError`, which lists all of them. `body()` is the JSON object for Daily.
`model_json_schema()` shows the limits of each field. Pure: nothing here sends anything.
"""

from __future__ import annotations

from telstate.options._actions import Dtmf, Refer, Transfer
from telstate.options._codecs import Codecs
from telstate.options._dialin_config import DialinConfig, SpokenMessage
from telstate.options._dialout import Dialout, Permissions, PhoneDialout, SipDialout, VideoSettings
from telstate.options._pin_dialin import PinDialin, RoomNumber
from telstate.options._sip_room import SipRoom
from telstate.options._sip_trunk import SipTrunk, TrunkAccess, TrunkCredential, TrunkNotification
from telstate.options._uris import dialin_uri, sip_uri

__all__ = [
    "Codecs",
    "DialinConfig",
    "Dialout",
    "Dtmf",
    "Permissions",
    "PhoneDialout",
    "PinDialin",
    "Refer",
    "RoomNumber",
    "SipDialout",
    "SipRoom",
    "SipTrunk",
    "SpokenMessage",
    "Transfer",
    "TrunkAccess",
    "TrunkCredential",
    "TrunkNotification",
    "VideoSettings",
    "dialin_uri",
    "sip_uri",
]
