"""`trio-gw run` with several workers: real processes, killed and stopped in every way."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest
import trio
from websockets.trio.client import connect

from support.backends import start_echo
from support.commands import Serving, start
from support.projects import api, asyncapi, write
from support.workers import OPEN, WorkerGroup, start_workers

if TYPE_CHECKING:
    from pathlib import Path


def owners(pids: list[int]) -> dict[int, int]:
    """Map the ports of connected clients to the place of the process that serves them."""
    ports = {}
    with open("/proc/net/tcp") as table:
        for line in list(table)[1:]:
            fields = line.split()
            ports[f"socket:[{fields[9]}]"] = int(fields[2].rpartition(":")[2], 16)
    found = {}
    for place, pid in enumerate(pids):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                if port := ports.get(os.readlink(f"/proc/{pid}/fd/{descriptor}")):
                    found[port] = place
    return found


def spread(pids: list[int], clients: list[int]) -> list[int]:
    """Count the clients, known by their ports, that each process serves."""
    found = owners(pids)
    return [sum(found.get(port) == place for port in clients) for place in range(len(pids))]


async def test_all_are_ready_and_named_in_the_log(base: Path, running: list[Serving]) -> None:
    group = await start_workers(base, running, "ws://127.0.0.1:1")
    assert await group.ready() == b'200 {"status": "ready"}'
    for number in (1, 2, 3):
        assert f" worker {number} trio_gw: ready" in group.err
    assert group.err.count("added One:1.0.0") == 1
    group.process.terminate()
    with trio.fail_after(15):
        assert await group.process.wait() == 0
    assert "Traceback" not in await group.rest()


async def test_one_killed_disturbs_no_other(base: Path, running: list[Serving]) -> None:
    async with trio.open_nursery() as nursery:
        backend = await start_echo(nursery)
        group = await start_workers(base, running, backend.url)
        pids = await group.workers(3)
        clients = [await nursery.start(talk, group.port) for _ in range(12)]
        ports = [client.local for client in clients]
        before = spread(pids, ports)
        assert sum(before) == 12
        assert min(before) > 0
        os.kill(pids[1], signal.SIGKILL)
        await group.says("was killed by SIGKILL")
        lost = 0
        for client in clients:
            lost += await client.lost()
        assert lost == before[1]
        # While it is replaced the others serve, and so say that the gateway is ready.
        assert await group.ready() == b'200 {"status": "ready"}'
        for _ in range(6):
            await (await nursery.start(talk, group.port)).end()
        after = await group.workers(4)
        assert (after[0], after[2]) == (pids[0], pids[2])
        await group.says(" worker 2 trio_gw: ready", 2)
        # It has the fewest connections, so it gets the next ones.
        fresh = [await nursery.start(talk, group.port) for _ in range(3)]
        assert spread(after, [client.local for client in fresh])[1] > 0
        group.process.terminate()
        with trio.fail_after(20):
            assert await group.process.wait() == 0
        assert "Traceback" not in await group.rest()
        nursery.cancel_scope.cancel()


async def test_all_of_them_follow_a_change(base: Path, running: list[Serving]) -> None:
    async with trio.open_nursery() as nursery:
        backend = await start_echo(nursery)
        group = await start_workers(base, running, backend.url)
        project = api("One", "/one", backend.url)
        write(base / "apis", "one", project, asyncapi({"/t": OPEN, "/new": OPEN}))
        await group.says("table 2: ")
        # Some may need a moment more than the first; the answer waits for them.
        assert await group.ready() == b'200 {"status": "ready"}'
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(12):  # more than one worker takes
                url = f"ws://127.0.0.1:{group.port}/one/1.0.0/new"
                await stack.enter_async_context(connect(url, proxy=None))
        nursery.cancel_scope.cancel()


class Client:
    """A client that stays; its messages come back, until its worker dies."""

    def __init__(self, local: int) -> None:
        self.local = local
        self._ask, self._asked = trio.open_memory_channel[None](0)
        self._tell, self._told = trio.open_memory_channel[bool](0)

    async def lost(self) -> bool:
        """Tell whether the connection is lost, by using it."""
        with trio.fail_after(10):
            await self._ask.send(None)
            return await self._told.receive()

    async def end(self) -> None:
        await self._ask.aclose()

    async def run(self, connection: object) -> None:
        async for _ in self._asked:
            try:
                await connection.send("still there")  # type: ignore[attr-defined]
                assert await connection.recv() == "still there"  # type: ignore[attr-defined]
            except Exception:
                await self._tell.send(True)
                return
            await self._tell.send(False)


async def talk(port: int, *, task_status: trio.TaskStatus[Client]) -> None:
    async with connect(f"ws://127.0.0.1:{port}/one/1.0.0/t", proxy=None) as connection:
        client = Client(connection.local_address[1])
        task_status.started(client)
        await client.run(connection)


@pytest.mark.parametrize("how", ["supervisor killed", "one signal", "a signal to each"])
async def test_they_stop_together(base: Path, running: list[Serving], how: str) -> None:
    async with trio.open_nursery() as nursery:
        backend = await start_echo(nursery)
        group = await start_workers(base, running, backend.url)
        pids = await group.workers(3)
        url = f"ws://127.0.0.1:{group.port}/one/1.0.0/t"
        async with connect(url, proxy=None) as client:
            await client.send("x")
            assert await client.recv() == "x"
            if how == "supervisor killed":
                group.process.kill()
            elif how == "one signal":
                group.process.send_signal(signal.SIGINT)
            else:  # as a terminal and systemd do
                for pid in (*pids, group.process.pid):
                    os.kill(pid, signal.SIGTERM)
            with trio.fail_after(15):
                await client.wait_closed()
            # A second order would have left no time to say it.
            assert (client.close_code, client.close_reason) == (1012, "gateway is shutting down")
        with trio.fail_after(15):
            code = -signal.SIGKILL if how == "supervisor killed" else 0
            assert await group.process.wait() == code
            log = await group.rest()  # ends when the last of them has ended
        assert log.count("ended by gateway: 1012") == 1
        socket.create_server(("127.0.0.1", group.port)).close()  # nobody listens any more
        nursery.cancel_scope.cancel()


async def test_second_signal_stops_at_once(base: Path, running: list[Serving]) -> None:
    async with trio.open_nursery() as nursery:
        backend = await start_echo(nursery)
        more = "[timeouts]\ndrain = 60\nclose = 60\n"
        group = await start_workers(base, running, backend.url, 2, more)
        stream = await trio.open_tcp_stream("127.0.0.1", group.port)
        async with stream:
            await stream.send_all(
                b"GET /one/1.0.0/t HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            with trio.fail_after(15):
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 101")
                group.process.terminate()
                assert await stream.receive_some()  # a Close that it never answers
                group.process.terminate()
                assert await group.process.wait() == 0
        assert "Traceback" not in await group.rest()
        nursery.cancel_scope.cancel()


async def test_what_cannot_be_is_said_once(base: Path, running: list[Serving]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        serving = await start(
            base, "run", TRIO_GW_WORKERS="3", TRIO_GW_LISTEN_HTTP=f"127.0.0.1:{port}"
        )
        running.append(serving)
        with trio.fail_after(20):
            assert await serving.process.wait() == 1
    log = await serving.rest()
    assert log.count(f"cannot listen on 127.0.0.1:{port}") == 1
    assert "Traceback" not in log


async def test_echo_and_greeting_come_once(base: Path, running: list[Serving]) -> None:
    write(base / "apis", "one", api("One", "/one", "ws://h:1"), asyncapi({"/t": OPEN}))
    serving = await start(base, "run", "--echo", "localhost:0", TRIO_GW_WORKERS="2")
    running.append(serving)
    await serving.read_until("out", "wscat")
    group = WorkerGroup(serving.process)
    await group.says(" trio_gw: ready", 2)
    pids = await group.workers(2)
    os.kill(pids[0], signal.SIGKILL)
    await group.says(" trio_gw: ready", 3)
    group.process.terminate()
    with trio.fail_after(15):
        assert await group.process.wait() == 0
        assert group.process.stdout is not None
        assert b"is ready" not in await group.process.stdout.receive_some()
