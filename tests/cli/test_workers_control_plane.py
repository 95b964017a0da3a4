"""Several workers and one control plane: one worker follows it, all serve what it says."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import trio

from support.apim import start_apim
from support.backends import start_echo
from support.workers import start_workers

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from support.commands import Serving

UUID = "6c1f0e2e-0001-4c5e-9a10-000000000001"
OPEN = {"publish": {}, "x-auth-type": "None"}


async def test_one_worker_follows_and_is_replaced(
    nursery: trio.Nursery,
    base: Path,
    running: list[Serving],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    backend, apim = await start_echo(nursery), await start_apim(nursery)
    apim.deploy(UUID, channels={"/one": OPEN}, backend=backend.url)
    table = apim.settings(base, cache="", events=["amqp://admin:admin@localhost:1/"])
    lines = (f"{name} = {json.dumps(value)}" for name, value in table.items())
    more = "\n".join(("[control_plane]", *lines))
    group = await start_workers(base, running, backend.url, count=2, more=more)
    assert (await group.ready()).startswith(b"200")
    assert apim.paths().count("runtime-artifacts") == 1  # one client, not two
    (private,) = temporary.iterdir()
    assert private.stat().st_mode & 0o777 == 0o700
    first, _ = await group.workers(2)
    # Its replacement serves what is known before it asks again.
    os.kill(first, signal.SIGKILL)
    await group.says("serving the last known state, of ")
    await group.says(" trio_gw: ready", 3)
    await apim.wait_requests("runtime-artifacts", 2)
    assert (await group.ready()).startswith(b"200")
    # A change of its settings needs a restart.
    settings = base / "gateway.toml"
    settings.write_text(settings.read_text().replace("retry_interval = 0.1", "retry_interval = 1"))
    group.process.send_signal(signal.SIGHUP)
    await group.says("needs a restart: control_plane.retry_interval")
    group.process.terminate()
    with trio.fail_after(30):
        assert await group.process.wait() == 0
    assert not list(temporary.iterdir())
