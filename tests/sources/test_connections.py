"""Which connection gives way."""

from __future__ import annotations

from itertools import count

import pytest

from telstate._asgi import confirm_sender, confirms_sender
from telstate.sources._connections import ConnectionLimit, peer_of


class Line:
    """A connection that only knows whether it was closed."""

    def __init__(self) -> None:
        self.is_answering = False
        self.closed = 0
        self.admitted = False

    def give_way(self) -> None:
        """Count."""
        self.closed += 1


class Hands:
    """A clock that is moved by hand."""

    now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def limited(number: int) -> ConnectionLimit:
    """A limit for connections that are not new: each is a minute older than the next."""
    return ConnectionLimit(number, map(float, count(0, 60)).__next__)


def opened(limit: ConnectionLimit, *peers: str) -> list[Line]:
    """Open a connection from each peer."""
    lines = [Line() for _ in peers]
    for line, peer in zip(lines, peers, strict=True):
        line.admitted = limit.admit(line, peer)
    return lines


def test_the_address_with_most_gives_way_by_its_oldest() -> None:
    """Not the one that is older, but comes from an address with fewer."""
    limit = limited(4)
    few, old, new, other = opened(limit, "few", "many", "many", "other")
    (late,) = opened(limit, "many")
    assert [line.closed for line in (few, old, new, other, late)] == [0, 1, 0, 0, 0]
    opened(limit, "late")
    assert (new.closed, len(limit)) == (1, 4)


def test_behind_a_proxy_the_oldest_gives_way() -> None:
    """All have one address there, and a new one is never refused."""
    limit = limited(3)
    lines = opened(limit, *["proxy"] * 10)
    assert [line.closed for line in lines] == [1] * 7 + [0] * 3


def test_an_address_that_floods_is_refused() -> None:
    """Before its connections displace each other in less than three seconds; all others are admitted."""
    clock = Hands()
    limit = ConnectionLimit(3, clock)
    flood = opened(limit, "many", "many", "many", "many")
    assert [line.admitted for line in flood] == [True, True, True, False]
    assert opened(limit, "other")[0].admitted
    assert [line.closed for line in flood] == [1, 0, 0, 0]
    clock.now += 2.9
    assert not opened(limit, "many")[0].admitted
    clock.now += 0.1
    assert opened(limit, "many")[0].admitted


def test_who_has_proved_a_secret_stays() -> None:
    """As long as others have not."""
    limit = limited(3)
    first, second, third = opened(limit, "same", "same", "same")
    limit.prove(first)
    opened(limit, "a", "b", "c", "d")
    assert (first.closed, second.closed, third.closed) == (0, 1, 1)


def test_if_all_have_proved_one_that_waits_gives_way() -> None:
    """The one that waits for longest; one that is answered never does, and then nobody gives way."""
    limit = limited(3)
    lines = opened(limit, "a", "b", "c")
    for line in lines:
        limit.prove(line)
    limit.note_answer(lines[0])
    lines[1].is_answering = True
    (new,) = opened(limit, "d")
    assert [line.closed for line in lines] == [0, 0, 1]
    limit.prove(new)
    lines[0].is_answering = new.is_answering = True
    opened(limit, "e")
    assert [line.closed for line in (*lines, new)] == [0, 0, 1, 0]
    assert len(limit) == 4  # one too many: it gets 503


def test_what_is_closed_is_forgotten() -> None:
    """Proved or not, and twice without harm."""
    limit = limited(10)
    lines = opened(limit, "a", "a", "b")
    limit.prove(lines[0])
    for line in (*lines, *lines):
        limit.remove(line)
    limit.prove(lines[0])
    assert len(limit) == 0
    assert not any(vars(limit)[name] for name in ("_unproved", "_proved", "_peers"))


@pytest.mark.parametrize(
    ("host", "peer"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("/run/socket", "/run/socket"),
    ],
)
def test_an_address_is_what_one_machine_has(host: str, peer: str) -> None:
    """A network of 64 bits in IPv6."""
    assert peer_of(host) == peer


def test_a_server_that_does_not_ask_is_not_told() -> None:
    """The app may be mounted into any server."""
    told: list[int] = []
    confirm_sender({"state": confirms_sender(lambda: told.append(1))})
    confirm_sender({"state": {}})
    confirm_sender({})
    assert told == [1]
