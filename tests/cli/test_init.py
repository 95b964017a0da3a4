"""`trio-gw init`: what it makes passes `check` and serves; what it cannot make, it says."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from support.backends import start_echo
from support.commands import gw
from support.gateway import start_gateway

if TYPE_CHECKING:
    from pathlib import Path

    import trio

FLAT = """\
# kept as it is
asyncapi: 2.6.0
info: {title: My chat API, version: '1.1'}
channels:
  /rooms/{id}:
    publish: {x-scopes: [chat]}
components:
  securitySchemes: {oauth2: {type: oauth2, flows: {}}}
"""
SERVED = FLAT + "servers:\n  only: {url: 'ws://h:1/v2', protocol: ws}\n"
THREE = """\
asyncapi: 3.0.0
info: {title: Three, version: 3.1.0}
servers:
  production: {host: 'h:1', protocol: ws}
  dev: {host: 'dev:1', protocol: ws}
channels:
  chat: {address: /chat}
operations:
  receive: {action: receive, channel: {$ref: '#/channels/chat'}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {"flat": FLAT, "served": SERVED, "three": THREE}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "made", "backend"),
    [
        (
            ("--name", "Chat", "--context", "/c", "--backend", "wss://h/v2", "--topic", "/r/{id}"),
            "Chat-1.0.0",
            "wss://h:443/v2/r/{id}",
        ),
        (("--name", "Chat", "--backend", "ws://h:1", "--version", "2"), "Chat-2", "ws://h:1/*"),
        (("--from", "flat.yaml", "--backend", "ws://h:1"), "MyChatAPI-1.1", "ws://h:1/rooms/{id}"),
        (("--from", "served.yaml"), "MyChatAPI-1.1", "ws://h:1/v2/rooms/{id}"),
        (
            ("--from", "served.yaml", "--backend", "ws://other:1"),
            "MyChatAPI-1.1",
            "ws://other:1/rooms/{id}",
        ),
        (("--from", "three.yaml"), "Three-3.1.0", "ws://h:1/chat"),
        (
            ("--from", "three.yaml", "--name", "X", "--backend", "ws://o:1"),
            "X-3.1.0",
            "ws://o:1/chat",
        ),
    ],
    ids=str,
)
def test_passes_check(folder: Path, arguments: tuple[str, ...], made: str, backend: str) -> None:
    done = gw(folder, "init", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"made apis/{made}: ")
    for step in (f"trio-gw check apis/{made}\n", "trio-gw run\n", "trio-gw token"):
        assert step in done.stdout
    assert [path.name for path in (folder / "apis").iterdir()] == [made]
    checked = gw(folder, "check", "--strict")
    assert (checked.returncode, checked.stderr[:5]) == (0, "fine:")
    assert f" {backend} " in gw(folder, "routes").stdout


async def test_serves(nursery: trio.Nursery, base: Path) -> None:
    backend = await start_echo(nursery)
    url = f"{backend.url}/v2"
    done = gw(base, "init", "--name", "Chat", "--backend", url, "--topic", "/rooms/{id}")
    assert done.returncode == 0
    gateway = await start_gateway(nursery, base)
    async with gateway.connect("/chat/1.0.0/rooms/7", gateway.token()) as client:
        await client.send("hello")
        assert await client.recv() == "hello"
    assert backend.requests[-1].path == "/v2/rooms/7"


def test_the_document_is_kept_with_its_comments(folder: Path) -> None:
    assert gw(folder, "init", "--from", "served.yaml").returncode == 0
    text = (folder / "apis/MyChatAPI-1.1/Definitions/asyncapi.yaml").read_text()
    assert text.startswith(SERVED)


def test_nothing_is_overwritten(folder: Path) -> None:
    (folder / "apis" / "Chat-1.0.0").mkdir(parents=True)  # even an empty folder is someone's
    done = gw(folder, "init", "--name", "Chat", "--backend", "ws://h:1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("apis/Chat-1.0.0: the folder exists already; ")
    assert list((folder / "apis" / "Chat-1.0.0").iterdir()) == []


def test_nothing_is_left_behind(folder: Path) -> None:
    """A file where the parent folder should be: the project cannot be written."""
    (folder / "apis").write_text("")
    done = gw(folder, "init", "--name", "Chat", "--backend", "ws://h:1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot be written" in done.stderr
    assert not list(folder.glob(".init-*"))


def test_output_elsewhere(folder: Path) -> None:
    arguments = ("--name", "Chat", "--backend", "ws://h:1", "--output", "deep/er/mine")
    done = gw(folder, "init", *arguments)
    assert done.returncode == 0
    assert "TRIO_GW_APIS=deep/er trio-gw run" in done.stdout
    assert gw(folder, "check", "deep/er/mine", "--strict").returncode == 0
    assert [path.name for path in (folder / "deep/er").iterdir()] == ["mine"]
    shutil.rmtree(folder / "deep/er/mine")
    assert gw(folder, "init", *arguments).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--name Chat"),
        (("--name", "Chat"), "add --backend"),
        (("--from", "flat.yaml"), "has no server that is the backend; add --backend"),
        (("--name", "Chat", "--backend", "ftp://h"), "--backend: the scheme `ftp`"),
        (("--name", "Chat", "--backend", "ws://u:secret@h"), "--backend: user and password"),
        (("--name", "Chat", "--backend", "ws://h", "--topic", "rooms"), "write `/rooms`"),
        (("--name", "Chat", "--backend", "ws://h", "--context", "chat"), "begin with `/`"),
        (("--name", "Chat", "--backend", "ws://h", "--version", "1 2"), "`version` is `1 2`"),
        (("--from", "served.yaml", "--topic", "/x"), "--topic goes with a new definition"),
    ],
    ids=str,
)
def test_usage_errors(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    done = gw(folder, "init", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("trio-gw init: ")
    assert said in done.stderr
    assert "secret" not in done.stderr
    assert not (folder / "apis").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FLAT.replace("{id}", "{id"), "doc.yaml:6: the channel '/rooms/{id' has braces"),
        (FLAT.replace("2.6.0", "1.2.0"), "doc.yaml:2: AsyncAPI version '1.2.0'"),
        ("a: [", "doc.yaml:1: "),
        ("", "doc.yaml"),
    ],
)
def test_faults_of_the_document(folder: Path, text: str, said: str) -> None:
    (folder / "doc.yaml").write_text(text)
    done = gw(folder, "init", "--from", "doc.yaml", "--backend", "ws://h:1")
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert not (folder / "apis").exists()
    missing = gw(folder, "init", "--from", "nowhere.yaml")
    assert (missing.returncode, missing.stderr[:14]) == (1, "nowhere.yaml: ")


def test_what_servers_ask_for_is_not_lost(folder: Path) -> None:
    text = THREE.replace("protocol: ws}", "protocol: ws, security: [{$ref: '#/x'}]}", 1)
    text += "x: {type: oauth2, flows: {}, scopes: [chat]}\n"
    (folder / "doc.yaml").write_text(text)
    done = gw(folder, "init", "--from", "doc.yaml", "--backend", "ws://h:1")
    assert (done.returncode, done.stderr) == (0, "")
    (route,) = json.loads(gw(folder, "routes", "--json").stdout)
    assert (route["production"], route["scopes"]) == (["ws://h:1/chat"], ["chat"])


def test_warnings_name_the_document(folder: Path) -> None:
    (folder / "doc.yaml").write_text(FLAT.replace("channels:", "channels:\n  /unused: {}"))
    done = gw(folder, "init", "--from", "doc.yaml", "--backend", "ws://h:1")
    assert done.returncode == 0
    assert done.stderr.startswith("doc.yaml:5: warning: the channel `/unused`")
