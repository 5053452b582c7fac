"""Secrets in payloads: pipecat's runner sends the key of Daily's API with a caller. Nothing may keep, log or export it."""

from __future__ import annotations

from typing import Any

from telstate.errors import hide_secrets

__all__ = ["without_secrets"]

_SECRETS = ("daily_api_key", "daily_api_url")


def without_secrets(value: Any) -> Any:
    """Copy a JSON value without the secrets at any depth, also those in texts."""
    if isinstance(value, dict):
        kept = ((key, item) for key, item in value.items() if key not in _SECRETS)
        return {_in_text(key): without_secrets(item) for key, item in kept}
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return _in_text(value)


def _in_text(value: Any) -> Any:
    return hide_secrets(value) if isinstance(value, str) else value
