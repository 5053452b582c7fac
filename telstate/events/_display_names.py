"""Find display names in a text, by what stands around them, and mask them: of each word stays the initial."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

__all__ = ["initials", "mask_known_names", "mask_names_in"]

_ADDRESS = re.compile(r"<(?:sips?|tel):", re.IGNORECASE).search
_WORD = re.compile(r"([^\W\d_])[^\s<>\"@•]*(?:•••)?")
_QUOTED_BEFORE_ADDRESS = re.compile(
    r"(\\?\")((?:[^\"\\<>]|\\[^\"]){1,128})(\\?\"\s{0,4}<)(?=(?:sips?|tel):)", re.IGNORECASE
)
_WORDS_BEFORE_ADDRESS = re.compile(
    r"((?:[^\s<>\"=:;,(){}\[\]]{1,64}[ \t]{1,4}){0,5}[^\s<>\"=:;,(){}\[\]]{1,64})(?=\\?\"?\s{0,4}<(?:sips?|tel):)",
    re.IGNORECASE,
)
_BEHIND_KEY = re.compile(
    r"(?<![a-z])((?:\\?[\"'])?(?:x-daily_)?(?:display_?name|user_?name|caller_?name|from_?name|callee_?name|customer_?name|cnam)"
    r"(?:\\?[\"'])?(?:\s?[:=]\s?|\scame as\s))"
    r"(\\\"(?:[^\"\\]|\\[^\"]){0,256}|\"(?:[^\"\\]|\\.){0,256}|'(?:[^'\\]|\\.){0,256}|[^\s\"',;&}\]<>]{1,256})",
    re.IGNORECASE,
)
"""`display_name='Ada'`, `"displayName": "Ada"`, also escaped or cut short, and `?x-daily_display_name=Ada%20L`."""
_DISAGREEMENT = re.compile(
    r"(?<![a-z])((?:display|user|caller)_?name: was )(.{0,256}?)(, then )(.{0,256})", re.IGNORECASE | re.DOTALL
)
"""An anomaly of a session."""
_HEADERS = re.compile(r"sip_?headers(?:\\?[\"'])?\s?(?:[:=]|came as)[^\n]{0,2000}", re.IGNORECASE)
_VALUE = re.compile(r"((?<=[\w\-])\\?[\"']\s?:\s?)(\\?\"[^\"]{0,256}|'[^']{0,256}|\\?\"[^\"]{0,256})")
"""A value of a header: what it means is up to the sender, and it may be a name."""
_NOTHING = frozenset({"none", "null", "true", "false"})
_SHORTEST = 3
"""Letters of a word that is searched for by itself."""


def initials(name: str) -> str:
    """A name with only the initials of its words. What has no letters stays: numbers are masked elsewhere."""
    return _WORD.sub(r"\1•••", name)


def mask_known_names(text: str, names: Iterable[str | None]) -> str:
    """Mask these names in a text, whole and by their words."""
    for name in names:
        if (
            name
            and len(name) > 1
            and _may_mention(text, name[:256])
            and (pattern := _pattern_of(name[:256])) is not None
        ):
            text = pattern.sub(lambda found: initials(found[0]), text)
    return text


def mask_names_in(text: str, shown: Callable[[str], str] = initials) -> str:
    """Mask the names that stand before an address in angle brackets, or behind a key such as `display_name`.

    Args:
        text: any text.
        shown: returns what is shown of a name.
    """
    if "<" in text and _ADDRESS(text) is not None:
        text = _QUOTED_BEFORE_ADDRESS.sub(lambda found: found[1] + shown(found[2]) + found[3], text)
        text = _WORDS_BEFORE_ADDRESS.sub(lambda found: _without_name(found, shown), text)
    lower = text.lower()
    if "headers" in lower:
        text = _HEADERS.sub(lambda found: _VALUE.sub(lambda value: value[1] + shown(value[2]), found[0]), text)
    if "name" not in lower and "cnam" not in lower:
        return text
    text = _DISAGREEMENT.sub(lambda found: found[1] + shown(found[2]) + found[3] + shown(found[4]), text)
    return _BEHIND_KEY.sub(lambda found: _without_value(found, shown), text)


def _may_mention(text: str, name: str) -> bool:
    """Return False if a text certainly does not mention a name, as most do not: to see that takes no pattern."""
    forms = _lower_forms_of(name)
    if forms is None or not text.isascii():  # a pattern knows more about other scripts than `lower`
        return True
    text = text.lower()
    for form in forms:  # noqa: SIM110 - `any` would cost each text of a record as much as all else here
        if form in text:
            return True
    return False


@lru_cache(maxsize=256)
def _lower_forms_of(name: str) -> tuple[str, ...] | None:
    return tuple(form.lower() for form in _forms_of(name)) if name.isascii() else None


@lru_cache(maxsize=256)
def _pattern_of(name: str) -> re.Pattern[str] | None:
    forms = _forms_of(name)
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(map(re.escape, forms))})(?![^\W_])", re.IGNORECASE) if forms else None


def _forms_of(name: str) -> tuple[str, ...]:
    """Return what is searched for: the name and its words, also as JSON and Python escape them, the longest first."""
    words = {word for word in re.findall(r"[^\W\d_][^\s<>\"@,;()]*", name) if len(word) >= _SHORTEST}
    whole = name.strip()
    if not any(c.isalpha() for c in whole):
        return ()
    forms = {whole, ascii(whole)[1:-1], *words, *(ascii(word)[1:-1] for word in words)}
    return tuple(sorted(forms, key=len, reverse=True))


def _without_name(found: re.Match[str], shown: Callable[[str], str]) -> str:
    """Mask from the first word with a capital on: a sentence may lead up to the name. Without capitals, mask all."""
    words = re.split(r"([ \t]+)", found[1])
    first = next((at for at, word in enumerate(words) if word[:1].isalpha() and not word[:1].islower()), 0)
    return "".join([*words[:first], shown("".join(words[first:]))])


def _without_value(found: re.Match[str], shown: Callable[[str], str]) -> str:
    value = found[2]
    if value.lower() in _NOTHING or value == "was":
        return found[0]
    # A space may be percent-encoded or a plus.
    return found[1] + "".join(part if part in ("%20", "+") else shown(part) for part in re.split(r"(%20|\+)", value))
