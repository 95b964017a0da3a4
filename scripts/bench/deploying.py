"""Deploy and undeploy while connections exchange messages.

    python scripts/bench/deploying.py [ROUNDS] [CONNECTIONS]

Each round deploys an API, makes a handshake with it and undeploys it, while the connections to
another API each send a message, get it back and go on. Prints the time from the request to
deploy to the first 101, and how many messages passed; any that is lost, and any connection that
ends, fails the run. Gateway, backend and clients share one process and its processor.
"""

from __future__ import annotations

import datetime
import statistics
import sys
import tempfile
import time
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.adminapi import AdminClient, packed
from support.backends import start_echo
from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, write
from trio_gw.guard.certificates import ensure_certificate

PAUSE = 0.2  # seconds between two messages of a connection


async def measure(base: Path, rounds: int, connections: int) -> tuple[list[float], int]:
    """Return the times from request to 101, and the number of messages."""
    messages = 0
    times: list[float] = []
    async with trio.open_nursery() as nursery:
        backend = await start_echo(nursery, compression=None)
        topics = asyncapi({"/*": {"publish": {}, "x-auth-type": "None"}})
        write(base / "apis", "steady", api("Steady", "/steady", backend.url), topics)
        project = write(base / "aside", "chat", api("Chat", "/chat", backend.url), topics)
        zipped = packed(project, "chat")
        gateway = await start_gateway(nursery, base, admin=True)
        client = AdminClient(gateway)
        await client.login()

        async def converse(number: int, task_status: trio.TaskStatus[None]) -> None:
            nonlocal messages
            async with gateway.connect("/steady/1.0.0/x", compression=None) as connection:
                task_status.started()
                count = 0
                while True:
                    text = f"{number}:{count}"
                    await connection.send(text)
                    if await connection.recv() != text:
                        raise AssertionError("a message was lost")
                    count += 1
                    messages += 1
                    await trio.sleep(PAUSE)

        async with trio.open_nursery() as talking:
            for number in range(connections):
                await talking.start(converse, number)
            times = [await one_round(gateway, client, zipped) for _ in range(rounds)]
            talking.cancel_scope.cancel()
        nursery.cancel_scope.cancel()
    return times, messages


async def one_round(gateway: RunningGateway, client: AdminClient, zipped: bytes) -> float:
    """Deploy, connect, undeploy; return the time until the 101."""
    before = time.perf_counter()
    answer = await client.deploy(zipped)
    assert answer.status == 200, answer.raw
    assert await gateway.status("/chat/1.0.0/x", token="") == 101
    taken = time.perf_counter() - before
    assert (await client.undeploy("Chat")).status == 200
    assert await gateway.status("/chat/1.0.0/x", token="") == 404
    return taken


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    connections = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "certs").mkdir()
        now = datetime.datetime.now(datetime.UTC)
        ensure_certificate(base / "certs" / "mg.pem", base / "certs" / "mg.key", now)
        times, messages = trio.run(measure, base, rounds, connections)
    median, worst = statistics.median(times) * 1000, max(times) * 1000
    print(
        f"{rounds} rounds, {connections} connections, {messages} messages, none lost;"
        f" request to first 101: median {median:.0f} ms, worst {worst:.0f} ms"
    )


if __name__ == "__main__":
    main()
