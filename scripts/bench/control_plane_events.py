"""Events of a large control plane: what they cost, and what they do to messages beside them.

    python scripts/bench/control_plane_events.py [APIS] [SUBSCRIPTIONS] [SECONDS]

Starts a gateway, a fake API Manager and RabbitMQ, and prints
* the seconds until the gateway is ready without a cache, its memory and processor time,
* the milliseconds from the publication of a deployment to the first request that finds it,
* the time of messages on 100 connections, alone and beside 500 events a second, and whether all
  events were applied.
"""

from __future__ import annotations

import base64
import datetime
import http.client
import json
import ssl
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import trio
from control_plane_start import used
from websockets.trio.client import connect

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.apim import FakeApiManager, start_apim
from support.backends import start_echo
from support.crashes import start
from support.publisher import Publisher, notification, publishing
from support.rabbitmq import RabbitMQ
from trio_gw.guard.certificates import ensure_certificate

RATE, CONNECTIONS, PAUSE = 500, 100, 0.1  # events a second; connections, seconds between messages
DEPLOYMENTS = 40
TICK = 0.05
OPEN = {"/*": {"publish": {}, "x-auth-type": "None"}}
LOAD = "load"  # the command of the process with the connections


async def load(port: int, seconds: float) -> None:
    """Exchange messages on all connections; print their times in milliseconds."""
    times: list[float] = []

    async def one(number: int) -> None:
        url = f"ws://localhost:{port}/api0/1.0.0/x"
        async with connect(url, proxy=None, compression=None, ping_interval=None) as client:
            await trio.sleep(PAUSE * number / CONNECTIONS)
            while trio.current_time() < until:
                began = time.perf_counter()
                await client.send(b"x" * 128)
                await client.recv()
                times.append((time.perf_counter() - began) * 1000)
                await trio.sleep(PAUSE)

    until = trio.current_time() + seconds
    async with trio.open_nursery() as nursery:
        for number in range(CONNECTIONS):
            nursery.start_soon(one, number)
    cuts = statistics.quantiles(times, n=100)
    print(f"{len(times)} messages, {cuts[49]:.2f} ms (median), {cuts[98]:.2f} ms (p99)", flush=True)


def fill(apim: FakeApiManager, backend: str, apis: int, subscriptions: int) -> None:
    """Put so many APIs and subscriptions, and a tenth as many applications, into API Manager."""
    for number in range(apis):
        name = f"Api{number}"
        apim.deploy(name, name=name, context=f"/{name.lower()}", channels=OPEN, backend=backend)
    applications = max(1, subscriptions // 10)
    apim.tables["applications"] = [
        {"uuid": f"app-{each}", "id": each, "name": f"App{each}", "subName": "a", "policy": "Gold"}
        for each in range(applications)
    ]
    apim.tables["application-key-mappings"] = [
        {
            "applicationUUID": f"app-{each}",
            "consumerKey": f"client-{each}",
            "keyType": "PRODUCTION",
            "keyManager": "Resident Key Manager",
        }
        for each in range(applications)
    ]
    apim.tables["subscriptions"] = [
        row(each, f"Api{each % apis}", f"app-{each % applications}")
        for each in range(subscriptions)
    ]


def row(number: int, api: str, application: str, state: str = "UNBLOCKED") -> dict[str, Any]:
    """Make a subscription."""
    return {
        "subscriptionId": number,
        "apiUUID": api,
        "applicationUUID": application,
        "policyId": "Gold",
        "subscriptionState": state,
        "timeStamp": int(time.time() * 1000),
    }


async def deployments(apim: FakeApiManager, publisher: Publisher, port: int) -> list[float]:
    """Deploy APIs, one after the other; return how long each took in milliseconds."""
    found = []
    for number in range(DEPLOYMENTS):
        name = f"New{number}"
        apim.deploy(name, name=name, context=f"/{name.lower()}", channels=OPEN)
        began = time.perf_counter()
        event = notification("DEPLOY_API_IN_GATEWAY", uuid=name, gatewayLabels=["Default"])
        await publisher.publish("notification", event)
        path = f"/{name.lower()}/1.0.0/x"
        while await trio.to_thread.run_sync(status, port, path) == 404:  # noqa: ASYNC110
            await trio.sleep(0.002)
        found.append((time.perf_counter() - began) * 1000)
    return found


def status(port: int, path: str) -> int:
    """Ask for a path without an upgrade."""
    connection = http.client.HTTPConnection("localhost", port, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


async def events(publisher: Publisher, apis: int, subscriptions: int, seconds: float) -> int:
    """Publish events at the rate; return how many."""
    sent, began = 0, trio.current_time()
    while (passed := trio.current_time() - began) < seconds:
        due = int(passed * RATE) - sent
        messages = []
        for number in range(sent, sent + due):
            state = "BLOCKED" if number % 2 else "UNBLOCKED"
            changed = row(number % subscriptions, f"Api{number % apis}", f"app-{number}", state)
            messages.append(notification("SUBSCRIPTIONS_UPDATE", **changed))
        sent += due
        await publisher.put("notification", *messages)
        await publisher.flush()
        await trio.sleep(TICK)
    return sent


def view(port: int, tls: ssl.SSLContext) -> dict[str, Any]:
    """Ask the gateway for the view of the control plane."""
    login = "Basic " + base64.b64encode(b"admin:admin").decode()
    connection = http.client.HTTPSConnection("localhost", port, timeout=30, context=tls)
    try:
        connection.request("GET", "/admin/control-plane", headers={"Authorization": login})
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()


async def run(base: Path, broker: RabbitMQ, apis: int, subscriptions: int, seconds: float) -> None:
    """Measure."""
    tls = ssl.create_default_context(cafile=str(base / "certs" / "mg.pem"))
    async with trio.open_nursery() as nursery:
        apim = await start_apim(nursery)
        backend = await start_echo(nursery)
        fill(apim, backend.url, apis, subscriptions)
        table = apim.settings(base, events=[broker.url()])
        lines = (f"{name} = {json.dumps(value)}" for name, value in table.items())
        (base / "gateway.toml").write_text("\n".join(("[control_plane]", *lines)) + "\n")
        began = time.monotonic()
        process, ports = await trio.to_thread.run_sync(start, base)
        memory, spent = used(process.pid)
        took = time.monotonic() - began
        print(f"without a cache: ready after {took:.1f} s, {memory:.0f} MiB, {spent:.1f} s")
        async with publishing(broker.port, seconds=3600) as publisher:
            before = used(process.pid)[1]
            times = await deployments(apim, publisher, ports["http"])
            cost = (used(process.pid)[1] - before) / len(times) * 1000
            middle, worst = statistics.median(times), max(times)
            print(
                f"deployments: {middle:.0f} ms (median), {worst:.0f} ms (worst);"
                f" {cost:.0f} ms of processor time each"
            )
            command = [sys.executable, __file__, LOAD, str(ports["http"]), str(seconds)]
            print("alone: ", end="", flush=True)
            await trio.run_process(command)
            print(f"beside {RATE} events a second: ", end="", flush=True)
            before = used(process.pid)[1]
            async with trio.open_nursery() as both:
                both.start_soon(trio.run_process, command)
                sent = await events(publisher, apis, subscriptions, seconds)
            spent = used(process.pid)[1] - before
            found: dict[str, int] = {}
            with trio.move_on_after(60):
                while found.get("applied", 0) < sent:
                    answer = await trio.to_thread.run_sync(view, ports["admin"], tls)
                    found = answer["events"].get("subscription", {})
                    await trio.sleep(0.05)
            print(f"{sent} events published: {found}; {spent:.1f} s of processor time in all")
        process.terminate()
        await trio.to_thread.run_sync(process.wait)
        nursery.cancel_scope.cancel()


def main() -> None:
    """Start a broker, and measure."""
    if sys.argv[1:2] == [LOAD]:
        trio.run(load, int(sys.argv[2]), float(sys.argv[3]))
        return
    apis, subscriptions, seconds = (
        int(sys.argv[place]) if len(sys.argv) > place else default
        for place, default in ((1, 2000), (2, 50_000), (3, 20))
    )
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for name in ("apis", "certs", "rabbitmq"):
            (base / name).mkdir()
        now = datetime.datetime.now(datetime.UTC)
        ensure_certificate(base / "certs" / "mg.pem", base / "certs" / "mg.key", now)
        broker = RabbitMQ(base / "rabbitmq")
        try:
            broker.start()
            trio.run(run, base, broker, apis, subscriptions, seconds)
        finally:
            broker.close()


if __name__ == "__main__":
    main()
