"""The messages of an operation: names, payloads as trees, examples, or a sample made up. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec

from trio_gw.config.nodes import Mapping, Scalar
from trio_gw.documents import values
from trio_gw.documents.conversion import json_text
from trio_gw.documents.samples import sample
from trio_gw.documents.schema_tree import SchemaNode, schema_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.nodes import Node

MOST_MESSAGES = 40  # of one operation
EXAMPLES = 5
EXAMPLE_VALUES = 2000  # of one example
EXAMPLE_TEXT = 8 << 10  # characters of one example
FOREIGN_TEXT = 16 << 10  # characters of a schema in another language

_OURS = ("application/schema", "application/vnd.aai.asyncapi", "application/vnd.oai.openapi")


class MessageExample(msgspec.Struct, frozen=True):
    """One example as text to send. `made_up` if it comes from the schema."""

    payload: str
    name: str = ""
    summary: str = ""
    headers: str = ""
    made_up: bool = False


class MessageView(msgspec.Struct, frozen=True):
    """One message. `foreign` is the text of a schema that is no JSON schema; `format` names it.

    `same_as` is the anchor of the same message further up, which is not described again.
    """

    name: str
    anchor: str = ""
    same_as: str = ""
    title: str = ""
    summary: str = ""
    description: str = ""
    content_type: str = ""
    line: int = 0
    deprecated: bool = False
    tags: tuple[str, ...] = ()
    correlation: str = ""
    format: str = ""
    foreign: str = ""
    payload: SchemaNode | None = None
    headers: SchemaNode | None = None
    examples: tuple[MessageExample, ...] = ()


class PageBudget:
    """What one page shows: schema nodes that are left, and messages that it has, by anchor."""

    def __init__(self, most: int) -> None:
        self.left = most
        self._shown: list[tuple[Node, str]] = []

    def shown_before(self, message: Node, anchor: str) -> str:
        """Return the anchor under which the page has this message; note it if it is new."""
        for known, before in self._shown:
            if known is message:
                return before
        self._shown.append((message, anchor))
        return ""

    def take(self, tree: SchemaNode) -> SchemaNode:
        """Count the nodes of a tree and return it."""
        self.left -= sum(1 for _ in walk(tree))
        return tree


def walk(tree: SchemaNode) -> Iterator[SchemaNode]:
    """Yield all nodes of a tree."""
    yield tree
    for below in tree.children:
        yield from walk(below)


def messages_of(root: Mapping, written: Node | None) -> list[tuple[str, Node]]:
    """Return the messages that an operation or a channel names: keys, and resolved nodes.

    AsyncAPI 2 has one `message`, or `oneOf`; AsyncAPI 3 has a list of references, or a mapping.
    """
    listed: list[tuple[str, Node]] = []
    if written is None:
        return listed
    target, _ = values.resolved(root, written)
    one_of = target.entries.get("oneOf") if isinstance(target, Mapping) else None
    several = values.items(one_of.node if one_of else written)
    listed = [("", item) for item in several] if several or one_of else [("", written)]
    return _resolved_all(root, listed)


def channel_messages(root: Mapping, channel: Node) -> list[tuple[str, Node]]:
    """Return the messages of a channel of AsyncAPI 3, by name."""
    listed = [(key, node) for key, _, node in values.entries(values.child(channel, "messages"))]
    return _resolved_all(root, listed)


def _resolved_all(root: Mapping, listed: list[tuple[str, Node]]) -> list[tuple[str, Node]]:
    found: list[tuple[str, Node]] = []
    for key, item in listed[:MOST_MESSAGES]:
        target, pointer = values.resolved(root, item)
        if isinstance(target, Mapping):
            found.append((key or (values.last_step(pointer) if pointer else ""), target))
    return found


def message_view(
    root: Mapping, key: str, node: Node, anchor: str, budget: PageBudget
) -> MessageView:
    """Describe one message; anchors of its schemas begin with `anchor`."""
    assert isinstance(node, Mapping)
    before = budget.shown_before(node, anchor)
    node = _with_traits(root, node)
    name = values.text(node, "name", values.SHORT) or key or values.text(node, "messageId", 200)
    title = values.text(node, "title", values.SHORT)
    if before:
        return MessageView(name or "message", anchor, before, title=title, line=node.line)
    payload, kind = _payload(root, node)
    foreign = ""
    tree = None
    if payload is not None and kind:
        foreign = values.cut(json_text(payload), FOREIGN_TEXT)
    elif payload is not None and budget.left > 0:
        tree = budget.take(schema_tree(root, payload, f"{anchor}p", most=min(500, budget.left)))
    headers = values.child(node, "headers")
    header_tree = None
    if headers is not None and budget.left > 0:
        header_tree = budget.take(
            schema_tree(root, headers, f"{anchor}h", most=min(200, budget.left))
        )
    correlation, _ = values.resolved(root, values.child(node, "correlationId"))
    content = values.text(node, "contentType", 100)
    return MessageView(
        name=name or "message",
        anchor=anchor,
        title=title,
        summary=values.text(node, "summary", values.SHORT),
        description=values.text(node, "description"),
        content_type=content or values.text(root, "defaultContentType", 100),
        line=node.line,
        deprecated=values.is_true(values.child(node, "deprecated")),
        tags=values.names(values.child(node, "tags"), 20),
        correlation=values.text(correlation, "location", values.SHORT),
        format=kind,
        foreign=foreign,
        payload=tree,
        headers=header_tree,
        examples=_examples(root, node, None if kind else payload),
    )


def _with_traits(root: Mapping, node: Mapping) -> Mapping:
    """Return the message with the keys that its traits add; its own keys win."""
    entries = dict(node.entries)
    for trait in values.items(values.child(node, "traits"))[:20]:
        target, _ = values.resolved(root, trait)
        if isinstance(target, Mapping):
            for key, entry in target.entries.items():
                entries.setdefault(key, entry)
    return msgspec.structs.replace(
        node, entries=entries, folded={key.casefold(): key for key in reversed(entries)}
    )


def _payload(root: Mapping, node: Mapping) -> tuple[Node | None, str]:
    """Return the schema of the payload, and its format if that is not JSON schema."""
    payload = values.child(node, "payload")
    kind = values.text(node, "schemaFormat", 100)
    target, _ = values.resolved(root, payload)
    if isinstance(target, Mapping) and "schemaFormat" in target.entries:
        kind = values.text(target, "schemaFormat", 100)
        payload = values.child(target, "schema")
    return payload, "" if not kind or kind.startswith(_OURS) else kind


def _examples(root: Mapping, node: Mapping, schema: Node | None) -> tuple[MessageExample, ...]:
    found = []
    for written in values.items(values.child(node, "examples"))[:EXAMPLES]:
        example, _ = values.resolved(root, written)
        if not isinstance(example, Mapping) or example.size > EXAMPLE_VALUES:
            continue
        payload = values.child(example, "payload")
        headers = values.child(example, "headers")
        if payload is None and headers is None:
            payload = example  # AsyncAPI 2.0 has the payload itself
        found.append(
            MessageExample(
                "" if payload is None else _text(payload),
                values.text(example, "name", values.SHORT),
                values.text(example, "summary", values.SHORT),
                "" if headers is None else _text(headers),
            )
        )
    if found or schema is None:
        return tuple(found)
    target, _ = values.resolved(root, schema)
    for key in ("examples", "example"):
        entry = target.entries.get(key) if isinstance(target, Mapping) else None
        if entry is not None:
            listed = values.items(entry.node) if key == "examples" else (entry.node,)
            found += [
                MessageExample(_text(each))
                for each in listed[:EXAMPLES]
                if each.size <= EXAMPLE_VALUES
            ]
    if found:
        return tuple(found)
    made = json.dumps(sample(root, schema), indent=2, ensure_ascii=False)
    return (MessageExample(values.cut(made, EXAMPLE_TEXT), made_up=True),)


def _text(node: Node) -> str:
    """Write an example as it would be sent: a text as it is, all else as JSON."""
    if isinstance(node, Scalar) and isinstance(node.value, str) and not values.number(node):
        return values.cut(node.text, EXAMPLE_TEXT)
    return values.cut(json_text(node), EXAMPLE_TEXT)
