"""Problems as operators read them, refusals as clients get them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gw.errors import (
    CloseCode,
    Ending,
    Phase,
    Problem,
    Refusal,
    Side,
    UnusableError,
    auth_refusal,
    has_errors,
    router_refusal,
)

WARNING = Problem("a/api.yaml", 3, 1, "odd", "fix it", "warning")
ERROR = Problem("a/api.yaml", 0, 0, "broken")


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (WARNING, "a/api.yaml:3: warning: odd; fix it"),
        (ERROR, "a/api.yaml: broken"),
        (Problem("f", 7, 2, "what", "hint"), "f:7: what; hint"),
        (Problem("f", 7, 2, "what"), "f:7: what"),
    ],
)
def test_a_problem_is_one_line(problem: Problem, line: str) -> None:
    assert str(problem) == line


def test_problems_sort_by_place() -> None:
    there = [Problem("a", 2, 1, "x"), Problem("a", 10, 1, "x"), Problem("b", 1, 1, "x")]
    backwards = there[::-1]
    assert sorted(backwards) == there


def test_only_errors_keep_a_file_from_being_used() -> None:
    assert not has_errors([])
    assert not has_errors([WARNING, WARNING])
    assert has_errors([WARNING, ERROR])


def test_unusable_says_all_that_is_wrong() -> None:
    error = UnusableError(problem for problem in (WARNING, ERROR))
    assert error.problems == (WARNING, ERROR)
    assert str(error) == "a/api.yaml:3: warning: odd; fix it\na/api.yaml: broken"


def test_values_are_frozen() -> None:
    for value, field in ((ERROR, "what"), (Ending(Side.CLIENT, 1000), "reason")):
        with pytest.raises(AttributeError):
            setattr(value, field, "other")


def test_codes_that_are_never_on_the_wire_have_names() -> None:
    """RFC 6455 §7.4.1."""
    assert (CloseCode.NO_STATUS, CloseCode.ABNORMAL) == (1005, 1006)


def test_phases_are_in_the_order_of_a_connection() -> None:
    order = "head route authenticate admit dial upgrade relay close"
    assert list(Phase) == order.split()


def test_router_refusal() -> None:
    """spec: routing §9."""
    refusal = router_refusal(
        404, "404", "Not Found", "The requested resource is not available.", why="no such route"
    )
    assert refusal.body == (
        b'{"code":"404","message":"Not Found",'
        b'"description":"The requested resource is not available."}\n'
    )
    assert refusal.status == 404
    assert refusal.headers == ((b"content-type", b"application/json"),)
    assert refusal.by == Side.CLIENT
    assert str(refusal) == "404 404 no such route"


def test_router_refusal_with_more_headers() -> None:
    refusal = router_refusal(
        503, "102503", "m", "d", headers=((b"retry-after", b"1"),), by=Side.BACKEND
    )
    assert refusal.headers[0] == (b"content-type", b"application/json")
    assert refusal.headers[1:] == ((b"retry-after", b"1"),)
    assert (refusal.by, refusal.why) == (Side.BACKEND, "m")


def test_auth_refusal() -> None:
    """Reference test J5, word for word."""
    refusal = auth_refusal(
        401,
        "900901",
        "Invalid Credentials",
        "Make sure you have provided the correct security credentials",
        why="secret-free",
    )
    assert refusal.body == (
        b'{"error_message":"Invalid Credentials","code":"900901","error_description":'
        b'"Make sure you have provided the correct security credentials"}'
    )
    headers = dict(refusal.headers)
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"www-authenticate"].startswith(b"Bearer realm=")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_text_breaks_a_body(text: str) -> None:
    refusal = router_refusal(400, "400", text, text)
    assert json.loads(refusal.body) == {"code": "400", "message": text, "description": text}
    assert refusal.body.count(b"\n") == 1, "one line"


def test_a_refusal_without_reason_for_the_log() -> None:
    assert str(Refusal(400, "400", b"")) == "400 400"
