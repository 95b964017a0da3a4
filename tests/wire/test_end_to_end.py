"""Which header fields pass to the backend."""

from __future__ import annotations

from typing import Any

import h11
import pytest

from support.heads import KEY, UPGRADE, head
from trio_gw.wire.end_to_end import backend_headers
from trio_gw.wire.head import RequestHead
from trio_gw.wire.http import RequestReader
from trio_gw.wire.response import ResponseReader

HEAD = RequestHead("GET", "/chat", "", "gw.example", b"gw.example", ())


def forwarded(*fields: tuple[bytes, bytes], **options: Any) -> list[tuple[bytes, bytes]]:
    """Return what of the client's headers reaches the backend."""
    made = backend_headers(
        HEAD.replace(headers=fields),
        host=options.pop("host", b"backend"),
        drop=options.pop("drop", ()),
        added=options.pop("added", ()),
    )
    assert made[:3] == [
        (b"host", b"backend"),
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
    ]
    return made[3:]


def test_end_to_end_headers_pass_in_their_order() -> None:
    fields = (
        (b"origin", b"https://app.example"),
        (b"cookie", b"a=1"),
        (b"sec-websocket-key", KEY),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-protocol", b"a"),
        (b"sec-websocket-extensions", b"permessage-deflate"),
        (b"cookie", b"b=2"),
        (b"x-custom", b"\x80"),
        (b"x_custom", b""),
        (b"user-agent", b"wscat"),
        (b"authorization", b"Bearer t"),
    )
    assert forwarded(*fields) == list(fields)


@pytest.mark.parametrize(
    "name",
    [
        *(b"connection", b"upgrade", b"keep-alive", b"te", b"trailer", b"transfer-encoding"),
        *(b"content-length", b"proxy-connection", b"proxy-authorization", b"proxy-authenticate"),
        *(b"host", b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"),
        *(b"x-forwarded-port", b"x-forwarded-prefix", b"x-forwarded-server", b"x-real-ip"),
        *(b"x-forwarded-user", b"x-forwarded-email", b"x-forwarded-groups", b"x-forwarded-ssl"),
        *(b"x-forwarded-client-cert", b"x-forwarded-access-token", b"x_forwarded.user"),
        *(b"x-jwt-assertion", b"x-request-id", b"x-wso2-cluster-header", b"x-wso2-anything"),
        *(b"x-envoy-max-retries", b"x-envoy-original-path"),
        # the path, for some frameworks
        *(b"x-original-url", b"x-rewrite-url", b"x-original-uri", b"x-override-url"),
        b"x_original_url",
        # what CGI, WSGI and PHP make the same name of
        *(b"x_forwarded_for", b"x_real-ip", b"x_jwt_assertion", b"x-wso2_cluster_header"),
        *(b"x_envoy_max_retries", b"content_length", b"transfer_encoding", b"x.jwt.assertion"),
        *(b"x~real~ip", b"x-jwt.assertion", b"proxy_connection", b"x_request_id"),
    ],
)
def test_headers_that_only_the_gateway_may_set(name: bytes) -> None:
    assert forwarded((b"a", b"1"), (name, b"spoofed"), (b"b", b"2")) == [
        (b"a", b"1"),
        (b"b", b"2"),
    ]


@pytest.mark.parametrize("name", [b"x-forwarded", b"x-envoyage", b"wso2", b"hostname", b"teapot"])
def test_headers_that_only_look_like_those(name: bytes) -> None:
    assert forwarded((name, b"1")) == [(name, b"1")]


def test_headers_that_connection_lists() -> None:
    fields = ((b"connection", b"Upgrade, X-Hop ,"), (b"connection", b"close,x-two"))
    assert forwarded(*fields, (b"x-hop", b"1"), (b"x-two", b"2"), (b"x-end", b"3")) == [
        (b"x-end", b"3")
    ]


def test_connection_cannot_list_the_handshake_away() -> None:
    """A client must not make the backend see another handshake than was judged."""
    kept = [(b"sec-websocket-key", KEY), (b"sec-websocket-version", b"13")]
    listed = b"Upgrade, Sec-WebSocket-Key, sec-websocket-version, Host"
    assert forwarded((b"connection", listed), *kept) == kept


@pytest.mark.parametrize(
    ("drop", "sent"),
    [
        ({b"authorization"}, b"authorization"),
        ({b"internal-key"}, b"internal_key"),
        ({b"x_auth"}, b"x_auth"),
        ({b"x_auth"}, b"x-auth"),
        ({b"x-auth"}, b"x.auth"),
    ],
)
def test_credentials_are_dropped_in_every_spelling(drop: set[bytes], sent: bytes) -> None:
    assert forwarded((sent, b"secret"), (b"a", b"1"), drop=drop) == [(b"a", b"1")]


def test_what_the_gateway_adds_replaces_what_the_client_sent() -> None:
    made = forwarded(
        (b"x-request-id", b"theirs"), (b"a", b"1"), added=((b"x-request-id", b"ours"),)
    )
    assert made == [(b"a", b"1"), (b"x-request-id", b"ours")]


def test_a_backend_gets_exactly_one_of_each_that_matters() -> None:
    """As a third party reads it, for a client that sends everything twice in odd spellings."""
    data = head(
        b"GET /chat HTTP/1.1",
        *UPGRADE,
        b"Host_: evil",
        b"Content_Length: 5",
        b"X-Forwarded-For: 1",
        b"Connection: X",
        b"X: y",
        b"Upgrade: h2c",
    )
    found = RequestReader().feed(data)
    assert found is not None
    headers = backend_headers(found, host=b"backend", drop=(), added=((b"x-forwarded-for", b"2"),))
    wire = ResponseReader().request("/v2/", headers)
    backend = h11.Connection(h11.SERVER)
    backend.receive_data(wire)
    event = backend.next_event()
    assert isinstance(event, h11.Request)
    names = [name for name, _ in event.headers]
    for name in (b"host", b"upgrade", b"connection", b"sec-websocket-key", b"x-forwarded-for"):
        assert names.count(name) == 1
    assert b"content-length" not in names
    assert b"x" not in names
    assert type(backend.next_event()) is h11.EndOfMessage
