"""Projects from a git repository (spec: adapter-rest §9; reference test D17), with real git."""

from __future__ import annotations

import json
import shutil
import ssl
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme

from support.adminapi import logged_in, packed
from support.backends import Backend, start_echo
from support.gateway import RunningGateway, start_gateway
from support.logged import Logged, logged
from support.projects import api, asyncapi, write
from support.repositories import OPEN, TOKEN, USER, Repository, git, start_git_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
async def backend(nursery: trio.Nursery) -> Backend:
    return await start_echo(nursery)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


@pytest.fixture
def log() -> Iterator[Logged]:
    with logged("trio_gw.feed") as found:
        yield found


async def start(
    nursery: trio.Nursery, base: Path, repository: Repository, **more: Any
) -> RunningGateway:
    table = {"url": repository.url, "interval": 0.1, **more}
    return await start_gateway(nursery, base, git=table)


async def changed(gateway: RunningGateway) -> None:
    with trio.fail_after(20):
        await gateway.running.live.wait_changed()


def problems(gateway: RunningGateway) -> list[str]:
    return [str(problem) for problem in gateway.running.catalog.problems]


async def test_d17_deployed_and_redeployed(
    nursery: trio.Nursery, base: Path, repository: Repository, backend: Backend
) -> None:
    repository.project("pets", backend.url, "/old")
    repository.commit()
    gateway = await start(nursery, base, repository)
    assert await gateway.status("/pets/1.0.0/old") == 101
    assert problems(gateway) == []
    repository.project("pets", backend.url, "/new")
    repository.commit()
    await changed(gateway)
    assert await gateway.status("/pets/1.0.0/old") == 404
    assert await gateway.status("/pets/1.0.0/new") == 101


async def test_zips_beside_folders_and_what_is_neither(
    nursery: trio.Nursery, base: Path, repository: Repository, backend: Backend
) -> None:
    project = repository.project("pets", backend.url)
    shutil.make_archive(str(repository.work / "zipped"), "zip", project)
    repository.project("fish", backend.url)
    shutil.rmtree(project)
    (repository.work / "docs").mkdir()
    (repository.work / "docs" / "index.md").write_text("read me")
    (repository.work / "README.md").write_text("read me")
    write(repository.work, ".hidden", api("H", "/hidden", backend.url), asyncapi({"/*": OPEN}))
    repository.commit()
    gateway = await start(nursery, base, repository)
    for path, status in (("/pets", 101), ("/fish", 101), ("/hidden", 404)):
        assert await gateway.status(f"{path}/1.0.0/x") == status, path
    assert problems(gateway) == []


async def test_added_renamed_and_removed(
    nursery: trio.Nursery, base: Path, repository: Repository, backend: Backend
) -> None:
    repository.project("pets", backend.url)
    repository.commit()
    gateway = await start(nursery, base, repository)
    # Another API in the same folder: the old one goes, although it has no id.
    repository.project("pets", backend.url, name="Cats", context="/cats")
    repository.project("fish", backend.url)
    repository.commit()
    await changed(gateway)
    found = [await gateway.status(f"/{name}/1.0.0/x") for name in ("pets", "cats", "fish")]
    assert found == [404, 101, 101]
    shutil.rmtree(repository.work / "fish")
    repository.commit()
    await changed(gateway)
    assert await gateway.status("/fish/1.0.0/x") == 404
    assert await gateway.status("/cats/1.0.0/x") == 101


async def test_a_broken_commit_changes_nothing_and_says_why(
    nursery: trio.Nursery, base: Path, repository: Repository, backend: Backend, log: Logged
) -> None:
    repository.project("pets", backend.url)
    repository.project("fish", backend.url)
    good = repository.commit()
    gateway = await start(nursery, base, repository)
    repository.project("pets", "ws://bad host")
    repository.project("fish", backend.url, "/new")
    bad = repository.commit()
    await log.wait("is rejected")
    for path in ("/pets/1.0.0/x", "/fish/1.0.0/x"):
        assert await gateway.status(path) == 101
    first, *rest = problems(gateway)
    assert first == (
        f"{repository.url}: commit {bad[:12]} of branch main is rejected: it has 1 error;"
        ' push a correction, or set git.broken = "skip";'
        f" commit {good[:12]} is still served"
    )
    assert [one for one in rest if one.startswith(f"git@{bad[:12]}/pets/api.yaml:")] == rest
    # Removing the project that is broken now undeploys its good version.
    shutil.rmtree(repository.work / "pets")
    repository.commit()
    await changed(gateway)
    assert await gateway.status("/pets/1.0.0/x") == 404
    assert await gateway.status("/fish/1.0.0/new") == 101
    assert problems(gateway) == []
    await log.wait("solved: ")


async def test_a_conflict_within_a_commit_is_an_error_in_it(
    nursery: trio.Nursery, base: Path, repository: Repository, backend: Backend, log: Logged
) -> None:
    repository.project("pets", backend.url)
    repository.commit()
    gateway = await start(nursery, base, repository)
    repository.project("cats", backend.url, context="/pets")
    bad = repository.commit()
    await log.wait("is rejected")
    assert await gateway.status("/pets/1.0.0/x") == 101
    assert any(one.startswith(f"git@{bad[:12]}/") for one in problems(gateway))


async def test_a_broken_project_may_be_skipped(
    nursery: trio.Nursery, base: Path, repository: Repository, backend: Backend
) -> None:
    repository.project("pets", backend.url, "/old")
    repository.project("http", backend.url, type="HTTP")
    first = repository.commit()
    async with trio.open_nursery() as inner:
        gateway = await start(inner, base, repository, broken="skip")
        assert await gateway.status("/pets/1.0.0/old") == 101
        assert all(one.startswith(f"git@{first[:12]}/http/") for one in problems(gateway))
        repository.project("pets", "ws://bad host", "/new")
        repository.project("fish", backend.url)
        second = repository.commit()
        await changed(gateway)
        inner.cancel_scope.cancel()
    # The last good version of a broken project outlives a restart, with the remote gone, too.
    shutil.rmtree(repository.bare)
    gateway = await start(nursery, base, repository, broken="skip")
    assert await gateway.status("/fish/1.0.0/x") == 101
    assert await gateway.status("/pets/1.0.0/old") == 101
    assert await gateway.status("/pets/1.0.0/new") == 404
    assert any(one.startswith(f"git@{second[:12]}/pets/api.yaml:") for one in problems(gateway))


async def test_the_last_commit_is_served_after_a_restart_without_the_remote(
    nursery: trio.Nursery, base: Path, repository: Repository, backend: Backend, log: Logged
) -> None:
    repository.project("pets", backend.url)
    commit = repository.commit()
    async with trio.open_nursery() as inner:
        gateway = await start(inner, base, repository)
        inner.cancel_scope.cancel()
    aside = repository.bare.rename(repository.bare.with_name("aside.git"))
    gateway = await start(nursery, base, repository)
    assert await gateway.status("/pets/1.0.0/x") == 101
    told = await log.wait("the repository does not exist")
    assert told.startswith(repository.url)
    assert told.endswith(f"commit {commit[:12]} is still served")
    assert (await gateway.get("/ready")).status == 200
    aside.rename(repository.bare)
    await log.wait("solved: ")
    assert problems(gateway) == []


async def test_a_first_clone_that_fails_keeps_nothing_from_being_served(
    nursery: trio.Nursery, base: Path, repository: Repository, backend: Backend
) -> None:
    write(base / "apis", "own", api("Own", "/own", backend.url), asyncapi({"/*": OPEN}))
    gateway = await start(nursery, base, repository)
    assert await gateway.status("/own/1.0.0/x") == 101
    assert (await gateway.get("/ready")).status == 200
    (told,) = problems(gateway)
    assert told == (
        f"{repository.url}: the repository is empty, or its default branch is;"
        " push a commit, or set git.branch; no commit is served yet"
    )
    repository.project("pets", backend.url)
    repository.commit()
    await changed(gateway)
    assert await gateway.status("/pets/1.0.0/x") == 101
    assert problems(gateway) == []


async def test_branches(
    nursery: trio.Nursery, base: Path, repository: Repository, backend: Backend, log: Logged
) -> None:
    repository.project("pets", backend.url, "/main")
    repository.commit()
    git(repository.work, "checkout", "--quiet", "-b", "release/1")
    repository.branch = "release/1"
    repository.project("pets", backend.url, "/release")
    commit = repository.commit()
    gateway = await start(nursery, base, repository, branch="release/1")
    assert await gateway.status("/pets/1.0.0/release") == 101
    git(repository.bare, "update-ref", "-d", "refs/heads/release/1")
    told = await log.wait("the repository has no branch release/1")
    assert told.endswith(f"commit {commit[:12]} is still served")
    assert await gateway.status("/pets/1.0.0/release") == 101


async def test_a_forced_push(
    nursery: trio.Nursery, base: Path, repository: Repository, backend: Backend, log: Logged
) -> None:
    repository.project("pets", backend.url, "/one")
    first = repository.commit()
    repository.project("pets", backend.url, "/two")
    second = repository.commit()
    gateway = await start(nursery, base, repository)
    git(repository.work, "reset", "--quiet", "--hard", first)
    repository.project("pets", backend.url, "/three")
    third = repository.commit(force=True)
    await changed(gateway)
    assert await gateway.status("/pets/1.0.0/three") == 101
    assert await gateway.status("/pets/1.0.0/two") == 404
    # One commit at a time lies on the disk, and nothing of how it came.
    await log.wait(f"is served, before {second[:12]}")
    tree, *rest = sorted((path.name for path in (base / "git").iterdir()), reverse=True)
    assert tree.startswith(f"tree-{third[:12]}-")
    assert rest == ["state.json", ".lock"]


async def test_a_folder_of_the_repository(
    nursery: trio.Nursery, base: Path, repository: Repository, backend: Backend, log: Logged
) -> None:
    meta, definition = api("Pets", "/pets", backend.url), asyncapi({"/*": OPEN})
    write(repository.work / "gateway" / "apis", "pets", meta, definition)
    write(repository.work, "elsewhere", api("E", "/elsewhere", "nothing"), definition)
    repository.commit()
    gateway = await start(nursery, base, repository, path="gateway/apis")
    assert await gateway.status("/pets/1.0.0/x") == 101
    assert problems(gateway) == []
    shutil.rmtree(repository.work / "gateway")
    repository.commit()
    assert "has no folder gateway/apis" in await log.wait("is rejected")
    assert await gateway.status("/pets/1.0.0/x") == 101


async def test_an_api_of_the_folder_gives_way_and_that_is_told(
    nursery: trio.Nursery, base: Path, repository: Repository, backend: Backend
) -> None:
    meta = api("Pets", "/pets", backend.url)
    write(base / "apis", "mine", meta, asyncapi({"/folder": OPEN}))
    repository.project("pets", backend.url, "/git")
    repository.commit()
    gateway = await start(nursery, base, repository)
    assert await gateway.status("/pets/1.0.0/git") == 101
    assert await gateway.status("/pets/1.0.0/folder") == 404
    assert any(one.startswith("apis/mine") and "git/pets" in one for one in problems(gateway))


async def test_a_damaged_tree_is_fetched_again(
    nursery: trio.Nursery, base: Path, repository: Repository, backend: Backend, log: Logged
) -> None:
    repository.project("pets", backend.url)
    repository.commit()
    async with trio.open_nursery() as inner:
        await start(inner, base, repository)
        inner.cancel_scope.cancel()
    (definition,) = (base / "git").glob("tree-*/pets/Definitions/asyncapi.yaml")
    definition.write_text(json.dumps(asyncapi({"/other": OPEN})))
    (base / "git" / ".coming-0123").mkdir()
    gateway = await start(nursery, base, repository)
    await log.wait("is served, before")
    assert await gateway.status("/pets/1.0.0/x") == 101
    assert await gateway.status("/pets/1.0.0/other") == 101  # by /*
    assert not definition.exists()
    assert not (base / "git" / ".coming-0123").exists()


async def test_a_state_that_cannot_be_read_is_made_anew(
    nursery: trio.Nursery, base: Path, repository: Repository, backend: Backend
) -> None:
    (base / "git").mkdir()
    (base / "git" / "state.json").write_text('{"source": 1')
    repository.project("pets", backend.url)
    repository.commit()
    gateway = await start(nursery, base, repository)
    assert await gateway.status("/pets/1.0.0/x") == 101
    assert problems(gateway) == []


async def test_what_is_deployed_over_rest_goes_before_git(
    nursery: trio.Nursery, base: Path, repository: Repository, backend: Backend
) -> None:
    project = repository.project("pets", backend.url, "/git")
    zipped = packed(project, "pets")
    repository.commit()
    table = {"url": repository.url, "interval": 0.1}
    gateway = await start_gateway(nursery, base, admin=True, git=table)
    client = await logged_in(gateway)
    assert [one["apiName"] for one in (await client.list()).json()["list"]] == ["Pets"]
    assert (await client.deploy(zipped)).status == 409
    aside = write(base / "aside", "pets", api("Pets", "/pets", backend.url), asyncapi({"/r": OPEN}))
    assert (await client.deploy(packed(aside, "pets"), override=True)).status == 200
    assert await gateway.status("/pets/1.0.0/r") == 101
    assert await gateway.status("/pets/1.0.0/git") == 404
    assert problems(gateway) == []
    # Undeployed it is gone, from git as well…
    assert (await client.undeploy("Pets")).status == 200
    assert await gateway.status("/pets/1.0.0/git") == 404
    assert (await client.undeploy("Pets")).status == 404
    # …also after other commits, until its own files change.
    repository.project("fish", backend.url)
    repository.commit()
    await changed(gateway)
    assert await gateway.status("/fish/1.0.0/x") == 101
    assert await gateway.status("/pets/1.0.0/git") == 404
    repository.project("pets", backend.url, "/again")
    repository.commit()
    await changed(gateway)
    assert await gateway.status("/pets/1.0.0/again") == 101


async def test_with_a_token_over_tls(
    nursery: trio.Nursery, base: Path, repository: Repository, backend: Backend, log: Logged
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(base / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    root = repository.bare.parent
    server = await start_git_server(nursery, root, tls=context, credentials=f"{USER}:{TOKEN}")
    repository.project("pets", backend.url, "/one")
    repository.commit()
    more = {"url": server.url, "ca": "ca.pem", "username": USER, "token": TOKEN}
    gateway = await start(nursery, base, repository, **more)
    assert await gateway.status("/pets/1.0.0/one") == 101
    server.expected = b"Basic of somebody else"
    told = await log.wait("does not accept the credentials")
    assert TOKEN not in told
    server.expected = f"Basic {b64encode(f'{USER}:{TOKEN}'.encode()).decode()}".encode()
    await log.wait("solved: ")
    repository.project("pets", backend.url, "/two")
    repository.commit()
    await changed(gateway)
    assert await gateway.status("/pets/1.0.0/two") == 101
