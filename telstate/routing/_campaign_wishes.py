"""What a campaign can be asked for, and the event of each wish."""

from __future__ import annotations

from collections.abc import Mapping

from telstate.events import CampaignPaused, CampaignResumed, CampaignStopped, Event

__all__ = ["CAMPAIGN_WISHES", "campaign_event"]

CAMPAIGN_WISHES: Mapping[str, type[CampaignPaused | CampaignResumed | CampaignStopped]] = {
    "pause": CampaignPaused,
    "resume": CampaignResumed,
    "stop": CampaignStopped,
}


def campaign_event(campaign: str, wish: str) -> Event:
    """Return the event of a wish for a campaign.

    Raises:
        ValueError: if nobody can ask that of a campaign.
    """
    if wish not in CAMPAIGN_WISHES:
        raise ValueError(f"a campaign can be asked to {', '.join(CAMPAIGN_WISHES)}, not {wish!r}")
    return CAMPAIGN_WISHES[wish](intent=campaign)
