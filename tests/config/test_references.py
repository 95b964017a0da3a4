"""`$ref` inside a document: which references are followed, and that cycles end."""

from __future__ import annotations

import re

import pytest

from trio_gw.config import document, references
from trio_gw.config.faults import WrongError
from trio_gw.config.findings import Findings
from trio_gw.config.nodes import MAX_NODES, Mapping, Scalar
from trio_gw.config.references import RefPlaces

LEAF = RefPlaces(True, {})
EACH = RefPlaces(False, {"*": LEAF})
PLACES = RefPlaces(False, {"here": EACH})


def follow(
    text: str, *, strict: bool = True, places: RefPlaces = PLACES
) -> tuple[object, list[str]]:
    findings = Findings(document.read(text.encode(), "f"))
    references.follow(findings, places, strict=strict)
    said = [f"{each.line}:{each.severity}: {each.what}" for each in findings.problems]
    return findings.document.value(("here",)), said


# -- pointers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "steps"),
    [
        ("#", ()),
        ("#/a/b", ("a", "b")),
        ("#/channels/~1rooms~1{id}", ("channels", "/rooms/{id}")),
        ("#/a~0b~01", ("a~b~1",)),
        ("#/a%20b%2Fc", ("a b", "c")),
        ("#/%C3%BC", ("ü",)),
        ("#/", ("",)),
        ("#//a/", ("", "a", "")),
    ],
)
def test_pointers(reference: str, steps: tuple[str, ...]) -> None:
    assert references.pointer(reference) == steps


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("", "points out of this file"),
        ("other.yaml#/a", "points out of this file"),
        ("https://a.example/x", "points out of this file"),
        ("#a", "is not a JSON pointer"),
        ("#/a~2", "is not a JSON pointer"),
        ("#/a~", "is not a JSON pointer"),
        ("#/%C3", "is not percent-encoded UTF-8"),
        ("#/%zz", "is not percent-encoded UTF-8"),
    ],
)
def test_pointers_that_are_none(reference: str, words: str) -> None:
    with pytest.raises(WrongError, match=words) as caught:
        references.pointer(reference)
    assert caught.value.hint


# -- following -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("here: {a: {$ref: '#/there/x'}}\nthere: {x: {k: 1}}", {"k": 1}),
        ("here: {a: {$ref: '#/l/1'}}\nl: [0, {k: 2}]", {"k": 2}),
        ("here: {a: {$ref: '#/x'}}\nx: {$ref: '#/y'}\ny: {k: 3}", {"k": 3}),
        ("here: {a: {$ref: '#/x/k'}}\nx: {$ref: '#/y'}\ny: {k: 4}", 4),
        ("here: {a: {$ref: '#/x', description: d, summary: s}}\nx: {k: 5}", {"k": 5}),
        ("here: {a: {k: 6}}", {"k": 6}),
        (
            "here: {a: {deep: {$ref: '#/x'}}}\nx: 7",
            {"deep": {"$ref": "#/x"}},
        ),  # a reference is not allowed here
    ],
)
def test_followed(text: str, found: object) -> None:
    value, problems = follow(text)
    assert (value, problems) == ({"a": found}, [])


def test_a_problem_in_what_was_put_in_names_its_own_line() -> None:
    findings = Findings(document.read(b"here: {a: {$ref: '#/x'}}\n\nx: {k: 1}", "f"))
    references.follow(findings, PLACES, strict=True)
    assert findings.document.place(("here", "a", "k")) == (3, 8)


WRONG = [
    ("here: {a: {$ref: '#/x'}}", "points to nothing"),
    ("here: {a: {$ref: '#/l/2'}}\nl: [0, 1]", "points to nothing"),
    ("here: {a: {$ref: '#/l/01'}}\nl: [0, 1]", "points to nothing"),
    ("here: {a: {$ref: '#/x/y'}}\nx: text", "points to nothing"),
    ("here: {a: {$ref: '#/here/a'}}", "goes round in a circle"),
    ("here: {a: {$ref: '#/x'}}\nx: {$ref: '#/y'}\ny: {$ref: '#/x'}", "goes round in a circle"),
    ("here: {a: {$ref: '#/x/y'}}\nx: {$ref: '#/x/y'}", "goes round in a circle"),
    ("here: {a: {$ref: other.yaml}}", "points out of this file"),
    ("here: {a: {$ref: [1]}}", "points out of this file"),
]


@pytest.mark.parametrize(("text", "words"), WRONG)
@pytest.mark.parametrize("strict", [True, False])
def test_what_cannot_be_followed_is_left_out(text: str, words: str, strict: bool) -> None:
    value, problems = follow(text, strict=strict)
    assert value == {}
    (said,) = problems
    assert said.startswith(f"1:{'error' if strict else 'warning'}: ")
    assert words in said


def test_keys_beside_a_reference() -> None:
    """AsyncAPI 3 allows none. In AsyncAPI 2 the reference system reads them."""
    text = "here: {a: {$ref: '#/x', k: 1}}\nx: {k: 2}"
    assert follow(text)[0] == {}
    value, problems = follow(text, strict=False)
    assert value == {"a": {"$ref": "#/x", "k": 1}}
    assert "is next to `$ref`" in problems[0]


def test_items_of_a_list_keep_their_indexes() -> None:
    places = RefPlaces(False, {"here": RefPlaces(False, {"*": LEAF})})
    text = "here: [{$ref: '#/x'}, {$ref: '#/gone'}, {k: 3}]\nx: {k: 1}"
    value, problems = follow(text, places=places)
    assert value == [{"k": 1}, {"$ref": "#/gone"}, {"k": 3}]
    assert len(problems) == 1


# -- bounds ----------------------------------------------------------------------------------


def chain(length: int) -> str:
    links = "".join(f"x{n}: {{$ref: '#/x{n + 1}'}}\n" for n in range(length))
    return f"here: {{a: {{$ref: '#/x0'}}}}\n{links}x{length}: 1\n"


def test_a_chain_is_followed_so_far() -> None:
    assert follow(chain(references.MAX_HOPS - 1)) == ({"a": 1}, [])
    value, problems = follow(chain(references.MAX_HOPS + 1))
    assert value == {}
    assert re.search("on and on", problems[0])


def test_many_uses_of_something_large_are_bounded() -> None:
    size = 2000
    uses = MAX_NODES // size + 5
    text = "here:\n" + "".join(f"  u{n}: {{$ref: '#/big'}}\n" for n in range(uses))
    text += "big: [" + ", ".join(["1"] * size) + "]\n"
    value, problems = follow(text)
    assert isinstance(value, dict)
    assert 0 < len(value) < uses
    assert f"more than {MAX_NODES:,} values" in problems[0]


def test_look() -> None:
    root = document.read(b"a: {$ref: '#/b'}\nb: 1\nc: {$ref: '#/gone'}", "f").root
    a, b, c = (root.entries[name].node for name in "abc")
    assert isinstance(root, Mapping)
    assert isinstance(b, Scalar)
    assert references.look(root, a) is b
    assert references.look(root, b) is b
    assert references.look(root, c) is None
