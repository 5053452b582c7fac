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
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, unquote

from telstate.errors import ParseError
from telstate.events._display_names import mask_names_in
from telstate.events._json import load
from telstate.events._known_names import NAME_KEYS, may_hold_name, names_in, spelling_of
from telstate.events._phone_numbers import LIKE_A_NUMBER, replace_numbers
from telstate.events._pseudonyms import Pseudonyms
from telstate.events._secrets import without_secrets
from telstate.events._sip_users import is_known_user, mask_users

__all__ = ["Redaction"]

_IDS = frozenset(
    {
        *(
            "id",
            "sessionid",
            "othersessionid",
            "sipcallid",
            "pinlesscallid",
            "callid",
            "legs",
            "callclientid",
            "domainid",
        ),
        *(
            "eventid",
            "requestid",
            "targetid",
            "meetingid",
            "mtgsessionid",
            "actiontraceid",
            "journal",
            "room",
            "roomid",
            "roomname",
            "calldomain",
        ),
    }
)
"""Keys whose values stay, in the spelling of `spelling_of`, unless one has a number with a `+`, blanks or brackets in it."""
_WORDS = frozenset(
    {
        *(
            "action",
            "type",
            "handler",
            "event",
            "dialect",
            "provider",
            "version",
            "method",
            "presence",
            "deadline",
            "state",
        ),
        *("direction", "cause", "status", "networkqualitystate", "trigger", "transitions"),
    }
)
"""Keys whose values are words of Daily's or telstate's: names that are equal to one do not change them."""
_ADDRESSES = frozenset(
    {
        *("destination", "origin", "callerid", "sipfrom", "caller", "called", "callee", "from", "to", "phonenumber"),
        *("transferredto", "transfers", "target", "toendpoint", "fromendpoint", "forwardedto", "sipuri", "sipendpoint"),
        *("sipto", "uri", "phone", "msisdn", "contact"),
    }
)
_TIMES = re.compile(
    r"(?:at|ts|time|timestamp|duration|ms|seconds|seq|done|base|volume|bytes|bitrate|count|version|port)$"
).search
"""Keys whose numbers are no phone numbers, by how they end."""
_NO_NAMES = frozenset({"roomname", "filename", "hostname", "domainname", "eventname", "typename", "trunkname"})
_THINGS = frozenset({"room", "domain", "trunk"})
_SECRET = re.compile(r"(?:apikey|token|secret|password|passwd|authorization|credential|hmac|cookie)s?$").search
_TONES = frozenset({"tone", "tones", "digits", "pin", "dtmf"})
_KEPT_WHOLE = frozenset({"settings"})
_NOBODY = frozenset({"anonymous", "unknown", "restricted", "unavailable", "private"})
"""Users that stand for a caller who hides their number: the engine knows them."""

_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}").fullmatch
_SCHEME = re.compile(r"(?i)(sips?:|tel:|mailto:)?")
_NAMED = re.compile(r"\s*(\"[^\"]*\"|[^<\"]*?)(\s*<)([^<>]*)(>?.*)", re.DOTALL).fullmatch
_ADDRESS = re.compile(r"(?i)(?:sips?:|tel:|mailto:)\S+|[^\s@<>\"]+@[^\s@<>\"]+|\+?[\d\-. ()/]*\d[\d\-. ()/]*").fullmatch
_NUMBER = re.compile(r"\+?[\d\-. ()/]*\d[\d\-. ()/]*").fullmatch
_ID = re.compile(r"[\w\-.:@]*").fullmatch
_FIGURE = re.compile(r"[\d.+\-eE]+").fullmatch
_UNIX_TIME = re.compile(r"1[5-9]\d{8}(?:\d{3}|\d{6}|\d{9})?").fullmatch
_TOKEN = re.compile(r"[^\W_]+(?:[.\-'\u2019][^\W_]+)*")
_TOKEN_PARTS = re.compile(r"([.\-'\u2019])")
_EDGES = re.compile(r"([\\\"'\s]*)(.*?)([\\\"'\s]*)", re.DOTALL).fullmatch
_PRIVATE_USE = re.compile(r"[\ue000-\uf8ff]")
_SHORTEST_WORD, _SHORTEST_NUMBER = 3, 4
_FEWEST = 7
_MOST_WORDS = 200_000
"""How many names and users of a log are known in its texts at most."""


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

    # --- the first pass -------------------------------------------------------------------------------------------

    def learn(self, raw: bytes) -> None:
        """Take note of the names and the users in a line."""
        try:
            value, _ = load(raw)
        except ParseError:
            return
        if isinstance(value, dict) and "v" in value and "base" in value:
            return
        for name in {*names_in(value), *_names_behind(value)}:
            self._learn_name(name)
        for user in _users_in(value):
            self._learn_user(user)

    def _learn_name(self, name: str) -> None:
        whole = " ".join(name.lower().split())
        if whole in self._known or _ADDRESS(name) is not None or not any(c.isalpha() for c in name):
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
        if user.lower() in _NOBODY or _UUID(user):
            return
        self._note(user.lower(), self._pseudonyms.user(user.lower()))
        for word in re.findall(r"[^\W\d_]+", user):
            if len(word) > _SHORTEST_WORD:
                self._note(word.lower(), self._pseudonyms.user(word.lower()))

    def _note(self, word: str, shown: str) -> None:
        if len(self._known) < _MOST_WORDS:
            self._known.setdefault(word, shown)

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
        value = self._record(without_secrets(value))
        spaced = b'": ' in raw[:200]
        text = json.dumps(value, ensure_ascii=raw.isascii(), separators=(", ", ": ") if spaced else (",", ":"))
        return text.encode("utf-8", "replace")

    def _record(self, record: dict[str, Any], key: str = "") -> dict[str, Any]:
        return {self._key(name): self._value(value, _within(key, name)) for name, value in record.items()}

    def _key(self, key: str) -> str:
        """Return a key, which stays unless it is private itself."""
        return self.text(key) if " " in key or "@" in key or LIKE_A_NUMBER.search(key) is not None else key

    def _value(self, value: Any, key: str) -> Any:
        if value is None or isinstance(value, bool) or value in ("", [], {}) or key in _KEPT_WHOLE:
            return value
        if _SECRET(key):
            return "[removed]"
        if isinstance(value, str):
            return self._by_key(value, key)
        if isinstance(value, list):
            return [self._value(item, key) for item in value]
        if isinstance(value, dict):
            return self._headers(value) if key == "sipheaders" else self._record(value, key)
        return self._figure(value, key)

    def _by_key(self, value: str, key: str) -> str:
        if key in _IDS:
            return value if _ID(value) else replace_numbers(value, self._pseudonyms.number)
        if key in _TONES:
            return "*" * len(value)
        if key in _WORDS:
            return self.text(value, words=False)
        if _UUID(value) or (_TIMES(key) and _FIGURE(value)):
            return value
        if _is_name_key(key):
            return self._name(value)
        if key in _ADDRESSES or "phone" in key:
            return self.address(value)
        return self.text(value) if _ADDRESS(value) is None else self.address(value)

    def _figure(self, value: float, key: str) -> Any:
        """Return a number of JSON, which may be a phone number unless its key or its looks say otherwise."""
        text = str(value)
        if not isinstance(value, int) or key in _IDS:
            return value
        if key in _ADDRESSES or "phone" in key or key in _TONES:
            return int(self._pseudonyms.number(text)) if value > 0 and len(text) >= _SHORTEST_NUMBER else value
        if len(text) < _FEWEST or value < 0 or _TIMES(key) or _UNIX_TIME(text):
            return value
        return int(self._pseudonyms.number(text))

    def _headers(self, headers: dict[str, Any]) -> dict[str, Any]:
        """Redact SIP headers: what one means is up to its sender."""
        return {
            self._key(name): self._name(value)
            if isinstance(value, str) and may_hold_name(name)
            else self._value(value, spelling_of(name) if not isinstance(value, int) else "phone")
            for name, value in headers.items()
        }

    # --- names, addresses, texts ----------------------------------------------------------------------------------

    def _name(self, name: str) -> str:
        """Redact what is a name, if it is not an address."""
        if not name.strip() or _UUID(name):
            return name
        if _ADDRESS(name.strip()) is not None or "<" in name:
            return self.address(name)
        if name.strip().lower() in _NOBODY:
            return name
        return self._pseudonyms.name(name)

    def address(self, address: str) -> str:
        """Redact a phone number or SIP address, in a way that equal addresses stay equal, and others stay different."""
        if not address.strip() or address.strip().lower() in _NOBODY or _UUID(address.strip()):
            return address
        if "<" in address and (found := _NAMED(address)) is not None:
            name, bracket, bare, rest = found.groups()
            quoted = '"' if name.startswith('"') else ""
            inner = name.strip('"')
            shown = f"{quoted}{self._name(inner)}{quoted}" if inner.strip() else name
            return f"{shown}{bracket}{self._bare(bare)}{self.text(rest)}"
        return self._bare(address)

    def _bare(self, uri: str) -> str:
        found = _SCHEME.match(uri.strip())
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
            shown.append(f"{name}{equals}{quote(self._value(unquote(value), spelling_of(name)), safe='+@:')}")
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


def _within(key: str, name: str) -> str:
    """Return the spelling of a name in the object of a key: the `name` of a `room` is a room name, and nobody's."""
    spelling = spelling_of(name)
    return f"{key}name" if spelling == "name" and key in _THINGS else spelling


def _is_name_key(key: str) -> bool:
    return key in NAME_KEYS or (key.endswith("name") and key not in _NO_NAMES)


def _names_behind(value: Any, key: str = "", depth: int = 0) -> Iterator[str]:
    """Yield the values of keys that end in `name`."""
    if isinstance(value, str):
        if _is_name_key(key):
            yield value
    elif isinstance(value, dict) and depth < 50:
        for name, item in value.items():
            yield from _names_behind(item, _within(key, name), depth + 1)
    elif isinstance(value, list) and depth < 50:
        for item in value:
            yield from _names_behind(item, key, depth + 1)


def _users_in(value: Any, key: str = "", depth: int = 0) -> Iterator[str]:
    """Yield the users of addresses, and short numbers."""
    if isinstance(value, str):
        if key in _IDS or key in _WORDS or _UUID(value):
            return
        if key in _ADDRESSES or _ADDRESS(value) is not None:
            address = value.rpartition("<")[2].partition(">")[0].strip()
            found = _SCHEME.match(address)
            body = address[len(found[0]) if found else 0 :].partition("?")[0]
            user, at, host = body.rpartition("@")
            if at and is_known_user(user, user, body, len(user)):
                return
            for part in (unquote(user if at else host).partition(";")[0]).split(":"):
                if part and " " not in part:
                    yield part
    elif isinstance(value, dict) and depth < 50:
        for name, item in value.items():
            yield from _users_in(item, spelling_of(name), depth + 1)
    elif isinstance(value, list) and depth < 50:
        for item in value:
            yield from _users_in(item, key, depth + 1)
