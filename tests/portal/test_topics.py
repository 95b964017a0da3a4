"""Topics and documents over HTTP: who sees what, hostile documents, paths that lead elsewhere."""

from __future__ import annotations

import io
import time
import zipfile
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import trio

from support.described import CHAT
from support.gateway import start_gateway
from support.hostile import PASSWORD, hostile, write
from support.portal_client import USERS, portal_client
from trio_gw.documents.conversion import as_json

if TYPE_CHECKING:
    from pathlib import Path

    from support.gateway import RunningGateway
from support.portal_client import PortalClient


class Elements(HTMLParser):
    """The elements of a page, and what is active in them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.active: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note handlers, and scripts and links that lead elsewhere."""
        for name, value in attrs:
            if name.startswith("on") or name in ("style", "srcdoc"):
                self.active.append(f"{tag} {name}")
            elif name in ("href", "src", "action") and not (value or "").startswith(
                ("/portal/", "#", "https://", "http://")
            ):
                self.active.append(f"{tag} {name}={value}")
        if tag == "script" and not dict(attrs).get("src", ""):
            self.active.append("inline script")
        if tag in ("iframe", "object", "embed", "svg", "math", "style"):
            self.active.append(tag)


async def identify(client: PortalClient, gateway: RunningGateway, name: str) -> str:
    """Return the id of an API."""
    apis = gateway.running.live.table.apis.values()
    return next(one.project.id for one in apis if one.project.name == name)


async def test_topics_and_documents(tmp_path: Path) -> None:
    deep = "{properties: {a: " * 28 + "{type: string}" + "}}" * 28
    circle = (
        "asyncapi: 2.6.0\nchannels:\n  /a:\n    publish:\n      message:\n        payload: "
        f"{deep}\n  /b:\n    publish:\n      description: '{'[' * 20_000}'\n      message: "
        "{payload: {$ref: '#/components/schemas/A'}}\ncomponents:\n  schemas:\n"
        "    A: {properties: {b: {$ref: '#/components/schemas/B'}}}\n"
        "    B: {properties: {a: {$ref: '#/components/schemas/A'}}}\n"
    )
    values = ", ".join(f"p{number}: x" for number in range(50_000))
    big = f"    Big: {{enum: [{{{values}}}, {{{values}}}]}}\n    Said:\n"
    bomb = CHAT.replace("    Said:\n", big)
    wide = "asyncapi: 2.6.0\nchannels:\n" + "".join(
        f"  /topic{number}: {{publish: {{summary: number {number}}}}}\n" for number in range(1200)
    )
    for name, text in (
        ("Wide", wide),
        ("Chat", CHAT),
        ("Evil", hostile()),
        ("Circle", circle),
        ("Bomb", bomb),
    ):
        write(tmp_path / "apis", name, text)
    users = {"users": USERS}
    async with trio.open_nursery() as nursery:
        gateway = await start_gateway(nursery, tmp_path, admin=True, admin_settings=users)
        async with portal_client(gateway, "pub") as pub, portal_client(gateway, "con") as con:
            await roles(gateway, pub, con)
            await downloads(gateway, pub, con)
            await attacks(gateway, pub)
            await bounds(gateway, pub)
            await pages(gateway, con)
            await changes(gateway, pub)
        async with portal_client(gateway) as nobody:
            id_ = await identify(nobody, gateway, "Chat")
            assert (await nobody.get(f"/apis/{id_}/topics")).status_code == 303
            for path in ("topics", "topics/0", "files/api.yaml", "zip"):
                assert (await nobody.get(f"/api/apis/{id_}/{path}")).status_code == 401
        nursery.cancel_scope.cancel()


async def roles(gateway: RunningGateway, pub: PortalClient, con: PortalClient) -> None:
    id_ = await identify(pub, gateway, "Chat")
    listed = (await con.get(f"/api/apis/{id_}/topics")).json()
    assert [one["name"] for one in listed["topics"]] == ["/rooms/{room}", "/open/*"]
    assert (listed["asyncapi"], listed["total"], listed["differs"]) == ("2.6", 2, False)
    found = (await con.get(f"/api/apis/{id_}/topics?q=OPEN&size=1")).json()
    assert [one["number"] for one in found["topics"]] == [1]
    for client, seen in ((pub, True), (con, False)):
        topic = (await client.get(f"/api/apis/{id_}/topics/0")).json()
        assert [one["way"] for one in topic["operations"]] == ["send", "receive"]
        assert ("backend.internal" in topic["mapping"]["backend_url"]) == seen
        page = (await client.get(f"/apis/{id_}/topics/0")).text
        assert ("backend.internal" in page) == seen
        assert "you send" in page
        assert "<strong>people</strong>" in page
    topic = (await con.get(f"/api/apis/{id_}/topics/0")).json()
    assert topic["urls"][0].startswith("ws://localhost:")
    assert topic["urls"][0].endswith("/chat/1.0.0/rooms/lobby")
    for wrong in ("2", "-1", "x", "1e0", "99999999999", "%31", "٣", "0/x"):
        status = (await con.get(f"/api/apis/{id_}/topics/{wrong}")).status_code
        assert status == (200 if wrong == "%31" else 404), wrong
    assert (await con.get("/api/apis/nothing/topics")).status_code == 404


async def downloads(gateway: RunningGateway, pub: PortalClient, con: PortalClient) -> None:
    id_ = await identify(pub, gateway, "Chat")
    base = f"/api/apis/{id_}/files"
    answer = await con.get(f"{base}/Definitions/asyncapi.yaml")
    assert answer.text == CHAT
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == 'attachment; filename="asyncapi.yaml"'
    converted = await con.get(f"{base}/Definitions/asyncapi.yaml?as=json")
    assert converted.json()["channels"].keys() == {"/rooms/{room}", "/open/*"}
    assert 'filename="asyncapi.json"' in converted.headers["content-disposition"]
    again = await con.get(f"{base}/Definitions/asyncapi.yaml?as=yaml")
    assert as_json(again.content, "x") == converted.text
    assert (await con.get(f"{base}/api.yaml")).status_code == 403
    assert (await con.get(f"/apis/{id_}/document?file=api.yaml")).status_code == 403
    assert (await con.get(f"/api/apis/{id_}/zip")).status_code == 403
    for path in (f"{base}/api.yaml", f"{base}/api.yaml?as=json"):
        text = (await pub.get(path)).text
        assert PASSWORD not in text
        assert "joe" in text
    page = (await pub.get(f"/apis/{id_}/document?file=api.yaml")).text
    assert PASSWORD not in page
    zipped = await pub.get(f"/api/apis/{id_}/zip")
    assert 'filename="Chat-1.0.0.zip"' in zipped.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(zipped.content)) as file:
        assert PASSWORD.encode() in file.read("api.yaml")
    for path in (
        *("../api.yaml", "../../gateway.toml", "..%2F..%2Fcerts%2Fmg.key", "%2e%2e/Evil/api.yaml"),
        *("/etc/passwd", "%2Fetc%2Fpasswd", "Definitions", "", "api.yaml%00", "API.YAML"),
        *("Definitions/../api.yaml", "..\\api.yaml", "Definitions/asyncapi.yaml/"),
    ):
        status = (await pub.get(f"{base}/{path}")).status_code
        assert status in (200, 404), path
        text = (await pub.get(f"{base}/{path}")).text
        assert "root:" not in text
        assert "PRIVATE KEY" not in text
        assert PASSWORD not in text
    assert (await pub.get(f"/apis/{id_}/document?file=../Evil/api.yaml")).status_code == 404


async def attacks(gateway: RunningGateway, pub: PortalClient) -> None:
    id_ = await identify(pub, gateway, "Evil")
    for path in ("topics", "topics?q=%3Cscript%3E", "topics/0", "document", "document?as=json"):
        answer = await pub.get(f"/apis/{id_}/{path}")
        assert answer.status_code == 200, path
        assert answer.headers["content-type"].startswith("text/html")
        assert Elements(answer.text).active == [], path
        assert "<script>alert" not in answer.text
        assert "javascript:" not in answer.text.replace("[x](javascript:alert(1))", "")
        assert "\u202e" not in answer.text
        assert "1337" not in answer.text
    raw = await pub.get(f"/api/apis/{id_}/files/Definitions/asyncapi.yaml")
    assert raw.headers["content-type"].startswith("text/plain")
    assert (
        (await pub.get(f"/api/apis/{id_}/topics/0"))
        .headers["content-type"]
        .startswith("application/json")
    )


async def bounds(gateway: RunningGateway, pub: PortalClient) -> None:
    began = time.perf_counter()
    id_ = await identify(pub, gateway, "Circle")
    assert "see above" in (await pub.get(f"/apis/{id_}/topics/1")).text
    assert "1 more" in (await pub.get(f"/apis/{id_}/topics/0")).text
    assert (await pub.get(f"/apis/{id_}/document")).status_code == 200
    id_ = await identify(pub, gateway, "Bomb")
    page: Any = await pub.get(f"/apis/{id_}/topics/0")
    assert "too many values" in page.text
    assert (await pub.get(f"/apis/{id_}/document")).status_code == 200
    answer = await pub.get(f"/api/apis/{id_}/files/Definitions/asyncapi.yaml?as=json")
    assert answer.status_code == 409
    assert time.perf_counter() - began < 60


async def pages(gateway: RunningGateway, con: PortalClient) -> None:
    """Many topics come in pages, and the lines of a long document do."""
    id_ = await identify(con, gateway, "Wide")
    page = (await con.get(f"/apis/{id_}/topics?q=number&page=3")).text
    assert ">/topic200<" in page
    assert ">/topic300<" not in page
    assert f"/portal/apis/{id_}/topics?page=4&amp;q=number" in page
    assert "No topic has" in (await con.get(f"/apis/{id_}/topics?q=nothing")).text
    found = (await con.get(f"/api/apis/{id_}/topics?size=5000&page=2")).json()
    assert (len(found["topics"]), found["pages"]) == (200, 2)
    for number in ("0", "-5", "x", "9" * 30):
        assert (await con.get(f"/apis/{id_}/topics?page={number}")).status_code == 200
        assert (await con.get(f"/apis/{id_}/document?from={number}")).status_code == 200


async def changes(gateway: RunningGateway, pub: PortalClient) -> None:
    """A file that breaks is shown as it is; topics stay as they are served."""
    id_ = await identify(pub, gateway, "Chat")
    file = gateway.apis / "Chat" / "Definitions" / "asyncapi.yaml"
    file.write_text(CHAT.replace("x-uri-mapping: /rooms", "x-uri-mapping: [/rooms"))
    page = (await pub.get(f"/apis/{id_}/topics/0")).text
    assert "differ from what is served" in page
    assert "chat:write" in page
    assert 'class="error"' in (await pub.get(f"/apis/{id_}/document")).text
    assert (await pub.get(f"/api/apis/{id_}/topics")).json()["problems"]
