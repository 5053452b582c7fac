"""Replace everything private in a line of a log by pseudonyms, so that the log can be shown to others, and its replay says the same.

Ids, rooms and times stay: they tell calls apart, and nobody's number. Numbers, users of SIP addresses and names of people become
pseudonyms, pressed keys become `*` (people type PINs), and secrets are left out.

    redaction = Redaction(Pseudonyms(key))
    for line in log: redaction.learn(line)   # names and users, which other lines may mention
    for line in log: redaction.line(line)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from pydantic_core import from_json

from telstate.errors import ParseError
from telstate.events._display_names import mask_names_in
from telstate.events._json import load
from telstate.events._known_names import may_hold_name, spelling_of
from telstate.events._phone_numbers import LIKE_A_NUMBER, replace_numbers
from telstate.events._private_keys import KeyKind, KeysCache, is_address_key, is_time_key, kind_of, spelling_within
from telstate.events._private_words import ADDRESS, LONGEST_CACHED, SCHEME, UNIX_TIME, UUID, private_words
from telstate.events._pseudonyms import Pseudonyms
from telstate.events._secrets import without_secrets
from telstate.events._sip_users import is_known_user, mask_users

__all__ = ["Redaction"]

_NOBODY = frozenset({"anonymous", "unknown", "restricted", "unavailable", "private"})
"""Users that stand for a caller who hides their number: the engine knows them."""

_NAMED = re.compile(r"\s*(\"[^\"]*\"|[^<\"]*?)(\s*<)([^<>]*)(>?.*)", re.DOTALL).fullmatch
_NUMBER = re.compile(r"\+?[\d\-. ()/]*\d[\d\-. ()/]*").fullmatch
_ID = re.compile(r"[\w\-.:@]*").fullmatch
_FIGURE = re.compile(r"[\d.+\-eE]+").fullmatch
_TOKEN = re.compile(r"[^\W_]+(?:[.\-'\u2019][^\W_]+)*")
_TOKEN_PARTS = re.compile(r"([.\-'\u2019])")
_EDGES = re.compile(r"([\\\"'\s]*)(.*?)([\\\"'\s]*)", re.DOTALL).fullmatch
_PRIVATE_USE = re.compile(r"[\ue000-\uf8ff]")
_SHORTEST_WORD, _SHORTEST_NUMBER = 3, 4
_FEWEST = 7
_MOST_WORDS = 200_000
"""How many names and users of a log are known in its texts at most."""
_CACHED = 8_192
"""Texts."""
_UUID_LENGTH = 36
_KEPT_KIND, _SECRET_KIND, _ID_KIND, _TONES_KIND, _WORD_KIND, _NAME_KIND, _ADDRESS_KIND, _ = KeyKind
_MAY_HOLD_SECRET = re.compile(rb"daily_api_|\\").search
"""An escape could be a letter of it."""
_ENCODE = {
    (is_ascii, is_spaced): json.JSONEncoder(
        ensure_ascii=is_ascii, separators=(", ", ": ") if is_spaced else (",", ":")
    ).encode
    for is_ascii in (True, False)
    for is_spaced in (True, False)
}
"""By the form of the line."""


class _Entry(NamedTuple):
    """A key of an object."""

    shown: str
    key: str
    """In the spelling of `spelling_within`."""
    kind: KeyKind
    is_time: bool
    """True if its figures are times, and stay."""


def _is_time(key: str) -> bool:
    return is_time_key(key) and kind_of(key) not in (_ID_KIND, _TONES_KIND, _WORD_KIND)


class Redaction:
    """Replaces what is private, line by line.

    Args:
        pseudonyms: what takes its place.
    """

    def __init__(self, pseudonyms: Pseudonyms) -> None:
        self._pseudonyms = pseudonyms
        self._known: dict[str, str] = {}
        """The pseudonyms of names, of their words, of users and of short numbers, in lower case: any text may mention them."""
        self._users: set[str] = set()
        """The users that were learned."""
        self._text_behind = lru_cache(maxsize=_CACHED)(self._find_text_behind)
        """A log says the same things again and again: its numbers, rooms, names and words."""
        self._entries = KeysCache(self._entry)

    # --- the first pass -------------------------------------------------------------------------------------------

    def learn(self, raw: bytes) -> None:
        """Take note of the names and the users in a line."""
        try:
            value = from_json(raw)  # what `load` leaves out besides is no name
        except ValueError:
            try:
                value, _ = load(raw)
            except ParseError:
                return
        if isinstance(value, dict) and "v" in value and "base" in value:
            return
        words = private_words(value)
        for name in words.names:
            self._learn_name(name)
        for user in words.users:
            self._learn_user(user)

    def _learn_name(self, name: str) -> None:
        whole = " ".join(name.lower().split())
        if whole in self._known or ADDRESS(name) is not None or not any(c.isalpha() for c in name):
            return
        self._note(whole, self._pseudonyms.name(name))
        for word in _TOKEN.findall(name):
            if len(word) >= _SHORTEST_WORD and not word.isdigit():
                self._note(word.lower(), self._pseudonyms.name(word))

    def _learn_user(self, user: str) -> None:
        if user in self._users:
            return
        if len(self._users) < _MOST_WORDS:
            self._users.add(user)
        if _NUMBER(user) is not None:
            if len(user) >= _SHORTEST_NUMBER:
                self._note(user, self._pseudonyms.number(user))
            return
        if user.lower() in _NOBODY or UUID(user):
            return
        self._note(user.lower(), self._pseudonyms.user(user.lower()))
        for word in re.findall(r"[^\W\d_]+", user):
            if len(word) > _SHORTEST_WORD:
                self._note(word.lower(), self._pseudonyms.user(word.lower()))

    def _note(self, word: str, shown: str) -> None:
        if word not in self._known and len(self._known) < _MOST_WORDS:
            self._known[word] = shown
            self._text_behind.cache_clear()
            self._entries.clear()

    # --- the second pass ------------------------------------------------------------------------------------------

    def line(self, raw: bytes) -> bytes | None:
        """Return a line without anything private. One that is not JSON is replaced as a whole, and stays unreadable.

        None for the base of a pruned journal: what it has of earlier calls is packed, and cannot be redacted.
        """
        try:
            value, _ = load(raw)
        except ParseError:
            return b'{"redacted":"a line that was not JSON"}'
        if not isinstance(value, dict):
            return b'{"redacted":"a line that was no JSON object"}'
        if "v" in value and "base" in value:
            return None
        if _MAY_HOLD_SECRET(raw) is not None:
            value = without_secrets(value)
        encode = _ENCODE[raw.isascii(), b'": ' in raw[:200]]
        return encode(self._record(value)).encode("utf-8", "replace")

    def _record(self, record: dict[str, Any], within: str = "") -> dict[str, Any]:
        redacted = {}
        for (shown, key, kind, is_time), value in zip(self._entries(record, within), record.values(), strict=True):
            if kind <= _SECRET_KIND:
                redacted[shown] = self._value(value, key, kind)
            elif value.__class__ is str:
                redacted[shown] = value if is_time and _FIGURE(value) else self._text_of(value, kind)
            else:
                redacted[shown] = value if value.__class__ is float else self._value(value, key, kind)
        return redacted

    def _entry(self, name: str, within: str) -> _Entry:
        key = spelling_within(within, name)
        return _Entry(self._key(name), key, kind_of(key), _is_time(key))

    def _key(self, key: str) -> str:
        """Return a key, which stays unless it is private itself."""
        return self.text(key) if " " in key or "@" in key or LIKE_A_NUMBER.search(key) is not None else key

    def _value(self, value: Any, key: str, kind: KeyKind) -> Any:
        is_empty = not value and not isinstance(value, (int, float))
        if is_empty or isinstance(value, bool) or kind is _KEPT_KIND:
            return value
        if kind is _SECRET_KIND:
            return "[removed]"
        if isinstance(value, str):
            return value if _is_time(key) and _FIGURE(value) else self._text_of(value, kind)
        if isinstance(value, list):
            return [self._value(item, key, kind) for item in value]
        if isinstance(value, dict):
            return self._headers(value) if key == "sipheaders" else self._record(value, key)
        return self._figure(value, key)

    def _text_of(self, value: str, kind: KeyKind) -> str:
        """Redact a text that is no time."""
        if kind is _ID_KIND:
            return value if _ID(value) else replace_numbers(value, self._pseudonyms.number)
        if kind is _TONES_KIND:
            return "*" * len(value)
        if kind is not _WORD_KIND and len(value) == _UUID_LENGTH and UUID(value):
            return value
        return (self._text_behind if len(value) <= LONGEST_CACHED else self._find_text_behind)(value, kind)

    def _find_text_behind(self, value: str, kind: KeyKind) -> str:
        """Redact a word, a name, an address or any other text."""
        if kind is _WORD_KIND:
            return self.text(value, words=False)
        if kind is _NAME_KIND:
            return self._name(value)
        if kind is _ADDRESS_KIND:
            return self.address(value)
        return self.text(value) if ADDRESS(value) is None else self.address(value)

    def _figure(self, value: float, key: str) -> Any:
        """Return a number of JSON, which may be a phone number unless its key or its looks say otherwise."""
        kind = kind_of(key)
        if not isinstance(value, int) or kind is _ID_KIND:
            return value
        text = str(value)
        if is_address_key(key) or "phone" in key or kind is _TONES_KIND:
            return int(self._pseudonyms.number(text)) if value > 0 and len(text) >= _SHORTEST_NUMBER else value
        if len(text) < _FEWEST or value < 0 or is_time_key(key) or UNIX_TIME(text):
            return value
        return int(self._pseudonyms.number(text))

    def _headers(self, headers: dict[str, Any]) -> dict[str, Any]:
        """Redact SIP headers: what one means is up to its sender."""
        return {
            self._key(name): self._name(value)
            if isinstance(value, str) and may_hold_name(name)
            else self._behind(value, spelling_of(name) if not isinstance(value, int) else "phone")
            for name, value in headers.items()
        }

    def _behind(self, value: Any, key: str) -> Any:
        return self._value(value, key, kind_of(key))

    # --- names, addresses, texts ----------------------------------------------------------------------------------

    def _name(self, name: str) -> str:
        """Redact what is a name, if it is not an address."""
        if not name.strip() or UUID(name):
            return name
        if ADDRESS(name.strip()) is not None or "<" in name:
            return self.address(name)
        if name.strip().lower() in _NOBODY:
            return name
        return self._pseudonyms.name(name)

    def address(self, address: str) -> str:
        """Redact a phone number or SIP address, in a way that equal addresses stay equal, and others stay different."""
        if not address.strip() or address.strip().lower() in _NOBODY or UUID(address.strip()):
            return address
        if "<" in address and (found := _NAMED(address)) is not None:
            name, bracket, bare, rest = found.groups()
            quoted = '"' if name.startswith('"') else ""
            inner = name.strip('"')
            shown = f"{quoted}{self._name(inner)}{quoted}" if inner.strip() else name
            return f"{shown}{bracket}{self._bare(bare)}{self.text(rest)}"
        return self._bare(address)

    def _bare(self, uri: str) -> str:
        found = SCHEME.match(uri.strip())
        scheme = "" if found is None else found[0]
        body, mark, headers = uri.strip()[len(scheme) :].partition("?")
        user, at, host = body.rpartition("@")
        if not at:
            # Without a user the rest is a number, a user without a host, or a host.
            words = host.split()
            if len(words) > 1 and _NUMBER(host) is None:
                return (
                    f"{scheme}{self._name(host) if not scheme else self.text(host)}{mark}{self._uri_headers(headers)}"
                )
            return f"{scheme}{self._user(host)}{mark}{self._uri_headers(headers)}"
        shown = user if is_known_user(user, f"{scheme}{user}", body, len(user)) else self._user(user)
        return f"{scheme}{shown}@{self.text(host, words=False)}{mark}{self._uri_headers(headers)}"

    def _user(self, user: str) -> str:
        """Redact a user, with its parameters: those of a number may be an extension."""
        plain, semicolon, parameters = user.partition(";")
        plain = unquote(plain)
        if plain.lower() in _NOBODY:
            return user
        shown = self._pseudonyms.number(plain) if _NUMBER(plain) is not None else self._pseudonyms.user(plain)
        return f"{shown}{semicolon}{self._parameters(parameters)}"

    def _parameters(self, parameters: str) -> str:
        return re.sub(r"=([^;]*)", lambda found: f"={self._parameter(found[1])}", parameters)

    def _parameter(self, value: str) -> str:
        if _NUMBER(value) is not None:
            return self._pseudonyms.number(value)
        return value if value.lower() in ("phone", "ip", "udp", "tcp", "tls", "ws", "wss") else self.text(value)

    def _uri_headers(self, headers: str) -> str:
        if not headers:
            return ""
        shown = []
        for header in headers.split("&"):
            name, equals, value = header.partition("=")
            shown.append(f"{name}{equals}{quote(self._behind(unquote(value), spelling_of(name)), safe='+@:')}")
        return "&".join(shown)

    def text(self, text: str, *, words: bool = True) -> str:
        """Redact any other text: numbers and addresses by their looks, names by what stands around them, and those that are known.

        Args:
            text: any.
            words: whether known names and users are looked for.
        """
        kept: list[str] = []

        def keep(shown: str) -> str:
            """Put a pseudonym aside, so that no later step takes it for something private."""
            kept.append(shown)
            return chr(0xE000 + len(kept) - 1) if len(kept) <= 0x1800 else shown

        text = _PRIVATE_USE.sub("\ufffd", text)
        text = mask_names_in(text, lambda name: self._kept_name(name, keep))
        text = mask_users(text, lambda user: keep(self._user(user)))
        text = replace_numbers(text, lambda number: keep(self._pseudonyms.number(number)))
        if words and self._known:
            text = self._known_words(text, keep)
        return _PRIVATE_USE.sub(lambda found: kept[ord(found[0]) - 0xE000], text)

    def _kept_name(self, name: str, keep: Callable[[str], str]) -> str:
        found = _EDGES(name)
        if found is None or not found[2] or _PRIVATE_USE.search(name):
            return name
        return f"{found[1]}{keep(self._name(found[2]))}{found[3]}"

    def _known_words(self, text: str, keep: Callable[[str], str]) -> str:
        def shown(found: re.Match[str]) -> str:
            word = found[0]
            known = self._known.get(word.lower())
            if known is not None:
                return keep(known)
            parts = _TOKEN_PARTS.split(word)
            if len(parts) == 1:
                return word
            return "".join(keep(self._known[part.lower()]) if part.lower() in self._known else part for part in parts)

        return _TOKEN.sub(shown, text)
