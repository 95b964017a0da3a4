"""Background parts that fail: the gateway serves and relays on, and says so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio

from support.adminapi import BASIC, AdminClient
from support.backends import Backend, start_echo
from support.faulty import BugError, Faulty
from support.gateway import RunningGateway, start_gateway
from support.issuers import start_http
from support.logged import logged
from support.numbers import total
from support.projects import api, asyncapi, write
from support.repositories import OPEN, Repository
from support.secrets import secret
from trio_gw.app import worker
from trio_gw.feed import compile as compile_module
from trio_gw.feed import git_checkout
from trio_gw.routing import compiler
from trio_gw.supervision import background
from trio_gw.supervision.background import TaskName

if TYPE_CHECKING:
    from pathlib import Path

PLANE = {  # only with a control plane
    *(TaskName.ACKNOWLEDGEMENTS, TaskName.CONTROL_PLANE, TaskName.CONTROL_PLANE_CACHE),
    *(TaskName.CONTROL_PLANE_EVENTS, TaskName.CONTROL_PLANE_EXPIRY, TaskName.CONTROL_PLANE_WRITER),
    *(TaskName.DECISIONS, TaskName.ENTITLED, TaskName.FRAME_EVENTS),
}
TASKS = {*TaskName} - {TaskName.SETTINGS, *PLANE}
SOURCES = {
    TaskName.APIS: "/one",
    TaskName.GIT: "/pets",
    TaskName.GIT_REMOTE: "/pets",
    TaskName.DEPLOYED: "",
}


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(background, "SETTLED", 0.5)


@pytest.fixture
async def backend(nursery: trio.Nursery) -> Backend:
    return await start_echo(nursery)


async def start(
    nursery: trio.Nursery, base: Path, backend: Backend, parts: Faulty, **more: Any
) -> RunningGateway:
    write(base / "apis", "one", api("One", "/one", backend.url), asyncapi({"/*": OPEN}))
    repository = Repository(base / "repository")
    repository.project("pets", backend.url)
    repository.commit()
    git = {"url": repository.url, "interval": 0.05}
    return await start_gateway(nursery, base, admin=True, background=parts, git=git, **more)


async def echoed(stream: Any) -> bool:
    await stream.send("hello")
    with trio.fail_after(10):
        return bool(await stream.recv() == "hello")


async def served(gateway: RunningGateway, path: str) -> None:
    """Wait until a table has this topic."""
    live = gateway.running.live
    with trio.fail_after(60):
        while True:
            generation = live.generation
            if await gateway.status(path) == 101:
                return
            if live.generation == generation:
                await live.wait_changed()


async def problems(gateway: RunningGateway) -> list[str]:
    answer = await AdminClient(gateway).ask("GET", "/admin/problems", {"Authorization": BASIC})
    return [problem["what"] for problem in answer.json()]


async def test_every_part_fails_again_and_again(
    nursery: trio.Nursery, base: Path, backend: Backend
) -> None:
    server = await start_http(nursery, lambda *_: (404, b""))
    issuer = {
        "issuer": "https://issuer.example",
        "jwks": server.url("/jwks"),
        "introspection_url": server.url("/introspect"),
        "client_id": "gateway",
        "client_secret": secret("aiR0thoh3ook"),
    }
    settings: dict[str, Any] = {
        "issuers": [issuer],
        "analytics": {"enabled": True, "sinks": ["file"], "file": "events.jsonl"},
        "evict": True,
        "health": {"interval": 0.05},
    }
    parts = Faulty(TASKS, 4)
    with logged("trio_gw.supervision.background") as log:
        gateway = await start(nursery, base, backend, parts, **settings)
        await served(gateway, "/one/1.0.0/x")  # its source has failed at first, too
        async with gateway.connect("/one/1.0.0/x") as stream:
            assert await echoed(stream)
            await parts.reached(lambda: set(parts.counts) >= TASKS)
            assert await echoed(stream)
            # A change wakes those that wait for one.
            write(gateway.apis, "two", api("Two", "/two", backend.url), asyncapi({"/*": OPEN}))
            await parts.reached(lambda: not parts.failing)
            assert await echoed(stream)
        for path in ("/one", "/two", "/pets"):
            await served(gateway, f"{path}/1.0.0/x")
        await parts.reached(lambda: not parts.failing)
    ready = await gateway.get("/ready")
    assert (ready.status, ready.json()) == (200, {"status": "ready"})
    numbers = await AdminClient(gateway).ask("GET", "/metrics", {"Authorization": BASIC})
    for part in TASKS:
        counted = total(numbers.body, "trio_gw_background_failures_total", part=part.value)
        assert 0 < counted <= parts.counts[part], part  # one may have failed since
        assert f"{part.value} works again" in log.texts()
        assert any(text.startswith(f"{part.value} failed: BugError") for text in log.texts())


@pytest.mark.parametrize("part", SOURCES, ids=lambda part: str(part.value))
async def test_a_source_that_never_works_keeps_the_others_from_nothing(
    nursery: trio.Nursery,
    base: Path,
    backend: Backend,
    part: TaskName,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = Faulty((), 0)

    async def never(*_: object, **__: object) -> None:
        await trio.lowlevel.checkpoint()
        raise BugError

    kept, started = parts.keep, parts.start

    async def keep(which: TaskName, task: Any, **options: Any) -> None:
        await kept(which, never if which is part else task, **options)

    async def start_(which: TaskName, task: Any, **options: Any) -> None:
        await started(which, never if which is part else task, **options)

    monkeypatch.setattr(parts, "keep", keep)
    monkeypatch.setattr(parts, "start", start_)
    if part is TaskName.GIT_REMOTE:  # it would be waited for at the start
        monkeypatch.setattr(worker, "FIRST_COMMIT", 0.1)
    gateway = await start(nursery, base, backend, parts)
    await parts.reached(lambda: parts.counts[part] > 2)
    for path in ("/one", "/pets"):
        if path != SOURCES[part]:
            assert await gateway.status(f"{path}/1.0.0/x") == 101, path
    ready = await gateway.get("/ready")
    assert (ready.status, ready.json()) == (200, {"status": "ready", "failing": [part.value]})
    assert await problems(gateway) == [
        f"the background task `{part.value}` fails (BugError); it is restarted until it works,"
        " and its last result stays in effect"
    ]


async def test_a_commit_that_the_gateway_cannot_deal_with(
    nursery: trio.Nursery, base: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last good one is served until there is another good one."""
    parts = Faulty((), 0)
    gateway = await start(nursery, base, backend, parts)
    assert await gateway.status("/pets/1.0.0/x") == 101
    take_apart = git_checkout.unpack

    def fails(*_: object) -> None:
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr(git_checkout, "unpack", fails)
    repository = Repository.__new__(Repository)
    repository.work, repository.bare = base / "repository/work", base / "repository/served/apis.git"
    repository.branch = "main"
    repository.project("fish", backend.url)
    repository.commit()
    await parts.reached(lambda: parts.counts[TaskName.GIT_REMOTE] > 1)
    assert await gateway.status("/pets/1.0.0/x") == 101
    assert await gateway.status("/fish/1.0.0/x") == 404
    (told,) = await problems(gateway)
    assert "`git_remote` fails (RecursionError)" in told
    monkeypatch.setattr(git_checkout, "unpack", take_apart)
    await served(gateway, "/fish/1.0.0/x")
    await parts.reached(lambda: not parts.failing)


async def test_projects_that_cannot_be_compiled(
    nursery: trio.Nursery, base: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start the other sources are served; later the last good table stays."""
    compiled = compiler.compile_table

    def fails(projects: Any, *arguments: Any, **options: Any) -> Any:
        if any(project.name == "Bad" for project in projects):
            raise RecursionError
        return compiled(projects, *arguments, **options)

    monkeypatch.setattr(compile_module, "compile_table", fails)
    parts = Faulty((), 0)
    gateway = await start(nursery, base, backend, parts)
    write(gateway.apis, "bad", api("Bad", "/bad", backend.url), asyncapi({"/*": OPEN}))
    await parts.reached(lambda: parts.counts[TaskName.TABLE] > 0)
    assert await gateway.status("/one/1.0.0/x") == 101
    assert "`route_table` fails (RecursionError)" in (await problems(gateway))[0]
    gateway.stop.set()
    again = await start_gateway(
        nursery, base, git={"url": f"file://{base}/repository/served/apis.git", "interval": 0.05}
    )
    assert await again.status("/pets/1.0.0/x") == 101
    assert await again.status("/one/1.0.0/x") == 404
    assert json.loads((await again.get("/ready")).body)["failing"] == ["route_table"]
