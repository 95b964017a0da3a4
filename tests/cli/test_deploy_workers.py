"""A deployment to a gateway of several workers: answered when all of them serve it."""

from __future__ import annotations

import http.client
import signal
import ssl
from typing import TYPE_CHECKING

import pytest

from support.adminapi import BASE, BASIC, form, packed
from support.crashes import start
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from pathlib import Path


def ask(
    base: Path, port: int, method: str, path: str, body: bytes = b"", kind: str = "text/plain"
) -> int:
    context = ssl.create_default_context(cafile=str(base / "certs" / "mg.pem"))
    connection = http.client.HTTPSConnection("localhost", port, timeout=30, context=context)
    connection.request(method, path, body or None, {"Authorization": BASIC, "Content-Type": kind})
    status = connection.getresponse().status
    connection.close()
    return status


def handshake(port: int) -> int:
    connection = http.client.HTTPConnection("localhost", port, timeout=30)
    connection.request("GET", "/chat/1.0.0/x")
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("workers", [3])
def test_every_worker_serves_what_was_answered(base: Path, workers: int) -> None:
    topics = asyncapi({"/x": {"publish": {}, "x-auth-type": "None"}})
    project = write(base / "aside", "chat", api("Chat", "/chat", "ws://localhost:1"), topics)
    body, kind = form(packed(project, "chat"))
    process, ports = start(base, TRIO_GW_WORKERS=str(workers))
    try:
        for _ in range(3):
            assert ask(base, ports["admin"], "POST", f"{BASE}/apis", body, kind) == 200
            # Not a WebSocket handshake, but a topic: 426, by whichever worker.
            assert [handshake(ports["http"]) for _ in range(20)] == [426] * 20
            path = f"{BASE}/apis?apiName=Chat&version=1.0.0"
            assert ask(base, ports["admin"], "DELETE", path) == 200
            assert [handshake(ports["http"]) for _ in range(20)] == [404] * 20
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
