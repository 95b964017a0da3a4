"""How real servers read paths that the gateway admits without a token."""

from __future__ import annotations

import http.client
import socket
import subprocess
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from support.spellings import admitted, rooms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request

SPELLINGS = (Path(__file__).parent.parent / "support" / "spellings.txt").read_text().split()
TOPICS = {
    "/r/admin": "guarded",
    "/r/{id}": "open",
    "/r/{id}/keys": "guarded",
    "/r/{id}/{part}": "open",
}


@cache
def asked() -> tuple[list[str], list[str]]:
    """Give what backends are asked for, and some of what they would be if topics were alike."""
    let_in, alike = (
        set(filter(None, (admitted(table, path) for path in SPELLINGS)))
        for table in (rooms(alike=False), rooms(alike=True))
    )
    return sorted(let_in), sorted(alike - let_in)[::5]


def read(connect: Callable[[], socket.socket], targets: list[str]) -> dict[str, list[str]]:
    """Ask a server for each target; returns the targets by what it took them for."""
    found: dict[str, list[str]] = {}
    connection = http.client.HTTPConnection("backend", timeout=60)
    for target in targets:
        if connection.sock is None:
            connection.sock = connect()
        connection.request("HEAD", target)
        answer = connection.getresponse()
        answer.read()
        found.setdefault(answer.headers.get("x-read", "none"), []).append(target)
    connection.close()
    return found


def starlette() -> Starlette:
    def say(answer: str) -> Any:
        async def handler(request: Request) -> Response:
            return Response(headers={"X-Read": answer})

        return handler

    return Starlette(routes=[Route(path, say(answer)) for path, answer in TOPICS.items()])


@pytest.fixture
async def backend(nursery: trio.Nursery) -> int:
    """Serve the topics with Starlette and Hypercorn; the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = Config()
    port = listener.getsockname()[1]
    config.bind = [f"fd://{listener.detach()}"]
    config.keep_alive_max_requests = 10**6
    config.errorlog = None
    nursery.start_soon(partial(serve, starlette(), config, mode="asgi"))  # type: ignore[arg-type]
    return int(port)


@contextmanager
def nginx(folder: Path, port: int, uri: str, option: str) -> Iterator[Path]:
    """Run nginx in front of a backend; gives its socket."""
    path = folder / "nginx.sock"
    (folder / "nginx.conf").write_text(
        f"""pid {folder}/pid; error_log {folder}/errors; worker_processes 1;
events {{ worker_connections 64; }}
http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
server {{ listen unix:{path}; keepalive_requests 1000000; {option}
location / {{ proxy_pass http://127.0.0.1:{port}{uri}; proxy_http_version 1.1; }} }} }}"""
    )
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "errors"]
    environment = {"PATH": "/usr/sbin:/usr/bin:/bin"}
    subprocess.run(command, check=True, env=environment)  # returns when it listens
    try:
        yield path
    finally:
        subprocess.run([*command, "-s", "stop"], check=True, env=environment)


def unix(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.connect(str(path))
    return made


async def judge(connect: Callable[[], socket.socket]) -> None:
    let_in, control = asked()
    found = await trio.to_thread.run_sync(read, connect, let_in)
    assert not found.get("guarded"), "read as a topic that asks for more"
    assert len(found["open"]) >= 100
    # The server does read such paths otherwise, where nothing keeps them from it.
    found = await trio.to_thread.run_sync(read, connect, control)
    assert len(found["guarded"]) >= 5


async def test_starlette(backend: int) -> None:
    await judge(partial(socket.create_connection, ("127.0.0.1", backend), 60))


@pytest.mark.parametrize(
    ("uri", "option"),
    [("", ""), ("/", ""), ("/", "merge_slashes off;")],
    ids=["as-written", "decoded", "unmerged"],
)
async def test_nginx_in_front(
    backend: int, tmp_path_factory: pytest.TempPathFactory, uri: str, option: str
) -> None:
    with nginx(tmp_path_factory.mktemp("n"), backend, uri, option) as path:
        await judge(partial(unix, path))
