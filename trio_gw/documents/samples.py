"""A sample message, made up from a JSON schema. Pure.

It shows the shape of a message. It is not promised to be valid: patterns and the like are not
solved. Depth and number of values are bounded, and circles end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.config.nodes import Mapping, Scalar
from trio_gw.documents import values

if TYPE_CHECKING:
    from trio_gw.config.nodes import Node, Plain

    Value = Plain | float

MOST_DEPTH = 8
MOST_VALUES = 200

_TEXTS = {
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "date-time": "2026-01-31T12:00:00Z",
    "duration": "PT1M",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uri-reference": "/example",
    "uuid": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
    "byte": "aGVsbG8=",
    "binary": "aGVsbG8=",
    "json-pointer": "/example",
}
_CHOICES = ("oneOf", "anyOf")


def sample(root: Mapping, schema: Node) -> Value:
    """Make a value of the shape of a schema of the document `root`."""
    return _Sampling(root).value(schema, 0, ())


class _Sampling:
    """One call of `sample`."""

    def __init__(self, root: Mapping) -> None:
        self._root = root
        self._room = MOST_VALUES

    def value(self, written: Node, depth: int, above: tuple[Node, ...]) -> Value:
        self._room -= 1
        schema, _ = values.resolved(self._root, written)
        if not isinstance(schema, Mapping) or self._ends(schema, depth, above):
            return {} if isinstance(schema, Mapping) and _kind(schema) == "object" else None
        found = schema.entries
        for key in ("const", "default", "example"):
            if key in found:
                return self._given(found[key].node)
        for key in ("examples", "enum"):
            if key in found and (items := values.items(found[key].node)):
                return self._given(items[0])
        above = (*above, schema)
        kind = _kind(schema)
        if kind == "object" or (not kind and "allOf" in found):
            return self._object(schema, depth, above)
        for key in _CHOICES:
            if key in found and (items := values.items(found[key].node)):
                return self.value(items[0], depth + 1, above)
        if kind == "array":
            return self._array(schema, depth, above)
        return _scalar(schema, kind)

    def _ends(self, schema: Node, depth: int, above: tuple[Node, ...]) -> bool:
        return self._room < 0 or depth > MOST_DEPTH or any(one is schema for one in above)

    def _given(self, node: Node) -> Value:
        """Return a value that the document gives; one that is too large is left out."""
        self._room -= node.size
        return None if self._room < 0 else values.plain(node)

    def _object(self, schema: Mapping, depth: int, above: tuple[Node, ...]) -> Value:
        made: dict[str, Value] = {}
        found = schema.entries
        for key in ("allOf", *_CHOICES):
            items = values.items(found[key].node) if key in found else ()
            for item in items if key == "allOf" else items[:1]:
                if self._room <= 0:
                    break
                part = self.value(item, depth + 1, above)
                if isinstance(part, dict):
                    made |= part
        properties = found.get("properties")
        for name, _, below in values.entries(properties.node if properties else None):
            if self._room <= 0:
                break
            below_schema, _ = values.resolved(self._root, below)
            if below_schema is not None and any(one is below_schema for one in above):
                continue
            made[values.cut(name)] = self.value(below, depth + 1, above)
        return made  # type: ignore[return-value]

    def _array(self, schema: Mapping, depth: int, above: tuple[Node, ...]) -> Value:
        entry = schema.entries.get("prefixItems") or schema.entries.get("items")
        if entry is None:
            return []
        listed = (entry.node,) if isinstance(entry.node, Mapping) else values.items(entry.node)[:10]
        found = []
        for item in listed:
            target, _ = values.resolved(self._root, item)
            if self._room > 0 and not any(one is target for one in above):
                found.append(self.value(item, depth + 1, above))
        return found  # type: ignore[return-value]


def _kind(schema: Mapping) -> str:
    entry = schema.entries.get("type")
    if entry is not None:
        if isinstance(entry.node, Scalar):
            return entry.node.text
        for name in values.names(entry.node, 10):
            if name != "null":
                return name
    keys = schema.entries.keys()
    if keys & {"properties", "required"}:
        return "object"
    if keys & {"items", "prefixItems"}:
        return "array"
    if keys & {"minLength", "maxLength", "pattern", "format"}:
        return "string"
    return "number" if keys & {"minimum", "maximum", "multipleOf"} else ""


def _scalar(schema: Mapping, kind: str) -> Value:
    if kind == "boolean":
        return True
    if kind in ("integer", "number"):
        return _number(schema, whole=kind == "integer")
    if kind == "string":
        return _text(schema)
    return None


def _number(schema: Mapping, *, whole: bool) -> Value:
    for key, step in (("minimum", 0), ("exclusiveMinimum", 1), ("maximum", 0)):
        entry = schema.entries.get(key)
        if entry is not None and isinstance(entry.node, Scalar) and values.number(entry.node):
            value = values.plain(entry.node)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return int(value) + step if whole else value + step
    return 1 if whole else 1.5


def _text(schema: Mapping) -> str:
    made = _TEXTS.get(values.text(schema, "format", 40), "text")
    least = schema.entries.get("minLength")
    if least is not None and isinstance(least.node, Scalar) and isinstance(least.node.value, int):
        made = made.ljust(min(least.node.value, 100), "x")
    most = schema.entries.get("maxLength")
    if most is not None and isinstance(most.node, Scalar) and isinstance(most.node.value, int):
        made = made[: max(0, most.node.value)]
    return made
