"""A 404: the log names similar paths, the client receives only what it sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from trio_gw.config.api import ApiProject, Cluster, Endpoint, Topic
from trio_gw.config.settings import Environment
from trio_gw.proxy.no_route import refusal
from trio_gw.routing.compiler import EMPTY, compile_table

if TYPE_CHECKING:
    from trio_gw.routing.table import RouteTable

CHAT = ApiProject(
    folder="chat",
    id="chat",
    name="Chat",
    version="1.0.0",
    context="/chat",
    topics=(Topic("/rooms/{id}"), Topic("/news")),
    production=Cluster((Endpoint("ws", "backend", 80, ""),)),
)


@pytest.fixture
def table() -> RouteTable:
    return compile_table([CHAT], [Environment()], strict_vhosts=True)[0]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/chat/1.0.0//news", "would match with one slash removed"),
        ("//chat//1.0.0/news", "would match with single slashes"),
        ("/chat/1.0.0/news//", "would match with one slash removed"),
        ("/chat/1.0.0/%6eews", "would match with no percent-encoding"),
        ("/Chat/1.0.0/NEWS", "would match with lower case"),
        ("/chat/1.0.0/none", "Chat:1.0.0 (/chat/1.0.0) has no topic for this path"),
        ("/chat/1.0.0", "has no topic for this path"),
        ("/chat/1.0.00/news", "no API has this base path"),
        ("/chat/2.0.0/news", "no API has this base path"),
        ("/", "no API has this base path"),
    ],
)
def test_the_log_says_what_comes_near(table: RouteTable, path: str, why: str) -> None:
    assert table.match("localhost", path) is None
    found = refusal(table, "localhost", path)
    assert why in found.why
    assert "Chat" not in found.body.decode()


def test_a_host_that_serves_nothing(table: RouteTable) -> None:
    assert refusal(table, "other", "/chat/1.0.0/news").why == "no API is served on the host other"
    assert "no API is served" in refusal(EMPTY, "localhost", "/").why


def test_the_response_mentions_only_empty_segments(table: RouteTable) -> None:
    said = {
        path: json.loads(refusal(table, "localhost", path).body)["description"]
        for path in ("/chat/1.0.0//news", "/none//at/all", "/chat/1.0.0/none", "/CHAT/1.0.0/news")
    }
    plain = "The requested resource is not available."
    hint = f"{plain} The path has an empty segment (`//`): write one slash."
    assert list(said.values()) == [hint, hint, plain, plain]
