"""A gateway with a control plane that does not answer: what an earlier run left is served."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
import trio

from support.adminapi import logged_in
from support.backends import Backend, start_echo
from support.control_plane import NOWHERE, OPEN, artifact_folder, store_artifact, write_cache
from support.gateway import RunningGateway, start_gateway
from support.logged import logged
from support.projects import api, asyncapi, write
from trio_gw.app import control_plane, worker
from trio_gw.config.control_plane import ControlPlaneSettings
from trio_gw.control_plane.state import StateChange

if TYPE_CHECKING:
    from pathlib import Path

    from trio_gw.app.control_plane import ControlPlane

TABLE = {"url": NOWHERE}
SETTINGS = ControlPlaneSettings(url=NOWHERE)


@pytest.fixture
async def backend(nursery: trio.Nursery) -> Backend:
    return await start_echo(nursery)


@pytest.fixture
def planes(monkeypatch: pytest.MonkeyPatch) -> list[ControlPlane]:
    """The control planes that gateways of this test build."""
    found: list[ControlPlane] = []
    build = control_plane.build_control_plane

    async def built(*arguments: Any, **more: Any) -> ControlPlane:
        found.append(await build(*arguments, **more))
        return found[-1]

    monkeypatch.setattr(control_plane, "build_control_plane", built)
    return found


async def deploy(plane: ControlPlane, base: Path, name: str, backend: Backend, **more: Any) -> None:
    """Deploy an API as a pull does."""
    assert plane.writer is not None
    artifact = store_artifact(plane.writer.artifacts, base, name, backend=backend.url, **more)
    change = StateChange(artifacts={name: (artifact,)}, pulled_at=1e9)
    with trio.fail_after(10):
        await plane.writer.opened.wait()
    await plane.writer.change(change)


async def status(gateway: RunningGateway, path: str) -> int:
    return (await gateway.get(path)).status


async def echoes(gateway: RunningGateway, path: str) -> None:
    async with gateway.connect(path) as client:
        await client.send("hello")
        assert await client.recv() == "hello"


async def test_what_an_earlier_run_knew_is_served_at_once(
    nursery: trio.Nursery, base: Path, backend: Backend
) -> None:
    artifact = store_artifact(artifact_folder(base), base, "Chat", backend=backend.url)
    change = StateChange(artifacts={"Chat": (artifact,)}, pulled_at=1e9)
    await write_cache(base, SETTINGS, change)
    with logged("trio_gw.control_plane") as log:
        gateway = await start_gateway(nursery, base, admin=True, control_plane=TABLE)
    (said,) = (text for text in log.texts() if text.startswith("serving"))
    assert said == (
        "serving the last known state, of 2001-09-09T01:46:40+00:00:"
        " API Manager has not answered yet"
    )
    assert await status(gateway, "/ready") == 200
    await echoes(gateway, "/chat/1.0.0/x")
    admin = await logged_in(gateway)
    (listed,) = (await admin.list()).json()["list"]
    assert listed["apiName"] == "Chat"
    assert listed["gateway-envs"] == ["Default"]


async def test_without_a_state_it_is_not_ready(
    nursery: trio.Nursery,
    base: Path,
    backend: Backend,
    planes: list[ControlPlane],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "FIRST_PULL", 0.01)
    write(base / "apis", "own", api("Own", "/own", backend.url), asyncapi({"/*": OPEN}))
    gateway = await start_gateway(nursery, base, admin=True, control_plane=TABLE)
    assert await status(gateway, "/ready") == 404
    assert await status(gateway, "/chat/1.0.0/x") == 503
    await echoes(gateway, "/own/1.0.0/x")  # the folder stays a source
    assert (await (await logged_in(gateway)).list()).json()["count"] == 1
    await deploy(planes[0], base, "Chat", backend)
    with trio.fail_after(10):
        while await status(gateway, "/ready") != 200:
            await trio.lowlevel.checkpoint()
    await echoes(gateway, "/chat/1.0.0/x")
    assert await status(gateway, "/other") == 404


async def test_the_admin_api_deploys_nothing(
    nursery: trio.Nursery,
    base: Path,
    backend: Backend,
    planes: list[ControlPlane],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "FIRST_PULL", 0.01)
    gateway = await start_gateway(nursery, base, admin=True, control_plane=TABLE)
    await deploy(planes[0], base, "Chat", backend)
    admin = await logged_in(gateway)
    answer = await admin.deploy(b"any")
    assert answer.status == 400
    assert answer.json() == {
        "code": 400,
        "error": None,
        "message": "When control plane is enabled, APIs cannot be directly deployed to the adapter."
        " Using apictl, still you can import APIs to APIM instead.",
    }
    answer = await admin.undeploy("Chat")
    assert answer.status == 400
    assert answer.json() == {
        "code": 400,
        "description": "Bad request",
        "error": None,
        "message": "When control plane is enabled, APIs cannot be directly undeployed from the"
        " adapter. Using apictl, still you can undeploy an API in APIM instead.",
    }
    assert (await admin.undeploy("C")).status == 422  # parameters are checked before
    admin.token = ""
    assert (await admin.deploy(b"any")).status == 401
    assert not list((base / "deployed").glob("*.zip"))


async def test_an_environment_needs_no_entry_in_the_settings(
    nursery: trio.Nursery, base: Path, backend: Backend
) -> None:
    table = ControlPlaneSettings(url=NOWHERE, environments=("Edge", "Default"))
    where = (("Edge", "localhost"),)
    artifact = store_artifact(artifact_folder(base), base, "Chat", where, backend=backend.url)
    await write_cache(base, table, StateChange(artifacts={"Chat": (artifact,)}, pulled_at=1e9))
    settings = {"url": NOWHERE, "environments": ["Edge", "Default"]}
    gateway = await start_gateway(nursery, base, control_plane=settings)
    await echoes(gateway, "/chat/1.0.0/x")
    assert gateway.running.catalog.problems == ()


async def test_without_a_cache_a_private_folder_goes_at_the_end(
    base: Path,
    backend: Backend,
    planes: list[ControlPlane],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(worker, "FIRST_PULL", 0.01)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    async with trio.open_nursery() as nursery:
        gateway = await start_gateway(nursery, base, control_plane={**TABLE, "cache": ""})
        await deploy(planes[0], base, "Chat", backend)
        with trio.fail_after(10):
            while await status(gateway, "/ready") != 200:
                await trio.lowlevel.checkpoint()
        (private,) = folder.iterdir()
        assert private.stat().st_mode & 0o777 == 0o700
        assert planes[0].writer is not None
        await planes[0].writer.flush()  # a change is served before it is written
        assert (private / "state").exists()
        nursery.cancel_scope.cancel()
    assert not list(folder.iterdir())
    assert not (base / "controlplane").exists()


async def test_a_cache_that_cannot_be_written_is_a_problem(
    nursery: trio.Nursery,
    base: Path,
    backend: Backend,
    planes: list[ControlPlane],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "FIRST_PULL", 0.01)
    (base / "controlplane").write_text("no folder")
    gateway = await start_gateway(nursery, base, admin=True, control_plane=TABLE)
    plane = planes[0]
    assert plane.writer is not None
    with trio.fail_after(10):
        await plane.writer.opened.wait()
    await plane.writer.change(StateChange(pulled_at=1e9))
    with trio.fail_after(10):
        while await status(gateway, "/ready") != 200:
            await trio.lowlevel.checkpoint()
    answer = await (await logged_in(gateway)).get("/admin/problems")
    assert any(
        each["what"] == "the state of the control plane cannot be written (File exists)"
        for each in answer.json()
    )


def test_nothing_is_imported_without_a_control_plane(base: Path) -> None:
    code = """
import json, sys, trio
from pathlib import Path
from trio_gw.app import worker
from trio_gw.config.settings import Listen, Settings

async def main():
    listen = Listen(http="localhost:0", https="localhost:0", admin="localhost:0")
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run, Settings(listen=listen), Path(sys.argv[1]))
        nursery.cancel_scope.cancel()

trio.run(main)
print(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(base)],
        capture_output=True, text=True, timeout=60, check=True, cwd=base,
    )  # fmt: skip
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert "trio_gw.app.worker" in modules
    assert not {name for name in modules if name.startswith("trio_gw.control_plane.")}
    assert not modules & {"pamqp", "httpx2", "trio_gw.app.control_plane"}
