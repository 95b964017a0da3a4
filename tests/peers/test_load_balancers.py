"""Debian's HAProxy and nginx in front of a gateway, as they are when nobody tells them more."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
import trio

from support.backends import start_echo
from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HAPROXY = """
global
  stats socket {base}/stats
defaults
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
frontend front
  bind unix@{base}/front
  default_backend without
backend without
  option httpchk GET /health
  server gateway 127.0.0.1:{port} check inter 100ms rise 1 fall 1
backend with
  option httpchk
  http-check send meth GET uri /health ver HTTP/1.0 hdr Host localhost
  server gateway 127.0.0.1:{port} check inter 100ms rise 1 fall 1
"""
NGINX = """
pid {base}/pid; error_log {base}/errors; worker_processes 1;
events {{}}
http {{
  access_log off;
  client_body_temp_path {base}/body; proxy_temp_path {base}/proxy;
  fastcgi_temp_path {base}/fastcgi; uwsgi_temp_path {base}/uwsgi; scgi_temp_path {base}/scgi;
  server {{
    listen unix:{base}/front;
    location /plain/ {{ proxy_pass http://127.0.0.1:{port}/; }}
    location /upgraded/ {{
      proxy_pass http://127.0.0.1:{port}/;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
    }}
  }}
}}
"""


@pytest.fixture
async def gateway(nursery: trio.Nursery, base: Path) -> RunningGateway:
    backend = await start_echo(nursery)
    channels = {"/t": {"publish": {}, "x-auth-type": "None"}}
    write(base / "apis", "B", api("B", "/b", backend.url), asyncapi(channels))
    return await start_gateway(nursery, base)


@contextlib.contextmanager
def daemon(name: str, *options: str, pid: Path) -> Iterator[None]:
    """Run a server that goes into the background as soon as it listens."""
    program = shutil.which(name) or f"/usr/sbin/{name}"
    subprocess.run([program, *options], check=True, capture_output=True, timeout=60)
    try:
        yield
    finally:
        os.kill(int(pid.read_text()), signal.SIGTERM)


async def checks(socket: Path) -> dict[str, str]:
    """Ask HAProxy what came of its last health checks, by backend."""
    async with await trio.open_unix_socket(socket) as stream:
        await stream.send_all(b"show stat\n")
        text = b"".join([bytes(data) async for data in stream]).decode()
    names, *rows = text.strip().lstrip("# ").splitlines()
    lines = [dict(zip(names.split(","), row.split(","), strict=False)) for row in rows]
    servers = [line for line in lines if line["svname"] == "gateway"]
    # A check that is under way has a star before what came of the last one.
    return {line["pxname"]: line["check_status"].lstrip("* ") for line in servers}


async def test_health_checks_of_haproxy(gateway: RunningGateway, base: Path) -> None:
    pid = base / "pid"
    (base / "haproxy.cfg").write_text(HAPROXY.format(base=base, port=gateway.port))
    with daemon("haproxy", "-D", "-f", str(base / "haproxy.cfg"), "-p", str(pid), pid=pid):
        with trio.fail_after(60):
            while "INI" in (states := await checks(base / "stats")).values():
                await trio.lowlevel.checkpoint()
        assert states == {"without": "L7OK", "with": "L7OK"}
        stream = await trio.open_unix_socket(base / "front")
        answer = await gateway.ask(gateway.handshake("/none"), stream=stream)
        assert answer.status == 404, "the gateway's own, not HAProxy's 503"


async def test_nginx_with_and_without_the_lines_for_websockets(
    gateway: RunningGateway, base: Path
) -> None:
    (base / "nginx.conf").write_text(NGINX.format(base=base, port=gateway.port))
    options = ("-p", str(base), "-c", str(base / "nginx.conf"), "-e", "errors")
    with daemon("nginx", *options, pid=base / "pid"):
        close = b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        stream = await trio.open_unix_socket(base / "front")
        answer = await gateway.ask(b"GET /plain/health" + close, stream=stream)
        assert (answer.status, answer.body) == (200, b'{"status": "healthy"}')
        stream = await trio.open_unix_socket(base / "front")
        asked = b"GET /plain/b/1.0.0/t" + close.replace(b"close", b"close, Upgrade")
        answer = await gateway.ask(asked, stream=stream)
        assert answer.status == 505
        for line in (b"proxy_http_version 1.1", b"Upgrade $http_upgrade", b"Connection upgrade"):
            assert line in answer.body
        stream = await trio.open_unix_socket(base / "front")
        async with stream:
            await stream.send_all(gateway.handshake("/upgraded/b/1.0.0/t"))
            with trio.fail_after(60):
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 101 ")
