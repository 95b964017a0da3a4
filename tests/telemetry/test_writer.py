"""Lines reach a stream in order and whole, and nobody waits for a stream that takes none."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import resource
import select
import socket
import threading
from typing import TYPE_CHECKING, TextIO

import pytest

from trio_gw.telemetry.writer import LineWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LINE = b"x" * 99 + b"\n"


def notice(count: int) -> bytes:
    return b"%d lost\n" % count


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    read, write = os.pipe()
    with open(write, "w") as stream:
        yield read, stream
    with contextlib.suppress(OSError):
        os.close(read)


def read_lines(fd: int, enough: Callable[[list[bytes]], bool]) -> list[bytes]:
    """Read until there is enough; fails when nothing comes for 20 s."""
    got = bytearray()
    while not enough(lines := bytes(got).splitlines(keepends=True)):
        assert select.select([fd], [], [], 20)[0], lines[-3:]
        data = os.read(fd, 1 << 16)
        assert data
        got += data
    return lines


def fill(lines: LineWriter) -> int:
    """Put numbered lines until some are lost, and one more; return the number of the last."""
    number = 0
    while lines.dropped < 3:
        lines.put(b"%07d %s" % (number, LINE))
        number += 1
    return number - 1


def test_a_line_is_written_at_once_before_the_thread_runs(pipe: tuple[int, TextIO]) -> None:
    LineWriter(pipe[1], notice).put(b"first\n")
    assert os.read(pipe[0], 100) == b"first\n"


def test_what_nobody_reads_is_dropped_counted_and_told(pipe: tuple[int, TextIO]) -> None:
    read, stream = pipe
    lines = LineWriter(stream, notice)
    with lines.background():
        last = fill(lines)
        lost = lines.dropped
        got = read_lines(read, lambda got: bool(got) and got[-1].endswith(b"lost\n"))
        assert got[-1] == notice(lost)
        numbers = [int(line[:7]) for line in got[:-1]]
        assert numbers == list(range(last + 1 - lost))
        lines.put(b"flows\n")
        assert read_lines(read, bool) == [b"flows\n"]
    assert lines.dropped == lost


def test_the_end_is_not_waited_for_longer_than_it_may(pipe: tuple[int, TextIO]) -> None:
    lines = LineWriter(pipe[1], notice)
    with lines.background():
        lost = fill(lines)
    assert not any(thread.name == "log writer" for thread in threading.enumerate())
    before = lines.dropped
    lines.put(LINE * 50)  # more than what a page of the pipe may still have room for
    assert lines.dropped == before + 1
    assert lost


def test_what_waits_is_written_at_the_end(pipe: tuple[int, TextIO]) -> None:
    lines = LineWriter(pipe[1], notice)
    with lines.background():
        for number in range(100):
            lines.put(b"%d\n" % number)
    lines.put(b"after\n")
    got = read_lines(pipe[0], lambda got: len(got) == 101)
    assert got == [*(b"%d\n" % number for number in range(100)), b"after\n"]


def test_nobody_waits_without_the_thread(pipe: tuple[int, TextIO]) -> None:
    read, stream = pipe
    lines = LineWriter(stream, notice)
    last = fill(lines)
    assert lines.dropped == 3
    got = read_lines(read, lambda got: len(got) == last - 2)
    assert [int(line[:7]) for line in got] == list(range(last - 2))
    lines.put(b"flows\n")
    assert read_lines(read, lambda got: len(got) == 2) == [b"3 lost\n", b"flows\n"]


@pytest.mark.parametrize("background", [True, False])
def test_a_shared_pipe_stays_as_it_is(pipe: tuple[int, TextIO], *, background: bool) -> None:
    lines = LineWriter(pipe[1], notice)
    with lines.background() if background else contextlib.nullcontext():
        lines.put(b"x\n")
        assert read_lines(pipe[0], bool) == [b"x\n"]
        assert not fcntl.fcntl(pipe[1].fileno(), fcntl.F_GETFL) & os.O_NONBLOCK


@pytest.mark.parametrize("background", [True, False])
def test_a_pipe_that_is_shared_and_does_not_block(
    pipe: tuple[int, TextIO], *, background: bool
) -> None:
    os.set_blocking(pipe[1].fileno(), False)
    lines = LineWriter(pipe[1], notice)
    with lines.background() if background else contextlib.nullcontext():
        fill(lines)
        lost = lines.dropped
        assert b"0000000 " + LINE in read_lines(pipe[0], lambda got: len(got) > 100)
        if background:
            read_lines(pipe[0], lambda got: bool(got) and got[-1] == notice(lost))


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
@pytest.mark.parametrize("background", [True, False])
def test_a_socket_that_nobody_reads(kind: socket.SocketKind, *, background: bool) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with ours, theirs, open(os.dup(theirs.fileno()), "w") as stream:
        lines = LineWriter(stream, notice)
        with lines.background() if background else contextlib.nullcontext():
            fill(lines)
            got = b"".join(read_lines(ours.fileno(), lambda got: len(got) > 100))
            assert got.startswith(b"0000000 " + LINE)
        assert not fcntl.fcntl(theirs.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK
        lines.close()


@pytest.mark.parametrize("background", [True, False])
def test_a_terminal_that_is_stopped(*, background: bool) -> None:
    ours, theirs = pty.openpty()
    with open(theirs, "w") as stream:
        lines = LineWriter(stream, notice)
        with lines.background() if background else contextlib.nullcontext():
            fill(lines)
        assert not fcntl.fcntl(theirs, fcntl.F_GETFL) & os.O_NONBLOCK
        lines.close()
    os.close(ours)


@pytest.mark.parametrize("background", [True, False])
def test_a_reader_that_is_gone(pipe: tuple[int, TextIO], *, background: bool) -> None:
    lines = LineWriter(pipe[1], notice)
    os.close(pipe[0])
    with lines.background() if background else contextlib.nullcontext():
        for _ in range(50):
            lines.put(LINE)
    assert lines.dropped == 50


def test_a_full_disk(tmp_path: Path) -> None:
    """A limit on the size of files stands for it: the error is another one, the way is the same."""
    path = tmp_path / "log"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open(path, "w") as stream:
        lines = LineWriter(stream, notice)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (150, hard))
            lines.put(LINE)
            lines.put(LINE)  # half of it fits
            lines.put(LINE)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        lines.put(b"flows\n")
    assert lines.dropped == 2
    assert path.read_bytes() == LINE + LINE[:50] + b"\n2 lost\nflows\n"


def test_a_device_that_is_full() -> None:
    with open("/dev/full", "wb", buffering=0) as raw, open(raw.fileno(), "w", closefd=False) as to:
        lines = LineWriter(to, notice)
        with lines.background():
            lines.put(LINE)
        assert lines.dropped == 1


def test_a_stream_that_is_closed(pipe: tuple[int, TextIO]) -> None:
    lines = LineWriter(pipe[1], notice)
    pipe[1].close()
    LineWriter(pipe[1], notice).put(LINE)
    LineWriter(None, notice).put(LINE)
    lines.close()


def test_lines_of_many_threads_come_whole_and_in_order(pipe: tuple[int, TextIO]) -> None:
    lines = LineWriter(pipe[1], notice)

    def write(who: int) -> None:
        for number in range(200):
            lines.put(b"%d %d\n" % (who, number))

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    with lines.background():
        for thread in threads:
            thread.start()
        got = read_lines(pipe[0], lambda got: len(got) == 800)
        for thread in threads:
            thread.join()
    for who in range(4):
        of = [int(line.split()[1]) for line in got if line.startswith(b"%d " % who)]
        assert of == list(range(200))
