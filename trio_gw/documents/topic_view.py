"""A topic as a page shows it: operations, parameters, mapping, access, limits, messages. Pure.

What counts at the gateway comes from the served project; the rest from its definition. Either may
be newer than the other, or the definition may be unreadable: then less is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from trio_gw.config import channel_name
from trio_gw.documents import values
from trio_gw.documents.access import AccessView, access_of
from trio_gw.documents.messages import (
    MOST_MESSAGES,
    MessageView,
    PageBudget,
    channel_messages,
    message_view,
    messages_of,
)
from trio_gw.documents.parameters import ParameterView, example_values, parameters_of
from trio_gw.documents.target_example import MappingView, mapping_example

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.api import ApiProject, Topic
    from trio_gw.documents.definition import DeclaredChannel, DeclaredOperation, WholeDefinition

PAGE_NODES = 1500  # schema nodes of one page
_EXTENSION = "x-trio-gw-"


class ExtensionView(msgspec.Struct, frozen=True):
    """A key of this gateway: its value, where it is written, and its line."""

    key: str
    value: str
    place: str
    line: int


class OperationView(msgspec.Struct, frozen=True):
    """One operation. `way` is `send` or `receive`, as the client sees it.

    `speaks`: its keys are those of the topic. `ignored` are the keys of one that does not speak.
    """

    way: str
    action: str
    name: str
    speaks: bool
    line: int
    summary: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    messages: tuple[MessageView, ...] = ()
    replies: tuple[MessageView, ...] = ()
    more: int = 0


class TopicRow(msgspec.Struct, frozen=True):
    """A topic in a list. `ways` are `send` and `receive`, as far as the definition says."""

    number: int
    name: str
    ways: tuple[str, ...]
    summary: str
    secured: bool
    scopes: tuple[str, ...]
    tier: str
    parameters: tuple[str, ...]
    line: int


class TopicView(msgspec.Struct, frozen=True):
    """Everything about one topic."""

    row: TopicRow
    description: str
    access: AccessView
    operations: tuple[OperationView, ...]
    parameters: tuple[ParameterView, ...]
    mapping: MappingView
    wildcard: bool
    tier: str
    api_tier: str
    max_message: int | None
    inspected: bool
    pass_path: bool
    plain_http: bool
    extensions: tuple[ExtensionView, ...]
    notes: tuple[str, ...]


def topic_row(
    project: ApiProject, topic: Topic, number: int, definition: WholeDefinition | None
) -> TopicRow:
    """Describe a topic for the list of topics."""
    channels = _channels(topic, definition)
    operations = [one for channel in channels for one in channel.operations]
    ways = {_way(one) for one in operations}
    summary = next(filter(None, _summaries(channels, operations)), "")
    return TopicRow(
        number,
        topic.name,
        tuple(way for way in ("send", "receive") if way in ways),
        values.cut(summary),
        topic.secured and project.lifecycle != "PROTOTYPED",
        topic.scopes or (),
        topic.tier,
        tuple(channel_name.ordered_parameters(topic.name)),
        channels[0].line if channels else 0,
    )


def topic_view(
    project: ApiProject,
    topic: Topic,
    number: int,
    definition: WholeDefinition | None,
    *,
    backends: bool,
) -> TopicView:
    """Describe a topic as a whole; the backends' addresses only with `backends`."""
    channels = _channels(topic, definition)
    channel = channels[0] if channels else None
    operations = [(each, one) for each in channels for one in each.operations]
    speaker = _speaker([one for _, one in operations])
    budget = PageBudget(PAGE_NODES)
    shown: tuple[OperationView, ...] = ()
    parameters: tuple[ParameterView, ...] = ()
    if definition is not None:
        shown = tuple(
            _operation(definition, each, one, f"o{index}", speaker, budget)
            for index, (each, one) in enumerate(operations[:MOST_MESSAGES], 1)
        )
    parameters = parameters_of(topic.name, definition, channel)
    examples = example_values(parameters)
    return TopicView(
        topic_row(project, topic, number, definition),
        values.text(channel.node, "description") if channel else "",
        access_of(project, topic, definition, channel, speaker),
        shown,
        parameters,
        mapping_example(project, topic, examples, backends=backends),
        topic.name.endswith("/*"),
        topic.tier,
        project.tier,
        topic.inspection.max_message if topic.inspection else topic.max_message,
        topic.inspection is not None,
        topic.pass_path,
        topic.plain_http,
        tuple(_extensions(definition, channel, speaker)),
        tuple(_notes(definition, channels, shown)),
    )


def _channels(topic: Topic, definition: WholeDefinition | None) -> tuple[DeclaredChannel, ...]:
    return () if definition is None else definition.channels.get(topic.name, ())


def _way(operation: DeclaredOperation) -> str:
    return "send" if operation.side == "publish" else "receive"


def _speaker(operations: list[DeclaredOperation]) -> DeclaredOperation | None:
    """Return the operation that the loader reads: `publish` wins (`config.channels`)."""
    for side in ("publish", "subscribe"):
        for one in operations:
            if one.side == side:
                return one
    return None


def _summaries(
    channels: tuple[DeclaredChannel, ...], operations: list[DeclaredOperation]
) -> Iterator[str]:
    for node in (*(one.node for one in operations), *(one.node for one in channels)):
        yield values.text(node, "summary", values.SHORT)
        yield values.text(node, "title", values.SHORT)
    for channel in channels:
        yield values.text(channel.node, "description").partition("\n")[0]


def _operation(
    definition: WholeDefinition,
    channel: DeclaredChannel,
    operation: DeclaredOperation,
    anchor: str,
    speaker: DeclaredOperation | None,
    budget: PageBudget,
) -> OperationView:
    root, node = definition.root, operation.node
    if definition.version[0] == 2:
        found = messages_of(root, values.child(node, "message"))
    else:
        found = messages_of(root, values.child(node, "messages"))
        if values.child(node, "messages") is None:
            found = channel_messages(root, channel.node)
    reply, _ = values.resolved(root, values.child(node, "reply"))
    replies = messages_of(root, values.child(reply, "messages"))
    # Operations of one side have to agree, so each of them speaks (`config.topic`).
    speaks = speaker is not None and operation.side == speaker.side
    return OperationView(
        _way(operation),
        operation.action,
        operation.key,
        speaks,
        operation.line,
        values.text(node, "summary", values.SHORT) or values.text(node, "title", values.SHORT),
        values.text(node, "description"),
        values.names(values.child(node, "tags"), 20),
        () if speaks else tuple(_silent_keys(operation)),
        tuple(
            message_view(root, key, each, f"{anchor}m{index}", budget)
            for index, (key, each) in enumerate(found, 1)
        ),
        tuple(
            message_view(root, key, each, f"{anchor}r{index}", budget)
            for index, (key, each) in enumerate(replies, 1)
        ),
    )


def _silent_keys(operation: DeclaredOperation) -> Iterator[str]:
    for key, _, _ in values.entries(operation.node):
        if key.casefold().startswith("x-") or key.casefold() == "security":
            yield values.cut(key, 80)


def _extensions(
    definition: WholeDefinition | None,
    channel: DeclaredChannel | None,
    speaker: DeclaredOperation | None,
) -> Iterator[ExtensionView]:
    places = (
        ("operation", None if speaker is None else speaker.node),
        ("channel", None if channel is None else channel.node),
        ("whole document", None if definition is None else definition.root),
    )
    for place, node in places:
        for key, line, value in values.entries(node):
            if key.casefold().startswith(_EXTENSION):
                yield ExtensionView(key, values.shown(value), place, line)


def _notes(
    definition: WholeDefinition | None,
    channels: tuple[DeclaredChannel, ...],
    operations: tuple[OperationView, ...],
) -> Iterator[str]:
    if definition is None:
        return
    if not channels:
        yield "The definition on disk no longer has this topic."
    elif not operations:
        yield "The definition names no operation for it, so it does not say who sends what."
    if not definition.whole:
        yield "The schemas of messages are not shown: the definition has too many values."
