"""Requests that are read in one step, and that h11 reads them in the same way."""

from __future__ import annotations

import time

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from telstate.sources._plain_requests import PlainRequest, plain_request

HEAD = b"POST /webhooks HTTP/1.1\r\nHost: x\r\nX-Webhook-Timestamp:  17.5 \r\nContent-Length: 2\r\n\r\n"
PLAIN = HEAD + b"{}"


def test_a_request_of_dailys_is_plain() -> None:
    """With its headers by their names in lower case."""
    headers = {"host": "x", "x-webhook-timestamp": "17.5", "content-length": "2"}
    assert plain_request(PLAIN) == PlainRequest("/webhooks", headers, b"{}")
    kept = PLAIN.replace(b"Host: x", b"Host: x\r\nConnection: Keep-Alive")
    assert plain_request(kept) == PlainRequest("/webhooks", {**headers, "connection": "Keep-Alive"}, b"{}")
    empty = PLAIN.replace(b"Length: 2", b"Length: 0")[:-2]
    assert plain_request(empty) == PlainRequest("/webhooks", {**headers, "content-length": "0"}, b"")


OTHERS = {
    "nothing": b"",
    "half a head": HEAD[:-3],
    "another method": PLAIN.replace(b"POST", b"GET"),
    "another version": PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a query": PLAIN.replace(b"/webhooks", b"/webhooks?a=b"),
    "an encoded path": PLAIN.replace(b"/webhooks", b"/%77ebhooks"),
    "a whole URL": PLAIN.replace(b"/webhooks", b"http://x/webhooks"),
    "half a body": HEAD + b"{",
    "more than the body": PLAIN + b"\n",
    "two requests": PLAIN * 2,
    "an empty line before it": b"\r\n" + PLAIN,
    "no host": PLAIN.replace(b"Host: x\r\n", b""),
    "no length": PLAIN.replace(b"Content-Length: 2\r\n", b""),
    "two lengths": PLAIN.replace(b"Content-Length: 2", b"Content-Length: 2\r\ncontent-length: 2"),
    "a list of lengths": PLAIN.replace(b"Length: 2", b"Length: 2, 2"),
    "a signed length": PLAIN.replace(b"Length: 2", b"Length: +2"),
    "a length with a space in it": PLAIN.replace(b"Length: 2", b"Length: 0 2"),
    "a header twice": PLAIN.replace(b"Host: x", b"Host: x\r\nX-A: 1\r\nx-a: 2"),
    "chunks": PLAIN.replace(b"Host: x", b"Host: x\r\nTransfer-Encoding: chunked"),
    "an expectation": PLAIN.replace(b"Host: x", b"Host: x\r\nExpect: 100-continue"),
    "an upgrade": PLAIN.replace(b"Host: x", b"Host: x\r\nConnection: upgrade\r\nUpgrade: websocket"),
    "a hidden upgrade": PLAIN.replace(b"Host: x", b"Host: x\r\nConnection: keep-alive\r\nUpgrade: websocket"),
    "an end": PLAIN.replace(b"Host: x", b"Host: x\r\nConnection: close"),
    "lines that end in another way": PLAIN.replace(b"\r\n", b"\n"),
    "a folded header": PLAIN.replace(b"Host: x", b"Host: x\r\nX-A: b\r\n c"),
    "a space before the colon": PLAIN.replace(b"Host:", b"Host :"),
    "a byte that is not printable": PLAIN.replace(b"Host: x", b"Host: x\x00"),
    "a byte that is not ASCII": PLAIN.replace(b"Host: x", b"Host: \xe4"),
    "a return alone": PLAIN.replace(b"Host: x", b"Host: x\rX-A: b"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_any_other_request_is_not(what: str) -> None:
    """h11 judges it."""
    assert plain_request(OTHERS[what]) is None


def read_by_h11(data: bytes) -> PlainRequest:
    """Read a whole request with h11, which must find nothing else in it."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    request, body = connection.next_event(), b""
    assert isinstance(request, h11.Request)
    assert (request.method, request.http_version) == (b"POST", b"1.1")
    assert not connection.they_are_waiting_for_100_continue
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data)
        body += event.data
    assert connection.their_state is h11.DONE  # not MUST_CLOSE, nor an upgrade
    assert connection.trailing_data == (b"", False)
    names = [name for name, _ in request.headers]
    assert len(set(names)) == len(names)
    headers = {name.decode(): value.decode() for name, value in request.headers}
    return PlainRequest(request.target.decode(), headers, body)


PARTS = [b"POST ", b" HTTP/1.1", b"\r\n", b"\n", b"\r", b":", b" ", b"\t", b"\0", b"\xff", b"0", b"2", b"{}", b","]
PARTS += [
    b"Host: y\r\n",
    b"Content-Length: 2\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"0\r\n\r\n",
]
PARTS += [
    b"Connection: keep-alive\r\n",
    b"Upgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"X-A: b\r\n",
    b"\r\n\r\n",
    PLAIN,
]
CHANGES = st.lists(st.tuples(st.integers(0, len(PLAIN)), st.integers(0, 6), st.sampled_from([b"", *PARTS])), max_size=4)


@settings(max_examples=150, deadline=None)
@given(CHANGES)
@example([])
@example([(len(b"POST /webhooks HTTP/1.1\r\n"), 0, b"Connection: keep-alive\r\n")])
def test_what_is_read_is_what_h11_reads(changes: list[tuple[int, int, bytes]]) -> None:
    """Whatever is changed in a request. Who reads it differently from a proxy before it could be deceived."""
    data = PLAIN
    for place, cut, put in changes:
        data = data[:place] + put + data[place + cut :]
    request = plain_request(data)
    if request is not None:
        assert read_by_h11(data) == request


@pytest.mark.parametrize(
    "part", [b"a", b" ", b":", b": ", b"a:\r\n", b"a: b\r\n", b"\t", b"a:" + b" " * 50, b"\r\n", b"a" * 80 + b"\r\n"]
)
def test_no_head_takes_long(part: bytes) -> None:
    """Each byte is looked at once."""
    data = b"POST / HTTP/1.1\r\n" + part * (200_000 // len(part))
    started = time.process_time()
    assert plain_request(data) is None
    assert plain_request(data + b"\x00") is None
    assert time.process_time() - started < 0.5
