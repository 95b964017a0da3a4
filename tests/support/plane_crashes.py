"""Gateways with a control plane in processes of their own, killed while events come.

Also what `scripts/bench/plane_crashes.py` runs for longer.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import random
import re
import signal
import ssl
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from support.apim import Fault
from support.crashes import Forked
from support.publisher import notification

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.apim import FakeApiManager
    from support.publisher import Publisher

UUID = "6c1f0e2e-0001-4c5e-9a10-000000000001"
AUTHORIZATION = "Basic " + base64.b64encode(b"admin:admin").decode()
REQUESTS = (
    *("runtime-artifacts", "apis", "subscriptions", "applications", "application-key-mappings"),
    *("application-policies", "subscription-policies", "api-policies", "keymanagers"),
    *("revokedjwt", "keyTemplates", "block"),
)
LONGEST = 0.4  # seconds of changes before something is killed, at most
TARGETS = ("all", "follower", "other", "supervisor")


class PlaneCrashes:
    """Changes things in API Manager, kills, and compares. With one worker everything is killed.

    `starts` has the seconds until each restarted gateway served its cache, while API Manager did
    not answer; `caught_up` those until it served what API Manager has.
    """

    def __init__(
        self,
        base: Path,
        apim: FakeApiManager,
        publisher: Publisher,
        broker_url: str,
        *,
        workers: int,
        seed: int,
    ) -> None:
        self.kills: dict[str, int] = {}
        self.starts: list[float] = []
        self.caught_up: list[float] = []
        self._base = base
        self._apim = apim
        self._publisher = publisher
        self._workers = workers
        self._random = random.Random(seed)
        self._version = 0
        self._loaded = 0  # the version at the last kill, at least
        self._tls = ssl.create_default_context(cafile=str(base / "certs" / "mg.pem"))
        table = apim.settings(base, events=[broker_url])
        lines = (f"{name} = {json.dumps(value)}" for name, value in table.items())
        (base / "gateway.toml").write_text("\n".join(("[control_plane]", *lines)) + "\n")

    async def run(self, rounds: int) -> AsyncIterator[int]:
        """Kill as often as asked for; gives the number of rounds after each."""
        await self._change()
        with contextlib.ExitStack() as stack:
            forked = await trio.to_thread.run_sync(partial(Forked, self._base))
            stack.callback(forked.__exit__)
            for done in range(rounds):
                await self._round(forked, first=not done)
                yield done + 1

    async def _round(self, forked: Forked, *, first: bool) -> None:
        if not first:  # the cache alone has to do
            for path in REQUESTS:
                self._apim.fault(path, Fault(times=-1, status=503))
        began = time.monotonic()
        pid, port = await trio.to_thread.run_sync(
            partial(forked.start, TRIO_GW_WORKERS=str(self._workers))
        )
        try:
            if not first:
                self.starts.append(time.monotonic() - began)
                topic = await self._topic(port)
                assert self._loaded <= topic <= self._version, (self._loaded, topic, self._version)
                self._apim.faults.clear()
            began = time.monotonic()
            await self._converge(port)
            if not first:
                self.caught_up.append(time.monotonic() - began)
            target = "all" if self._workers == 1 else self._random.choice(TARGETS)
            await self._change_until_killed(pid, target)
            if target in ("follower", "other"):
                await self._converge(port)
                self._loaded = self._version
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            code = await trio.to_thread.run_sync(forked.wait)
        assert code == -signal.SIGKILL

    async def _change_until_killed(self, pid: int, target: str) -> None:
        async def strike() -> None:
            await trio.sleep(self._random.uniform(0, LONGEST))
            match target:
                case "all":
                    os.killpg(pid, signal.SIGKILL)
                case "supervisor":
                    os.kill(pid, signal.SIGKILL)
                case _:
                    first, *others = self._worker_ids()
                    os.kill(first if target == "follower" else others[0], signal.SIGKILL)
            self.kills[target] = self.kills.get(target, 0) + 1
            nursery.cancel_scope.cancel()

        self._loaded = self._version
        async with trio.open_nursery() as nursery:
            nursery.start_soon(strike)
            while True:
                with trio.CancelScope(shield=True):
                    await self._change()
                await trio.lowlevel.checkpoint()

    async def _change(self) -> None:
        """Deploy a new version of the topic, and add a subscription; publish both events."""
        self._version += 1
        self._apim.deploy(
            UUID, revision=f"r{self._version}", channels={f"/v{self._version}": {"publish": {}}}
        )
        row = {
            "subscriptionId": self._version,
            "subscriptionUUID": str(self._version),
            "apiId": 1,
            "apiUUID": UUID,
            "appId": 2,
            "applicationId": 2,
            "applicationUUID": "app",
            "policyId": "Gold",
            "subscriptionState": "UNBLOCKED",
            "timeStamp": int(time.time() * 1000),
        }
        self._apim.tables["subscriptions"].append(row)
        deploy = notification("DEPLOY_API_IN_GATEWAY", uuid=UUID, gatewayLabels=["Default"])
        subscribe = notification("SUBSCRIPTIONS_CREATE", **row)
        await self._publisher.put("notification", deploy, subscribe)
        await self._publisher.flush()

    async def _converge(self, port: int) -> None:
        """Wait until all workers serve what API Manager has."""
        want: list[Any] = [self._version] * self._workers
        found: object = None
        with trio.move_on_after(30):
            while True:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    view = await self._ask(port, "/admin/control-plane")
                    counts = [each["served"].get("subscriptions") for each in view["workers"]]
                    found = [counts, await self._topic(port)]
                    if found == [want, self._version]:
                        return
                await trio.sleep(0.01)
        raise AssertionError((found, self._version, (self._base / "log").read_text()))

    async def _topic(self, port: int) -> int:
        """Return the version of the topic that is served."""
        ((topic,),) = (each["topics"] for each in await self._ask(port, "/admin/apis"))
        return int(topic.removeprefix("/v"))

    async def _ask(self, port: int, path: str) -> Any:
        return await trio.to_thread.run_sync(self._get, port, path)

    def _get(self, port: int, path: str) -> Any:
        connection = http.client.HTTPSConnection("localhost", port, timeout=30, context=self._tls)
        try:
            connection.request("GET", path, headers={"Authorization": AUTHORIZATION})
            answer = connection.getresponse()
            assert answer.status == 200, answer.status
            return json.loads(answer.read())
        finally:
            connection.close()

    def _worker_ids(self) -> list[int]:
        """Return the processes of the workers, the first worker first."""
        text = (self._base / "log").read_text()
        found = {
            int(place): int(pid)
            for place, pid in re.findall(r"process (\d+) started \(pid (\d+)\)", text)
        }
        return [found[place] for place in sorted(found)]
