"""Uploads as requests: many at once, lengths that lie, chunks, and who asks before it sends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from support.adminapi import BASE, BASIC, AdminClient, form, logged_in, packed
from support.gateway import RunningGateway, start_gateway
from support.uploads import left, post, start_taking, under_way, until
from trio_gw.admin import adapter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def gateway(nursery: trio.Nursery, base: Path) -> RunningGateway:
    return await start_taking(nursery, base)


@pytest.fixture
async def client(gateway: RunningGateway) -> AdminClient:
    return await logged_in(gateway)


async def test_uploads_at_once_are_counted(
    gateway: RunningGateway, client: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "QUEUE", 0.1)
    body, kind = form(packed(gateway.base / "aside" / "chat", "chat"))
    going_on, answers = trio.Event(), []

    async def held() -> AsyncIterator[bytes]:
        yield body[:-1]
        await going_on.wait()
        yield body[-1:]

    async def upload() -> None:
        answers.append(await post(client, held(), kind, len(body)))

    async with trio.open_nursery() as uploading:
        for _ in range(adapter.UPLOADS):
            uploading.start_soon(upload)
        await until(lambda: under_way(gateway) == adapter.UPLOADS)
        headers = {"Authorization": BASIC, "Content-Type": kind}
        answer = await client.ask("POST", f"{BASE}/apis", headers, body)
        assert (answer.status, answer.reason) == (503, "Service Unavailable")
        assert answer.headers["retry-after"] == "1"
        assert (await client.list()).status == 200  # what is no upload does not wait
        going_on.set()
    assert sorted(answers) == [200] + [409] * (adapter.UPLOADS - 1)
    assert under_way(gateway) == 0
    assert await post(client, body, kind) == 409


async def raw(client: AdminClient, sent: bytes) -> bytes:
    """Send these bytes, and read until the gateway closes the connection."""
    stream = await client.connect()
    found = bytearray()
    with trio.fail_after(15):
        await stream.send_all(sent)
        while True:
            try:
                data = await stream.receive_some()
            except trio.BrokenResourceError:  # it does not wait for us
                break
            if not data:
                break
            found += data
    return bytes(found)


def head(kind: str, *lines: str) -> bytes:
    fields = (f"POST {BASE}/apis HTTP/1.1", "Host: localhost", f"Authorization: {BASIC}")
    return "\r\n".join((*fields, f"Content-Type: {kind}", *lines, "", "")).encode()


async def test_lengths_that_lie(nursery: trio.Nursery, base: Path) -> None:
    gateway = await start_gateway(nursery, base, admin=True, admin_settings={"upload_timeout": 0.3})
    client = AdminClient(gateway)
    body, kind = form(b"x" * 50_000)
    # Longer than what comes: it is waited for. Shorter: the form breaks off, and the rest is no
    # request. None at all, two that differ, a negative one, a chunk that is none.
    lies = {
        f"Content-Length: {len(body) + 1}": b"408",
        f"Content-Length: {len(body) - 100}": b"400",
        "Content-Length: 0": b"400",
        "Content-Length: -1": b"400",
        f"Content-Length: {len(body)}\r\nContent-Length: 1": b"400",
        "Transfer-Encoding: chunked": b"400",
        "Transfer-Encoding: gzip": b"501",
    }
    for line, status in lies.items():
        answer = await raw(client, head(kind, line, "Connection: close") + body)
        assert answer.startswith(b"HTTP/1.1 " + status), line
    await until(lambda: under_way(gateway) == 0)
    assert left(gateway) <= {".lock"}


async def test_bodies_in_chunks_and_on_demand(gateway: RunningGateway, client: AdminClient) -> None:
    body, kind = form(packed(gateway.base / "aside" / "chat", "chat"))
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(body[at : at + 99]), body[at : at + 99])
        for at in range(0, len(body), 99)
    )
    lines = ("Transfer-Encoding: chunked", "Connection: close")
    answer = await raw(client, head(kind, *lines) + chunks + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    # As curl does with large ones: it asks first.
    stream = await client.connect()
    size = f"Content-Length: {len(body)}"
    await stream.send_all(head(kind, size, "Expect: 100-continue", "Connection: close"))
    with trio.fail_after(10):
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 100 Continue\r\n")
        await stream.send_all(body)
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 409 Conflict\r\n")
    await stream.aclose()
