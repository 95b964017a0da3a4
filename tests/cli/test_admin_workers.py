"""The admin API of a gateway with three real workers: any of them answers for all."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest
import trio

from support.admin_workers import CLIENTS, AdminWorkers, connected, start_admin_workers

if TYPE_CHECKING:
    from pathlib import Path

    from support.commands import Serving


@pytest.fixture
async def group(base: Path, running: list[Serving], nursery: trio.Nursery) -> AdminWorkers:
    return await start_admin_workers(base, running, nursery)


async def test_connections_of_all_workers_are_listed_in_one_order(group: AdminWorkers) -> None:
    async with connected(group) as clients:
        for _ in range(4):
            found = await group.get("/admin/connections")
            assert (found["total"], found["matching"], found["missing"]) == (CLIENTS, CLIENTS, [])
            listed = found["connections"]
            assert {one["worker"] for one in listed} == {1, 2, 3}
            names = [one["request"].rpartition("/")[2] for one in listed]
            assert sorted(names) == sorted(f"c{number}" for number in range(CLIENTS))
            ages = [one["seconds"] for one in listed]
            assert ages == sorted(ages, reverse=True)
        for _ in range(9):
            await clients[7].send("again")
            await clients[7].recv()
        (found,) = (await group.get("/admin/connections?sort=messages&limit=1"))["connections"]
        assert found["request"] == "GET /one/1.0.0/t/c7"
        assert found["publish"] == {"messages": 10, "frames": 10, "bytes": 10 * 11}
        found = await group.get("/admin/connections?match=T%2FC1")
        assert (found["total"], found["matching"]) == (CLIENTS, 3)  # c1, c10, c11
        assert len(found["connections"]) == 3


async def test_the_busiest_come_first(group: AdminWorkers, nursery: trio.Nursery) -> None:
    async with connected(group) as clients:

        async def chatter() -> None:
            while True:
                await clients[5].send("x" * 1000)
                await clients[5].recv()

        nursery.start_soon(chatter)
        found = await group.get("/admin/connections?sort=rate&limit=2&sample=300")
        first, second = found["connections"]
        assert first["request"].endswith("/c5")
        assert first["publish"]["messages_per_second"] > 1
        ratio = first["publish"]["bytes_per_second"] / first["publish"]["messages_per_second"]
        assert ratio == pytest.approx(1008, rel=0.01)  # to the frame, and both ways alike
        assert second["publish"]["bytes_per_second"] == 0
        nursery.cancel_scope.cancel()


async def test_one_is_closed_wherever_it_is(group: AdminWorkers) -> None:
    async with connected(group) as clients:
        for listed in (await group.get("/admin/connections"))["connections"]:
            path = f"/admin/connections/{listed['id']}"
            answer = await group.ask(f"{path}?code=4001&reason=enough", "DELETE")
            assert (answer.status, answer.body) == (200, b"")
        with trio.fail_after(10):
            for client in clients:
                await client.wait_closed()
                assert (client.close_code, client.close_reason) == (4001, "enough")
        assert (await group.ask(path, "DELETE")).status == 404


async def test_stats_add_up_and_survive_a_worker(group: AdminWorkers) -> None:
    async with connected(group):
        stats = await group.get("/admin/stats")
        (row,) = stats["apis"]
        assert (row["api"], row["version"], row["open"], row["opened"]) == (
            *("One", "1.0.0"),
            *(CLIENTS, CLIENTS),
        )
        sizes = {"messages": CLIENTS, "frames": CLIENTS}
        assert row["in"] == {**sizes, "bytes": CLIENTS * 11}
        assert row["out"] == {**sizes, "bytes": CLIENTS * 7}
        assert [one["state"] for one in stats["workers"]] == ["ready"] * 3
        assert sum(one["connections"] for one in stats["workers"]) == CLIENTS
        assert sum(one["accepted"] for one in stats["workers"]) == CLIENTS
        later = await group.get("/admin/stats")
        assert 0 < later["clock"] - stats["clock"] < 20
        assert later["uptime"] > stats["uptime"]
        lost = stats["workers"][1]["connections"]
        await hold(group, 1)
        os.kill(group.pids[1], signal.SIGKILL)
        await group.says("was killed by SIGKILL")
        await group.says(" worker 2 trio_gw: ready", 2)
        (row,) = (await group.get("/admin/stats"))["apis"]
        assert row["opened"] == CLIENTS
        assert row["open"] == CLIENTS - lost
        assert row["in"]["messages"] == CLIENTS


async def hold(group: AdminWorkers, place: int) -> None:
    """Stop a worker in the middle of whatever it does, once it has shown what it counted."""
    while True:
        os.kill(group.pids[place], signal.SIGSTOP)
        stats = await group.get("/admin/stats")
        assert stats["missing"] == [place + 1]
        if stats["apis"][0]["in"]["messages"] == CLIENTS:
            return
        os.kill(group.pids[place], signal.SIGCONT)
        while (await group.get("/admin/stats"))["missing"]:
            pass


async def test_a_worker_without_an_answer_is_named(group: AdminWorkers) -> None:
    async with connected(group):
        await hold(group, 2)
        try:
            found = await group.get("/admin/connections")
            assert found["missing"] == [3]
            assert {one["worker"] for one in found["connections"]} == {1, 2}
            (problem,) = await group.get("/admin/problems")
            assert (problem["file"], problem["severity"]) == ("worker 3", "warning")
            answer = await group.ask("/admin/connections/nobody", "DELETE")
            assert answer.status == 503
            assert "worker 3 did not respond" in json.loads(answer.body)["message"]
            # From then on it is named without being asked.
            await group.says("has not responded for 3 s")
            found = await group.get("/admin/connections")
            assert found["missing"] == [3]
            assert {one["worker"] for one in found["connections"]} == {1, 2}
            states = {
                one["worker"]: one["state"] for one in (await group.get("/admin/stats"))["workers"]
            }
            assert states == {1: "ready", 2: "ready", 3: "missing"}
        finally:
            os.kill(group.pids[2], signal.SIGCONT)
        await group.says(" responds again")
        with trio.fail_after(10):
            while (found := await group.get("/admin/connections"))["missing"]:
                pass
        assert found["total"] == CLIENTS
        assert await group.get("/admin/problems") == []
