"""The git source in processes of their own: workers, signals, and the commands that look at it."""

from __future__ import annotations

import http.client
import json
import os
import signal
from typing import TYPE_CHECKING

import pytest
import trio

from support.backends import start_echo
from support.commands import Serving, gw, port_of, start
from support.projects import api, asyncapi, write
from support.repositories import OPEN, TOKEN, USER, Repository, all_end, relatives, start_git_server
from support.secrets import secret

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repository")
    made.project("pets", "ws://localhost:1", "/one")
    made.commit()
    return made


def configure(base: Path, url: str, more: str = "") -> None:
    text = f'{more}\n[git]\nurl = "{url}"\ninterval = 1\n'
    (base / "gateway.toml").write_text(text)


def status(port: int, path: str) -> int:
    """Ask without an upgrade: 426 is a topic, 404 is none."""
    connection = http.client.HTTPConnection("localhost", port, timeout=30)
    connection.request("GET", path)
    found = connection.getresponse().status
    connection.close()
    return found


async def test_all_workers_serve_what_one_has_fetched(
    base: Path, running: list[Serving], repository: Repository
) -> None:
    configure(base, repository.url, "workers = 2")
    serving = await start(base, "run")
    running.append(serving)
    await serving.read_until("err", " worker 2 trio_gw: ready")
    port = port_of(serving.err)
    assert [status(port, "/pets/1.0.0/one") for _ in range(10)] == [426] * 10
    repository.project("pets", "ws://localhost:1", "/two")
    commit = repository.commit()
    # One asks, and says so when all serve it.
    await serving.read_until("err", f"git: commit {commit[:12]} of branch main")
    assert [status(port, "/pets/1.0.0/two") for _ in range(10)] == [426] * 10
    assert [status(port, "/pets/1.0.0/one") for _ in range(10)] == [404] * 10
    asking = serving.err.split(" worker 1 trio_gw: ready")[0]
    # When that one is lost, its replacement asks.
    pid = int(asking.partition("process 1 started (pid ")[2].partition(")")[0])
    os.kill(pid, signal.SIGKILL)
    repository.project("pets", "ws://localhost:1", "/three")
    commit = repository.commit()
    await serving.read_until("err", f"git: commit {commit[:12]} of branch main")
    assert [status(port, "/pets/1.0.0/three") for _ in range(10)] == [426] * 10
    serving.process.terminate()
    with trio.fail_after(20):
        assert await serving.process.wait() == 0
    assert "Traceback" not in await serving.rest()


async def test_stopped_while_the_first_fetch_hangs(
    base: Path, running: list[Serving], repository: Repository, nursery: trio.Nursery
) -> None:
    server = await start_git_server(nursery, repository.bare.parent)
    server.gate = trio.Event()
    backend = await start_echo(nursery)
    write(base / "apis", "own", api("Own", "/own", backend.url), asyncapi({"/x": OPEN}))
    configure(base, server.url)
    serving = await start(base, "run", MARK="quei7Ahsoo0Ohy")
    running.append(serving)
    await server.asked()
    assert len(relatives("MARK=quei7Ahsoo0Ohy")) >= 3  # the gateway, git, its helper
    await serving.read_until("err", "added Own:1.0.0")  # served already
    serving.process.terminate()
    with trio.fail_after(20):
        assert await serving.process.wait() == 0
    await all_end("MARK=quei7Ahsoo0Ohy")


def test_check_and_routes_know_what_was_fetched(base: Path, repository: Repository) -> None:
    configure(base, repository.url)
    write(base / "apis", "own", api("Own", "/own", "ws://localhost:1"), asyncapi({"/x": OPEN}))
    done = gw(base, "check")
    assert (done.returncode, done.stderr.count("1 API project ")) == (0, 1)
    tree = base / "git" / "tree-0123456789ab-01234567"
    write(tree, "pets", api("Pets", "/pets", "ws://localhost:1"), asyncapi({"/one": OPEN}))
    state = {"source": f"{repository.url} - .", "commit": "0123456789ab", "tree": tree.name}
    (base / "git" / "state.json").write_text(json.dumps(state))
    assert "2 API projects with 2 topics can be served" in gw(base, "check").stderr
    routes = json.loads(gw(base, "routes", "--json").stdout)
    assert sorted(route["path"] for route in routes) == ["/own/1.0.0/x", "/pets/1.0.0/one"]


def test_check_names_what_git_would_miss(base: Path) -> None:
    (base / "key").write_text("secret")
    (base / "key").chmod(0o644)
    table = '[git]\nurl = "git@git.invalid:apis.git"\nssh_key = "key"\nknown_hosts = "hosts"\n'
    (base / "gateway.toml").write_text(table)
    done = gw(base, "check")
    assert done.returncode == 1
    for said in (
        f"{base}/key: git.ssh_key can be read by other users, so ssh refuses it; chmod 600 it",
        f"{base}/hosts: git.known_hosts cannot be read (No such file or directory); ",
    ):
        assert said in done.stderr
    done = gw(base, "check", PATH=str(base))
    assert "git.url: the program git is not installed; install it" in done.stderr
    assert "git.url: the program ssh is not installed; install it" in done.stderr


def test_faults_of_the_settings_name_the_line(base: Path) -> None:
    text = f'[git]\nurl = "https://x:{TOKEN}@git.invalid/a"\nbranch = "-x"\nintervall = 5\n'
    (base / "gateway.toml").write_text(text)
    for command in ("check", "routes", "run"):
        done = gw(base, command)
        assert done.returncode == 1
        assert TOKEN not in done.stderr
        assert "gateway.toml:4: unknown key git.intervall" in done.stderr
    (base / "gateway.toml").write_text(text.replace("intervall", "interval"))
    said = gw(base, "check").stderr
    assert "gateway.toml:2: git.url is not the address of a repository: it has credentials" in said
    assert "gateway.toml:3: git.branch: '-x' cannot be the name of a branch" in said


def test_nothing_of_git_is_asked_when_it_is_off(base: Path) -> None:
    assert gw(base, "check", PATH=str(base)).returncode == 0


async def test_sighup_takes_over_new_credentials(
    base: Path, running: list[Serving], repository: Repository, nursery: trio.Nursery
) -> None:
    root = repository.bare.parent
    server = await start_git_server(nursery, root, credentials=f"{USER}:{TOKEN}")
    more = f'username = "{USER}"\ntoken = "%s"\ninterval = 3600\n'
    text = f'[git]\nurl = "{server.url}"\n{more}'
    (base / "gateway.toml").write_text(text % secret("glpat-Wai3ohGh7mohVohth1ee"))
    serving = await start(base, "run")
    running.append(serving)
    await serving.read_until("err", "the server does not accept the credentials")
    await serving.read_until("err", "listening on http://127")
    (base / "gateway.toml").write_text(text % TOKEN + 'branch = "main"\n')
    serving.process.send_signal(signal.SIGHUP)
    await serving.read_until("err", f"git: the repository is now {server.url}, main")
    await serving.read_until("err", "git: commit ")
    await serving.read_until("err", "added Pets:1.0.0")
    serving.process.terminate()
    with trio.fail_after(20):
        assert await serving.process.wait() == 0
    assert TOKEN not in await serving.rest()
    assert "needs a restart" not in serving.err


def other(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "other")
    made.project("pets", "ws://localhost:1", "/other")
    return made


async def test_sighup_takes_over_another_repository(
    base: Path,
    tmp_path: Path,
    running: list[Serving],
    repository: Repository,
    nursery: trio.Nursery,
) -> None:
    configure(base, repository.url)
    serving = await start(base, "run")
    running.append(serving)
    await serving.read_until("err", "listening on http://127")
    port = port_of(serving.err)
    assert status(port, "/pets/1.0.0/one") == 426
    following = other(tmp_path)
    commit = following.commit()
    server = await start_git_server(nursery, following.bare.parent)
    server.gate = trio.Event()
    configure(base, server.url)
    serving.process.send_signal(signal.SIGHUP)
    await server.asked()  # and does not answer
    assert status(port, "/pets/1.0.0/one") == 426
    # A question that is out is no reason to wait: back, and there again.
    configure(base, repository.url)
    serving.process.send_signal(signal.SIGHUP)
    asked = f"git: the repository is now {repository.url}, the default branch"
    await serving.read_until("err", asked)
    assert status(port, "/pets/1.0.0/one") == 426
    configure(base, server.url)
    serving.process.send_signal(signal.SIGHUP)
    server.gate.set()
    await serving.read_until("err", f"git: commit {commit[:12]} of branch main of {server.url}")
    assert status(port, "/pets/1.0.0/one") == 404
    assert status(port, "/pets/1.0.0/other") == 426
    assert len(list((base / "git").glob("tree-*"))) == 1


async def test_a_worker_in_place_of_another_knows_what_sighup_brought(
    base: Path, tmp_path: Path, running: list[Serving], repository: Repository
) -> None:
    configure(base, repository.url, "workers = 2")
    serving = await start(base, "run")
    running.append(serving)
    await serving.read_until("err", " worker 2 trio_gw: ready")
    following = other(tmp_path)
    configure(base, following.url, "workers = 2")
    serving.process.send_signal(signal.SIGHUP)
    told = await serving.read_until("err", "the repository is empty")
    assert "is still served" in told
    pid = int(told.partition("process 1 started (pid ")[2].partition(")")[0])
    os.kill(pid, signal.SIGKILL)
    await serving.read_until("err", " worker 1 trio_gw: ready", 2)
    port = port_of(serving.err)
    assert [status(port, "/pets/1.0.0/one") for _ in range(10)] == [426] * 10
    commit = following.commit()
    await serving.read_until("err", f"git: commit {commit[:12]} of branch main of {following.url}")
    assert [status(port, "/pets/1.0.0/other") for _ in range(10)] == [426] * 10
