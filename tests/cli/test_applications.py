"""`trio-gw applications`, as a process against a running gateway."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import trio

from support.applications import Client, ask_token
from support.backends import start_echo
from support.commands import environment
from support.gateway import start_gateway
from support.portal_client import PASSWORDS, USERS
from support.projects import api, asyncapi, write
from support.secrets import secret

if TYPE_CHECKING:
    from pathlib import Path

    from support.gateway import RunningGateway


async def run(
    gateway: RunningGateway, user: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    ca = str(gateway.base / "certs" / "mg.pem")
    url = f"https://localhost:{gateway.admin_port}"
    done = await trio.run_process(
        [sys.executable, "-m", "trio_gw", "applications", "--ca", ca, *arguments],
        env=environment(GW_URL=url, GW_USER=user, GW_PASSWORD=PASSWORDS[user]),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    texts = done.stdout.decode(), done.stderr.decode()
    return subprocess.CompletedProcess(done.args, done.returncode, *texts)


async def test_from_an_application_to_a_token(base: Path, nursery: trio.Nursery) -> None:
    echo = await start_echo(nursery)
    write(
        base / "apis", "Rooms", api("Rooms", "/rooms", echo.url), asyncapi({"/a": {"publish": {}}})
    )
    gateway = await start_gateway(nursery, base, admin=True, admin_settings={"users": USERS})

    async def done(user: str, *arguments: str) -> str:
        found = await run(gateway, user, *arguments)
        assert found.returncode == 0, found.stderr
        return found.stdout

    assert "added: Shop" in await done("con", "add", "Shop", "--tier", "50PerMin")
    said = await done("con", "subscribe", "Shop", "Rooms:1.0.0", "--tier", "10PerMin")
    assert said == "subscribed: Shop to Rooms:1.0.0, tier 10PerMin\n"
    shown = await done("con", "key", "Shop", "--validity", "60")
    found = re.search(r"consumer key: +(\S+)\nconsumer secret: (\S+)", shown)
    assert found is not None
    client = Client("", found[1], secret(found[2]))
    assert (await ask_token(gateway, client)).json()["expires_in"] == 60
    line = (await done("con", "list")).splitlines()[1]
    assert line.split()[:5] == ["Shop", "con", "production", "Rooms:1.0.0", "50PerMin"]
    assert "BLOCKED" in await done("pub", "block", "Shop", "Rooms:1.0.0")
    refused = await run(gateway, "pub", "remove", "Shop")
    assert (refused.returncode, "no application" in refused.stderr) == (1, True)
    assert await done("con", "revoke", "--consumer-key", client.consumer_key) == "revoked\n"
    assert "removed: Shop" in await done("ada", "remove", "Shop")
    assert (await ask_token(gateway, client)).status == 401
