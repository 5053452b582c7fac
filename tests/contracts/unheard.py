"""What the packages report and telstate does not hear, each with the reason. What is neither heard nor here makes a test fail.

A new name in a release belongs into `EVENTS` of `telstate/sources/_callbacks.py` if it bears on a call, and otherwise here.
"""

from __future__ import annotations

__all__ = ["DAILY_JS", "DAILY_PYTHON", "PIPECAT"]

_MEDIA = "about media, devices and layout: a call goes on without them"
_CONTENT = "what is said, recorded or streamed in the room, not how a call progresses"
_USER_INTERFACE = "of the prebuilt user interface and its iframe"
_ROOM = "about the room or its people in general, not about a caller"

DAILY_PYTHON = {
    **dict.fromkeys(
        (
            *("on_active_speaker_changed", "on_available_devices_updated", "on_inputs_updated"),
            *("on_network_stats_updated", "on_publishing_updated"),
            *("on_subscription_profiles_updated", "on_subscriptions_updated"),
        ),
        _MEDIA,
    ),
    **dict.fromkeys(
        (
            "on_app_message",
            *(f"on_live_stream_{what}" for what in ("error", "started", "stopped", "updated", "warning")),
            *(f"on_recording_{what}" for what in ("error", "started", "stopped")),
            *(f"on_transcription_{what}" for what in ("error", "message", "started", "stopped", "updated")),
        ),
        _CONTENT,
    ),
    "on_error": "a text without a call: a refused start is told by its completion too, and leaving by the state",
    "on_participant_counts_updated": _ROOM,
    "on_participant_updated": "the media and permissions of somebody who is there; that they are, on_participant_joined said",
}
"""The callbacks of `daily.EventHandler`. Of `on_call_state_updated` only the state `left` is heard."""

PIPECAT = {
    **dict.fromkeys(
        (
            *("on_active_speaker_changed", "on_call_quality_stats"),
            "on_participant_updated",
        ),
        _MEDIA,
    ),
    **dict.fromkeys(
        (
            "on_app_message",
            *(f"on_recording_{what}" for what in ("error", "started", "stopped")),
            *(f"on_transcription_{what}" for what in ("error", "message", "stopped")),
        ),
        _CONTENT,
    ),
    "on_joined": "the bot's own joining: events follow from then on, and none says so but they themselves",
    "on_connected": "the same as on_joined, for programs written for other transports",
    "on_before_leave": "the bot is about to leave; on_left says that it has",
    "on_first_participant_joined": "the same as on_participant_joined, once",
    "on_client_connected": "the same as on_participant_joined, under the name that other transports use",
    "on_client_disconnected": "the same as on_participant_left, under the name that other transports use",
}
"""The events of pipecat's `DailyTransport`, and of its `SIPTransport`."""

DAILY_JS = {
    **dict.fromkeys(
        (
            *(
                "started-camera",
                "camera-error",
                "track-started",
                "track-stopped",
                "network-quality-change",
                "cpu-load-change",
            ),
            *("local-screen-share-started", "local-screen-share-stopped", "local-screen-share-canceled"),
            *("active-speaker-change", "active-speaker-mode-change", "face-counts-updated", "test-completed"),
            *(
                "available-devices-updated",
                "selected-devices-updated",
                "local-audio-level",
                "remote-participants-audio-level",
            ),
            *("receive-settings-updated", "input-settings-updated", "send-settings-updated"),
            *("remote-media-player-started", "remote-media-player-stopped", "remote-media-player-updated"),
        ),
        _MEDIA,
    ),
    **dict.fromkeys(
        (
            *(f"recording-{what}" for what in ("started", "stopped", "stats", "error", "upload-completed", "data")),
            *(f"transcription-{what}" for what in ("started", "stopped", "error", "message")),
            *(f"live-streaming-{what}" for what in ("started", "updated", "stopped", "error")),
            "app-message",
        ),
        _CONTENT,
    ),
    **dict.fromkeys(
        (
            *("loading", "load-attempt-failed", "loaded", "fullscreen", "exited-fullscreen", "click"),
            *("mousedown", "mouseup", "mouseover", "mousemove", "touchstart", "touchmove", "touchend"),
            *(
                "lang-updated",
                "theme-updated",
                "show-local-video-changed",
                "custom-button-click",
                "sidebar-view-changed",
            ),
            *("pip-started", "pip-stopped"),
        ),
        _USER_INTERFACE,
    ),
    **dict.fromkeys(
        (
            *("participant-updated", "participant-counts-updated", "access-state-updated"),
            *(f"meeting-session-{what}updated" for what in ("", "summary-", "state-")),
            *(f"waiting-participant-{what}" for what in ("added", "updated", "removed")),
        ),
        _ROOM,
    ),
    "joining-meeting": "our own joining",
    "joined-meeting": "our own joining: events follow from then on",
    "call-instance-destroyed": "our client is gone; left-meeting says that it left",
    "error": "fatal for our client, which leaves: left-meeting follows",
    "nonfatal-error": "of a request of our own, whose answer has it too",
}
"""The members of `DailyEvent` in daily-js's `index.d.ts`. telstate reads them as an `UnknownEvent`."""
