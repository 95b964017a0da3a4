"""stomp.py over WebSockets; CoilMQ behind websockify is the broker."""

from __future__ import annotations

import queue
import socket
import subprocess
import sys
from pathlib import Path

import stomp
from common import BASE, GATEWAY, HEADERS, equal, free_port, main, port_of, supervise


class Heard(stomp.ConnectionListener):
    def __init__(self) -> None:
        self.queue: queue.Queue[str] = queue.Queue()

    def on_message(self, frame: stomp.utils.Frame) -> None:
        self.queue.put(frame.body)


def serve() -> None:
    broker, port = free_port(), free_port()
    folder = Path(sys.executable).parent
    with subprocess.Popen([folder / "coilmq", "--port", str(broker)], stdout=sys.stderr):
        target = f"127.0.0.1:{broker}"
        supervise([sys.executable, "-m", "websockify", f"127.0.0.1:{port}", target], port)


def talk() -> None:
    offered = {"Sec-WebSocket-Protocol": "binary"}
    connection = stomp.WSStompConnection(
        [("127.0.0.1", port_of(GATEWAY))],
        ws_path=f"{BASE}/stomp",
        header=HEADERS | offered,
        vhost=socket.getfqdn(),
        binary_mode=True,
        reconnect_attempts_max=1,
        timeout=10,
    )
    heard = Heard()
    connection.set_listener("", heard)
    connection.connect(wait=True)
    connection.subscribe("/topic/rooms", "1")
    connection.send("/topic/rooms", "grüße")
    equal(heard.queue.get(timeout=10), "grüße")
    connection.disconnect()


main({"serve": serve, "talk": talk})
