"""Header fields: what may be taken apart without h11, and how they are found."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.examples import examples
from trio_gw.wire.fields import by_name, has_token, plain_fields, split_lines, tokens


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], []),
        ([b""], []),
        ([b"a"], ["a"]),
        ([b"a, b", b"c"], ["a", "b", "c"]),
        ([b" ,\ta\t,, b ,"], ["a", "b"]),
        ([b"a b"], ["a b"]),
    ],
)
def test_tokens(values: list[bytes], found: list[str]) -> None:
    assert tokens(values) == found


@pytest.mark.parametrize(
    ("values", "held"),
    [
        ([], False),
        ([b""], False),
        ([b"websocket"], True),
        ([b"WebSocket"], True),
        ([b"websockets"], False),
        ([b"h2c, webSocket"], True),
        ([b"h2c", b"websocket"], True),
        ([b"h2c websocket"], False),
        ([b"\xe9, websocket"], True),
    ],
)
def test_lists(values: list[bytes], held: bool) -> None:
    assert has_token(values, b"websocket") is held


def test_fields_are_found_by_their_names() -> None:
    found = by_name(((b"a", b"1"), (b"b", b""), (b"a", b"2")))
    assert found == {b"a": [b"1", b"2"], b"b": [b""]}


@pytest.mark.parametrize("lines", [[b"a"], [b"a", b"b"], [b"a\tb\xff", b" c"], [b"a", b"", b"b"]])
def test_lines_are_cut_at_their_ends(lines: list[bytes]) -> None:
    assert split_lines(b"\r\n".join(lines)) == lines


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"\r\n", b"a\r\n", b"a\r", b"a\n", b"a\nb", b"a\rb", b"a\rb\n", b"a\n\rb"),
        *(b"a\r\r\nb", b"a\r\n\nb", b"a\x00", b"a\x7f", b"a\x0bb", b"a\x0cb", b"a\x1cb"),
    ],
)
def test_what_is_no_whole_lines_is_not_cut(text: bytes) -> None:
    assert split_lines(text) == []


@given(st.text("\r\n\tab\x0b", max_size=8))
def test_cutting_is_undone_by_joining(text: str) -> None:
    lines = split_lines(text.encode())
    if lines:
        assert b"\r\n".join(lines) == text.encode()
    assert not any(control in line for line in lines for control in (b"\r", b"\n", b"\x0b"))


_USUAL = [b"Host: a", b"host:b ", b"X: 1", b"x:\t2 3", b"A:", b" folded", b"Content-Length: 0"]
_LINES = st.lists(
    st.one_of(
        st.sampled_from(_USUAL),
        st.binary(max_size=12).map(lambda data: b"X:" + data),
        st.binary(max_size=6).map(lambda data: b"Upgrade" + data),
        st.binary(max_size=6),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=examples(1000))
@given(_LINES)
def test_plain_fields_are_what_h11_makes_of_them(lines: list[bytes]) -> None:
    data = b"\r\n".join(lines)
    cut = split_lines(data)
    fields = plain_fields(cut) if cut else None
    http = h11.Connection(h11.SERVER)
    http.receive_data(b"\r\n".join((b"GET / HTTP/1.1", *lines, b"", b"")))
    h11_error, headers = "", None
    try:
        event = http.next_event()
        assert type(event) is h11.Request
        headers = list(event.headers)
    except h11.RemoteProtocolError as error:
        h11_error = str(error)
    # What h11 refuses is not plain, except for what it says of Host, which is counted apart.
    assert fields is None or fields == headers or "Host" in h11_error
