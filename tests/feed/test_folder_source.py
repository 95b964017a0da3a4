"""The folder source on real files and real events: what is dropped, edited or broken, and when.

Nothing here sleeps: tests wait for what `publish` receives. To show that something is *not*
published, a marker project is dropped behind it: what had to happen has happened by then.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import zipfile
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import trio

from support.projects import api, asyncapi, write
from trio_gw.feed.folder_source import FolderSource, follow
from trio_gw.feed.load_folder import load_once

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from trio_gw.config.api import ApiProject
    from trio_gw.errors import Problem

SOON = 20.0  # seconds after which a test gives up
LIVE = 1.0  # seconds within which a change has to be live: the requirement itself


class Snapshot(NamedTuple):
    """One call of `publish`, and when it came."""

    projects: dict[str, ApiProject]
    problems: tuple[Problem, ...]
    time: float

    @property
    def names(self) -> set[str]:
        return set(self.projects)

    @property
    def tiers(self) -> dict[str, str]:
        return {name: project.tier for name, project in self.projects.items()}

    @property
    def files(self) -> list[str]:
        return [problem.file for problem in self.problems]


class Followed:
    """A followed root and all that it published."""

    folder: FolderSource

    def __init__(self, root: Path) -> None:
        self.root = root
        self.snapshots: list[Snapshot] = []
        self._published = trio.Event()

    def publish(
        self, origin: str, projects: dict[str, ApiProject], problems: tuple[Problem, ...]
    ) -> None:
        assert origin == "apis"
        self.snapshots.append(Snapshot(projects, problems, trio.current_time()))
        self._published.set()
        self._published = trio.Event()

    @property
    def last(self) -> Snapshot:
        return self.snapshots[-1]

    async def wait(self, accept: Callable[[Snapshot], bool]) -> Snapshot:
        """Wait until the latest snapshot is as it should be."""
        with trio.fail_after(SOON):
            while not accept(self.last):
                await self._published.wait()
        return self.last

    async def wait_tier(self, name: str, tier: str) -> Snapshot:
        return await self.wait(lambda snapshot: snapshot.tiers.get(name) == tier)

    async def mark(self, name: str = "Marker") -> Snapshot:
        """Drop a good project, and wait until it is live."""
        make(self.root, name)
        return await self.wait(lambda snapshot: name in snapshot.names)


def make(root: Path, folder: str, tier: str = "Unlimited", **data: Any) -> Path:
    """Write a good project; a change of its tier is what edits change here."""
    meta = api(folder, f"/{folder}", "ws://localhost:1", apiThrottlingPolicy=tier, **data)
    return write(root, folder, meta, asyncapi({"/topic": {"subscribe": {}}}))


def text_of(folder: str, tier: str) -> str:
    meta = api(folder, f"/{folder}", "ws://localhost:1", apiThrottlingPolicy=tier)
    return str(meta).replace("'", '"')


@asynccontextmanager
async def folder_source(root: Path, **options: Any) -> AsyncIterator[Followed]:
    """Follow a root with short times, or with the given ones.

    Nothing is rescanned without an event, lest that hide that an event was missed.
    """
    times = {"quiet": 0.08, "grace": 0.6, "rescan": math.inf, **options}
    following = Followed(root)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(SOON):
            start = partial(follow, root, following.publish, **times)
            following.folder = await nursery.start(start)
        yield following
        nursery.cancel_scope.cancel()


def by_default() -> dict[str, float]:
    """The times that the gateway uses."""
    return {"quiet": 0.25, "grace": 2.0}


def serves(name: str, snapshot: Snapshot) -> bool:
    return name in snapshot.names


def move(source: Path, target: Path) -> None:
    source.rename(target)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "apis"
    folder.mkdir()
    return folder


# What is live, and how soon


async def test_the_first_snapshot_is_published_before_it_is_started(root: Path) -> None:
    make(root, "A")
    make(root, "B")
    async with folder_source(root) as following:
        assert following.last.names == {"A", "B"}
        assert following.last.projects["A"].folder == "apis/A"
        assert following.last.problems == ()
        assert len(following.snapshots) == 1


async def test_an_empty_root_is_published_too(root: Path) -> None:
    async with folder_source(root) as following:
        assert following.last.names == set()


async def test_added_edited_renamed_removed_are_live_within_a_second(root: Path) -> None:
    make(root, "A")
    async with folder_source(root, **by_default()) as following:

        async def live(accept: Callable[[Snapshot], bool]) -> None:
            written = trio.current_time()
            snapshot = await following.wait(accept)
            assert snapshot.time - written < LIVE

        make(root, "B")
        await live(lambda snapshot: snapshot.names == {"A", "B"})
        make(root, "B", "Gold")
        await live(lambda snapshot: snapshot.tiers["B"] == "Gold")
        (root / "B").rename(root / "C")
        await live(lambda snapshot: snapshot.names == {"A", "C"})
        shutil.rmtree(root / "C")
        await live(lambda snapshot: snapshot.names == {"A"})
        assert len(following.snapshots) == 5


def in_place(file: Path, text: str) -> None:
    file.write_text(text)


def through_a_temporary_file(file: Path, text: str) -> None:
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.write_text(text)
    temporary.replace(file)


def with_a_backup(file: Path, text: str) -> None:
    file.with_name("4913").touch()
    file.with_name("4913").unlink()
    file.rename(file.with_name(f"{file.name}~"))
    file.write_text(text)
    file.with_name(f"{file.name}~").unlink()


def removed_first(file: Path, text: str) -> None:
    file.unlink()
    file.write_text(text)


def keeping_size_and_time(file: Path, text: str) -> None:
    before = file.stat()
    file.write_text(text)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "save",
    [in_place, through_a_temporary_file, with_a_backup, removed_first, keeping_size_and_time],
)
async def test_the_ways_editors_save(root: Path, save: Callable[[Path, str], None]) -> None:
    project = make(root, "A")
    (project / "api.yaml").write_text(text_of("A", "Bronze"))
    async with folder_source(root) as following:
        for tier in ("Silver", "Golden", "Bronze"):
            before = len(following.snapshots)
            save(project / "api.yaml", text_of("A", tier))
            snapshot = await following.wait_tier("A", tier)
            assert snapshot.problems == ()
            assert len(following.snapshots) == before + 1


async def test_cp_r_of_many_projects_is_one_publish(root: Path, tmp_path: Path) -> None:
    for index in range(50):
        make(tmp_path / "source", f"A{index}")
    async with folder_source(root, quiet=0.25) as following:
        command = ["cp", "-r", *map(str, sorted((tmp_path / "source").iterdir())), str(root)]
        await trio.run_process(command)
        written = trio.current_time()
        snapshot = await following.wait(lambda snapshot: len(snapshot.names) == 50)
        assert snapshot.time - written < LIVE
        assert len(following.snapshots) == 2
        assert snapshot.problems == ()


async def test_projects_are_moved_in_and_out(root: Path, tmp_path: Path) -> None:
    make(tmp_path, "A")
    async with folder_source(root) as following:
        for _ in range(3):
            (tmp_path / "A").rename(root / "A")
            await following.wait(lambda snapshot: snapshot.names == {"A"})
            make(root, "A", "Gold")  # The same directory, but its watch went with its name.
            await following.wait_tier("A", "Gold")
            make(root, "A", "Silver")
            await following.wait_tier("A", "Silver")
            (root / "A").rename(tmp_path / "A")
            await following.wait(lambda snapshot: snapshot.names == set())


async def test_a_project_is_replaced_by_another_folder(root: Path, tmp_path: Path) -> None:
    make(root, "A", "Silver")
    make(tmp_path, "A", "Gold")
    async with folder_source(root) as following:
        shutil.rmtree(root / "A")
        (tmp_path / "A").rename(root / "A")
        await following.wait_tier("A", "Gold")
        assert len(following.snapshots) == 2
        make(root, "A", "Bronze")
        await following.wait_tier("A", "Bronze")


async def test_rsync(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("A", "B", "C"):
        make(source, name)

    async def synchronize() -> None:
        if shutil.which("rsync"):
            await trio.run_process(["rsync", "-a", "--delete", f"{source}/", f"{root}/"])
            return
        # What rsync does: a hidden file beside each, renamed when complete, times kept.
        for file in sorted(source.rglob("*.yaml")):
            target = root / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            hidden = target.with_name(f".{target.name}.x7Yq2a")
            shutil.copy2(file, hidden)
            await trio.lowlevel.checkpoint()
            hidden.replace(target)
        for name in sorted(set(os.listdir(root)) - set(os.listdir(source))):
            shutil.rmtree(root / name)

    async with folder_source(root) as following:
        await synchronize()
        await following.wait(lambda snapshot: snapshot.names == {"A", "B", "C"})
        make(source, "B", "Gold")
        shutil.rmtree(source / "C")
        before = len(following.snapshots)
        await synchronize()
        snapshot = await following.wait(lambda snapshot: snapshot.names == {"A", "B"})
        assert snapshot.tiers["B"] == "Gold"
        assert snapshot.problems == ()
        assert len(following.snapshots) == before + 1


async def test_git_checkout(root: Path) -> None:
    def git(*words: str) -> list[str]:
        identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
        return ["git", "-C", str(root), *identity, "-c", "init.defaultBranch=one", *words]

    async def run(*words: str) -> None:
        await trio.run_process(git(*words), capture_stdout=True, capture_stderr=True)

    await run("init")
    for name in ("A", "B"):
        make(root, name)
    await run("add", ".")
    await run("commit", "-m", "one")
    await run("checkout", "-b", "two")
    make(root, "A", "Gold")
    shutil.rmtree(root / "B")
    make(root, "C")
    await run("add", ".")
    await run("commit", "-m", "two")
    async with folder_source(root) as following:
        assert following.last.names == {"A", "C"}
        for _ in range(2):
            await run("checkout", "one")
            snapshot = await following.wait(lambda snapshot: snapshot.names == {"A", "B"})
            assert snapshot.tiers["A"] == "Unlimited"
            await run("checkout", "two")
            snapshot = await following.wait(lambda snapshot: snapshot.names == {"A", "C"})
            assert snapshot.tiers["A"] == "Gold"
        assert len(following.snapshots) == 5
        assert snapshot.problems == ()


async def test_a_file_in_a_folder_that_is_new_itself(root: Path) -> None:
    async with folder_source(root) as following:
        for name in ("A", "B"):
            os.mkdir(root / name)
            await following.mark(f"M1-{name}")
            os.mkdir(root / name / "Definitions")
            await following.mark(f"M2-{name}")
            make(root, name)
            written = trio.current_time()
            snapshot = await following.wait(partial(serves, name))
            assert snapshot.time - written < LIVE
        assert snapshot.problems == ()


# What is not published, and what is one publish


async def test_a_touch_publishes_nothing(root: Path) -> None:
    project = make(root, "A")
    async with folder_source(root) as following:
        before = following.folder.statistics()
        os.utime(project / "api.yaml")
        (project / "api.yaml").write_bytes((project / "api.yaml").read_bytes())
        (project / "Definitions" / "asyncapi.yaml").chmod(0o600)
        (project / ".api.yaml.swp").write_text("an editor's")
        await following.mark()
        after = following.folder.statistics()
        assert after.reads > before.reads + 1, "it was looked at"
        assert after.loads == before.loads + 1, "only the marker was loaded"
        assert len(following.snapshots) == 2


async def test_a_burst_of_edits_is_one_publish(root: Path) -> None:
    for index in range(20):
        make(root, f"A{index}")
    async with folder_source(root, quiet=1.0) as following:
        for tier in ("Bronze", "Silver", "Gold"):
            for index in range(20):
                make(root, f"A{index}", tier)
                await trio.lowlevel.checkpoint()
        await following.wait(lambda snapshot: set(snapshot.tiers.values()) == {"Gold"})
        assert len(following.snapshots) == 2


async def test_a_rename_is_one_publish_without_a_gap(root: Path) -> None:
    make(root, "A", id="the-same")
    async with folder_source(root) as following:
        (root / "A").rename(root / "B")
        await following.wait(lambda snapshot: "B" in snapshot.names)
        assert [snapshot.names for snapshot in following.snapshots] == [{"A"}, {"B"}]
        assert following.last.projects["B"].id == "the-same"


async def test_a_project_that_is_always_written_to_delays_no_other(root: Path) -> None:
    make(root, "Busy")
    make(root, "A")
    async with folder_source(root, **by_default()) as following, trio.open_nursery() as nursery:
        writes = 0

        async def keep_writing() -> None:
            nonlocal writes
            async with await trio.open_file(root / "Busy" / "api.yaml", "a") as file:
                while True:
                    writes += 1
                    await file.write(f"# {writes}\n")
                    await file.flush()

        nursery.start_soon(keep_writing)
        for tier in ("Silver", "Gold"):
            make(root, "A", tier)
            written = trio.current_time()
            snapshot = await following.wait_tier("A", tier)
            assert snapshot.time - written < LIVE
        assert snapshot.problems == ()
        assert writes > 10
        nursery.cancel_scope.cancel()


async def test_only_what_changed_is_read_again(root: Path) -> None:
    for index in range(300):
        make(root, f"A{index}")
    async with folder_source(root, **by_default()) as following:
        before = following.folder.statistics()
        assert before.reads == before.loads == 300
        make(root, "A7", "Gold")
        written = trio.current_time()
        snapshot = await following.wait_tier("A7", "Gold")
        assert snapshot.time - written < LIVE
        after = following.folder.statistics()
        assert after.reads == 301
        assert after.loads == 301
        assert len(snapshot.names) == 300


# Half-copied and broken projects


async def test_a_half_copied_project_is_waited_for(root: Path, tmp_path: Path) -> None:
    whole = make(tmp_path, "A")
    parts = [whole / "api.yaml", whole / "Definitions" / "asyncapi.yaml"]
    async with folder_source(root, grace=SOON) as following:
        (root / "A" / "Definitions").mkdir(parents=True)
        await following.mark("M0")
        for number, part in enumerate(parts):
            target = root / "A" / part.relative_to(whole)
            octets = part.read_bytes()
            target.write_bytes(octets[: len(octets) // 2])
            await following.mark(f"M{number}-half")
            assert "A" not in following.last.names
            assert following.last.problems == ()
            target.write_bytes(octets)
            if number == 0:
                await following.mark(f"M{number}-whole")
                assert "A" not in following.last.names
        await following.wait(lambda snapshot: "A" in snapshot.names)
        assert [problem for seen in following.snapshots for problem in seen.problems] == []


async def test_an_incomplete_project_is_reported_once_and_after_its_grace(root: Path) -> None:
    grace = 0.8
    async with folder_source(root, grace=grace) as following:
        project = make(root, "A")
        (project / "Definitions" / "asyncapi.yaml").unlink()
        written = trio.current_time()
        snapshot = await following.wait(lambda snapshot: bool(snapshot.problems))
        assert snapshot.time - written >= grace
        assert snapshot.time - written < grace + LIVE
        assert snapshot.files == ["apis/A"]
        (project / "notes.txt").write_text("nothing that counts")
        await following.mark()
        assert following.last.problems == snapshot.problems
        assert len(following.snapshots) == 3
        make(root, "A")
        await following.wait(lambda snapshot: "A" in snapshot.names)
        assert following.last.problems == ()


async def test_an_incomplete_project_keeps_its_last_good_version(root: Path) -> None:
    project = make(root, "A", "Gold")
    async with folder_source(root) as following:
        (project / "api.yaml").unlink()
        snapshot = await following.wait(lambda snapshot: bool(snapshot.problems))
        assert snapshot.tiers == {"A": "Gold"}
        assert len(following.snapshots) == 2


async def test_a_broken_project_keeps_serving_and_is_reported_until_it_is_fixed(
    root: Path,
) -> None:
    project = make(root, "A", "Gold")
    make(root, "B")
    async with folder_source(root) as following:
        broken = text_of("A", "Silver").replace('"WS"', '"HTTP"')
        (project / "api.yaml").write_text(broken)
        snapshot = await following.wait(lambda snapshot: bool(snapshot.problems))
        assert snapshot.tiers == {"A": "Gold", "B": "Unlimited"}
        assert snapshot.problems[0].file.startswith("apis/A")
        assert snapshot.problems[0].hint
        os.utime(project / "api.yaml")
        await following.mark()
        assert following.last.problems == snapshot.problems
        make(root, "B", "Silver")
        await following.wait_tier("B", "Silver")
        (project / "api.yaml").write_text(text_of("A", "Bronze"))
        await following.wait_tier("A", "Bronze")
        assert following.last.problems == ()


async def test_a_removed_project_takes_its_problems_along(root: Path) -> None:
    project = make(root, "A")
    (project / "api.yaml").write_text("data: [")
    async with folder_source(root) as following:
        await following.wait(lambda snapshot: bool(snapshot.problems))
        shutil.rmtree(project)
        await following.wait(lambda snapshot: not snapshot.problems)
        assert following.last.names == set()


def cyclic(project: Path) -> None:
    (project / "again").symlink_to("..")


def out_of_the_root(project: Path) -> None:
    (project / "usr").symlink_to("/usr")


def no_entry(project: Path) -> None:
    (project / "Definitions" / "asyncapi.yaml").unlink()
    (project / "Definitions" / "asyncapi.yaml").symlink_to("nowhere")


def pipe(project: Path) -> None:
    (project / "api.yaml").unlink()
    os.mkfifo(project / "api.yaml")


def too_many(project: Path) -> None:
    """Link 110 times to a folder of 100 files: more entries than are read."""
    shared = project.parent / ".shared"
    shared.mkdir()
    for index in range(100):
        (shared / str(index)).touch()
    for index in range(110):
        (project / f"to-{index}").symlink_to("../.shared")


def not_utf8(project: Path) -> None:
    os.mkdir(os.fsencode(project.parent) + b"/\xff\xfe")


def bytes_only(project: Path) -> None:
    (project / "api.yaml").write_bytes(bytes(range(256)) * 64)


@pytest.mark.parametrize(
    "spoil",
    [cyclic, out_of_the_root, no_entry, pipe, too_many, not_utf8, bytes_only],
)
@pytest.mark.parametrize("before_start", [True, False])
async def test_one_spoilt_project_disturbs_nothing_else(
    root: Path, spoil: Callable[[Path], None], *, before_start: bool
) -> None:
    project = make(root, "A")
    make(root, "B")
    if before_start:
        spoil(project)
    async with folder_source(root, quiet=0.25) as following:
        if not before_start:
            spoil(project)
        await following.wait(lambda snapshot: bool(snapshot.problems))
        make(root, "B", "Gold")
        written = trio.current_time()
        snapshot = await following.wait_tier("B", "Gold")
        assert snapshot.time - written < LIVE
        assert len(snapshot.problems) == 1
        assert following.folder.statistics().watching
        shutil.rmtree(project)
        for other in os.listdir(os.fsencode(root)):
            if other == b"\xff\xfe":
                os.rmdir(os.fsencode(root) + b"/" + other)
        await following.wait(lambda snapshot: not snapshot.problems)
        assert following.last.names == {"B"}


async def test_a_link_out_of_the_root_is_not_watched_through(root: Path) -> None:
    make(root, "A")
    (root / "A" / "usr").symlink_to("/usr")
    (root / "B").symlink_to("/usr")
    with trio.fail_after(2):
        async with folder_source(root) as following:
            await following.mark()
    assert following.last.names == {"A", "Marker"}


def pack(folder: Path, target: Path) -> None:
    """Pack a project into a zip as exports have it, and move it into place."""
    packed = target.with_name(f".{target.name}")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, Path(folder.name, path.relative_to(folder)))
    packed.rename(target)


async def test_a_zip_is_added_replaced_and_removed(root: Path, tmp_path: Path) -> None:
    aside = tmp_path / "aside"
    async with folder_source(root) as following:
        pack(make(aside, "A"), root / "A.zip")
        await following.wait_tier("A.zip", "Unlimited")
        pack(make(aside, "A", "Gold"), root / "A.zip")
        await following.wait_tier("A.zip", "Gold")
        (root / "A.zip").unlink()
        await following.wait(lambda snapshot: not snapshot.projects)
    assert not [problem for snapshot in following.snapshots for problem in snapshot.problems]


async def test_a_half_copied_zip_waits(root: Path, tmp_path: Path) -> None:
    """A zip ends with its directory, so one that is still being copied cannot be read."""
    pack(make(tmp_path / "aside", "A"), tmp_path / "A.zip")
    whole = (tmp_path / "A.zip").read_bytes()
    async with folder_source(root, grace=5.0) as following:
        for quarter in range(1, 5):
            (root / "A.zip").write_bytes(whole[: len(whole) * quarter // 4])
            await following.mark(f"Marker{quarter}")
        await following.wait_tier("A.zip", "Unlimited")
    assert not [problem for snapshot in following.snapshots for problem in snapshot.problems]


async def test_a_broken_zip_keeps_its_last_good_version(root: Path, tmp_path: Path) -> None:
    async with folder_source(root) as following:
        pack(make(tmp_path / "aside", "A"), root / "A.zip")
        await following.wait_tier("A.zip", "Unlimited")
        (root / "A.zip").write_bytes(b"PK\x05\x06 but no zip")
        snapshot = await following.wait(lambda snapshot: bool(snapshot.problems))
        assert snapshot.files == ["apis/A.zip"]
        assert snapshot.names == {"A.zip"}


# The root as a whole


def swap(link: Path, target: str) -> None:
    """Replace a link as a deployment does: by a rename."""
    new = link.with_name(f"{link.name}.new")
    new.symlink_to(target)
    new.replace(link)


@pytest.mark.parametrize("parent", [False, True])
async def test_an_atomic_swap_of_the_root_or_above_it(tmp_path: Path, *, parent: bool) -> None:
    below = "apis" if parent else ""
    for number, tier in enumerate(("Bronze", "Silver", "Gold")):
        make(tmp_path / str(number) / below, "A", tier)
        make(tmp_path / str(number) / below, f"B{number}")
    link = tmp_path / "current"
    link.symlink_to("0")
    async with folder_source(link / below, **by_default()) as following:
        for number, tier in ((1, "Silver"), (2, "Gold")):
            swap(link, str(number))
            written = trio.current_time()
            shutil.rmtree(tmp_path / str(number - 1))
            snapshot = await following.wait_tier("A", tier)
            assert snapshot.time - written < LIVE
            assert snapshot.names == {"A", f"B{number}"}
        make(link / below, "A", "Edited")
        written = trio.current_time()
        snapshot = await following.wait_tier("A", "Edited")
        assert snapshot.time - written < LIVE
        assert len(following.snapshots) == 4
        assert [problem for seen in following.snapshots for problem in seen.problems] == []


@pytest.mark.parametrize("whole_root", [False, True])
async def test_a_config_map_is_swapped(root: Path, *, whole_root: bool) -> None:
    volume = root if whole_root else root / "A"
    volume.mkdir(exist_ok=True)

    def fill(stamp: str, tier: str) -> None:
        if whole_root:
            make(volume / stamp, "A", tier)
        else:
            make(volume, stamp, tier)

    def publish(stamp: str) -> None:
        (volume / "..data_tmp").symlink_to(stamp)
        (volume / "..data_tmp").replace(volume / "..data")

    fill("..2026_1", "Bronze")
    publish("..2026_1")
    for name in ("A",) if whole_root else ("api.yaml", "Definitions"):
        (volume / name).symlink_to(f"..data/{name}")
    async with folder_source(root, **by_default()) as following:
        assert following.last.tiers == {"A": "Bronze"}
        for number, tier in ((2, "Silver"), (3, "Gold")):
            fill(f"..2026_{number}", tier)
            publish(f"..2026_{number}")
            written = trio.current_time()
            snapshot = await following.wait_tier("A", tier)
            assert snapshot.time - written < LIVE
            shutil.rmtree(volume / f"..2026_{number - 1}")
            assert snapshot.problems == ()
        assert len(following.snapshots) == 3


async def test_a_removed_root_keeps_the_last_good_and_comes_back(root: Path) -> None:
    make(root, "A", "Silver")
    make(root, "B")
    async with folder_source(root) as following:
        for tier in ("Gold", "Bronze"):
            move(root, root.with_name("old"))
            snapshot = await following.wait(lambda snapshot: bool(snapshot.problems))
            assert snapshot.names == {"A", "B"}
            assert snapshot.files == ["apis"]
            shutil.rmtree(root.with_name("old"))
            os.mkdir(root)
            await following.wait(lambda snapshot: not snapshot.problems)
            make(root, "A", tier)
            await following.wait_tier("A", tier)
            make(root, "B")
        assert all(seen.names >= {"A", "B"} for seen in following.snapshots)
        assert sum(bool(seen.problems) for seen in following.snapshots) == 2


async def test_projects_missing_from_a_root_that_came_back_go_after_the_grace(root: Path) -> None:
    make(root, "A")
    make(root, "B")
    async with folder_source(root) as following:
        move(root, root.with_name("old"))
        await following.wait(lambda snapshot: bool(snapshot.problems))
        os.mkdir(root)
        make(root, "A", "Gold")
        await following.wait_tier("A", "Gold")
        assert following.last.names == {"A", "B"}
        await following.wait(lambda snapshot: snapshot.names == {"A"})


async def test_a_root_that_is_removed_and_made_again_at_once(root: Path) -> None:
    make(root, "A")
    async with folder_source(root) as following:
        for tier in ("Silver", "Gold", "Bronze"):
            shutil.rmtree(root)
            os.mkdir(root)
            make(root, "A", tier)
            await following.wait_tier("A", tier)
        assert all(seen.names == {"A"} for seen in following.snapshots)


async def test_a_file_in_place_of_the_root(root: Path) -> None:
    make(root, "A")
    async with folder_source(root) as following:
        move(root, root.with_name("old"))
        in_place(root, "no folder")
        snapshot = await following.wait(lambda snapshot: bool(snapshot.problems))
        assert snapshot.names == {"A"}
        os.unlink(root)
        move(root.with_name("old"), root)
        await following.wait(lambda snapshot: not snapshot.problems)
        make(root, "A", "Gold")
        await following.wait_tier("A", "Gold")


async def test_a_root_that_is_missing_at_the_start(root: Path) -> None:
    os.rmdir(root)
    async with folder_source(root) as following:
        assert following.last.files == ["apis"]
        make(root, "A")
        snapshot = await following.wait(lambda snapshot: snapshot.names == {"A"})
        assert snapshot.problems == ()


# When events fail us


# Run in a separate process, because no other code may open or close a file meanwhile.
FEW_DESCRIPTORS = """
import os, pathlib, resource, sys, trio
from trio_gw.feed.folder_source import follow

def publish(origin, projects, problems):
    print([project.tier for project in projects.values()], *map(str, problems), flush=True)

async def main():
    async with trio.open_nursery() as nursery:
        receive = trio.lowlevel.FdStream(os.dup(0))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.open(os.devnull, os.O_RDONLY)
        os.close(free)
        # Two descriptors are left: enough to read files, but a watch needs three.
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 2, hard))
        await nursery.start(lambda task_status: follow(
            pathlib.Path(sys.argv[1]), publish, rescan=0.5, task_status=task_status))
        await receive.receive_some()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await receive.receive_some()
        nursery.cancel_scope.cancel()

trio.run(main)
"""


async def test_without_a_watch_everything_is_rescanned(root: Path) -> None:
    make(root, "A")
    command = [sys.executable, "-W", "error", "-c", FEW_DESCRIPTORS, str(root)]
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process = await nursery.start(run)
        output = b""

        async def wait_line(word: str) -> str:
            nonlocal output
            with trio.fail_after(SOON):
                while b"\n" not in output:
                    output += await process.stdout.receive_some()
            line, _, output = output.partition(b"\n")
            assert word in line.decode()
            return line.decode()

        assert await wait_line("Unlimited") == "['Unlimited']"
        assert "apis: warning: cannot be watched" in await wait_line("Unlimited")
        for tier in ("Silver", "Gold"):
            make(root, "A", tier)
            assert "cannot be watched" in await wait_line(tier)
        await process.stdin.send_all(b"more")
        assert await wait_line("Gold") == "['Gold']"
        make(root, "A", "Bronze")
        assert await wait_line("Bronze") == "['Bronze']"
        await process.stdin.aclose()


async def test_a_root_whose_name_the_watch_does_not_take(tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    os.mkdir(odd)
    link = tmp_path / "current"
    link.symlink_to(odd)
    make(link, "A")
    async with folder_source(link, rescan=0.5) as following:
        await following.wait(lambda snapshot: snapshot.files == ["apis"])
        make(link, "A", "Gold")
        await following.wait_tier("A", "Gold")
        make(tmp_path / "even", "A", "Silver")
        swap(link, "even")
        await following.wait(lambda snapshot: not snapshot.problems)
        await following.wait_tier("A", "Silver")


async def test_a_change_without_an_event_is_found(root: Path) -> None:
    for tier in ("Silver", "Gold"):
        make(root / ".shared" / tier, "A", tier)
    (root / ".shared" / "current").symlink_to("Silver/A")
    (root / "A").symlink_to(".shared/current")
    async with folder_source(root, rescan=0.5) as following:
        assert following.last.tiers == {"A": "Silver"}
        await following.mark()
        swap(root / ".shared" / "current", "Gold/A")  # no directory that is watched
        await following.wait_tier("A", "Gold")
        make(root / ".shared" / "Gold", "A", "Bronze")
        await following.wait_tier("A", "Bronze")


async def test_it_ends_at_once_and_leaves_no_thread(root: Path) -> None:
    make(root, "A")
    limiter = trio.to_thread.current_default_thread_limiter()
    for _ in range(5):
        async with folder_source(root) as following:
            await following.mark()
            assert limiter.borrowed_tokens == 1
            leaving = trio.current_time()
        assert trio.current_time() - leaving < LIVE
        assert limiter.borrowed_tokens == 0
        shutil.rmtree(root / "Marker")


async def test_it_can_be_cancelled_anywhere(root: Path) -> None:
    for index in range(5):
        make(root, f"A{index}")
    limiter = trio.to_thread.current_default_thread_limiter()

    async def cancelled(delay: float) -> None:
        with trio.move_on_after(delay) as scope:
            await follow(root, Followed(root).publish)
        assert scope.cancelled_caught

    async with trio.open_nursery() as nursery:
        for step in range(40):
            nursery.start_soon(cancelled, step / 200)
    assert limiter.borrowed_tokens == 0


async def test_many_new_folders_move_to_the_large_watch(root: Path) -> None:
    async with folder_source(root) as following:
        for index in range(80):  # two directories each: more than the small watch takes
            make(root, f"A{index}")
        await following.wait(lambda snapshot: len(snapshot.names) == 80)
        for name in ("A0", "A79"):
            make(root, name, "Gold")
            written = trio.current_time()
            snapshot = await following.wait_tier(name, "Gold")
            assert snapshot.time - written < LIVE
        await following.mark()
        make(root, "Marker", "Gold")
        await following.wait_tier("Marker", "Gold")


# Once, for the command line


def test_load_once_finds_what_follow_would(root: Path) -> None:
    make(root, "A")
    make(root, "B")
    (root / "B" / "api.yaml").unlink()
    projects, problems = load_once(root)
    assert set(projects) == {"A"}
    assert [problem.file for problem in problems] == ["apis/B"]
    projects, problems = load_once(root / "none", label="here")
    assert projects == {}
    assert [problem.file for problem in problems] == ["here"]
