"""Acting on calls: three ways to reach Daily, a dialer, rooms, webhooks, trunks and numbers, and telling others about calls. See
README.md beside this file.

Everything that speaks Daily's REST API needs the extra `telstate[rest]`. The options are in `telstate.options`.
"""

from __future__ import annotations

from telstate.control._api import DAILY, DailyApi
from telstate.control._call_transport import CallTransport, RoomParticipant
from telstate.control._campaign import Campaign
from telstate.control._campaign_progress import CampaignChange, CampaignChangeKind, CampaignProgress, CampaignState
from telstate.control._campaign_report import KnownContact, known_contacts, known_results, known_state
from telstate.control._campaign_results import ContactOutcome, ContactResult, NotTried, ResultFile
from telstate.control._client import ClientControl
from telstate.control._contacts import Contact, ContactFile, InvalidContact, read_contacts
from telstate.control._dialer import Dialer
from telstate.control._dialin_address import DialinAddress
from telstate.control._dialin_configs import DialinConfigs
from telstate.control._notifier import Notifier
from telstate.control._notify_target import NotifyTarget
from telstate.control._opening_hours import OpeningHours
from telstate.control._pinless_numbers import PinlessChange, PinlessNumbers
from telstate.control._pipecat import TransportControl
from telstate.control._rest import RestControl
from telstate.control._results import Answered, Attempt, Confirm, DialOutcome, DialResult, NotAnswered, Verdict
from telstate.control._retry_plan import RetryPause, RetryPlan, RetryReason
from telstate.control._rooms import Room, Rooms
from telstate.control._telephony import Telephony
from telstate.control._trunk_probe import TrunkProbe
from telstate.control._trunks import Trunk, TrunkCheck, Trunks
from telstate.control._webhooks import NEEDED, Webhook, Webhooks, watch
from telstate.routing._outbox import NotificationKind

__all__ = [
    "DAILY",
    "NEEDED",
    "Answered",
    "Attempt",
    "CallTransport",
    "Campaign",
    "CampaignChange",
    "CampaignChangeKind",
    "CampaignProgress",
    "CampaignState",
    "ClientControl",
    "Confirm",
    "Contact",
    "ContactFile",
    "ContactOutcome",
    "ContactResult",
    "DailyApi",
    "DialOutcome",
    "DialResult",
    "Dialer",
    "DialinAddress",
    "DialinConfigs",
    "InvalidContact",
    "KnownContact",
    "NotAnswered",
    "NotTried",
    "NotificationKind",
    "Notifier",
    "NotifyTarget",
    "OpeningHours",
    "PinlessChange",
    "PinlessNumbers",
    "RestControl",
    "ResultFile",
    "RetryPause",
    "RetryPlan",
    "RetryReason",
    "Room",
    "RoomParticipant",
    "Rooms",
    "Telephony",
    "TransportControl",
    "Trunk",
    "TrunkCheck",
    "TrunkProbe",
    "Trunks",
    "Verdict",
    "Webhook",
    "Webhooks",
    "known_contacts",
    "known_results",
    "known_state",
    "read_contacts",
    "watch",
]
