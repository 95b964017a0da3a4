"""The text form of deny conditions: what is accepted, and the problems in the rest."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gw.config.conditions import (
    Condition,
    Kind,
    Range,
    address_range,
    condition,
    nobody_left,
    number,
)


def v4(text: str) -> int:
    return int(IPv4Address(text))


def v6(text: str) -> int:
    return int(IPv6Address(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("203.0.113.7", Range(4, v4("203.0.113.7"), v4("203.0.113.7"))),
        ("203.0.113.0/24", Range(4, v4("203.0.113.0"), v4("203.0.113.255"))),
        ("203.0.113.9/24", Range(4, v4("203.0.113.0"), v4("203.0.113.255"))),
        ("10.0.0.5-10.0.1.4", Range(4, v4("10.0.0.5"), v4("10.0.1.4"))),
        (" 10.0.0.5 - 10.0.0.5 ", Range(4, v4("10.0.0.5"), v4("10.0.0.5"))),
        ("0.0.0.0/0", Range(4, 0, 2**32 - 1)),
        ("2001:db8::/32", Range(6, v6("2001:db8::"), v6("2001:db9::") - 1)),
        ("::1", Range(6, 1, 1)),
        ("2001:DB8::1-2001:db8::ff", Range(6, v6("2001:db8::1"), v6("2001:db8::ff"))),
        ("::/0", Range(6, 0, 2**128 - 1)),
        ("::ffff:10.0.0.1", Range(4, v4("10.0.0.1"), v4("10.0.0.1"))),
        ("::ffff:10.0.0.0/120", Range(4, v4("10.0.0.0"), v4("10.0.0.255"))),
    ],
)
def test_addresses(text: str, expected: Range) -> None:
    assert address_range(text) == expected
    assert condition("address", text).range == expected


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("localhost", "not an IP address"),
        ("10.0.0.0/33", "not an IP address"),
        ("10.0.0.1-", "not an IP address"),
        ("10.0.0.0/8-10.1.0.0/16", "not an IP address"),
        ("fe80::1%eth0", "not an IP address"),
        ("10.0.0.1-::1", "one version of IP to the other"),
        ("10.0.0.9-10.0.0.5", "ends before it begins"),
    ],
)
def test_what_is_no_address(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what) as caught:
        address_range(text)
    assert caught.value.args[1].startswith("write ")


@given(st.ip_addresses() | st.ip_addresses(v=6))
def test_every_address_is_read_as_what_it_is(address: IPv4Address | IPv6Address) -> None:
    version, value = number(str(address))
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    assert (version, value) == (
        (4, int(mapped)) if mapped is not None else (address.version, int(address))
    )
    network = ip_network(f"{address}/{7 if address.version == 4 else 97}", strict=False)
    found = address_range(str(network))
    assert found.first <= value <= found.last


def test_a_zone_is_left_out_of_a_clients_address() -> None:
    assert number("fe80::1%eth0") == (6, v6("fe80::1"))


@pytest.mark.parametrize(
    ("kind", "text", "key"),
    [
        ("api", "/chat/1.0.0", "/chat/1.0.0"),
        ("api", " /chat/1.0.0/ ", "/chat/1.0.0"),
        ("application", "alice:Chat client", "alice:Chat client"),
        ("application", ":anon:MGW", ":anon:MGW"),
        ("user", "mallory@example.com", "mallory@example.com"),
        ("user", "mallory", "mallory@carbon.super"),
        ("subscription", "/c/1:1:alice-App:sandbox", "/c/1:1:alice-App:SANDBOX"),
    ],
)
def test_keys_are_spelled_as_the_handshake_does(kind: Kind, text: str, key: str) -> None:
    assert condition(kind, text, reason=" why ") == Condition(kind, key, "why")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("api", "chat/1.0.0"),
        ("api", "/"),
        ("application", "Chat client"),
        ("application", "alice:"),
        ("subscription", "/c/1:1:alice-App"),
        ("subscription", "c/1:1:alice-App:PRODUCTION"),
        ("subscription", "/c/1:1:App:PRODUCTION"),
        ("user", "  "),
        ("user", "a\nb"),
        ("user", "x" * 1025),
    ],
)
def test_keys_that_could_never_match_are_refused(kind: Kind, text: str) -> None:
    with pytest.raises(ValueError, match="is no") as caught:
        condition(kind, text)
    what, hint = caught.value.args
    assert len(what) < 300
    assert hint.startswith("write ")


def test_conditions_say_what_they_are() -> None:
    assert str(condition("user", "mallory", reason="spam")) == "user mallory@carbon.super (spam)"
    assert str(condition("address", "10.0.0.0/8", invert=True)) == "address any but 10.0.0.0/8"


def test_inverted_conditions_that_leave_nobody() -> None:
    def inverted(*texts: str) -> list[Condition]:
        return [condition("address", text, invert=True) for text in texts]

    assert not nobody_left(inverted("10.0.0.0/8"))
    assert not nobody_left(inverted("10.0.0.0/8", "10.1.0.0/16", "10.1.2.0-10.200.0.0"))
    assert nobody_left(inverted("10.0.0.0/8", "192.168.0.0/16"))
    assert nobody_left(inverted("10.0.0.0/8", "::1"))
    assert not nobody_left([*inverted("10.0.0.0/8"), condition("address", "192.168.0.0/16")])
