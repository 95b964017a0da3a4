"""The headers that describe the client to a backend."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from trio_gw.proxy.forwarding import claims, client_address
from trio_gw.wire.http import RequestReader

CHAIN = (
    b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 10.0.0.1\r\n"
    b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: chat.example\r\n"
)


def told(peer: str, trusted: tuple[str, ...], fields: bytes = CHAIN) -> dict[bytes, bytes]:
    head = RequestReader().feed(b"GET / HTTP/1.1\r\nHost: gw:9090\r\n" + fields + b"\r\n")
    assert head is not None
    networks = [ip_network(network) for network in trusted]
    return dict(claims(head, peer=peer, tls=False, request_id="id-1", trusted=networks))


def test_a_stranger_is_not_believed() -> None:
    assert told("198.51.100.1", ()) == {
        b"x-forwarded-for": b"198.51.100.1",
        b"x-forwarded-host": b"gw:9090",
        b"x-forwarded-proto": b"http",
        b"x-request-id": b"id-1",
    }
    assert told("198.51.100.1", ("10.0.0.0/8", "::1/128")) == told("198.51.100.1", ())


@pytest.mark.parametrize(
    ("peer", "network"),
    [("10.1.2.3", "10.0.0.0/8"), ("::1", "::1/128"), ("fe80::1%eth0", "fe80::/10")],
)
def test_a_trusted_proxy_is(peer: str, network: str) -> None:
    assert told(peer, (network,)) == {
        b"x-forwarded-for": b"203.0.113.9, 10.0.0.1, " + peer.encode(),
        b"x-forwarded-host": b"chat.example",
        b"x-forwarded-proto": b"https",
        b"x-request-id": b"id-1",
    }


def test_a_trusted_proxy_that_says_nothing() -> None:
    assert told("10.1.2.3", ("10.0.0.0/8",), b"") == told("10.1.2.3", ())


@pytest.mark.parametrize(
    ("peer", "chain", "address"),
    [
        ("198.51.100.1", b"203.0.113.9", "198.51.100.1"),  # a stranger is not believed
        ("10.0.0.1", b"203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", b"6.6.6.6, 203.0.113.9", "203.0.113.9"),  # nor what it says of itself
        ("10.0.0.1", b"203.0.113.9, 10.0.0.7", "203.0.113.9"),
        ("10.0.0.1", b"10.0.0.8, 10.0.0.7", "10.0.0.8"),
        ("10.0.0.1", b"6.6.6.6, unknown, 10.0.0.7", "10.0.0.7"),
        ("10.0.0.1", b"2001:db8::7", "2001:db8::7"),
        ("10.0.0.1", b"203.0.113.9:4711", "203.0.113.9"),  # some proxies add the port
        ("10.0.0.1", b"[2001:db8::7]:4711, 10.0.0.7:80", "2001:db8::7"),
        ("10.0.0.1", b"[2001:db8::7]", "2001:db8::7"),
        ("10.0.0.1", b"203.0.113.9, ::ffff:10.0.0.7", "203.0.113.9"),
        ("10.0.0.1", b"::ffff:203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", b"203.0.113.9:port", "10.0.0.1"),
        ("10.0.0.1", b"6.6.6.6, [203.0.113.9", "10.0.0.1"),
        ("10.0.0.1", b"", "10.0.0.1"),
        ("10.0.0.1", None, "10.0.0.1"),
    ],
)
def test_the_address_is_the_last_one_nobody_trusted_stands_at(
    peer: str, chain: bytes | None, address: str
) -> None:
    fields = b"" if chain is None else b"X-Forwarded-For: " + chain + b"\r\n"
    head = RequestReader().feed(b"GET / HTTP/1.1\r\nHost: gw:9090\r\n" + fields + b"\r\n")
    assert head is not None
    assert client_address(head, peer, [ip_network("10.0.0.0/8")]) == address
    assert client_address(head, peer, []) == peer
