"""The rows of a control plane as a value: small changes, indexes, differences."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trio_gw.config.entitlements import (
    GRACE,
    ApplicationRow,
    BlockRow,
    Change,
    KeyManagerRow,
    PolicyRow,
    RevokedRow,
    Row,
    SubscriptionRow,
    difference,
    expired,
    of_rows,
)
from trio_gw.config.layered_map import MAX_CHANGES, LayeredMap
from trio_gw.guard.tokens import SKEW

KEYS = st.integers(0, 12)
STEPS = st.lists(st.tuples(st.dictionaries(KEYS, st.integers(0, 3)), st.sets(KEYS)), max_size=12)


@given(st.dictionaries(KEYS, st.integers(0, 3)), STEPS)
def test_a_layered_map_is_like_a_dictionary(
    first: dict[int, int], steps: list[tuple[dict[int, int], set[int]]]
) -> None:
    current, expected = LayeredMap(first), dict(first)
    for put, removed in steps:
        before, was = current, dict(expected)
        current = current.changed(put, removed)
        expected = {key: value for key, value in (was | put).items() if key not in removed}
        assert dict(current) == expected
        assert len(current) == len(expected)
        assert all(current.get(key) == expected.get(key) for key in range(13))
        assert dict(before) == was


def test_many_changes_become_a_new_base() -> None:
    current: LayeredMap[int, int] = LayeredMap({-1: 0})
    for number in range(MAX_CHANGES * 3):
        current = current.changed({number: number}, (number - 1,))
    assert dict(current) == {MAX_CHANGES * 3 - 1: MAX_CHANGES * 3 - 1}


def test_a_subscription_is_found_by_application_and_api() -> None:
    row = SubscriptionRow(1, "api", "app")
    value = of_rows([row])
    assert value.subscribed["app", "api"] == (1,)
    moved = value.apply(Change((SubscriptionRow(1, "api 2", "app"),)))
    assert dict(moved.subscribed) == {("app", "api 2"): (1,)}
    assert not moved.apply(Change(removed=(row,))).subscribed
    # A new subscription of the same pair may come before the old one is deleted.
    twice = value.apply(Change((SubscriptionRow(2, "api", "app"),)))
    assert twice.subscribed["app", "api"] == (1, 2)
    assert twice.apply(Change(removed=(row,))).subscribed["app", "api"] == (2,)


def test_a_policy_is_found_by_level_and_name() -> None:
    value = of_rows([PolicyRow("subscription", 1, "Gold"), PolicyRow("application", 1, "Gold")])
    renamed = value.apply(Change((PolicyRow("subscription", 1, "Silver"),)))
    assert dict(renamed.policies_by_name) == {
        ("subscription", "Silver"): (1,),
        ("application", "Gold"): (1,),
    }


def test_the_keys_of_rows() -> None:
    value = of_rows(
        [KeyManagerRow("Resident"), BlockRow("user", "Bob"), BlockRow("address", "10.0.0.9", 7)]
    )
    removed = (KeyManagerRow("RESIDENT"), BlockRow("user", "bob"), BlockRow("address", "", 7))
    assert not len(value.apply(Change(removed=removed)))


ROWS: st.SearchStrategy[list[Row]] = st.lists(
    st.one_of(
        st.builds(SubscriptionRow, st.integers(0, 5), st.sampled_from("ab"), st.sampled_from("xy")),
        st.builds(ApplicationRow, st.sampled_from("xyz"), name=st.sampled_from("mn")),
    ),
    max_size=8,
)


@given(ROWS, ROWS)
def test_a_difference_leads_to_the_other_value(first: list[Row], second: list[Row]) -> None:
    before, after = of_rows(first), of_rows(second)
    change = difference(before, after)
    reached = before.apply(change)
    assert set(map(str, reached.rows())) == set(map(str, after.rows()))
    assert not difference(reached, after)
    assert dict(reached.subscribed) == dict(after.subscribed)
    assert not difference(before, of_rows(first))


def test_a_revoked_token_is_known_while_verification_may_accept_it() -> None:
    current = of_rows([RevokedRow("t", 1000), RevokedRow("for ever")])
    skew = int(SKEW * 1000)
    assert not expired(current, 1000 + skew)
    assert expired(current, 1000 + GRACE + 1) == Change(removed=(RevokedRow("t", 1000),))
