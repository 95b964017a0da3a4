"""`deploy`, `undeploy`, `apis` and `check --against`, as processes against a running gateway."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
import trio

from support.backends import start_echo
from support.commands import environment
from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, write
from trio_gw.cli import client, deploy
from trio_gw.cli.deploy import bar
from trio_gw.feed.remove_tree import remove_tree

if TYPE_CHECKING:
    from pathlib import Path

ANY: dict[str, Any] = {"/*": {"publish": {}}}


class Cli:
    """Runs commands against a gateway that serves meanwhile."""

    def __init__(self, gateway: RunningGateway, backend: str) -> None:
        self.gateway = gateway
        self.backend = backend
        self.url = f"https://localhost:{gateway.admin_port}"
        self.work = gateway.base / "work"
        self.work.mkdir()
        self.ca = ["--ca", str(gateway.base / "certs" / "mg.pem")]

    def project(self, context: str = "/chat", **data: Any) -> Path:
        return write(self.work, "chat", api("Chat", context, self.backend, **data), asyncapi(ANY))

    async def run(
        self, *arguments: str, trust: bool = True, **more: str
    ) -> subprocess.CompletedProcess[str]:
        done = await trio.run_process(
            [sys.executable, "-m", "trio_gw", *arguments, *(self.ca if trust else ())],
            cwd=self.work,
            env=environment(**{"GW_URL": self.url, "GW_PASSWORD": "admin", **more}),
            stdin=b"admin\n",
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        text = done.stdout.decode(), done.stderr.decode()
        return subprocess.CompletedProcess(done.args, done.returncode, *text)


@pytest.fixture
async def cli(nursery: trio.Nursery, base: Path) -> Cli:
    backend = await start_echo(nursery)
    return Cli(await start_gateway(nursery, base, admin=True), backend.url)


def test_a_folder_that_is_nested_without_end(tmp_path: Path) -> None:
    deep = tmp_path / "chat"
    deep.mkdir()
    for level in range(990):
        (deep / f"at{level}").write_text("x")
        deep = deep / "d"
        deep.mkdir()
    with tempfile.TemporaryFile() as spool:
        deploy._pack(tmp_path / "chat", spool)
        with zipfile.ZipFile(spool) as packed:
            assert len(packed.namelist()) == 17
    remove_tree(tmp_path / "chat")  # pytest could not


async def test_a_folder_from_deployed_to_undeployed(cli: Cli) -> None:
    cli.project()
    done = await cli.run("deploy", "chat")
    assert (done.returncode, done.stdout, done.stderr) == (0, "deployed: chat.zip\n", "")
    assert await cli.gateway.status("/chat/1.0.0/x") == 101
    done = await cli.run("apis")
    assert done.stdout.splitlines() == [
        "API         TYPE  CONTEXT      ENVIRONMENTS  HOST",
        "Chat:1.0.0  WS    /chat/1.0.0  Default       localhost",
    ]
    (listed,) = json.loads((await cli.run("apis", "--json")).stdout)
    assert (listed["apiName"], listed["gateway-envs"]) == ("Chat", ["Default"])
    done = await cli.run("undeploy", "Chat:1.0.0")
    assert (done.returncode, done.stdout) == (0, "undeployed: Chat:1.0.0\n")
    assert await cli.gateway.status("/chat/1.0.0/x") == 404
    done = await cli.run("undeploy", "Chat:1.0.0", "--vhost", "localhost")
    assert done.returncode == 1
    assert done.stderr == "trio-gw undeploy: there is no such API (404 Not Found)\n"


async def test_a_zip_and_override(cli: Cli) -> None:
    shutil.make_archive(str(cli.work / "packed"), "zip", cli.project())
    assert (await cli.run("deploy", "packed.zip")).returncode == 0
    done = await cli.run("deploy", "packed.zip")
    assert done.returncode == 1
    assert "API already exists (409 Conflict)" in done.stderr
    assert "Chat:1.0.0 is already deployed on localhost; deploy it with override" in done.stderr
    assert (await cli.run("deploy", "--override", "packed.zip")).returncode == 0


async def test_revisions_and_the_lifecycle(cli: Cli) -> None:
    for tier in ("Unlimited", "Gold"):
        cli.project(apiThrottlingPolicy=tier)
        assert (await cli.run("deploy", "--override", "chat")).returncode == 0
    done = await cli.run("rollback", "Chat:1.0.0", "r1")
    assert done.stdout == "deployed: Chat:1.0.0 as r3, Rolled back to r1\n"
    lines = (await cli.run("revisions", "Chat:1.0.0")).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["REVISION", "r3", "r2", "r1"]
    assert lines[1].endswith("Rolled back to r1")
    assert " admin " in lines[2]

    done = await cli.run("lifecycle", "Chat:1.0.0", "blocked")
    assert done.stdout == "Chat:1.0.0: BLOCKED by admin\nnext: PUBLISHED, DEPRECATED\n"
    assert await cli.gateway.status("/chat/1.0.0/x") == 503
    done = await cli.run("lifecycle", "Chat:1.0.0", "CREATED")
    assert "CREATED cannot follow BLOCKED; allowed: PUBLISHED, DEPRECATED" in done.stderr
    assert (await cli.run("lifecycle", "Chat:1.0.0", "DEPRECATED")).returncode == 0
    done = await cli.run("lifecycle", "Chat:1.0.0", "RETIRED")
    assert (done.returncode, done.stderr) == (1, "trio-gw lifecycle: not retired\n")
    assert (await cli.run("lifecycle", "Chat:1.0.0", "RETIRED", "--yes")).returncode == 0
    assert await cli.gateway.status("/chat/1.0.0/x") == 404


async def test_what_is_wrong_is_told_with_file_and_line(cli: Cli) -> None:
    cli.project(context="no slash")
    done = await cli.run("deploy", "chat")
    assert (done.returncode, done.stdout) == (1, "")
    first, last = done.stderr.splitlines()[0], done.stderr.splitlines()[-1]
    assert first.startswith("chat.zip/api.yaml:")
    assert last == "trio-gw deploy: the project cannot be deployed (500 Internal Server Error)"


async def test_who_asks_and_whom(cli: Cli) -> None:
    done = await cli.run("apis", GW_PASSWORD="wrong")
    assert done.returncode == 1
    assert "user or password is wrong (401 Unauthorized)" in done.stderr
    assert "wrong" not in done.stdout
    done = await cli.run("apis", "--password-stdin", GW_PASSWORD="wrong")
    assert done.returncode == 0
    done = await cli.run("apis", trust=False)
    assert done.returncode == 1
    assert "name its certificate with --ca" in done.stderr
    assert (await cli.run("apis", "--insecure", trust=False)).returncode == 0
    done = await cli.run("apis", "--url", "https://localhost:1")
    assert done.returncode == 1
    assert "is the gateway running" in done.stderr
    done = await cli.run("apis", "--url", "http://localhost:1")
    assert "the admin API is at an https:// URL" in done.stderr
    done = await cli.run("undeploy", "Chat")
    assert done.returncode == 2
    done = await cli.run("deploy", "nothing")
    assert done.stderr == "trio-gw deploy: nothing: No such file or directory\n"


async def test_an_api_that_is_deployed_nowhere_is_no_success(cli: Cli) -> None:
    project = cli.project()
    data = [{"deploymentEnvironment": "Elsewhere"}]
    (project / "deployment_environments.yaml").write_text(json.dumps({"data": data}))
    done = await cli.run("deploy", "chat")
    assert (done.returncode, done.stdout) == (1, "not served: chat.zip\n")
    assert "deployed nowhere" in done.stderr


async def test_a_folder_compared_with_what_runs(cli: Cli) -> None:
    cli.project()
    against = ("check", "--against", cli.url, ".")
    done = await cli.run(*against)
    assert done.returncode == 1
    assert "localhost/chat/1.0.0/*: only in the folder (Chat:1.0.0); deploy it" in done.stderr
    await cli.run("deploy", "chat")
    assert (await cli.run(*against)).returncode == 0
    cli.project(lifeCycleStatus="PROTOTYPED")
    done = await cli.run(*against)
    assert done.returncode == 1
    assert "secured is false in the folder, true in the gateway" in done.stderr
    shutil.rmtree(cli.work / "chat")
    done = await cli.run(*against)
    assert "only in the gateway (Chat:1.0.0, from deployed/Chat_1.0.0-1-" in done.stderr
    done = await cli.run(*against, GW_PASSWORD="wrong")
    assert "--against: user or password is wrong" in done.stderr


def test_the_reference_says_only_the_status() -> None:
    for status, text in {
        401: "user or password is wrong (401 Unauthorized)",
        404: "there is no such API (404 Unauthorized)",
        500: "500 Unauthorized",
    }.items():
        error = client.refused(status, "Unauthorized", b"")
        assert (str(error), error.problems) == (text, ())
    assert "--override" in str(client.refused(409, "Conflict", b""))
    assert client.refused(500, "", b'{"problems": [1]}').problems == ()


def test_the_progress_bar() -> None:
    assert bar(0, 4 << 20) == f"[{' ' * 40}]   0 % of 4 MiB"
    assert bar(1 << 20, 4 << 20) == f"[{'#' * 10}{' ' * 30}]  25 % of 4 MiB"
    assert bar(4 << 20, 4 << 20) == f"[{'#' * 40}] 100 % of 4 MiB"


async def test_a_bar_is_drawn_on_a_terminal(cli: Cli) -> None:
    project = cli.project()
    (project / "noise.bin").write_bytes(os.urandom(2 << 20))
    ours, theirs = os.openpty()
    done = await trio.run_process(
        [sys.executable, "-m", "trio_gw", "deploy", "chat", *cli.ca],
        cwd=cli.work,
        env=environment(GW_URL=cli.url, GW_PASSWORD="admin"),
        stderr=theirs,
        capture_stdout=True,
        check=False,
    )
    os.close(theirs)
    shown = b""
    while b"100 %" not in shown:
        shown += os.read(ours, 65536)
    os.close(ours)
    assert done.returncode == 0
    assert b"% of 2 MiB" in shown
