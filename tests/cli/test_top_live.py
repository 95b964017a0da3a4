"""`trio-gw top` as people see it: on a real terminal, against a real gateway."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio

from support.backends import start_echo
from support.commands import Serving, environment, start
from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, write
from support.screens import Terminal, on_terminal
from support.secrets import secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

ENTERED, LEFT, SHOWN = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"
COMMAND = (sys.executable, "-m", "trio_gw", "top")
EVIL = "\x1b]0;owned\x07\x1b[2Jmal\x9b31m\u202eory"


class Top:
    """Runs the command against a gateway that serves meanwhile."""

    def __init__(self, gateway: RunningGateway) -> None:
        self.gateway = gateway
        self.arguments = ["--ca", str(gateway.base / "certs" / "mg.pem"), "--interval", "0.5"]
        self.more = {"GW_URL": f"https://localhost:{gateway.admin_port}", "GW_PASSWORD": "admin"}

    def live(
        self, *arguments: str, width: int = 110, height: int = 24, **more: str
    ) -> AbstractAsyncContextManager[Terminal]:
        return on_terminal(
            self.gateway.base,
            *("top", *self.arguments, *arguments),
            size=(width, height),
            environ={**self.more, **more},
        )

    async def once(self, *arguments: str, trust: bool = True, **more: str) -> tuple[int, str, str]:
        done = await trio.run_process(
            [*COMMAND, *(self.arguments if trust else ()), *arguments],
            cwd=self.gateway.base,
            env=environment(**{**self.more, **more}),
            stdin=b"admin\n",
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def connect(self, path: str, user: str = "admin") -> Any:
        assert self.gateway.running.testkeys is not None
        token = secret(self.gateway.running.testkeys.mint(user, None, time.time()))
        return self.gateway.connect(path, token, compression=None)


@pytest.fixture
async def top(nursery: trio.Nursery, base: Path) -> Top:
    backend = await start_echo(nursery)
    topics = asyncapi({"/rooms/{room}": {"publish": {}}, "/other": {"publish": {}}})
    write(base / "apis", "chat", api("Chat", "/chat", backend.url), topics)
    limited = api("Limited", "/limited", backend.url, apiThrottlingPolicy="OnePerMin")
    write(base / "apis", "limited", limited, topics)
    broken = api("Broken", "no slash", backend.url)
    write(base / "apis", "broken", broken, topics)
    tiers = {"OnePerMin": {"events": 1, "per": "1m", "count": "publish"}}
    return Top(await start_gateway(nursery, base, admin=True, tiers=tiers))


@contextlib.asynccontextmanager
async def talking(connection: Any, *, echoes: bool = True) -> AsyncIterator[None]:
    """Send messages meanwhile, some dozens in a second."""

    async def talk() -> None:
        while True:
            await connection.send("x" * 100)
            if echoes:
                await connection.recv()
            await trio.sleep(0.02)  # a rate of traffic, not a wait for anything

    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk)
        yield
        nursery.cancel_scope.cancel()


async def test_the_view_follows_what_happens(top: Top) -> None:
    async with (
        top.connect("/chat/1.0.0/rooms/7", "mobile") as busy,
        top.connect("/chat/1.0.0/other", "kiosk"),
        top.connect("/limited/1.0.0/other", "sensor") as limited,
        talking(busy),
        talking(limited, echoes=False),
        top.live(width=140) as terminal,
    ):
        before = terminal.modes()
        text = await terminal.until(
            lambda text: (
                re.search(r"Limited.* [1-9]\d* ", text) is not None
                and text.count("127.0.0.1") == 3
                and "apis/broken" in text
            )
        )
        assert ENTERED in terminal.raw
        head = " ".join(text.split("\n")[:3])
        for words in ("trio-gw top", "version", "1 worker", "3 connections", "throttled/s"):
            assert words in head
        assert "PROBLEMS" in text
        assert "apis/broken/api.yaml" in text
        rows = [line for line in text.split("\n") if "127.0.0.1" in line]
        assert "kiosk" in rows[2]  # who says nothing is last
        assert re.search(r"Chat:1.0.0 /rooms/{room} +\d+s +\d+(\.\d)? +\d+(\.\d)? +\d", text)
        await terminal.until(lambda text: "0 throttled/s" not in text and "bytes/s▼" in text)
        terminal.press("s")
        await terminal.until("messages▼")
        terminal.press("/kiosk\r")
        text = await terminal.until(lambda text: "filter: kiosk" in text and "mobile" not in text)
        assert "kiosk" in text.split("CONNECTION", 1)[1]
        terminal.press("\x1b")
        await terminal.until("mobile")
        terminal.press("q")
        assert await terminal.end() == 0
        assert terminal.raw.endswith(SHOWN + LEFT)
        assert terminal.modes() == before
        assert "Traceback" not in terminal.raw.decode()


async def test_a_connection_is_closed_when_that_is_confirmed(top: Top) -> None:
    async with top.connect("/chat/1.0.0/other", "mobile") as client, top.live() as terminal:
        await terminal.until("mobile")
        terminal.press("x")
        await terminal.until("close mobile")
        terminal.press("n")
        await terminal.until("not closed")
        terminal.press("xy")
        with trio.fail_after(10):
            await client.wait_closed()
        assert (client.close_code, client.close_reason) == (1008, "closed by an administrator")
        await terminal.until(lambda text: "closed mobile" in text and "0 connections" in text)
        terminal.press("q")
        assert await terminal.end() == 0


async def test_pausing_keeps_what_is_shown(top: Top) -> None:
    async with top.live() as terminal:
        await terminal.until("0 connections")
        terminal.press("p")
        await terminal.until("PAUSED")
        async with top.connect("/chat/1.0.0/other", "mobile"):
            # Whatever comes of looks that were under way, it is not shown; keys still work.
            terminal.press("/now\r")
            text = await terminal.until("filter: now")
            assert "0 connections" in text
            terminal.press("\x1b")
            terminal.press("p")
            await terminal.until("1 connections")
        terminal.press("q")
        assert await terminal.end() == 0


async def test_a_gateway_that_goes_away_is_waited_for(base: Path, running: list[Serving]) -> None:
    serving = await start(base, "run")
    running.append(serving)
    log = await serving.read_until("err", "admin API on https://127")
    port = re.findall(r"admin API on https://127.0.0.1:(\d+)", log)[0]
    arguments = ("top", "--ca", "certs/mg.pem", "--interval", "0.5")
    more = {"GW_URL": f"https://localhost:{port}", "GW_PASSWORD": "admin"}
    async with on_terminal(base, *arguments, environ=more) as terminal:
        await terminal.until("0 connections")
        serving.process.kill()
        await serving.process.wait()
        text = await terminal.until("trying again")
        assert "0 connections" in text  # what was seen last
        again = await start(base, "run", TRIO_GW_LISTEN_ADMIN=f"localhost:{port}")
        running.append(again)
        await terminal.until(lambda text: "trying again" not in text and "connections" in text)
        # A gateway that knows this user no more will not know it the next time.
        again.process.kill()
        await again.process.wait()
        (base / "gateway.toml").write_text(
            '[[admin.users]]\nusername = "other"\npassword = "new"\n'
        )
        running.append(await start(base, "run", TRIO_GW_LISTEN_ADMIN=f"localhost:{port}"))
        assert await terminal.end() == 1
        assert LEFT in terminal.raw
        assert "trio-gw top: user or password is wrong (401 Unauthorized)" in terminal.text


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
async def test_the_terminal_is_left_as_it_was(top: Top, how: str) -> None:
    async with top.live() as terminal:
        before = terminal.modes()
        await terminal.until("0 connections")
        if how == "Ctrl-C":
            terminal.press("\x03")
        else:
            terminal.process.send_signal(signal.SIGTERM)
        assert await terminal.end() == (130 if how == "Ctrl-C" else 143)
        assert LEFT in terminal.raw
        assert terminal.modes() == before
        assert "Traceback" not in terminal.raw.decode()


async def test_another_size_is_drawn_anew(top: Top) -> None:
    async with top.connect("/chat/1.0.0/other", "mobile" * 30), top.live() as terminal:
        await terminal.until("refused")
        terminal.resize(40, 12)
        text = await terminal.until(lambda text: re.search("^q quit .*…$", text, re.M) is not None)
        assert "bytes/s▼" in text
        assert "throttled/s " not in text.split("CONNECTION")[1]
        assert "mobile" in text
        terminal.resize(120, 30)
        await terminal.until("throttled/s")
        terminal.press("q")
        assert await terminal.end() == 0


async def test_names_of_peers_cannot_steer_the_terminal(top: Top) -> None:
    async with top.connect("/chat/1.0.0/other", EVIL), top.live(width=140) as terminal:
        text = await terminal.until("owned")
        assert "\\x1b]0;owned\\x07\\x1b[2Jmal\\x9b31m\\u202eory" in text
        assert terminal.screen.title == ""
        assert b"\x07" not in terminal.raw
        assert b"\x1b[2J" not in terminal.raw.replace(ENTERED, b"")
        assert "\u202e" not in terminal.raw.decode()
        terminal.press("x")
        await terminal.until("close \\x1b]0;owned")
        terminal.press("nq")
        assert await terminal.end() == 0
        code, out, _ = await top.once("--once")
        assert code == 0
        assert "owned" in out
        assert not set(out) & set("\x1b\x07\x9b\u202e")


async def test_without_colours_if_that_is_wished(top: Top) -> None:
    async with top.live(NO_COLOR="1") as terminal:
        await terminal.until("apis/broken")
        terminal.press("q")
        assert await terminal.end() == 0
    assert not re.search(rb"\x1b\[[0-9;]*(3[0-7]|9[0-7])[0-9;]*m", terminal.raw)
    async with top.live() as terminal:
        await terminal.until("apis/broken")
        terminal.press("q")
        assert await terminal.end() == 0
    assert re.search(rb"\x1b\[[0-9;]*(3[0-7]|9[0-7])[0-9;]*m", terminal.raw)


async def test_once_as_text_and_as_json(top: Top) -> None:
    async with top.connect("/chat/1.0.0/rooms/7", "mobile") as busy, talking(busy):
        code, out, err = await top.once("--once")
        assert (code, err) == (0, "")
        assert "1 connections" in out
        assert re.search(r"\nChat:1.0.0 +1 +[1-9]", out)
        assert "mobile" in out
        assert "\nPROBLEMS\napis/broken/api.yaml" in out
        code, out, err = await top.once("--json")
        assert (code, err) == (0, "")
        found = json.loads(out)
        (row,) = (row for row in found["apis"] if row["name"] == "Chat:1.0.0")
        assert row["connections"] == 1
        assert row["messages_in"] > 0
        assert row["bytes"] / row["messages_in"] == pytest.approx(106 + 102, rel=0.2)
        assert found["busiest"][0]["subject"] == "mobile"
        assert found["missing"] == []
        assert [problem["file"] for problem in found["problems"]] == ["apis/broken/api.yaml"]


async def test_what_is_wrong_is_said_in_a_line(top: Top, tmp_path: Path) -> None:
    for arguments, more, trust, words in (
        ((), {"GW_PASSWORD": "wrong"}, True, "user or password is wrong (401 Unauthorized)"),
        ((), {}, False, "name its certificate with --ca"),
        (("--url", "https://localhost:1"), {}, True, "is the gateway running"),
        (("--url", "http://localhost:1"), {}, True, "the admin API is at an https:// URL"),
    ):
        for how in ("--once", "--json"):
            code, out, err = await top.once(how, *arguments, trust=trust, **more)
            assert (code, out) == (1, "")
            assert words in err
            assert err.startswith("trio-gw top: ")
            assert err.count("\n") == 1
            assert "wrong" not in err.replace("is wrong", "")
    code, _, err = await top.once()
    assert code == 1
    assert "not a terminal that supports drawing; use --once" in err
    assert (await top.once("--interval", "0"))[0] == 2
    assert (await top.once("--json", "--password-stdin", GW_PASSWORD="wrong"))[0] == 0
    (tmp_path / "without" / "rich").mkdir(parents=True)
    missing = "raise ModuleNotFoundError('no rich', name='rich')\n"
    (tmp_path / "without" / "rich" / "__init__.py").write_text(missing)
    path = os.pathsep.join([str(tmp_path / "without"), os.environ.get("PYTHONPATH", "")])
    code, _, err = await top.once("--once", PYTHONPATH=path)
    assert code == 1
    assert err == "trio-gw top: needs rich: pip install 'trio-gw[top]'\n"
    assert (await top.once("--json", PYTHONPATH=path))[0] == 0


async def test_metrics_may_be_turned_off(nursery: trio.Nursery, base: Path) -> None:
    gateway = await start_gateway(nursery, base, admin=True, metrics={"enabled": False})
    code, out, _ = await Top(gateway).once("--once")
    assert code == 0
    assert "metrics are turned off" in out
    assert "\nAPI " not in out
    code, out, _ = await Top(gateway).once("--json")
    assert json.loads(out)["apis"] is None
