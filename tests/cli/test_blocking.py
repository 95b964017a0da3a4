"""The event loop of a gateway calls nothing that may wait for a disk, a name server or a program.

A real gateway is led through its life while a hook of the interpreter looks on.
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from support.backends import start_echo
from support.commands import Serving, environment, gw, port_of, start
from support.gateway import Answer
from support.projects import api, asyncapi, write
from support.repositories import OPEN, Repository
from trio_gw.guard.certificates import ensure_certificate

TESTS = Path(__file__).parent.parent

# What the loop may call, and why: nothing here leaves the kernel's memory.
ALLOWED = (
    ("os.read ", "feed/git_command.py:_drain", "a pipe, non-blocking, by Trio"),
    ("os.read ", "feed/git_command.py:_collect", "a pipe, non-blocking, by Trio"),
    ("open ", "feed/git_command.py:run", "a descriptor of a process, by Trio; no path"),
    ("os.waitpid ", "feed/git_command.py:", "a process that has ended, by Trio"),
    ("os.killpg ", "feed/git_command.py:_kill", "a signal to a process"),
    ("open '/proc/self/", "proxy/process_gauges.py", "procfs"),
    ("os.listdir '/proc/self/fd'", "proxy/process_gauges.py", "procfs"),
)


def allowed(line: str) -> bool:
    return any(line.startswith(event) and place in line for event, place, _ in ALLOWED)


async def status(port: int, path: str, *, upgrade: bool = False) -> int:
    more = (
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        if upgrade
        else b""
    )
    with trio.fail_after(20):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            head = b"GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % (path.encode(), more)
            await stream.send_all(head)
            return Answer(bytes(await stream.receive_some())).status


async def test_the_loop_never_blocks(
    base: Path, running: list[Serving], tmp_path: Path, nursery: trio.Nursery
) -> None:
    backend = await start_echo(nursery)
    repository = Repository(tmp_path / "repository")
    repository.project("pets", "ws://localhost:1", "/one")
    repository.commit()
    (base / "gateway.toml").write_text(
        f'[git]\nurl = "{repository.url}"\ninterval = 1\n[analytics]\nenabled = true\n'
    )
    report = tmp_path / "report"
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "support.audited", str(report), "run"],
        cwd=base,
        env=environment(PYTHONPATH=str(TESTS)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    serving = Serving(process)
    running.append(serving)
    await serving.read_until("err", "listening on https://[")
    port = port_of(serving.err)
    process.send_signal(signal.SIGUSR1)
    # A project comes, and a client.
    write(base / "apis", "Chat", api("Chat", "/chat", backend.url), asyncapi({"/open": OPEN}))
    await serving.read_until("err", "Chat")
    assert await status(port, "/chat/1.0.0/open", upgrade=True) == 101
    # Files of the settings change.
    (base / "certs" / "revoked.txt").write_text("subject=nobody\n")
    (base / "certs" / "denied.txt").write_text("user=nobody\n")
    await serving.read_until("err", "loaded again", 2)
    fresh = tmp_path / "fresh"
    ensure_certificate(fresh / "mg.pem", fresh / "mg.key", datetime.datetime.now(datetime.UTC))
    for name in ("mg.key", "mg.pem"):
        shutil.copyfile(fresh / name, base / "certs" / name)
    await serving.read_until("err", "loaded again", 3)
    process.send_signal(signal.SIGHUP)
    await serving.read_until("err", "log level is info")
    # An operator deploys and looks.
    project = write(tmp_path, "Upl", api("Upl", "/upl", backend.url), asyncapi({"/open": OPEN}))
    (admin,) = re.findall(r"admin API on https://127\S*:(\d+)", serving.err)
    url = f"https://localhost:{admin}"
    options = ("--url", url, "--ca", "certs/mg.pem")
    commands = ("deploy", str(project)), ("apis",), ("top", "--once"), ("undeploy", "Upl:1.0.0")
    for command in commands:
        run = partial(gw, base, command[0], *options, *command[1:], GW_PASSWORD="admin")
        done = await trio.to_thread.run_sync(run)
        assert done.returncode == 0, done.stderr
    # A commit comes.
    repository.project("pets", "ws://localhost:1", "/two")
    commit = repository.commit()
    await serving.read_until("err", f"git: commit {commit[:12]} of branch main")
    process.terminate()
    with trio.fail_after(20):
        assert await process.wait() == 0
    first, *lines = report.read_text().splitlines()
    assert first == "armed"
    assert [line for line in dict.fromkeys(lines) if not allowed(line)] == []


async def test_a_disk_that_hangs_is_not_waited_for_at_the_end(
    base: Path, running: list[Serving], tmp_path: Path
) -> None:
    """A deployment hangs in `fsync`, which nobody can interrupt."""
    hanging = """
import os, sys, threading
from trio_gw.__main__ import main

def fsync(fd):
    os.write(2, b"hangs\\n")
    threading.Event().wait()

os.fsync = fsync
sys.exit(main(["run"]))
"""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", hanging],
        cwd=base,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    serving = Serving(process)
    running.append(serving)
    await serving.read_until("err", "listening on https://[")
    (admin,) = re.findall(r"admin API on https://127\S*:(\d+)", serving.err)
    write(tmp_path, "Upl", api("Upl", "/upl", "ws://localhost:1"), asyncapi({"/open": OPEN}))
    deploy = [sys.executable, "-m", "trio_gw", "deploy", "--url", f"https://localhost:{admin}"]
    client = await trio.lowlevel.open_process(
        [*deploy, "--ca", "certs/mg.pem", str(tmp_path / "Upl")],
        cwd=base,
        env=environment(GW_PASSWORD="admin"),
    )
    await serving.read_until("err", "hangs")
    process.terminate()
    await serving.read_until("err", "stopping")
    process.terminate()
    log = await serving.rest()
    assert "a thread still waits" in log
    assert await process.wait() == 1
    await client.wait()


def pipe_at(path: Path) -> None:
    """Put a named pipe in the place of a file, whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    other = path.with_name(f".{path.name}")
    os.mkfifo(other)
    other.rename(path)


@pytest.mark.parametrize("workers", [1, 2])
async def test_named_pipes_in_the_place_of_files(
    base: Path, running: list[Serving], tmp_path: Path, nursery: trio.Nursery, workers: int
) -> None:
    backend = await start_echo(nursery)
    settings = f"workers = {workers}\n[analytics]\nenabled = true\ninterval = 1\n"
    (base / "gateway.toml").write_text(settings)
    write(base / "apis", "Chat", api("Chat", "/chat", backend.url), asyncapi({"/open": OPEN}))
    serving = await start(base, "run")
    running.append(serving)
    last = "listening on https://[" if workers == 1 else "trio_gw: ready"
    await serving.read_until("err", last, workers)
    port = port_of(serving.err)
    pipe_at(base / "logs" / "analytics.jsonl")
    pipe_at(base / "deployed" / "index.json")
    pipe_at(base / "apis" / "x.zip")
    pipe_at(base / "apis" / "Chat" / "api.yaml")
    for name in ("revoked.txt", "denied.txt", "mg.pem"):
        pipe_at(base / "certs" / name)
    pipe_at(base / "gateway.toml")
    # One after the other, as one that hangs would hold up the rest.
    for name in ("revoked.txt", "denied.txt", "mg.pem", "deployed", "analytics.jsonl", "api.yaml"):
        await serving.read_until("err", f"{name}: ")
        assert await status(port, "/chat/1.0.0/open", upgrade=True) == 101
    serving.process.send_signal(signal.SIGHUP)
    await serving.read_until("err", "the settings do not change")
    assert serving.err.count("not a regular file") >= 5
    assert await status(port, "/chat/1.0.0/open", upgrade=True) == 101
    (base / "gateway.toml").unlink()
    (base / "gateway.toml").write_text(settings + '[log]\nlevel = "debug"\n')
    serving.process.send_signal(signal.SIGHUP)
    await serving.read_until("err", "log level is debug", workers)
    serving.process.terminate()
    await serving.rest()
    assert await serving.process.wait() == 0


def test_threads_that_load_give_way_to_the_loop() -> None:
    """Within a millisecond: with the interpreter's own 5 ms a message waits for several of them."""
    program = (
        "import sys, trio; from trio_gw.cli import run;"
        "trio.run = lambda *_: print(sys.getswitchinterval());"
        "run._run(None, None, None, None)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert 0 < float(found.stdout) <= 0.001
