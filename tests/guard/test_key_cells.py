"""Cells of keys: separate for each key, in one process and in several, and a full table."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trio_gw.config.tiers import Tier
from trio_gw.guard import key_cells
from trio_gw.guard.rate_limits import Level, RateLimits
from trio_gw.guard.window_blocks import width
from trio_gw.supervision.shared_memory import Counters

if TYPE_CHECKING:
    from trio_gw.guard.limiter import DirectionLimiter

START = 1_700_000_040.0  # the start of a minute
KEYS = 10_000
PROCESSES = 3


def limits_of(tier: Tier, counters: Counters, index: int = 0) -> RateLimits:
    return RateLimits({"t": tier}, lambda _: None, counters, index)


def counters_for(tier: Tier, processes: int = 1) -> Counters:
    return Counters(processes, width({"t": tier}))


def limiter(limits: RateLimits, key: object, now: float = START) -> DirectionLimiter:
    found = limits.limiters([Level("API", "t", str(key))], now)
    assert found is not None
    return found.publish


def passing(limits: RateLimits, key: object, times: int, now: float = START) -> int:
    one = limiter(limits, key, now)
    return sum(one.take(1, now) is None for _ in range(times))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make tables with four pairs."""
    monkeypatch.setattr(key_cells, "PAIRS", 4)
    monkeypatch.setattr(key_cells, "SHARED_PAIRS", 2)


def test_none_of_many_keys_is_throttled_by_another() -> None:
    tier = Tier("t", 1, count="publish")
    limits = limits_of(tier, counters_for(tier))
    for expected in (1, 0):
        passed = [passing(limits, key, 1) for key in range(KEYS)]
        assert passed == [expected] * KEYS
    assert limits.shared == 0


def test_none_of_many_keys_is_throttled_by_another_across_processes() -> None:
    """Each process lets one message of each key pass, in its own order; then all are refused."""
    tier = Tier("t", PROCESSES, count="publish")
    counters = counters_for(tier, PROCESSES)
    children = []
    for index in range(PROCESSES):
        if (pid := os.fork()) == 0:
            code = 1
            try:
                limits = limits_of(tier, counters, index)
                keys = sorted(range(KEYS), key=lambda key: key * (index + 1) * 7919 % KEYS)
                code = 0 if all(passing(limits, key, 1) for key in keys) else 2
            finally:
                os._exit(code)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * PROCESSES
    limits = limits_of(tier, counters)
    assert sum(passing(limits, key, 1) for key in range(KEYS)) == 0
    assert limits.shared == 0


@pytest.mark.usefixtures("small")
def test_a_full_table_shares_and_says_so() -> None:
    tier = Tier("t", 5, count="publish")
    limits = limits_of(tier, counters_for(tier))
    assert [passing(limits, key, 3) for key in range(4)] == [3] * 4
    assert limits.shared == 0
    assert passing(limits, "more", 5) == 5
    assert limits.shared == 1
    assert [passing(limits, key, 3) for key in range(4)] == [2] * 4, "the others keep their counts"
    assert passing(limits, "more", 5) == 0, "and it keeps its own"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("windows", "shared"), [(1, 1), (2, 0)], ids=["burst needs it", "free"])
def test_pairs_that_count_nothing_are_given_to_other_keys(windows: int, shared: int) -> None:
    tier = Tier("t", 5, count="publish")
    limits = limits_of(tier, counters_for(tier))
    for key in range(4):
        passing(limits, key, 5)
    assert passing(limits, "next", 9, START + 60 * windows) == 5
    assert limits.shared == shared


@pytest.mark.usefixtures("small")
def test_the_pair_of_a_key_in_use_is_never_given_away() -> None:
    tier = Tier("t", 5, count="publish")
    limits = limits_of(tier, counters_for(tier))
    kept = limiter(limits, "kept")
    for window in range(20):
        now = START + 600 * window
        for key in range(4):
            passing(limits, f"{window} {key}", 5, now)
        assert sum(kept.take(1, now) is None for _ in range(9)) == 5


@pytest.mark.usefixtures("small")
def test_another_process_notices_that_a_pair_has_a_new_key() -> None:
    tier = Tier("t", 5, count="publish")
    counters = counters_for(tier, 2)
    one, two = (limits_of(tier, counters, index) for index in range(2))
    reading = limiter(two, "first")
    assert passing(one, "first", 3) == 3
    assert sum(reading.take(1, START) is None for _ in range(9)) == 2
    later = START + 600
    for key in range(4):
        assert passing(one, key, 5, later) == 5
    assert one.shared == 0
    assert sum(reading.take(1, later) is None for _ in range(9)) == 5


@pytest.mark.usefixtures("small")
def test_a_key_that_gets_a_pair_takes_its_count_along() -> None:
    tier = Tier("t", 5, count="publish", burst=5)
    limits = limits_of(tier, counters_for(tier))
    kept = [limiter(limits, key) for key in range(4)]
    assert passing(limits, "guest", 8) == 8
    assert limits.shared == 1
    del kept[0]
    assert passing(limits, "guest", 8, START + 60) == 7, "three of the burst were used before"
    assert limits.shared == 1


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.integers(0, PROCESSES - 1),
            st.integers(0, 7),  # a key
            st.integers(1, 4),  # messages
            st.integers(0, 2),  # windows that pass first
        ),
        max_size=60,
    ),
    st.booleans(),
)
def test_never_does_more_pass_than_the_limit(
    steps: list[tuple[int, int, int, int]], roomy: bool
) -> None:
    """This also holds in a table that is too small. In a large table the whole limit passes."""
    tier = Tier("t", 5, count="publish")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_cells, "PAIRS", 8 if roomy else 3)
        patch.setattr(key_cells, "SHARED_PAIRS", 2)
        counters = counters_for(tier, PROCESSES)
        every = [limits_of(tier, counters, index) for index in range(PROCESSES)]
        asked: Counter[tuple[int, int]] = Counter()
        passed: Counter[tuple[int, int]] = Counter()
        window = 0
        for index, key, messages, later in steps:
            window += later
            asked[window, key] += messages
            passed[window, key] += passing(every[index], key, messages, START + 60 * window)
    for what, count in asked.items():
        assert passed[what] == min(count, 5) if roomy else passed[what] <= 5
