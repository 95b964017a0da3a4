"""API projects change under a running gateway: live within a second, nobody disturbed."""

from __future__ import annotations

import json
import random
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import trio
from websockets.exceptions import InvalidStatus

from support.backends import start_echo
from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from pathlib import Path

OPEN: dict[str, Any] = {"publish": {}, "x-auth-type": "None"}
CONNECTIONS, CHANGES = 200, 100


async def status(gateway: RunningGateway, path: str) -> int:
    """Try a handshake; return its status."""
    try:
        async with gateway.connect(path):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


async def until(gateway: RunningGateway, path: str, wanted: int, *, within: float = 1.0) -> None:
    """Wait for the table to change until a handshake gets this status."""
    with trio.fail_after(within):
        while await status(gateway, path) != wanted:
            await gateway.running.live.wait_changed()


async def test_added_changed_renamed_removed(nursery: trio.Nursery, base: Path) -> None:
    backend = await start_echo(nursery)
    gateway = await start_gateway(nursery, base)
    assert await status(gateway, "/one/1.0.0/t") == 404
    project = write(gateway.apis, "one", api("One", "/one", backend.url), asyncapi({"/t": OPEN}))
    await until(gateway, "/one/1.0.0/t", 101)
    async with gateway.connect("/one/1.0.0/t") as client:
        write(gateway.apis, "one", api("One", "/two", backend.url), asyncapi({"/t": OPEN}))
        await until(gateway, "/two/1.0.0/t", 101)
        assert await status(gateway, "/one/1.0.0/t") == 404
        generation = gateway.running.live.generation
        project.rename(gateway.apis / "renamed")
        with trio.fail_after(1):
            while gateway.running.live.generation == generation:
                await gateway.running.live.wait_changed()
                assert await status(gateway, "/two/1.0.0/t") == 101
        shutil.rmtree(gateway.apis / "renamed")
        await until(gateway, "/two/1.0.0/t", 404)
        # The connection has outlived its route, its base path, its folder and its API.
        await client.send("still here")
        assert await client.recv() == "still here"


async def test_broken_project_keeps_its_last_good_version(
    nursery: trio.Nursery, base: Path
) -> None:
    backend = await start_echo(nursery)
    good = api("One", "/one", backend.url)
    project = write(base / "apis", "one", good, asyncapi({"/t": OPEN}))
    gateway = await start_gateway(nursery, base)
    (project / "api.yaml").write_text('data:\n  name: [One\n  version: "1"\n')
    with trio.fail_after(5):
        while not gateway.running.catalog.problems:
            await trio.lowlevel.checkpoint()
    (problem,) = gateway.running.catalog.problems
    assert problem.file == "apis/one/api.yaml"
    assert problem.line in (2, 3)
    assert problem.hint
    assert await status(gateway, "/one/1.0.0/t") == 101
    (project / "api.yaml").write_text(json.dumps(good))
    with trio.fail_after(2):
        while gateway.running.catalog.problems:
            await trio.lowlevel.checkpoint()
    assert await status(gateway, "/one/1.0.0/t") == 101


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_two_hundred_connections_through_a_hundred_changes(
    nursery: trio.Nursery, base: Path, tls: bool
) -> None:
    """No connection drops and no message is lost, whatever happens to the folder."""
    backend = await start_echo(nursery)
    apis = base / "apis"
    write(apis, "steady", api("Steady", "/steady", backend.url), asyncapi({"/t": OPEN}))
    gateway = await start_gateway(nursery, base)
    done = False
    beat = trio.Event()
    counts: list[int] = []

    def pulse() -> None:
        nonlocal beat
        previous, beat = beat, trio.Event()
        previous.set()

    async def chat(number: int, task_status: trio.TaskStatus[None]) -> None:
        async with gateway.connect("/steady/1.0.0/t", tls=tls, compression=None) as client:
            task_status.started()
            count = 0
            while not done:
                message = f"{number} {count} " + "x" * (count % 200)
                await client.send(message)
                assert await client.recv() == message
                count += 1
                if not done:
                    await beat.wait()
            counts.append(count)

    def change(step: int) -> None:
        name = f"other-{step % 7}"
        folder = apis / name
        match step % 4:
            case 0 | 1:
                channels = {"/t": OPEN, f"/more{step}": OPEN}
                write(apis, name, api(name, f"/{name}", backend.url), asyncapi(channels))
            case 2:
                # The very project in use: a topic more, another backend path.
                channels = {"/t": OPEN, f"/more{step}": OPEN}
                url = f"{backend.url}/{step}"
                write(apis, "steady", api("Steady", "/steady", url), asyncapi(channels))
            case _:
                if folder.exists():
                    shutil.rmtree(folder)
                (apis / "broken").mkdir(exist_ok=True)
                (apis / "broken" / "api.yaml").write_bytes(random.Random(step).randbytes(99))

    with trio.fail_after(180):
        async with trio.open_nursery() as chats:
            for number in range(CONNECTIONS):
                await chats.start(chat, number)
            for step in range(CHANGES):
                generation = gateway.running.live.generation
                change(step)
                pulse()
                # Alternately let a change become live, and pile the next one on top of it.
                if step % 2:
                    with trio.move_on_after(1):
                        while gateway.running.live.generation == generation:
                            with trio.move_on_after(0.02):
                                await gateway.running.live.wait_changed()
                            pulse()
            done = True
            pulse()
    assert len(counts) == CONNECTIONS
    assert min(counts) > CHANGES / 4
    assert gateway.running.live.generation > CHANGES / 8
