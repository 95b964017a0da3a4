"""The admin API of a gateway with three real workers: any of them answers for all."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trio
from websockets.trio.client import ClientConnection, connect

from support.adminapi import BASIC
from support.backends import start_echo
from support.commands import Serving, port_of, start
from support.gateway import Answer
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CLIENTS = 12  # more than one worker takes


class WorkerGroup(Serving):
    """Three workers, and a way to ask any of them."""

    def __init__(self, process: trio.Process, base: Path) -> None:
        super().__init__(process)
        self._trust = ssl.create_default_context(cafile=str(base / "certs" / "mg.pem"))
        self.admin_port = 0
        self.port = 0

    async def says(self, text: str, times: int = 1) -> None:
        assert self.process.stderr is not None
        with trio.fail_after(30):
            while self.err.count(text) < times:
                data = await self.process.stderr.receive_some()
                assert data, f"ended: {self.err}"
                self.err += data.decode()

    @property
    def pids(self) -> list[int]:
        """The process of each worker, by place."""
        found = {}
        for place, pid in re.findall(r"process (\d+) started \(pid (\d+)\)", self.err):
            found[int(place)] = int(pid)
        return [found[place] for place in sorted(found)]

    async def ask(self, path: str, method: str = "GET") -> Answer:
        """Make a request on a connection of its own, so whoever is free answers."""
        with trio.fail_after(20):
            stream = await trio.open_ssl_over_tcp_stream(
                "localhost", self.admin_port, ssl_context=self._trust, https_compatible=True
            )
            async with stream:
                head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                await stream.send_all(f"{head}Authorization: {BASIC}\r\n\r\n".encode())
                raw = bytearray()
                while data := await stream.receive_some():
                    raw += data
        return Answer(bytes(raw))

    async def get(self, path: str) -> Any:
        answer = await self.ask(path)
        assert answer.status == 200, answer.body
        return answer.json()


@pytest.fixture
async def group(base: Path, running: list[Serving], nursery: trio.Nursery) -> WorkerGroup:
    backend = await start_echo(nursery)
    topics = asyncapi({"/t/{name}": {"publish": {}, "x-auth-type": "None"}})
    write(base / "apis", "one", api("One", "/one", backend.url), topics)
    (base / "gateway.toml").write_text('workers = 3\n[log]\nlevel = "debug"\n')
    group = WorkerGroup((await start(base, "run")).process, base)
    running.append(group)
    await group.says(" trio_gw: ready", 3)
    group.port = port_of(group.err)
    line = next(line for line in group.err.splitlines() if "admin API on https://127" in line)
    group.admin_port = int(line.rpartition(":")[2])
    return group


@contextlib.asynccontextmanager
async def connected(group: WorkerGroup) -> AsyncIterator[list[ClientConnection]]:
    """Twelve clients, each of whom has exchanged one message."""
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for number in range(CLIENTS):
            url = f"ws://127.0.0.1:{group.port}/one/1.0.0/t/c{number}"
            client = await stack.enter_async_context(connect(url, proxy=None, compression=None))
            await client.send("hello")
            assert await client.recv() == "hello"
            clients.append(client)
        yield clients


async def test_connections_of_all_workers_are_listed_in_one_order(group: WorkerGroup) -> None:
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


async def test_the_busiest_come_first(group: WorkerGroup, nursery: trio.Nursery) -> None:
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


async def test_one_is_closed_wherever_it_is(group: WorkerGroup) -> None:
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


async def test_stats_add_up_and_survive_a_worker(group: WorkerGroup) -> None:
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


async def hold(group: WorkerGroup, place: int) -> None:
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


async def test_a_worker_without_an_answer_is_named(group: WorkerGroup) -> None:
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
