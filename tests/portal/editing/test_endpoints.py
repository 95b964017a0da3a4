"""Making, checking, changing and probing projects over HTTP, and keeping drafts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.backends import start_echo
from support.gateway import start_gateway
from support.portal_client import USERS, portal_client
from support.secrets import secret

if TYPE_CHECKING:
    import trio

    from support.portal_client import PortalClient

SAMPLE = Path(__file__).parents[3] / "apis/Echo-1.0.0"
PASSWORD = secret("eo4Ahqu9")
URLS: list[str] = []  # that of the backend
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


async def asked(client: PortalClient, path: str, body: object, status: int = 200) -> Any:
    answer = await client.send("POST", f"/api{path}", body)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_the_editor_over_http(nursery: trio.Nursery, tmp_path: Path) -> None:
    """One gateway for all: it is what takes the time."""
    (tmp_path / "apis").mkdir()
    shutil.copytree(SAMPLE, tmp_path / "apis/Echo-1.0.0")
    path = tmp_path / "apis/Echo-1.0.0/api.yaml"
    basic = f"type: BASIC, username: u, password: {PASSWORD}"
    backend = await start_echo(nursery)
    URLS[:] = [backend.url]
    path.write_text(
        _sample()["api.yaml"]
        + f"    endpoint_security:\n      production: {{enabled: true, {basic}}}\n"
    )
    gateway = await start_gateway(nursery, tmp_path, admin=True, admin_settings={"users": USERS})
    async with portal_client(gateway, "pub") as pub:
        await _make(pub, backend.url)
        await _check(gateway, pub)
        await _edit(pub)
        await _drafts(gateway, pub, tmp_path)
        await _probe(pub, backend.url, tmp_path)
        await _deploy(gateway, pub)
    async with portal_client(gateway, "con") as con:
        for method, where in (
            *(("POST", f"/api/{name}") for name in ("projects", "check", "edit", "probe")),
            *((each, "/api/drafts/x") for each in ("GET", "PUT", "DELETE")),
        ):
            assert (await con.send(method, where, {})).status_code == 403, where


async def _make(pub: PortalClient, backend: str) -> None:
    made = await asked(pub, "/projects", {"from": "backend", "backend": backend, "topics": []})
    assert (made["name"], made["context"], made["version"]) == ("MyApi", "/my-api", "1.0.0")
    assert (made["topics"], made["problems"]) == (["/*"], [])
    assert sorted(made["files"]) == ["Definitions/asyncapi.yaml", "api.yaml"]
    text = "# mine\nasyncapi: 2.6.0\ninfo: {title: T}\nchannels: {/a: {publish: {}}}\n"
    given = {"from": "asyncapi", "text": text, "backend": backend}
    made = await asked(pub, "/projects", given)
    assert made["topics"] == ["/a"]
    assert made["files"]["Definitions/asyncapi.yaml"].startswith("# mine")
    for body, field in (
        ({"from": "backend", "backend": "ftp://h"}, "backend"),
        ({"from": "nothing", "name": "X"}, "backend"),
        ({"from": "backend", "backend": "ws://h", "topics": ["x"]}, "topics"),
        ({"from": "backend", "backend": "ws://h", "context": "x"}, "context"),
        ({"from": "backend", "backend": "ws://h", "version": "1 2"}, "version"),
        ({"from": "asyncapi", "text": "openapi: 3.0.0"}, "text"),
        ({"from": "asyncapi", "text": BOMB}, "text"),
        ({"from": "asyncapi", "text": "a: " + "[" * 70}, "text"),
        ({"from": "asyncapi", "text": "asyncapi: 2.6.0\ninfo: {title: T}"}, "backend"),
    ):
        found = await asked(pub, "/projects", body, 422)
        assert found["field"] == field, found
    assert (await pub.send("POST", "/api/projects", {"from": "x"})).status_code == 422
    large = await pub.send("POST", "/api/projects", {"from": "asyncapi", "text": "x" * (6 << 20)})
    assert large.status_code == 413


def _sample() -> dict[str, str]:
    return {
        name: (SAMPLE / name).read_text().replace("ws://localhost:2360", URLS[0])
        for name in ("api.yaml", "Definitions/asyncapi.yaml")
    }


async def _check(gateway: Any, pub: PortalClient) -> None:
    files = _sample()
    (served,) = [api for _, _, api in gateway.running.live.table.bases()]
    files["api.yaml"] += (
        "    endpoint_security:\n"
        '      production: {enabled: true, type: BASIC, username: u, password: "********"}\n'
    )
    found = await asked(pub, "/check", {"files": files, "api": served.id})
    assert found["good"]
    assert (found["diff"], found["meaning"], found["conflicts"]) == ([], [], [])
    assert found["hosts"] == ["localhost"]
    assert next(row["path"] for row in found["routes"]) == "/echo/1.0.0/plain"
    changed = {**files}
    definition = "Definitions/asyncapi.yaml"
    changed[definition] = files[definition].replace("- echo:admin", "- other")
    changed[definition] = changed[definition].replace("publish: {}", "publish: {x-auth-type: None}")
    async with gateway.connect("/echo/1.0.0/plain", gateway.token()):
        found = await asked(pub, "/check", {"files": changed, "api": served.id})
    assert [(each["kind"], each["topic"], each["grave"]) for each in found["meaning"]] == [
        ("opened", "/plain", True),
        ("scopes", "/admin", False),
    ]
    assert found["connections"] == {"/plain": 1}
    (diff,) = found["diff"]
    assert (diff["path"], diff["added"], diff["removed"]) == (definition, 2, 2)
    # As a new API it is in the way of what is served.
    found = await asked(pub, "/check", {"files": files})
    assert not found["good"] or found["conflicts"]
    for text, line in (("a: [", 1), (BOMB, 0), ("asyncapi: 2.6.0\nchannels:\n  x: {}", 3)):
        found = await asked(pub, "/check", {"files": {**files, definition: text}})
        assert not found["good"]
        first = found["problems"][0]
        assert first["file"] == definition
        assert first["line"] == line or not line
    for name in ("../api.yaml", "/etc/api.yaml", "x.txt"):
        await asked(pub, "/check", {"files": {name: "x"}}, 422)
    assert PASSWORD not in json.dumps(found)


async def _edit(pub: PortalClient) -> None:
    operation = {"op": "topic", "name": "/plain", "scopes": ["<script>"]}
    found = await asked(pub, "/edit", {"files": _sample(), "operations": [operation]})
    assert 'x-scopes: ["<script>"]' in found["files"]["Definitions/asyncapi.yaml"]
    assert found["form"]["topics"][0]["scopes"] == ["<script>"]
    assert "a comment" not in found
    for bad in ({"op": "run"}, {"op": "topic", "name": "/none", "scopes": []}):
        await asked(pub, "/edit", {"files": _sample(), "operations": [bad]}, 422)
    many = [operation] * 201
    await asked(pub, "/edit", {"files": _sample(), "operations": many}, 422)
    found = await asked(pub, "/edit", {"files": {"api.yaml": BOMB}})
    assert found["form"]["api"] is None
    assert "more than 100,000 values" in found["form"]["off"]["api"]


async def _drafts(gateway: Any, pub: PortalClient, base: Path) -> None:
    key = "/api/drafts/a%2Fb"
    body = {"files": _sample(), "base": "r7"}
    assert (await pub.get(key)).status_code == 404
    first = await pub.send("PUT", key, body)
    assert first.status_code == 200
    tag = first.headers["etag"]
    again = await pub.send("PUT", key, body, headers={"If-None-Match": "*"})
    assert again.status_code == 412
    second = await pub.send("PUT", key, body, headers={"If-Match": tag})
    assert second.status_code == 200
    stale = await pub.send("PUT", key, body, headers={"If-Match": tag})
    assert (stale.status_code, stale.headers["etag"]) == (412, second.headers["etag"])
    read = await pub.get(key)
    assert (read.json()["files"], read.json()["base"]) == (_sample(), "r7")
    async with portal_client(gateway, "ada") as other:
        assert (await other.get(key)).status_code == 404
    bad = {"files": {"../x": "y"}}
    assert (await pub.send("PUT", key, bad)).status_code == 422
    (file,) = (base / "portal/drafts").glob("*.json")
    assert file.stat().st_mode & 0o777 == 0o600
    for number in range(19):
        assert (await pub.send("PUT", f"/api/drafts/{number}", body)).status_code == 200
    assert (await pub.send("PUT", "/api/drafts/more", body)).status_code == 409
    assert (await pub.send("DELETE", key, {})).status_code == 200
    assert (await pub.send("DELETE", key, {})).status_code == 404
    assert (await pub.send("PUT", "/api/drafts/more", body)).status_code == 200
    assert not list((base / "portal/drafts").glob(".coming*"))


async def _probe(pub: PortalClient, backend: str, base: Path) -> None:
    made = await asked(pub, "/projects", {"from": "backend", "backend": backend})
    files = made["files"]
    found = await asked(pub, "/probe", {"files": files, "endpoint": backend})
    assert (found["good"], found["status"], found["stage"]) == (True, 101, "done")
    assert found["tcp_ms"] < 5000
    # Nothing else than what the files name.
    for other in ("ws://localhost:1", backend + "/x", "ftp://h", "ws://169.254.169.254"):
        await asked(pub, "/probe", {"files": files, "endpoint": other}, 422)
    closed = files["api.yaml"].replace(backend, "ws://127.0.0.1:1")
    given = {**files, "api.yaml": closed}
    found = await asked(pub, "/probe", {"files": given, "endpoint": "ws://127.0.0.1:1"})
    assert (found["good"], found["stage"]) == (False, "tcp")
    for address in ("169.254.169.254", "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "[fe80::1]"):
        url = f"ws://{address}/latest/meta-data"
        given = {**files, "api.yaml": files["api.yaml"].replace(f"url: {backend}", f'url: "{url}"')}
        found = await asked(pub, "/probe", {"files": given, "endpoint": url})
        assert (found["stage"], found["status"]) == ("tcp", None)
        assert "never probed" in found["hint"]
    answers = [
        await pub.send("POST", "/api/probe", {"files": files, "endpoint": backend})
        for _ in range(8)
    ]
    refused = [one for one in answers if one.status_code == 429]
    assert refused
    assert int(refused[0].headers["retry-after"]) >= 1
    lines = [json.loads(line) for line in (base / "portal/audit.jsonl").read_text().splitlines()]
    probes = [line for line in lines if line["action"] == "probe"]
    assert probes[0]["endpoint"].startswith(backend)
    assert probes[0]["user"] == "pub"


async def _deploy(gateway: Any, pub: PortalClient) -> None:
    """A password that the editor hides is kept by a deployment of what it shows."""
    (served,) = [api for _, _, api in gateway.running.live.table.bases()]
    source = await pub.get(f"/api/apis/{served.id}/source")
    assert source.status_code == 200
    assert PASSWORD not in source.text
    given = source.json()
    assert given["tiers"]["Unlimited"] == "no limit"
    text = given["files"]["api.yaml"].replace("username: u", "username: v")
    body = {"files": {**given["files"], "api.yaml": text}, "api": served.id, "override": True}
    headers = {"If-Match": source.headers["etag"]}
    done = await pub.send("POST", "/api/deployments", body, headers=headers)
    assert done.status_code == 200, done.text
    (served,) = [api for _, _, api in gateway.running.live.table.bases()]
    basic = served.production.basic
    assert (basic.username, basic.password) == ("v", PASSWORD)
    late = await pub.send("POST", "/api/deployments", body, headers=headers)
    assert late.status_code == 412
