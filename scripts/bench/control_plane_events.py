"""Events of a large control plane: what they cost, and what they do to messages beside them.

    python scripts/bench/control_plane_events.py [APIS] [SUBSCRIPTIONS] [SECONDS]

Needs `scripts/bench/prepare`. Starts a gateway, a fake API Manager and RabbitMQ, and prints
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
from processes import backend, load_command

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.apim import FakeApiManager, start_apim
from support.crashes import start
from support.publisher import Publisher, notification, publishing
from support.rabbitmq import RabbitMQ
from trio_gw.guard.certificates import ensure_certificate

RATE, CONNECTIONS, PAUSE = 500, 100, 0.1  # events a second; connections, seconds between messages
DEPLOYMENTS = 40
TICK = 0.05
OPEN = {"/*": {"publish": {}, "x-auth-type": "None"}}


async def load(port: int, seconds: float) -> str:
    """Exchange messages on all connections; return their times in milliseconds."""
    options: dict[str, str | float] = {
        "conns": CONNECTIONS,
        "pause": PAUSE * 1000,
        "seconds": seconds,
    }
    command = load_command("echo", port, {"path": "/api0/1.0.0/x", **options})
    done = await trio.run_process(command, capture_stdout=True)
    found = json.loads(done.stdout)
    middle, tail = found["p50"] / 1000, found["p99"] / 1000
    return f"{found['messages']} messages, {middle:.2f} ms (median), {tail:.2f} ms (p99)"


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


async def run(
    base: Path, broker: RabbitMQ, echo: int, apis: int, subscriptions: int, seconds: float
) -> None:
    """Measure, with an echo server at this port."""
    tls = ssl.create_default_context(cafile=str(base / "certs" / "mg.pem"))
    async with trio.open_nursery() as nursery:
        apim = await start_apim(nursery)
        fill(apim, f"ws://localhost:{echo}", apis, subscriptions)
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
            print("alone:", await load(ports["http"], seconds), flush=True)
            before, beside = used(process.pid)[1], ""
            async with trio.open_nursery() as both:

                async def measure() -> None:
                    nonlocal beside
                    beside = await load(ports["http"], seconds)

                both.start_soon(measure)
                sent = await events(publisher, apis, subscriptions, seconds)
            print(f"beside {RATE} events a second: {beside}", flush=True)
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
    """Start a broker and an echo server, and measure."""
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
            with backend(base / "echo.log") as echo:
                trio.run(run, base, broker, echo, apis, subscriptions, seconds)
        finally:
            broker.close()


if __name__ == "__main__":
    main()
