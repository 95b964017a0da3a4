"""The high-water mark: when it is reached, and when memory is available again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trio_gw.config.settings import Timeouts
from trio_gw.errors import Refusal
from trio_gw.guard.caps import PLACES, Caps
from trio_gw.guard.pending import Pending
from trio_gw.proxy.descriptors import DescriptorBudget
from trio_gw.proxy.memory import KEEP, STALLED, Gauge, Memory, cgroup
from trio_gw.proxy.sessions import Sessions
from trio_gw.relay.lane import Lane
from trio_gw.supervision.shared_memory import Counters

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 80 << 20


class Use:
    """Memory in use, as the test wants it."""

    def __init__(self) -> None:
        self.used = 0
        self.limit = LIMIT
        self.waiting: dict[int, int] = {}
        self.sessions = Sessions(Timeouts())
        self.pending = Pending(Caps(Counters(1, PLACES)), 0, 0)
        self.budget = DescriptorBudget(100, 100, 100)
        self.gauge = Gauge("test", lambda: self.limit, lambda: self.used)
        self.memory = Memory(
            (self.gauge,), self.sessions, self.pending, self.budget, lambda: self.waiting
        )

    def look(self, used: int) -> bool:
        self.used = used << 20
        self.memory.measure()
        return self.memory.short


async def test_above_the_mark_until_well_below_it() -> None:
    use = Use()
    assert not use.look(69)
    with use.sessions.open("a"):
        use.memory.check()
        assert use.look(71)
        with pytest.raises(Refusal) as refused:
            use.memory.check()
        assert (refused.value.status, refused.value.limit) == (503, "memory")
        assert use.look(66)  # an eighth of the limit is kept free, and half of that more
        assert not use.look(64)
        use.memory.check()


async def test_connections_are_let_in_once_there_are_fewer_though_the_system_got_nothing_back() -> (
    None
):
    use = Use()
    made = [use.sessions.open("a") for _ in range(10)]
    for one in made:
        one.__enter__()
    assert use.look(71)
    with pytest.raises(Refusal):
        use.memory.check()
    for one in made[9:]:
        one.__exit__()
    use.memory.check()
    assert use.look(72)  # and now it takes more than ever: fewer still
    with pytest.raises(Refusal):
        use.memory.check()


async def test_near_the_limit_nobody_is_accepted_and_the_silent_have_to_go() -> None:
    use = Use()
    for _ in range(KEEP + 5):
        use.pending.enter("a", lambda: None)
    use.look(71)
    assert use.budget.admits(7)
    assert use.pending.evicted == {"memory": 5}
    use.look(78)
    assert use.budget.ceiling == 0
    assert not use.budget.admits(7)
    use.look(20)
    assert use.budget.admits(7)


async def test_sessions_that_do_not_read_are_ended() -> None:
    use = Use()
    with use.sessions.open("a") as one, use.sessions.open("b") as other:
        for session in (one, other):
            session.relay(Lane(masked=True, rsv=0), Lane(masked=False, rsv=0))
        use.waiting = {id(one.publish): STALLED, id(other.publish): STALLED - 1}
        assert not use.look(10)
        assert use.memory.shed == 0
        use.look(71)
        assert one.end_requested == (1013, "gateway is short of memory")
        assert other.end_requested is None
    assert use.memory.shed == 1


async def test_a_limit_that_changes_is_followed() -> None:
    use = Use()
    assert use.look(71)
    use.limit = 0
    assert not use.look(71)
    use.limit = 100 << 20
    assert not use.look(71)


def group(folder: Path, names: tuple[str, str], limit: str, stat: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{50 << 20}\n")
    (folder / "memory.stat").write_text(stat)


def test_the_smallest_limit_of_a_cgroup_and_those_it_is_in(tmp_path: Path) -> None:
    listed, names = tmp_path / "cgroup", ("memory.max", "memory.current")
    listed.write_text("0::/a/b\n")
    assert cgroup(listed, tmp_path) is None
    stat = f"anon 1\ninactive_file {10 << 20}\nactive_file 9\n"
    group(tmp_path / "a" / "b", names, "max", stat)
    assert cgroup(listed, tmp_path) is None
    group(tmp_path / "a", names, str(LIMIT), stat)
    found = cgroup(listed, tmp_path)
    assert found is not None
    assert (found.limit(), found()) == (LIMIT, 40 << 20)
    (tmp_path / "a" / "memory.max").write_text("max\n")
    assert found.limit() == 0


def test_a_cgroup_of_version_1(tmp_path: Path) -> None:
    listed, names = tmp_path / "cgroup", ("memory.limit_in_bytes", "memory.usage_in_bytes")
    listed.write_text("5:cpu:/x\n4:memory:/gone\n")
    stat = f"cache 1\ninactive_file 7\ntotal_inactive_file {20 << 20}\n"
    group(tmp_path / "memory", names, str(2**63 - 4096), stat)
    assert cgroup(listed, tmp_path) is None
    group(tmp_path / "memory", names, str(LIMIT), stat)
    found = cgroup(listed, tmp_path)
    assert found is not None
    assert (found.limit(), found()) == (LIMIT, 30 << 20)
