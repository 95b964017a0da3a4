"""The state of the control plane as a value."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trio_gw.config.entitlements import Change, RevokedRow, SubscriptionRow, of_rows
from trio_gw.control_plane.state import (
    EMPTY_STATE,
    PART,
    Artifact,
    StateChange,
    difference,
    placed,
    state_of,
    withdrawn,
)

A, B = ("Default", "localhost"), ("Edge", "edge.example")

ROWS = st.lists(st.integers(0, 3), max_size=3).map(
    lambda keys: tuple(SubscriptionRow(key, timestamp=number) for number, key in enumerate(keys))
)
APIS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 2), max_size=2)


@st.composite
def changes(draw: st.DrawFn) -> StateChange:
    """Make a change of a few rows and APIs."""
    artifacts = {
        uuid: (Artifact(uuid, "", str(digest), (A,)),) * bool(digest)
        for uuid, digest in draw(APIS).items()
    }
    return StateChange(Change(draw(ROWS), draw(ROWS)), artifacts, float(draw(st.integers(0, 2))))


CHANGES = st.lists(changes(), max_size=5)


@given(CHANGES)
def test_many_changes_at_once_are_like_one_after_the_other(steps: list[StateChange]) -> None:
    state = EMPTY_STATE
    for change in steps:
        state = state.apply(change)
    together = EMPTY_STATE.apply_all(steps)
    assert not difference(state, together)
    assert not difference(EMPTY_STATE.apply(state.as_change()), state)


@given(CHANGES, CHANGES)
def test_the_difference_leads_from_one_state_to_the_other(
    some: list[StateChange], others: list[StateChange]
) -> None:
    before, after = EMPTY_STATE.apply_all(some), EMPTY_STATE.apply_all(others)
    found = before.apply(difference(before, after))
    assert dict(found.artifacts) == dict(after.artifacts)
    assert not difference(found, after).rows


def test_a_large_change_comes_in_parts() -> None:
    rows = tuple(SubscriptionRow(number) for number in range(PART * 2 + 1))
    gone = tuple(RevokedRow(str(number)) for number in range(PART + 1))
    artifacts: dict[str, tuple[Artifact, ...]] = {
        str(number): (Artifact(str(number), "", ""),) for number in range(PART + 1)
    }
    change = StateChange(Change(rows, gone), artifacts, 7.0)
    parts = list(change.parts())
    assert max(len(each.rows.put) + len(each.rows.removed) for each in parts) == PART
    assert max(len(each.artifacts) for each in parts) == PART
    assert [each.pulled_at for each in parts] == [0.0] * (len(parts) - 1) + [7.0]
    assert not difference(EMPTY_STATE.apply_all(parts), EMPTY_STATE.apply(change))


def test_a_small_change_is_one_part() -> None:
    change = StateChange(Change((SubscriptionRow(1),), (RevokedRow("t"),)), {}, 1.0)
    assert list(change.parts()) == [change]


def test_the_last_of_two_revisions_on_a_vhost_counts() -> None:
    first = Artifact("a", "1", "", (A, ("Other", "localhost")))
    second = Artifact("a", "2", "", (A,))
    state = state_of(of_rows(()), [first, second], 1.0)
    there = (A, ("Other", "localhost"))
    assert state.artifacts["a"] == (Artifact("a", "2", "", there),)


def test_two_vhosts_may_have_two_revisions() -> None:
    first, second = Artifact("a", "1", "", (A,)), Artifact("a", "2", "", (B,))
    assert placed((first,), (second,)) == (first, second)
    assert withdrawn((first, second), ["Edge"]) == (first,)
    assert withdrawn((first, second), ["Edge", "Default"]) == ()


def test_an_environment_moves_to_another_vhost() -> None:
    before = (Artifact("a", "1", "", (A, B)),)
    moved = Artifact("a", "2", "", (("Default", "new.example"),))
    assert placed(before, (moved,)) == (Artifact("a", "1", "", (B,)), moved)


def test_digests_of_all_artifacts() -> None:
    found = [Artifact("a", "1", "d1", (A,)), Artifact("a", "2", "d2", (B,))]
    assert state_of(of_rows(()), found, 1.0).digests() == {"d1", "d2"}
