"""What is asked of Daily: its REST API. Needs the extra `telstate[rest]`; the options and the SIP URIs alone do not."""

from __future__ import annotations

from telstate.control.api import DAILY, DailyApi
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
from telstate.control.sip_uri import dialin_uri, sip_uri

__all__ = [
    "DAILY",
    "NEEDED",
    "Codecs",
    "DailyApi",
    "Dialout",
    "Dtmf",
    "Permissions",
    "PhoneDialout",
    "Refer",
    "SipDialout",
    "SipRoom",
    "Transfer",
    "VideoSettings",
    "Webhook",
    "Webhooks",
    "dialin_uri",
    "sip_uri",
    "watch",
]
