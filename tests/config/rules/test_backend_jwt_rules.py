"""Rules of `[backend_jwt]`."""

from __future__ import annotations

from typing import Any

import pytest

from trio_gw.config.rules import tokens
from trio_gw.config.settings import BackendJwt, Settings


def faults(**table: Any) -> list[tuple[tuple[str | int, ...], str]]:
    found = tokens.backend_jwt(Settings(backend_jwt=BackendJwt(**table)))
    return [(fault.path[1:], fault.what) for fault in found]


def test_the_defaults_and_every_choice_are_fine() -> None:
    assert faults() == []
    assert faults(encoding="base64url", key_id="x5t", dialect="", header="X-Who") == []
    assert faults(key="a.key", certificate="a.pem") == []


@pytest.mark.parametrize(
    ("table", "key", "what"),
    [
        ({"header": ""}, "header", "cannot be the name of a header"),
        ({"header": "X JWT"}, "header", "cannot be the name of a header"),
        ({"header": "X-JWT\r\nX-Other"}, "header", "cannot be the name of a header"),
        ({"header": "Authorization"}, "header", "cannot be the name of a header"),
        ({"header": "Upgrade"}, "header", "cannot be the name of a header"),
        ({"header": "Sec-WebSocket-Key"}, "header", "has another meaning"),
        ({"header": "X-Forwarded-For"}, "header", "has another meaning"),
        ({"header": "x-request-id"}, "header", "has another meaning"),
        ({"issuer": ""}, "issuer", "is empty"),
        ({"validity": 0}, "validity", "1 second or more"),
        ({"encoding": "hex"}, "encoding", 'neither "base64" nor "base64url"'),
        ({"encoding": "BASE64"}, "encoding", "neither"),
        ({"key_id": "jku"}, "key_id", 'neither "kid" nor "x5t"'),
        ({"key": "a.key"}, "key", "without backend_jwt.certificate"),
        ({"certificate": "a.pem"}, "certificate", "without backend_jwt.key"),
        ({"jwks_limit": 0}, "jwks_limit", "1 or more"),
        ({"jwks_window": 0.0}, "jwks_window", "more than 0"),
        ({"jwks_window": float("inf")}, "jwks_window", "finite"),
    ],
)
def test_what_cannot_be(table: dict[str, Any], key: str, what: str) -> None:
    ((path, said),) = faults(**table)
    assert path == (key,)
    assert what in said
