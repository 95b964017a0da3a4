"""The text of a new project: the loader reads back the requested values, without a problem."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gw.config import document, project, scaffold

if TYPE_CHECKING:
    from trio_gw.config.api import ApiProject

PLAN = scaffold.Plan("Chat", "1.0.0", "/chat", "wss://chat.example:8443/v2")


def loaded(plan: scaffold.Plan, *topics: str) -> ApiProject:
    """Load the text; there must be no problem."""
    files = {
        "api.yaml": scaffold.api_yaml(plan).encode(),
        "Definitions/asyncapi.yaml": scaffold.asyncapi_yaml(plan, list(topics)).encode(),
    }
    found = project.load(files, "new")
    assert found.problems == ()
    assert found.project is not None
    return found.project


def test_everything_arrives() -> None:
    plan = scaffold.Plan("Chat", "1.10", "/a/chat", PLAN.production, "ws://sandbox.example/s")
    made = loaded(plan, "/rooms/{room}", "/news", "/", "/all/*", "/{a}.json", "/ws/{s}@trade")
    assert (made.title, made.base_path) == ("Chat:1.10", "/a/chat/1.10")
    assert made.production is not None
    assert made.sandbox is not None
    assert [str(one) for one in made.production.endpoints] == ["wss://chat.example:8443/v2"]
    assert [str(one) for one in made.sandbox.endpoints] == ["ws://sandbox.example:80/s"]
    assert all(topic.secured and topic.scopes is None for topic in made.topics)
    mapped = {topic.name: topic.mapping and topic.mapping.path for topic in made.topics}
    assert mapped == {
        "/rooms/{room}": "/rooms/{uri.var.room}",
        "/news": "/news",
        "/": None,  # the backend's own URL is that
        "/all/*": None,  # no mapping can pass on what `*` matched: see the next lines
        "/ws/{s}@trade": None,
        "/{a}.json": "/{uri.var.a}.json",
    }
    passed = {topic.name for topic in made.topics if topic.pass_path}
    assert passed == {"/", "/all/*", "/ws/{s}@trade"}


@pytest.mark.parametrize(
    "name",
    ["Chat", "true", "No", "1.0", "a: b", "# x", "Überblick", 'say "x"', "- a", "[a]", "a\\b"],
)
def test_names_that_yaml_would_read_otherwise(name: str) -> None:
    made = loaded(scaffold.Plan(name, "2", "/c", PLAN.production), "/t")
    assert (made.name, made.version) == (name, "2")


@pytest.mark.parametrize("topic", ["/a'b", "/a,b", "/a&b", "/a:b", "/x=%7B", "/*/a/{b}:c"])
def test_topics_that_yaml_would_read_otherwise(topic: str) -> None:
    plan = PLAN
    text = scaffold.asyncapi_yaml(plan, [topic])
    assert list(document.read(text.encode(), "f").root.entries["channels"].node.entries) == [topic]  # type: ignore[union-attr]


@given(st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1).map(str.strip))
def test_any_text_is_read_back(text: str) -> None:
    found = document.read(f"key: {scaffold.scalar(text)}\n".encode(), "f")
    assert found.value(("key",)) == text


@pytest.mark.parametrize(
    ("title", "name", "context"),
    [
        ("My chat API", "MyChatAPI", "/my-chat-api"),
        ("Streetlights Kafka API", "StreetlightsKafkaAPI", "/streetlights-kafka-api"),
        ("chat", "Chat", "/chat"),
        ("  ", "", "/"),
        ("v2 rooms", "V2Rooms", "/v2-rooms"),
    ],
)
def test_names_from_titles(title: str, name: str, context: str) -> None:
    assert scaffold.name_from(title) == name
    assert scaffold.context_from(name) == context


@pytest.mark.parametrize(
    ("name", "folder"),
    [("Chat", "Chat-1.0.0"), ("../x", "x-1.0.0"), ("a/b c", "a-b-c-1.0.0"), (".hid", "hid-1.0.0")],
)
def test_folders(name: str, folder: str) -> None:
    assert scaffold.folder_from(scaffold.Plan(name, "1.0.0", "/c")) == folder


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("ws://localhost:2360", "MyApi"),
        ("ws://127.0.0.1:2360", "MyApi"),
        ("ws://[::1]:2360/", "MyApi"),
        ("wss://chat.internal:8443/v2", "Chat"),
        ("wss://ws.chat.example/v2/live-rooms?x=y", "LiveRooms"),
        ("stream", "Stream"),
        ("wss://u:secret@x.test/1.0", "X"),
        ("", "MyApi"),
    ],
)
def test_names_from_backends(url: str, name: str) -> None:
    assert scaffold.name_from_backend(url) == name
