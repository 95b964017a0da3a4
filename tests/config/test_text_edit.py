"""Single values change, the rest of the text stays: comments, order, quotes, indentation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_gw.config import document, text_edit
from trio_gw.config.nodes import plain_value
from trio_gw.config.text_edit import NotEditableError

if TYPE_CHECKING:
    from trio_gw.config.nodes import Plain

SAMPLE = Path(__file__).parent.parent.parent / "apis/Echo-1.0.0"
GOLDEN = Path(__file__).parent.parent / "golden"
DEFINITION = (SAMPLE / "Definitions/asyncapi.yaml").read_text()
API = (SAMPLE / "api.yaml").read_text()


def changed(text: str, path: tuple[str, ...], value: Plain) -> str:
    found = text_edit.editor(text, "f")
    found.set(path, value)
    return found.text


def difference(before: str, after: str) -> list[str]:
    """Return the changed lines, with - and +."""
    import difflib

    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


PUBLISH = ("channels", "/rooms/{roomId}", "publish")


@pytest.mark.parametrize(
    ("path", "value", "lines"),
    [
        ((*PUBLISH, "x-scopes"), ["chat:write"], ["+      x-scopes: [chat:write]"]),
        (
            (*PUBLISH, "x-uri-mapping"),
            "/r?id={uri.var.roomId}",
            [
                "-      x-uri-mapping: /rooms?room={uri.var.roomId}",
                "+      x-uri-mapping: /r?id={uri.var.roomId}",
            ],
        ),
        (
            ("channels", "/plain", "publish", "x-auth-type"),
            "None",
            ["-    publish: {}", "+    publish:", "+      x-auth-type: None"],
        ),
        (
            ("channels", "/admin", "publish", "x-scopes"),
            ["a", "b"],
            ["-      x-scopes:", "-        - echo:admin", "+      x-scopes: [a, b]"],
        ),
        (
            ("channels", "/new/{id}"),
            {"publish": {"x-trio-gw-pass-path": True}},
            ["+  /new/{id}:", "+    publish:", "+      x-trio-gw-pass-path: true"],
        ),
        (("info", "version"), "1.0.1", ["-  version: 1.0.0", "+  version: 1.0.1"]),
        (("info", "version"), "2", ["-  version: 1.0.0", '+  version: "2"']),
        (("x-trio-gw-plain-http",), True, ["+x-trio-gw-plain-http: true"]),
    ],
)
def test_one_value_changes(path: tuple[str, ...], value: Plain, lines: list[str]) -> None:
    assert difference(DEFINITION, changed(DEFINITION, path, value)) == lines


def test_a_comment_behind_a_value_stays() -> None:
    after = changed(API, ("data", "context"), "/other")
    assert difference(API, after) == [
        "-  context: /echo            # clients connect to /echo/1.0.0/<topic>",
        "+  context: /other            # clients connect to /echo/1.0.0/<topic>",
    ]
    urls: Plain = [{"url": "ws://a:1"}, {"url": "ws://b:1"}]
    after = changed(API, ("data", "endpointConfig", "production_endpoints"), urls)
    assert difference(API, after) == [
        "-      url: ws://localhost:2360    # the embedded echo backend of `trio-gw run --echo`",
        "+      - url: ws://a:1",
        "+      - url: ws://b:1",
    ]


def test_a_removed_topic_takes_its_comment_along_and_no_other() -> None:
    found = text_edit.editor(DEFINITION, "f")
    found.delete(("channels", "/rooms/{roomId}"))
    lines = difference(DEFINITION, found.text)
    assert all(line.startswith("-") for line in lines)
    assert "# Only tokens with the scope echo:admin open this one." in found.text
    assert "A parameter of the path" not in found.text
    found.delete(("channels", "/plain"))
    found.delete(("channels", "/admin"))
    assert "channels: {}" in found.text
    found.delete(("channels", "/gone"))


def test_a_renamed_topic_stays_where_it_is() -> None:
    found = text_edit.editor(DEFINITION, "f")
    found.rename(("channels", "/plain"), "/plain/{x}")
    assert difference(DEFINITION, found.text) == ["-  /plain:", "+  /plain/{x}:"]
    with pytest.raises(NotEditableError, match="already"):
        found.rename(("channels", "/admin"), "/plain/{x}")
    with pytest.raises(NotEditableError, match="there is no"):
        found.rename(("channels", "/none"), "/x")


def test_the_indentation_of_the_file_is_used() -> None:
    exported = "data:\n    tags:\n    - a\n    policies:\n    - gold\n    name: X\n"
    assert changed(exported, ("data", "tags"), [{"a": "b"}, {"c": "d"}]) == exported.replace(
        "    - a\n", "    - a: b\n    - c: d\n"
    )
    assert changed(exported, ("data", "more", "x"), "w").endswith("    more:\n        x: w\n")


def test_line_ends_and_byte_order_mark_stay() -> None:
    text = "\ufeffa: 1\r\nb:\r\n  c: x\r\n"
    assert changed(text, ("b", "d"), "w") == text + "  d: w\r\n"
    assert changed("a: x", ("a",), "z") == "a: z"


def test_braces_and_empty_values() -> None:
    assert changed("a: {b: {c: d}} # why\n", ("a", "b", "c"), "e") == "a: # why\n  b:\n    c: e\n"
    assert changed("a:\nb: c\n", ("a",), "x") == "a: x\nb: c\n"
    assert changed("a: # why\nb: c\n", ("a", "x"), 1) == "a: # why\n  x: 1\nb: c\n"
    assert changed("a: |\n  b\n  # c\nd: e\n", ("a",), "x").endswith("d: e\n")
    assert changed("'a b': \"x\" # y\n", ("a b",), "z") == "'a b': z # y\n"
    assert changed("a:\n  - b\n\n# for c\nc: d\n", ("a",), ["x"]) == "a: [x]\n\n# for c\nc: d\n"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a: &x {b: c}\nd: *x\n", ("a", "b")),
        ("a: &x\n  b: c\nd: *x\n", ("a", "b")),
        ("a: &x\n  b: c\nd: *x\n", ("d", "b")),
        ("a: &x\n  b: c\nd: *x\n", ("a",)),
        ("a: !!str c\n", ("a",)),
        ("a: {b: c,\n # lost\n d: e}\n", ("a", "b")),
        ("{a: b}\n", ("a",)),
        ("a: b\u2028c: d\n", ("a",)),
        ("a: b\n", ("a", "c")),
        ("a: [\n", ("a",)),
        ("a: " + "[" * 70 + "]" * 70, ("a",)),
        ("x: " + "y" * (256 * 1024), ("x",)),
        ('{"a":   1}', ("a",)),
    ],
)
def test_what_cannot_be_changed_is_refused(text: str, path: tuple[str, ...]) -> None:
    with pytest.raises(NotEditableError):
        changed(text, path, "z")


def test_merged_keys_are_overridden_not_changed() -> None:
    text = "x: &x\n  a: b\ny:\n  <<: *x\n  c: d\n"
    assert changed(text, ("y", "a"), "z") == text + "  a: z\n"


def test_json() -> None:
    text = '{\n  "a": {\n    "b": "c"\n  },\n  "d": 1\n}\n'
    assert changed(text, ("a", "b"), "x") == text.replace('"c"', '"x"')
    found = text_edit.editor(text, "f")
    found.rename(("a",), "z")
    found.delete(("d",))
    found.delete(("d",))
    assert found.text == '{\n  "z": {\n    "b": "c"\n  }\n}\n'
    assert changed('{"a":1}', ("a",), True) == '{"a":true}'


KEYS = st.sampled_from(
    ["a", "/b/{c}", "x-d", "1", "yes", "e f", "ü", "#g", "*", "k: v", "", "~", "-"]
)
SCALARS = st.one_of(
    st.booleans(),
    st.none(),
    st.integers(-99, 99),
    st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=9),
    st.sampled_from(["null", "1.0", "- a", "a: b", "a #b", "ws://h:1/x", "'", '"', "{", "&a"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda each: st.one_of(st.lists(each, max_size=3), st.dictionaries(KEYS, each, max_size=3)),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.lists(KEYS, min_size=1, max_size=3), VALUES), min_size=1, max_size=5))
def test_any_value_at_any_place(changes: list[tuple[list[str], Plain]]) -> None:
    """What is written is read again as the same value; else the change was refused."""
    found = text_edit.editor("# top\na: b # c\nlist:\n  - 1 # one\nend: x\n", "f")
    for path, value in changes:
        try:
            found.set(path, value)
        except NotEditableError:
            continue
        root = document.read(found.text.encode(), "f", whole=True).root
        assert plain_value(root) == found.values
        assert "# top" in found.text


@pytest.mark.parametrize("path", sorted(GOLDEN.rglob("*.yaml")), ids=lambda path: str(path.parent))
def test_the_files_of_others(path: Path) -> None:
    """A key is added at the root and removed again: the text is as it was."""
    try:
        found = text_edit.editor(path.read_text(), "f")
    except NotEditableError:
        return
    before = found.text
    found.set(("x-new", "a"), ["b"])
    assert len(difference(before, found.text)) == 2 + (not before.endswith("\n"))
    found.delete(("x-new",))
    assert found.text.rstrip("\n") == before.rstrip("\n")
