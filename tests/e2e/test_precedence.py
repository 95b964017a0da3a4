"""Who is served keeps being served, whoever comes: by folder and over REST, over restarts."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from support.adminapi import logged_in, packed
from support.commands import gw
from support.crashes import start
from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, write
from trio_gw.feed.precedence import FILE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest


def topic(name: str) -> dict[str, Any]:
    return asyncapi({f"/{name}": {"publish": {}, "x-auth-type": "None"}})


def drop(root: Path, folder: str, context: str = "/chat", **data: Any) -> Path:
    """Write a project whose only topic has the name of its folder."""
    meta = api(folder.title(), context, "ws://localhost:1", **data)
    return write(root, folder, meta, topic(folder))


@contextlib.asynccontextmanager
async def running(base: Path, **settings: Any) -> AsyncIterator[RunningGateway]:
    async with trio.open_nursery() as nursery:
        yield await start_gateway(nursery, base, **settings)
        nursery.cancel_scope.cancel()


def served(gateway: RunningGateway, base: str = "/chat") -> list[str]:
    """Name the folders of the APIs that have this base path, with or without version."""
    bases = gateway.running.live.table.bases()
    return [api.folder for _, path, api in bases if path in (base, f"{base}/1.0.0")]


async def blamed(gateway: RunningGateway, *files: str) -> None:
    """Wait until there are problems of just these projects."""
    with trio.fail_after(20):
        while sorted({each.file for each in gateway.running.catalog.problems}) != sorted(files):
            await trio.lowlevel.checkpoint()


async def shown(base: Path) -> set[str]:
    done = await trio.to_thread.run_sync(partial(gw, base, "routes", "--json"))
    return {row["folder"] for row in json.loads(done.stdout)}


async def test_a_newcomer_takes_nothing_also_over_restarts(base: Path) -> None:
    chat = drop(base / "apis", "chat")
    async with running(base) as gateway:
        drop(base / "apis", "aaa")
        await blamed(gateway, "apis/aaa")
        assert served(gateway) == ["apis/chat"]
        assert await shown(base) == {"apis/chat"}
    async with running(base) as gateway:
        assert served(gateway) == ["apis/chat"]
        await blamed(gateway, "apis/aaa")
        shutil.rmtree(chat)
        await blamed(gateway)
        assert served(gateway) == ["apis/aaa"]
        drop(base / "apis", "chat")
        await blamed(gateway, "apis/chat")
        assert served(gateway) == ["apis/aaa"]
    drop(base / "apis", "a")
    async with running(base) as gateway:
        assert served(gateway) == ["apis/aaa"]


async def test_renamed_while_another_waits_for_its_place(base: Path) -> None:
    chat = drop(base / "apis", "chat")
    async with running(base) as gateway:
        drop(base / "apis", "aaa")
        await blamed(gateway, "apis/aaa")
        chat.rename(base / "apis" / "renamed")
        with trio.fail_after(20):
            while served(gateway) != ["apis/renamed"]:
                assert served(gateway) == ["apis/chat"]
                await gateway.running.live.wait_changed()
    async with running(base) as gateway:
        assert served(gateway) == ["apis/renamed"]


async def test_what_is_deployed_keeps_its_place_and_takes_none(base: Path) -> None:
    drop(base / "apis", "chat")
    async with running(base, admin=True) as gateway:
        client = await logged_in(gateway)
        foreign = drop(base / "aside", "foreign")
        assert (await client.deploy(packed(foreign), override=True)).status == 409
        own = drop(base / "aside", "own", "/own")
        assert (await client.deploy(packed(own))).status == 200
        drop(base / "apis", "aaa", "/own")
        await blamed(gateway, "apis/aaa")
        (folder,) = served(gateway, "/own")
        assert folder.startswith("deployed/")
        assert (await client.deploy(packed(own), override=True)).status == 200
        (folder,) = served(gateway, "/own")
        assert folder.startswith("deployed/")
        # What it does not get is in the answer: `/own` is nobody's, `/chat` is the folder's.
        drop(base / "apis", "chat", isDefaultVersion=True)
        with trio.fail_after(20):
            while not gateway.running.live.table.match("localhost", "/chat/chat"):
                await gateway.running.live.wait_changed()
        second = drop(base / "aside", "second", version="2.0.0", isDefaultVersion=True)
        answer = await client.deploy(packed(second))
        assert answer.status == 200
        assert b"base path /chat on localhost is already served by Chat:1.0.0" in answer.body
        match = gateway.running.live.table.match("localhost", "/chat/chat")
        assert match is not None
        assert match.route.api.folder == "apis/chat"
        # The same API as in the folder takes its place, and gives it back.
        chat = drop(base / "aside", "chat", id="")
        newer = json.loads((base / "apis" / "chat" / "api.yaml").read_text())
        (chat / "api.yaml").write_text(json.dumps(newer))
        assert (await client.deploy(packed(chat), override=True)).status == 200
        (folder,) = set(served(gateway))
        assert folder.startswith("deployed/")


async def test_a_folder_that_cannot_be_written_hinders_nobody(
    base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    drop(base / "apis", "chat")
    (base / "deployed").write_text("not a folder")
    async with running(base) as gateway:
        drop(base / "apis", "aaa")
        with trio.fail_after(20):
            while not any(each.file == "apis/aaa" for each in gateway.running.catalog.problems):
                await trio.lowlevel.checkpoint()
        assert served(gateway) == ["apis/chat"]
    lines = [each.getMessage() for each in caplog.records if FILE in each.getMessage()]
    assert len(lines) == 1
    assert "cannot be" in lines[0]


async def test_without_persist_nothing_is_kept(base: Path) -> None:
    drop(base / "apis", "chat")
    async with running(base, persist=False) as gateway:
        drop(base / "apis", "aaa")
        await blamed(gateway, "apis/aaa")
        assert served(gateway) == ["apis/chat"]
    assert not (base / "deployed" / FILE).exists()
    async with running(base, persist=False) as gateway:
        assert served(gateway) == ["apis/aaa"]


def status(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("localhost", port, timeout=30)
    connection.request("GET", path)
    found = connection.getresponse().status
    connection.close()
    return found


def all_say(port: int, path: str, wanted: int) -> None:
    """Wait until 20 connections in a row, by whichever worker, are answered alike."""
    until = time.monotonic() + 30
    while [status(port, path) for _ in range(20)] != [wanted] * 20:
        assert time.monotonic() < until, path


def test_all_workers_decide_alike(base: Path) -> None:
    drop(base / "apis", "chat")
    for start_number in range(2):
        process, ports = start(base, TRIO_GW_WORKERS="2")
        port = ports["http"]
        try:
            all_say(port, "/chat/1.0.0/chat", 426)
            if start_number == 0:
                drop(base / "apis", "aaa")
                for name in ("ddd", "ccc", "eee"):
                    drop(base / "apis", name, "/contested")
                drop(base / "apis", "zzz", "/zzz")
            all_say(port, "/zzz/1.0.0/zzz", 426)
            all_say(port, "/ready", 200)
            all_say(port, "/chat/1.0.0/chat", 426)
            all_say(port, "/chat/1.0.0/aaa", 404)
            found = {status(port, f"/contested/1.0.0/{name}") for name in ("ccc", "ddd", "eee")}
            assert found == {426, 404}
            if start_number == 0:
                (winner,) = [
                    name
                    for name in ("ccc", "ddd", "eee")
                    if status(port, f"/contested/1.0.0/{name}") == 426
                ]
            all_say(port, f"/contested/1.0.0/{winner}", 426)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
