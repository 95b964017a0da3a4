"""`trio-gw connect` against a real gateway: frames, a refusal, ends."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import trio

from support.backends import start_echo
from support.commands import environment
from support.gateway import start_gateway
from support.projects import api, asyncapi, write
from support.secrets import secret

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

TOPICS: dict[str, Any] = {"/rooms/{room}": {"publish": {"x-scopes": ["chat:write"]}}}


async def connect(
    folder: Path, *arguments: str, lines: str = "", **more: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the command with these lines as its input."""
    with trio.fail_after(60):
        return await trio.run_process(
            [sys.executable, "-m", "trio_gw", "connect", *arguments],
            cwd=folder,
            env=environment(**more),
            stdin=lines.encode(),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )


async def test_connect(nursery: trio.Nursery, base: Path) -> None:
    backend = await start_echo(nursery)
    write(base / "apis", "Chat", api("Chat", "/chat", backend.url), asyncapi(TOPICS))
    gateway = await start_gateway(nursery, base)
    url = f"ws://localhost:{gateway.port}/chat/1.0.0/rooms/7"
    done = await connect(base, "--scope", "chat:write", url, lines="Grüße\n\u202eb\n")
    out = done.stdout.decode()
    assert done.returncode == 0, done.stderr
    assert out.startswith("101 Switching Protocols in ")
    assert "→ text        7 B  Grüße" in out
    assert "\u202e" not in out
    assert "closed: 1000\nThe connection did its job" in out
    done = await connect(base, url)
    out = done.stdout.decode()
    assert done.returncode == 1
    assert out.startswith("403 Forbidden in ")
    assert '"code":"900910"' in out
    assert "none of the scopes that the topic asks for" in out
    assert "Bearer ey" not in out
    tls = f"wss://localhost:{gateway.tls_port}/chat/1.0.0/rooms/7"
    token = gateway.token("chat:write")
    done = await connect(base, "--ca", "certs/mg.pem", tls, lines="x\n", TOKEN=secret(token))
    assert done.returncode == 0, done.stderr
    done = await connect(base, "--no-token", tls)
    assert done.returncode == 1
    assert "CERTIFICATE_VERIFY_FAILED" in done.stderr.decode()
    for wrong in (["http://x"], ["ws://x/ä"], ["--header", "x", url]):
        assert (await connect(base, "--no-token", *wrong)).returncode == 2
