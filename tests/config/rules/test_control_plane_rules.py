"""The rules of `[control_plane]`: addresses, passwords, folders; and of its Traffic Manager."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from trio_gw.config.control_plane import ControlPlaneSettings
from trio_gw.config.rules import control_plane as rules
from trio_gw.config.settings import Settings

URL = "https://apim.example.com:9443/"
EVENTS = ["amqp://gw:s3cret@apim.example.com:5672/?retries='10'&connectdelay='30'"]
FINE = {"url": URL, "username": "gw", "password": "s3cret", "events": EVENTS}
THROTTLING = {
    "enabled": True,
    "publish": ["tcp://apim.example.com:9611"],
    "login": ["ssl://apim.example.com:9711"],
    "password": "s3cret",
}


def check(settings: dict[str, Any]) -> list[tuple[str, str]]:
    found = list(rules.check(msgspec.convert(settings, Settings)))
    assert all("s3cret" not in fault.what + fault.hint for fault in found)
    return [(fault.severity, fault.what) for fault in found]


def faults(**table: Any) -> list[tuple[str, str]]:
    return check({"control_plane": FINE | table})


def throttling(**table: Any) -> list[tuple[str, str]]:
    return faults(throttling=THROTTLING | table)


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"url": "https://apim.example.com"},
        {"url": "https://[2001:db8::1]:9443/base/"},
        {"url": "http://localhost:9763/", "password": "admin"},
        {"url": "HTTPS://127.0.0.1:9443/", "events": list(ControlPlaneSettings().events)},
        {"username": "gw@tenant.example", "environments": ["Default", "Edge"]},
        {"ca": "apim.pem"},
        {"insecure_skip_verify": True},
        {"events": ["amqps://gw:s3cret@a:5671/", *EVENTS]},
        {"events": ["amqp://gw:s3cret@id/carbon?brokerlist='tcp://a:5672;ssl://b:5671'"]},
        {"cache": ""},
        {"cache": "/var/lib/trio-gw/controlplane"},
        {"throttling": {}},
        {"throttling": THROTTLING},
        {"throttling": THROTTLING | {"publish": ["tcp://a:1", "tcp://b:1"],
                                     "login": ["ssl://a:2", "ssl://b:2"]}},
        {"throttling": THROTTLING | {"publish": [["tcp://a:1", "tcp://[::1]:1"], "tcp://c:1/"],
                                     "login": [["ssl://a:2", "ssl://[::1]:2"], "ssl://c:2/"]}},
    ],
)  # fmt: skip
def test_fine(table: dict[str, Any]) -> None:
    assert faults(**table) == []


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("apim.example.com:9443", "does not start with https:// or http://"),
        ("amqp://apim:5672", "does not start with https:// or http://"),
        ("https://", "it has no host"),
        ("https:///path", "it has no host"),
        ("https://apim:x/", "its host or its port is wrong"),
        ("https://apim:0/", "its host or its port is wrong"),
        ("https://[::1/", "its host or its port is wrong"),
        ("https://admin:s3cret@apim/", "it has credentials"),
        ("https://apim/?s3cret", "a query or a fragment"),
        ("https://apim/#s3cret", "a query or a fragment"),
        ("https://apim\n/s3cret", "a character that URLs do not have"),
        ("https://apim/ s3cret", "a character that URLs do not have"),
        ("https://\u00e4pim/", "a character that URLs do not have"),
    ],
)
def test_what_is_no_url(url: str, why: str) -> None:
    ((severity, what),) = faults(url=url)
    assert severity == "error"
    assert what.startswith("control_plane.url is not the URL of API Manager: ")
    assert why in what


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"username": ""}, "control_plane.username is empty"),
        ({"password": ""}, "control_plane.password is empty"),
        ({"password": "s3cret\n"}, "control_plane.password has a control character"),
        ({"username": "a:b"}, "control_plane.username has a colon"),
        ({"environments": []}, "control_plane.environments must name"),
        ({"environments": ["e"] * 101}, "control_plane.environments must name"),
        ({"environments": [""]}, "control_plane.environments[0] is not the name"),
        ({"environments": ["A", "B|C"]}, "control_plane.environments[1] is not the name"),
        ({"environments": ["A", "A"]}, "control_plane.environments repeats 'A'"),
        ({"retry_interval": 0}, "control_plane.retry_interval must be"),
        ({"retry_interval": 3601}, "control_plane.retry_interval must be"),
        ({"request_timeout": float("nan")}, "control_plane.request_timeout must be"),
        ({"request_timeout": -1}, "control_plane.request_timeout must be"),
        ({"events": []}, "control_plane.events is empty"),
        ({"events": [*EVENTS, "http://s3cret"]}, "control_plane.events[1] is not the URL"),
        ({"events": ["amqp://gw:s3cret@h:x/"]}, "control_plane.events[0] is not the URL"),
        ({"cache": "apis"}, "control_plane.cache and apis are one folder"),
        ({"cache": "apis/cache"}, "control_plane.cache and apis are one folder"),
        ({"cache": "./deployed"}, "control_plane.cache and deployed are one folder"),
    ],
)
def test_errors(table: dict[str, Any], said: str) -> None:
    found = faults(**table)
    assert found
    assert {severity for severity, _ in found} == {"error"}
    assert found[0][1].startswith(said)


def test_the_cache_is_not_the_folder_of_everything() -> None:
    assert [severity for severity, _ in faults(cache=".")] == ["error", "error"]
    settings = {"control_plane": FINE | {"cache": "git"}, "git": {"url": "/srv/apis.git"}}
    ((_, what),) = check(settings)
    assert "control_plane.cache and git.folder" in what


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"url": "http://apim.example.com/"}, "control_plane.url is http://"),
        ({"password": "admin"}, "control_plane.password: it is the default"),
        ({"ca": "c.pem", "insecure_skip_verify": True}, "control_plane.ca has no effect"),
        ({"events": ["amqp://admin:admin@apim:5672/"]}, "the password in control_plane.events"),
        (
            {"events": ["amqp://a:admin@id/?brokerlist='tcp://localhost:1;tcp://b:1'"]},
            "the password in control_plane.events",
        ),
        ({"events": list(ControlPlaneSettings().events)}, "control_plane.events is not given"),
        ({"throttling": {"username": "gw"}}, "control_plane.throttling.enabled is not true"),
    ],
)
def test_warnings(table: dict[str, Any], said: str) -> None:
    ((severity, what),) = faults(**table)
    assert severity == "warning"
    assert what.startswith(said)


@pytest.mark.parametrize(
    ("table", "severity", "said"),
    [
        ({"publish": []}, "error", "publish must name 1 to"),
        ({"publish": [[]], "login": [[]]}, "error", "publish must name 1 to"),
        ({"publish": ["http://a:1"]}, "error", "publish has an entry that is not an address"),
        ({"publish": ["tcp://a"]}, "error", "publish has an entry that is not an address"),
        ({"publish": ["tcp://:1"]}, "error", "publish has an entry that is not an address"),
        ({"publish": ["tcp://a:0"]}, "error", "publish has an entry that is not an address"),
        ({"login": ["ssl://a:s3cret"]}, "error", "login has an entry that is not an address"),
        ({"login": ["ssl://a:1", "ssl://b:1"]}, "error", "have different shapes"),
        (
            {"publish": [["tcp://a:1", "tcp://b:1"]], "login": ["ssl://a:1", "ssl://b:1"]},
            "error",
            "have different shapes",
        ),
        ({"username": ""}, "error", "control_plane.throttling.username is empty"),
        ({"login": ["tcp://a:1"]}, "warning", "the password is not encrypted"),
        ({"password": "admin"}, "warning", "throttling.password: it is the default"),
    ],
)
def test_the_traffic_manager(table: dict[str, Any], severity: str, said: str) -> None:
    found = throttling(**table)
    assert (found[0][0], said in found[0][1]) == (severity, True)


def test_on_this_machine_the_defaults_are_fine() -> None:
    table = {"url": "https://localhost:9443/", "throttling": {"enabled": True}}
    assert check({"control_plane": table}) == []


def test_off_without_a_url() -> None:
    assert check({}) == []
    assert check({"control_plane": {}}) == []
    ((severity, what),) = check({"control_plane": {"environments": [], "password": "s3cret"}})
    assert severity == "warning"
    assert what == "control_plane.url is not given, so [control_plane] has no effect"


def test_passwords_are_in_no_repr() -> None:
    table = FINE | {"throttling": THROTTLING}
    assert "s3cret" not in repr(msgspec.convert({"control_plane": table}, Settings))
