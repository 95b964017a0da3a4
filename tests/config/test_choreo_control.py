"""`[controlPlane]` and `[enforcer.throttling]` of Choreo Connect become `[control_plane]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from config.test_choreo import DEFAULT, SECRET, convert

from trio_gw.config.control_plane import ControlPlaneSettings, ThrottlingSettings

if TYPE_CHECKING:
    from trio_gw.config.settings import Settings

WHOLE = """
[adapter.truststore]
location = "/ts"
[controlPlane]
enabled = true
serviceURL = "https://apim.example:9443/"
username = "gw@tenant.example"
password = "$env{cp}"
environmentLabels = ["Default", "Edge"]
retryInterval = 7
skipSSLVerification = false
sendRevisionUpdate = true
[controlPlane.brokerConnectionParameters]
eventListeningEndpoints = ["amqp://gw:$env{cp}@apim.example:5672?retries='1'&connectdelay='3'"]
[controlPlane.httpClient]
requestTimeOut = 9
[enforcer.throttling]
enableGlobalEventPublishing = true
enableHeaderConditions = true
enableQueryParamConditions = true
enableJwtClaimConditions = true
[enforcer.throttling.publisher]
username = "tm"
password = "$env{tm}"
[[enforcer.throttling.publisher.URLGroup]]
receiverURLs = ["tcp://a:9611", "tcp://b:9611"]
authURLs = ["ssl://a:9711", "ssl://b:9711"]
type = "loadbalance"
"""


def table(text: str) -> tuple[ControlPlaneSettings, list[str]]:
    found: Settings
    # Otherwise the default password of a test key would matter.
    found, problems = convert(f"{text}\n[enforcer.jwtIssuer]\nenabled = false\n")
    return found.control_plane, problems


def test_everything_is_taken_over() -> None:
    found, problems = table(WHOLE)
    assert problems == []
    assert msgspec.structs.asdict(found) == {
        "url": "https://apim.example:9443/",
        "username": "gw@tenant.example",
        "password": SECRET,
        "ca": "/ts",
        "insecure_skip_verify": False,
        "environments": ("Default", "Edge"),
        "retry_interval": 7,
        "request_timeout": 9,
        "events": (f"amqp://gw:{SECRET}@apim.example:5672?retries='1'&connectdelay='3'",),
        "revision_updates": True,
        "cache": ControlPlaneSettings().cache,
        "throttling": ThrottlingSettings(
            enabled=True,
            publish=("tcp://a:9611", "tcp://b:9611"),
            login=("ssl://a:9711", "ssl://b:9711"),
            username="tm",
            password=SECRET,
            header_conditions=True,
            query_conditions=True,
            claim_conditions=True,
        ),
    }
    assert found.tenant == "tenant.example"


def test_the_defaults_of_the_reference_are_written_out() -> None:
    text = (
        "[controlPlane]\nenable = true\n[enforcer.throttling]\nenableGlobalEventPublishing = true"
    )
    found, problems = table(text)
    assert found.url == "https://apim:9443/"
    assert (found.username, found.password) == ("admin", SECRET)
    assert found.events == (f"amqp://admin:{SECRET}@apim:5672?retries='10'&connectdelay='30'",)
    assert found.throttling == ThrottlingSettings(
        enabled=True,
        publish=("tcp://apim:9611",),
        login=("ssl://apim:9711",),
        password=SECRET,
    )
    (problem,) = problems
    assert problem.startswith("config.toml:2: warning: controlPlane.enable is not taken over")
    assert "set `control_plane.ca`" in problem


def test_the_shipped_file_can_be_switched_on() -> None:
    """Each key of the shipped tables is converted, or reported with a reason."""
    text = DEFAULT.read_text()
    text = text.replace("[controlPlane]\nenabled = false", "[controlPlane]\nenabled = true")
    text = text.replace("enableGlobalEventPublishing = false", "enableGlobalEventPublishing = true")
    found, problems = convert(text)
    plane = found.control_plane
    assert plane.url == "https://apim:9443/"
    assert plane.ca == "/home/wso2/security/truststore"
    assert plane.throttling.publish == ("tcp://apim:9611",)
    named = {problem.split(" ")[2] for problem in problems}
    assert {name for name in named if name.startswith(("controlPlane", "enforcer.thr"))} == {
        "controlPlane.brokerConnectionParameters.reconnectInterval",
        "controlPlane.brokerConnectionParameters.reconnectRetryCount",
        "controlPlane.requestWorkerPool.poolSize",
        "controlPlane.requestWorkerPool.queueSizePerPool",
        "controlPlane.requestWorkerPool.pauseTimeAfterFailure",
        "enforcer.throttling.jmsConnectionInitialContextFactory",
        "enforcer.throttling.jmsConnectionProviderURL",
    }


@pytest.mark.parametrize("switch", ["enabled = false", 'enabled = "true"', ""])
def test_off_is_left_out_and_named(switch: str) -> None:
    found, problems = table(WHOLE.replace("enabled = true", switch))
    assert found == ControlPlaneSettings()
    named = {problem.split(" ")[2] for problem in problems}
    assert "enforcer.throttling.publisher.URLGroup[0].receiverURLs" in named
    assert {"adapter.truststore.location", "controlPlane.password"} <= named
    assert sum("controlPlane.enabled is not true" in problem for problem in problems) > 10
    assert SECRET not in "".join(problems)


def test_without_the_traffic_manager() -> None:
    text = WHOLE.replace("enableGlobalEventPublishing = true", "")
    found, problems = table(text)
    assert found.url
    assert found.throttling == ThrottlingSettings()
    assert len(problems) == 8
    assert all("enableGlobalEventPublishing is not true" in problem for problem in problems)


@pytest.mark.parametrize("kind", ["type = 'failover'", ""])
def test_receivers_that_stand_in_for_each_other(kind: str) -> None:
    found, problems = table(WHOLE.replace('type = "loadbalance"', kind))
    assert problems == []
    assert found.throttling.publish == (("tcp://a:9611", "tcp://b:9611"),)
    assert found.throttling.login == (("ssl://a:9711", "ssl://b:9711"),)


def test_a_second_group_is_named() -> None:
    more = "[[enforcer.throttling.publisher.URLGroup]]\nreceiverURLs = ['tcp://c:1']\n"
    found, problems = table(f"{WHOLE}{more}authURLs = ['ssl://c:2']\n")
    assert found.throttling.publish == ("tcp://a:9611", "tcp://b:9611")
    assert [problem.split(" ")[2].partition("URLGroup")[2] for problem in problems] == [
        "[1].receiverURLs",
        "[1].authURLs",
    ]


@pytest.mark.parametrize(
    ("old", "new", "attribute", "value", "said"),
    [
        ("retryInterval = 7", "retryInterval = 0", "retry_interval", 5, ""),
        ('["Default", "Edge"]', "[]", "environments", ("Default",), ""),
        ("skipSSLVerification = false", "skipSSLVerification = true", "ca", "", "truststore"),
        ("skipSSLVerification = false", "skipSSLVerification = 1", "insecure_skip_verify", False,
         "it must be true or false"),
        ("requestTimeOut = 9", "requestTimeOut = -1", "request_timeout", 30, "must be more than 0"),
        ("https://apim.example:9443/", "apim", "url", "", "is not the URL of API Manager"),
        ("amqp://gw:", "Endpoint=sb://gw:", "password", SECRET, "is not the URL of a broker"),
        ('"tcp://a:9611"', '"udp://a:1"', "throttling", ThrottlingSettings(),
         "has an entry that is not an address"),
        ('"ssl://a:9711", ', "", "throttling",
         ThrottlingSettings(enabled=True, publish=("tcp://apim:9611",), login=("ssl://apim:9711",),
                            username="tm", password=SECRET, header_conditions=True,
                            query_conditions=True, claim_conditions=True),
         "as many addresses"),
    ],
)  # fmt: skip
def test_single_values(old: str, new: str, attribute: str, value: Any, said: str) -> None:
    assert old in WHOLE
    found, problems = table(WHOLE.replace(old, new))
    assert getattr(found, attribute) == value
    assert said in "".join(problems)
    assert bool(problems) == bool(said)
    assert SECRET not in "".join(problems)
