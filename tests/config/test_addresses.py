"""Addresses in the settings: their syntax, and who can reach them."""

from __future__ import annotations

import pytest

from trio_gw.config.addresses import is_loopback, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:9090", ("localhost", 9090)),
        ("gw.example.com:0", ("gw.example.com", 0)),
        ("127.0.0.1:65535", ("127.0.0.1", 65535)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("[::1]:9090", ("::1", 9090)),
        ("[::]:9090", ("::", 9090)),
        (":9090", ("", 9090)),
        ("*:9090", ("", 9090)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "9090",
        "localhost:",
        "localhost:x",
        "localhost:-1",
        "localhost:65536",
        "localhost:٣",
        "localhost: 1",
        "::1:9090",
        "[::1]",
        "[localhost]:1",
        "[1.2.3.4]:1",
        "a b:1",
        "http://x:1",
        "a..b:1",
        "*.x:1",
        "[]:1",
        "[::1:1",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError):
        parse_address(text)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "127.0.0.1", "127.1.2.3", "::1"])
def test_hosts_that_only_this_machine_reaches(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "localhost.example", "10.0.0.1"])
def test_hosts_that_others_reach(host: str) -> None:
    assert not is_loopback(host)
