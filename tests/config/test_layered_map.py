"""A layered map behaves like a dictionary that is copied for each change."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trio_gw.config.layered_map import MAX_CHANGES, LayeredMap

KEYS = st.integers(0, 8)


@given(
    st.dictionaries(KEYS, st.integers()),
    st.lists(
        st.tuples(st.dictionaries(KEYS, st.integers(), max_size=3), st.lists(KEYS)), max_size=8
    ),
)
def test_any_changes(
    start: dict[int, int], changes: list[tuple[dict[int, int], list[int]]]
) -> None:
    model, made = start, LayeredMap(start)
    for put, removed in changes:
        gone = [key for key in removed if key not in put]
        before, old = made, dict(model)
        model = {key: value for key, value in model.items() if key not in gone} | put
        made = made.changed(put, gone)
        assert dict(before) == old, "the mapping before stays as it was"
    assert dict(made) == model
    assert len(made) == len(model)
    for key in range(10):
        assert made.get(key) == model.get(key)
        assert made.get(key, "other") == model.get(key, "other")
        assert (key in made) is (key in model)


def test_many_changes_are_merged() -> None:
    made: LayeredMap[int, int] = LayeredMap({-1: 0})
    for number in range(3 * MAX_CHANGES):
        made = made.changed({number: number}, [number - 2])
    assert dict(made) == {number: number for number in range(3 * MAX_CHANGES - 2, 3 * MAX_CHANGES)}
