"""How fast open connections end after an event of API Manager.

    python scripts/bench/control_plane_closing.py [CONNECTIONS]

Starts a gateway, a fake API Manager and RabbitMQ, opens the connections with a token of the key
manager, and prints for each kind of event the seconds from its publication to the Close frames.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from control_plane_start import used

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.apim import start_apim
from support.callers import PATH, KeyManager
from support.crashes import start
from support.publisher import notification, payload, publishing, revocation
from support.rabbitmq import RabbitMQ
from trio_gw.guard.certificates import ensure_certificate

if TYPE_CHECKING:
    from support.publisher import Publisher

CLOSE = 0x88  # the first octet of a Close frame
ECHO = "127.0.0.1:18996"


class Clients:
    """Open connections, and the times at which they received a Close frame."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._count = count

    async def measure(
        self, token: str, publisher: Publisher, key: str, event: bytes
    ) -> list[float]:
        """Open the connections, publish the event; return the sorted seconds until each ended."""
        ended: list[float] = []
        request = (
            f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {token}\r\n\r\n"
        ).encode()

        async def client(task_status: trio.TaskStatus[None]) -> None:
            stream = await trio.open_tcp_stream("127.0.0.1", self._port)
            async with stream:
                await stream.send_all(request)
                answer = await stream.receive_some()
                assert b" 101 " in answer, answer
                task_status.started()
                data = await stream.receive_some()
                ended.append(time.monotonic())
                assert data[0] == CLOSE, data

        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                for _ in range(self._count):
                    await nursery.start(client)
                began = time.monotonic()
                await publisher.publish(key, event)
        return sorted(end - began for end in ended)


async def run(base: Path, broker: RabbitMQ, count: int) -> None:
    """Measure."""
    async with trio.open_nursery() as nursery:
        apim = await start_apim(nursery)
        manager = KeyManager()
        apim.seed(f"ws://{ECHO}")
        manager.add_to(apim)
        row = apim.tables["subscriptions"][0]
        table = apim.settings(base, events=[broker.url()])
        lines = (f"{name} = {json.dumps(value)}" for name, value in table.items())
        (base / "gateway.toml").write_text("\n".join(("[control_plane]", *lines)) + "\n")
        echo = [sys.executable, "-m", "trio_gw", "echo", "--listen", ECHO]
        nursery.start_soon(partial(trio.run_process, echo, stderr=subprocess.DEVNULL))
        process, ports = await trio.to_thread.run_sync(start, base)
        async with publishing(broker.port, seconds=3600) as publisher:
            clients = Clients(ports["http"], count)
            expiry = int(time.time() * 1000) + 3_600_000
            user = {"id": 7, "conditionValue": "alice@carbon.super", "tenantDomain": "x"}
            blocked = {**row, "subscriptionState": "BLOCKED", "timeStamp": expiry - 3_600_000}
            # The last one leaves nothing behind that the others need.
            for name, key, event in (
                ("token revoked", "tokenRevocation", revocation("jti-0", expiry)),
                (
                    "user blocked",
                    "throttleData",
                    payload(blockingCondition="USER", state="true", **user),
                ),
                (
                    "subscription blocked",
                    "notification",
                    notification("SUBSCRIPTIONS_UPDATE", **blocked),
                ),
            ):
                before = used(process.pid)[1]
                subject = "bob" if name == "subscription blocked" else "alice"
                token = manager.token(jti=f"jti-{int(name != 'token revoked')}", sub=subject)
                times = await clients.measure(token, publisher, key, event)
                cost = used(process.pid)[1] - before
                middle, most = times[len(times) // 2], times[len(times) * 99 // 100]
                print(
                    f"{name}: {middle:.2f} s (median), {most:.2f} s (p99), {times[-1]:.2f} s"
                    f" (worst); {cost:.1f} s of processor time with the handshakes",
                    flush=True,
                )
        process.terminate()
        await trio.to_thread.run_sync(process.wait)
        nursery.cancel_scope.cancel()


def main() -> None:
    """Start a broker, and measure."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for name in ("apis", "certs", "rabbitmq"):
            (base / name).mkdir()
        now = datetime.datetime.now(datetime.UTC)
        ensure_certificate(base / "certs" / "mg.pem", base / "certs" / "mg.key", now)
        broker = RabbitMQ(base / "rabbitmq")
        try:
            broker.start()
            trio.run(run, base, broker, count)
        finally:
            broker.close()


if __name__ == "__main__":
    main()
