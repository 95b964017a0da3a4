"""The follower: pulls and events, with the cache on disk and a fake of API Manager's REST."""

from __future__ import annotations

import base64
import logging
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio

from support.apim import KEY_MANAGER, FakeApiManager, Fault, policy, start_apim
from support.publisher import key_manager, notification, payload, revocation
from support.state_writing import SOURCE
from trio_gw.config.control_plane import ControlPlaneSettings
from trio_gw.control_plane import fetches, follower
from trio_gw.control_plane.artifact_folder import ArtifactFolder
from trio_gw.control_plane.broker import Delivery
from trio_gw.control_plane.follower import Follower
from trio_gw.control_plane.requirements import tls_context
from trio_gw.control_plane.state_reader import StateReader
from trio_gw.control_plane.state_writer import StateWriter
from trio_gw.control_plane.status import ControlPlaneStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trio_gw.config.entitlements import Entitlements
    from trio_gw.control_plane.state import ControlPlaneState

A = "6c1f0e2e-0001-4c5e-9a10-000000000001"
B = "6c1f0e2e-0001-4c5e-9a10-000000000002"


class Following:
    """A follower, what it writes, and the API Manager that it follows."""

    def __init__(self, apim: FakeApiManager, folder: Path, **more: Any) -> None:
        table = apim.settings(folder, retry_interval=0.02, events=(), **more)
        settings = ControlPlaneSettings(**table)
        self.apim = apim
        self.status = ControlPlaneStatus(apim.url)
        reader = StateReader(folder / "cache", SOURCE, "cache")
        self._reader = reader
        self.writer = StateWriter(reader, ArtifactFolder(folder / "cache/artifacts"), "cache")
        tls = tls_context(settings, folder)
        self.follower = Follower(settings, tls, self.writer, self.status)

    async def start(self, nursery: trio.Nursery) -> None:
        await nursery.start(self._reader.run)
        await nursery.start(self.writer.run)
        await self.writer.opened.wait()
        nursery.start_soon(self.follower.run)
        await self.until(lambda: self.status.pulling)

    @property
    def state(self) -> ControlPlaneState:
        return self.writer.current

    @property
    def rows(self) -> Entitlements:
        return self.writer.current.entitlements

    async def until(self, condition: Callable[[], object]) -> None:
        with trio.fail_after(60):
            while not condition():
                await trio.lowlevel.checkpoint()

    async def bind(self) -> None:
        """Bind the queue, and wait until what was pulled after that is current."""
        await self.follower.bound()
        await self.until(lambda: self.status.current)

    async def notify(self, kind: str, **members: Any) -> None:
        await self.follower.deliver(Delivery("notification", notification(kind, **members)))

    def events(self, kind: str) -> dict[str, int]:
        return self.status.events.get(kind, {})


@pytest.fixture
async def apim(nursery: trio.Nursery) -> FakeApiManager:
    fake = await start_apim(nursery)
    fake.seed("ws://127.0.0.1:9", A)
    return fake


@pytest.fixture
async def following(apim: FakeApiManager, nursery: trio.Nursery, tmp_path: Path) -> Following:
    found = Following(apim, tmp_path)
    await found.start(nursery)
    return found


@pytest.fixture
async def bound(following: Following) -> Following:
    await following.bind()
    return following


def subscription(number: int, **more: Any) -> dict[str, Any]:
    members = {"subscriptionId": number, "apiUUID": A, "applicationUUID": "app-uuid-2"}
    return {**members, "policyId": "AsyncGold", "subscriptionState": "UNBLOCKED", **more}


async def test_a_pull_without_the_event_hub(following: Following) -> None:
    await following.until(lambda: following.status.pulls)
    assert set(following.rows.subscriptions) == {1}
    assert set(following.state.artifacts) == {A}
    assert following.state.pulled_at > 0
    assert not following.status.current


async def test_what_is_pulled_after_the_binding_is_current(bound: Following) -> None:
    bound.follower.lost("gone")
    assert not bound.status.current
    bound.apim.tables["subscriptions"].clear()
    await bound.bind()
    assert not bound.rows.subscriptions


async def test_a_pull_that_changes_nothing_writes_nothing(bound: Following, tmp_path: Path) -> None:
    size = (tmp_path / "cache/state").stat().st_size
    bound.follower.lost("gone")
    await bound.bind()
    assert (tmp_path / "cache/state").stat().st_size - size < 100


async def test_subscriptions(bound: Following) -> None:
    await bound.notify("SUBSCRIPTIONS_CREATE", **subscription(2))
    assert bound.rows.subscribed[("app-uuid-2", A)] == (1, 2)
    await bound.notify("SUBSCRIPTIONS_UPDATE", **subscription(2, subscriptionState="BLOCKED"))
    assert bound.rows.subscriptions[2].state == "BLOCKED"
    await bound.notify("SUBSCRIPTIONS_UPDATE", **subscription(2, timeStamp=5))
    assert bound.rows.subscriptions[2].state == "BLOCKED"
    await bound.notify("SUBSCRIPTIONS_DELETE", **subscription(2))
    assert set(bound.rows.subscriptions) == {1}
    assert bound.events("subscription") == {"applied": 3, "stale": 1}


async def test_the_other_rows(bound: Following) -> None:
    deliver = bound.follower.deliver
    await deliver(Delivery("tokenRevocation", revocation("jti", int(time.time() * 1000) + 10_000)))
    assert set(bound.rows.revoked) == {"jti"}
    value = {"self_validate_jwt": True, "issuer": "https://am"}
    await deliver(Delivery("keymanager", key_manager("KM", "add", value)))
    assert set(bound.rows.key_managers) == {"km"}
    block = payload(id=1, blockingCondition="API", conditionValue="/chat/1.0.0", state="true")
    await deliver(Delivery("throttleData", block))
    assert len(bound.rows.blocks) == 1
    decision = payload(throttleKey="k", isThrottled=True, expiryTimeStamp=1 << 50)
    await deliver(Delivery("throttleData", decision))
    assert set(bound.rows.decisions) == {"k"}
    mapping = {"consumerKey": "k2", "keyManager": KEY_MANAGER, "applicationUUID": "app-uuid-2"}
    await bound.notify("APPLICATION_REGISTRATION_CREATE", **mapping)
    assert ("k2", KEY_MANAGER) in bound.rows.key_mappings
    await bound.notify("REMOVE_APPLICATION_KEYMAPPING", **mapping)
    assert ("k2", KEY_MANAGER) not in bound.rows.key_mappings
    await bound.notify("APPLICATION_UPDATE", uuid="app-uuid-2", applicationName="New")
    assert bound.rows.applications["app-uuid-2"].name == "New"
    await bound.notify("API_LIFECYCLE_CHANGE", uuid=A, apiStatus="BLOCKED")
    assert bound.rows.apis[A].status == "BLOCKED"
    # A pull keeps what REST does not list.
    bound.follower.lost("gone")
    await bound.bind()
    assert (set(bound.rows.revoked), set(bound.rows.decisions)) == ({"jti"}, {"k"})
    assert not bound.rows.blocks


async def test_a_policy_is_applied_at_once_and_then_fetched(bound: Following) -> None:
    changed = {**policy(2, "AsyncGold", "eventCount", 7), "stopOnQuotaReach": False}
    bound.apim.tables["subscription-policies"][1] = changed
    gate = trio.Event()
    bound.apim.fault("subscription-policies", Fault(gate=gate))
    members = {"policyId": 2, "policyName": "AsyncGold", "quotaType": "eventCount"}
    members |= {"policyType": "SUBSCRIPTION", "stopOnQuotaReach": False}
    await bound.notify("POLICY_UPDATE", **members)
    row = bound.rows.policies[("subscription", 2)]
    assert (row.stop_on_quota, row.limit) == (False, 10_000)
    gate.set()
    await bound.until(lambda: bound.rows.policies[("subscription", 2)].limit == 7)


async def test_a_new_api_takes_two_requests(bound: Following) -> None:
    bound.apim.requests.clear()
    bound.apim.deploy(B, name="New", context="/new")
    labels = ["Default", "Elsewhere"]
    names = {"context": "/new/1.0.0", "version": "1.0.0"}
    await bound.notify("DEPLOY_API_IN_GATEWAY", uuid=B, gatewayLabels=labels, **names)
    await bound.until(lambda: B in bound.state.artifacts)
    queries = {request.path: request.query for request in bound.apim.requests}
    assert len(bound.apim.requests) == 2
    label = "RGVmYXVsdA=="
    assert queries == {
        "apis": {"gatewayLabel": "Default", **names},
        "runtime-artifacts": {"type": "Envoy", "gatewayLabel": label, "apiId": B},
    }
    assert bound.rows.apis[B].name == "New"
    assert bound.events("deploy") == {"applied": 1}


async def test_a_new_api_with_another_context_than_announced(bound: Following) -> None:
    bound.apim.deploy(B, name="New", context="/new")
    members = {"uuid": B, "gatewayLabels": ["Default"], "context": "/old/1", "version": "1"}
    await bound.notify("DEPLOY_API_IN_GATEWAY", **members)
    await bound.until(lambda: B in bound.state.artifacts)
    assert bound.rows.apis[B].context == "/new/1.0.0"


async def test_a_deployment_elsewhere_takes_none(bound: Following) -> None:
    bound.apim.requests.clear()
    await bound.notify("DEPLOY_API_IN_GATEWAY", uuid=B, gatewayLabels=["Elsewhere"])
    await bound.notify("API_UPDATE", uuid=B, action="DEFAULT_VERSION")
    await bound.notify("REMOVE_API_FROM_GATEWAY", uuid=A, gatewayLabels=["Elsewhere"])
    assert bound.apim.paths() == []
    assert bound.events("deploy") == {"ignored": 1}
    assert bound.events("api") == {"ignored": 1}
    assert bound.events("undeploy") == {"ignored": 1}


async def test_a_redeployment_has_its_metadata(bound: Following) -> None:
    bound.apim.deploy(A, ("Default", "other"), revision="r2")
    bound.apim.api(A)["isDefaultVersion"] = True
    await bound.notify("DEPLOY_API_IN_GATEWAY", uuid=A, gatewayLabels=["Default"])
    await bound.until(lambda: bound.state.artifacts[A][0].revision == "r2")
    (artifact,) = bound.state.artifacts[A]
    assert artifact.placements == (("Default", "other"),)
    assert bound.rows.apis[A].is_default


async def test_the_default_version_is_fetched_where_it_is_deployed(bound: Following) -> None:
    bound.apim.api(A)["isDefaultVersion"] = True
    await bound.notify("API_UPDATE", uuid=A, action="DEFAULT_VERSION")
    await bound.until(lambda: bound.rows.apis[A].is_default)


async def test_undeployment(bound: Following) -> None:
    members = {"uuid": A, "gatewayLabels": ["Default"]}
    await bound.notify("REMOVE_API_FROM_GATEWAY", tenantDomain="other", **members)
    assert A in bound.state.artifacts
    await bound.notify("REMOVE_API_FROM_GATEWAY", **members)
    assert A not in bound.state.artifacts
    assert A not in bound.rows.apis
    assert bound.events("undeploy") == {"ignored": 1, "applied": 1}


async def test_an_older_undeployment_asks_api_manager(bound: Following) -> None:
    members = {"uuid": A, "gatewayLabels": ["Default"], "timeStamp": 1_600_000_000_000}
    bound.apim.requests.clear()
    await bound.notify("REMOVE_API_FROM_GATEWAY", **members)
    assert A in bound.state.artifacts
    await bound.apim.wait_requests("runtime-artifacts", 1)
    assert bound.events("undeploy") == {"stale": 1}


async def test_an_api_that_is_not_there_yet(bound: Following) -> None:
    await bound.notify("DEPLOY_API_IN_GATEWAY", uuid=B, gatewayLabels=["Default"])
    await bound.apim.wait_requests("runtime-artifacts", 3)
    bound.apim.deploy(B, name="Late", context="/late")
    await bound.until(lambda: B in bound.state.artifacts)


async def test_an_api_that_is_no_longer_there(bound: Following) -> None:
    bound.apim.undeploy(A)
    await bound.notify("DEPLOY_API_IN_GATEWAY", uuid=A, gatewayLabels=["Default"])
    await bound.until(lambda: A not in bound.state.artifacts)
    found = [each for each in bound.apim.requests if each.query.get("apiId") == A]
    assert len(found) == fetches.TRIES


async def test_an_api_removed_while_it_is_fetched(bound: Following) -> None:
    bound.apim.deploy(B, name="New", context="/new")
    gate = trio.Event()
    bound.apim.fault("apis", Fault(gate=gate))
    await bound.notify("DEPLOY_API_IN_GATEWAY", uuid=B, gatewayLabels=["Default"])
    await bound.apim.wait_requests("apis", 2)
    bound.apim.undeploy(B)
    await bound.notify("REMOVE_API_FROM_GATEWAY", uuid=B, gatewayLabels=["Default"])
    gate.set()
    await bound.apim.wait_requests("apis", 3)
    await bound.until(lambda: B not in bound.state.artifacts and B not in bound.rows.apis)


async def test_a_fetch_that_is_refused_is_a_problem(bound: Following) -> None:
    bound.apim.fault("runtime-artifacts", Fault(status=400, times=2))
    await bound.notify("DEPLOY_API_IN_GATEWAY", uuid=B, gatewayLabels=["Default"])
    await bound.until(lambda: bound.status.problems)
    assert f"{B}: answers 400" in bound.status.problems[0].what
    assert bound.events("deploy") == {"applied": 1, "failed": 1}


async def test_what_a_refused_fetch_announced_is_pulled(bound: Following) -> None:
    bound.apim.deploy(B, name="New", context="/new")
    bound.apim.fault("runtime-artifacts", Fault(status=403, times=2))
    await bound.notify("DEPLOY_API_IN_GATEWAY", uuid=B, gatewayLabels=["Default"])
    await bound.until(lambda: B in bound.state.artifacts)


async def test_a_fetch_that_outlasts_an_outage_is_repeated(bound: Following) -> None:
    gate = trio.Event()
    bound.apim.fault("runtime-artifacts", Fault(gate=gate))
    await bound.notify("DEPLOY_API_IN_GATEWAY", uuid=A, gatewayLabels=["Default"])
    await bound.apim.wait_requests("runtime-artifacts", 2)
    bound.follower.lost("gone")
    await bound.bind()  # what was deployed in between is not announced
    gate.set()
    found = [each for each in bound.apim.requests if each.query.get("apiId") == A]
    assert len(found) == 1
    await bound.apim.wait_requests("runtime-artifacts", 4)


async def test_too_many_deployments_are_one_pull(
    bound: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetches, "MAX_WANTED", 3)
    bound.apim.deploy(B, name="New", context="/new")
    gate = trio.Event()
    bound.apim.fault("runtime-artifacts", *(Fault(gate=gate) for _ in range(fetches.PARALLEL)))
    for number in range(20):
        members = {"uuid": f"api-{number}", "gatewayLabels": ["Default"]}
        await bound.notify("DEPLOY_API_IN_GATEWAY", **members)
    gate.set()
    await bound.until(lambda: B in bound.state.artifacts)


async def test_events_while_rest_is_away(bound: Following) -> None:
    for path in ("subscriptions", "block"):
        bound.apim.fault(path, Fault(reset=True, times=-1))
    bound.follower.lost("gone")
    await bound.follower.bound()
    await bound.apim.wait_requests("subscriptions", 3)
    await bound.notify("SUBSCRIPTIONS_UPDATE", **subscription(1, subscriptionState="BLOCKED"))
    assert bound.rows.subscriptions[1].state == "BLOCKED"
    bound.apim.faults.clear()
    await bound.until(lambda: bound.status.current)
    # REST has the older row, so the event counts.
    assert bound.rows.subscriptions[1].state == "BLOCKED"


async def test_too_many_events_during_a_pull_begin_it_anew(
    bound: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "MAX_EVENTS", 5)
    bound.apim.fault("block", Fault(gate=trio.Event()))
    bound.follower.lost("gone")
    await bound.follower.bound()
    await bound.apim.wait_requests("block", 2)
    for number in range(10, 17):
        bound.apim.tables["subscriptions"].append(subscription(number))
        await bound.notify("SUBSCRIPTIONS_CREATE", **subscription(number))
    await bound.until(lambda: bound.status.current)
    assert set(bound.rows.subscriptions) == {1, *range(10, 17)}


async def test_what_is_missing_is_asked_for_again(following: Following) -> None:
    following.apim.fault("subscriptions", Fault(status=401, times=3))
    await following.until(lambda: following.status.pulls)
    assert following.state.pulled_at > 0
    assert "control_plane.password" in following.status.problems[0].hint
    await following.bind()
    assert set(following.rows.subscriptions) == {1}
    assert following.status.problems == ()


async def test_a_wrong_password_changes_nothing(bound: Following) -> None:
    before = bound.state
    bound.apim.password = "another"
    bound.follower.lost("gone")
    await bound.follower.bound()
    await bound.until(lambda: bound.status.pull_failures)
    assert bound.state is before
    assert "refuses the user or the password" in bound.status.pull_error
    bound.apim.password = "admin"
    await bound.until(lambda: bound.status.current)


async def test_hostile_messages(bound: Following, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "trio_gw")
    nested = base64.b64encode(b"[" * 100_000).decode()
    bodies = [b"", b"\xff", b"[" * 100_000, b"{}", payload(eventType="API_UPDATE", event=nested)]
    for _ in range(3):
        for body in bodies:
            await bound.follower.deliver(Delivery("notification", body))
    await bound.follower.deliver(Delivery("\n\x1b[31m" * 100, b"{}"))
    await bound.notify("\x1b[31m")
    assert bound.status.last_event.isprintable()
    await bound.notify("SUBSCRIPTIONS_CREATE", **subscription(2))
    assert set(bound.rows.subscriptions) == {1, 2}
    assert bound.events("other")["malformed"] == 15
    texts = [record.message for record in caplog.records]
    assert len(texts) == len(set(texts)) <= len(bodies)
    assert all(text.isprintable() for text in texts)


async def test_what_has_expired_is_removed(
    apim: FakeApiManager, nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "TIDY", 0.01)
    apim.tables["revokedjwt"] = [{"jwt_signature": "j", "expiry_time": 5}]
    following = Following(apim, tmp_path)
    await following.start(nursery)
    await following.until(lambda: following.status.pulls)
    await following.until(lambda: not following.rows.revoked)


async def test_another_process_starts_from_the_cache(apim: FakeApiManager, tmp_path: Path) -> None:
    async with trio.open_nursery() as first:
        following = Following(apim, tmp_path)
        await following.start(first)
        await following.bind()
        first.cancel_scope.cancel()
    apim.fault("subscriptions", Fault(reset=True, times=-1))
    async with trio.open_nursery() as second:
        following = Following(apim, tmp_path)
        await following.start(second)
        assert set(following.rows.subscriptions) == {1}
        await following.notify("SUBSCRIPTIONS_CREATE", **subscription(2))
        assert set(following.rows.subscriptions) == {1, 2}
        second.cancel_scope.cancel()


async def test_sending_over_the_same_client(bound: Following) -> None:
    await bound.follower.send("PATCH", "apis/deployed-revisions", b"[]")
    assert bound.apim.requests[-1].body == b"[]"
