"""Regular expressions in bounded time: the same results as `re`, also for hostile patterns."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gw.guard import pattern_syntax, patterns
from trio_gw.guard.pattern_syntax import UnsupportedPatternError
from trio_gw.guard.patterns import Budget, Pattern, compiled


def found(expression: str, text: str) -> bool:
    return Pattern(expression).found_in(text, Budget())


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("abc", "xabcx"),
        ("^abc$", "abc"),
        ("^abc$", "xabc"),
        ("a|b", "xbx"),
        ("^(?:GET|POST)$", "POST"),
        ("Mozilla/[0-9.]+", "Mozilla/5.0 (X11)"),
        (r"\d{3}-\d{4}", "call 555-1234"),
        (r"^\w+@example\.com$", "alice@example.com"),
        (r"^\w+@example\.com$", "alice@exampleXcom"),
        ("[^a-c]", "abc"),
        ("[]x]", "]"),
        ("[a-]", "-"),
        (r"[\d_]+$", "x_1"),
        ("a{2,3}b", "aab"),
        ("a{2,3}b", "ab"),
        ("a{2,}", "aaaa"),
        ("^a?$", ""),
        ("^(ab)*$", "ababab"),
        ("^(ab)*$", "ababa"),
        ("x*?y", "xxy"),
        ("", "anything"),
        ("(?i)curl", "CURL/8"),
        (r"a\.b\t", "a.b\t"),
        ("^.$", "\n"),
    ],
)
def test_answers_are_those_of_re(expression: str, text: str) -> None:
    assert found(expression, text) is (re.search(expression, text) is not None)


ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\w", r"\d", "(a|b)", "(?:ab)", "^", "$"])
QUANTIFIERS = st.sampled_from(["", "*", "+", "?", "{2}", "{1,2}"])
PARTS = st.tuples(ATOMS, QUANTIFIERS).filter(lambda part: part[0] not in "^$" or not part[1])


@given(
    st.lists(st.lists(PARTS, max_size=4), min_size=1, max_size=3),
    st.text("ab1\n", max_size=8),
)
def test_any_expression_answers_as_re(alternatives: list[list[tuple[str, str]]], text: str) -> None:
    expression = "|".join("".join(map("".join, parts)) for parts in alternatives)
    # Here `$` matches only at the end of the text; in `re` also before a final line feed.
    expected = re.search(expression.replace("$", r"\Z"), text) is not None
    assert found(expression, text) is expected


@pytest.mark.parametrize(
    "expression",
    [
        *("(", ")", "a)", "(a", "*", "+a", "a**", "a*+", "[", "[a", "a{", "a{2", "a{3,2}", "\\"),
        *("(?=a)", "(?!a)", "(?<a>b)", r"(a)\1", r"\b", r"\p{L}", "[[:alpha:]]", "[b-a]"),
        *("a{9999}", "a{300}", "(a{20}){20}", "(" * 40 + ")" * 40, "x" * 513, "[a&&b]"),
        "[" + "a-b" * (pattern_syntax.MAX_RANGES + 1) + "]",
    ],
)
def test_what_is_wrong_or_not_supported_is_refused(expression: str) -> None:
    with pytest.raises(UnsupportedPatternError):
        Pattern(expression)
    assert compiled(expression) is None


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_text_raises_another_error(expression: str, text: str) -> None:
    if (pattern := compiled(expression)) is not None:
        pattern.found_in(text, Budget())


@pytest.mark.parametrize("expression", ["(a+)+$", "(a|a)*$", "(a*)*b", "(.*)(.*)(.*)(.*)x$"])
def test_a_hostile_expression_costs_no_more_than_its_budget(expression: str) -> None:
    budget = Budget(5000)
    # `re` needs exponential time for some of them.
    assert not Pattern(expression).found_in("a" * 1000 + "!", budget)
    assert budget.left > -patterns.MAX_STATES * 2


@pytest.mark.parametrize("empty", ["()", "(?:)", "(|)", "()()"])
def test_a_repeated_empty_group_costs_nothing(empty: str) -> None:
    # Written out, this would be 10 ** 20 groups.
    expression = f"((((({empty}){{9999}}){{9999}}){{9999}}){{9999}}){{9999}}"
    assert compiled(expression) is None or found(expression, "a")


def test_a_text_that_is_too_long_does_not_match() -> None:
    assert found("a", "a" * patterns.MAX_TEXT)
    assert not found("a", "a" * (patterns.MAX_TEXT + 1))
