"""Allowed origins, and the CORS headers for them (spec: security §9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trio_gw.config.cors import CorsSettings as Settings
from trio_gw.proxy.cors_policy import CorsPolicies, CorsPolicy
from trio_gw.wire.http import RequestReader

if TYPE_CHECKING:
    from trio_gw.wire.head import RequestHead


def request(*fields: str) -> RequestHead:
    text = "\r\n".join(["OPTIONS / HTTP/1.1", "Host: x", *fields, "", ""])
    head = RequestReader().feed(text.encode("latin-1"))
    assert head is not None
    return head


def told(settings: Settings, *origins: str) -> dict[bytes, bytes]:
    return dict(CorsPolicy(settings).headers(request(*(f"Origin: {origin}" for origin in origins))))


def test_default_allows_every_origin() -> None:
    assert told(Settings(), "http://test1.com") == {
        b"access-control-allow-origin": b"http://test1.com"
    }
    assert told(Settings()) == {}


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://test1.com", True),
        ("http://foo.wildcard.com", True),
        ("http://a.b.wildcard.com", True),
        ("http://wildcard.com", False),
        ("http://test1.com.evil", False),
        ("http://xtest1.com", False),
        ("http://test1xcom", False),
        ("https://test1.com", False),
        ("http://foo.wildcard.com.evil", False),
        ("null", False),
    ],
)
def test_whole_origins_with_wildcards(origin: str, allowed: bool) -> None:
    settings = Settings(allow_origins=("http://test1.com", "http://*.wildcard.com"))
    expected = {b"access-control-allow-origin": origin.encode(), b"vary": b"origin"}
    assert told(settings, origin) == (expected if allowed else {})


def test_no_origins_no_cors() -> None:
    assert told(Settings(allow_origins=()), "http://a") == {}
    assert told(Settings(enabled=False), "http://a") == {}
    assert told(Settings(), "http://a", "http://b") == {}
    assert told(Settings(), "") == {}


def test_credentials_and_exposed_headers() -> None:
    settings = Settings(
        allow_origins=("http://a",), expose_headers=("X-One", "X-Two"), allow_credentials=True
    )
    assert told(settings, "http://a") == {
        b"access-control-allow-origin": b"http://a",
        b"access-control-allow-credentials": b"true",
        b"access-control-expose-headers": b"X-One, X-Two",
        b"vary": b"origin",
    }


def test_preflight() -> None:
    asked = ("Origin: http://a", "Access-Control-Request-Method: GET")
    assert dict(CorsPolicy(Settings()).preflight(request(*asked)) or ()) == {
        b"access-control-allow-methods": b"GET, PUT, POST, DELETE, PATCH, OPTIONS",
        b"access-control-allow-headers": b"authorization, Access-Control-Allow-Origin,"
        b" Content-Type, SOAPAction, apikey, testKey, Internal-Key",
    }
    only_b = CorsPolicy(Settings(allow_origins=("http://b",)))
    assert only_b.preflight(request(*asked)) is None
    assert CorsPolicy(Settings()).preflight(request(asked[0])) is None
    assert CorsPolicy(Settings()).preflight(request(asked[1])) is None
    assert CorsPolicy(Settings(enabled=False)).preflight(request(*asked)) is None


@pytest.mark.parametrize(
    ("origins", "admitted"),
    [
        ((), True),
        (("http://a",), True),
        (("HTTP://A",), False),  # browsers write it in lower case; nothing is guessed
        (("http://a:80",), False),
        (("http://a.evil",), False),
        (("null",), False),
        (("",), False),
        (("http://a", "http://a"), False),
    ],
)
def test_handshakes_of_foreign_pages_are_not_admitted(
    origins: tuple[str, ...], admitted: bool
) -> None:
    head = request(*(f"Origin: {origin}" for origin in origins))
    assert CorsPolicy(Settings(allow_origins=("http://a",))).admits(head) is admitted
    assert CorsPolicy(Settings()).admits(head)
    assert CorsPolicy(Settings(enabled=False, allow_origins=())).admits(head)


def test_an_api_may_have_a_policy_of_its_own() -> None:
    policies = CorsPolicies(Settings())
    own = Settings(allow_origins=("http://a",))
    assert policies.of(None).admits(request("Origin: http://b"))
    assert not policies.of(own).admits(request("Origin: http://b"))
    assert policies.of(own) is policies.of(own)
