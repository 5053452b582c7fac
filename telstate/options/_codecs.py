"""Codecs, as dial-outs and rooms take them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import AfterValidator, BeforeValidator, Field, WrapValidator
from pydantic_core import ErrorDetails

from telstate.errors import shorten
from telstate.options._base import Options
from telstate.options._fields import closest, either, explained

__all__ = ["Codecs"]

_Audio: TypeAlias = Literal["OPUS", "G722", "PCMU", "PCMA"]
_Video: TypeAlias = Literal["H264", "VP8"]


def _to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _check_distinct(codecs: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(codecs)) < len(codecs):
        raise ValueError
    return codecs


def _explained(literal: Any) -> WrapValidator:
    """Explain what is wrong with a list of codecs."""
    allowed = get_args(literal)
    example = f'["{allowed[0]}"]'

    def explain(name: str, error: ErrorDetails) -> str:
        came = error["input"]
        if error["type"] == "tuple_type":
            return f"{name} must be a list of codecs, got {shorten(came)}: write for example {example}"
        if error["type"] == "too_short":
            return f"{name} must have at least one codec, got an empty list: add one, or leave {name} out"
        if error["type"] == "value_error":
            twice = next(one for one in came if came.count(one) > 1)
            return f"{name} must have each codec once, got {twice!r} more than once: Daily uses the first"
        if isinstance(came, (list, tuple)):
            return f"{name} must be a flat list, got a list in a list: write for example {example}"
        return f"{name} must have only {either(allowed)}, got {shorten(came)}: write {closest(came, allowed)}; case matters"

    return explained(explain)


_LIST = Field(strict=True, min_length=1, json_schema_extra={"uniqueItems": True})


class Codecs(Options):
    """Which codecs to use, the best first.

    Daily takes the first. If the far end does not support it, Daily transcodes, which is charged. Without codecs, Daily
    takes OPUS and H264 for SIP, and PCMU and PCMA for phones (the page of startDialOut). The overview of dial-in and
    dial-out says PCMU/PCMA and VP8, so name the codecs that matter to you.
    """

    audio: (
        Annotated[
            tuple[_Audio, ...], _LIST, BeforeValidator(_to_tuple), AfterValidator(_check_distinct), _explained(_Audio)
        ]
        | None
    ) = None
    """`OPUS`, `G722`, `PCMU`, `PCMA`."""
    video: (
        Annotated[
            tuple[_Video, ...], _LIST, BeforeValidator(_to_tuple), AfterValidator(_check_distinct), _explained(_Video)
        ]
        | None
    ) = None
    """`H264`, `VP8`. For SIP only."""
