"""What is said about a topic: operations, parameters, mapping, access, messages."""

from __future__ import annotations

import pytest

from support.described import CHAT, described, project_of, views
from trio_gw.documents.messages import walk
from trio_gw.documents.topic_view import topic_row, topic_view

V3 = """\
asyncapi: 3.0.0
channels:
  room:
    address: /rooms/{room}
    parameters:
      room: {enum: [lobby], default: lobby, description: its name}
    messages:
      said: {payload: {type: string}}
      joined: {contentType: text/plain, payload: {type: string, enum: [x]}}
operations:
  say:
    action: receive
    channel: {$ref: '#/channels/room'}
    messages: [{$ref: '#/channels/room/messages/said'}]
    reply:
      messages: [{$ref: '#/channels/room/messages/joined'}]
    x-throttling-tier: Gold
  listen:
    action: send
    channel: {$ref: '#/channels/room'}
    summary: What others say
"""


def test_operations_say_who_sends() -> None:
    view = views(CHAT)["/rooms/{room}"]
    assert view.row.ways == ("send", "receive")
    say, listen = view.operations
    assert (say.way, say.action, say.speaks, say.summary) == (
        "send",
        "publish",
        True,
        "Say something",
    )
    assert (listen.way, listen.speaks, listen.ignored) == ("receive", False, ("x-scopes",))
    assert [one.name for one in say.messages] == ["said", "typing"]
    assert say.messages[0].content_type == "application/json"
    assert say.line == 9


def test_asyncapi_3_is_from_the_view_of_the_server() -> None:
    view = views(V3)["/rooms/{room}"]
    say, listen = view.operations
    assert (say.way, say.name, say.speaks) == ("send", "say", True)
    assert (listen.way, listen.speaks, listen.summary) == ("receive", False, "What others say")
    assert [one.name for one in say.messages] == ["said"]
    assert [one.name for one in say.replies] == ["joined"]
    assert [one.name for one in listen.messages] == ["said", "joined"]
    (room,) = view.parameters
    assert (room.example, room.made_up, room.enum) == ("lobby", False, ("lobby",))
    assert view.tier == "Gold"


def test_the_mapping_is_worked_out_with_an_example() -> None:
    mapping = views(CHAT)["/rooms/{room}"].mapping
    assert mapping.written == "/rooms?id={uri.var.room}"
    assert mapping.client == "/chat/1.0.0/rooms/lobby"
    assert mapping.backend == "/rooms?id=lobby"
    assert mapping.backend_url == "ws://backend.internal:9000/base/rooms?id=lobby"
    assert not mapping.query
    assert views(CHAT, backends=False)["/rooms/{room}"].mapping.backend_url == ""


def test_parameters_are_described() -> None:
    (room,) = views(CHAT)["/rooms/{room}"].parameters
    assert room.declared
    assert (room.description, room.enum, room.example) == (
        "its name",
        ("lobby", "kitchen"),
        "lobby",
    )


@pytest.mark.parametrize(
    ("keys", "why", "line"),
    [
        ("publish: {x-auth-type: None}", "x-auth-type: None", 4),
        ("publish: {x-wso2-disable-security: true}", "x-wso2-disable-security: true", 4),
        ("{publish: {}, x-auth-type: None}", "x-auth-type: None", 4),
    ],
)
def test_the_line_that_opens_a_topic_is_named(keys: str, why: str, line: int) -> None:
    text = f"asyncapi: 2.6.0\nchannels:\n  /open:\n    {keys}\n"
    access = views(text)["/open"].access
    assert (access.secured, access.why, access.line) == (False, why, line)


def test_scopes_are_described_and_have_a_line() -> None:
    access = views(CHAT)["/rooms/{room}"].access
    assert access.secured
    (scope,) = access.scopes
    assert (scope.name, scope.description) == ("chat:write", "talk")
    assert (access.scopes_from, access.scopes_line) == ("x-scopes", 13)


def test_keys_of_this_gateway_are_listed() -> None:
    view = views(CHAT)["/rooms/{room}"]
    (key,) = view.extensions
    assert (key.key, key.value, key.place, key.line) == (
        "x-trio-gw-inspect",
        "true",
        "operation",
        14,
    )
    assert view.inspected


def test_examples_come_first_and_numbers_keep_their_digits() -> None:
    (example,) = views(CHAT)["/rooms/{room}"].operations[0].messages[0].examples
    assert not example.made_up
    assert '"size": 1.50' in example.payload


def test_without_an_example_one_is_made_up() -> None:
    (example,) = views(CHAT)["/rooms/{room}"].operations[0].messages[1].examples
    assert example.made_up
    assert example.payload == '{\n  "on": true\n}'


def test_a_payload_in_another_language_is_shown_as_text() -> None:
    text = CHAT.replace("      title: Said", "      schemaFormat: application/vnd.apache.avro;x=1")
    message = views(text)["/rooms/{room}"].operations[0].messages[0]
    assert message.format == "application/vnd.apache.avro;x=1"
    assert message.payload is None
    assert "#/components/schemas/Said" in message.foreign


def test_what_is_served_is_shown_without_a_definition() -> None:
    project = project_of(CHAT)
    view = topic_view(project, project.topics[0], 0, None, backends=True)
    assert view.access.secured
    assert view.mapping.client == "/chat/1.0.0/rooms/my-room"
    assert view.operations == ()


def test_a_topic_that_the_file_no_longer_has_says_so() -> None:
    project = project_of(CHAT)
    other = described("asyncapi: 2.6.0\nchannels: {/x: {publish: {}}}\n")
    view = topic_view(project, project.topics[0], 0, other, backends=True)
    assert view.notes == ("The definition on disk no longer has this topic.",)
    assert topic_row(project, project.topics[0], 0, other).ways == ()


def test_every_topic_is_found_under_its_name() -> None:
    for text in (
        CHAT,
        V3,
        "asyncapi: 2.6.0\nx-trio-gw-channel-names: subjects\nchannels: {a.b: {publish: {}}}\n",
        "asyncapi: 2.6.0\nx-trio-gw-channel-names: paths\nchannels: {a/b: {subscribe: {}}}\n",
        "asyncapi: 2.6.0\nchannels: {'/café?x=1': {publish: {}}}\n",
        "asyncapi: 3.0.0\nchannels: {all: {messages: {}}}\n"
        "operations: {x: {action: send, channel: {$ref: '#/channels/all'}}}\n",
        "asyncapi: 2.6.0\nchannels: {/a: {$ref: '#/components/channels/a'}}\n"
        "components: {channels: {a: {publish: {}}}}\n",
    ):
        for view in views(text).values():
            assert view.operations, text


def test_one_page_shows_a_bounded_number_of_schemas() -> None:
    properties = ", ".join(f"p{i}: {{type: string}}" for i in range(400))
    messages = ", ".join(f"{{payload: {{properties: {{{properties}}}}}}}" for _ in range(20))
    text = f"asyncapi: 2.6.0\nchannels: {{/a: {{publish: {{message: {{oneOf: [{messages}]}}}}}}}}\n"
    (operation,) = views(text)["/a"].operations
    trees = [one.payload for one in operation.messages if one.payload is not None]
    assert sum(1 for tree in trees for _ in walk(tree)) <= 1500
    assert len(operation.messages) == 20
