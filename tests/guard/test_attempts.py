"""Failed log-ins: the delay, which clients an address stands for, and the bound on memory."""

from __future__ import annotations

import pytest

from trio_gw.guard.attempts import FORGOTTEN, FREE, LONGEST, Attempts


def ask(attempts: Attempts, address: str = "a", at: float = 0.0) -> float:
    """Begin an attempt and end it immediately."""
    wait = attempts.begin(address, at)
    if not wait:
        attempts.end(address)
    return wait


def fail(attempts: Attempts, times: int, address: str = "a", at: float = 0.0) -> None:
    for _ in range(times):
        attempts.failed(address, at)


def test_the_first_failures_are_free() -> None:
    attempts = Attempts()
    fail(attempts, FREE - 1)
    assert ask(attempts, "a", 0.0) == 0.0
    attempts.failed("a", 0.0)
    assert ask(attempts, "a", 0.0) == 1.0
    assert ask(attempts, "a", 0.75) == 0.25
    assert ask(attempts, "b", 0.0) == 0.0


def test_each_wait_is_twice_the_last_up_to_the_longest() -> None:
    attempts = Attempts()
    fail(attempts, FREE)
    now, waits = 0.0, []
    for _ in range(12):
        wait = ask(attempts, "a", now)
        waits.append(wait)
        now += wait
        assert ask(attempts, "a", now) == 0.0
        attempts.failed("a", now)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, LONGEST, LONGEST, LONGEST]


def test_many_failures_do_not_overflow() -> None:
    attempts = Attempts()
    fail(attempts, 5000)
    assert ask(attempts, "a", 0.0) == LONGEST


def test_attempts_at_once_do_not_get_around_the_wait() -> None:
    attempts = Attempts()
    fail(attempts, 2)
    begun = [attempts.begin("a", 0.0) for _ in range(6)]
    assert begun == [0, 0, 0, 1, 1, 1]  # together with the two before, as many as are free of delay
    assert ask(attempts, "b") == 0
    for _ in range(3):
        attempts.failed("a", 0.0)
        attempts.end("a")
    assert attempts.begin("a", 0.5) == 0.5
    assert attempts.begin("a", 1.0) == 0.0
    assert attempts.begin("a", 1.0) == 1.0  # from now on only one at a time
    attempts.end("a")
    assert attempts.begin("a", 1.0) == 0.0


def test_a_success_ends_the_wait_but_not_the_count() -> None:
    attempts = Attempts()
    fail(attempts, FREE)
    assert ask(attempts, "a", 1.0) == 0.0  # this one succeeds
    assert ask(attempts, "a", 1.0) == 0.0
    attempts.failed("a", 1.0)
    assert ask(attempts, "a", 1.0) == 2.0


def test_nothing_is_kept_of_attempts_that_are_over() -> None:
    attempts = Attempts()
    for number in range(1000):
        assert ask(attempts, str(number)) == 0.0
    assert len(attempts) == 0


def test_a_quiet_address_is_forgotten() -> None:
    attempts = Attempts()
    fail(attempts, FREE + 20)
    assert ask(attempts, "a", FORGOTTEN - 1) == 0.0
    assert len(attempts) == 1
    assert ask(attempts, "a", FORGOTTEN) == 0.0
    assert len(attempts) == 0


def test_the_table_is_bounded_and_keeps_who_failed_last() -> None:
    attempts = Attempts(max_addresses=3)
    for number in range(1000):
        fail(attempts, FREE, f"10.0.{number // 256}.{number % 256}")
        fail(attempts, 1, "192.0.2.1")
        assert len(attempts) <= 3
    assert ask(attempts, "192.0.2.1", 0.0) == LONGEST
    assert ask(attempts, "10.0.0.0", 0.0) == 0.0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("not an address", "not an address", True),
        ("", "unix", False),
    ],
)
def test_who_an_address_stands_for(one: str, other: str, same: bool) -> None:
    attempts = Attempts()
    fail(attempts, FREE, one)
    assert (ask(attempts, other, 0.0) > 0) == same
