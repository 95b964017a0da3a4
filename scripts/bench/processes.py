"""Child processes: pinned to cores, measured from outside, stopped by their id."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Option = str | float  # of the load generator

PATIENCE = 30.0  # seconds within which a process must start or stop
BUILD = Path(__file__).resolve().parents[2] / "build" / "bench"
CORES = sorted(os.sched_getaffinity(0))
PROXY_CORE = {CORES[0]}
LOAD_CORES = set(CORES[1:]) or PROXY_CORE
FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # descriptors a process may have
MOST = (min(FILES, 100_000) - 200) // 2  # connections through one proxy: two descriptors each


class BenchError(Exception):
    """A measured program failed; the text says how."""


def raise_file_limit() -> None:
    """Raise the limit of descriptors as far as allowed, also for children."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))


def free_port() -> int:
    """Find a free port, for programs that cannot choose one themselves."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def start(
    command: Sequence[str | Path],
    *,
    cores: set[int],
    log: Path,
    environment: dict[str, str] | None = None,
    nice: int = 0,
    **streams: int,
) -> Iterator[subprocess.Popen[str]]:
    """Run a program on these cores until the context ends; its stderr goes to `log`."""

    def prepare() -> None:
        os.sched_setaffinity(0, cores)
        os.nice(nice)

    with log.open("a") as errors:
        process = subprocess.Popen(
            [str(part) for part in command],
            env={**os.environ, **(environment or {})},
            preexec_fn=prepare,
            stderr=errors,
            text=True,
            **{"stdin": subprocess.DEVNULL, "stdout": errors, **streams},
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def family(pid: int) -> list[int]:
    """List a process and all its descendants."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, children.read_text().split())
    return found


def memory(pid: int) -> int:
    """Return the bytes of private memory of a process and its descendants."""
    kilobytes = 0
    for member in family(pid):
        for line in Path(f"/proc/{member}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("RssAnon", "RssShmem"):
                kilobytes += int(value.split()[0])
    return kilobytes * 1024


def descriptors(pid: int) -> int:
    """Count the open descriptors of one process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def processor_seconds(pid: int) -> float:
    """Read the processor time of a process and its descendants, to the nanosecond."""
    # The clock id of another process, as clock_getcpuclockid(3) makes it.
    return sum(time.clock_gettime(~member << 3 | 2) for member in family(pid))


@contextlib.contextmanager
def backend(log: Path, rate: int = 10_000, nice: int = 0) -> Iterator[int]:
    """Run the echo server; yields its port. `rate` is the message rate of `/push`, per second."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [BUILD / "wsecho", str(rate)]
    with start(command, cores=LOAD_CORES, log=log, nice=nice, **pipes) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


def load_command(mode: str, port: int, options: dict[str, Option]) -> list[str]:
    """Build the command line of the load generator; True stands for an option without value."""
    command = [str(BUILD / "wsload"), mode, "--port", str(port)]
    for name, value in options.items():
        command += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return command


def load(
    mode: str, port: int, seconds: float, pid: int | None, **options: Option
) -> dict[str, float]:
    """Run the load generator to its end; returns its measurements."""
    options["seconds"] = seconds
    if pid is not None:
        options["cpu"] = ",".join(map(str, family(pid)))
    try:
        done = subprocess.run(
            load_command(mode, port, options),
            preexec_fn=lambda: os.sched_setaffinity(0, LOAD_CORES),
            capture_output=True,
            text=True,
            timeout=seconds + 2 * PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"{mode} did not end within {seconds + 2 * PATIENCE:g} s") from None
    if done.returncode:
        raise BenchError(done.stderr.strip())
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


@contextlib.contextmanager
def held(port: int, log: Path, **options: Option) -> Iterator[None]:
    """Hold connections open while the context lasts."""
    command = load_command("hold", port, options)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with start(command, cores=LOAD_CORES, log=log, **pipes) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":  # ends by itself after 60 seconds
            raise BenchError(f"connections could not be held: {log.read_text()[-500:].strip()}")
        yield
        if process.poll() is not None:
            raise BenchError(f"connections were lost: {log.read_text()[-500:].strip()}")


def wait_upgraded(process: subprocess.Popen[str], port: int, path: str, header: str) -> None:
    """Wait until a proxy forwards a handshake to the backend."""
    request = (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"{header}\r\n\r\n"
    )
    deadline, answer = time.monotonic() + PATIENCE, b""
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as sock:
            sock.sendall(request.encode())
            answer = sock.recv(4096)
            if answer.startswith(b"HTTP/1.1 101 "):
                return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise BenchError(f"{process.args!r} does not serve; it answered {answer[:300]!r}")
