"""Windows, counters, limiters: exact in one process, within the documented bound in several."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from trio_gw.config.tiers import Tier
from trio_gw.guard import key_cells, rate_limits
from trio_gw.guard.rate_limits import Level, RateLimits
from trio_gw.guard.window_blocks import width
from trio_gw.supervision.shared_memory import LOCK_TIMEOUT, Counters, ProcessLock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.guard.counter import WindowCounter
    from trio_gw.guard.limiter import DirectionLimiter
    from trio_gw.guard.rate_limits import SessionLimiters

START = 1_700_000_040.0  # the start of a minute


class Told(list[str]):
    """The notifications about reached limits."""

    def __call__(self, counter: WindowCounter) -> None:
        self.append(counter.reason)


def make(*tiers: Tier, notified: Told | None = None, **more: Any) -> RateLimits:
    known = {tier.name: tier for tier in tiers}
    counters = more.pop("counters", None) or Counters(1, width(known))
    return RateLimits(known, Told() if notified is None else notified, counters, **more)


def limiters(of: RateLimits, *names: str, key: str = "k") -> SessionLimiters:
    found = of.limiters([Level(f"level {name}", name, key) for name in names], START)
    assert found is not None
    return found


def passing(limiter: DirectionLimiter, times: int, now: float, octets: int = 1) -> int:
    return sum(limiter.take(octets, now) is None for _ in range(times))


@pytest.mark.parametrize("action", ["drop", "close", "pause"])
@pytest.mark.parametrize("per", [1, 7, 60, 86400])
def test_exactly_so_many_events_pass_in_every_window(per: int, action: Any) -> None:
    both = limiters(make(Tier("t", 5, per=per, on_exceed=action, count="both")), "t")
    first = START // per * per
    for window in range(20):
        start = first + window * per
        passed = 0
        for step in range(20):
            limiter = (both.publish, both.subscribe)[step % 2]
            now = start + per * step / 20
            if (limit_reached := limiter.take(1, now)) is None:
                passed += 1
            else:
                assert limit_reached == (start + per, action, "level t limit t exceeded", True)
        assert passed == 5


def test_sessions_of_one_key_share_a_quota_and_other_keys_do_not() -> None:
    made = make(Tier("t", 5, count="both"))
    one, two, other = limiters(made, "t"), limiters(made, "t"), limiters(made, "t", key="other")
    assert len(made) == 2
    assert passing(one.publish, 3, START) == 3
    assert passing(two.subscribe, 3, START) == 2
    assert passing(other.publish, 9, START) == 5
    unused = limiters(made, "t", key="unused")
    assert len(made) == 3
    del one, two, other, unused
    assert len(made) == 2, "what was notified of is kept, and nothing else"
    assert passing(limiters(made, "t").publish, 9, START) == 0, "counts outlive their sessions"


def test_a_limit_is_told_of_once_a_window_whoever_comes_and_goes() -> None:
    notified = Told()
    made = make(Tier("t", 1, count="both"), notified=notified)
    for _ in range(3):
        assert passing(limiters(made, "t").publish, 2, START) <= 1
    assert len(notified) == 1
    assert passing(limiters(made, "t").publish, 2, START + 60) == 1
    assert len(notified) == 2


def test_few_quotas_are_kept_for_that() -> None:
    made = make(Tier("t", 1))
    for key in range(rate_limits.MOST_FULL + 10):
        passing(limiters(made, "t", key=str(key)).publish, 2, START)
    assert len(made) == rate_limits.MOST_FULL


def test_bytes_pass_up_to_the_message_that_reaches_the_limit() -> None:
    limiter = limiters(make(Tier("t", 3072, octets=True)), "t").publish
    assert passing(limiter, 10, START, 1024) == 3
    assert passing(limiter, 10, START + 60, 1025) == 3
    assert limiter.take(1 << 30, START + 120) is None
    assert limiter.take(0, START + 120) is not None


def test_further_frames_count_in_bytes_only() -> None:
    made = make(Tier("b", 100, octets=True), Tier("e", 3))
    limiter = limiters(made, "b", "e").publish
    assert limiter.take(10, START) is None
    limiter.add(90, START)
    assert limiter.take(1, START).reason == "level b limit b exceeded"  # type: ignore[union-attr]
    events = limiters(made, "e", key="fresh").publish
    assert events.take(1, START) is None
    for _ in range(9):
        events.add(1, START)
    assert passing(events, 9, START) == 2


def test_the_first_level_without_room_decides_and_nothing_is_counted_elsewhere() -> None:
    notified = Told()
    made = make(Tier("a", 2), Tier("b", 4, on_exceed="close"), notified=notified)
    limiter = limiters(made, "a", "b").publish
    assert passing(limiter, 9, START) == 2
    assert limiter.take(1, START) == (START + 60, "drop", "level a limit a exceeded", True)
    assert passing(limiters(made, "b").publish, 9, START) == 2, "what a refused, b has not counted"
    assert notified == ["level a limit a exceeded", "level b limit b exceeded"]


def test_a_limit_is_told_once_a_window() -> None:
    notified = Told()
    limiter = limiters(make(Tier("t", 1), notified=notified), "t").publish
    for window in range(3):
        passing(limiter, 5, START + 60 * window)
        assert len(notified) == window + 1


def test_a_burst_is_for_who_kept_to_the_limit_before() -> None:
    limiter = limiters(make(Tier("t", 5, burst=3)), "t").publish
    passed = [passing(limiter, 20, START + 60 * window) for window in range(4)]
    assert passed == [8, 5, 8, 5]
    assert passing(limiter, 6, START + 240) == 6
    assert passing(limiter, 20, START + 300) == 7, "of the burst one was used up"
    assert passing(limiter, 20, START + 600) == 8


@pytest.mark.parametrize(
    ("count", "publish", "subscribe"),
    [("each", 3, 3), ("both", 3, 0), ("publish", 3, 9), ("subscribe", 9, 3)],
)
def test_which_direction_counts(count: Any, publish: int, subscribe: int) -> None:
    both = limiters(make(Tier("t", 3, count=count)), "t")
    assert passing(both.publish, 9, START) == publish
    assert passing(both.subscribe, 9, START) == subscribe


def test_no_gate_where_nothing_limits() -> None:
    made = make(Tier("none"), Tier("lenient", 5, stop_on_quota=False), Tier("t", 5))
    assert made.limiters([Level("a", "none", "k"), Level("b", "lenient", "k")], START) is None
    assert made.limiters([Level("a", "", "k"), Level("b", "unknown", "k")], START) is None


def test_only_drop_lets_messages_vanish() -> None:
    made = make(Tier("d", 1), Tier("c", 1, on_exceed="close"), Tier("p", 1, on_exceed="pause"))
    assert limiters(made, "c", "d").drops
    assert not limiters(made, "c", "p").drops


def test_tiers_of_different_windows_do_not_take_each_others_cells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(key_cells, "PAIRS", 1)
    monkeypatch.setattr(key_cells, "SHARED_PAIRS", 1)
    made = make(Tier("minute", 5, count="publish"), Tier("day", 5, per=86400, count="publish"))
    minute, day = limiters(made, "minute").publish, limiters(made, "day").publish
    for _ in range(5):
        assert minute.take(1, START) is None
        assert day.take(1, START) is None
    assert (passing(minute, 5, START), passing(day, 5, START)) == (0, 0)
    assert passing(limiters(made, "minute", key="other").publish, 5, START) == 5
    assert passing(limiters(made, "minute", key="third").publish, 5, START) == 0, "shares a count"


def test_counts_of_windows_long_ago_do_not_count() -> None:
    limiter = limiters(make(Tier("t", 5, per=1)), "t").publish
    for gap in (1, 2, 3, 1000, 1 << 20, (1 << 24) - 1):
        assert passing(limiter, 9, START + gap) == 5


def test_a_full_count_stays_full() -> None:
    limiter = limiters(make(Tier("t", 1 << 38, octets=True)), "t").publish
    assert limiter.take(1 << 62, START) is None
    limiter.add(1 << 62, START)
    assert limiter.take(1, START) is not None
    assert limiter.take(1, START + 60) is None


def test_a_process_that_is_replaced_goes_on_with_the_count() -> None:
    tier = Tier("t", 5)
    counters = Counters(2, width({"t": tier}))
    assert passing(limiters(make(tier, counters=counters, index=1), "t").publish, 3, START) == 3
    assert passing(limiters(make(tier, counters=counters, index=1), "t").publish, 9, START) == 2
    assert passing(limiters(make(tier, counters=counters, index=0), "t").publish, 9, START) == 0


def test_a_chunk_fits_or_counts_nothing() -> None:
    limiter = limiters(make(Tier("t", 10)), "t").publish
    assert limiter.fits(6, 600, START)
    assert not limiter.fits(5, 1, START)
    assert limiter.fits(4, 400, START)
    assert limiter.fits(0, 400, START), "frames of messages that have begun"
    assert not limiter.fits(1, 0, START)
    assert limiter.fits(10, 0, START + 60)


def test_a_chunk_of_bytes_fits_if_its_last_message_is_sure_to() -> None:
    limiter = limiters(make(Tier("t", 100, octets=True)), "t").publish
    assert limiter.fits(2, 99, START)
    assert not limiter.fits(2, 1, START), "the second one would come too late"
    assert limiter.take(1, START) is None
    assert limiter.fits(0, 1 << 30, START)
    assert not limiter.fits(1, 0, START)
    for octets in (1 << 38, (1 << 63) + 65_535):
        assert not limiter.fits(1, octets, START + 60)
    assert limiter.take((1 << 63) - 1, START + 60) is None, "one message may be of any size"
    assert limiter.take(0, START + 60) is not None


def test_a_chunk_has_to_fit_every_level() -> None:
    made = make(Tier("a", 3), Tier("b", 9))
    limiter = limiters(made, "a", "b").publish
    assert not limiter.fits(4, 4, START)
    assert limiter.fits(3, 3, START)
    assert passing(limiters(made, "b").publish, 20, START) == 6


PROCESSES, WINDOWS = 4, 20


def _hammer(made: RateLimits, index: int, ready: int, go: int) -> bytes:
    """Ask in each window until nothing remains; returns the amounts that passed."""
    passed = []
    limiter = limiters(made, "t").publish
    dice = random.Random(index)
    for window in range(WINDOWS):
        os.write(ready, b".")
        assert os.read(go, 1) == b"!"
        count, now = 0, START + 60 * window
        while True:
            chunk = dice.randrange(1, 100)  # messages of one octet each
            if limiter.fits(chunk, chunk, now):
                count += chunk
            elif limiter.take(1, now) is None:
                count += 1
            else:
                break
        passed.append(count)
    return b"".join(count.to_bytes(4, "big") for count in passed)


@pytest.mark.parametrize("limit", [10, 1000, 20_000])
@pytest.mark.parametrize("octets", [False, True], ids=["events", "bytes"])
def test_processes_count_together_and_exactly(limit: int, octets: bool) -> None:
    tier = Tier("t", limit, octets=octets)
    assert _counted(tier, Counters(PROCESSES, width({"t": tier}))) == [limit] * WINDOWS


@pytest.fixture
def counters() -> Counters:
    """Counters of several processes."""
    return Counters(PROCESSES, width({"t": Tier("t", 1)}))


@pytest.fixture
def holder(counters: Counters) -> Iterator[int]:
    """A child process that is stopped while it holds the lock of the counters: its id."""
    if (pid := os.fork()) == 0:
        with counters.lock:
            os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.fixture
def stopped(counters: Counters, holder: int) -> Counters:
    """Counters of several processes, one of which is stopped while it holds their lock."""
    assert holder
    return counters


@pytest.mark.parametrize(("limit", "octets"), [(10, False), (1000, False), (1000, True)])
def test_never_does_more_pass_while_one_is_stopped(
    stopped: Counters, limit: int, octets: bool
) -> None:
    """At the limit each process may refuse one message too many, but not more."""
    for passed in _counted(Tier("t", limit, octets=octets), stopped):
        assert limit - PROCESSES < passed <= limit


def test_who_is_stopped_is_waited_for_once(stopped: Counters) -> None:
    tier = Tier("t", 1000)
    limiter = limiters(make(tier, counters=stopped), "t").publish
    began = time.monotonic()
    assert passing(limiter, 2000, START) == 1000  # about 200 of them need the lock
    assert LOCK_TIMEOUT <= time.monotonic() - began < 10 * LOCK_TIMEOUT


def test_a_lock_that_was_stuck_is_one_again(stopped: Counters, holder: int) -> None:
    """When its holder has ended or continues, processes count under the lock again."""
    with stopped.lock:
        assert not _free(stopped)
    assert not _free(stopped)
    os.kill(holder, signal.SIGCONT)
    os.waitid(os.P_PID, holder, os.WEXITED | os.WNOWAIT)
    with stopped.lock:
        assert not _free(stopped)
    assert _free(stopped)


def _free(counters: Counters) -> bool:
    """Ask from another process whether the lock is free."""
    assert isinstance(counters.lock, ProcessLock)
    if (pid := os.fork()) == 0:
        try:
            fcntl.lockf(counters.lock._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _counted(tier: Tier, counters: Counters) -> list[int]:
    """Let several processes ask until nothing remains; returns what passed in each window."""
    ready, tell_ready = os.pipe()
    children = []
    for index in range(PROCESSES):
        go, tell_go = os.pipe()
        result, tell_result = os.pipe()
        if (pid := os.fork()) == 0:
            code = 1
            try:
                made = make(tier, counters=counters, index=index)
                os.write(tell_result, _hammer(made, index, tell_ready, go))
                code = 0
            finally:
                os._exit(code)
        os.close(tell_result)
        children.append((pid, tell_go, result))
    for _ in range(WINDOWS):
        for _ in children:
            assert os.read(ready, 1) == b"."
        for _, tell_go, _ in children:
            os.write(tell_go, b"!")
    results = []
    for pid, tell_go, result in children:
        assert os.waitpid(pid, 0)[1] == 0
        data = os.read(result, 4 * WINDOWS)
        results.append([int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 4)])
        os.close(tell_go)
        os.close(result)
    os.close(ready)
    os.close(tell_ready)
    return [sum(result[window] for result in results) for window in range(WINDOWS)]


def test_every_message_that_does_not_pass_is_heard_of_once() -> None:
    wait = Tier("wait", 4, on_exceed="pause", per=120, count="both")
    made = make(Tier("drop", 2, count="both"), wait)
    listeners: list[str] = []
    both = limiters(made, "wait", "drop")
    both.add_listeners(
        lambda counter, messages: listeners.extend([counter.tier.name] * messages),
        lambda _, messages: listeners.extend(["back"] * messages),
    )
    assert passing(both.publish, 5, START) == 2
    assert listeners == ["drop"] * 3
    assert passing(both.publish, 2, START + 60) == 2
    for again in (False, True, True, True):
        assert both.publish.take(1, START + 61, again) is not None
    assert listeners == ["drop"] * 3 + ["wait"], "one message, asked_window about four times"
    assert passing(both.subscribe, 1, START + 61) == 0
    assert listeners[4:] == ["back"]
    assert both.publish.take(1, START + 120, again=True) is None
    assert passing(both.publish, 1, START + 120) == 1
    assert passing(both.publish, 2, START + 120) == 0
    assert listeners[5:] == ["drop"] * 2, "one that had waited has passed meanwhile"
    both.publish.drop(50)
    assert listeners[7:] == ["drop"] * 50


@pytest.mark.parametrize("processes", [1, 2])
def test_only_who_counts_alone_knows_that_a_verdict_lasts(processes: int) -> None:
    """Near the limit, other processes take back counts that do not fit."""
    tier = Tier("t", 1)
    limiter = limiters(make(tier, counters=Counters(processes, width({"t": tier}))), "t").publish
    assert limiter.take(0, START) is None
    verdict = limiter.take(0, START)
    assert verdict is not None
    assert verdict.lasts == (processes == 1)
