"""Deployments while things go wrong: disks, files, other gateways, other changes."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import ssl
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import trio

from support.adminapi import BASE, BASIC, AdminClient, form, logged_in, packed
from support.backends import Backend, start_echo
from support.crashes import start
from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, write
from trio_gw.feed import deployment_source
from trio_gw.feed.deployment_store import DeploymentStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

ANY: dict[str, Any] = {"/*": {"publish": {}}}
NAMES = ("Chat", "Rooms", "Talk")


@pytest.fixture
async def backend(nursery: trio.Nursery) -> Backend:
    return await start_echo(nursery)


def zipped(base: Path, backend: Backend, name: str = "Chat", topics: Any = ANY) -> bytes:
    meta = api(name, f"/{name.lower()}", backend.url)
    return packed(write(base / "aside", name, meta, asyncapi(topics)), "chat")


async def names(client: AdminClient) -> list[str]:
    return sorted(one["apiName"] for one in (await client.list()).json()["list"] or [])


def tidy(base: Path) -> bool:
    """Tell whether the folder holds the index and what that names, nothing else."""
    entries = json.loads((base / "deployed" / "index.json").read_text())["entries"]
    found = {path.name for path in (base / "deployed").iterdir()}
    found -= {"history", "precedence.json"}  # old revisions; who is served first
    return found == {".lock", "index.json", *(entry["file"] for entry in entries)}


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something that sets no event is so."""
    with trio.fail_after(10):
        while not condition():
            await trio.lowlevel.checkpoint()


# -- the disk ------------------------------------------------------------------------------------


class Apart(NamedTuple):
    """A gateway in a process of its own, as `AdminClient` wants it."""

    pid: int
    admin_port: int
    opened: list[trio.abc.Stream]
    context: ssl.SSLContext

    def trust(self) -> ssl.SSLContext:
        return self.context


@pytest.fixture
async def apart(base: Path) -> AsyncIterator[Apart]:
    process, ports = start(base)
    context = ssl.create_default_context(cafile=str(base / "certs" / "mg.pem"))
    yield Apart(process.pid, ports["admin"], [], context)
    process.send_signal(signal.SIGTERM)
    assert await trio.to_thread.run_sync(process.wait) == 0


async def test_a_disk_that_takes_no_more(base: Path, apart: Apart, backend: Backend) -> None:
    client = await logged_in(apart)
    there = [*NAMES, "Five", "Six"]
    for name in there:
        assert (await client.deploy(zipped(base, backend, name))).status == 200
    # Each file may be as long as a zip, but not as the index.
    size = (base / "deployed" / "index.json").stat().st_size
    fourth = zipped(base, backend, "Four")
    assert len(fourth) < size
    _, hard = resource.prlimit(apart.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(apart.pid, resource.RLIMIT_FSIZE, (size, hard))
    answer = await client.deploy(fourth)
    assert answer.status == 500
    (problem,) = answer.json()["problems"]
    assert problem["what"] == f"cannot be stored ({os.strerror(errno.EFBIG)})"
    # Nor as the upload.
    resource.prlimit(apart.pid, resource.RLIMIT_FSIZE, (len(fourth) // 2, hard))
    answer = await client.deploy(fourth)
    assert answer.status == 500
    assert answer.json()["message"] == f"cannot store the upload: {os.strerror(errno.EFBIG)}"
    answer = await client.undeploy("Chat")
    assert answer.status == 500
    assert await names(client) == sorted(there)
    await until(lambda: tidy(base))  # `precedence.json` is written after the response
    resource.prlimit(apart.pid, resource.RLIMIT_FSIZE, (hard, hard))
    assert (await client.deploy(fourth)).status == 200
    assert (await client.undeploy("Chat")).status == 200
    assert await names(client) == ["Five", "Four", "Rooms", "Six", "Talk"]
    await until(lambda: tidy(base))  # `precedence.json` is written after the response


async def test_a_folder_that_cannot_be_written_to(
    nursery: trio.Nursery, base: Path, backend: Backend
) -> None:
    meta = api("Chat", "/chat", backend.url)
    write(base / "apis", "chat", meta, asyncapi(ANY))
    gateway = await start_gateway(nursery, base, admin=True, deployed="/proc/nowhere")
    client = await logged_in(gateway)
    answer = await client.deploy(zipped(base, backend, "Rooms"))
    assert answer.status == 500
    assert answer.json()["message"].startswith("cannot store the upload: ")
    answer = await client.undeploy("Chat")
    assert answer.status == 500
    assert answer.json()["message"].startswith("cannot undeploy: ")
    assert await names(client) == ["Chat"]
    assert await gateway.status("/chat/1.0.0/x") == 101


async def test_an_index_that_may_not_have_reached_the_disk(
    nursery: trio.Nursery, base: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await start_gateway(nursery, base, admin=True)
    client = await logged_in(gateway)
    assert (await client.deploy(zipped(base, backend))).status == 200
    sync = DeploymentStore._sync_folder
    calls = []

    def fails_the_second_time(store: DeploymentStore) -> None:
        calls.append(store)
        if len(calls) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(store)

    monkeypatch.setattr(DeploymentStore, "_sync_folder", fails_the_second_time)
    assert (await client.deploy(zipped(base, backend, "Rooms"))).status == 500
    # The index has been replaced, so what it names has to stay.
    await until(lambda: tidy(base))  # `precedence.json` is written after the response
    await until(lambda: {row[2].api.name for row in rows(gateway)} == {"Chat", "Rooms"})
    assert (await client.undeploy("Chat")).status == 200
    assert await names(client) == ["Rooms"]
    await until(lambda: tidy(base))  # `precedence.json` is written after the response


def rows(gateway: RunningGateway) -> list[Any]:
    return list(gateway.running.live.table.rows())


# -- files that are gone or damaged --------------------------------------------------------------


@pytest.mark.parametrize("damage", ["gone", "cut", "folder"])
async def test_a_zip_is_served_again_when_it_is_fixed(
    base: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(deployment_source, "RETRY", 0.1)
    async with trio.open_nursery() as nursery:
        gateway = await start_gateway(nursery, base, admin=True)
        client = await logged_in(gateway)
        for name in NAMES:
            assert (await client.deploy(zipped(base, backend, name))).status == 200
        nursery.cancel_scope.cancel()
    (path,) = (base / "deployed").glob("Chat_*.zip")
    kept = shutil.copy(path, base / "kept")
    path.unlink()
    if damage == "cut":
        path.write_bytes((base / "kept").read_bytes()[:-100])
    elif damage == "folder":
        path.mkdir()
    async with trio.open_nursery() as nursery:
        gateway = await start_gateway(nursery, base, admin=True)
        client = await logged_in(gateway)
        (problem, *_) = gateway.running.catalog.problems
        assert problem.file.startswith(f"deployed/{path.name}")
        assert problem.severity == "error"
        assert await names(client) == ["Rooms", "Talk"]
        # Nobody else is disturbed.
        assert (await client.deploy(zipped(base, backend, "Rooms"), override=True)).status == 200
        if damage == "folder":
            path.rmdir()
        os.replace(kept, path)
        await until(lambda: gateway.running.catalog.problems == ())
        assert await names(client) == sorted(NAMES)
        nursery.cancel_scope.cancel()


async def test_an_index_that_cannot_be_read_for_a_while(
    nursery: trio.Nursery, base: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment_source, "RETRY", 0.1)
    gateway = await start_gateway(nursery, base, admin=True)
    client = await logged_in(gateway)
    assert (await client.deploy(zipped(base, backend))).status == 200
    real = DeploymentStore.read

    def fails(store: DeploymentStore) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(DeploymentStore, "read", fails)
    answer = await client.undeploy("Chat")
    assert answer.status == 500
    assert "cannot be read" in answer.json()["problems"][0]["what"]
    assert await gateway.status("/chat/1.0.0/x") == 101
    # The file has not changed, and is read again all the same.
    monkeypatch.setattr(DeploymentStore, "read", real)
    await until(lambda: gateway.running.catalog.problems == ())
    assert (await client.undeploy("Chat")).status == 200


async def test_a_clock_that_jumps(nursery: trio.Nursery, base: Path, backend: Backend) -> None:
    gateway = await start_gateway(nursery, base, admin=True)
    client = await logged_in(gateway)
    index = base / "deployed" / "index.json"
    for name, moment in zip(NAMES, (2**32, 0, 1), strict=True):
        assert (await client.deploy(zipped(base, backend, name))).status == 200
        other = index.with_name("other")
        shutil.copyfile(index, other)
        os.utime(other, (moment, moment))
        other.rename(index)  # as another process would leave it, with its clock
    assert await names(client) == sorted(NAMES)
    assert (await client.undeploy("Talk")).status == 200
    assert await names(client) == ["Chat", "Rooms"]


# -- several at once -----------------------------------------------------------------------------


async def test_undeploying_while_it_is_deployed(
    nursery: trio.Nursery, base: Path, backend: Backend
) -> None:
    gateway = await start_gateway(nursery, base, admin=True)
    client = await logged_in(gateway)
    data = zipped(base, backend)
    found: list[tuple[str, int]] = []

    async def deploy() -> None:
        found.append(("deploy", (await client.deploy(data)).status))

    async def undeploy() -> None:
        found.append(("undeploy", (await client.undeploy("Chat")).status))

    for _ in range(4):
        found.clear()
        async with trio.open_nursery() as both:
            both.start_soon(deploy)
            both.start_soon(undeploy)
            both.start_soon(deploy)
        deploys = [status for what, status in found if what == "deploy"]
        (undeployed,) = (status for what, status in found if what == "undeploy")
        assert undeployed in (200, 404)
        assert sorted(deploys) in ([200, 200], [200, 409])
        there = deploys.count(200) > (undeployed == 200)
        assert await names(client) == (["Chat"] if there else [])
        assert await gateway.status("/chat/1.0.0/x") == (101 if there else 404)
        await until(lambda: tidy(base))  # `precedence.json` is written after the response
        assert (await client.undeploy("Chat")).status == (200 if there else 404)


async def test_two_gateways_on_one_folder(
    nursery: trio.Nursery, base: Path, backend: Backend
) -> None:
    first = await start_gateway(nursery, base, admin=True)
    client = await logged_in(first)
    body, kind = form(zipped(base, backend))
    half, second_started = len(body) // 2, trio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield body[:half]
        await second_started.wait()
        yield body[half:]

    async def deploy() -> None:
        headers = {"Authorization": BASIC, "Content-Type": kind}
        answer = await client.ask("POST", f"{BASE}/apis", headers, pieces(), len(body))
        assert answer.status == 200, answer.raw

    # The other one's start does not take away what is on its way.
    async with trio.open_nursery() as uploading:
        uploading.start_soon(deploy)
        await until((base / "deployed").exists)
        second = await start_gateway(nursery, base, admin=True)
        second_started.set()
    await until(lambda: len(rows(second)) == 1)
    other = await logged_in(second)
    assert (await other.deploy(zipped(base, backend))).status == 409
    # Of two who deploy the same through different gateways one wins.
    answers: list[int] = []

    async def race(one: AdminClient, data: bytes) -> None:
        answers.append((await one.deploy(data)).status)

    for name in ("Rooms", "Talk"):
        answers.clear()
        data = zipped(base, backend, name)
        async with trio.open_nursery() as both:
            both.start_soon(race, client, data)
            both.start_soon(race, other, data)
        assert sorted(answers) == [200, 409]
    await until(lambda: len(rows(first)) == len(rows(second)) == 3)
    await until(lambda: tidy(base))  # one of them may still write its `precedence.json`


async def test_a_hangup_while_deploying(base: Path, apart: Apart, backend: Backend) -> None:
    client = await logged_in(apart)
    data = zipped(base, backend)
    for _ in range(3):
        os.kill(apart.pid, signal.SIGHUP)
        assert (await client.deploy(data)).status == 200
        os.kill(apart.pid, signal.SIGHUP)
        assert (await client.undeploy("Chat")).status == 200


async def test_the_same_api_dropped_into_the_folder(
    nursery: trio.Nursery, base: Path, backend: Backend
) -> None:
    gateway = await start_gateway(nursery, base, admin=True)
    client = await logged_in(gateway)
    topics: dict[str, Any] = {"/deployed": {"publish": {}}}
    assert (await client.deploy(zipped(base, backend, topics=topics))).status == 200
    # One with the same name and another id is replaced by what is deployed, too; the third API
    # shows that the folder has been read.
    for folder, more in (("same", {}), ("other", {"id": "another"})):
        write(base / "apis", folder, api("Chat", "/chat", backend.url, **more), asyncapi(ANY))
    write(base / "apis", "rooms", api("Rooms", "/rooms", backend.url), asyncapi(ANY))
    await until(lambda: "Rooms" in {row[2].api.name for row in rows(gateway)})
    assert await gateway.status("/chat/1.0.0/deployed") == 101
    assert await gateway.status("/chat/1.0.0/x") == 404
    assert (await client.undeploy("Chat")).status == 200
    assert await names(client) == ["Rooms"]
    assert await gateway.status("/chat/1.0.0/x") == 404
