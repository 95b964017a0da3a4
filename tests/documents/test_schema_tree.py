"""Schemas as trees, within bounds for any input."""

from __future__ import annotations

import time

import pytest

from trio_gw.config.document import read
from trio_gw.config.nodes import Mapping
from trio_gw.documents.messages import walk
from trio_gw.documents.samples import sample
from trio_gw.documents.schema_tree import MOST_DEPTH, MOST_NODES, SchemaNode, schema_tree
from trio_gw.errors import UnusableError


def parsed(text: str) -> tuple[Mapping, Mapping]:
    root = read(text.encode(), "x", whole=True).root
    schema = root.entries["s"].node
    assert isinstance(schema, Mapping)
    return root, schema


def tree(text: str) -> SchemaNode:
    return schema_tree(*parsed(text), "m")


def test_types_constraints_and_required_properties() -> None:
    found = tree(
        "s:\n  type: object\n  required: [a]\n  additionalProperties: false\n  properties:\n"
        "    a: {type: [string, 'null'], maxLength: 5, deprecated: true, default: x}\n"
        "    b: {type: array, items: {type: integer, minimum: 0.5}, uniqueItems: true}\n"
        "    c: {enum: [1, two, null], description: pick}\n    d: true\n"
    )
    assert found.type == "object"
    assert found.constraints == ("no other properties",)
    a, b, c, d = found.children
    assert (a.type, a.required, a.default) == ("string or null", True, "x")
    assert a.constraints == ("maxLength 5", "deprecated")
    assert (b.type, b.required, b.constraints) == ("array of integer", False, ("unique items",))
    assert b.children[0].constraints == ("minimum 0.5",)
    assert (c.enum, c.description, c.line) == (("1", "two", "null"), "pick", 8)
    assert d.type == "anything"


def test_variants_are_parts() -> None:
    found = tree(
        "s:\n  oneOf: [{type: string}, {type: 'null'}]\n  not: {const: 5}\n"
        "  patternProperties: {^x-: {type: string}}\n"
    )
    assert [(one.name, one.is_role) for one in found.children] == [
        ("properties like ^x-", True),
        ("one of 1", True),
        ("one of 2", True),
        ("not", True),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "s: {$ref: '#/s'}\n",
        "s: {$ref: '#/t'}\nt: {$ref: '#/s'}\n",
        "s: {properties: {a: {$ref: '#/s'}}}\n",
        "s: {properties: {a: {$ref: '#/t'}}}\nt: {items: {allOf: [{$ref: '#/s'}]}}\n",
        "s: {properties: {a: {$ref: '#/nowhere'}, b: {$ref: 'other.yaml#/x'}, c: {$ref: 5}}}\n",
    ],
)
def test_circles_end(text: str) -> None:
    root, schema = parsed(text)
    found = schema_tree(root, schema, "m")
    assert sum(1 for _ in walk(found)) < 10
    sample(root, schema)


def test_a_circle_is_a_link_back() -> None:
    found = tree("s: {properties: {a: {items: {$ref: '#/s'}}}}\n")
    (a,) = found.children
    (item,) = a.children
    assert (item.back, item.ref, item.children) == (found.anchor, "s", [])


def test_a_deep_schema_is_cut() -> None:
    text = "s: " + "{properties: {a: " * 30 + "{type: string}" + "}}" * 30 + "\n"
    depth, node = 0, tree(text)
    while node.children:
        depth, node = depth + 1, node.children[0]
    assert depth == MOST_DEPTH
    assert node.more == 1


def test_a_schema_that_grows_with_every_level_is_cut() -> None:
    lines = [
        f"t{i}: {{properties: {{a: {{$ref: '#/t{i + 1}'}}, b: {{$ref: '#/t{i + 1}'}}}}}}"
        for i in range(40)
    ]
    root, schema = parsed("s: {$ref: '#/t0'}\nt40: {type: string}\n" + "\n".join(lines) + "\n")
    began = time.perf_counter()
    found = schema_tree(root, schema, "m")
    sample(root, schema)
    assert time.perf_counter() - began < 1
    assert sum(1 for _ in walk(found)) <= MOST_NODES
    assert any(one.more for one in walk(found))


def test_a_very_wide_schema_is_cut() -> None:
    many = ", ".join(f"p{i}: {{}}" for i in range(30_000))
    root, schema = parsed(f"s: {{properties: {{{many}}}}}\n")
    began = time.perf_counter()
    found = schema_tree(root, schema, "m")
    made = sample(root, schema)
    assert time.perf_counter() - began < 0.5
    assert len(found.children) + found.more == 30_000
    assert len(found.children) < MOST_NODES
    assert isinstance(made, dict)
    assert len(made) <= 200


@pytest.mark.parametrize(
    "text",
    [
        # 64 levels; aliases that double with each level; 100,000 values
        "s: " + "[" * 100 + "]" * 100 + "\n",
        "a: &a [x, x]\n"
        + "\n".join(f"b{i}: &b{i} [*{p}, *{p}]" for i, p in enumerate(["a", *["b0"] * 30]))
        + "\n"
        + "s: &s {x: *b0}\n"
        + "".join(f"c{i}: &c{i} [{'*b0, ' * 2000}]\n" for i in range(20)),
        "s: [" + "x, " * 100_001 + "]\n",
    ],
)
def test_hostile_documents_are_refused_in_time(text: str) -> None:
    began = time.perf_counter()
    with pytest.raises(UnusableError):
        read(text.encode(), "x", whole=True)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    ("schema", "made"),
    [
        ("{type: string}", "text"),
        ("{type: string, format: date}", "2026-01-31"),
        ("{type: string, minLength: 6}", "textxx"),
        ("{type: string, maxLength: 2}", "te"),
        ("{type: integer, minimum: 7}", 7),
        ("{type: number}", 1.5),
        ("{type: boolean}", True),
        ("{type: [null, integer]}", 1),
        ("{enum: [b, a]}", "b"),
        ("{const: 3}", 3),
        ("{type: string, default: d}", "d"),
        ("{type: array, items: {type: boolean}}", [True]),
        (
            "{allOf: [{properties: {a: {const: 1}}}, {properties: {b: {const: 2}}}]}",
            {"a": 1, "b": 2},
        ),
        ("{oneOf: [{type: integer}, {type: string}]}", 1),
        ("{properties: {a: {$ref: '#/s'}, b: {type: boolean}}}", {"b": True}),
    ],
)
def test_samples_have_the_shape_of_the_schema(schema: str, made: object) -> None:
    assert sample(*parsed(f"s: {schema}\n")) == made
