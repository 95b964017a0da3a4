"""websockify: WebSocket to TCP, as noVNC uses it; its own client on the other side."""

from __future__ import annotations

import socketserver
import sys
import threading

from common import BASE, GATEWAY, TOKEN, equal, free_port, main, supervise
from websockify.websocket import WebSocket


class Reversed(socketserver.StreamRequestHandler):
    """A TCP service: every line comes back, the last byte first."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line[:-1][::-1] + b"\n")


def serve() -> None:
    service = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Reversed)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    port = free_port()
    target = f"127.0.0.1:{service.server_address[1]}"
    supervise([sys.executable, "-m", "websockify", f"127.0.0.1:{port}", target], port)


def talk() -> None:
    socket = WebSocket()
    url = f"{GATEWAY.replace('http', 'ws')}{BASE}/websockify"
    socket.connect(url, protocols=["bearer", TOKEN, "binary"])
    socket.send(bytes(range(11, 256)) + b"\n")
    heard = b""
    while not heard.endswith(b"\n"):
        heard += socket.recv()
    equal(heard, bytes(range(255, 10, -1)) + b"\n")


main({"serve": serve, "talk": talk})
