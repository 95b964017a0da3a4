"""The command line as people run it: a process, its output and its exit code."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import trio
from websockets.trio.client import connect

from support.backends import start_echo
from support.commands import environment, gw, port_of, start
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from support.commands import Serving

ROOT = Path(__file__).parent.parent.parent
OPEN = {"publish": {}, "x-auth-type": "None"}
COMMANDS = (
    "run",
    "check",
    "init",
    "convert",
    "routes",
    "tiers",
    "token",
    "hash-password",
    "version",
    "echo",
)


# -- usage -----------------------------------------------------------------------------------


def test_help_reads_well(tmp_path: Path) -> None:
    done = gw(tmp_path, "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for command in COMMANDS:
        assert f"\n    {command}" in done.stdout
    assert "First steps:" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(tmp_path: Path, command: str) -> None:
    done = gw(tmp_path, command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: trio-gw {command}")


@pytest.mark.parametrize(
    "arguments",
    [(), ("nonsense",), ("run", "--nonsense"), ("run", "--to"), ("echo", "--listen", "x")],
    ids=str,
)
def test_usage_errors(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = gw(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("Traceback") == 0


def test_version(tmp_path: Path) -> None:
    done = gw(tmp_path, "--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "trio-gw")


# -- check and routes ------------------------------------------------------------------------


def test_check_of_the_sample() -> None:
    done = gw(ROOT, "check", "apis")
    assert done.returncode == 0
    assert done.stderr == "fine: 1 API project with 3 topics can be served\n"


def test_check_names_file_line_and_remedy(tmp_path: Path) -> None:
    write(tmp_path / "apis", "good", api("G", "/g", "ws://h:1"), asyncapi({"/t": OPEN}))
    bad = write(tmp_path / "apis", "bad", api("B", "/b", "ws://h:1"), asyncapi({"/t": OPEN}))
    (bad / "api.yaml").write_text(
        "data:\n  name: B\n  version: 1.0.0\n  context: [b]\n  type: WS\n"
    )
    done = gw(tmp_path, "check")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert any(line.startswith("apis/bad/api.yaml:4: ") and "; " in line for line in lines), lines
    assert not any("apis/good" in line for line in lines)


@pytest.mark.parametrize("path", ["apis", "apis/one", "./apis/one", "apis/one/"])
def test_check_of_a_path(tmp_path: Path, path: str) -> None:
    project = write(tmp_path / "apis", "one", api("O", "o", "ws://h:1"), asyncapi({"/t": OPEN}))
    done = gw(tmp_path, "check", path)
    assert done.returncode == 1
    assert "one/api.yaml:" in done.stderr
    (project / "api.yaml").write_text(json.dumps(api("O", "/o", "ws://h:1")))
    assert gw(tmp_path, "check", path).returncode == 0


def test_check_finds_conflicts_between_projects(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        meta = api(f"Name{folder}", "/same", "ws://h:1")
        write(tmp_path / "apis", folder, meta, asyncapi({"/t": OPEN}))
    done = gw(tmp_path, "check")
    assert done.returncode == 1
    assert "apis/b: base path /same/1.0.0 on localhost is already served by Namea" in done.stderr


def test_check_finds_conflicts_between_projects_in_several_places(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        meta = api(f"Name{folder}", "/same", "ws://h:1")
        write(tmp_path / folder, "x", meta, asyncapi({"/t": OPEN}))
    for paths in (("one", "two"), ("one/x", "two/x")):
        done = gw(tmp_path, "check", *paths)
        assert done.returncode == 1
        assert "two/x: base path /same/1.0.0 on localhost is already served by" in done.stderr
        assert "1 error; 2 API projects" in done.stderr


def test_check_of_missing_folder(tmp_path: Path) -> None:
    done = gw(tmp_path, "check", "nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("nowhere: ")
    assert done.stderr.splitlines()[1:] == ["1 error; 0 API projects with 0 topics can be served"]


def test_check_of_deny_conditions(tmp_path: Path) -> None:
    write(tmp_path / "apis", "one", api("O", "/o", "ws://h:1"), asyncapi({"/t": OPEN}))
    (tmp_path / "certs").mkdir()
    denied = tmp_path / "certs" / "denied.txt"
    denied.write_text("api=/o/1.0.0\nuser=mallory\napi=/p/1.0.0\n")
    done = gw(tmp_path, "check")
    assert done.returncode == 0
    (line, _) = done.stderr.splitlines()
    assert "denied.txt: warning: api /p/1.0.0 is denied, but there is no such API; " in line
    assert gw(tmp_path, "check", "apis/one").stderr.startswith("fine: ")
    denied.write_text("user=mallory\naddress=10.0.0.0/99\n")
    done = gw(tmp_path, "check")
    assert done.returncode == 1
    assert "denied.txt:2: '10.0.0.0/99' is not an IP address" in done.stderr


def test_check_of_settings(tmp_path: Path) -> None:
    (tmp_path / "apis").mkdir()
    (tmp_path / "gateway.toml").write_text('strict_vhosts = true\n[listn]\nhttp = "x"\n')
    done = gw(tmp_path, "check")
    assert done.returncode == 1
    assert "gateway.toml:2: " in done.stderr
    assert "listen" in done.stderr


def test_check_looks_at_the_key_of_the_backend_jwt(base: Path) -> None:
    table = '[backend_jwt]\nenabled = true\nkey = "certs/none.key"\ncertificate = "certs/mg.pem"\n'
    (base / "gateway.toml").write_text(table)
    done = gw(base, "check")
    assert done.returncode == 1
    assert "certs/none.key" in done.stdout + done.stderr
    (base / "gateway.toml").write_text(table.replace("none", "mg"))
    assert "none.key" not in gw(base, "check").stderr


def test_check_looks_at_every_certificate(tmp_path: Path) -> None:
    (tmp_path / "apis").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.pem").write_text("hello")
    (tmp_path / "gateway.toml").write_text(
        '[tls]\nclient_ca = "empty"\nbackend_ca = "gone.pem"\n'
        '[[tls.certificates]]\ncert = "bad.pem"\nkey = "bad.pem"\n'
    )
    done = gw(tmp_path, "check")
    assert done.returncode == 1
    for text in (
        "empty: tls.client_ca: no certificate is in this folder; put certificate files into",
        "gone.pem: tls.backend_ca cannot be read: No such file or directory; check the path",
        "bad.pem: no certificate: the file is not PEM; convert it",
    ):
        assert text in done.stderr + done.stdout


def test_check_as_json(tmp_path: Path) -> None:
    channels = {"/t": OPEN, "/unused": {}}
    write(tmp_path / "apis", "one", api("O", "/o", "ws://h:1"), asyncapi(channels))
    (tmp_path / "apis" / "two").mkdir()
    done = gw(tmp_path, "check", "--json")
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    assert (found["ok"], found["projects"], found["topics"]) == (False, 1, 1)
    kinds = {(problem["file"], problem["severity"]) for problem in found["problems"]}
    assert ("apis/one/Definitions/asyncapi.yaml", "warning") in kinds
    assert ("apis/two", "error") in kinds
    assert {"line", "column", "what", "hint"} < set(found["problems"][0])


@pytest.mark.parametrize("no_color", ["", "1"])
def test_check_in_colour_on_a_terminal(tmp_path: Path, no_color: str) -> None:
    (tmp_path / "apis" / "one").mkdir(parents=True)
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb") as terminal:
        done = subprocess.run(
            [sys.executable, "-m", "trio_gw", "check"],
            cwd=tmp_path,
            env=environment(TERM="xterm", NO_COLOR=no_color),
            stderr=theirs,
            timeout=60,
            check=False,
        )
        os.close(theirs)
        text = b""
        with contextlib.suppress(OSError):  # what a terminal says when its other end is gone
            while data := terminal.read1():
                text += data
    assert done.returncode == 1
    assert (b"\x1b[31merror\x1b[0m: " in text) == (not no_color)
    assert (b"\x1b" in text) == (not no_color)


def test_check_warnings_fail_only_when_strict(tmp_path: Path) -> None:
    channels = {"/t": OPEN, "/unused": {}}
    write(tmp_path / "apis", "one", api("O", "/o", "ws://h:1"), asyncapi(channels))
    done = gw(tmp_path, "check")
    assert done.returncode == 0
    assert "warning: " in done.stderr
    assert gw(tmp_path, "check", "--strict").returncode == 1


def test_routes(tmp_path: Path) -> None:
    channels = {"/rooms/{id}": {"publish": {"x-scopes": ["a", "b"]}}, "/news": OPEN}
    write(tmp_path / "apis", "one", api("One", "/one", "ws://h:1/v2"), asyncapi(channels))
    done = gw(tmp_path, "routes")
    assert done.returncode == 0
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["HOST", "PATH", "API", "SECURITY", "PRODUCTION", "SANDBOX"],
        ["localhost", "/one/1.0.0/news", "One:1.0.0", "open", "ws://h:1/v2", "-"],
        ["localhost", "/one/1.0.0/rooms/{id}", "One:1.0.0", "scope", "a", "or", "b",
         "ws://h:1/v2", "-"],
    ]  # fmt: skip
    # `check` says the same of each topic.
    assert [line.split() for line in gw(tmp_path, "check").stdout.splitlines()] == [
        ["TOPIC", "BACKEND"],
        ["localhost/one/1.0.0/news", "ws://h:1/v2"],
        ["localhost/one/1.0.0/rooms/{id}", "ws://h:1/v2"],
    ]
    rows: list[dict[str, Any]] = json.loads(gw(tmp_path, "routes", "--json").stdout)
    assert rows[1]["path"] == "/one/1.0.0/rooms/{id}"
    assert rows[1]["scopes"] == ["a", "b"]
    assert rows[1]["production"] == ["ws://h:1/v2"]


def test_routes_name_the_url_that_each_topic_asks_for(tmp_path: Path) -> None:
    channels = {
        "/a/{id}": {"publish": {"x-uri-mapping": "/socket.io/?id={uri.var.id}"}},
        "/b/{id}": {"publish": {"x-trio-gw-pass-path": True}},
        "/c": OPEN,
    }
    meta = api("One", "/one", "ws://h:1/v2/")
    meta["data"]["endpointConfig"]["sandbox_endpoints"] = {"url": "wss://s"}
    write(tmp_path / "apis", "one", meta, asyncapi(channels))
    rows = json.loads(gw(tmp_path, "routes", "--json").stdout)
    assert {row["path"]: (row["production"], row["sandbox"]) for row in rows} == {
        "/one/1.0.0/a/{id}": (
            ["ws://h:1/v2/socket.io/?id={id}"],
            ["wss://s:443/socket.io/?id={id}"],
        ),
        "/one/1.0.0/b/{id}": (["ws://h:1/v2/b/{id}"], ["wss://s:443/b/{id}"]),
        "/one/1.0.0/c": (["ws://h:1/v2/"], ["wss://s:443/"]),
    }
    assert json.loads(gw(tmp_path, "check", "--json").stdout)["routes"] == rows


def test_routes_with_a_broken_project(tmp_path: Path) -> None:
    write(tmp_path / "apis", "good", api("G", "/g", "ws://h:1"), asyncapi({"/t": OPEN}))
    (tmp_path / "apis" / "bad").mkdir()
    done = gw(tmp_path, "routes", "--json")
    assert done.returncode == 1
    assert [row["path"] for row in json.loads(done.stdout)] == ["/g/1.0.0/t"]
    assert "apis/bad" in done.stderr


# -- token -----------------------------------------------------------------------------------


def test_token(base: Path) -> None:
    done = gw(base, "token", "--scope", "a", "--scope", "b:c", "--user", "me")
    assert (done.returncode, done.stderr) == (0, "")
    claims = jwt.decode(done.stdout.strip(), options={"verify_signature": False})
    assert (claims["scope"], claims["sub"]) == ("a b:c", "me")


def test_token_without_a_key(tmp_path: Path) -> None:
    done = gw(tmp_path, "token")
    assert (done.returncode, done.stdout) == (1, "")
    assert "mg.pem" in done.stderr


# -- run and echo ----------------------------------------------------------------------------


async def test_run_with_no_file_at_all(tmp_path: Path, running: list[Serving]) -> None:
    (tmp_path / "apis").mkdir()
    serving = await start(tmp_path, "run")
    running.append(serving)
    log = await serving.read_until("err", "listening on https://127")
    assert "made a self-signed certificate" in log
    assert (tmp_path / "certs" / "mg.key").stat().st_mode & 0o777 == 0o600
    serving.process.terminate()
    with trio.fail_after(10):
        assert await serving.process.wait() == 0
    assert "Traceback" not in await serving.rest()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_run_echo_and_stop(base: Path, running: list[Serving], signum: int) -> None:
    """The two of them in one process; a signal drains, and the exit code says all is well."""
    echo = await start(base, "echo", "--listen", "localhost:0")
    running.append(echo)
    url = (await echo.read_until("out", "\n")).split()[-1]
    write(base / "apis", "one", api("One", "/one", url), asyncapi({"/t": {"publish": {}}}))
    serving = await start(base, "run", "--echo", "localhost:0")
    running.append(serving)
    out = await serving.read_until("out", "Bearer ")
    await serving.read_until("out", '"\n')
    assert "/one/1.0.0/t  (any valid token)" in out
    line = next(line for line in serving.out.splitlines() if "npx wscat" in line)
    address = line.split()[3]
    token = line.split("Bearer ")[1].rstrip('"')
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(address, additional_headers=headers, proxy=None) as client:
        await client.send("hello")
        assert await client.recv() == "hello"
        serving.process.send_signal(signum)
        with trio.fail_after(10):
            await client.wait_closed()
        assert (client.close_code, client.close_reason) == (1012, "gateway is shutting down")
    with trio.fail_after(10):
        assert await serving.process.wait() == 0
    log = await serving.rest()
    assert "Traceback" not in log
    assert token not in log
    assert "ended by gateway: 1012" in log


async def test_second_signal_stops_at_once(base: Path, running: list[Serving]) -> None:
    settings = "[timeouts]\ndrain = 60\nclose = 60\n"
    (base / "gateway.toml").write_text(settings)
    async with trio.open_nursery() as nursery:
        backend = await start_echo(nursery)
        write(base / "apis", "one", api("One", "/one", backend.url), asyncapi({"/t": OPEN}))
        serving = await start(base, "run")
        running.append(serving)
        port = port_of(await serving.read_until("err", "listening on https://127"))
        # A client that never answers the Close keeps the drain waiting.
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.send_all(
                b"GET /one/1.0.0/t HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            with trio.fail_after(10):
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 101")
                serving.process.terminate()
                assert await stream.receive_some()
                serving.process.terminate()
                assert await serving.process.wait() == 0
        assert "Traceback" not in await serving.rest()
        nursery.cancel_scope.cancel()


async def test_run_to(tmp_path: Path, running: list[Serving]) -> None:
    async with trio.open_nursery() as nursery:
        backend = await start_echo(nursery)
        serving = await start(tmp_path, "run", "--to", backend.url)
        running.append(serving)
        out = await serving.read_until("out", "wscat")
        port = port_of(await serving.read_until("err", "listening on https://127"))
        assert f"ws://localhost:{port}" in out
        for path in ("", "/", "/any/path?x=1"):
            async with connect(f"ws://localhost:{port}{path}", proxy=None) as client:
                await client.send("through")
                assert await client.recv() == "through"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("arguments", "more", "words"),
    [
        (("--to", "ftp://x"), {}, "ftp"),
        (("--to", "ws://"), {}, "--to"),
        (("--to", "ws://h:1"), {"TRIO_GW_LISTEN_HTTP": "0.0.0.0:0"}, "loopback"),
        (("--echo", "nonsense"), {}, "port"),
    ],
    ids=str,
)
def test_run_arguments_that_cannot_be(
    tmp_path: Path, arguments: tuple[str, ...], more: dict[str, str], words: str
) -> None:
    users = {"TRIO_GW_TESTKEY_USERS_0_PASSWORD": "not-the-default"}
    done = gw(tmp_path, "run", *arguments, **users, **more)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_run_on_a_port_in_use(base: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = gw(base, "run", TRIO_GW_LISTEN_HTTP=f"127.0.0.1:{port}")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"listen.http: cannot listen on 127.0.0.1:{port}: ")


def test_run_refuses_the_default_password_beyond_loopback(base: Path) -> None:
    done = gw(base, "run", TRIO_GW_LISTEN_HTTP="0.0.0.0:0")
    assert done.returncode == 1
    assert "password" in done.stderr
    assert "TRIO_GW_TESTKEY_USERS_0_PASSWORD" in done.stderr
    assert "Traceback" not in done.stderr


def test_run_with_broken_settings(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text("[listen\n")
    done = gw(tmp_path, "run")
    assert done.returncode == 1
    assert done.stderr.startswith("gateway.toml:1: ")


def test_run_without_its_folder_says_so_and_serves(base: Path) -> None:
    """A missing `apis/` is no reason to die: it may be mounted later."""
    (base / "apis").rmdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "trio_gw", "run"],
        cwd=base,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "listening on https://127" in line:
                break
        process.terminate()
        lines += process.stderr.readlines()  # closing it early would break its log
    assert process.returncode == 0
    assert any("apis" in line and "error: " in line for line in lines), lines


# -- tiers -----------------------------------------------------------------------------------


def test_tiers_lists_what_there_is(tmp_path: Path) -> None:
    text = '[tiers.AsyncGold]\nevents = 7\n[tiers.Wide]\nbytes = "3KB"\non_exceed = "pause"\n'
    (tmp_path / "gateway.toml").write_text(text)
    done = gw(tmp_path, "tiers")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert rows["Unlimited"][0] == "unlimited"
    assert rows["AsyncGold"] == ["7", "events", "1m", "-", "each", "drop", "settings"]
    assert rows["AsyncSilver"] == ["25000", "events", "1d", "-", "each", "drop", "built", "in"]
    assert rows["Wide"] == ["3072", "bytes", "1m", "-", "each", "pause", "settings"]
    listed = json.loads(gw(tmp_path, "tiers", "--json").stdout)
    (wide,) = [tier for tier in listed if tier["name"] == "Wide"]
    assert (wide["limit"], wide["unit"], wide["from"]) == (3072, "bytes", "settings")


def test_names_that_the_terminal_cannot_show(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text('[tiers."früh"]\nevents = 7\n')
    done = gw(tmp_path, "tiers", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "fr\\xfch" in done.stdout


def test_tiers_with_settings_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text("[tiers.t]\n")
    done = gw(tmp_path, "tiers")
    assert (done.returncode, done.stdout) == (1, "")
    assert "tiers.t has neither events nor bytes" in done.stderr
