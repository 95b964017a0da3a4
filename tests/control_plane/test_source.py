"""The source of one worker: what it publishes of the state, and what it loads for a change."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio

from support.control_plane import PLACES, store_artifact
from support.state_writing import SOURCE
from trio_gw.config.entitlements import ApiRow, Change, RevokedRow, SubscriptionRow
from trio_gw.config.settings import Environment
from trio_gw.control_plane import artifact_loading, source, state_reader
from trio_gw.control_plane.artifact_folder import ArtifactFolder
from trio_gw.control_plane.effects import Effects
from trio_gw.control_plane.source import ControlPlaneSource
from trio_gw.control_plane.state import Artifact, StateChange
from trio_gw.control_plane.state_reader import StateReader
from trio_gw.control_plane.state_writer import StateWriter
from trio_gw.control_plane.status import ControlPlaneStatus
from trio_gw.feed.catalog import Catalog
from trio_gw.feed.origins import APIS, CONTROL_PLANE, DEPLOYED, GIT
from trio_gw.guard.blocklist import Blocklist
from trio_gw.guard.caller import Caller
from trio_gw.guard.keys import KeyRing
from trio_gw.guard.revocations import Revocations
from trio_gw.routing.compiler import EMPTY
from trio_gw.routing.live import Live

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from trio_gw.config.api import ApiProject
    from trio_gw.control_plane.project_cache import Source
    from trio_gw.feed.project_state import LoadResult

EDGE = (("Edge", "edge.example"),)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_reader, "POLL", 0.005)


class Worker:
    """A worker's reader, source and table. `loads` are the digests that it loaded."""

    def __init__(self, folder: Path, *, follows: bool) -> None:
        self.live = Live(EMPTY)
        self.revocations = Revocations()
        self.reader = StateReader(folder, SOURCE, "cache")
        self.artifacts = ArtifactFolder(folder / "artifacts")
        self.writer = StateWriter(self.reader, self.artifacts, "cache")
        environments = (Environment(), Environment("Edge", "edge.example"))
        self.catalog = Catalog(
            self.live, environments, origins=(DEPLOYED, CONTROL_PLANE, GIT, APIS)
        )
        for origin in (DEPLOYED, GIT, APIS):
            self.catalog.publish(origin, {}, ())
        self.status = ControlPlaneStatus(follows=follows)
        self.published = 0
        effects = Effects(self.live, self.revocations, Blocklist(), KeyRing([], folder))
        self.source = ControlPlaneSource(
            *(self.reader, self.artifacts, effects, self.publish, self.status)
        )

    def publish(self, *arguments: Any) -> None:
        self.published += 1
        self.catalog.publish(*arguments)

    async def until(self, *titles: str, host: str = "localhost") -> None:
        """Wait until these APIs are served on a host, and no others."""
        with trio.fail_after(10):
            while self.served(host) != {*titles}:
                await self.live.wait_changed()

    def served(self, host: str = "localhost") -> set[str]:
        return {project.title for there, _, project in self.live.table.bases() if there == host}

    async def problem(self) -> str:
        """Wait for a problem, and return it."""
        with trio.fail_after(10):
            while not self.catalog.problems:  # noqa: ASYNC110 - the catalog tells nobody
                await trio.sleep(0.005)
        return str(self.catalog.problems[0])


@contextlib.asynccontextmanager
async def worker(folder: Path, *, follows: bool = False) -> AsyncIterator[Worker]:
    """Run a worker; the one that follows API Manager also writes."""
    made = Worker(folder, follows=follows)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.reader.run)
        await nursery.start(made.catalog.run)
        if follows:
            await nursery.start(made.writer.run)
            await made.writer.opened.wait()
        await nursery.start(made.source.run)
        yield made
        nursery.cancel_scope.cancel()


class Apis:
    """Deploys APIs by changes of the state."""

    def __init__(self, writer: StateWriter, base: Path) -> None:
        self.writer = writer
        self._base = base

    async def deploy(
        self, name: str, places: tuple[tuple[str, str], ...] = PLACES, /, **more: Any
    ) -> Artifact:
        """Deploy an API whose name is its UUID too; returns the artifact."""
        artifact = store_artifact(self.writer.artifacts, self._base, name, places, **more)
        await self.writer.change(StateChange(artifacts={name: (artifact,)}, pulled_at=1.0))
        return artifact


def project_of(served: Worker, title: str) -> ApiProject:
    """Return a project that is served."""
    (found,) = {each for _, _, each in served.live.table.bases() if each.title == title}
    return found


async def test_all_workers_serve_what_one_writes(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    async with worker(cache, follows=True) as first, worker(cache) as second:
        apis = Apis(first.writer, tmp_path)
        assert not first.source.served.is_set()
        await apis.deploy("Chat")
        await apis.deploy("News", EDGE)
        await first.until("Chat:1.0.0")
        for each in (first, second):
            await each.until("Chat:1.0.0")
            await each.until("News:1.0.0", host="edge.example")
            assert each.source.served.is_set()
        rows = (SubscriptionRow(1, "Chat", "app"), RevokedRow("token"))
        await first.writer.change(StateChange(Change(rows)))
        with trio.fail_after(10):
            while not second.live.entitlements.subscriptions:
                await second.live.entitled.wait()
        assert second.revocations.covers(Caller("alice", token_id="token"))
        assert first.live.entitlements.subscribed["app", "Chat"] == (1,)
        assert second.status.served["subscriptions"] == 1
        await first.writer.change(StateChange(artifacts={"Chat": ()}))
        await second.until()


async def test_one_change_loads_one_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    original = artifact_loading._load

    def load(folder: ArtifactFolder, source: Source) -> LoadResult:
        loads.append(source[0])
        return original(folder, source)

    monkeypatch.setattr(artifact_loading, "_load", load)
    async with worker(tmp_path / "cache", follows=True) as first:
        apis = Apis(first.writer, tmp_path)
        found = [(await apis.deploy(name)).digest for name in ("One", "Two", "Three")]
        await first.until("One:1.0.0", "Two:1.0.0", "Three:1.0.0")
        assert sorted(loads) == sorted(found)  # two that come together are loaded in any order
        routes = dict(first.live.table.apis)
        changed = await apis.deploy("Two", apiThrottlingPolicy="Gold")
        with trio.fail_after(10):
            while project_of(first, "Two:1.0.0").tier == "Unlimited":
                await first.live.wait_changed()
        assert sorted(loads) == sorted([*found, changed.digest])
        kept = [name for name, each in first.live.table.apis.items() if each is routes[name]]
        assert len(kept) == 2
        # Where it is served, and whether it is the default version, need no load.
        published = first.published
        row = ApiRow("Two", "Two", "1.0.0", is_default=True)
        await first.writer.change(StateChange(Change((row,))))
        with trio.fail_after(10):
            while not project_of(first, "Two:1.0.0").default_version:
                await first.live.wait_changed()
        await apis.deploy("Two", EDGE, apiThrottlingPolicy="Gold")
        await first.until("Two:1.0.0", host="edge.example")
        assert sorted(loads) == sorted([*found, changed.digest])
        # A change of rows that no project needs publishes nothing.
        published = first.published
        await first.writer.change(StateChange(Change((ApiRow("other"), SubscriptionRow(1)))))
        assert first.published == published


async def test_the_state_of_an_earlier_run_is_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    async with worker(cache, follows=True) as first:
        await Apis(first.writer, tmp_path).deploy("Chat")
        await first.until("Chat:1.0.0")
    caplog.clear()
    async with worker(cache) as second:
        await second.catalog.applied()
        assert second.served() == {"Chat:1.0.0"}
        assert second.source.served.is_set()
    assert caplog.messages == ["table 1: 1 API; added Chat:1.0.0"]
    async with worker(cache, follows=True):
        pass
    said = (
        "serving the last known state, of 1970-01-01T00:00:01+00:00:"
        " API Manager has not answered yet"
    )
    assert said in caplog.messages


async def test_a_broken_revision_leaves_the_last_good_one(tmp_path: Path) -> None:
    async with worker(tmp_path / "cache", follows=True) as first:
        apis = Apis(first.writer, tmp_path)
        await apis.deploy("Chat")
        await first.until("Chat:1.0.0")
        await apis.deploy("News", broken=True)
        assert (await first.problem()).startswith("control_plane/News/News-1.0.0/api.yaml")
        await first.writer.change(StateChange(artifacts={"News": ()}))
        with trio.fail_after(10):
            while first.catalog.problems:  # noqa: ASYNC110 - the catalog tells nobody
                await trio.sleep(0.005)
        await apis.deploy("Chat", broken=True)
        said = await first.problem()
        assert said.startswith("control_plane/Chat-1.0.0-Chat/Chat-1.0.0/api.yaml:1:")
        assert first.served() == {"Chat:1.0.0"}


async def test_a_zip_that_is_missing_may_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "RETRY", 0.02)
    async with worker(tmp_path / "cache", follows=True) as first:
        apis = Apis(first.writer, tmp_path)
        artifact = await apis.deploy("Chat")
        await first.until("Chat:1.0.0")
        await first.writer.change(StateChange(artifacts={"Chat": ()}))
        await first.until()
        path = first.artifacts.root / f"{artifact.digest}.zip"
        data = path.read_bytes()
        for harm in (b"", None):
            for each in list(path.parent.iterdir()):
                each.unlink()
            if harm is not None:
                path.write_bytes(harm)
            await first.writer.change(StateChange(artifacts={"Chat": (artifact,)}))
            what = "zip is damaged" if harm is not None else "zip cannot be read"
            assert what in await first.problem()
            path.write_bytes(data)
            await first.until("Chat:1.0.0")
            await first.writer.change(StateChange(artifacts={"Chat": ()}))
            await first.until()


async def test_two_revisions_on_two_hosts(tmp_path: Path) -> None:
    async with worker(tmp_path / "cache", follows=True) as first:
        apis = Apis(first.writer, tmp_path)
        one = await apis.deploy("Chat")
        two = await apis.deploy("Chat", EDGE, apiThrottlingPolicy="Gold")
        await first.writer.change(StateChange(artifacts={"Chat": (one, two)}))
        expected = {
            "control_plane/Chat-1.0.0-Chat@localhost": "Unlimited",
            "control_plane/Chat-1.0.0-Chat@edge.example": "Gold",
        }
        with trio.fail_after(10):
            while {each.folder: each.tier for _, _, each in first.live.table.bases()} != expected:
                await first.live.wait_changed()


async def test_an_environment_may_have_other_backends(tmp_path: Path) -> None:
    async with worker(tmp_path / "cache", follows=True) as first:
        apis = Apis(first.writer, tmp_path)
        await apis.deploy("Chat", production="wss://one.example/x", sandbox="ws://two.example")
        await first.until("Chat:1.0.0")
        project = project_of(first, "Chat:1.0.0")
        assert project.production is not None
        assert project.sandbox is not None
        assert [str(each) for each in project.production.endpoints] == ["wss://one.example:443/x"]
        assert [str(each) for each in project.sandbox.endpoints] == ["ws://two.example:80"]
        await apis.deploy("Chat", production="ftp://one.example")
        said = await first.problem()
        assert said.startswith("control_plane/Chat-1.0.0-Chat: the endpoint of its environment:")
        assert project_of(first, "Chat:1.0.0").production == project.production


async def test_the_same_api_in_the_folder_gives_way(tmp_path: Path) -> None:
    async with worker(tmp_path / "cache", follows=True) as first:
        apis = Apis(first.writer, tmp_path)
        await apis.deploy("Chat", description="theirs")
        await first.until("Chat:1.0.0")
        mine = project_of(first, "Chat:1.0.0")
        await first.writer.change(StateChange(artifacts={"Chat": ()}))
        await first.until()
        first.catalog.publish(APIS, {"chat": msgspec.structs.replace(mine, folder="apis/chat")})
        await first.until("Chat:1.0.0")
        assert project_of(first, "Chat:1.0.0").folder == "apis/chat"
        await apis.deploy("Chat")
        with trio.fail_after(10):
            while project_of(first, "Chat:1.0.0").folder == "apis/chat":
                await first.live.wait_changed()
        await first.writer.change(StateChange(artifacts={"Chat": ()}))
        with trio.fail_after(10):
            while project_of(first, "Chat:1.0.0").folder != "apis/chat":
                await first.live.wait_changed()


async def test_names_of_apis_that_are_no_file_names(tmp_path: Path) -> None:
    async with worker(tmp_path / "cache", follows=True) as first:
        digest = (await Apis(first.writer, tmp_path).deploy("Chat")).digest
        await first.until("Chat:1.0.0")
        odd = "../\n\x1b[2J" * 50
        artifact = Artifact(odd, odd, digest[:-1] + "/", ((odd, odd),), odd)
        row = ApiRow(odd, odd, odd)
        await first.writer.change(StateChange(Change((row,)), {odd: (artifact,)}))
        said = await first.problem()
        assert said.startswith("control_plane/.._")
        assert said.count("/") == 1
        assert said.isprintable()
