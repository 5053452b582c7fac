"""SIP addresses as Daily takes them: headers behind a dial-out's, a display name behind a dial-in's.

    sip_uri("bob@example.com", {"X-Order": "no 7"})  # sip:bob@example.com?X-Order=no%207

Sources: docs.daily.co/reference/rest-api/rooms/dialout/start for the headers,
docs.daily.co/docs/guides/features/dial-in-dial-out/sip for the display name, RFC 3261 (19.1 and 25.1) for what a URI may hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv6Address
from unicodedata import category
from urllib.parse import quote, unquote

from telstate.errors import DefinitionError, shorten

__all__ = ["dialin_uri", "encode_uri_component", "has_control", "sip_uri", "wrong_with"]

_NAME = "x-daily_display_name"
"""What carries the display name of whoever dials in."""
_SAFE = "-_.!~*'()"
"""What encodeURIComponent leaves as it is, besides letters and digits: RFC 3261's "mark", too."""
_CHAR = r"[A-Za-z0-9\-_.!~*'()]|%[0-9A-Fa-f]{2}"
_USER = re.compile(rf"(?:{_CHAR}|[&=+$,;/])+(?::(?:{_CHAR}|[&=+$,])*)?")
_PARAMETER = re.compile(rf"(?:{_CHAR}|[\[\]/:&+$])+(?:=(?:{_CHAR}|[\[\]/:&+$])+)?")
_VALUE = re.compile(rf"(?:{_CHAR}|[\[\]/?:+$])*")
_HEADER = re.compile(r"[xX]-[A-Za-z0-9\-.!%*_+`'~]+")
"""A name Daily takes; its characters are those of RFC 3261's token."""
_LABEL = re.compile(r"[A-Za-z0-9-]+")
_PORT = re.compile(r"[0-9]{1,5}")


def encode_uri_component(text: str) -> str:
    """Encode as JavaScript's function of that name does: UTF-8, a space is %20, and A-Z a-z 0-9 - _ . ! ~ * ' ( ) stay.

    Raises:
        DefinitionError: if half of a surrogate pair is in it, where JavaScript has a URIError.
    """
    try:
        return quote(text, safe=_SAFE)
    except UnicodeEncodeError:
        pass
    raise DefinitionError(f"{shorten(text)} has half of a surrogate pair in it, and that is no text: take it out")


def sip_uri(address: str, headers: Mapping[str, str] | None = None) -> str:
    """Build the URI to dial out to, with headers for the INVITE that the far end gets.

    Args:
        address: `bob@example.com`, with or without `sip:` before it; it may have headers already.
        headers: their names begin with X-, else Daily does not send them.

    Raises:
        DefinitionError: if the address is none, or a header's name or value can be none; the message says what to do.
    """
    query = [_header(name, value) for name, value in (headers or {}).items()]
    return _with(address, query)


def dialin_uri(endpoint: str, display_name: str | None = None) -> str:
    """Build the URI by which to dial in.

    Args:
        endpoint: one that Daily gave: the room's `sip_uri.endpoint`, or what came with dialin-ready. Daily writes `sip:`
            before some of them and not before others.
        display_name: as whom to appear in the room; None for the room's own `display_name`.

    Raises:
        DefinitionError: if the endpoint is no SIP address, or the name is empty or has control characters in it.
    """
    if display_name is None:
        return _with(endpoint, [])
    if not str(display_name).strip():
        raise DefinitionError("the display name is empty: give one, or None for the room's")
    return _with(endpoint, [_header(_NAME, display_name)])


def wrong_with(uri: str) -> str | None:
    """Say what keeps `uri` from being one that Daily dials, and what to do; None if nothing does.

    Stricter than RFC 3261 in this: the scheme is `sip:` as Daily writes it, a `?` begins the headers wherever it stands, and
    their names begin with X-. An encoded line break in a header's value is refused: it would end the header at the far end.
    """
    if not uri.startswith("sip:"):
        hint = " (Daily does not dial sips:)" if uri[:5].lower() == "sips:" else ""
        return "it must begin with sip:" + (" in lower case" if uri[:4].lower() == "sip:" else hint)
    if has_control(uri) or any(one.isspace() for one in uri):
        return "it has whitespace or control characters in it: take them out, or encode them (a space is %20)"
    address, mark, query = uri[4:].partition("?")
    user, at, rest = address.rpartition("@")
    if at and not _USER.fullmatch(user):
        return f"its user {shorten(user)} is empty or has characters in it that must be percent-encoded"
    host, *parameters = rest.split(";")
    if not _is_host(host):
        return f"its host {shorten(host)} is none: write sip:<user>@<host>, for example sip:bob@example.com"
    for parameter in parameters:
        if not _PARAMETER.fullmatch(parameter):
            return f"its parameter {shorten(parameter)} is none: write ;<name>=<value>"
    return _wrong_with_headers(query) if mark else None


def has_control(text: str) -> bool:
    """True if there is a control character or half of a surrogate pair in it: nothing that anybody can show."""
    return any(category(one) in ("Cc", "Cs") for one in text)


def _with(address: str, query: list[str]) -> str:
    """The address with `sip:` before it and more behind it, if that is a URI."""
    if not isinstance(address, str):
        raise DefinitionError(f"{shorten(address)} is no SIP address: give a string such as bob@example.com")
    rest = address[4:] if address[:4].lower() == "sip:" else address
    uri = address if address[:5].lower() == "sips:" else f"sip:{rest}"
    if query:
        uri += ("&" if "?" in uri else "?") + "&".join(query)
    if wrong := wrong_with(uri):
        raise DefinitionError(f"{shorten(address)} is no SIP address that Daily takes: {wrong}")
    return uri


def _header(name: str, value: str) -> str:
    if not all(isinstance(one, str) for one in (name, value)):
        raise DefinitionError(f"the header {shorten(name)}: {shorten(value)} must be text: convert it by str()")
    if not _HEADER.fullmatch(name):
        raise DefinitionError(f"the header {shorten(name)}: {_NAMES}")
    if has_control(value):
        raise DefinitionError(f"the header {name} has control characters in its value {shorten(value)}: take them out")
    return f"{encode_uri_component(name)}={encode_uri_component(value)}"


_NAMES = "a name must begin with X- and go on with letters, digits or one of -.!%*_+`'~, for example X-Order"


def _wrong_with_headers(query: str) -> str | None:
    seen = set()
    for part in query.split("&"):
        name, equals, value = part.partition("=")
        if not _VALUE.fullmatch(name) or not _HEADER.fullmatch(unquote(name)):
            return f"its header {shorten(name)} would not be sent: {_NAMES}"
        if not equals:
            return f"its header {shorten(name)} has no value: write {name[:20]}=<value>"
        if not _VALUE.fullmatch(value):
            return f"the value of its header {shorten(name)} must be percent-encoded: telstate.control.sip_uri does it"
        if has_control(unquote(value)):
            return f"the value of its header {shorten(name)} has control characters in it: take them out"
        told = unquote(name).lower()  # in SIP case does not tell names apart
        if told in seen:
            return f"its header {shorten(unquote(name))} is given twice: give it once"
        seen.add(told)
    return None


def _is_host(text: str) -> bool:
    """A name, an IPv4 address or an IPv6 address in brackets, and perhaps a port."""
    host, bracket, port = text.partition("]")
    if bracket:
        if not host.startswith("[") or "%" in host:  # a zone: Python takes it whatever is in it, RFC 3261 has none
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
