"""Uploads that are large, broken off or hostile: bounded in memory and time, and nothing stays."""

from __future__ import annotations

import base64
import os
import time
import zipfile
from typing import TYPE_CHECKING

import pytest
import trio

from support.adminapi import BASE, BASIC, BOUNDARY, AdminClient, form, logged_in, packed
from support.backends import start_echo
from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, write
from support.uploads import ANY, left, post, resident, start_taking, under_way, until, zipped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def gateway(nursery: trio.Nursery, base: Path) -> RunningGateway:
    return await start_taking(nursery, base)


@pytest.fixture
async def client(gateway: RunningGateway) -> AdminClient:
    return await logged_in(gateway)


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("chat/api.yaml")
    info.external_attr = 0o120777 << 16
    return info


def attacks(good: bytes) -> dict[str, bytes]:
    """Zips that mean harm, by what they try."""
    nested = zipped(("chat/inner.zip", good))
    for _ in range(20):
        nested = zipped(("chat/inner.zip", nested))
    return {
        "bomb": zipped(("chat/api.yaml", bytes(200 << 20))),
        "bomb of junk": zipped(("chat/api.yaml", b"data: {}"), ("chat/junk", bytes(200 << 20))),
        "traversal": zipped(("../../api.yaml", b"data: {}")),
        "absolute": zipped(("/etc/api.yaml", b"data: {}")),
        "backslash": zipped(("..\\..\\api.yaml", b"data: {}")),
        "link": zipped((link(), b"/etc/passwd")),
        "entries": zipped(*((f"chat/{number}", b"") for number in range(100_000))),
        "nested": nested,
        "deep yaml": zipped(
            ("chat/api.yaml", b"[" * 200_000), ("chat/Definitions/asyncapi.yaml", b"{}")
        ),
        "aliases": zipped(
            ("chat/api.yaml", b"a: &a [" + b"x," * 999 + b"]\n" + b"b: [*a, *a]\n" * 99)
        ),
        "cut": good[: len(good) // 2],
        "prefix": b"MZ" * 1000 + good,
    }


async def test_hostile_zips_are_refused(gateway: RunningGateway, client: AdminClient) -> None:
    good = packed(gateway.base / "aside" / "chat", "chat")
    for name, data in attacks(good).items():
        before = time.monotonic()
        answer = await client.deploy(data)
        assert answer.status == 500, name
        assert answer.json()["problems"], name
        assert b"root:" not in answer.body, name
        assert time.monotonic() - before < 10, name
    assert left(gateway) <= {".lock"}
    assert (await client.list()).body == b'{"list":null}'
    assert (await client.deploy(good)).status == 200


async def test_texts_that_are_nested_without_end_are_refused(gateway: RunningGateway) -> None:
    """Nobody is let in yet who sends these."""
    client = AdminClient(gateway)
    kind = {"Content-Type": "application/json"}
    login = await client.ask("POST", f"{BASE}/oauth2/token", kind, b'{"username":' + b"[" * 5000)
    assert login.status == 400
    header = base64.urlsafe_b64encode(b'{"alg":' + b"[" * 5000).decode().rstrip("=")
    token = {"Authorization": f"Bearer {header}.e30.AAAA"}
    assert (await client.ask("GET", f"{BASE}/apis", token)).status == 401


async def test_hostile_forms_are_refused(gateway: RunningGateway, client: AdminClient) -> None:
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    edge = f"--{BOUNDARY}\r\n".encode()
    name = b'Content-Disposition: form-data; name="'
    many = b"".join(edge + name + b'x"\r\n\r\nx\r\n' for _ in range(1000))
    for body in (
        edge + name + b"x" * (4 << 20) + b'"\r\n\r\nx\r\n' + edge,
        edge + b"X: y\r\n" * 100_000 + b"\r\n",
        many + b"--" + BOUNDARY.encode() + b"--\r\n",
        b"\0" * (1 << 20),
        b"",
    ):
        assert await post(client, body, kind) == 400
    assert await post(client, b"x" * 1000, f"multipart/form-data; boundary={'b' * 5000}") == 400
    assert left(gateway) <= {".lock"}


async def test_too_large_is_told(gateway: RunningGateway) -> None:
    body, kind = form(os.urandom(17 << 20))
    client = AdminClient(gateway)
    assert await post(client, body, kind) == 413
    assert left(gateway) <= {".lock"}


async def test_the_answer_comes_although_the_body_was_not_wanted(gateway: RunningGateway) -> None:
    client = AdminClient(gateway)
    client.token = "not.a.token"
    answer = await client.deploy(os.urandom(6 << 20))
    assert answer.status == 401
    assert left(gateway) == set()


async def test_an_upload_that_is_cut_half_way_leaves_nothing(
    gateway: RunningGateway, client: AdminClient
) -> None:
    body, kind = form(os.urandom(4 << 20))
    head = (
        f"POST {BASE}/apis HTTP/1.1\r\nHost: localhost\r\nAuthorization: {BASIC}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    stream = await client.connect()
    await stream.send_all(head.encode() + body[: len(body) // 2])
    await until(lambda: under_way(gateway) == 1)
    await trio.aclose_forcefully(stream)
    await until(lambda: under_way(gateway) == 0)
    assert left(gateway) == set()


async def test_an_upload_that_dawdles_is_ended(nursery: trio.Nursery, base: Path) -> None:
    settings = {"upload_timeout": 0.3}
    gateway = await start_gateway(nursery, base, admin=True, admin_settings=settings)
    client = AdminClient(gateway)
    body, kind = form(b"x" * 100_000)

    async def dawdling() -> AsyncIterator[bytes]:
        yield body[:50_000]
        await until(lambda: under_way(gateway) == 1)
        await until(lambda: under_way(gateway) == 0)
        yield body[50_000:]

    assert await post(client, dawdling(), kind, len(body)) == 408
    assert left(gateway) == set()


async def test_a_large_upload_takes_no_memory_and_nobodys_time(
    nursery: trio.Nursery, base: Path
) -> None:
    backend = await start_echo(nursery)
    project = write(base / "aside", "chat", api("Chat", "/chat", backend.url), asyncapi(ANY))
    gateway = await start_gateway(nursery, base, admin=True)
    client = await logged_in(gateway)
    assert (await client.deploy(packed(project, "chat"))).status == 200
    noise = os.urandom(1 << 20)
    path = base / "large.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as large:
        for each in project.rglob("*"):
            large.write(each, f"chat/{each.relative_to(project)}")
        for number in range(100):
            large.writestr(f"chat/Docs/{number}.pdf", noise)
    size = path.stat().st_size
    edge, _ = form(b"")
    start, _, end = edge.partition(b"\r\n\r\n")
    framing = len(start) + 4 + len(end)

    async def pieces() -> AsyncIterator[bytes]:
        yield start + b"\r\n\r\n"
        with open(path, "rb") as file:  # noqa: ASYNC230 - a few pages from the cache
            while piece := file.read(65536):
                yield piece
        yield end

    times = []
    memory = [resident()]
    async with (
        gateway.connect("/chat/1.0.0/x", gateway.token()) as connection,
        trio.open_nursery() as other,
    ):

        async def converse() -> None:
            while True:
                sent = time.perf_counter()
                await connection.send("hello")
                assert await connection.recv() == "hello"
                times.append(time.perf_counter() - sent)
                memory.append(resident())

        other.start_soon(converse)
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        headers = {"Authorization": BASIC, "Content-Type": kind}
        path_ = f"{BASE}/apis?override=true"
        answer = await client.ask("POST", path_, headers, pieces(), size + framing)
        other.cancel_scope.cancel()
    assert answer.status == 200
    assert max(memory) - memory[0] < 16 << 20
    assert len(times) > 20
    assert sorted(times)[len(times) // 2] < 0.25
