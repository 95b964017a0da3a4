"""Files that are loaded again: real files, a real watch, and every way of not being usable."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from support.logged import Logged, logged
from trio_gw.errors import Problem, UnusableError
from trio_gw.watch.files import Reloaded, combined, keep_loaded

if TYPE_CHECKING:
    from collections.abc import Iterator

BROKEN = "broken"
STACK = 8 << 20  # bytes of address space that a new thread takes at most


class Texts:
    """A file of text: every version that was used, each to be awaited."""

    def __init__(self, *paths: Path) -> None:
        self.paths = paths
        self.used: list[str] = []
        self.loads = 0
        self._came = trio.Event()

    def item(self) -> Reloaded[str]:
        return Reloaded("texts", self.paths, self._load, self._use)

    def _load(self) -> str:
        self.loads += 1
        try:
            text = "+".join(
                "".join(sorted(one.read_text() for one in path.iterdir()))
                if path.is_dir()
                else path.read_text()
                for path in self.paths
            )
        except OSError as error:
            what = f"cannot be read: {error.strerror}"
            raise UnusableError([Problem(str(self.paths[0]), 0, 0, what)]) from None
        if BROKEN in text:
            raise UnusableError([Problem(str(self.paths[0]), 0, 0, "is broken", "fix it")])
        if text == "bug":
            raise ZeroDivisionError
        return text

    async def _use(self, text: str) -> bool:
        if self.used[-1:] == [text]:
            return False
        self.used.append(text)
        came, self._came = self._came, trio.Event()
        came.set()
        return True

    async def wait(self, text: str) -> None:
        with trio.fail_after(10):
            while self.used[-1:] != [text]:
                await self._came.wait()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path, text: str) -> None:
    """Put a whole file in place at once, as careful tools do."""
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text(text)
    draft.replace(path)


@pytest.fixture
def said() -> Iterator[Logged]:
    with logged("trio_gw.files") as handler:
        yield handler


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("one")
    return path


async def test_a_file_is_loaded_at_once_and_after_each_change(
    nursery: trio.Nursery, file: Path, said: Logged
) -> None:
    texts = Texts(file)
    await nursery.start(keep_loaded, [texts.item()])
    assert texts.used == ["one"]
    write(file, "two")
    await texts.wait("two")
    replace(file, "three")
    await texts.wait("three")
    assert "texts: loaded again" in said.texts()
    nursery.cancel_scope.cancel()


async def test_a_change_is_seen_by_the_watch_long_before_the_next_look(
    nursery: trio.Nursery, file: Path
) -> None:
    texts = Texts(file)
    await nursery.start(partial(keep_loaded, [texts.item()], poll=3600))
    write(file, "two")
    await texts.wait("two")
    nursery.cancel_scope.cancel()


async def test_a_file_that_is_never_quiet_is_read_all_the_same(
    file: Path, nursery: trio.Nursery
) -> None:
    write(file, "0")
    texts = Texts(file)
    await nursery.start(keep_loaded, (texts.item(),))
    with trio.fail_after(10):
        while len(texts.used) < 3:  # an alarm adds a line whenever an attacker knocks
            add(file, "+")
            await trio.testing.wait_all_tasks_blocked(0.01)
    nursery.cancel_scope.cancel()


async def test_a_broken_file_changes_nothing_and_is_told_once(
    nursery: trio.Nursery, file: Path, said: Logged
) -> None:
    texts = Texts(file)
    await nursery.start(partial(keep_loaded, [texts.item()], grace=0.0, retry=0.01))
    write(file, BROKEN)
    text = await said.wait("is broken")
    assert text == f"{file}: is broken; fix it; the content loaded before stays in use"
    before = texts.loads
    with trio.fail_after(10):
        while texts.loads < before + 3:
            await trio.lowlevel.checkpoint()
    assert texts.used == ["one"]
    replace(file, "one")  # one that is being written could be read half
    await said.wait("texts: usable again")
    write(file, "two")
    await texts.wait("two")
    assert len([one for one in said.texts() if "is broken" in one]) == 1
    nursery.cancel_scope.cancel()


async def test_a_pair_whose_halves_come_one_after_the_other_is_no_fault(
    nursery: trio.Nursery, tmp_path: Path, said: Logged
) -> None:
    first, second = tmp_path / "cert", tmp_path / "key"
    first.write_text("a")
    second.write_text("a")
    texts = Texts(first, second)
    attempted = trio.Event()
    item = texts.item()

    def load() -> str:
        text = item.load()
        if len(set(text.split("+"))) > 1:
            trio.from_thread.run_sync(attempted.set)
            raise UnusableError([Problem(str(second), 0, 0, "does not match")])
        return text

    await nursery.start(partial(keep_loaded, [item._replace(load=load)], grace=3600))
    replace(first, "b")
    with trio.fail_after(10):
        await attempted.wait()
    assert texts.used == ["a+a"]
    replace(second, "b")
    await texts.wait("b+b")
    assert texts.used == ["a+a", "b+b"]
    assert not [one for one in said.texts() if "match" in one]
    nursery.cancel_scope.cancel()


async def test_a_file_that_cannot_be_read_or_is_gone_comes_back(
    nursery: trio.Nursery, file: Path, said: Logged
) -> None:
    texts = Texts(file)
    await nursery.start(partial(keep_loaded, [texts.item()], grace=0.0))
    remove(file)
    await said.wait("cannot be read: No such file")
    write(file / "inside", "two")
    await texts.wait("two")
    write(file / "another", "three")
    await texts.wait("threetwo")
    nursery.cancel_scope.cancel()


async def test_an_unforeseen_fault_of_a_loader_ends_nothing(
    nursery: trio.Nursery, file: Path, said: Logged
) -> None:
    texts = Texts(file)
    await nursery.start(partial(keep_loaded, [texts.item()], grace=0.0))
    write(file, "bug")
    await said.wait(f"{file}: cannot be used: ZeroDivisionError")
    write(file, "two")
    await texts.wait("two")
    nursery.cancel_scope.cancel()


async def test_links_are_followed_and_swapped_as_kubernetes_does(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    mount = tmp_path / "mount"
    for name, text in (("..1", "one"), ("..2", "two")):
        (mount / name).mkdir(parents=True)
        (mount / name / "tls.crt").write_text(text)
    (mount / "..data").symlink_to("..1")
    (mount / "tls.crt").symlink_to("..data/tls.crt")
    texts = Texts(mount / "tls.crt")
    await nursery.start(partial(keep_loaded, [texts.item()], poll=3600))
    (mount / "..new").symlink_to("..2")
    (mount / "..new").replace(mount / "..data")
    await texts.wait("two")
    (mount / "..2" / "tls.crt").write_text("in place")
    await texts.wait("in place")
    nursery.cancel_scope.cancel()


async def test_a_parent_that_is_exchanged_is_seen_by_the_look(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    for name in ("old", "new"):
        (tmp_path / name / "certs").mkdir(parents=True)
        (tmp_path / name / "certs" / "file").write_text(name)
    (tmp_path / "current").symlink_to("old")
    texts = Texts(tmp_path / "current" / "certs" / "file")
    await nursery.start(partial(keep_loaded, [texts.item()], poll=0.05))
    (tmp_path / "next").symlink_to("new")
    (tmp_path / "next").replace(tmp_path / "current")
    await texts.wait("new")
    nursery.cancel_scope.cancel()


async def test_what_is_joined_is_loaded_as_one(
    nursery: trio.Nursery, tmp_path: Path, said: Logged
) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_text("one")
    first, second = Texts(paths[0]), Texts(paths[1])
    both = combined("both", first.item(), second.item())
    await nursery.start(partial(keep_loaded, [both], grace=0.0))
    paths[0].write_text("two")
    await first.wait("two")
    paths[1].write_text(BROKEN)
    await said.wait("is broken")
    paths[0].write_text("three")
    paths[1].write_text("four")
    await second.wait("four")
    assert (first.used, second.used) == (["one", "two", "three"], ["one", "four"])
    nursery.cancel_scope.cancel()


async def test_cancelling_ends_the_watch_although_a_loader_hangs(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # reading it blocks until another process writes
    texts = Texts(pipe)
    reading = trio.Event()

    def load() -> str:
        trio.from_thread.run_sync(reading.set)
        return pipe.read_text()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_loaded, [texts.item()._replace(load=load)])
            await reading.wait()
            nursery.cancel_scope.cancel()
    descriptor = os.open(pipe, os.O_WRONLY)  # let the thread go
    os.close(descriptor)
    assert texts.used == []


async def test_with_nothing_to_watch_it_just_waits() -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(keep_loaded, [])
        nursery.cancel_scope.cancel()


async def test_a_file_that_could_not_be_opened_for_want_of_descriptors_is_tried_each_second(
    nursery: trio.Nursery, file: Path
) -> None:
    texts = Texts(file)
    item = texts.item()
    attempts = 0

    def load() -> str:
        nonlocal attempts
        attempts += 1
        with contextlib.ExitStack() as opened:
            try:
                while attempts == 2:  # until no descriptor is left
                    opened.enter_context(file.open())
            except OSError as error:
                raise UnusableError([Problem(str(file), 0, 0, str(error))]) from None
        return item.load()

    # Not within this test, if it waited for its usual time, or for a change.
    await nursery.start(partial(keep_loaded, [item._replace(load=load)], retry=3600))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as lowered:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, limits[1]), limits[1]))
        lowered.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        write(file, "two")
        await texts.wait("two")
    assert attempts == 3
    nursery.cancel_scope.cancel()


async def test_threads_that_wait_for_something_else_hold_up_no_file(
    nursery: trio.Nursery, file: Path
) -> None:
    texts = Texts(file)
    others = trio.to_thread.current_default_thread_limiter()
    with contextlib.ExitStack() as held:
        for _ in range(int(others.total_tokens)):
            borrower = object()
            others.acquire_on_behalf_of_nowait(borrower)
            held.callback(others.release_on_behalf_of, borrower)
        with trio.fail_after(20):
            await nursery.start(keep_loaded, [texts.item()])
        write(file, "two")
        await texts.wait("two")
        nursery.cancel_scope.cancel()


async def test_without_any_thread_files_are_read_all_the_same(
    nursery: trio.Nursery, file: Path
) -> None:
    texts = Texts(file)
    await nursery.start(keep_loaded, [texts.item()])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    release = threading.Event()
    async with trio.open_nursery() as busy:
        try:
            resource.setrlimit(resource.RLIMIT_AS, (_address_space() + STACK // 2, limits[1]))
            # Use up the idle threads that Trio keeps.
            while await _has_a_thread():
                busy.start_soon(_hold, release)
                await trio.testing.wait_all_tasks_blocked(0.01)
            write(file, "two")
            await texts.wait("two")
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)
            release.set()
    nursery.cancel_scope.cancel()


async def _hold(release: threading.Event) -> None:
    with contextlib.suppress(RuntimeError):
        await trio.to_thread.run_sync(release.wait, limiter=trio.CapacityLimiter(1))


async def _has_a_thread() -> bool:
    try:
        await trio.to_thread.run_sync(bool)
    except RuntimeError:
        return False
    return True


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
