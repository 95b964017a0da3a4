"""The Python client of Socket.IO."""

from __future__ import annotations

import socketio
from common import BASE, GATEWAY, HEADERS, equal, main


def websocket() -> None:
    client = socketio.Client(reconnection=False)
    client.on("ask", lambda question: f"you said {question}")
    client.connect(
        GATEWAY, headers=HEADERS, transports=["websocket"], socketio_path=f"{BASE}/socket.io"
    )
    equal(client.call("echo", ("grüße", b"\0\xff"), timeout=10), ["grüße", b"\0\xff"])
    equal(client.call("question", "why", timeout=10), "you said why")
    client.disconnect()


main({"websocket": websocket})
