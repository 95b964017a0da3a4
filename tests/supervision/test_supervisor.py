"""A process that keeps others running: real processes, real signals."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TESTS = Path(__file__).parent


class Supervised:
    """A running `support.supervised`, and all it said so far."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.text = ""

    async def says(self, pattern: str, times: int = 1) -> list[str]:
        """Wait until lines matching this have been said so often; returns what they caught."""
        assert self.process.stdout is not None
        with trio.fail_after(20):
            while len(found := re.findall(f"(?m)^{pattern}$", self.text)) < times:
                data = await self.process.stdout.receive_some()
                assert data, f"ended after {self.text}"
                self.text += data.decode()
        return found

    async def ends(self) -> int:
        """Read to the end; it comes when no process has the pipe any more."""
        assert self.process.stdout is not None
        with trio.fail_after(20):
            while data := await self.process.stdout.receive_some():
                self.text += data.decode()
            return await self.process.wait()

    async def pids(self, count: int) -> dict[str, int]:
        """Wait until so many children have been born; returns the latest of each place."""
        born = await self.says(r"child (\d+ \d+)", count)
        return {line.split()[0]: int(line.split()[1]) for line in born}


@pytest.fixture
async def started() -> AsyncIterator[list[Supervised]]:
    """What is put here is gone after the test, with its children."""
    all_of_them: list[Supervised] = []
    yield all_of_them
    for one in all_of_them:
        if one.process.poll() is None:  # the test failed: its children end with the supervisor
            one.process.kill()
            await one.ends()
        for pid in re.findall(r"child \d+ (\d+)", one.text):
            with contextlib.suppress(FileNotFoundError):
                line = await trio.Path(f"/proc/{pid}/cmdline").read_bytes()
                assert b"supervised" not in line, f"{pid} lives on"
        await one.process.wait()
        assert one.process.stdout is not None
        await one.process.stdout.aclose()


async def start(started: list[Supervised], *arguments: str) -> Supervised:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "support.supervised", *arguments],
        env={**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent}", "PYTHONWARNINGS": "error"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    started.append(Supervised(process))
    return started[-1]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_one_signal_stops_all(started: list[Supervised], signum: int) -> None:
    one = await start(started, "3", "obey")
    await one.pids(3)
    one.process.send_signal(signum)
    assert await one.ends() == 0
    for number in range(3):
        assert f"order {number} s\n" in one.text
        assert f"ended {number}\n" in one.text
    assert one.text.count("stopping\n") == 1
    assert one.text.index("stopping\n") < one.text.index("order ")
    assert "\nexit 0 " in one.text


async def test_no_descriptor_is_left(started: list[Supervised]) -> None:
    one = await start(started, "5", "obey")
    pids = await one.pids(5)
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    await one.pids(10)
    one.process.terminate()
    assert await one.ends() == 0
    # Standard input, output and error, the pipes of the last two as the log has opened them, and
    # the folder that is being listed.
    assert "\nexit 0 6\n" in one.text


async def test_the_second_signal_is_passed_on(started: list[Supervised]) -> None:
    one = await start(started, "2", "linger")
    await one.pids(2)
    one.process.terminate()
    await one.says(r"order \d s", 2)
    one.process.terminate()
    await one.says(r"order \d s", 4)
    pids = await one.pids(2)
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    assert await one.ends() == 0
    assert one.text.count("child ") == 2, "after a wish to stop nothing is started again"


async def test_who_does_not_stop_is_killed(started: list[Supervised]) -> None:
    one = await start(started, "2", "ignore")
    await one.pids(2)
    one.process.terminate()
    assert await one.ends() == 0
    assert one.text.count("does not stop: killed") == 2


async def test_a_killed_child_is_started_again(started: list[Supervised]) -> None:
    one = await start(started, "2", "obey", "0.2")
    first = await one.pids(2)
    for number in range(3):
        pids = await one.pids(2 + number)
        os.kill(pids["1"], signal.SIGKILL)
        await one.pids(3 + number)
    after = await one.pids(5)
    assert after["0"] == first["0"]
    assert after["1"] != first["1"]
    assert one.text.count("ended 1\n") == 3
    assert one.text.count("was killed by SIGKILL after ") == 3
    one.process.terminate()
    assert await one.ends() == 0


async def test_no_zombies(started: list[Supervised]) -> None:
    one = await start(started, "2", "obey")
    pids = await one.pids(2)
    os.kill(pids["0"], signal.SIGKILL)
    await one.pids(3)
    task = trio.Path(f"/proc/{one.process.pid}/task/{one.process.pid}")
    children = (await (task / "children").read_text()).split()
    assert len(children) == 2
    assert str(pids["0"]) not in children
    one.process.terminate()
    assert await one.ends() == 0


async def test_gives_up_on_one_that_never_starts(started: list[Supervised]) -> None:
    one = await start(started, "2", "fail")
    assert await one.ends() == 1
    assert "process 2 ended with code 3, for the 5th time in a row: giving up" in one.text
    assert one.text.count("starting it again in") == 4
    assert "order 0 s" in one.text
    assert "exit 1" in one.text


async def test_never_gives_up_once_it_worked(started: list[Supervised]) -> None:
    one = await start(started, "2", "fail", "0.1")
    await one.says(r"ended 1", 6)
    assert "giving up" not in one.text
    one.process.terminate()
    assert await one.ends() == 0


async def test_pauses_grow(started: list[Supervised]) -> None:
    one = await start(started, "2", "fail")
    await one.ends()
    pauses = re.findall(r"again in (\d+\.\d) s", one.text)
    assert pauses == ["0.0", "0.1", "0.2", "0.4"]


async def test_a_bug_is_shown(started: list[Supervised]) -> None:
    one = await start(started, "1", "crash")
    assert await one.ends() == 1
    assert "RuntimeError" in one.text
    assert "ended with code 70" in one.text


async def test_children_learn_that_the_supervisor_is_gone(started: list[Supervised]) -> None:
    """Whatever kills it, and whichever of them was forked first or again."""
    one = await start(started, "3", "obey")
    pids = await one.pids(3)
    os.kill(pids["0"], signal.SIGKILL)
    await one.pids(4)
    one.process.kill()
    await one.says(r"alone \d", 3)
    await one.ends()


async def test_sighup_waits_for_a_child_that_is_just_being_born(started: list[Supervised]) -> None:
    one = await start(started, "2", "early")
    assert sorted(await one.says(r"hup (\d)", 2)) == ["0", "1"]
    assert len(await one.pids(2)) == 2
    one.process.terminate()
    assert await one.ends() == 0
    assert one.text.count("child") == 2, "none had to be forked again"


async def test_sighup_is_passed_on(started: list[Supervised]) -> None:
    one = await start(started, "2", "obey")
    await one.pids(2)
    one.process.send_signal(signal.SIGHUP)
    assert sorted(await one.says(r"hup (\d)", 2)) == ["0", "1"]
    assert one.text.index("reload") < one.text.index("hup 0")  # what is forked later knows, too
    one.process.terminate()
    assert await one.ends() == 0


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGUSR1])
async def test_a_child_that_hangs_is_replaced(started: list[Supervised], how: int) -> None:
    one = await start(started, "2", "beat", "0.2", "3")
    first = await one.pids(2)
    await one.says(r"beat 1 \d+")
    os.kill(first["1"], how)
    await one.says(r".* has not responded for 1 s.*; it is killed after 3 s")
    if how == signal.SIGSTOP:
        assert "it is stopped, by a signal such as SIGSTOP" in one.text
    else:
        (stack,) = await one.says(r".* process 2 \(pid \d+\): its event loop is blocked in (.*)")
        assert re.match(r"stuck \(.*/supervised\.py:\d+\), called by .*, called by beat \(", stack)
    await one.says(r".* process 2 \(pid \d+\) has not responded for 3 s: killed")
    after = await one.pids(3)
    assert after["0"] == first["0"]
    await one.says(r"beat 1 \d+", len(await one.says(r"beat 1 \d+")) + 20)
    one.process.terminate()
    assert await one.ends() == 0
    assert (
        one.text.count("was killed by SIGKILL") == one.text.count("has not responded for 1 s") == 1
    )


async def test_a_child_that_goes_on_is_left_alone(started: list[Supervised]) -> None:
    one = await start(started, "2", "beat", "0.2", "0")
    pids = await one.pids(2)
    await one.says(r"beat 1 \d+")
    os.kill(pids["1"], signal.SIGSTOP)
    await one.says(r".* has not responded for 1 s.*; it is left alone")
    os.kill(pids["1"], signal.SIGCONT)
    await one.says(r".* process 2 \(pid \d+\) responds again, after \d+ s")
    one.process.terminate()
    assert await one.ends() == 0
    assert "killed" not in one.text


async def test_a_pause_of_all_kills_nobody(started: list[Supervised]) -> None:
    """As after a suspend. That it was long enough is seen by what another one does meanwhile."""
    one = await start(started, "2", "beat", "0.2", "3")
    everyone = [one.process.pid, *(await one.pids(2)).values()]
    await one.says(r"beat \d \d+", 4)
    other = await start(started, "1", "beat", "0.2", "3")
    (hung,) = (await other.pids(1)).values()
    await other.says(r"beat 0 \d+")
    for pid in everyone:
        os.kill(pid, signal.SIGSTOP)
    os.kill(hung, signal.SIGSTOP)
    await other.says(r".* has not responded for 3 s: killed")
    for pid in everyone:  # the supervisor first
        os.kill(pid, signal.SIGCONT)
    for place in "01":
        await one.says(rf"beat {place} \d+", len(await one.says(rf"beat {place} \d+")) + 10)
    for each in (one, other):
        each.process.terminate()
        assert await each.ends() == 0
    assert "responded" not in one.text
    assert one.text.count("child") == 2
