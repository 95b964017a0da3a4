"""After the broker was away, the gateway serves what REST holds: whatever happened meanwhile."""

from __future__ import annotations

import random
import ssl
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from support.apim import FakeApiManager, policy, start_apim
from support.backends import Backend, start_echo
from support.controlled import CHAT, OPEN, start_controlled
from support.forwarder import forwarding
from support.publisher import Publisher, inner, notification, publishing, revocation
from trio_gw.config.control_plane import ControlPlaneSettings
from trio_gw.config.entitlements import difference
from trio_gw.control_plane.artifact_folder import ArtifactFolder
from trio_gw.control_plane.pull import pull
from trio_gw.control_plane.rest_client import RestClient

if TYPE_CHECKING:
    from pathlib import Path

    import trio

    from support.rabbitmq import RabbitMQ
    from trio_gw.config.entitlements import Entitlements

pytestmark = pytest.mark.xdist_group("rabbitmq")

CHANGES = 100


class RandomChanges:
    """Changes tables of API Manager at random, and publishes the event of each change."""

    def __init__(self, apim: FakeApiManager, backend: Backend, seed: int) -> None:
        self._apim = apim
        self._backend = backend
        self._random = random.Random(seed)
        self._number = 100
        self.paths: dict[str, int] = {"/chat/1.0.0/x": 101}  # of APIs, and their status

    async def change(self, publisher: Publisher) -> None:
        """Make one change, and send its event."""
        self._number += 1
        kinds = (self._subscription, self._application, self._mapping, self._policy)
        key, body = self._random.choice((*kinds, self._revoke, self._deploy, self._undeploy))()
        await publisher.put(key, body)

    def _row(self, table: str) -> dict[str, Any] | None:
        """Choose a row to change or delete, sometimes none: then a new one is made."""
        rows = self._apim.tables[table]
        return self._random.choice(rows) if rows and self._random.random() < 0.6 else None

    def _store(self, table: str, row: dict[str, Any] | None, new: dict[str, Any]) -> str:
        """Add, replace or delete a row; return the end of the type of its event."""
        rows = self._apim.tables[table]
        if row is None:
            rows.append(new)
            return "CREATE"
        rows.remove(row)
        if self._random.random() < 0.4:
            return "DELETE"
        rows.append({**row, **{name: new[name] for name in new if name not in _KEYS}})
        return "UPDATE"

    def _subscription(self) -> tuple[str, bytes]:
        row = self._row("subscriptions")
        states = ("UNBLOCKED", "BLOCKED", "PROD_ONLY_BLOCKED", "ON_HOLD")
        new = {
            "subscriptionId": self._number,
            "subscriptionUUID": f"sub-{self._number}",
            "apiId": 1,
            "apiUUID": CHAT,
            "appId": 2,
            "applicationUUID": f"app-{self._random.randrange(5)}",
            "policyId": self._random.choice(("AsyncGold", "Unlimited")),
            "subscriptionState": self._random.choice(states),
            "timeStamp": inner("")["timeStamp"],
        }
        end = self._store("subscriptions", row, new)
        return "notification", notification(f"SUBSCRIPTIONS_{end}", **{**new, **(row or {})})

    def _application(self) -> tuple[str, bytes]:
        row = self._row("applications")
        new = {
            "uuid": f"app-{self._number}",
            "id": self._number,
            "name": f"App{self._number}",
            "subName": "bob",
            "policy": "Unlimited",
            "tokenType": "JWT",
            "attributes": {"tier": self._random.choice(("gold", "silver"))},
        }
        end = self._store("applications", row, new)
        uuid = (row or new)["uuid"]
        return "notification", notification(f"APPLICATION_{end}", uuid=uuid, subscriber="bob")

    def _mapping(self) -> tuple[str, bytes]:
        row = self._row("application-key-mappings")
        new = {
            "applicationId": 2,
            "applicationUUID": "app-uuid-2",
            "consumerKey": f"key-{self._number}",
            "keyType": self._random.choice(("PRODUCTION", "SANDBOX")),
            "keyManager": "Resident Key Manager",
            "timeStamp": inner("")["timeStamp"],
        }
        deleted = self._store("application-key-mappings", row, new) == "DELETE"
        kind = "REMOVE_APPLICATION_KEYMAPPING" if deleted else "APPLICATION_REGISTRATION_CREATE"
        return "notification", notification(kind, **{**new, **(row or {})})

    def _policy(self) -> tuple[str, bytes]:
        row = self._row("subscription-policies")
        count = self._random.randrange(1, 1000)
        new = policy(self._number, f"Tier{self._number}", "eventCount", count)
        end = self._store("subscription-policies", row, new)
        named = {"policyId": (row or new)["id"], "policyName": (row or new)["name"]}
        event = notification(
            f"POLICY_{end}", **named, quotaType="eventCount", policyType="SUBSCRIPTION"
        )
        return "notification", event

    def _revoke(self) -> tuple[str, bytes]:
        expiry = inner("")["timeStamp"] + 3_600_000
        row = {"jwt_signature": f"jti-{self._number}", "expiry_time": expiry}
        self._apim.tables["revokedjwt"].append(row)
        return "tokenRevocation", revocation(f"jti-{self._number}", expiry)

    def _deploy(self) -> tuple[str, bytes]:
        uuid = str(UUID(int=self._number))
        name, context = f"Api{self._number}", f"/api{self._number}"
        self._apim.deploy(
            uuid, name=name, context=context, backend=self._backend.url, channels=OPEN
        )
        self.paths[f"{context}/1.0.0/x"] = 101
        return "notification", notification(
            "DEPLOY_API_IN_GATEWAY",
            uuid=uuid,
            name=name,
            context=f"{context}/1.0.0",
            version="1.0.0",
            gatewayLabels=["Default"],
        )

    def _undeploy(self) -> tuple[str, bytes]:
        if not self._apim.apis:
            return self._deploy()
        row = self._random.choice(self._apim.apis)
        self._apim.undeploy(row["uuid"])
        self.paths[f"{row['context']}/x"] = 404
        labels = ["Default"]
        return "notification", notification(
            "REMOVE_API_FROM_GATEWAY", uuid=row["uuid"], gatewayLabels=labels
        )


_KEYS = ("subscriptionId", "uuid", "id", "name", "consumerKey", "keyManager")


async def held(apim: FakeApiManager, folder: Path) -> Entitlements:
    """Pull what API Manager holds, with a client of its own."""
    settings = ControlPlaneSettings(url=apim.url)
    tls = ssl.create_default_context(cadata=apim.ca.cert_pem.bytes().decode())
    async with RestClient(settings, tls) as client:
        pulled = await pull(client, settings, ArtifactFolder(folder))
        return pulled.entitlements


@pytest.mark.parametrize("seed", range(3))
async def test_the_state_equals_rest_after_changes_while_the_broker_was_away(
    nursery: trio.Nursery, base: Path, rabbitmq: RabbitMQ, seed: int
) -> None:
    backend = await start_echo(nursery)
    apim = await start_apim(nursery)
    apim.seed(backend.url)
    apim.deploy(CHAT, backend=backend.url, channels=OPEN)
    changes = RandomChanges(apim, backend, seed)
    async with forwarding(rabbitmq.port) as forwarder, publishing(rabbitmq.port) as publisher:
        url = f"amqp://admin:admin@127.0.0.1:{forwarder.port}/?retries=1000&connectdelay=0.05"
        controlled = await start_controlled(nursery, base, apim, url)
        await controlled.current()
        for number in range(CHANGES):
            if number == 20:  # some before, some in the middle, most while it is away
                await publisher.flush()
                # RabbitMQ 4.3 may not confirm a message that meets a queue while it is deleted.
                forwarder.cut()
            await changes.change(publisher)
        forwarder.open = True
        await controlled.current(pulls=2)
        live = controlled.gateway.running.live
        expected = await held(apim, base / "expected")
        await controlled.until(lambda: not difference(live.entitlements, expected))
        for path, status in changes.paths.items():
            await controlled.answers(status, path)


async def test_the_state_equals_rest_after_changes_that_were_announced(
    nursery: trio.Nursery, base: Path, rabbitmq: RabbitMQ
) -> None:
    backend = await start_echo(nursery)
    apim = await start_apim(nursery)
    apim.seed(backend.url)
    apim.deploy(CHAT, backend=backend.url, channels=OPEN)
    changes = RandomChanges(apim, backend, 7)
    async with publishing(rabbitmq.port) as publisher:
        controlled = await start_controlled(nursery, base, apim, rabbitmq.url())
        await controlled.current()
        for _ in range(CHANGES):
            await changes.change(publisher)
        for path, status in changes.paths.items():
            await controlled.answers(status, path)
        live = controlled.gateway.running.live
        expected = await held(apim, base / "expected")
        ids = set(expected.subscriptions)
        await controlled.until(lambda: set(live.entitlements.subscriptions) == ids)
        assert set(live.entitlements.key_mappings) == set(expected.key_mappings)
        assert set(live.entitlements.applications) == set(expected.applications)
