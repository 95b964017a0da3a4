"""`routes` and `check` beside a running gateway: they say what it serves, deployments included."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

from support.adminapi import AdminClient, logged_in, packed
from support.commands import gw
from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

ANY: dict[str, Any] = {"/*": {"publish": {}}}


async def command(base: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await trio.to_thread.run_sync(partial(gw, base, *arguments))


async def same(gateway: RunningGateway, client: AdminClient) -> list[str]:
    """Compare with what the gateway serves; returns the paths."""
    running = (await client.get("/admin/routes")).json()["routes"]
    done = await command(gateway.base, "routes", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == running
    done = await command(gateway.base, "check")
    assert done.returncode == 0
    assert f"with {len(running)} topic" in done.stderr
    return sorted(row["path"] for row in running)


@pytest.fixture
async def gateway(nursery: trio.Nursery, base: Path) -> RunningGateway:
    for name in ("Chat", "Other"):
        write(base / "apis", name, api(name, f"/{name}", "ws://localhost:1"), asyncapi(ANY))
    return await start_gateway(nursery, base, admin=True)


async def test_what_is_deployed_replaced_and_hidden(gateway: RunningGateway) -> None:
    client = await logged_in(gateway)
    assert await same(gateway, client) == ["/Chat/1.0.0/*", "/Other/1.0.0/*"]
    newer = api("Chat", "/newer", "ws://localhost:1")
    project = write(gateway.base / "work", "chat", newer, asyncapi(ANY))
    assert (await client.deploy(packed(project), override=True)).status == 200
    assert await same(gateway, client) == ["/Other/1.0.0/*", "/newer/1.0.0/*"]
    assert (await client.undeploy("Other")).status == 200
    assert await same(gateway, client) == ["/newer/1.0.0/*"]
    # A gateway that forgets it at its next start serves what lies in the folder.
    (gateway.base / "gateway.toml").write_text("persist = false\n")
    done = await command(gateway.base, "routes", "--json")
    paths = sorted(row["path"] for row in json.loads(done.stdout))
    assert paths == ["/Chat/1.0.0/*", "/Other/1.0.0/*"]


async def test_a_path_is_checked_by_itself_and_damage_is_told(gateway: RunningGateway) -> None:
    client = await logged_in(gateway)
    project = write(
        gateway.base / "work", "pets", api("Pets", "/pets", "ws://localhost:1"), asyncapi(ANY)
    )
    assert (await client.deploy(packed(project))).status == 200
    done = await command(gateway.base, "check", "apis")
    assert done.stderr == "fine: 2 API projects with 2 topics can be served\n"
    done = await command(gateway.base, "check")
    assert done.stderr == "fine: 3 API projects with 3 topics can be served\n"
    (gateway.base / "deployed" / "index.json").write_text("{")
    for name in ("check", "routes"):
        done = await command(gateway.base, name)
        assert done.returncode == 1
        assert "deployed/index.json" in done.stderr


def test_check_warns_of_api_keys_that_nobody_can_have(base: Path) -> None:
    scheme = {"type": "httpApiKey", "name": "x-key", "in": "header"}
    topics = {"/a": {"publish": {"security": [{"key": []}]}}, "/b": {"publish": {}}}
    write(
        base / "apis",
        "keyed",
        api("Keyed", "/keyed", "ws://localhost:1"),
        {
            "asyncapi": "2.4.0",
            "channels": topics,
            "components": {"securitySchemes": {"key": scheme}},
        },
    )
    done = gw(base, "check")
    assert "API keys are required, but none is accepted: /a; name their issuer" in done.stderr
    assert "1 warning" in done.stderr
    (base / "gateway.toml").write_text('[api_key]\nissuer = "MGW"\n')
    assert "API keys" not in gw(base, "check").stderr
