"""What tests of uploads ask: what lies on the disk, what is on its way, and the memory it takes."""

from __future__ import annotations

import io
import os
import zipfile
from typing import TYPE_CHECKING, Any

import trio

from support.adminapi import BASE, BASIC
from support.backends import start_echo
from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.adminapi import AdminClient

ANY: dict[str, Any] = {"/*": {"publish": {}}}


async def start_taking(nursery: trio.Nursery, base: Path) -> RunningGateway:
    """Start a gateway that takes small uploads, beside a project to upload: `aside/chat`."""
    backend = await start_echo(nursery)
    write(base / "aside", "chat", api("Chat", "/chat", backend.url), asyncapi(ANY))
    return await start_gateway(nursery, base, admin=True, admin_settings={"max_upload": 16})


def left(gateway: RunningGateway) -> set[str]:
    """List what lies in the folder of deployed projects."""
    folder = gateway.base / "deployed"
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def under_way(gateway: RunningGateway) -> int:
    """Count the uploads that take room on the disk: files without a name."""
    folder = str((gateway.base / "deployed").resolve())
    links = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
    paths = [os.readlink(link) for link in links if os.path.lexists(link)]
    return sum(path.startswith(f"{folder}/") and path.endswith(" (deleted)") for path in paths)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something that sets no event is so."""
    with trio.fail_after(60):
        while not condition():
            await trio.lowlevel.checkpoint()


def zipped(
    *entries: tuple[str | zipfile.ZipInfo, bytes], kind: int = zipfile.ZIP_DEFLATED
) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as file:
        for name, data in entries:
            file.writestr(name, data)
    return out.getvalue()


async def post(client: AdminClient, body: Any, kind: str, size: int | None = None) -> int:
    headers = {"Authorization": BASIC, "Content-Type": kind}
    return (await client.ask("POST", f"{BASE}/apis", headers, body, size)).status


def resident() -> int:
    """Return the memory of this process, the client's part included, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
