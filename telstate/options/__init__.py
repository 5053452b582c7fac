"""What can be asked of Daily, as values that are checked before they are sent. Pure: nothing here sends."""

from __future__ import annotations

from telstate.options._options import (
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
    "Codecs",
    "Dialout",
    "Dtmf",
    "Permissions",
    "PhoneDialout",
    "Refer",
    "SipDialout",
    "SipRoom",
    "Transfer",
    "VideoSettings",
    "dialin_uri",
    "sip_uri",
]
