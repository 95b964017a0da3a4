"""`trio-gw apis --topics`, as a process against a running gateway."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import trio

from support.commands import environment
from support.described import CHAT
from support.gateway import start_gateway
from support.hostile import PASSWORD, hostile, write

if TYPE_CHECKING:
    from pathlib import Path

    from support.gateway import RunningGateway


async def run(gateway: RunningGateway, *arguments: str) -> subprocess.CompletedProcess[str]:
    ca = str(gateway.base / "certs" / "mg.pem")
    url = f"https://localhost:{gateway.admin_port}"
    done = await trio.run_process(
        [sys.executable, "-m", "trio_gw", "apis", "--ca", ca, *arguments],
        env=environment(GW_URL=url, GW_PASSWORD="admin"),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    texts = done.stdout.decode(), done.stderr.decode()
    return subprocess.CompletedProcess(done.args, done.returncode, *texts)


async def test_topics_of_an_api(tmp_path: Path) -> None:
    write(tmp_path / "apis", "Chat", CHAT)
    write(tmp_path / "apis", "Evil", hostile())
    async with trio.open_nursery() as nursery:
        gateway = await start_gateway(nursery, tmp_path, admin=True)
        done = await run(gateway, "--topics", "Chat:1.0.0")
        assert done.returncode == 0, done.stderr
        head, room, listen = done.stdout.splitlines()
        assert head.split() == ["TOPIC", "YOU", "ACCESS", "TIER", "SUMMARY"]
        assert room.split()[:5] == ["/rooms/{room}", "send", "and", "receive", "chat:write"]
        assert listen.split()[:3] == ["/open/*", "send", "open"]
        done = await run(gateway, "--topics", "Chat:1.0.0", "--topic", "/rooms/{room}")
        for line in (
            "  access: a token with chat:write (line 13)",
            "  backend: ws://backend.internal:9000/base/rooms?id=lobby",
            "  you send: Say something",
            "      made up:",
            "  you receive (not read: x-scopes)",
        ):
            assert line in done.stdout.splitlines()
        name = "/%3Cscript%3Ealert(1)%3C/script%3E/{x}"
        done = await run(gateway, "--topics", "Evil:1.0.0", "--topic", name)
        assert "\u202e" not in done.stdout
        assert "\\u202e" in done.stdout
        done = await run(gateway, "--topics", "Chat:1.0.0", "--json", "--host", "localhost")
        assert json.loads(done.stdout)["total"] == 2
        assert PASSWORD not in done.stdout
        done = await run(gateway, "--topics", "Chat:1.0.0", "--topic", "/x")
        assert (done.returncode, done.stdout) == (1, "")
        assert "Chat:1.0.0 has no topic /x (404" in done.stderr
        nursery.cancel_scope.cancel()
