"""Reading one file: values, places, hostile content, and the conversion into Structs."""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gw.config import document
from trio_gw.config.convert import MAX_TEXT, convert
from trio_gw.config.findings import MAX_FINDINGS, Findings
from trio_gw.config.node_builder import IncompleteError
from trio_gw.errors import Problem, UnusableError, has_errors


def read(text: str) -> document.Document:
    return document.read(text.encode(), "f.yaml")


def refused(data: bytes | str) -> Problem:
    with pytest.raises(UnusableError) as caught:
        document.read(data.encode() if isinstance(data, str) else data, "f.yaml")
    (problem,) = caught.value.problems
    assert problem.file == "f.yaml"
    assert problem.severity == "error"
    assert problem.hint
    return problem


# --- values ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("Null", None),
        ("NULL", None),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("None", "None"),
        ("12", 12),
        ("-3", -3),
        ("+4", 4),
        ("1.10", "1.10"),
        ("1e3", "1e3"),
        ("0x10", "0x10"),
        (".inf", ".inf"),
        ("2022-08-03", "2022-08-03"),
        ("9" * 19, "9" * 19),
        ("'12'", "12"),
        ('"true"', "true"),
        ('""', ""),
        ("!!str 12", "12"),
        ("!!int 12", 12),
        ("! 12", "12"),
        ("|\n  a\n  b\n", "a\nb\n"),
        ("[1, a, [~]]", [1, "a", [None]]),
        ("{b: {c: 1}}", {"b": {"c": 1}}),
        ("*x", "anchored"),
    ],
)
def test_scalars_of_yaml(written: str, value: object) -> None:
    assert read(f"x: &x anchored\na: {written}\n").value() == {"x": "anchored", "a": value}


def test_json_keeps_the_text_of_numbers() -> None:
    found = read('{"a": 1.10, "b": 7, "c": [true, false, null], "d": "1.10", "e": {}, "f": []}')
    assert found.value() == {
        "a": "1.10",
        "b": 7,
        "c": [True, False, None],
        "d": "1.10",
        "e": {},
        "f": [],
    }


def test_json_numbers_of_any_length_are_read() -> None:
    assert read(f'{{"a": {"9" * 5000}, "b": -{"9" * 18}}}').value() == {
        "a": "9" * 5000,
        "b": -int("9" * 18),
    }


def test_a_byte_order_mark_is_accepted() -> None:
    assert document.read(b"\xef\xbb\xbfa: 1\n", "f").value() == {"a": 1}
    assert document.read(b'\xef\xbb\xbf{"a": 1}', "f").value() == {"a": 1}
    assert "JSON" in refused(b'\xef\xbb\xbf{"a": 1,}').what


def test_yaml_may_begin_with_blank_lines_comments_and_a_marker() -> None:
    assert read("\n# hello\n---\na: 1\n...\n").value() == {"a": 1}


def test_the_first_character_decides_between_json_and_yaml() -> None:
    assert read(' \r\n\t{"a": "\\u00e9"}').value() == {"a": "é"}
    assert "JSON" in refused("{a: 1}").what


def test_merge_keys() -> None:
    found = read(
        "one: &one {a: 1, b: 1}\n"
        "two: &two {b: 2, c: 2}\n"
        "x: {<<: *one, b: 9}\n"
        "y:\n  <<: [*two, *one]\n  d: 4\n"
        "z: {<<: *one, <: 5}\n"
        'w: {"<<": 6}\n'
    )
    assert found.value(("x",)) == {"a": 1, "b": 9}
    assert found.value(("y",)) == {"a": 1, "b": 2, "c": 2, "d": 4}
    assert found.value(("z",)) == {"a": 1, "b": 1, "<": 5}
    assert found.value(("w",)) == {"<<": 6}


@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.text(),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner),
            max_leaves=20,
        ),
    )
)
def test_every_json_object_reads_back(value: dict[str, Any]) -> None:
    for indent in (None, 2):
        text = json.dumps(value, indent=indent)
        assert document.read(text.encode(), "f").value() == value


# --- places ---------------------------------------------------------------------------------

YAML = """\
data:
  Name: Chat
  list:
    - one
    - url: two
  empty:
"""
JSON = """\
{
  "data": {"Name": "Chat",
    "list": ["one",
             {"url": "two"}],
    "empty": null}
}
"""


@pytest.mark.parametrize(
    ("path", "yaml_place", "json_place"),
    [
        ((), (1, 1), (1, 1)),
        (("data",), (2, 3), (2, 11)),
        (("data", "Name"), (2, 9), (2, 20)),
        (("data", "name"), (2, 9), (2, 20)),
        (("data", "list", 0), (4, 7), (3, 14)),
        (("data", "list", 1, "url"), (5, 12), (4, 22)),
        (("data", "empty"), (6, 9), (5, 14)),
        # Missing: the nearest key above, or the item of a list.
        (("data", "missing"), (1, 1), (2, 3)),
        (("data", "missing", "more", 3), (1, 1), (2, 3)),
        (("data", "list", 1, "nothing"), (5, 7), (4, 14)),
        (("data", "list", 7), (3, 3), (3, 5)),
        (("nothing",), (1, 1), (1, 1)),
    ],
)
def test_place(
    path: tuple[str | int, ...], yaml_place: tuple[int, int], json_place: tuple[int, int]
) -> None:
    assert read(YAML).place(path) == yaml_place
    assert read(JSON).place(path) == json_place


def test_an_exact_key_is_found_before_one_of_another_case() -> None:
    found = read("NAME: 1\nname: 2\n")
    assert found.value(("name",)) == 2
    assert found.value(("NAME",)) == 1
    assert found.value(("Name",)) == 1
    assert found.value(("other",)) is None


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: b: c\n", (1, 5), "second `:`"),
        ("a: 1\nver\n", (2, 1), "`:` was expected"),
        ("a:\n\tb: 1\n", (2, 1), "a tab"),
        ("a: @x\n", (1, 4), "cannot begin with `@`"),
        ("b: 1\na: 'x\n", (2, 4), "never closed"),
        ("a: [1,\n", (1, 1), "a value was expected"),
        ("a: [1 2\nb: 3]\n", (2, 2), "`,` or `]`"),
        ("a: {b: 1\nc: ]\n", (2, 2), "`,` or `}`"),
        ("- a\nb: 1\n", (2, 1), "list item"),
        ("a: 1\n}\n", (2, 1), "a key was expected"),
        ('a: "\\q"\n', (1, 5), "escape"),
        ("a: !x!y z\n", (1, 4), "tags"),
        ("%YAML 9.0\n---\na: 1\n", (1, 1), "incompatible"),
        ('{"a": 1,}\n', (1, 8 if sys.version_info >= (3, 13) else 9), "JSON syntax"),
        ('{"a": 1\n "b": 2}\n', (2, 2), "JSON syntax"),
        ('{"a": 1} x\n', (1, 10), "extra data"),
        ('{"a": "x\n', (1, 9), "invalid control character"),
        ('{"a": "x', (1, 7), "unterminated string"),
        ('{"a": 01}', (1, 8), "JSON syntax"),
        ("{", (1, 2), "JSON syntax"),
        ("just text\n", (1, 1), "without keys"),
        ("'just text'\n", (1, 1), "without keys"),
    ],
)
def test_broken_syntax_names_the_place_and_may_be_incomplete(
    text: str, place: tuple[int, int], words: str
) -> None:
    problem = refused(text)
    assert (problem.line, problem.column) == place
    assert words in problem.what
    with pytest.raises(IncompleteError):
        read(text)


@pytest.mark.parametrize("text", ["", " \n\t", "# only a comment\n", "---\n", "~\n", "null"])
def test_an_empty_file_may_be_incomplete(text: str) -> None:
    assert "empty" in refused(text).what
    with pytest.raises(IncompleteError):
        read(text)


@pytest.mark.parametrize(
    "text",
    [
        "a: /x // where: it is\n",
        "d:\n  // where\n  e: 1\n",
        "d:\n  n: 1\n  // where\n  e: 1\n",
    ],
)
def test_a_syntax_error_beside_slashes_says_what_comments_are(text: str) -> None:
    assert "YAML comments start with `#`" in refused(text).hint


def test_a_syntax_error_beside_a_url_says_nothing_of_comments() -> None:
    assert "comments" not in refused("a: ws://host: x\n").hint


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{key}: &{key} [{','.join(['*' + before] * 10)}]\n"
    for before, key in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGE_BOMB = (
    "a: &a {"
    + ", ".join(f"k{n}: 1" for n in range(1000))
    + "}\n"
    + "".join(f"m{n}: {{<<: *a}}\n" for n in range(100))
)


def test_a_depth_that_the_parser_has_a_bound_for_too() -> None:
    """The depth at which it fails depends on its version; the problem does not."""
    problem = refused("a: " + "[" * 100_000)
    assert problem.line == 1
    assert problem.column >= 67
    assert "64 levels" in problem.what


@pytest.mark.parametrize(
    ("data", "place", "words"),
    [
        pytest.param("- " * 100_000, (1, 129), "64 levels", id="deep block"),
        pytest.param('{"a":' * 100_000, (1, 321), "64 levels", id="deep json"),
        pytest.param('{"a":' + "[" * 63 + "[" + "]" * 64 + "}", (1, 69), "64 levels", id="65"),
        pytest.param("a: &a " + "[" * 40 + "]" * 40 + "\nb: " + "[" * 30 + "*a" + "]" * 30,
                     (2, 34), "64 levels", id="deep through an alias"),
        pytest.param(BOMB, (5, 29), "100,000 values", id="bomb"),
        pytest.param(MERGE_BOMB, (50, 11), "100,000 values", id="merge bomb"),
        pytest.param("a:\n" + "- 1\n" * 100_000, (99_999, 3), "100,000 values", id="wide yaml"),
        pytest.param('{"a":[' + "1,\n" * 100_000 + "1]}", (99_998, 1), "100,000 values", id="wide"),
        ("a: &a\n  b: *a\n", (2, 6), "inside its own anchor"),
        ("a: &a [*a]\n", (1, 8), "inside its own anchor"),
        ("a: 1\nb: *a\n", (2, 4), "has no anchor"),
        ("a: 1\nb: 2\na: 3\n", (3, 1), "lines 1 and 3"),
        ("x:\n  '1': 1\n  1: 2\n", (3, 3), "lines 2 and 3"),
        ("x: {a: 1,\n a: 2}\n", (2, 2), "lines 1 and 2"),
        ("o: &o {}\n<<: *o\n<<: *o\n", (3, 1), "lines 2 and 3"),
        ('{"a": 1,\n "a": 2}', (2, 2), "lines 1 and 2"),
        ('{"a": 1,\n "\\u0061": 2}', (2, 2), "lines 1 and 2"),
        ("a: 1\n---\nb: 2\n", (2, 1), "second document"),
        ("a: 1\n---\n---\n- 1\n", (3, 1), "second document"),
        ("a: 1\n---\n''\n", (2, 1), "second document"),
        ("? [a]\n: 1\n", (1, 3), "cannot be a key"),
        ("{[a]: 1}".replace("{", "x: {"), (1, 5), "cannot be a key"),
        ("a: &a [1]\n*a : 2\n", (2, 1), "cannot be a key"),
        ("<<: 3\n", (1, 1), "only merge mappings"),
        ("<<: [{a: 1}, 3]\n", (1, 1), "only merge mappings"),
        ("a: !secret x\n", (1, 4), "tag `!secret`"),
        ("a: !!python/object:os.system x\n", (1, 4), "`!!python/object:os.system`"),
        ("a: !!set {b}\n", (1, 4), "`!!set`"),
        ("a: !!binary eA==\n", (1, 4), "`!!binary`"),
        ("- a\n- b\n", (1, 1), "a list"),
        ('[{"a": 1}]', (1, 1), "a list"),
        ('{"a": NaN}', (1, 7), "`NaN` is not JSON"),
        ('{"a":\n [-Infinity]}', (2, 3), "`-Infinity` is not JSON"),
        ('{"a": "\\ud800"}', (1, 7), "surrogate"),
        (b"\xff\xfea\x00:\x00", (1, 1), "UTF-16"),
        (b"\xfe\xff\x00a\x00:", (1, 1), "UTF-16"),
        (b"a\x00:\x00 \x001\x00\n", (1, 2), "U+0000"),
        (b"a: 1\nbc\x07: 1\n", (2, 3), "U+0007"),
        (b"a: 1\r\nb: \x7f", (2, 4), "U+007F"),
        (b"a: 1\nb: \xe9t\xe9\n", (2, 4), "not UTF-8"),
        (b"\x89PNG\r\n\x1a\n", (1, 1), "not UTF-8"),
        (b"a: \xed\xa0\x80\n", (1, 4), "not UTF-8"),
        pytest.param(b"#" * (document.MAX_SIZE + 1), (0, 0), "2,097,152", id="huge"),
    ],
)  # fmt: skip
def test_hostile_content_is_refused(data: str | bytes, place: tuple[int, int], words: str) -> None:
    problem = refused(data)
    assert (problem.line, problem.column) == place
    assert words in problem.what
    with pytest.raises(UnusableError) as caught:
        document.read(data.encode() if isinstance(data, str) else data, "f.yaml")
    assert not isinstance(caught.value, IncompleteError)


@pytest.mark.parametrize("data", [b"a: \xc3", b"a: 1\n\0\0\0\0"])
def test_a_file_cut_within_a_character_or_padded_may_be_incomplete(data: bytes) -> None:
    with pytest.raises(IncompleteError):
        document.read(data, "f")


def test_what_stands_just_within_the_bounds_is_read() -> None:
    read("a: " + "[" * 63 + "]" * 63)
    read('{"a":' + "[" * 63 + "]" * 63 + "}")
    anchored = "a: &a " + "[" * 33 + "]" * 33 + "\nb: "
    read(anchored + "[" * 30 + "*a" + "]" * 30)
    assert "64 levels" in refused(anchored + "[" * 31 + "*a" + "]" * 31).what
    read("a:\n" + "- 1\n" * 99_997)
    assert document.read(b"a: 1" + b"\n" * (document.MAX_SIZE - 4), "f").value() == {"a": 1}


# --- conversion ------------------------------------------------------------------------------


class Inner(msgspec.Struct, frozen=True):
    url: str = "none"


class Outer(msgspec.Struct, frozen=True, rename="camel"):
    name: str = "unnamed"
    version: str = ""
    is_default: bool = False
    number: int = 0
    one_or_many: Inner | tuple[Inner, ...] | None = None
    texts: tuple[str, ...] = ()
    table: dict[str, str] | None = None
    channels: dict[str, Inner | None] | None = None
    loose: Any = None
    inner: Inner = Inner("default")


def converted(text: str) -> tuple[Outer, list[tuple[int, str, str]]]:
    findings = Findings(read(text))
    value = convert(Outer, findings)
    assert all(problem.hint and problem.file == "f.yaml" for problem in findings.problems)
    return value, [(each.line, each.severity, each.what) for each in findings.problems]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 1.10\n", Outer(version="1.10")),
        ("version: 1\n", Outer(version="1")),
        ("version: 01\n", Outer(version="01")),
        ("version: true\n", Outer(version="true")),
        ("version: '1.0'\n", Outer(version="1.0")),
        ('{"version": 1.10}', Outer(version="1.10")),
        ('{"version": 1e3}', Outer(version="1e3")),
        ("version:\nname: ~\n", Outer()),
        ("NAME: x\nISDEFAULT: TRUE\n", Outer(name="x", is_default=True)),
        ("Name: x\nunknown: [1, {}]\n", Outer(name="x")),
        ("number: 12\n", Outer(number=12)),
        ("oneOrMany: {URL: u}\n", Outer(one_or_many=Inner("u"))),
        ("oneOrMany: [{url: u}, {}]\n", Outer(one_or_many=(Inner("u"), Inner("none")))),
        ("oneOrMany: []\n", Outer(one_or_many=())),
        ("texts: [a, 1, true, '']\n", Outer(texts=("a", "1", "true", ""))),
        ("table: {B: 1, a: x}\n", Outer(table={"B": "1", "a": "x"})),
        ("table: {a: 1, A: 2}\n", Outer(table={"a": "1", "A": "2"})),
        ("channels: {/a: {url: u}, /b: }\n", Outer(channels={"/a": Inner("u"), "/b": None})),
        ("loose: {a: [1, x // y]}\n", Outer(loose={"a": [1, "x // y"]})),
        ("inner:\n", Outer()),
        ("base: &b {url: u}\ninner: *b\n", Outer(inner=Inner("u"))),
    ],
)
def test_conversion(text: str, expected: Outer) -> None:
    assert converted(text) == (expected, [])


@pytest.mark.parametrize(
    ("text", "expected", "line", "what"),
    [
        ("x: 1\nversion: [1]\n", Outer(), 2, "`version` must be text, this is a list"),
        ("version: {}\n", Outer(), 1, "`version` must be text, this is a mapping"),
        ("isDefault: 'true'\n", Outer(), 1, "`isDefault` must be `true` or `false`, this is text"),
        ("isDefault: 1\n", Outer(), 1, "`isDefault` must be `true` or `false`, this is a number"),
        ("number: x\n", Outer(), 1, "`number` must be a whole number, this is text"),
        ("number: true\n", Outer(), 1,
         "`number` must be a whole number, this is `true` or `false`"),
        ("oneOrMany: x\n", Outer(), 1, "`oneOrMany` must be a list or a mapping, this is text"),
        ("oneOrMany:\n - {url: u}\n - 3\n", Outer(one_or_many=(Inner("u"),)), 3,
         "`oneOrMany[1]` must be a mapping, this is a number"),
        ("oneOrMany: [{url: []}]\n", Outer(one_or_many=(Inner(),)), 1,
         "`url` must be text, this is a list"),
        ("texts: a\n", Outer(), 1, "`texts` must be a list, this is text"),
        ("texts: [a, ~]\n", Outer(texts=("a",)), 1, "`texts[1]` must be text, this is empty"),
        ("table: {a: }\n", Outer(table={}), 1, "`a` must be text, this is empty"),
        ("channels:\n  /a: 3\n", Outer(channels={}), 2, "`/a` must be a mapping, this is a number"),
        ("inner: []\n", Outer(), 1, "`inner` must be a mapping, this is a list"),
        ("name: a\nversion: 1\nNAME: b\n", Outer(name="a", version="1"), 3,
         "`name` on line 1 and `NAME` on line 3 are the same key: upper and lower case do not"
         " matter"),
        (f"name: {'x' * (MAX_TEXT + 1)}\n", Outer(), 1,
         "`name` has 8,193 characters, more than 8,192"),
    ],
)  # fmt: skip
def test_conversion_names_the_fault_and_goes_on(
    text: str, expected: Outer, line: int, what: str
) -> None:
    assert converted(text) == (expected, [(line, "error", what)])


def test_conversion_reports_every_fault_in_the_order_of_the_file() -> None:
    _, problems = converted("texts: [[]]\nversion: []\ninner: {url: {}}\nname: {}\n")
    assert [line for line, _, _ in problems] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("/ws     // where", Outer(version="/ws")),
        ("/ws //", Outer(version="/ws")),
        ("/ws\t//x", Outer(version="/ws")),
        ("1.10 // one", Outer(version="1.10")),
        ("ws://host/a // b // c", Outer(version="ws://host/a")),
        ("// nothing", Outer()),
    ],
)
def test_slashes_after_a_plain_value_are_cut_with_a_warning(written: str, expected: Outer) -> None:
    value, ((line, severity, what),) = converted(f"x: 1\nversion: {written}\n")
    assert value == expected
    assert (line, severity) == (2, "warning")
    assert "`version` is followed by `//`" in what
    assert what.endswith(f"read as `{expected.version}`")


def test_slashes_are_cut_before_a_value_is_typed() -> None:
    value, problems = converted("isDefault: true // yes\nnumber: 3 // three\ninner: // none\n")
    assert value == Outer(is_default=True, number=3)
    assert [(line, severity) for line, severity, _ in problems] == [
        (1, "warning"),
        (2, "warning"),
        (3, "warning"),
    ]


@pytest.mark.parametrize(
    "written", ["ws://host/path", "a//b", "//host/x", "'a // b'", '"a // b"', "|-\n  a // b"]
)
def test_other_slashes_belong_to_the_value(written: str) -> None:
    value, problems = converted(f"version: {written}\n")
    assert value.version == written.strip("'\"|-\n ")
    assert problems == []


def test_slashes_in_json_belong_to_the_value() -> None:
    assert converted('{"version": "a // b"}') == (Outer(version="a // b"), [])


def test_a_flood_of_problems_is_cut() -> None:
    _, problems = converted("texts:\n" + "- []\n" * 1000)
    assert len(problems) == MAX_FINDINGS + 1
    assert problems[-1][2] == "900 more problems are not shown"


def test_a_flood_of_warnings_is_no_error_and_hides_none() -> None:
    findings = Findings(read("x: y\n"))
    for number in range(1000):
        findings.warn(("x",), f"w{number}", "m")
    assert not has_errors(findings.problems)
    assert "900" in findings.problems[-1].what
    findings.error(("x",), "e", "m")
    assert [one.what for one in findings.problems if one.severity == "error"] == ["e"]


def test_findings_know_what_is_spoilt() -> None:
    findings = Findings(read("data: {list: [{url: 1}]}\n"))
    findings.warn(("data", "other"), "w", "m")
    findings.error(("data", "list", 0), "e", "m")
    assert findings.spoilt(())
    assert findings.spoilt(("data",))
    assert findings.spoilt(("data", "list", 0))
    assert findings.spoilt(("data", "list", 0, "url"))
    assert not findings.spoilt(("data", "list", 1))
    assert not findings.spoilt(("data", "other"))


def test_convert_at_a_path() -> None:
    findings = Findings(read("data: {inner: {url: u}, bad: 3}\n"))
    assert convert(Inner, findings, ("data", "inner")) == Inner("u")
    assert convert(Inner, findings, ("data", "missing")) == Inner()
    assert not findings.problems
    assert convert(Inner, findings, ("data", "bad")) == Inner()
    said = "\n".join(map(str, findings.problems))
    assert said.startswith("f.yaml:1: `bad` must be a mapping, this is a number; ")
