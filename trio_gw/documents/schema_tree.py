"""A JSON schema as a tree for people: types, constraints, variants, and where it is cut.

Built breadth first, so that a large schema is cut at its leaves. Depth and number of nodes are
bounded. A `$ref` to a schema further up becomes a link back, so circles end. Pure.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trio_gw.config.nodes import Mapping, Scalar, Sequence
from trio_gw.documents import values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.nodes import Node

MOST_DEPTH = 12
MOST_NODES = 500

_CONSTRAINTS = (
    *("format", "minLength", "maxLength", "pattern", "minimum", "exclusiveMinimum", "maximum"),
    *("exclusiveMaximum", "multipleOf", "minItems", "maxItems", "minProperties", "maxProperties"),
    *("contentEncoding", "contentMediaType", "discriminator"),
)
_FLAGS = {
    "uniqueItems": "unique items",
    "deprecated": "deprecated",
    "readOnly": "read-only",
    "writeOnly": "write-only",
    "nullable": "or null",
}
_GROUPS = {"oneOf": "one of", "anyOf": "any of", "allOf": "all of"}
_SINGLE = {"not": "not", "if": "if", "then": "then", "else": "else", "contains": "contains"}


class SchemaNode(msgspec.Struct):
    """One schema, and how the one above uses it.

    `name` is that of a property, or says the role, like `one of 2`; then `is_role` is set. `back`
    is the anchor of the schema further up that this one repeats. `more` counts what was left out
    below it; `line` is where it stands in the document.
    """

    name: str
    is_role: bool = False
    type: str = ""
    required: bool = False
    title: str = ""
    description: str = ""
    constraints: tuple[str, ...] = ()
    enum: tuple[str, ...] = ()
    default: str | None = None
    const: str | None = None
    examples: tuple[str, ...] = ()
    ref: str = ""
    anchor: str = ""
    back: str = ""
    line: int = 0
    more: int = 0
    children: list[SchemaNode] = []


class _Pending(NamedTuple):
    """A schema whose children are still to be added, and the schemas above it."""

    schema: Mapping
    node: SchemaNode
    depth: int
    above: _Above | None


class _Above(NamedTuple):
    """A chain of schemas, the nearest first."""

    schema: Node
    anchor: str
    rest: _Above | None


def schema_tree(
    root: Mapping, schema: Node, anchor: str, *, most: int = MOST_NODES, name: str = ""
) -> SchemaNode:
    """Build the tree of a schema of the document `root`; anchors begin with `anchor`."""
    return _TreeBuilder(root, anchor, most).build(schema, name)


class _TreeBuilder:
    """One call of `schema_tree`."""

    def __init__(self, root: Mapping, anchor: str, most: int) -> None:
        self._root = root
        self._anchor = anchor
        self._room = most
        self._queue: deque[_Pending] = deque()
        self._count = 0

    def build(self, schema: Node, name: str) -> SchemaNode:
        top = self._add(schema, name, depth=0, above=None, role=True, required=False)
        while self._queue:
            self._expand(self._queue.popleft())
        return top

    def _expand(self, pending: _Pending) -> None:
        schema, node, depth, above = pending
        required = set(values.names(values.child(schema, "required"), 1000))
        left = 0
        for name, role, below in _parts(schema):
            if self._room <= 0 or depth >= MOST_DEPTH:
                left += 1
                continue
            mandatory = not role and name in required
            node.children.append(
                self._add(below, name, depth=depth + 1, above=above, role=role, required=mandatory)
            )
        node.more = left

    def _add(
        self,
        written: Node,
        name: str,
        *,
        depth: int,
        above: _Above | None,
        role: bool,
        required: bool,
    ) -> SchemaNode:
        self._room -= 1
        self._count += 1
        schema, pointer = values.resolved(self._root, written)
        node = SchemaNode(
            values.cut(name),
            is_role=role,
            required=required,
            ref=values.last_step(pointer) if pointer else "",
            anchor=f"{self._anchor}-{self._count}",
            line=(schema or written).line,
            children=[],
        )
        if schema is None:
            node.type = "not found"
            node.description = f"$ref: {values.cut(pointer)}"
            return node
        if (back := _found(above, schema)) is not None:
            node.back, node.type = back, type_of(self._root, schema)
            return node
        self._describe(node, schema)
        if pointer and (own := values.text(written, "description")):
            node.description = own
        if isinstance(schema, Mapping):
            here = _Above(schema, node.anchor, above)
            self._queue.append(_Pending(schema, node, depth, here))
        return node

    def _describe(self, node: SchemaNode, schema: Node) -> None:
        node.type = type_of(self._root, schema)
        if not isinstance(schema, Mapping):
            return
        node.title = values.text(schema, "title", values.SHORT)
        node.description = values.text(schema, "description")
        node.constraints = tuple(_constraints(schema))
        listed = schema.entries.get("enum")
        node.enum = tuple(
            values.shown(item)
            for item in values.items(listed.node if listed else None)[: values.LISTED]
        )
        for key in ("default", "const"):
            if (entry := schema.entries.get(key)) is not None:
                setattr(node, key, values.shown(entry.node))
        examples = [*values.items(values.child(schema, "examples"))[:5]]
        if (single := schema.entries.get("example")) is not None:
            examples.insert(0, single.node)
        node.examples = tuple(values.shown(example) for example in examples)


def type_of(root: Mapping, schema: Node) -> str:
    """Say the type of a schema in a word or two; inferred if it is not written."""
    if isinstance(schema, Scalar):
        return {True: "anything", False: "nothing"}.get(schema.value is True, "anything")
    if isinstance(schema, Sequence):
        return "not a schema"
    entry = schema.entries.get("type")
    if entry is not None and isinstance(entry.node, Scalar):
        written = [entry.node.text]
    else:
        written = list(values.names(entry.node if entry else None, 10))
    written = [values.cut(one, 40) for one in written]
    if not written:
        written = [_inferred(schema)]
    if "array" in written and (items := schema.entries.get("items")) is not None:
        below, _ = values.resolved(root, items.node)
        kind = below.entries.get("type") if isinstance(below, Mapping) else None
        if kind is not None and isinstance(kind.node, Scalar):
            written[written.index("array")] = f"array of {values.cut(kind.node.text, 40)}"
    return " or ".join(written)


def _inferred(schema: Mapping) -> str:
    keys = schema.entries.keys()
    if keys & {"properties", "patternProperties", "required", "minProperties"}:
        return "object"
    if keys & {"items", "prefixItems", "minItems", "maxItems"}:
        return "array"
    if keys & {"minLength", "maxLength", "pattern"}:
        return "string"
    if keys & {"minimum", "maximum", "multipleOf"}:
        return "number"
    for key, words in _GROUPS.items():
        if key in keys:
            return words
    if "enum" in keys or "const" in keys:
        return "value"
    return "anything"


def _constraints(schema: Mapping) -> Iterator[str]:
    for key in _CONSTRAINTS:
        entry = schema.entries.get(key)
        if entry is not None and isinstance(entry.node, Scalar):
            yield f"{key} {values.cut(entry.node.text)}"
    for key, words in _FLAGS.items():
        entry = schema.entries.get(key)
        if entry is not None and values.is_true(entry.node):
            yield words
    for key in ("additionalProperties", "unevaluatedProperties"):
        entry = schema.entries.get(key)
        if entry is not None and isinstance(entry.node, Scalar) and entry.node.value is False:
            yield "no other properties"
            break


def _parts(schema: Mapping) -> Iterator[tuple[str, bool, Node]]:
    """Yield the schemas below one: name, whether that is a role, and the schema."""
    found = schema.entries
    if (entry := found.get("properties")) is not None:
        for name, _, node in values.entries(entry.node):
            yield name, False, node
    if (entry := found.get("patternProperties")) is not None:
        for name, _, node in values.entries(entry.node):
            yield f"properties like {values.cut(name, 80)}", True, node
    for key in ("additionalProperties", "unevaluatedProperties"):
        if (entry := found.get(key)) is not None and isinstance(entry.node, Mapping):
            yield "other properties", True, entry.node
    for key in ("prefixItems", "items"):
        if (entry := found.get(key)) is None:
            continue
        if isinstance(entry.node, Mapping) and not _is_type_alone(entry.node):
            yield "each item", True, entry.node
        for index, node in enumerate(values.items(entry.node), 1):
            yield f"item {index}", True, node
    for key, words in _GROUPS.items():
        if (entry := found.get(key)) is not None:
            for index, node in enumerate(values.items(entry.node), 1):
                yield f"{words} {index}", True, node
    for key, words in _SINGLE.items():
        if (entry := found.get(key)) is not None:
            yield words, True, entry.node


def _is_type_alone(schema: Mapping) -> bool:
    """Return whether a schema says no more than a type, which the array above it shows."""
    entry = schema.entries.get("type")
    return len(schema.entries) == 1 and entry is not None and isinstance(entry.node, Scalar)


def _found(above: _Above | None, schema: Node) -> str | None:
    """Return the anchor of a schema in the chain above; None if it is not there."""
    while above is not None:
        if above.schema is schema:
            return above.anchor
        above = above.rest
    return None
