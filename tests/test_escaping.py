"""Nothing from outside hides, reorders or ends a line, and in JSON it stays what it was."""

from __future__ import annotations

import json
import sys
import unicodedata

import msgspec
import pytest

from trio_gw.admin.json_responses import json_response
from trio_gw.cli.common import aligned
from trio_gw.errors import auth_refusal, router_refusal
from trio_gw.escaping import escape, escape_json
from trio_gw.telemetry import families
from trio_gw.telemetry.metrics import Metrics

HIDDEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
EVERY = "".join(map(chr, range(sys.maxunicode + 1)))
WHOLE = "".join(letter for letter in EVERY if unicodedata.category(letter) != "Cs")
TRICK = "a\u202eb\u0085c\u2028d\U000e0041e\ufffef\x7f"


def hidden(text: str) -> set[str]:
    return {
        letter
        for letter in text
        if unicodedata.category(letter) in HIDDEN
        or ord(letter) & 0xFFFE == 0xFFFE
        or 0xFDD0 <= ord(letter) <= 0xFDEF
    }


def test_every_character_in_a_line() -> None:
    shown = escape(EVERY)
    assert hidden(shown) == {"\t"}
    shown.encode()
    assert len(shown.splitlines()) == 1
    assert "\u00fc\u4e2d\U0001f600" in escape("\u00fc\u4e2d\U0001f600")


@pytest.mark.parametrize("indent", [None, 1])
def test_every_character_in_json(indent: int | None) -> None:
    value = {"name": WHOLE, WHOLE[:500]: [WHOLE[-500:]]}
    encoded = json.dumps(value, ensure_ascii=False, indent=indent).encode()
    escaped = escape_json(encoded)
    assert hidden(escaped.decode()) <= {"\n"}
    assert json.loads(escaped) == value
    assert msgspec.json.decode(escaped) == value


def test_json_without_such_characters_is_left_alone() -> None:
    for text in ("plain", "\u00fc \u4e2d \U0001f600"):
        encoded = msgspec.json.encode([text])
        assert escape_json(encoded) == encoded


def test_bodies_of_answers() -> None:
    bodies = (
        bytes(json_response({"reason": TRICK}).body),
        router_refusal(404, "1", TRICK, TRICK).body,
        auth_refusal(401, "1", TRICK, TRICK, why="").body,
    )
    for body in bodies:
        assert hidden(body.decode()) <= {"\n"}
        assert TRICK in json.loads(body).values()


def test_labels_of_metrics() -> None:
    metrics = Metrics()
    metrics.add(families.OPENED, (TRICK, "1", "/t"))
    text = metrics.exposition().decode()
    assert hidden(text) == {"\n"}
    assert "u202eb" in text


def test_tables_stay_aligned() -> None:
    lines = aligned([("name", "next"), (TRICK, "x")]).split("\n")
    assert hidden("".join(lines)) == set()
    assert lines[0].index("next") == lines[1].index("x", len(escape(TRICK)))
