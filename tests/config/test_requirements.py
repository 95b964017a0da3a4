"""`security` of operations and servers: API keys. For scopes see test_asyncapi and others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trio_gw.config import asyncapi, document
from trio_gw.config.api import ApiKeyPlace, Topic
from trio_gw.config.findings import Findings

HEADER = {"type": "httpApiKey", "in": "header", "name": "X-Api-Key"}
QUERY = {"type": "httpApiKey", "in": "query", "name": "Key"}
SCHEMES = {
    "header": HEADER,
    "query": QUERY,
    "usual": {"type": "apiKey", "in": "user"},
    "oauth2": {"type": "oauth2", "flows": {}},
}
AT_HEADER = ApiKeyPlace("header", "x-api-key")
AT_QUERY = ApiKeyPlace("query", "Key")
USUAL = (ApiKeyPlace("header", "apikey"), ApiKeyPlace("query", "apikey"))


def read(
    publish: dict[str, Any], *, version: str = "2.6.0", server: Any = None, schemes: Any = None
) -> tuple[Topic, list[str]]:
    """Read a definition with one topic."""
    text: dict[str, Any] = {
        "asyncapi": version,
        "channels": {"/t": {"publish": publish}},
        "components": {"securitySchemes": schemes or SCHEMES},
    }
    if server is not None:
        text["servers"] = {"production": {"url": "ws://b", "protocol": "ws", "security": server}}
    findings = Findings(document.read(json.dumps(text, indent=1).encode(), "asyncapi.yaml"))
    definition = asyncapi.read(findings)
    assert all(problem.hint for problem in findings.problems)
    return definition.topics[0], [problem.what for problem in findings.problems]


@pytest.mark.parametrize(
    ("security", "places"),
    [
        ([{"header": []}], (AT_HEADER,)),
        ([{"query": []}], (AT_QUERY,)),
        ([{"usual": []}], USUAL),
        ([{"header": []}, {"query": []}, {"header": []}], (AT_HEADER, AT_QUERY)),
        ([{"oauth2": ["a"]}, {"header": []}], (AT_HEADER,)),
        ([{"oauth2": ["a"]}], ()),
        ([], ()),
    ],
    ids=str,
)
def test_an_operation_names_where_an_api_key_is(security: Any, places: Any) -> None:
    topic, problems = read({"security": security})
    assert (topic.api_keys, topic.secured, problems) == (places, True, [])


def test_a_server_speaks_for_topics_that_ask_for_nothing_themselves() -> None:
    server: Any = [{"header": []}]
    assert read({}, server=server)[0].api_keys == (AT_HEADER,)
    assert read({"security": []}, server=server)[0].api_keys == ()
    assert read({"security": [{"oauth2": ["a"]}]}, server=server)[0].api_keys == ()
    # An API key has no scopes: it must not bypass those of a topic.
    topic, _ = read({"x-scopes": ["a"]}, server=server)
    assert (topic.scopes, topic.api_keys) == (("a",), ())
    assert read({"x-scopes": ["a"], "security": server})[0].api_keys == (AT_HEADER,)


def test_together_with_another_credential_it_is_none() -> None:
    topic, (what,) = read({"security": [{"oauth2": ["a"], "header": []}]})
    assert (topic.scopes, topic.api_keys) == (("a",), ())
    assert what == "`security` asks for `header` together with another credential: no effect"


@pytest.mark.parametrize(
    "scheme",
    [
        {"in": "cookie", "name": "k"},
        {"in": "header"},
        {"in": "header", "name": 5},
        {"in": "header", "name": ""},
        {"in": "header", "name": "a b"},
        {"in": "header", "name": "Authorization"},
        {"in": "header", "name": "Host"},
        {"in": "query"},
        {"name": "k"},
        {"in": ["header"], "name": "k"},
    ],
    ids=str,
)
def test_a_place_that_is_not_read_is_warned_about(scheme: dict[str, Any]) -> None:
    schemes = {"key": {"type": "httpApiKey", **scheme}}
    topic, (what,) = read({"security": [{"key": []}]}, schemes=schemes)
    assert topic.api_keys == ()
    assert what == "the API key of `key` is in no place that is read: no effect"


def test_before_2_4_operations_have_no_security() -> None:
    topic, (what,) = read({"security": [{"header": []}]}, version="2.3.0")
    assert topic.api_keys == ()
    assert "from AsyncAPI 2.4 on" in what


def test_asyncapi_3_writes_the_scheme_where_it_is_asked_for() -> None:
    text = {
        "asyncapi": "3.0.0",
        "channels": {"t": {"address": "/t"}},
        "operations": {
            "send": {
                "action": "receive",
                "channel": {"$ref": "#/channels/t"},
                "security": [{"$ref": "#/components/securitySchemes/header"}, QUERY],
            }
        },
        "components": {"securitySchemes": {"header": HEADER}},
    }
    findings = Findings(document.read(json.dumps(text).encode(), "asyncapi.yaml"))
    (topic,) = asyncapi.read(findings).topics
    assert topic.api_keys == (AT_HEADER, AT_QUERY)
    assert not findings.problems
