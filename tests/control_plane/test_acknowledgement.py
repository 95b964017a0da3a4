"""API Manager is told which revisions are served (scenario 23 of the reference's spec)."""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from support.apim import FakeApiManager, Fault, project_files, start_apim, zipped
from trio_gw.config.control_plane import ControlPlaneSettings
from trio_gw.config.entitlements import NOTHING
from trio_gw.control_plane import acknowledgement
from trio_gw.control_plane.acknowledgement import (
    BATCH,
    DEPLOYED,
    UNDEPLOYED,
    Acknowledgements,
    revision_number,
)
from trio_gw.control_plane.requirements import tls_context
from trio_gw.control_plane.rest_client import RestClient
from trio_gw.control_plane.state import Artifact, state_of
from trio_gw.control_plane.status import QueueStatus
from trio_gw.errors import UnusableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from trio_gw.control_plane.state import ControlPlaneState

DEFAULT = ("Default", "localhost")


class Sender:
    """Acknowledgements that run against a fake, with zips in memory."""

    def __init__(self, client: RestClient, apim: FakeApiManager) -> None:
        self.apim = apim
        self.queue = QueueStatus()
        self.zips: dict[str, bytes] = {}
        self.acknowledgements = Acknowledgements(client.send, self.read, self.queue)

    def read(self, digest: str) -> bytes:
        if digest not in self.zips:
            raise FileNotFoundError(2, "missing", digest)
        return self.zips[digest]

    def artifact(
        self, uuid: str, *placements: tuple[str, str], number: Any = 1, revision: str = "r1"
    ) -> Artifact:
        data = zipped(project_files(uuid, revisionId=number))
        digest = hashlib.sha256(data).hexdigest()
        self.zips[digest] = data
        return Artifact(uuid, revision, digest, placements or (DEFAULT,))

    def serve(self, *artifacts: Artifact, unserved: tuple[str, ...] = ()) -> None:
        self.acknowledgements.update(served(*artifacts), unserved)

    async def requests(self, path: str, count: int) -> list[Any]:
        found = await self.apim.wait_requests(path, count)
        return [(request.method, json.loads(request.body)) for request in found]

    async def settled(self) -> None:
        with trio.fail_after(20):
            await trio.testing.wait_all_tasks_blocked(0.05)
            while self.queue.waiting:
                await trio.testing.wait_all_tasks_blocked(0.01)


def served(*artifacts: Artifact) -> ControlPlaneState:
    return state_of(NOTHING, artifacts, time.time() + 1)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acknowledgement, "PAUSE", 0.01)


@pytest.fixture
async def sender(nursery: trio.Nursery, tmp_path: Path) -> AsyncIterator[Sender]:
    apim = await start_apim(nursery)
    settings = ControlPlaneSettings(**apim.settings(tmp_path))
    async with RestClient(settings, tls_context(settings, tmp_path)) as client:
        sender = Sender(client, apim)
        async with trio.open_nursery() as running:
            running.start_soon(sender.acknowledgements.run)
            yield sender
            running.cancel_scope.cancel()


async def test_a_deployed_revision(sender: Sender) -> None:
    sender.serve(sender.artifact("a", number=3))
    ((method, body),) = await sender.requests(DEPLOYED, 1)
    assert method == "PATCH"
    assert body == [
        {"apiId": "a", "revisionId": 3, "envInfo": [{"name": "Default", "vhost": "localhost"}]}
    ]
    assert sender.apim.requests[0].headers["content-type"] == "application/json"
    await sender.settled()
    assert sender.queue == QueueStatus()


async def test_several_apis_in_one_message_and_each_vhost_apart(sender: Sender) -> None:
    places = (DEFAULT, ("Edge", "localhost"), ("EU", "eu.example"))
    sender.serve(sender.artifact("a", *places), sender.artifact("b", number="7"))
    ((_, body),) = await sender.requests(DEPLOYED, 1)
    assert [(one["apiId"], one["revisionId"], one["envInfo"]) for one in body] == [
        ("a", 1, [{"name": name, "vhost": "localhost"} for name in ("Default", "Edge")]),
        ("a", 1, [{"name": "EU", "vhost": "eu.example"}]),
        ("b", 7, [{"name": "Default", "vhost": "localhost"}]),
    ]


async def test_only_what_is_new_is_told(sender: Sender) -> None:
    first = sender.artifact("a")
    sender.serve(first)
    await sender.requests(DEPLOYED, 1)
    sender.serve(first)
    sender.serve(first, sender.artifact("b"))
    found = await sender.requests(DEPLOYED, 2)
    assert [one["apiId"] for one in found[1][1]] == ["b"]
    sender.serve(sender.artifact("a", number=2, revision="r2"), sender.artifact("b"))
    found = await sender.requests(DEPLOYED, 3)
    assert [(one["apiId"], one["revisionId"]) for one in found[2][1]] == [("a", 2)]
    await sender.settled()
    # A revision that replaces another is not an undeployment.
    assert UNDEPLOYED not in sender.apim.paths()


async def test_an_undeployed_revision(sender: Sender) -> None:
    sender.serve(sender.artifact("a", DEFAULT, ("Edge", "localhost"), revision="r9"))
    await sender.requests(DEPLOYED, 1)
    sender.serve()
    found = await sender.requests(UNDEPLOYED, 2)
    assert [method for method, _ in found] == ["POST", "POST"]
    assert [body for _, body in found] == [
        {"apiUUID": "a", "revisionUUID": "r9", "environment": name} for name in ("Default", "Edge")
    ]


async def test_an_environment_that_is_left(sender: Sender) -> None:
    sender.serve(sender.artifact("a", DEFAULT, ("Edge", "localhost")))
    await sender.requests(DEPLOYED, 1)
    sender.serve(sender.artifact("a", DEFAULT))
    ((_, body),) = await sender.requests(UNDEPLOYED, 1)
    assert body["environment"] == "Edge"


async def test_what_is_not_served_is_not_acknowledged(sender: Sender) -> None:
    broken, good = sender.artifact("a"), sender.artifact("b")
    sender.serve(broken, good, unserved=("a",))
    ((_, body),) = await sender.requests(DEPLOYED, 1)
    assert [one["apiId"] for one in body] == ["b"]
    sender.serve(broken, good)
    found = await sender.requests(DEPLOYED, 2)
    assert [one["apiId"] for one in found[1][1]] == ["a"]
    # A broken revision replaces it: the good one is served on, so nothing is undeployed.
    sender.serve(sender.artifact("a", number=2), good, unserved=("a",))
    await sender.settled()
    assert len(sender.apim.requests) == 2


async def test_with_errors_there_are_exactly_three_attempts(
    sender: Sender, caplog: pytest.LogCaptureFixture
) -> None:
    sender.apim.fault(DEPLOYED, Fault(times=3, status=500))
    sender.apim.fault(UNDEPLOYED, Fault(times=-1, status=404))
    sender.serve(sender.artifact("a"))
    await sender.requests(DEPLOYED, 3)
    sender.serve(sender.artifact("b"))
    await sender.requests(DEPLOYED, 4)
    await sender.requests(UNDEPLOYED, 3)
    await sender.settled()
    assert sender.apim.paths() == [DEPLOYED] * 4 + [UNDEPLOYED] * 3
    assert (sender.queue.waiting, sender.queue.dropped) == (0, 2)
    given_up = [one for one in caplog.messages if "given up after 3 attempts" in one]
    assert len(given_up) == 2


async def test_the_third_attempt_may_do(sender: Sender) -> None:
    sender.apim.fault(DEPLOYED, Fault(status=503), Fault(reset=True))
    sender.serve(sender.artifact("a"))
    await sender.requests(DEPLOYED, 3)
    await sender.settled()
    assert (sender.queue.waiting, sender.queue.dropped) == (0, 0)


async def test_changes_while_a_message_is_under_way(sender: Sender) -> None:
    """They wait as one difference, however many there are."""
    gate = trio.Event()
    sender.apim.fault(DEPLOYED, Fault(gate=gate))
    sender.serve(sender.artifact("a"))
    await sender.requests(DEPLOYED, 1)
    for number in range(2, 50):
        sender.serve(sender.artifact("a", number=number))
    gate.set()
    found = await sender.requests(DEPLOYED, 2)
    assert [one["revisionId"] for one in found[1][1]] == [49]


async def test_many_apis_go_in_several_messages(sender: Sender) -> None:
    sender.serve(*(sender.artifact(f"api-{number}") for number in range(BATCH + 1)))
    found = await sender.requests(DEPLOYED, 2)
    assert [len(body) for _, body in found] == [BATCH, 1]


async def test_a_state_of_an_earlier_run_is_not_acknowledged(sender: Sender) -> None:
    sender.acknowledgements.update(state_of(NOTHING, [sender.artifact("a")], time.time() - 60))
    await sender.settled()
    assert sender.apim.requests == []


@pytest.mark.parametrize("number", [None, "x", -1, 1.5, True, 2**31, "9" * 50])
async def test_a_revision_without_a_number_is_left_out(sender: Sender, number: Any) -> None:
    sender.serve(sender.artifact("a", number=number), sender.artifact("b"))
    ((_, body),) = await sender.requests(DEPLOYED, 1)
    assert [one["apiId"] for one in body] == ["b"]
    assert sender.queue.dropped == 1


async def test_a_zip_that_is_gone_is_left_out(sender: Sender) -> None:
    gone = sender.artifact("a")
    sender.zips.clear()
    sender.serve(gone, sender.artifact("b"))
    ((_, body),) = await sender.requests(DEPLOYED, 1)
    assert [one["apiId"] for one in body] == ["b"]


@pytest.mark.parametrize(
    "data",
    [b"", b"PK", zipped({}), zipped({"a/readme": b"x"}), zipped({"a/api.yaml": b"- x"}),
     zipped({"a/api.yaml": b"data: [1]"}), zipped({"a/api.yaml": b"data: {revisionId: [1]}"})],
)  # fmt: skip
def test_what_has_no_number(data: bytes) -> None:
    with pytest.raises((ValueError, UnusableError)):
        revision_number(data)


def test_the_number_is_that_of_the_project_itself() -> None:
    deeper = zipped({"a/api.yaml": b"data: {revisionId: 4}", "a/b/api.yaml": b"data: {}"})
    assert revision_number(deeper) == 4
