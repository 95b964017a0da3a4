"""One process writes the state, others follow it: changes, crashes, folders that refuse."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from support import state_writing
from support.state_writing import SOURCE, assert_good, change_number, writer_of
from trio_gw.config.entitlements import Change, SubscriptionRow
from trio_gw.control_plane import appended_file, state_reader, state_writer
from trio_gw.control_plane.appended_file import AppendedFile
from trio_gw.control_plane.artifact_folder import ArtifactFolder
from trio_gw.control_plane.state import EMPTY_STATE, StateChange, difference
from trio_gw.control_plane.state_reader import STATE, StateReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from trio_gw.control_plane.state import ControlPlaneState
    from trio_gw.control_plane.state_writer import StateWriter

KILLS = 100
ZIP = hashlib.sha256(b"zip").hexdigest()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_reader, "POLL", 0.005)


@contextlib.asynccontextmanager
async def writing(folder: Path) -> AsyncIterator[StateWriter]:
    """Run a writer, and the reader of its process."""
    reader, writer = writer_of(folder)
    async with trio.open_nursery() as nursery:
        await nursery.start(reader.run)
        await nursery.start(writer.run)
        await writer.opened.wait()
        yield writer
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def reading(folder: Path) -> AsyncIterator[StateReader]:
    """Run a reader, as in another process."""
    reader = StateReader(folder, SOURCE, "cache")
    async with trio.open_nursery() as nursery:
        await nursery.start(reader.run)
        yield reader
        nursery.cancel_scope.cancel()


async def change(writer: StateWriter, made: StateChange) -> None:
    """Make a change, and wait until it is written."""
    await writer.change(made)
    await writer.flush()


async def replace(writer: StateWriter, state: ControlPlaneState) -> None:
    """Replace the state, and wait until that is written."""
    await writer.replace(state)
    await writer.flush()


def state_after(last: int) -> ControlPlaneState:
    """Return the state after the changes up to this number."""
    return EMPTY_STATE.apply_all([change_number(number) for number in range(1, last + 1)])


async def load(folder: Path) -> StateReader:
    """Read the state once."""
    async with reading(folder) as reader:
        return reader


async def until(reader: StateReader, number: int) -> list[StateChange]:
    """Follow changes up to this number; return them."""
    seen: list[StateChange] = []
    with trio.fail_after(20):
        while reader.current.pulled_at < number:
            await reader.wait_changed()
            seen += reader.take().changes or ()
    seen += reader.take().changes or ()
    return seen


async def test_a_reader_follows_each_change(tmp_path: Path) -> None:
    async with writing(tmp_path) as writer, reading(tmp_path) as reader:
        seen: list[StateChange] = []
        for number in range(1, 30):
            await change(writer, change_number(number))
            if number % 10 == 0:
                seen += await until(reader, number)
        seen += await until(reader, 29)
        # The first change is read as a whole state, like those that were there before.
        assert not difference(EMPTY_STATE.apply_all(seen), writer.current)
        assert seen[-1] == change_number(29)
        assert_good(reader.current)
    assert assert_good((await load(tmp_path)).current) == 29


async def test_changes_are_written_together_a_moment_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    appends: list[int] = []
    append = AppendedFile.append

    def counted(file: AppendedFile, changes: list[StateChange]) -> bool:
        appends.append(len(changes))
        return append(file, changes)

    monkeypatch.setattr(AppendedFile, "append", counted)
    async with writing(tmp_path) as writer, reading(tmp_path) as reader:
        await change(writer, change_number(1))
        for number in range(2, 500):
            await writer.change(change_number(number))
        await until(reader, 499)
        assert sum(appends) == 498
        assert len(appends) < 100
        await writer.change(change_number(500))
    # What was not written yet is written at the end.
    assert assert_good((await load(tmp_path)).current) == 500


async def test_a_disk_that_hangs_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_writer, "MAX_QUEUED", 10)
    async with writing(tmp_path) as writer, reading(tmp_path) as reader:
        await change(writer, change_number(1))
        async with writer._writing:  # nothing is written meanwhile
            for number in range(2, 40):
                await writer.change(change_number(number))
            assert len(writer._queue) <= 10
        await until(reader, 39)
        assert assert_good(reader.current) == 39


async def test_files_are_private(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    before = os.umask(0)
    try:
        async with writing(folder) as writer:
            await change(writer, change_number(1))
            writer.artifacts.put(ZIP, b"zip")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert modes == {STATE: 0o600, "artifacts": 0o700, ".lock": 0o600, f"{ZIP}.zip": 0o600}


async def test_a_small_change_is_a_small_write(tmp_path: Path) -> None:
    async with writing(tmp_path) as writer:
        rows = tuple(SubscriptionRow(number) for number in range(5000))
        await replace(writer, EMPTY_STATE.apply(StateChange(Change(rows), pulled_at=1.0)))
        size, inode = (tmp_path / STATE).stat().st_size, (tmp_path / STATE).stat().st_ino
        await change(writer, StateChange(Change((SubscriptionRow(1, "api"),))))
        changed = (tmp_path / STATE).stat()
        assert 0 < changed.st_size - size < 200
        # A pull that finds one difference writes that.
        state = writer.current.apply(StateChange(Change((SubscriptionRow(2, "x"),)), pulled_at=2.0))
        await replace(writer, state)
        again = (tmp_path / STATE).stat()
        assert 0 < again.st_size - changed.st_size < 200
        await replace(writer, writer.current)
        assert (tmp_path / STATE).stat().st_size == again.st_size
        assert again.st_ino == inode
    assert not difference((await load(tmp_path)).current, writer.current)


async def test_readers_do_not_read_a_new_file_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appended_file, "GROWN", 2000)
    async with writing(tmp_path) as writer, reading(tmp_path) as reader:
        await change(writer, change_number(1))
        await until(reader, 1)
        number, files = 1, {(tmp_path / STATE).stat().st_ino}
        seen: list[StateChange] = []
        while len(files) < 4:
            number += 1
            await change(writer, change_number(number))
            files.add((tmp_path / STATE).stat().st_ino)
            seen += await until(reader, number)
        assert seen == [change_number(each) for each in range(2, number + 1)]


async def test_a_change_while_the_file_is_written_anew_reaches_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appended_file, "GROWN", 0)
    async with writing(tmp_path) as writer, reading(tmp_path) as reader:
        await change(writer, change_number(1))
        await until(reader, 1)
        append, last = writer._append, 60

        async def append_and_change() -> None:
            await append()
            number = int(writer.current.pulled_at)
            if writer._file is not None and writer._file.grown and number < last:
                await until(reader, number)  # it has read all of the old file
                await writer.change(change_number(last))

        monkeypatch.setattr(writer, "_append", append_and_change)
        for number in range(2, last):
            if writer.current.pulled_at < last:
                await change(writer, change_number(number))
        assert writer.current.pulled_at == last
        await until(reader, last)
        assert not difference(reader.current, writer.current)


async def test_a_reader_that_missed_files_gets_the_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appended_file, "GROWN", 2000)
    async with writing(tmp_path) as writer, reading(tmp_path) as reader:
        await change(writer, change_number(1))
        await until(reader, 1)
        async with reader.exclusive:  # it reads nothing meanwhile
            for number in range(2, 60):
                await change(writer, change_number(number))
        await until(reader, 59)
        assert assert_good(reader.current) == 59


async def test_more_changes_than_can_wait_become_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_reader, "MAX_PENDING", 5)
    reader, writer = writer_of(tmp_path)
    async with trio.open_nursery() as nursery:
        await nursery.start(reader.run)
        await nursery.start(writer.run)
        await writer.opened.wait()
        for number in range(1, 9):
            await change(writer, change_number(number))
        taken = reader.take()
        assert taken.changes is None
        assert assert_good(taken.state) == 8
        await change(writer, change_number(9))
        assert reader.take().changes == [change_number(9)]
        nursery.cancel_scope.cancel()


def writes(content: bytes) -> Callable[[Path], object]:
    """Return what writes this content to a file."""
    return lambda path: path.write_bytes(content)


def pipe(path: Path) -> None:
    """Replace a file by a pipe that nobody writes to."""
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "harm",
    [
        writes(b""),
        writes(b"trio-gw state 1\n"),
        writes(b"x" * 5000),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"\0" * 99),
        lambda path: path.write_bytes(path.read_bytes().replace(b"revoked", b"rewoked", 1)),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.mkdir()),
        pipe,
    ],
    ids=["empty", "short", "other", "cut", "zeros", "damaged", "gone", "folder", "pipe"],
)
async def test_whatever_is_there_a_writer_goes_on(
    tmp_path: Path, harm: Callable[[Path], object]
) -> None:
    async with writing(tmp_path) as writer:
        for number in range(1, 5):
            await change(writer, change_number(number))
    harm(tmp_path / STATE)
    if (tmp_path / STATE).is_dir():
        (tmp_path / STATE).rmdir()  # only while nothing was served
    async with reading(tmp_path) as reader, writing(tmp_path) as writer:
        await replace(writer, state_after(6))
        await until(reader, 6)
        assert assert_good(reader.current) == 6
        assert not writer.problems
    assert assert_good((await load(tmp_path)).current) == 6


async def test_damage_is_reported_and_the_rest_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with writing(tmp_path) as writer:
        await replace(writer, state_after(3))
        await change(writer, change_number(4))
    path = tmp_path / STATE
    path.write_bytes(path.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        assert assert_good((await load(tmp_path)).current) == 3
    assert caplog.messages == [
        "cache/state is damaged; the rest of it is used until API Manager has answered"
    ]


async def test_the_state_of_another_control_plane_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with writing(tmp_path) as writer:
        await change(writer, change_number(1))
    reader = StateReader(tmp_path, "https://other", "cache")
    async with trio.open_nursery() as nursery:
        await nursery.start(reader.run)
        nursery.cancel_scope.cancel()
    assert reader.current is EMPTY_STATE
    assert caplog.messages == [
        "cache/state is not used: it is of another control plane, or of other environments"
    ]


async def test_a_second_writer_waits_and_follows(tmp_path: Path) -> None:
    reader, second = writer_of(tmp_path)
    async with trio.open_nursery() as nursery:
        async with writing(tmp_path) as writer:
            await change(writer, change_number(1))
            await nursery.start(reader.run)
            await nursery.start(second.run)
            await change(writer, change_number(2))
            await until(reader, 2)
            assert not second.opened.is_set()
        with trio.fail_after(5):
            await second.opened.wait()
        await change(second, change_number(3))
        assert assert_good(second.current) == 3
        nursery.cancel_scope.cancel()
    assert assert_good((await load(tmp_path)).current) == 3


async def test_a_folder_that_is_removed_comes_again(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    async with writing(folder) as writer, reading(folder) as reader:
        await change(writer, change_number(1))
        await until(reader, 1)
        shutil.rmtree(folder)
        await change(writer, change_number(2))
        await until(reader, 2)
        assert assert_good(reader.current) == 2


async def test_a_folder_that_cannot_be_written_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_writer, "RETRY", 0.05)
    blocked = tmp_path / "file"
    blocked.write_text("")
    async with writing(blocked / "cache") as writer:
        await change(writer, change_number(1))
        (problem,) = writer.problems
        assert problem.what == "the state of the control plane cannot be written (Not a directory)"
        assert assert_good(writer.current) == 1
        blocked.unlink()
        async with reading(blocked / "cache") as reader:
            await until(reader, 1)
        assert not writer.problems
    assert "cache can be written again" in caplog.messages


async def test_a_disk_that_is_full_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The limit of the system on the size of files stops the writer in the middle of a record.
    monkeypatch.setattr(state_writer, "RETRY", 0.05)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with writing(tmp_path) as writer, reading(tmp_path) as reader:
        await change(writer, change_number(1))
        await until(reader, 1)
        size = (tmp_path / STATE).stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, most))
        try:
            await change(writer, change_number(2))
            (problem,) = writer.problems
            assert problem.what.endswith("(File too large)")
            assert assert_good(writer.current) == 2
            assert assert_good(reader.current) == 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        await until(reader, 2)
        assert not writer.problems
        assert assert_good(reader.current) == 2


async def test_a_file_cut_at_every_octet_is_a_good_state(tmp_path: Path) -> None:
    path = tmp_path / "source"
    async with writing(path) as writer:
        await change(writer, change_number(1))
        start = (path / STATE).stat().st_size
        for number in range(2, 4):
            await change(writer, change_number(number))
    data = (path / STATE).read_bytes()
    folder = tmp_path / "cut"
    folder.mkdir()
    reached = set()
    for length in range(start, len(data)):
        (folder / STATE).unlink(missing_ok=True)
        (folder / STATE).write_bytes(data[:length])
        reader, writer = writer_of(folder)
        async with trio.open_nursery() as nursery:
            await nursery.start(reader.run)
            number = assert_good(reader.current)
            if length % 10 == 0:  # a writer that starts now goes on from there
                await nursery.start(writer.run)
                await writer.opened.wait()
                await change(writer, change_number(number + 1))
                assert assert_good((await load(folder)).current) == number + 1
            nursery.cancel_scope.cancel()
        reached.add(number)
    assert reached == {1, 2}


async def test_a_writer_that_is_killed_leaves_a_good_state(tmp_path: Path) -> None:
    random_source = random.Random(5)
    command = [sys.executable, "-P", state_writing.__file__]
    reported = tmp_path / "reported"
    with subprocess.Popen(  # noqa: ASYNC220 - forks writers quickly
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        async with reading(tmp_path) as reader:
            for _ in range(KILLS):
                process.stdin.write(json.dumps(str(tmp_path)) + "\n")
                process.stdin.flush()
                pid = int(await trio.to_thread.run_sync(process.stdout.readline))
                before = reader.current.pulled_at
                with trio.fail_after(20):
                    while reader.current.pulled_at <= before:
                        await reader.wait_changed()
                        reader.take()
                for _ in range(random_source.randrange(2000)):
                    pass
                os.kill(pid, signal.SIGKILL)
                code = int(await trio.to_thread.run_sync(process.stdout.readline))
                assert code == -signal.SIGKILL
                # Nothing that was reported is lost, and at most one change is there besides.
                last = int(reported.read_text())
                assert assert_good((await load(tmp_path)).current) in (last, last + 1)
                await until(reader, last)
                assert_good(reader.current)
        process.stdin.close()


def test_zips(tmp_path: Path) -> None:
    data = {hashlib.sha256(each).hexdigest(): each for each in (b"one", b"two", b"three")}
    one, two, three = data
    folder = ArtifactFolder(tmp_path / "artifacts")
    assert not folder.has(one)
    for digest, each in data.items():
        folder.put(digest, each)
    assert folder.has(one)
    assert folder.read(one) == b"one"
    with pytest.raises(ValueError, match="another digest"):
        folder.put(one, b"other")
    for name in ("../state", "", "A" * 64):
        assert not folder.has(name)
        with pytest.raises(ValueError, match="no"):
            folder.put(name, b"")
    # A zip that was stored a moment ago stays, although no state needs it yet.
    folder.sweep({one})
    assert folder.has(two)
    again = ArtifactFolder(tmp_path / "artifacts")
    (again.root / f"{three}.zip").write_bytes(b"thr")
    assert not again.has(three)
    with pytest.raises(ValueError, match="damaged"):
        again.read(three)
    again.sweep({one})
    assert sorted(path.name for path in again.root.iterdir()) == [f"{one}.zip"]
    assert again.has(one)
    assert not again.has(two)
