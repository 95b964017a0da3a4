"""The client of API Manager's REST interface, against a server over TLS."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import trio

from support.apim import FakeApiManager, Fault, start_apim
from trio_gw.config.control_plane import ControlPlaneSettings
from trio_gw.control_plane import rest_client
from trio_gw.control_plane.requirements import tls_context
from trio_gw.control_plane.rest_client import RestClient
from trio_gw.control_plane.rest_faults import Kind, RestError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def apim(nursery: trio.Nursery) -> FakeApiManager:
    return await start_apim(nursery)


def made(apim: FakeApiManager, folder: Path, **more: Any) -> RestClient:
    settings = ControlPlaneSettings(**apim.settings(folder, **more))
    return RestClient(settings, tls_context(settings, folder))


@pytest.fixture
async def client(apim: FakeApiManager, tmp_path: Path) -> AsyncIterator[RestClient]:
    async with made(apim, tmp_path, retry_interval=0.01) as client:
        yield client


async def test_a_table(apim: FakeApiManager, client: RestClient) -> None:
    apim.tables["subscriptions"] = [{"subscriptionId": 1}]
    assert json.loads(await client.json("subscriptions")) == {"list": [{"subscriptionId": 1}]}
    (request,) = apim.requests
    assert (request.method, request.path, request.user) == ("GET", "subscriptions", "admin")
    assert request.headers["accept-encoding"] == "identity"


async def test_an_address_without_a_slash_at_its_end(apim: FakeApiManager, tmp_path: Path) -> None:
    url = apim.url.rstrip("/")
    async with made(apim, tmp_path, url=url) as client:
        await client.json("applications")
    assert apim.paths() == ["applications"]


async def test_labels_are_encoded(apim: FakeApiManager, client: RestClient) -> None:
    await client.json("apis", {"gatewayLabel": "Ä&b=c +", "context": "/a/1"})
    assert apim.requests[0].query == {"gatewayLabel": "Ä&b=c +", "context": "/a/1"}


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        (Fault(status=401), Kind.REFUSED, "refuses the user or the password (401)"),
        (Fault(status=403), Kind.REFUSED, "refuses the user or the password (403)"),
        (Fault(status=404), Kind.WRONG, "answers 404"),
        (Fault(status=302, headers=(("location", "/x"),)), Kind.WRONG, "a redirect"),
        (Fault(status=429), Kind.FAILED, "answers 429"),
        (Fault(status=503), Kind.FAILED, "answers 503"),
        (Fault(reset=True), Kind.UNREACHABLE, "cannot be reached"),
        (Fault(cut=True), Kind.UNREACHABLE, "cannot be reached"),
        (Fault(headers=(("content-encoding", "gzip"),)), Kind.WRONG, "compressed"),
    ],
)
async def test_answers_that_cannot_be_used(
    apim: FakeApiManager, client: RestClient, fault: Fault, kind: Kind, text: str
) -> None:
    apim.fault("block", fault)
    with pytest.raises(RestError) as caught:
        await client.json("block")
    assert caught.value.kind is kind
    assert text in str(caught.value)
    await client.json("block")
    assert client.faults.lasting() == ()


async def test_an_answer_that_is_too_large(
    apim: FakeApiManager, client: RestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest_client, "MAX_JSON", 1 << 20)
    apim.fault("block", Fault(huge=1 << 23))
    with pytest.raises(RestError, match="more than 1 MiB"):
        await client.json("block")


async def test_an_answer_that_does_not_come(apim: FakeApiManager, tmp_path: Path) -> None:
    apim.fault("block", Fault(gate=trio.Event()))
    async with made(apim, tmp_path, request_timeout=0.05) as client:
        with pytest.raises(RestError, match=r"has not answered within 0\.05 seconds"):
            await client.json("block")


async def test_a_server_that_is_not_trusted(apim: FakeApiManager, tmp_path: Path) -> None:
    async with made(apim, tmp_path, ca="") as client:
        with pytest.raises(RestError, match="cannot be reached") as caught:
            await client.json("block")
    assert caught.value.temporary
    async with made(apim, tmp_path, ca="", insecure_skip_verify=True) as client:
        await client.json("block")


async def test_another_name_than_the_certificate_has(apim: FakeApiManager, tmp_path: Path) -> None:
    url = f"https://127.0.0.2:{apim.port}/"
    async with made(apim, tmp_path, url=url) as client:
        with pytest.raises(RestError, match="cannot be reached"):
            await client.json("block")


async def test_temporary_faults_are_retried(apim: FakeApiManager, client: RestClient) -> None:
    apim.fault("block", Fault(status=500), Fault(reset=True), Fault(cut=True), Fault(status=503))
    await client.patiently(lambda: client.json("block"))
    assert len(apim.requests) == 5


@pytest.mark.parametrize("refusals", [0, 1])
async def test_a_refusal_is_raised_soon(
    apim: FakeApiManager, client: RestClient, refusals: int
) -> None:
    apim.fault("block", Fault(status=401, times=2))
    with pytest.raises(RestError):
        await client.patiently(lambda: client.json("block"), refusals=refusals)
    assert len(apim.requests) == 1 + refusals


async def test_a_fault_is_raised_when_others_are_answered(
    apim: FakeApiManager, client: RestClient
) -> None:
    apim.fault("block", Fault(status=500, times=-1))
    with pytest.raises(RestError, match="answers 500"):
        await client.patiently(lambda: client.json("block"), others=lambda: True)
    assert len(apim.requests) == rest_client.TRIES


async def test_pauses_grow_up_to_a_limit(autojump_clock: object) -> None:
    del autojump_clock
    pauses = rest_client.Pauses(1, 8)
    lengths = []
    for _ in range(6):
        began = trio.current_time()
        await pauses.wait(trio.Event())
        lengths.append(trio.current_time() - began)
    for length, nominal in zip(lengths, [1, 2, 4, 8, 8, 8], strict=True):
        assert 0.75 * nominal <= length <= 1.25 * nominal
    pauses.reset()
    began = trio.current_time()
    await pauses.wait(trio.Event())
    assert trio.current_time() - began <= 1.25


async def test_a_pause_ends_when_the_server_is_believed_to_be_back(
    nursery: trio.Nursery, apim: FakeApiManager, tmp_path: Path
) -> None:
    apim.fault("block", Fault(status=503))
    async with made(apim, tmp_path, retry_interval=3600) as client:
        nursery.start_soon(client.patiently, lambda: client.json("block"))
        await apim.wait_requests("block", 1)
        while len(apim.requests) < 2:
            client.hurry()
            await trio.lowlevel.checkpoint()
    assert apim.paths() == ["block", "block"]


async def test_the_log_has_the_beginning_and_the_end_of_an_outage(
    apim: FakeApiManager, client: RestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trio_gw")
    names = ("block", "applications", "subscriptions")
    for name in names:
        apim.fault(name, Fault(reset=True, times=2))
    for name in names * 2:
        with contextlib.suppress(RestError):
            await client.json(name)
    for name in names:
        await client.json(name)
    said = [(record.levelname, record.message) for record in caplog.records]
    assert [level for level, _ in said] == ["WARNING", "INFO"]
    assert "check control_plane.url; retrying" in said[0][1]
    assert said[1][1] == f"API Manager {apim.url} answers again"


async def test_a_wrong_password_is_logged_once_and_without_it(
    apim: FakeApiManager, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trio_gw")
    async with made(apim, tmp_path, password="not-the-password") as client:
        for name in ("block", "applications"):
            with pytest.raises(RestError):
                await client.json(name)
        apim.password = "not-the-password"
        for name in ("block", "applications"):
            await client.json(name)
        assert "not-the-password" not in repr(client)
    said = [record.message for record in caplog.records]
    assert len(said) == 2
    assert "control_plane.password" in said[0]
    assert "accepts the password again" in said[1]
    assert "not-the-password" not in caplog.text


async def test_artifacts_are_written_to_a_file(apim: FakeApiManager, client: RestClient) -> None:
    apim.seed("ws://127.0.0.1:9")
    query = {"type": "Envoy", "gatewayLabel": "RGVmYXVsdA=="}
    file = io.BytesIO()
    assert await client.download("runtime-artifacts", query, file) == 200
    assert file.getvalue().startswith(b"PK")


@pytest.mark.parametrize("status", [404, 204])
async def test_no_artifacts(apim: FakeApiManager, client: RestClient, status: int) -> None:
    apim.none_found = status
    query = {"type": "Envoy", "gatewayLabel": "RGVmYXVsdA=="}
    file = io.BytesIO()
    assert await client.download("runtime-artifacts", query, file) == status
    assert file.getvalue() == b""


async def test_a_404_of_another_kind(apim: FakeApiManager, client: RestClient) -> None:
    apim.fault("runtime-artifacts", Fault(status=404))
    with pytest.raises(RestError, match="answers 404"):
        await client.download("runtime-artifacts", {}, io.BytesIO())


async def test_artifacts_that_are_too_large(
    apim: FakeApiManager, client: RestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest_client, "MAX_ZIP", 1 << 20)
    apim.fault("runtime-artifacts", Fault(huge=1 << 22))
    file = io.BytesIO()
    with pytest.raises(RestError, match="more than 1 MiB"):
        await client.download("runtime-artifacts", {}, file)
    assert len(file.getvalue()) <= 1 << 20


async def test_sending(apim: FakeApiManager, client: RestClient) -> None:
    await client.send("PATCH", "apis/deployed-revisions", b"[]")
    (request,) = apim.requests
    assert (request.method, request.body) == ("PATCH", b"[]")
    assert request.headers["content-type"] == "application/json"
    with pytest.raises(RestError, match="answers 404"):
        await client.send("POST", "apis/deployed-revisions", b"[]")
