"""The pull: everything that API Manager holds, and what it does about answers of no use."""

from __future__ import annotations

import base64
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
import trio

from support.apim import FakeApiManager, Fault, policy, start_apim
from trio_gw.config.control_plane import ControlPlaneSettings
from trio_gw.config.entitlements import BlockRow, PolicyRow, RevokedRow, difference
from trio_gw.control_plane import artifacts, rest_client
from trio_gw.control_plane.artifact_folder import ArtifactFolder
from trio_gw.control_plane.pull import Pulled, pull, pull_api, pull_policies
from trio_gw.control_plane.requirements import tls_context
from trio_gw.control_plane.rest_client import RestClient
from trio_gw.control_plane.rest_faults import RestError
from trio_gw.control_plane.state import EMPTY_STATE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

A = "6c1f0e2e-0001-4c5e-9a10-000000000001"
B = "6c1f0e2e-0001-4c5e-9a10-000000000002"
ALL = {
    *("subscriptions", "applications", "application-key-mappings", "application-policies"),
    *("subscription-policies", "api-policies", "apis", "runtime-artifacts", "revokedjwt"),
    *("keymanagers", "keyTemplates", "block"),
}


class Puller:
    """A client of one fake, and what it has kept."""

    def __init__(self, client: RestClient, settings: ControlPlaneSettings, folder: Path) -> None:
        self.client = client
        self.settings = settings
        self.store = ArtifactFolder(folder)

    async def pull(self) -> Pulled:
        with trio.fail_after(60):
            return await pull(self.client, self.settings, self.store)


@pytest.fixture
async def apim(nursery: trio.Nursery) -> FakeApiManager:
    fake = await start_apim(nursery)
    fake.seed("ws://127.0.0.1:9", A)
    return fake


@pytest.fixture
async def puller(apim: FakeApiManager, tmp_path: Path) -> AsyncIterator[Puller]:
    async with made(apim, tmp_path) as client:
        yield Puller(client, settings_of(apim, tmp_path), tmp_path / "kept")


def settings_of(apim: FakeApiManager, folder: Path, **more: Any) -> ControlPlaneSettings:
    return ControlPlaneSettings(**{**apim.settings(folder, retry_interval=0.01), **more})


def made(apim: FakeApiManager, folder: Path, **more: Any) -> RestClient:
    settings = settings_of(apim, folder, **more)
    return RestClient(settings, tls_context(settings, folder))


async def test_everything(apim: FakeApiManager, puller: Puller) -> None:
    apim.tables["api-policies"] = [policy(9, "10K", "requestCount", 10_000)]
    apim.tables["revokedjwt"] = [{"jwt_signature": "j", "expiry_time": 5}]
    apim.tables["keyTemplates"] = ["$userId"]
    apim.block["api"] = ["/chat/1.0.0"]
    apim.add_key_manager(b"-----BEGIN CERTIFICATE-----", "https://am")
    pulled = await puller.pull()
    assert (pulled.problems, pulled.missing, pulled.useless) == ((), frozenset(), False)
    rows = pulled.entitlements
    assert list(rows.subscribed) == [("app-uuid-2", A)]
    assert rows.policies[("api", 9)] == PolicyRow("api", 9, "10K", "requestCount", 10_000, 60)
    assert rows.apis[A].labels == ("Default",)
    assert rows.revoked["j"] == RevokedRow("j", 5)
    assert list(rows.blocks.values()) == [BlockRow("api", "/chat/1.0.0")]
    assert list(rows.key_templates) == ["$userId"]
    assert [each.issuer for each in rows.key_managers.values()] == ["https://am"]
    (artifact,) = pulled.artifacts
    assert (artifact.uuid, artifact.revision) == (A, "r1")
    assert artifact.placements == (("Default", "localhost"),)
    assert puller.store.read(artifact.digest) == apim.deployments[0].zipped()
    assert set(apim.paths()) == ALL
    assert len(apim.paths()) == len(ALL)
    assert {request.user for request in apim.requests} == {"admin"}


async def test_the_labels(apim: FakeApiManager, tmp_path: Path) -> None:
    apim.deploy(B, ("Edge", "edge"), ("Elsewhere", "far"), name="Edge", context="/edge")
    apim.api(A)["labels"] |= {"Edge"}
    settings = settings_of(apim, tmp_path, environments=("Default", "Edge"))
    async with RestClient(settings, tls_context(settings, tmp_path)) as client:
        pulled = await Puller(client, settings, tmp_path / "kept").pull()
    asked = {request.query.get("gatewayLabel") for request in apim.requests}
    assert asked == {None, "Default", "Edge", base64.b64encode(b"Default|Edge").decode()}
    assert pulled.entitlements.apis[A].labels == ("Default", "Edge")
    assert pulled.entitlements.apis[B].labels == ("Edge",)
    assert [each.placements for each in pulled.artifacts] == [
        (("Default", "localhost"),),
        (("Edge", "edge"),),
    ]


@pytest.mark.parametrize("status", [404, 204])
async def test_nothing_is_deployed(apim: FakeApiManager, puller: Puller, status: int) -> None:
    apim.undeploy(A)
    apim.none_found = status
    pulled = await puller.pull()
    assert (pulled.artifacts, pulled.problems, pulled.missing) == ((), (), frozenset())
    state = pulled.merged(EMPTY_STATE)
    assert (len(state.artifacts), state.pulled_at > 0) == (0, True)


async def test_temporary_faults_delay_the_pull(apim: FakeApiManager, puller: Puller) -> None:
    for name in ALL:
        apim.fault(name, Fault(status=503), Fault(reset=True), Fault(cut=True))
    apim.tables["api-policies"] = [policy(9, "10K", "requestCount", 10_000)]
    pulled = await puller.pull()
    assert (pulled.missing, pulled.problems) == (frozenset(), ())
    assert len(pulled.artifacts) == 1
    assert ("api", 9) in pulled.entitlements.policies


@pytest.mark.parametrize("name", ["block", "runtime-artifacts"])
async def test_one_request_that_always_fails_does_not_hold_up_the_others(
    apim: FakeApiManager, puller: Puller, name: str
) -> None:
    apim.fault(name, Fault(status=500, times=-1))
    pulled = await puller.pull()
    assert pulled.missing == {name}
    assert "answers 500" in pulled.problems[0].what
    assert len(pulled.entitlements.subscriptions) == 1
    assert apim.paths().count(name) >= rest_client.TRIES


async def test_without_artifacts_there_was_no_pull_yet(
    apim: FakeApiManager, puller: Puller
) -> None:
    complete = (await puller.pull()).merged(EMPTY_STATE)
    apim.fault("runtime-artifacts", Fault(status=400, times=-1))
    pulled = await puller.pull()
    assert pulled.merged(EMPTY_STATE).pulled_at == 0
    assert pulled.merged(complete).pulled_at > 0


async def test_without_a_temporary_folder(
    puller: Puller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    pulled = await puller.pull()
    assert pulled.missing == {"runtime-artifacts"}
    assert "cannot be kept" in pulled.problems[0].what


@pytest.mark.parametrize(
    "fault", [Fault(status=401), Fault(status=400), Fault(body=b"{"), Fault(body=b'"x"')]
)
async def test_a_wrong_answer_is_tried_again(
    apim: FakeApiManager, puller: Puller, fault: Fault
) -> None:
    for name in ALL - {"api-policies"}:
        apim.fault(name, Fault(status=fault.status, body=fault.body))
    pulled = await puller.pull()
    assert (pulled.missing, pulled.problems) == (frozenset(), ())
    assert len(apim.paths()) == 2 * len(ALL) - 1


@pytest.mark.parametrize("name", sorted(ALL - {"api-policies"}))
async def test_what_is_refused_is_missing_and_the_current_one_stays(
    apim: FakeApiManager, puller: Puller, name: str
) -> None:
    apim.tables["revokedjwt"] = [{"jwt_signature": "j", "expiry_time": 5}]
    apim.tables["keyTemplates"] = ["$userId"]
    apim.block["api"] = ["/chat/1.0.0"]
    apim.add_key_manager(b"-----BEGIN CERTIFICATE-----", "https://am")
    before = (await puller.pull()).merged(EMPTY_STATE)
    apim.fault(name, Fault(status=403, times=-1))
    pulled = await puller.pull()
    assert pulled.missing == {name}
    (problem,) = pulled.problems
    assert problem.file == f"{apim.url}: {name}"
    assert "403" in problem.what
    assert "control_plane.password" in problem.hint
    after = pulled.merged(before)
    assert not difference(before.entitlements, after.entitlements)
    assert dict(before.artifacts) == dict(after.artifacts)


async def test_policies_of_apis_may_be_absent(apim: FakeApiManager, puller: Puller) -> None:
    apim.tables["api-policies"] = [policy(9, "10K", "requestCount", 10_000)]
    before = (await puller.pull()).merged(EMPTY_STATE)
    apim.fault("api-policies", Fault(status=404, times=-1))
    apim.tables["subscription-policies"].pop()
    pulled = await puller.pull()
    assert (pulled.problems, pulled.useless) == ((), False)
    after = pulled.merged(before).entitlements
    assert set(before.entitlements.policies) - set(after.policies) == {("subscription", 2)}


async def test_a_wrong_password_gives_nothing(apim: FakeApiManager, puller: Puller) -> None:
    apim.password = "another"
    pulled = await puller.pull()
    assert pulled.useless
    assert len(apim.paths()) <= 2 * len(ALL)


async def test_broken_rows_are_counted(apim: FakeApiManager, puller: Puller) -> None:
    apim.tables["subscriptions"] += [{}, {"subscriptionId": "x"}]
    pulled = await puller.pull()
    assert len(pulled.entitlements.subscriptions) == 1
    (problem,) = pulled.problems
    assert problem.what.startswith("2 of its rows are skipped, the first because")
    assert problem.severity == "warning"


async def test_a_broken_api_is_named_and_keeps_its_last_revision(
    apim: FakeApiManager, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    apim.deploy(B, name="Good", context="/good")
    before = (await puller.pull()).merged(EMPTY_STATE)
    monkeypatch.setattr(artifacts, "MAX_PROJECT", 1 << 16)
    apim.deploy(A, revision="r2", raw=bytes(1 << 17))
    pulled = await puller.pull()
    (problem,) = pulled.problems
    assert problem.file == "Chat 1.0.0"
    assert pulled.broken == {A}
    after = pulled.merged(before)
    assert after.artifacts[A] == before.artifacts[A]
    assert len(after.artifacts[B]) == 1


async def test_a_zip_that_is_cut_without_notice(apim: FakeApiManager, puller: Puller) -> None:
    apim.fault("runtime-artifacts", Fault(body=b"PK\3\4 and no more", times=-1))
    pulled = await puller.pull()
    assert pulled.missing == {"runtime-artifacts"}
    assert "has sent what cannot be used" in pulled.problems[0].what


async def test_a_store_that_cannot_write(
    apim: FakeApiManager, puller: Puller, tmp_path: Path
) -> None:
    (tmp_path / "kept").write_text("a file where a folder should be")
    pulled = await puller.pull()
    assert pulled.missing == {"runtime-artifacts"}
    assert "cannot be kept" in pulled.problems[0].what
    assert apim.paths().count("runtime-artifacts") == 2


async def test_one_api(apim: FakeApiManager, puller: Puller) -> None:
    apim.deploy(B, name="Other", context="/other")
    found = await pull_api(puller.client, puller.settings, puller.store, B, ("Default",))
    assert [each.uuid for each in found.artifacts] == [B]
    assert found.row is not None
    assert (found.row.name, found.row.labels) == ("Other", ("Default",))
    assert sorted(apim.paths()) == ["apis", "runtime-artifacts"]
    request = next(each for each in apim.requests if each.path == "runtime-artifacts")
    assert request.query == {"type": "Envoy", "gatewayLabel": "RGVmYXVsdA==", "apiId": B}


async def test_one_api_that_is_not_deployed(apim: FakeApiManager, puller: Puller) -> None:
    del apim
    found = await pull_api(puller.client, puller.settings, puller.store, B, ("Default",))
    assert found == ((), None, (), False)


async def test_one_api_that_is_refused(apim: FakeApiManager, puller: Puller) -> None:
    apim.fault("apis", Fault(status=400, times=-1))
    with pytest.raises(RestError, match="answers 400"):
        await pull_api(puller.client, puller.settings, puller.store, A, ("Default",))


async def test_the_policies_of_a_level(apim: FakeApiManager, puller: Puller) -> None:
    rows = await pull_policies(puller.client, puller.settings, puller.store, "subscription")
    assert [row.name for row in rows] == ["Unlimited", "AsyncGold"]
    assert apim.paths() == ["subscription-policies"]
