"""`trio_gw.testing`: what a gateway under test serves, says and keeps to itself."""

from __future__ import annotations

import os
import shutil
import zipfile
from typing import TYPE_CHECKING

import pytest
import trio

from support.projects import api, asyncapi, environments, write
from support.secrets import secret
from trio_gw.testing import (
    ClosedError,
    HandshakeRefusedError,
    ProblemsError,
    ServedGateway,
    serve_backend,
    serve_gateway,
)

if TYPE_CHECKING:
    from pathlib import Path

TOPICS = {
    "/rooms/{room}": {
        "publish": {"x-uri-mapping": "/rooms?id={uri.var.room}", "x-scopes": ["chat:write"]}
    },
    "/open": {"publish": {"x-auth-type": "None"}},
    "/*": {"publish": {}},
}
BACKEND = "wss://chat.internal:8443/v2"


def chat(root: Path, name: str = "Chat", **data: object) -> Path:
    """Write a project whose backend does not exist."""
    return write(root, name, api(name, f"/{name.lower()}", BACKEND, **data), asyncapi(TOPICS))


def token(gateway: ServedGateway, *scopes: str) -> str:
    """Make a token, and keep it: nothing that the gateway writes may hold it."""
    return secret(gateway.token(scopes))


async def test_a_message_passes_with_and_without_tls(tmp_path: Path) -> None:
    async with (
        serve_backend() as backend,
        serve_gateway(projects=chat(tmp_path), backend=backend) as gateway,
    ):
        for tls in (False, True):
            async with gateway.connect(
                "/rooms/{room}",
                room="a/b ä",
                tls=tls,
                query="since=7",
                token=token(gateway, "chat:write"),
                headers={"X-Sent": "yes"},
                subprotocols=["chat.v2", "chat.v1"],
            ) as client:
                await client.send(b"\x00\xff")
                arrived = await backend.accept()
                assert arrived.path == "/v2/rooms?id=a%2Fb%20%C3%A4"
                assert arrived.header("x-sent") == "yes"
                assert client.subprotocol == arrived.subprotocol == "chat.v2"
                assert await arrived.receive() == await client.receive() == b"\x00\xff"
                assert client.closed is None
            assert await arrived.wait_closed() == (1000, "")
        assert backend.messages == (b"\x00\xff", b"\x00\xff")
        assert await backend.receive() == b"\x00\xff"
        assert len(backend.connections) == 2


async def test_what_a_topic_asks_for(tmp_path: Path) -> None:
    async with serve_gateway(projects=tmp_path / chat(tmp_path).name, backend=BACKEND) as gateway:
        room = gateway.topic("/rooms/{room}")
        assert room.api == "Chat:1.0.0"
        assert (room.secured, room.scopes) == (True, ("chat:write",))
        assert gateway.topic("/open")[4:6] == (False, ())
        assert await gateway.status("/rooms/{room}", room=7) == 401
        assert await gateway.status("/rooms/{room}", room=7, token=token(gateway)) == 403
        expired = secret(gateway.token("chat:write", expired=True))
        assert await gateway.status("/rooms/{room}", room=7, token=expired) == 401
        unknown = f"{gateway.base_url}/chat/2.0.0/rooms/7"
        assert await gateway.status(unknown, token=token(gateway)) == 404
        with pytest.raises(HandshakeRefusedError, match="403") as refused:
            async with gateway.connect("/rooms/{room}", room=7, token=token(gateway)):
                pass
        assert refused.value.json()["code"] == "900910"
        assert ("content-type", "application/json") in refused.value.headers


async def test_a_name_that_a_test_got_wrong(tmp_path: Path) -> None:
    chat(tmp_path)
    chat(tmp_path, "Other")
    async with serve_gateway(projects=tmp_path, backend=BACKEND) as gateway:
        assert gateway.url("/open", api="Other:1.0.0").endswith("/other/1.0.0/open")
        with pytest.raises(LookupError, match=r"several APIs have a topic /open: Chat:1\.0\.0"):
            gateway.url("/open")
        with pytest.raises(LookupError, match=r"no topic of Chat:1\.0\.0 is named /rooms; .*/open"):
            gateway.topic("/rooms", api="Chat:1.0.0")
        with pytest.raises(LookupError, match="needs a value for room"):
            gateway.url("/rooms/{room}", api="Chat:1.0.0")
        with pytest.raises(LookupError, match="has no parameter rom"):
            gateway.url("/rooms/{room}", api="Chat:1.0.0", room=1, rom=2)
    with pytest.raises(LookupError, match=r"no API is named Chat:2\.0\.0"):
        async with serve_gateway(projects=tmp_path, backend={"Chat:2.0.0": BACKEND}):
            pass


async def test_hosts_and_the_default_version(tmp_path: Path) -> None:
    environments(chat(tmp_path, isDefaultVersion=True), ("Default", "chat.example"))
    async with (
        serve_backend() as backend,
        serve_gateway(projects=tmp_path, backend={"Chat:1.0.0": backend}) as gateway,
    ):
        assert len(gateway.topics) == 6
        assert gateway.topic("/open").path == "/chat/1.0.0/open"
        assert gateway.url("/open") == f"ws://chat.example:{gateway.port}/chat/1.0.0/open"
        async with gateway.connect("/open") as client:
            await client.send("hello")
            assert await client.receive() == "hello"


async def test_a_zip_file_is_a_project(tmp_path: Path) -> None:
    folder = chat(tmp_path / "sources")
    with zipfile.ZipFile(tmp_path / "Chat.zip", "w") as archive:
        for path in folder.rglob("*.yaml"):
            archive.write(path, path.relative_to(folder.parent))
    async with serve_gateway(projects=[tmp_path / "Chat.zip"]) as gateway:
        assert gateway.topic("/open").backends == (BACKEND,)


async def test_problems_name_the_files_of_the_test(tmp_path: Path) -> None:
    project = chat(tmp_path)
    text = (project / "api.yaml").read_text().replace('"/chat"', '"chat"')
    (project / "api.yaml").write_text(text)
    with pytest.raises(ProblemsError) as raised:
        async with serve_gateway(projects=tmp_path):
            pass
    (problem,) = raised.value.problems
    assert problem.file == f"{project}/api.yaml"
    assert str(raised.value).startswith(f"1 problem:\n  {project}/api.yaml:7: invalid basepath")
    with pytest.raises(ProblemsError, match="there is no API project here"):
        async with serve_gateway(projects=tmp_path / "nowhere"):
            pass


async def test_problems_between_projects(tmp_path: Path) -> None:
    for name in ("One", "Two"):
        write(tmp_path, name, api(name, "/same", BACKEND), asyncapi(TOPICS))
    with pytest.raises(ProblemsError, match=f"{tmp_path}/Two: base path"):
        async with serve_gateway(projects=tmp_path):
            pass


async def test_warnings_count_if_asked_for(tmp_path: Path) -> None:
    chat(tmp_path, apiThrottlingPolicy="Platinum-9")
    async with serve_gateway(projects=tmp_path) as gateway:
        (problem,) = gateway.problems
        assert problem.severity == "warning"
    with pytest.raises(ProblemsError, match="Platinum-9"):
        async with serve_gateway(projects=tmp_path, strict=True):
            pass


async def test_settings_are_tables_or_a_file(
    tmp_path: Path, own_certs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat(tmp_path / "apis")
    monkeypatch.setenv("TRIO_GW_WORKERS", "none")  # nobody reads it
    monkeypatch.setenv("HEADER", "X-Token")
    text = 'authorization_header = "${HEADER}"\nanalytics.enabled = true\n'
    (tmp_path / "gateway.toml").write_text(
        text + 'issuers = [{issuer = "x", certificate = "own.pem"}]'
    )
    shutil.copy(own_certs / "mg.pem", tmp_path / "own.pem")
    async with (
        serve_backend() as backend,
        serve_gateway(settings=tmp_path / "gateway.toml", backend=backend) as gateway,
    ):
        sent = {"X-Token": f"Bearer {token(gateway, 'chat:write')}"}
        assert await gateway.status("/rooms/{room}", room=1, headers=sent) == 101
    assert sorted(os.listdir(tmp_path)) == ["apis", "gateway.toml", "own.pem"]
    with pytest.raises(ProblemsError, match=r"unknown key listne; did you mean listen\?"):
        async with serve_gateway(settings={"listne": {}}):
            pass
    with pytest.raises(ProblemsError, match=r"nowhere\.pem"):
        async with serve_gateway(settings={"tls": {"client_ca": "nowhere.pem"}}):
            pass


async def test_each_gateway_has_its_own_logs_and_backend(tmp_path: Path) -> None:
    variables = dict(os.environ)
    async with (
        serve_backend() as backend,
        serve_gateway(projects=chat(tmp_path, "One"), backend=backend) as one,
        serve_gateway(projects=chat(tmp_path, "Two"), backend=backend) as two,
    ):
        assert await one.status("/open") == await two.status("/open") == 101
        await one.status("/rooms/{room}", room="wanted")
        assert any("/one/1.0.0/rooms/wanted" in line for line in one.logs)
        assert not any("/one/" in line for line in two.logs)
        assert any("added Two:1.0.0" in line for line in two.logs)
    assert dict(os.environ) == variables


async def test_what_the_body_raises_comes_out_as_it_is(tmp_path: Path) -> None:
    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as raised:
        async with (
            serve_backend() as backend,
            serve_gateway(projects=chat(tmp_path), backend=backend) as gateway,
            gateway.connect("/open"),
        ):
            raise error
    assert raised.value is error


async def test_who_waits_in_vain_is_told(tmp_path: Path) -> None:
    async with (
        serve_backend(echo=False, timeout=0.05) as backend,
        serve_gateway(projects=chat(tmp_path), backend=backend) as gateway,
    ):
        with pytest.raises(trio.TooSlowError, match="connection to the backend"):
            await backend.accept()
        with pytest.raises(trio.TooSlowError, match="message at the backend"):
            await backend.receive()
        async with gateway.connect("/open", timeout=10) as client:
            arrived = await backend.accept()
            with pytest.raises(trio.TooSlowError, match="end of"):
                await arrived.wait_closed()
            await arrived.send("last")
            await arrived.close(4001, "enough")
            assert await client.wait_closed() == (4001, "enough")
            assert await client.receive() == "last"
            with pytest.raises(ClosedError, match="4001 enough"):
                await client.receive()
            with pytest.raises(ClosedError) as closed:
                await client.send("too late")
            assert closed.value.code == 4001
