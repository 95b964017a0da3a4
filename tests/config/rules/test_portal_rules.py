"""The rules of `[portal]`, and of the roles of users."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from trio_gw.config.rules import portal, users
from trio_gw.config.settings import Settings


def broken(table: dict[str, Any]) -> list[str]:
    settings = msgspec.convert({"portal": table}, Settings)
    return [".".join(map(str, fault.path)) for fault in portal.check(settings)]


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"local": ""},
        {"local": "127.0.0.1:0"},
        {"local": "[::1]:9844"},
        {"hosts": ["gateway.example", "*.example.com"]},
        {"public_http": "ws://ws.example.com", "public_https": "wss://ws.example.com:8443"},
        {"public_https": "https://ws.example.com/"},
    ],
)
def test_good_tables(table: dict[str, Any]) -> None:
    assert broken(table) == []


@pytest.mark.parametrize(
    ("table", "path"),
    [
        ({"local": ":9844"}, "portal.local"),
        ({"local": "0.0.0.0:9844"}, "portal.local"),
        ({"local": "gateway.example:9844"}, "portal.local"),
        ({"local": "9844"}, "portal.local"),
        ({"hosts": ["https://a"]}, "portal.hosts.0"),
        ({"public_http": "wss://a"}, "portal.public_http"),
        ({"public_https": "wss://a/path"}, "portal.public_https"),
        ({"public_https": "wss://u:p@a"}, "portal.public_https"),
        ({"public_https": "a"}, "portal.public_https"),
        ({"public_https": "wss://a:99999"}, "portal.public_https"),
        ({"folder": ""}, "portal.folder"),
        ({"folder": "apis"}, "portal.folder"),
        ({"folder": "deployed"}, "portal.folder"),
        ({"revisions": 0}, "portal.revisions"),
        ({"revisions": 1001}, "portal.revisions"),
    ],
)
def test_bad_tables(table: dict[str, Any], path: str) -> None:
    assert broken(table) == [path]


def test_a_role_is_one_of_three() -> None:
    user = {"username": "a", "password": "aiw8ohTh"}
    for role, faults in (("admin", 0), ("publisher", 0), ("consumer", 0), ("root", 1), ("", 1)):
        settings = msgspec.convert({"admin": {"users": [{**user, "role": role}]}}, Settings)
        assert len(list(users.admin(settings))) == faults, role
    assert msgspec.convert({"admin": {"users": [user]}}, Settings).admin.users[0].role == "admin"
