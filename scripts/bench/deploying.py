"""Deploy and undeploy while connections exchange messages.

    python scripts/bench/deploying.py [ROUNDS] [CONNECTIONS]

Each round deploys an API, makes a handshake with it and undeploys it. Meanwhile each connection to
another API sends messages, one after the other, and receives their echo. Each request to the admin
API uses a new connection, as with `apictl`. The script prints the time from the request to its
answer and to the first 101, and the number of messages. It fails if a message is lost or
duplicated, or if a connection ends. The gateway runs in its own process.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import signal
import ssl
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.adminapi import AdminClient, packed
from support.crashes import start
from support.projects import api, asyncapi, write
from trio_gw.guard.certificates import ensure_certificate

PAUSE = 0.5  # seconds between two messages of a connection
EVERY = 50  # rounds between two lines of output
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
SIZE = 16  # bytes of a message
UPGRADE = (
    b"GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)


class Gateway(NamedTuple):
    """A gateway in another process, with the interface that `AdminClient` needs."""

    port: int
    admin_port: int
    opened: list[trio.abc.Stream]
    context: ssl.SSLContext

    def trust(self) -> ssl.SSLContext:
        """Return a context that trusts its certificate."""
        return self.context

    async def handshake(self, path: str) -> tuple[trio.SocketStream, int]:
        """Request an upgrade; returns the stream and the status."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        await stream.send_all(UPGRADE % path.encode())
        return stream, int((await head(stream))[9:12])

    async def status(self, path: str) -> int:
        """Request an upgrade and close; returns the status."""
        stream, status = await self.handshake(path)
        await stream.aclose()
        return status


class Load:
    """Connections that exchange messages, and the backend that echoes them."""

    def __init__(self) -> None:
        self.sent = self.echoed = 0
        self.slowest = 0.0
        self._stopping = False

    async def echo(self, stream: trio.SocketStream) -> None:
        """Serve one connection of the backend: send each frame back without its mask."""
        async with stream:
            key = next(
                line.split(b":")[1].strip()
                for line in (await head(stream)).split(b"\r\n")
                if line.lower().startswith(b"sec-websocket-key:")
            )
            accept = base64.b64encode(hashlib.sha1(key + GUID).digest())  # noqa: S324 - RFC 6455
            await stream.send_all(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            while (frame := await exactly(stream, 6 + SIZE)) and frame[0] != 0x88:
                assert frame[:6] == bytes((0x82, 0x80 | SIZE, 0, 0, 0, 0)), frame
                self.echoed += 1
                await stream.send_all(bytes((0x82, SIZE)) + frame[6:])

    async def converse(
        self, gateway: Gateway, number: int, task_status: trio.TaskStatus[None]
    ) -> None:
        """Send messages one after the other, and check the echo of each."""
        stream, status = await gateway.handshake("/steady/1.0.0/x")
        assert status == 101, status
        task_status.started()
        count = 0
        async with stream:
            while not self._stopping:
                text = b"%7d:%8d" % (number, count)
                before = time.perf_counter()
                await stream.send_all(bytes((0x82, 0x80 | SIZE, 0, 0, 0, 0)) + text)
                self.sent += 1
                if await exactly(stream, 2 + SIZE) != bytes((0x82, SIZE)) + text:
                    raise AssertionError("a message was lost, or a connection")
                self.slowest = max(self.slowest, time.perf_counter() - before)
                count += 1
                await trio.sleep(PAUSE)

    def stop(self) -> None:
        """Let each connection end after its current message."""
        self._stopping = True


async def head(stream: trio.SocketStream) -> bytes:
    """Read the head of a request or an answer, and no byte after it."""
    found = bytearray()
    while not found.endswith(b"\r\n\r\n"):
        octet = await stream.receive_some(1)
        assert octet, found
        found += octet
    return bytes(found)


async def exactly(stream: trio.SocketStream, size: int) -> bytes:
    """Read `count` bytes; fewer, or none, at the end of the stream."""
    found = b""
    while len(found) < size and (data := await stream.receive_some(size - len(found))):
        found += data
    return found


class Times(NamedTuple):
    """Seconds from the request to deploy."""

    answered: float
    served: float


async def measure(base: Path, rounds: int, connections: int) -> None:
    """Run the rounds and print."""
    load = Load()
    async with trio.open_nursery() as nursery:
        backends = await nursery.start(trio.serve_tcp, load.echo, 0)
        url = f"ws://127.0.0.1:{backends[0].socket.getsockname()[1]}"
        topics = asyncapi({"/*": {"publish": {}, "x-auth-type": "None"}})
        write(base / "apis", "steady", api("Steady", "/steady", url), topics)
        project = write(base / "aside", "chat", api("Chat", "/chat", url), topics)
        zipped = packed(project, "chat")
        process, ports = await trio.to_thread.run_sync(start, base)
        context = ssl.create_default_context(cafile=str(base / "certs" / "mg.pem"))
        gateway = Gateway(ports["http"], ports["admin"], [], context)
        try:
            client = AdminClient(gateway)
            await client.login()
            async with trio.open_nursery() as talking:
                for number in range(connections):
                    await talking.start(load.converse, gateway, number)
                times: list[Times] = []
                began = time.monotonic()
                for done in range(1, rounds + 1):
                    times.append(await one_round(gateway, client, zipped))
                    if done % EVERY == 0 or done == rounds:
                        took = time.monotonic() - began
                        print(f"{done} rounds, {load.sent} messages, {took:.0f} s", flush=True)
                load.stop()
            assert load.sent == load.echoed, (load.sent, load.echoed)
        finally:
            process.send_signal(signal.SIGTERM)
            await trio.to_thread.run_sync(process.wait)
        nursery.cancel_scope.cancel()
    print(
        f"{rounds} rounds, {connections} connections, {load.sent} messages, none lost,"
        f" the slowest {load.slowest * 1000:.0f} ms"
    )
    for name, each in (("answer", 0), ("first 101", 1)):
        found = sorted(one[each] * 1000 for one in times)
        print(
            f"request to {name}: median {statistics.median(found):.0f} ms,"
            f" p99 {found[len(found) * 99 // 100]:.0f} ms, worst {found[-1]:.0f} ms"
        )


async def one_round(gateway: Gateway, client: AdminClient, zipped: bytes) -> Times:
    """Deploy, connect, undeploy; return the time until the 101."""
    before = time.perf_counter()
    answer = await client.deploy(zipped)
    answered = time.perf_counter() - before
    assert answer.status == 200, answer.raw
    assert await gateway.status("/chat/1.0.0/x") == 101
    served = time.perf_counter() - before
    assert (await client.undeploy("Chat")).status == 200
    assert await gateway.status("/chat/1.0.0/x") == 404
    return Times(answered, served)


def main() -> None:
    """Measure in a temporary folder."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    connections = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for name in ("apis", "certs"):
            (base / name).mkdir()
        now = datetime.datetime.now(datetime.UTC)
        ensure_certificate(base / "certs" / "mg.pem", base / "certs" / "mg.key", now)
        trio.run(measure, base, rounds, connections)


if __name__ == "__main__":
    main()
