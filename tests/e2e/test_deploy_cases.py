"""The reference's deployment tests that concern projects, as handshakes
with a running gateway; each is named for its row."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import trio

from support.backends import Backend, start_echo
from support.gateway import start_gateway
from support.projects import api, asyncapi, environments, write

ANY: dict[str, Any] = {"publish": {}}
OPEN: dict[str, Any] = {"publish": {}, "x-auth-type": "None"}


@pytest.fixture
async def backend(nursery: trio.Nursery) -> Backend:
    return await start_echo(nursery)


async def test_d1_folder(nursery: trio.Nursery, base: Path, backend: Backend) -> None:
    write(base / "apis", "pets", api("Pets", "/pets", backend.url), asyncapi({"/*": ANY}))
    gateway = await start_gateway(nursery, base)
    assert await gateway.status("/pets/1.0.0/pet/findByStatus") == 101


@pytest.mark.parametrize("top", ["", "PizzaShack-1.0.0"], ids=["root", "top folder"])
async def test_d2_zip(nursery: trio.Nursery, base: Path, backend: Backend, top: str) -> None:
    aside = write(base, "aside", api("Pets", "/pets", backend.url), asyncapi({"/*": ANY}))
    with zipfile.ZipFile(base / "apis" / "pets.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(aside.rglob("*")):
            packed.write(path, Path(top, path.relative_to(aside)))
    gateway = await start_gateway(nursery, base)
    assert gateway.running.catalog.problems == ()
    assert await gateway.status("/pets/1.0.0/pet/1") == 101


async def test_d5_one_project_on_three_vhosts(
    nursery: trio.Nursery, base: Path, backend: Backend
) -> None:
    meta = api("Pets", "/pets", backend.url)
    project = write(base / "apis", "pets", meta, asyncapi({"/*": ANY}))
    pairs = [("Default", ""), ("Default", "us.wso2.com"), ("Default", "eu.wso2.com")]
    environments(project, *pairs)
    gateway = await start_gateway(nursery, base, strict_vhosts=True)
    for host in ("localhost", "us.wso2.com", "EU.wso2.com:9090"):
        assert await gateway.status("/pets/1.0.0/x", host=host) == 101, host
    assert await gateway.status("/pets/1.0.0/x", host="127.0.0.1") == 404


async def test_d10_several_environments(
    nursery: trio.Nursery, base: Path, backend: Backend
) -> None:
    meta = api("Pets", "/pets", backend.url)
    project = write(base / "apis", "pets", meta, asyncapi({"/*": ANY}))
    pairs = [("US", ""), ("US", "localhost"), ("Default", ""), ("Default", "eu.wso2.com")]
    environments(project, *pairs)
    gateway = await start_gateway(
        nursery,
        base,
        environments=[
            {"name": "Default", "vhost": "localhost"},
            {"name": "US", "vhost": "us.wso2.com"},
        ],
        strict_vhosts=True,
    )
    for host in ("localhost", "us.wso2.com", "eu.wso2.com"):
        assert await gateway.status("/pets/1.0.0/x", host=host) == 101, host
    # Taken off one vhost it stays on the others.
    environments(project, ("US", ""), ("Default", "eu.wso2.com"))
    with trio.fail_after(2):
        await gateway.running.live.wait_changed()
    assert await gateway.status("/pets/1.0.0/x") == 404
    assert await gateway.status("/pets/1.0.0/x", host="eu.wso2.com") == 101


async def test_d11_one_api_twice_told_apart_by_the_host(
    nursery: trio.Nursery, base: Path, backend: Backend
) -> None:
    other = await start_echo(nursery)
    here = api("Pets", "/pets", backend.url)
    here["data"]["endpointConfig"]["sandbox_endpoints"] = {"url": other.url}
    there = api("Pets", "/pets", other.url)
    there["data"]["endpointConfig"]["sandbox_endpoints"] = {"url": backend.url}
    topics = {"/pet/{id}": ANY, "/store": ANY}
    write(base / "apis", "here", here, asyncapi(topics))
    project = write(base / "apis", "there", there, asyncapi({"/pet/{id}": ANY}))
    environments(project, ("Default", "us.wso2.com"))
    gateway = await start_gateway(nursery, base)
    assert gateway.running.catalog.problems == ()
    assert await gateway.status("/pets/1.0.0/pet/1") == 101
    assert (len(backend.requests), len(other.requests)) == (1, 0)
    assert await gateway.status("/pets/1.0.0/pet/1", host="us.wso2.com") == 101
    assert (len(backend.requests), len(other.requests)) == (1, 1)
    assert await gateway.status("/pets/1.0.0/store") == 101
    assert await gateway.status("/pets/1.0.0/store", host="us.wso2.com") == 404


async def test_d12_default_version(nursery: trio.Nursery, base: Path, backend: Backend) -> None:
    first = api("D", "/defaultVersion", backend.url)
    write(base / "apis", "one", first, asyncapi({"/pet/{petId}": ANY}))
    second = api("D", "/defaultVersion", backend.url, version="2.0.0", isDefaultVersion=True)
    write(base / "apis", "two", second, asyncapi({"/store/inventory": ANY}))
    gateway = await start_gateway(nursery, base)
    for path, wanted in {
        "/defaultVersion/store/inventory": 101,
        "/defaultVersion/2.0.0/store/inventory": 101,
        "/defaultVersion/1.0.0/pet/3": 101,
        "/defaultVersion/1.0.0/store/inventory": 404,
    }.items():
        assert await gateway.status(path) == wanted, path


async def test_d13_malformed_endpoint(nursery: trio.Nursery, base: Path, backend: Backend) -> None:
    write(base / "apis", "bad", api("Bad", "/bad", "ws://bad host"), asyncapi({"/*": ANY}))
    write(base / "apis", "good", api("Good", "/good", backend.url), asyncapi({"/*": ANY}))
    gateway = await start_gateway(nursery, base)
    (problem,) = gateway.running.catalog.problems
    assert problem.file == "apis/bad/api.yaml"
    assert problem.line
    assert await gateway.status("/bad/1.0.0/x") == 404
    assert await gateway.status("/good/1.0.0/x") == 101


async def test_d14_trailing_slash(nursery: trio.Nursery, base: Path, backend: Backend) -> None:
    topics = {"/echo-full/chars": OPEN, "/echo-full/with-param/{id}": OPEN, "/slash/": OPEN}
    write(base / "apis", "t", api("T", "/t", backend.url), asyncapi(topics))
    gateway = await start_gateway(nursery, base)
    for path, wanted in {
        "/echo-full/chars": 101,
        "/echo-full/chars/": 101,
        "/echo-full/charsAdditional": 404,
        "/echo-full/with-param/1": 101,
        "/echo-full/with-param/1/": 101,
        "/echo-full/with-param/1/additional": 404,
        "/slash": 101,
        "/slash/": 101,
        "/slash//": 404,
    }.items():
        assert await gateway.status(f"/t/1.0.0{path}", token="") == wanted, path


async def test_d15_options(nursery: trio.Nursery, base: Path, backend: Backend) -> None:
    write(base / "apis", "t", api("T", "/t", backend.url), asyncapi({"/": ANY, "/test": ANY}))
    gateway = await start_gateway(nursery, base)
    for path in ("/t/1.0.0", "/t/1.0.0/", "/t/1.0.0/test"):
        answer = await gateway.get(path, method="OPTIONS")
        assert (answer.status, answer.headers["allow"]) == (204, "OPTIONS, GET")


async def test_d16_endpoint_without_a_path(
    nursery: trio.Nursery, base: Path, backend: Backend
) -> None:
    topics = {"/no-basepath": OPEN}
    write(base / "apis", "t", api("T", "/t", backend.url), asyncapi(topics))
    gateway = await start_gateway(nursery, base)
    for path in ("/t/1.0.0/no-basepath", "/t/1.0.0/no-basepath/"):
        assert await gateway.status(path, token="") == 101
        assert backend.requests[-1].path == "/"


async def test_d18_health(nursery: trio.Nursery, base: Path) -> None:
    gateway = await start_gateway(nursery, base)
    assert (await gateway.get("/health")).body == b'{"status": "healthy"}'
