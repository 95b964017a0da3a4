"""The explanation of a refusal: by the endpoint, the page and the command; and test keys."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import trio

from support.gateway import start_gateway
from support.portal_client import PASSWORDS, USERS, portal_client
from support.secrets import secret
from trio_gw import __main__ as command

if TYPE_CHECKING:
    import pytest

    from support.gateway import RunningGateway
    from support.portal_client import PortalClient

ECHO = Path(__file__).parents[2] / "apis" / "Echo-1.0.0"
PLAIN, ADMIN = "/echo/1.0.0/plain", "/echo/1.0.0/admin"


async def started(nursery: trio.Nursery, base: Path, **settings: Any) -> RunningGateway:
    shutil.copytree(ECHO, base / "apis" / ECHO.name)
    return await start_gateway(
        nursery, base, admin=True, admin_settings={"users": USERS}, **settings
    )


async def explained(
    browser: PortalClient, path: str, **more: object
) -> tuple[int, dict[str, dict[str, Any]]]:
    answer = await browser.send("POST", "/api/explain", {"path": path, **more})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    return found["status"], {step["step"]: step for step in found["steps"]}


async def test_a_refusal_is_explained(nursery: trio.Nursery, tmp_path: Path) -> None:
    (tmp_path / "certs").mkdir()
    denied = tmp_path / "certs" / "denied.txt"
    gateway = await started(nursery, tmp_path)
    token, scoped = gateway.token(), gateway.token("echo:admin")
    async with portal_client(gateway, "con") as browser:
        # What the gateway says is what a client gets.
        for path, given in (
            *((PLAIN, token), (PLAIN, ""), (PLAIN, f"{token[:-8]}AAAAAAAA"), (ADMIN, token)),
            *((ADMIN, scoped), ("/nowhere", token), (PLAIN, "x.y.z"), (PLAIN, "opaque")),
        ):
            status, _ = await explained(browser, path, token=given)
            # The backend may run here or not: an explanation asks nobody.
            real = await gateway.status(path, token=given)
            assert status == (101 if real == 503 else real), path
        status, steps = await explained(browser, PLAIN, token=f"Bearer {token}")
        assert status == 101
        assert steps["backend"]["ok"] is None
        assert [step["ok"] for step in steps.values()].count(False) == 0
        assert "Echo:1.0.0" in steps["route"]["what"]
        status, steps = await explained(browser, ADMIN, token=token)
        assert (status, steps["scopes"]["ok"], steps["scopes"]["code"]) == (403, False, "900910")
        assert "asks for one of echo:admin; the token has no scopes" in steps["scopes"]["what"]
        assert steps["scopes"]["advice"]
        assert (steps["signature"]["ok"], steps["key type"]["ok"]) == (True, None)
        status, steps = await explained(browser, PLAIN, token=f"{token[:-8]}AAAAAAAA")
        assert (status, steps["signature"]["ok"]) == (401, False)
        status, steps = await explained(browser, PLAIN)
        assert (status, steps["token"]["ok"]) == (401, False)
        status, steps = await explained(browser, "/echo/1.0.0/none", token=token)
        assert (status, steps["route"]["ok"]) == (404, False)
        status, steps = await explained(browser, PLAIN, host="other.example", token=token)
        assert "route" in steps
        foreign = jwt.encode({"iss": "https://other", "exp": time.time() + 60}, "k" * 32)
        status, steps = await explained(browser, PLAIN, token=secret(foreign))
        assert (status, steps["issuer"]["ok"]) == (401, False)
        assert "https://other" in steps["issuer"]["what"]
        # What no client could send is refused, and so is nonsense.
        for body in (
            *({"path": "/a b"}, {"path": "a"}, {"path": "/a\r\nX: y"}, {"path": "/#x"}),
            *({"path": PLAIN, "host": "a b"}, {"path": PLAIN, "headers": [["Host", "b"]]}),
            *({"path": PLAIN, "headers": [["X-A", "a\r\nb"]]}, {}, {"path": 1}),
        ):
            answer = await browser.send("POST", "/api/explain", body)
            assert answer.status_code == 422, body
        # The page does the same without scripts, and does not show the token again.
        fields = {"host": "localhost", "path": ADMIN, "token": token}
        answer = await browser.submit("/explain", fields)
        assert answer.status_code == 200
        assert "The gateway refuses this with 403." in answer.text
        assert token not in answer.text
        assert f'value="{ADMIN}"' in answer.text
        answer = await browser.submit("/explain", {**fields, "path": "/<script>"})
        assert answer.status_code in (200, 422)
        assert "<script>alert" not in answer.text
        assert 'value="/<script>"' not in answer.text
        # A deny condition is found before anything else.
        gateway.running.blocklist.publish("test", denied_addresses())
        status, steps = await explained(browser, PLAIN, token=token)
        assert (status, steps["address"]["ok"], steps["address"]["code"]) == (403, False, "900805")
    assert not denied.exists()
    assert len(gateway.running.sessions) == 0


def denied_addresses() -> Any:
    from trio_gw.config.conditions import Deny
    from trio_gw.guard.denials import declared

    return declared((Deny(address="127.0.0.1"), Deny(address="::1")))


async def test_an_expired_token_and_a_full_gateway(nursery: trio.Nursery, tmp_path: Path) -> None:
    gateway = await started(nursery, tmp_path, limits={"connections": 1})
    assert gateway.running.testkeys is not None
    old = secret(gateway.running.testkeys.mint("ada", None, time.time() - 7200))
    async with portal_client(gateway, "con") as browser:
        status, steps = await explained(browser, PLAIN, token=old)
        assert (status, steps["expiry"]["ok"], steps["expiry"]["code"]) == (401, False, "900903")
        for _ in range(3):  # an explanation holds no place
            assert (await explained(browser, PLAIN, token=gateway.token()))[0] == 101


async def test_the_command_explains(
    nursery: trio.Nursery,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gateway = await started(nursery, tmp_path)
    monkeypatch.setenv("GW_PASSWORD", PASSWORDS["ada"])
    monkeypatch.setenv("TOKEN", gateway.token())
    url = f"https://localhost:{gateway.admin_port}"
    given = ["--url", url, "--user", "ada", "--ca", str(tmp_path / "certs" / "mg.pem")]

    async def run(*more: str) -> tuple[int, str]:
        code = await trio.to_thread.run_sync(lambda: command.main(["explain", *more, *given]))
        return code, capsys.readouterr().out

    code, out = await run(PLAIN)
    assert code == 0
    assert "   ok  signature: passes" in out.splitlines()
    code, out = await run(ADMIN)
    assert code == 1
    assert "FAILS  scopes: 403:" in out
    assert gateway.token() not in out
    monkeypatch.setenv("GW_PASSWORD", PASSWORDS["pub"])
    given[3] = "pub"
    code, out = await run(PLAIN)
    assert (code, out) == (1, "")


async def test_a_test_key_from_a_session(nursery: trio.Nursery, tmp_path: Path) -> None:
    gateway = await started(nursery, tmp_path)
    async with portal_client(gateway, "con") as browser:
        (api,) = gateway.running.live.table.apis.values()
        name = api.project.id
        asked = {"api": name, "scopes": ["echo:admin"], "key_type": "SANDBOX", "seconds": 120}
        answer = await browser.send("POST", "/api/test-keys", asked)
        assert answer.status_code == 201, answer.text
        made = answer.json()
        token = secret(made["token"])
        assert made["claims"]["sub"] == "con"
        assert made["claims"]["keytype"] == "SANDBOX"
        assert made["expires"] - made["claims"]["iat"] == 120
        assert made["id"] == made["claims"]["jti"]
        status, steps = await explained(browser, ADMIN, token=token)
        assert (status, steps["key type"]["ok"], steps["scopes"]["ok"]) == (401, False, True)
        assert "no sandbox endpoint" in steps["key type"]["what"]
        answer = await browser.send("POST", "/api/test-keys", {**asked, "key_type": "PRODUCTION"})
        other = secret(answer.json()["token"])
        assert other != token
        assert (await explained(browser, ADMIN, token=other))[0] == 101
        body = {"jti": answer.json()["id"]}
        assert (await browser.send("POST", "/api/revocations", body)).status_code == 204
        status, steps = await explained(browser, ADMIN, token=other)
        assert (status, steps["revocation"]["ok"]) == (401, False)
        for body, expected in (
            ({"api": "none"}, 404),
            ({"api": name, "host": "other.example"}, 404),
            ({"api": name, "scopes": ["other"]}, 422),
            ({"api": name, "seconds": 3601}, 422),
            ({"api": name, "seconds": 1}, 422),
            ({"api": name, "key_type": "OTHER"}, 422),
            ({}, 422),
        ):
            answer = await browser.send("POST", "/api/test-keys", body)
            assert answer.status_code == expected, body
        page = await browser.get(f"/apis/{name}/keys")
        assert page.status_code == 200
        assert "echo:admin" in page.text
        assert token not in page.text
    audit = (tmp_path / "portal" / "audit.jsonl").read_text()
    assert "test key" in audit
    assert made["id"] in audit
    assert token not in audit


async def test_no_test_key_where_nobody_trusts_it(nursery: trio.Nursery, tmp_path: Path) -> None:
    gateway = await started(nursery, tmp_path, testkey={"enabled": False})
    async with portal_client(gateway, "con") as browser:
        (api,) = gateway.running.live.table.apis.values()
        answer = await browser.send("POST", "/api/test-keys", {"api": api.project.id})
        assert answer.status_code == 409
        assert "turned off" in answer.json()["message"]
        page = await browser.get(f"/apis/{api.project.id}/keys")
        assert "There are no test keys for this API" in page.text
