"""The rate limit of `/.wellknown/jwks`."""

from __future__ import annotations

from trio_gw.proxy.builtin import RequestWindow


def test_so_many_within_so_long() -> None:
    window = RequestWindow(3, 10.0)
    assert [window.admit(5.0 + number) for number in range(5)] == [0, 0, 0, 7, 6]
    assert window.admit(14.5) == 0.5
    # When they are over, everything begins anew.
    assert [window.admit(15.0) for _ in range(4)] == [0, 0, 0, 10]


def test_a_long_silence_saves_nothing_up() -> None:
    window = RequestWindow(1, 10.0)
    assert window.admit(0.0) == 0
    assert window.admit(1000.0) == 0
    assert window.admit(1000.0) == 10.0
