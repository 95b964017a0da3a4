"""Patterns with `*`: their matches, and linear time for each text."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gw.config.cors import CorsSettings
from trio_gw.config.wildcards import Wildcards, fits
from trio_gw.proxy.cors_policy import CorsPolicy
from trio_gw.wire.head import RequestHead

few = st.text("ab.", max_size=8)


@given(st.text("ab.*", max_size=8), few)
def test_as_an_expression_says(pattern: str, text: str) -> None:
    expression = ".*".join(map(re.escape, pattern.split("*")))
    assert fits(pattern, text) == bool(re.fullmatch(expression, text))


@pytest.mark.parametrize("stars", [2, 3, 6])
def test_no_origin_holds_everyone_up(stars: int) -> None:
    pattern = "https://" + "*.a." * stars + "example"
    origin = b"https://" + b".a." * 5000
    head = RequestHead("GET", "/", "", "x", b"x", ((b"origin", origin),))
    policy = CorsPolicy(CorsSettings(allow_origins=(pattern,)))
    begin = time.process_time()
    assert not policy.admits(head)
    assert time.process_time() - begin < 0.05


@given(st.lists(st.text("ab.*", max_size=8), max_size=8), few)
def test_many_patterns_are_the_same_as_each_of_them(patterns: list[str], text: str) -> None:
    assert Wildcards(patterns).fit(text) == any(fits(pattern, text) for pattern in patterns)
