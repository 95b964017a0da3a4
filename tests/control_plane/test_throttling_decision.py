"""Decisions as messages, and as rows among those of a pull."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gw.config import entitlements
from trio_gw.config.entitlements import ApplicationRow, Change, DecisionRow, of_rows
from trio_gw.control_plane.throttling import decision as module
from trio_gw.control_plane.throttling.decision import (
    admitted,
    decision,
    expired,
    is_decision,
    with_decisions,
)

EXPIRY = 1_700_000_060_000
MESSAGE: dict[str, object] = {
    "throttleKey": "2:/websocket/1.0.0:1.0.0",
    "isThrottled": True,
    "expiryTimeStamp": EXPIRY,
    "evaluatedConditions": None,
}
ROW = DecisionRow("2:/websocket/1.0.0:1.0.0", EXPIRY)


@pytest.mark.parametrize(
    ("more", "row"),
    [
        ({}, ROW),
        ({"expiryTimeStamp": str(EXPIRY)}, ROW),
        ({"expiryTimeStamp": float(EXPIRY)}, ROW),
        ({"isThrottled": "true"}, ROW),
        ({"evaluatedConditions": "W10="}, DecisionRow(ROW.key, EXPIRY, "W10=")),
    ],
)
def test_a_decision_is_a_row(more: dict[str, object], row: DecisionRow) -> None:
    assert is_decision(MESSAGE)
    assert decision(MESSAGE | more) == Change(put=(row,))


@pytest.mark.parametrize("value", [False, "false", None, 0])
def test_a_decision_is_withdrawn(value: object) -> None:
    message = {"throttleKey": ROW.key, "isThrottled": value}
    assert decision(message) == Change(removed=(DecisionRow(ROW.key),))


@pytest.mark.parametrize(
    "more",
    [
        {"throttleKey": 7},
        {"throttleKey": ""},
        {"throttleKey": "x" * 2049},
        {"expiryTimeStamp": None},
        {"expiryTimeStamp": True},
        {"expiryTimeStamp": -1},
        {"expiryTimeStamp": 1.5},
        {"expiryTimeStamp": 1 << 60},
        {"expiryTimeStamp": "9" * 5000},
        {"expiryTimeStamp": "\u0661"},
        {"evaluatedConditions": []},
        {"evaluatedConditions": "x" * 20_000},
    ],
)
def test_malformed_decisions_are_refused(more: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"throttleKey|expiryTimeStamp|evaluatedConditions"):
        decision(MESSAGE | more)


JSON: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(st.dictionaries(st.sampled_from(list(MESSAGE)), JSON))
def test_any_message_is_a_change_or_refused(payload: dict[str, object]) -> None:
    try:
        change = decision(payload)
    except ValueError:
        return
    assert change


def test_old_decisions_are_not_added_and_replace_what_was_there() -> None:
    change = decision(MESSAGE)
    assert admitted(entitlements.NOTHING, change, EXPIRY - 1) == change
    assert not admitted(entitlements.NOTHING, change, EXPIRY)
    known = of_rows([DecisionRow(ROW.key, EXPIRY + 5)])
    assert not known.apply(admitted(known, change, EXPIRY)).decisions
    assert not admitted(entitlements.NOTHING, Change(removed=(ROW,)), 0)


def test_the_number_of_decisions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DECISIONS", 2)
    monkeypatch.setattr(module, "MAX_LARGE", 1)
    full = of_rows([DecisionRow("a", EXPIRY), DecisionRow("b", EXPIRY)])
    assert not admitted(full, Change((DecisionRow("c", EXPIRY),)), 0)
    assert admitted(full, Change((DecisionRow("b", EXPIRY + 1),)), 0)
    large = DecisionRow("b", EXPIRY + 1, "x" * 2000)
    assert not full.apply(admitted(full, Change((large,)), 0)).decisions.get("b")


def test_a_pull_keeps_the_decisions_that_hold() -> None:
    current = of_rows([ROW, DecisionRow("old", EXPIRY - 10), ApplicationRow("gone")])
    pulled = of_rows([ApplicationRow("new")])
    found = with_decisions(pulled, current, EXPIRY - 10)
    assert dict(found.decisions) == {ROW.key: ROW}
    assert list(found.applications) == ["new"]


def test_what_is_over_is_removed() -> None:
    current = of_rows([ROW, DecisionRow("old", EXPIRY - 10)])
    assert expired(current, EXPIRY - 10) == Change(removed=(DecisionRow("old", EXPIRY - 10),))
    assert not expired(current, 0)
