"""SIP URIs as Daily takes them: with headers for a dial-out, with a display name for a dial-in.

    sip_uri("bob@example.com", {"X-Order": "no 7"})  # sip:bob@example.com?X-Order=no%207

Sources: docs.daily.co/reference/rest-api/rooms/dialout/start for the headers,
docs.daily.co/docs/guides/features/dial-in-dial-out/sip for the display name, RFC 3261 (19.1 and 25.1) for the syntax of a URI.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv6Address
from unicodedata import category
from urllib.parse import quote, unquote

from telstate.errors import DefinitionError, shorten

__all__ = ["dialin_uri", "encode_uri_component", "has_control", "sip_uri", "uri_problem"]

_NAME = "x-daily_display_name"
"""The header with the display name of a dial-in caller."""
_SAFE = "-_.!~*'()"
"""What encodeURIComponent does not encode, besides letters and digits. RFC 3261 calls these "mark"."""
_CHAR = r"[A-Za-z0-9\-_.!~*'()]|%[0-9A-Fa-f]{2}"
_USER = re.compile(rf"(?:{_CHAR}|[&=+$,;/])+(?::(?:{_CHAR}|[&=+$,])*)?")
_PARAMETER = re.compile(rf"(?:{_CHAR}|[\[\]/:&+$])+(?:=(?:{_CHAR}|[\[\]/:&+$])+)?")
_VALUE = re.compile(rf"(?:{_CHAR}|[\[\]/?:+$])*")
_HEADER = re.compile(r"[xX]-[A-Za-z0-9\-.!%*_+`'~]+")
"""A header name that Daily sends; its characters are those of a token in RFC 3261."""
_LABEL = re.compile(r"[A-Za-z0-9-]+")
_PORT = re.compile(r"[0-9]{1,5}")


def encode_uri_component(text: str) -> str:
    """Encode like JavaScript's encodeURIComponent: UTF-8, a space is %20, and A-Z a-z 0-9 - _ . ! ~ * ' ( ) stay.

    Raises:
        DefinitionError: if the text has an unpaired surrogate. JavaScript raises a URIError.
    """
    try:
        return quote(text, safe=_SAFE)
    except UnicodeEncodeError:
        pass
    raise DefinitionError(f"{shorten(text)} has an unpaired surrogate, which cannot be encoded: remove it")


def sip_uri(address: str, headers: Mapping[str, str] | None = None) -> str:
    """Build the URI for a dial-out, with headers for the INVITE to the far end.

    Args:
        address: `bob@example.com`, with or without `sip:`; it can have headers already.
        headers: names must begin with X-, Daily does not send others.

    Raises:
        DefinitionError: if the address, a header name or a header value is invalid; the message says what to do.
    """
    return _build(address, [_header(name, value) for name, value in (headers or {}).items()])


def dialin_uri(endpoint: str, display_name: str | None = None) -> str:
    """Build the URI for dialling in to a room.

    Args:
        endpoint: the room's `sip_uri.endpoint`, or the endpoint of a dialin-ready. Daily writes some of them with `sip:`
            and some without.
        display_name: the name of the caller in the room; None for the room's `display_name`.

    Raises:
        DefinitionError: if the endpoint is not a SIP address, or the name is empty or has control characters.
    """
    if display_name is None:
        return _build(endpoint, [])
    if not str(display_name).strip():
        raise DefinitionError("the display name is empty: give one, or None for the room's")
    return _build(endpoint, [_header(_NAME, display_name)])


def uri_problem(uri: str) -> str | None:
    """Say why Daily would not dial `uri`, and what to do; None if it would.

    Stricter than RFC 3261: the scheme is `sip:` in lower case as Daily writes it, the first `?` always begins the headers,
    and their names begin with X-. An encoded line break in a header value is refused: it would end the header at the far
    end.
    """
    if not uri.startswith("sip:"):
        hint = " (Daily does not dial sips:)" if uri[:5].lower() == "sips:" else ""
        return "it must begin with sip:" + (" in lower case" if uri[:4].lower() == "sip:" else hint)
    if has_control(uri) or any(one.isspace() for one in uri):
        return "it has whitespace or control characters: remove them, or encode them (a space is %20)"
    address, question_mark, query = uri[4:].partition("?")
    user, at, rest = address.rpartition("@")
    if at and not _USER.fullmatch(user):
        return f"its user {shorten(user)} is empty or has characters that must be percent-encoded"
    host, *parameters = rest.split(";")
    if not _is_host(host):
        return f"its host {shorten(host)} is invalid: write sip:<user>@<host>, for example sip:bob@example.com"
    for parameter in parameters:
        if not _PARAMETER.fullmatch(parameter):
            return f"its parameter {shorten(parameter)} is invalid: write ;<name>=<value>"
    return _header_problem(query) if question_mark else None


def has_control(text: str) -> bool:
    """Return True if the text has a control character or an unpaired surrogate, which cannot be displayed."""
    return any(category(one) in ("Cc", "Cs") for one in text)


def _build(address: str, headers: list[str]) -> str:
    """Return the URI of an address with more headers, or raise if it is not one."""
    if not isinstance(address, str):
        raise DefinitionError(f"{shorten(address)} is not a SIP address: give a string such as bob@example.com")
    rest = address[4:] if address[:4].lower() == "sip:" else address
    uri = address if address[:5].lower() == "sips:" else f"sip:{rest}"
    if headers:
        uri += ("&" if "?" in uri else "?") + "&".join(headers)
    if problem := uri_problem(uri):
        raise DefinitionError(f"{shorten(address)} is not a SIP address that Daily takes: {problem}")
    return uri


def _header(name: str, value: str) -> str:
    if not all(isinstance(one, str) for one in (name, value)):
        raise DefinitionError(f"the header {shorten(name)}: {shorten(value)} must be strings: convert them with str()")
    if not _HEADER.fullmatch(name):
        raise DefinitionError(f"the header {shorten(name)}: {_NAMES}")
    if has_control(value):
        raise DefinitionError(f"the header {name} has control characters in its value {shorten(value)}: remove them")
    return f"{encode_uri_component(name)}={encode_uri_component(value)}"


_NAMES = "a name must begin with X- followed by letters, digits or any of -.!%*_+`'~, for example X-Order"


def _header_problem(query: str) -> str | None:
    seen = set()
    for part in query.split("&"):
        name, equals, value = part.partition("=")
        if not _VALUE.fullmatch(name) or not _HEADER.fullmatch(unquote(name)):
            return f"its header {shorten(name)} would not be sent: {_NAMES}"
        if not equals:
            return f"its header {shorten(name)} has no value: write {name[:20]}=<value>"
        if not _VALUE.fullmatch(value):
            return f"the value of its header {shorten(name)} must be percent-encoded: telstate.options.sip_uri does it"
        if has_control(unquote(value)):
            return f"the value of its header {shorten(name)} has control characters: remove them"
        key = unquote(name).lower()  # header names are case-insensitive in SIP
        if key in seen:
            return f"its header {shorten(unquote(name))} is given twice: give it once"
        seen.add(key)
    return None


def _is_host(text: str) -> bool:
    """Accept a name, an IPv4 address or an IPv6 address in brackets, with or without a port."""
    host, bracket, port = text.partition("]")
    if bracket:
        if not host.startswith("[") or "%" in host:  # Python accepts any zone after %, RFC 3261 has none
            return False
        host = host[1:]
        try:
            IPv6Address(host)
        except ValueError:
            return False
        colon, port = port[:1], port[1:]
        if colon not in ("", ":"):
            return False
    else:
        host, colon, port = text.partition(":")
        labels = host.removesuffix(".").split(".")
        if not all(_LABEL.fullmatch(one) and one[0] != "-" and one[-1] != "-" for one in labels):
            return False
    return not colon or (_PORT.fullmatch(port) is not None and 0 < int(port) < 65536)
