"""Commits of all kinds, also hostile ones, and a remote that comes and goes."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio

from support.projects import api, asyncapi, write
from support.repositories import OPEN, GitServer, Repository, git, start_git_server
from trio_gw.config.git import GitSettings as Table
from trio_gw.config.settings import Settings
from trio_gw.feed import git_command
from trio_gw.feed.commit_store import CommitStore
from trio_gw.feed.git_poller import GitPoller
from trio_gw.feed.git_source import GitSource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from trio_gw.config.api import ApiProject
    from trio_gw.errors import Problem

BACKEND = "ws://localhost:1"


class Served:
    """What a source publishes; each change of it can be awaited."""

    def __init__(self) -> None:
        self.projects: dict[str, ApiProject] = {}
        self.problems: tuple[Problem, ...] = ()
        self.settled = 0
        self._came = trio.Event()

    def publish(
        self, projects: dict[str, ApiProject], problems: tuple[Problem, ...], _: Mapping[str, str]
    ) -> None:
        self.projects, self.problems = projects, problems
        came, self._came = self._came, trio.Event()
        came.set()

    async def settle(self) -> None:
        self.settled += 1

    async def told(self, text: str) -> str:
        """Wait for a problem that holds this text."""
        with trio.fail_after(20):
            while not (found := [str(one) for one in self.problems if text in str(one)]):
                await self._came.wait()
        return found[0]

    async def serving(self, *names: str, whole: bool = True) -> None:
        """Wait until exactly these projects are served, and, if `whole`, nothing is wrong."""
        with trio.fail_after(20):
            while set(self.projects) != set(names) or (whole and self.problems):
                await self._came.wait()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repository")
    made.project("pets", BACKEND)
    made.commit()
    return made


async def follow(
    nursery: trio.Nursery, base: Path, url: str, *, polls: bool = True, **more: Any
) -> tuple[GitSource, Served]:
    table = {"url": url, "interval": 0.05, **more}
    settings = Settings(git=msgspec.convert(table, Table))
    served = Served()
    source = GitSource(settings.git, base, served.publish, polls=polls)
    await nursery.start(source.run)
    if polls:
        nursery.start_soon(GitPoller(source, settings, base, served.settle).run)
    return source, served


def blob(repository: Repository, data: bytes) -> str:
    return git(repository.bare, "hash-object", "-w", "--stdin", stdin=data)


def tree(repository: Repository, *entries: tuple[str, bytes, str]) -> str:
    """Write a tree of (mode, name, object), without the checks of git."""
    raw = b"".join(
        f"{mode} ".encode() + name + b"\0" + bytes.fromhex(object_)
        for mode, name, object_ in entries
    )
    options = ("-t", "tree", "--literally", "-w", "--stdin")
    return git(repository.bare, "hash-object", *options, stdin=raw)


def nested(repository: Repository, folder: Path, inside: str, depth: int) -> str:
    """Write `depth` trees around another one, with a single run of git."""
    folder.mkdir()
    for number in range(depth):
        raw = b"40000 d\0" + bytes.fromhex(inside)
        (folder / f"{number:03}").write_bytes(raw)
        inside = hashlib.sha1(b"tree %d\0" % len(raw) + raw, usedforsecurity=False).hexdigest()
    paths = "\n".join(map(str, sorted(folder.iterdir())))
    options = ("-t", "tree", "--literally", "-w", "--stdin-paths")
    git(repository.bare, "hash-object", *options, stdin=paths.encode())
    return inside


def publish(repository: Repository, root: str) -> str:
    commit = git(repository.bare, "commit-tree", "-m", "x", root)
    git(repository.bare, "update-ref", "refs/heads/main", commit)
    return commit


# -- hostile commits ---------------------------------------------------------------------------


def with_pets(repository: Repository, *entries: tuple[str, bytes, str]) -> str:
    """Publish the good project, and what else is in its folder."""
    pets = git(repository.bare, "rev-parse", "main:pets/Definitions")
    meta = git(repository.bare, "rev-parse", "main:pets/api.yaml")
    good = (("40000", b"Definitions", pets), ("100644", b"api.yaml", meta))
    inside = tree(repository, *good, *entries)
    return publish(repository, tree(repository, ("40000", b"pets", inside)))


def names_of(base: Path) -> set[str]:
    """Name all that was written for the served commit, relative to its root."""
    (root,) = (base / "git").glob("tree-*")
    return {str(path.relative_to(root)) for path in root.rglob("*")}


async def test_links_out_of_the_repository(
    nursery: trio.Nursery, tmp_path: Path, repository: Repository
) -> None:
    (tmp_path / "secret.yaml").write_text("asyncapi: 2.0.0")
    _, served = await follow(nursery, tmp_path, repository.url)
    await served.serving("pets")
    target = blob(repository, f"{tmp_path}/secret.yaml".encode())
    definitions = tree(repository, ("120000", b"asyncapi.yaml", target))
    meta = git(repository.bare, "rev-parse", "main:pets/api.yaml")
    inside = tree(repository, ("40000", b"Definitions", definitions), ("100644", b"api.yaml", meta))
    publish(repository, tree(repository, ("40000", b"pets", inside)))
    told = await served.told("outside the watched folder")
    assert "/pets/Definitions/asyncapi.yaml" in told
    assert set(served.projects) == {"pets"}


async def test_a_link_inside_of_the_repository(
    nursery: trio.Nursery, tmp_path: Path, repository: Repository
) -> None:
    project = repository.project("cats", BACKEND)
    shutil.rmtree(project / "Definitions")
    (project / "Definitions").symlink_to("../pets/Definitions")
    repository.commit()
    _, served = await follow(nursery, tmp_path, repository.url)
    await served.serving("cats", "pets")


async def test_a_link_and_a_folder_of_one_name(
    nursery: trio.Nursery, tmp_path: Path, repository: Repository
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target, data = blob(repository, str(outside).encode()), blob(repository, b"x")
    _, served = await follow(nursery, tmp_path, repository.url)
    await served.serving("pets")
    folder = tree(repository, ("100644", b"api.yaml", data))
    commit = with_pets(repository, ("120000", b"x", target), ("40000", b"x", folder))
    told = await served.told("is both a file and a folder")
    assert f"commit {commit[:12]} of branch main is rejected: pets/x" in told
    link = blob(repository, b"api.yaml")
    folder = tree(repository, ("120000", b"y", link))
    commit = with_pets(repository, ("120000", b"x", target), ("40000", b"x", folder))
    await served.told(f"commit {commit[:12]} of branch main is rejected: pets/x/y is both")
    assert list(outside.iterdir()) == []
    assert set(served.projects) == {"pets"}


@pytest.mark.parametrize("name", [b"..", b".", b".git", b".GIT", b".hidden"])
async def test_dot_names_are_left_out(
    nursery: trio.Nursery, tmp_path: Path, repository: Repository, name: bytes
) -> None:
    data = blob(repository, b"x")
    folder = tree(repository, ("100755", b"api.yaml", data))
    with_pets(repository, ("40000", name, folder))
    _, served = await follow(nursery, tmp_path, repository.url)
    await served.serving("pets")
    expected = {"pets", "pets/api.yaml", "pets/Definitions", "pets/Definitions/asyncapi.yaml"}
    assert names_of(tmp_path) == expected


@pytest.mark.parametrize("name", [b"a/b", b"x" * 300, b""], ids=["slash", "long", "empty"])
async def test_names_that_no_file_has(
    nursery: trio.Nursery, tmp_path: Path, repository: Repository, name: bytes
) -> None:
    _, served = await follow(nursery, tmp_path, repository.url)
    await served.serving("pets")
    data = blob(repository, b"x")
    with_pets(repository, ("100644", name, data))
    if name == b"a/b":  # It is written as a path, and that is all it can do.
        await served.serving("pets")
        return
    if name:
        assert "is not a valid file name" in await served.told("is rejected")
    else:  # Already the other side stumbles over it.
        await served.told("empty filename in tree entry")
    assert set(served.projects) == {"pets"}


async def test_submodules_programs_and_attributes_have_no_effect(
    nursery: trio.Nursery, tmp_path: Path, repository: Repository
) -> None:
    hook = blob(repository, b"#!/bin/sh\ntouch /tmp/ran\n")
    head = git(repository.bare, "rev-parse", "main")
    with_pets(
        repository,
        ("100644", b".gitattributes", blob(repository, b"* filter=x eol=crlf\n")),
        ("100755", b"post-checkout", hook),
        ("160000", b"sub", head),
    )
    _, served = await follow(nursery, tmp_path, repository.url)
    await served.serving("pets")
    (found,) = (tmp_path / "git").glob("tree-*/pets/post-checkout")
    assert not found.stat().st_mode & stat.S_IXUSR
    assert not (found.parent / "sub").exists()


async def test_a_tree_without_end(
    nursery: trio.Nursery, tmp_path: Path, repository: Repository
) -> None:
    """Ten folders in ten folders in ten…: 10^12 files in a few hundred octets."""
    inside = tree(repository, ("100644", b"api.yaml", blob(repository, b"x")))
    for _ in range(12):
        entries = [("40000", f"d{number}".encode(), inside) for number in range(10)]
        inside = tree(repository, *entries)
    commit = publish(repository, inside)
    _, served = await follow(nursery, tmp_path, repository.url)
    told = await served.told("git ls-tree has too much output")
    assert f"commit {commit[:12]}" in told
    assert list((tmp_path / "git").glob("tree-*")) == []


async def test_a_commit_that_is_nested_too_deeply(
    nursery: trio.Nursery, tmp_path: Path, repository: Repository
) -> None:
    """A good commit behind it is taken up, and what an earlier fetch left behind is removed."""
    left = tmp_path / "git" / ".coming-0123"
    deep = left
    for _ in range(990):
        deep = deep / "d"
        deep.mkdir(parents=True) if deep.parent == left else deep.mkdir()
    (deep / "left").write_bytes(b"x")
    inside = tree(repository, ("100644", b"api.yaml", blob(repository, b"x")))
    inside = nested(repository, tmp_path / "trees", inside, 990)
    commit = with_pets(repository, ("40000", b"deep", inside))
    source, served = await follow(nursery, tmp_path, repository.url)
    told = await served.told("is nested deeper than 16 folders")
    assert f"commit {commit[:12]}" in told
    assert "pets/deep/d/d/" in told
    assert len(told) < 500
    assert not left.exists()
    assert served.projects == {}
    repository.project("fish", BACKEND)
    # As deep as a folder of projects may be.
    (repository.work / "fish" / "/".join("d" * 15)).mkdir(parents=True)
    (repository.work / "fish" / "/".join("d" * 15) / "note").write_text("x")
    git(repository.work, "add", "--all")
    git(repository.work, "commit", "--quiet", "-m", "x")
    repository.push(force=True)
    await served.serving("fish", "pets")
    assert source.state.faults == ()


async def test_more_than_the_limit(
    nursery: trio.Nursery,
    tmp_path: Path,
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(git_command, "OVERHEAD", 1 << 20)
    _, served = await follow(nursery, tmp_path, repository.url, max_size=1)
    await served.serving("pets")
    with_pets(repository, ("100644", b"zeros.bin", blob(repository, bytes(2 << 20))))
    assert "larger than git.max_size, 1 MiB" in await served.told("is rejected")
    git(repository.work, "fetch", "--quiet", str(repository.bare), "main")
    git(repository.work, "reset", "--quiet", "--hard", "FETCH_HEAD")
    (repository.work / "noise.bin").write_bytes(os.urandom(3 << 20))
    commit = repository.commit()
    told = await served.told(f"commit {commit[:12]} of branch main is rejected")
    assert "the commit is larger than git.max_size" in told
    assert set(served.projects) == {"pets"}
    assert not list((tmp_path / "git").glob(".coming-*/repository/objects/pack/*.pack"))


# -- the remote --------------------------------------------------------------------------------


async def test_an_unchanged_branch_costs_one_question(
    nursery: trio.Nursery, tmp_path: Path, repository: Repository
) -> None:
    server = await start_git_server(nursery, repository.bare.parent)
    _, served = await follow(nursery, tmp_path, server.url)
    await served.serving("pets")
    await server.asked(8)
    assert fetches(server) <= 1


def fetches(server: GitServer) -> int:
    """Count how often more was asked than one question: each is a GET and a POST, a fetch three."""
    return sum("POST" in line for line in server.requests) - sum(
        "GET" in line for line in server.requests
    )


async def test_a_commit_that_was_rejected_is_not_fetched_again(
    nursery: trio.Nursery, tmp_path: Path, repository: Repository
) -> None:
    server = await start_git_server(nursery, repository.bare.parent)
    repository.project("pets", "ws://bad host")
    repository.commit()
    _, served = await follow(nursery, tmp_path, server.url)
    assert "no commit is served yet" in await served.told("it has 1 error")
    await server.asked(8)
    assert fetches(server) <= 1
    assert any("/pets/api.yaml:" in str(one) for one in served.problems)
    repository.project("pets", BACKEND)
    repository.commit()
    await served.serving("pets")


async def test_a_remote_that_goes_and_comes_back(
    nursery: trio.Nursery, tmp_path: Path, repository: Repository
) -> None:
    server = await start_git_server(nursery, repository.bare.parent)
    _, served = await follow(nursery, tmp_path, server.url)
    await served.serving("pets")
    server.redirect = "http://localhost:1"
    told = await served.told("cannot be reached")
    assert told.startswith(server.url)
    assert set(served.projects) == {"pets"}
    server.redirect = ""
    await served.serving("pets")


async def test_pauses_grow_while_the_remote_fails(tmp_path: Path) -> None:
    settings = Settings(git=Table(url="https://localhost:1/a", interval=30))
    served = Served()
    source = GitSource(settings.git, tmp_path, served.publish, polls=True)
    asker = GitPoller(source, settings, tmp_path, served.settle)
    pauses = [asker._pause(failures) for failures in range(9)]
    assert pauses == [30, 5, 10, 20, 40, 80, 160, 300, 300]
    assert asker._pause(10_000) == 300


async def test_one_asks_and_the_others_follow(
    nursery: trio.Nursery, tmp_path: Path, repository: Repository
) -> None:
    follower, there = await follow(nursery, tmp_path, repository.url, polls=False)
    assert not follower.tried.is_set()
    _, here = await follow(nursery, tmp_path, repository.url)
    await here.serving("pets")
    await there.serving("pets")
    assert follower.tried.is_set()
    repository.project("pets", "ws://bad host")
    repository.commit()
    assert await here.told("is rejected") == await there.told("is rejected")


async def test_of_two_gateways_with_one_folder_one_asks(
    nursery: trio.Nursery, tmp_path: Path, repository: Repository
) -> None:
    with CommitStore(tmp_path / "git").locked() as mine:
        assert mine
        source, served = await follow(nursery, tmp_path, repository.url)
        with trio.fail_after(20):
            await source.tried.wait()
        assert served.projects == {}
    await served.serving("pets")


async def test_another_repository_starts_from_nothing(
    nursery: trio.Nursery, tmp_path: Path, repository: Repository
) -> None:
    async with trio.open_nursery() as inner:
        _, served = await follow(inner, tmp_path, repository.url)
        await served.serving("pets")
        inner.cancel_scope.cancel()
    other = Repository(tmp_path / "other")
    other.project("fish", BACKEND)
    other.commit()
    _, served = await follow(nursery, tmp_path, other.url, polls=False)
    assert served.projects == {}
    _, served = await follow(nursery, tmp_path, other.url)
    await served.serving("fish")


async def test_a_folder_that_cannot_be_written(
    nursery: trio.Nursery, tmp_path: Path, repository: Repository
) -> None:
    (tmp_path / "git").write_text("in the way")
    source, served = await follow(nursery, tmp_path, repository.url)
    told = await served.told("cannot be used for git (File exists)")
    assert told.startswith("git: ")
    with trio.fail_after(20):
        await source.tried.wait()
    (tmp_path / "git").unlink()
    await served.serving("pets")


async def test_a_repository_with_longer_names_of_objects(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    made = Repository(tmp_path / "long")
    for folder in (made.work, made.bare):
        shutil.rmtree(folder)
        folder.mkdir()
    git(made.work, "init", "--quiet", "--initial-branch=main", "--object-format=sha256")
    git(made.bare, "init", "--quiet", "--bare", "--initial-branch=main", "--object-format=sha256")
    write(made.work, "pets", api("Pets", "/pets", BACKEND), asyncapi({"/*": OPEN}))
    made.commit()
    _, served = await follow(nursery, tmp_path, made.url)
    await served.serving("pets")


async def test_a_commit_without_projects_is_a_warning(
    nursery: trio.Nursery, tmp_path: Path, repository: Repository
) -> None:
    _, served = await follow(nursery, tmp_path, repository.url)
    await served.serving("pets")
    shutil.rmtree(repository.work / "pets")
    (repository.work / "README.md").write_text("nothing")
    repository.commit()
    assert "has no API project" in await served.told("warning: ")
    assert served.projects == {}


async def test_cancelled_in_the_middle_of_a_fetch(
    nursery: trio.Nursery, tmp_path: Path, repository: Repository
) -> None:
    server = await start_git_server(nursery, repository.bare.parent)
    async with trio.open_nursery() as inner:
        await follow(inner, tmp_path, server.url)
        await server.asked(3)  # the first question is answered, the fetch goes on
        server.gate = trio.Event()
        inner.cancel_scope.cancel()
    assert not list((tmp_path / "git").glob(".coming-*"))


async def renewable(
    nursery: trio.Nursery, base: Path, table: Table
) -> tuple[Callable[[Table], None], Served]:
    """Follow a repository; what is returned first renews the table."""
    settings, served = Settings(git=table), Served()
    source = GitSource(table, base, served.publish, polls=True)
    asker = GitPoller(source, settings, base, served.settle)
    await nursery.start(source.run)
    nursery.start_soon(asker.run)

    def renew(renewed: Table) -> None:
        source.renew(renewed)
        asker.renew(renewed)

    return renew, served


async def test_another_folder_of_the_same_commit(
    nursery: trio.Nursery, tmp_path: Path, repository: Repository
) -> None:
    repository.project("live/cats", BACKEND, name="Cats", context="/cats")
    repository.project("staging/fish", BACKEND, name="Fish", context="/fish")
    repository.commit()
    table = Table(url=repository.url, path="live")
    renew, served = await renewable(nursery, tmp_path, table)
    await served.serving("cats")
    renew(msgspec.structs.replace(table, path="staging"))
    await served.serving("fish")
    renew(msgspec.structs.replace(table, path="nowhere"))
    assert "is still served" in await served.told("no folder nowhere")
    assert set(served.projects) == {"fish"}
    renew(table)
    await served.serving("cats")


async def test_nothing_of_the_old_repository_fixes_the_new_one(
    nursery: trio.Nursery, tmp_path: Path, repository: Repository
) -> None:
    other = Repository(tmp_path / "other")
    other.project("pets", "ws://bad host")
    other.project("fish", BACKEND)
    other.commit()
    table = Table(url=repository.url, broken="skip")
    renew, served = await renewable(nursery, tmp_path, table)
    await served.serving("pets")
    renew(msgspec.structs.replace(table, url=other.url))
    await served.told("/pets/api.yaml:")
    assert set(served.projects) == {"fish"}


async def test_what_was_rejected_is_taken_up_when_the_settings_allow_it(
    nursery: trio.Nursery, tmp_path: Path, repository: Repository
) -> None:
    repository.project("fish", "ws://bad host")
    repository.commit()
    table = Table(url=repository.url, interval=3600)
    renew, served = await renewable(nursery, tmp_path, table)
    await served.told("is rejected")
    assert served.projects == {}
    renew(msgspec.structs.replace(table, broken="skip"))
    await served.serving("pets", whole=False)
    (told,) = served.problems
    assert "/fish/api.yaml:" in str(told)


async def test_renewed_in_the_middle_of_a_fetch(
    nursery: trio.Nursery, tmp_path: Path, repository: Repository
) -> None:
    server = await start_git_server(nursery, repository.bare.parent)
    other = Repository(tmp_path / "other")
    other.project("fish", BACKEND)
    other.commit()
    table = Table(url=server.url)
    renew, served = await renewable(nursery, tmp_path, table)
    await server.asked(3)  # the first question is answered, the fetch goes on
    server.gate = trio.Event()
    renew(msgspec.structs.replace(table, url=other.url))
    await served.serving("fish")
    assert not list((tmp_path / "git").glob(".coming-*"))
