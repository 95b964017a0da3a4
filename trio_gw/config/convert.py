"""Converts the tree of a document to frozen msgspec Structs, with a problem for each bad value.

The conversion of msgspec stops at the first fault and has no line numbers. So this code walks the
Struct types and continues after a fault: a value that cannot be used leaves its field at the
default. Therefore every field of these Structs must have a default.

Keys match as in Go's encoding/json, for which the exported projects are written: exactly, else
regardless of case; unknown keys are ignored (spec: project-format §2.1).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec.inspect as shape

from trio_gw.config.nodes import Mapping, MappingEntry, Node, Path, Scalar, plain_value

if TYPE_CHECKING:
    from collections.abc import Hashable

    from trio_gw.config.findings import Findings

MAX_TEXT = 8192  # Longer than any URL that a server accepts; short enough for a log line.

T = TypeVar("T")

# Both leave a field at its default; neither is allowed as an item of a list.
_ABSENT: Any = object()
_REFUSED: Any = object()

_WORDS: tuple[tuple[type | tuple[type, ...], str, str], ...] = (
    (shape.StrType, "text", "write `{name}: some text` on one line"),
    (shape.BoolType, "`true` or `false`", "write `{name}: true` or `{name}: false`, unquoted"),
    (shape.IntType, "a whole number", "write digits without quotes"),
    (
        shape.VarTupleType,
        "a list",
        "write `{name}: [one, two]`, or one `- item` per line below it",
    ),
    (
        (shape.StructType, shape.DictType),
        "a mapping",
        "write its `key: value` lines below `{name}:`, indented",
    ),
)


def convert(kind: type[T], findings: Findings, at: Path = ()) -> T:
    """Convert the value at a path into a Struct; faults go to `findings`, none is raised.

    A missing or unusable value gives the Struct with all its defaults.
    """
    node = findings.document.node(at)
    value = _ABSENT if node is None else _value(node, _shape(cast("Hashable", kind)), at, findings)
    if value is _ABSENT or value is _REFUSED:
        return kind()
    assert isinstance(value, kind)
    return value


@functools.cache
def _shape(kind: Hashable) -> shape.Type:
    return shape.type_info(kind)


def _value(node: Node, wanted: shape.Type, path: Path, findings: Findings) -> Any:  # noqa: ANN401
    types = wanted.types if isinstance(wanted, shape.UnionType) else (wanted,)
    if isinstance(node, Scalar):
        return _scalar(node, types, path, findings)
    for kind in types:
        if isinstance(kind, shape.AnyType):
            return plain_value(node)
        if isinstance(node, Mapping):
            if isinstance(kind, shape.StructType):
                return _struct(node, kind, path, findings)
            if isinstance(kind, shape.DictType):
                found = (
                    (key, _item(entry.node, kind.value_type, (*path, key), findings))
                    for key, entry in node.entries.items()
                )
                return {key: value for key, value in found if value is not _REFUSED}
        elif isinstance(kind, shape.VarTupleType):
            items = (
                _item(item, kind.item_type, (*path, index), findings)
                for index, item in enumerate(node.items)
            )
            return tuple(item for item in items if item is not _REFUSED)
    return _refuse(node, types, path, findings)


def _scalar(node: Scalar, types: tuple[shape.Type, ...], path: Path, findings: Findings) -> Any:  # noqa: ANN401
    if any(isinstance(kind, shape.AnyType) for kind in types):
        return node.value
    bare = node.without_comment()
    if bare is not node:
        findings.warn(
            path,
            f"{name(path)} is followed by `//`, which is not a comment in YAML;"
            f" read as `{bare.text[:80]}`",
            "YAML comments start with `#`",
        )
    if bare.plain and bare.value is None:
        return None if any(isinstance(kind, shape.NoneType) for kind in types) else _ABSENT
    for kind in types:
        if isinstance(kind, shape.StrType):
            if len(bare.text) <= MAX_TEXT:
                return bare.text
            what = f"{name(path)} has {len(bare.text):,} characters, more than {MAX_TEXT:,}"
            findings.error(path, what, "shorten it")
            return _REFUSED
        if isinstance(kind, shape.BoolType) and isinstance(bare.value, bool):
            return bare.value
        if isinstance(kind, shape.IntType) and type(bare.value) is int:
            return bare.value
    return _refuse(bare, types, path, findings)


def _item(node: Node, wanted: shape.Type, path: Path, findings: Findings) -> Any:  # noqa: ANN401
    """Convert a value of a list or of a dictionary, where null is not allowed."""
    value = _value(node, wanted, path, findings)
    if value is _ABSENT:
        types = wanted.types if isinstance(wanted, shape.UnionType) else (wanted,)
        return _refuse(node, types, path, findings)
    return value


def _struct(node: Mapping, kind: shape.StructType, path: Path, findings: Findings) -> Any:  # noqa: ANN401
    spellings: dict[str, list[str]] = {}
    for key in node.entries:
        spellings.setdefault(key.casefold(), []).append(key)
    values = {}
    for field in kind.fields:
        wanted = field.encode_name
        keys = spellings.get(wanted.casefold(), [])
        if not keys:
            continue
        if len(keys) > 1:
            _refuse_spellings([(key, node.entries[key]) for key in keys], path, findings)
        key = wanted if wanted in keys else keys[0]
        value = _value(node.entries[key].node, field.type, (*path, wanted), findings)
        if value is not _ABSENT and value is not _REFUSED:
            values[field.name] = value
    return kind.cls(**values)


def _refuse_spellings(
    found: list[tuple[str, MappingEntry]], path: Path, findings: Findings
) -> None:
    (one, first), (other, second) = found[:2]
    findings.error(
        (*path, other),
        f"`{one}` on line {first.line} and `{other}` on line {second.line} are the same key:"
        " upper and lower case do not matter",
        "remove one of the two",
    )


def _refuse(node: Node, types: tuple[shape.Type, ...], path: Path, findings: Findings) -> Any:  # noqa: ANN401
    words = [words for words in _WORDS if any(isinstance(kind, words[0]) for kind in types)]
    expected = " or ".join(text for _, text, _ in words)
    findings.error(
        path,
        f"{name(path)} must be {expected}, this is {_kind(node)}",
        words[0][2].format(name=_last(path)),
    )
    return _REFUSED


def _kind(node: Node) -> str:
    if isinstance(node, Mapping):
        return "a mapping"
    if not isinstance(node, Scalar):
        return "a list"
    if node.value is None:
        return "empty"
    if isinstance(node.value, bool):
        return "`true` or `false`"
    return "a number" if isinstance(node.value, int) else "text"


def _last(path: Path) -> str:
    return next((step[:80] for step in reversed(path) if isinstance(step, str)), "the file")


def name(path: Path) -> str:
    """Name a value in a message: its key, with the index when it is in a list."""
    last = max((at for at, step in enumerate(path) if isinstance(step, str)), default=-1)
    indexes = "".join(f"[{step}]" for step in path[last + 1 :])
    return f"`{_last(path)}{indexes}`"
