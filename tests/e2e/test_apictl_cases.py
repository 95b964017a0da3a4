"""What `apictl mg` asks of the admin API, request by request (spec: adapter-rest §7).

Each request has the headers, the order of the query and the framing that apictl gives it, over
HTTP/1.1, whose reason phrases apictl prints. Tests are named for their rows.
"""

from __future__ import annotations

import base64
import io
import json
import ssl
import time
import zipfile
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import trio
from cryptography import x509

from support.adminapi import BASE, BASIC, AdminAnswer, AdminClient, form, logged_in, packed
from support.backends import Backend, start_echo
from support.gateway import RunningGateway, start_gateway
from support.projects import api, asyncapi, environments, write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ANY: dict[str, Any] = {"/*": {"publish": {}}}
INVALID = b'{"code":401,"message":"unauthenticated for The provided token is not valid"}'


class Adapter:
    """A gateway, a client that is logged in, and projects to deploy."""

    def __init__(self, gateway: RunningGateway, client: AdminClient, backend: Backend) -> None:
        self.gateway = gateway
        self.client = client
        self.backend = backend

    def project(
        self, name: str = "Chat", context: str = "/chat", folder: str = "", **data: Any
    ) -> Path:
        """Write a project outside of the watched folder."""
        meta = api(name, context, self.backend.url, **data)
        return write(self.gateway.base / "projects", folder or name.lower(), meta, asyncapi(ANY))

    def zipped(self, *names: str, top: str = "chat", **data: Any) -> bytes:
        """Zip a project as `apictl -f chat` does."""
        return packed(self.project(*names, **data), top)

    def agrees(self, answer: AdminAnswer, status: int, reason: str) -> None:
        """Compare status and, where there is one, reason phrase; and the type."""
        assert answer.status == status, answer.raw
        assert answer.line == f"{status} {reason}"
        assert answer.headers["content-type"] == "application/json"


@pytest.fixture
async def adapter(nursery: trio.Nursery, base: Path) -> Adapter:
    backend = await start_echo(nursery)
    gateway = await start_gateway(nursery, base, admin=True)
    client = AdminClient(gateway)
    assert (await client.login()).status == 200
    return Adapter(gateway, client, backend)


# -- §2 login ------------------------------------------------------------------------------------


async def test_2_1_login(adapter: Adapter) -> None:
    before = int(time.time())
    answer = await adapter.client.login()
    adapter.agrees(answer, 200, "OK")
    assert list(answer.json()) == ["accessToken"]
    assert all(isinstance(value, str) for value in answer.json().values())  # 2.12, 2.13
    head, claims, _ = answer.json()["accessToken"].split(".")
    assert json.loads(base64.urlsafe_b64decode(head + "==")) == {"alg": "RS256", "typ": "JWT"}
    found = json.loads(base64.urlsafe_b64decode(claims + "=="))
    assert set(found) == {"username", "scope", "exp"}
    assert (found["username"], found["scope"]) == ("admin", "admin")
    assert before + 3600 <= found["exp"] <= time.time() + 3600


@pytest.mark.parametrize(
    ("username", "password"), [("admin", "wrong"), ("nobody", "admin"), ("ADMIN", "admin")]
)
async def test_2_4_wrong_password(adapter: Adapter, username: str, password: str) -> None:
    answer = await adapter.client.login(username, password)
    adapter.agrees(answer, 401, "Unauthorized")
    assert answer.body == b""


SHAPE = "in body should match '^[a-zA-Z0-9_~.@-]*$'"


FORBIDDEN_LOGINS = [
    ('{"password":"pa$s","username":"admin"}', 605, f"password {SHAPE}"),
    ('{"password":"x","username":"a b"}', 605, f"username {SHAPE}"),
    ('{"username":"admin"}', 602, "password in body is required"),
    ('{"password":"","username":"admin"}', 602, "password in body is required"),
    ('{"password":null,"username":"admin"}', 602, "password in body is required"),
    ('{"password":"x"}', 602, "username in body is required"),
    (
        json.dumps({"password": "x" * 101, "username": "admin"}),
        603,
        "password in body should be at most 100 chars long",
    ),
    ("", 602, "credentials in body is required"),
]


async def test_2_5_what_the_rules_forbid(adapter: Adapter) -> None:
    for body, code, message in FORBIDDEN_LOGINS:
        kind = {"Content-Type": "application/json", "Accept": "application/json"}
        answer = await adapter.client.ask("POST", f"{BASE}/oauth2/token", kind, body.encode())
        adapter.agrees(answer, 422, "Unprocessable Entity")
        assert (
            answer.body
            == json.dumps({"code": code, "message": message}, separators=(",", ":")).encode()
        )


NOT_JSON = ["{", "[]", '"admin"', '{"username":1,"password":"x"}', "\xff"]


async def test_a_login_that_is_not_json(adapter: Adapter) -> None:
    for body in NOT_JSON:
        kind = {"Content-Type": "application/json"}
        data = body.encode("latin-1")
        answer = await adapter.client.ask("POST", f"{BASE}/oauth2/token", kind, data)
        adapter.agrees(answer, 400, "Bad Request")
        assert answer.json()["code"] == 400
        assert answer.json()["message"].startswith(
            'parsing credentials body from "" failed, because'
        )


async def test_a_login_of_another_type(adapter: Adapter) -> None:
    kind = {"Content-Type": "text/plain; charset=utf-8"}
    answer = await adapter.client.ask("POST", f"{BASE}/oauth2/token", kind, b"{}")
    adapter.agrees(answer, 415, "Unsupported Media Type")
    assert answer.json() == {
        "code": 415,
        "message": 'unsupported media type "text/plain", only [application/json] are allowed',
    }


async def test_2_9_a_client_that_does_not_know_the_certificate(adapter: Adapter) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", adapter.gateway.admin_port)
    strict = trio.SSLStream(stream, ssl.create_default_context(), server_hostname="localhost")
    with pytest.raises(trio.BrokenResourceError) as caught:
        await strict.do_handshake()
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
    await trio.aclose_forcefully(stream)
    adapter.agrees(await adapter.client.login(), 200, "OK")  # nobody else is disturbed


async def test_2_10_and_2_11_the_certificate_is_for_localhost(adapter: Adapter) -> None:
    # `AdminClient` checks the name `localhost`; the name is in the SAN, as Go insists.
    pem = (adapter.gateway.base / "certs" / "mg.pem").read_bytes()
    extension = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert "localhost" in extension.value.get_values_for_type(x509.DNSName)


async def test_2_10_without_k_and_an_address(adapter: Adapter) -> None:
    # The reference's certificate has no IP SAN, so there 2.11 fails; with ours it need not.
    for name in ("localhost", "127.0.0.1"):
        stream = await trio.open_tcp_stream("127.0.0.1", adapter.gateway.admin_port)
        trusting = trio.SSLStream(stream, adapter.gateway.trust(), server_hostname=name)
        await trusting.do_handshake()
        await trio.aclose_forcefully(trusting)


async def test_2_14_login_twice_gives_tokens_that_are_both_good(adapter: Adapter) -> None:
    tokens = [adapter.client.token]
    await adapter.client.login()
    tokens.append(adapter.client.token)
    for adapter.client.token in tokens:
        adapter.agrees(await adapter.client.list(), 200, "OK")


# -- authentication (spec: adapter-rest §2) ------------------------------------------------------


async def ask_apis(adapter: Adapter, **headers: str) -> AdminAnswer:
    return await adapter.client.ask("GET", f"{BASE}/apis", headers)


async def test_basic_and_bearer_are_both_enough(adapter: Adapter) -> None:
    token = adapter.client.token
    for text in (BASIC, BASIC.replace("Basic", "basic"), f"Bearer {token}"):
        adapter.agrees(await ask_apis(adapter, Authorization=text), 200, "OK")
    answer = await adapter.client.ask("GET", f"{BASE}/apis?access_token={token}")
    adapter.agrees(answer, 200, "OK")


def with_token(adapter: Adapter, token: str, *, first: bool = True) -> tuple[bytes, str]:
    """Build the form of a deployment that has a token in it, before the file or behind it."""
    body, kind = form(packed(adapter.project()))
    boundary = b"--" + kind.rpartition("=")[2].encode()
    field = b'%s\r\nContent-Disposition: form-data; name="access_token"\r\n\r\n%s\r\n' % (
        *(boundary, token.encode()),
    )
    end = boundary + b"--\r\n"
    return (field + body if first else body.removesuffix(end) + field + end), kind


@pytest.mark.parametrize("pieces", [1 << 20, 7])
async def test_a_token_may_stand_in_the_form_of_a_deployment(adapter: Adapter, pieces: int) -> None:
    body, kind = with_token(adapter, adapter.client.token)

    async def sent() -> AsyncIterator[bytes]:
        for at in range(0, len(body), pieces):
            yield body[at : at + pieces]

    answer = await adapter.client.ask(
        "POST", f"{BASE}/apis", {"Content-Type": kind}, sent(), size=len(body)
    )
    adapter.agrees(answer, 200, "OK")
    assert await adapter.gateway.status("/chat/1.0.0/x") == 101


async def test_no_other_token_in_a_form_is_good(adapter: Adapter) -> None:
    good = adapter.client.token
    for given, first, message in (
        (f"{good}x", True, "unauthenticated for The provided token is not valid"),
        (good, False, "unauthenticated for invalid credentials"),  # behind the file
        (good + " " * 20_000, True, "unauthenticated for invalid credentials"),
        ("", True, "unauthenticated for invalid credentials"),
    ):
        body, kind = with_token(adapter, given, first=first)
        answer = await adapter.client.ask("POST", f"{BASE}/apis", {"Content-Type": kind}, body)
        adapter.agrees(answer, 401, "Unauthorized")
        assert answer.json() == {"code": 401, "message": message}
    body, kind = with_token(adapter, good)
    for headers in ({"Authorization": "Basic YWRtaW46eA=="}, {"Content-Type": "text/plain"}):
        answer = await adapter.client.ask(
            "POST", f"{BASE}/apis", {"Content-Type": kind, **headers}, body
        )
        adapter.agrees(answer, 401, "Unauthorized")
    assert await adapter.gateway.status("/chat/1.0.0/x") == 404


NOT_LET_IN = [
    ("", "unauthenticated for invalid credentials"),
    ("Digest x", "unauthenticated for invalid credentials"),
    ("bearer {token}", "unauthenticated for invalid credentials"),
    ("Basic YWRtaW46eA==", "Credentials are invalid"),
    ("Basic !", "Credentials are invalid"),
    ("Basic YWRtaW4=", "Credentials are invalid"),
    ("Bearer ", "unauthenticated for The provided token is not valid"),
    ("Bearer x", "unauthenticated for The provided token is not valid"),
    ("Bearer  {token}", "unauthenticated for The provided token is not valid"),
    ("Bearer {token}x", "unauthenticated for The provided token is not valid"),
]


async def test_who_is_not_let_in(adapter: Adapter) -> None:
    for header, message in NOT_LET_IN:
        headers = {"Authorization": header.format(token=adapter.client.token)} if header else {}
        answer = await ask_apis(adapter, **headers)
        adapter.agrees(answer, 401, "Unauthorized")
        assert answer.json() == {"code": 401, "message": message}
        assert answer.headers["www-authenticate"] == 'Basic realm="API"'


async def test_tokens_with_other_claims_open_nothing(adapter: Adapter, base: Path) -> None:
    key = (base / "certs" / "mg.key").read_text()
    good = {"username": "admin", "scope": "admin", "exp": int(time.time()) + 60}
    changes: list[dict[str, Any]] = [
        {"exp": int(time.time())},
        {"exp": "soon"},
        {"exp": None},
        {"username": "nobody"},
        {"username": ["admin"]},
        {"username": None},
        {"scope": "default"},
        {"iss": "https://localhost:9095/testkey"},
    ]
    for change in changes:
        claims = {name: value for name, value in (good | change).items() if value is not None}
        adapter.client.token = jwt.encode(claims, key, algorithm="RS256")
        answer = await adapter.client.list()
        assert (answer.status, answer.body) == (401, INVALID), change
    adapter.client.token = jwt.encode(good, "x" * 32, algorithm="HS256")
    assert (await adapter.client.list()).status == 401
    adapter.client.token = jwt.encode(good, "", algorithm="none")
    assert (await adapter.client.list()).status == 401
    adapter.client.token = adapter.gateway.token("admin")  # a test key, of the same key
    assert (await adapter.client.list()).status == 401
    adapter.client.token = jwt.encode(good, key, algorithm="RS256")
    assert (await adapter.client.list()).status == 200


async def test_a_token_of_the_admin_api_opens_no_api(adapter: Adapter) -> None:
    await adapter.client.deploy(adapter.zipped())
    assert await adapter.gateway.status("/chat/1.0.0/x", token=adapter.client.token) == 401


async def test_guessing_is_slowed(adapter: Adapter) -> None:
    for _ in range(5):
        answer = await adapter.client.login(password="wrong")
        adapter.agrees(answer, 401, "Unauthorized")
    for answer in (await adapter.client.login(), await ask_apis(adapter, Authorization=BASIC)):
        adapter.agrees(answer, 429, "Too Many Requests")
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["code"] == 429
    adapter.agrees(await adapter.client.list(), 200, "OK")  # a token is no guess


# -- §3 deploy -----------------------------------------------------------------------------------


async def test_3_1_to_3_3_deploy_again_and_override(adapter: Adapter) -> None:
    client, gateway = adapter.client, adapter.gateway
    assert await gateway.status("/chat/1.0.0/x") == 404
    answer = await client.deploy(adapter.zipped())
    adapter.agrees(answer, 200, "OK")
    assert answer.body == b""
    assert await gateway.status("/chat/1.0.0/x") == 101
    answer = await client.deploy(adapter.zipped())
    adapter.agrees(answer, 409, "Conflict")
    write(gateway.base / "projects", "chat", api("Chat", "/chat", adapter.backend.url),
          asyncapi({"/rooms": {"publish": {}}}))  # fmt: skip
    again = packed(gateway.base / "projects" / "chat", "chat")
    answer = await client.deploy(again, override=True)
    adapter.agrees(answer, 200, "OK")
    assert answer.body == b""
    assert await gateway.status("/chat/1.0.0/x") == 404
    assert await gateway.status("/chat/1.0.0/rooms") == 101


async def test_3_4_override_of_what_is_not_there(adapter: Adapter) -> None:
    adapter.agrees(await adapter.client.deploy(adapter.zipped(), override=True), 200, "OK")
    assert await adapter.gateway.status("/chat/1.0.0/x") == 101


@pytest.mark.parametrize("top", ["chat/chat", "", "Chat-1.0.0"], ids=["3.5", "3.6", "3.7"])
async def test_3_5_to_3_7_depths(adapter: Adapter, top: str) -> None:
    data = adapter.zipped(top=top)
    if not top:  # `-f .` puts the folder itself into the zip
        with zipfile.ZipFile(file := io.BytesIO(data), "a") as zipped:
            zipped.writestr("./", b"")
        data = file.getvalue()
    answer = await adapter.client.deploy(data, filename="chat.zip")
    adapter.agrees(answer, 200, "OK")
    assert await adapter.gateway.status("/chat/1.0.0/x") == 101


async def test_3_8_and_3_9_another_api_on_the_same_path(adapter: Adapter) -> None:
    await adapter.client.deploy(adapter.zipped())
    other = adapter.zipped("Other", "/chat")
    for override in (False, True):
        answer = await adapter.client.deploy(other, override=override)
        adapter.agrees(answer, 409, "Conflict")
        (problem,) = answer.json()["problems"]
        assert problem["what"] == "base path /chat/1.0.0 on localhost belongs to Chat:1.0.0"
    assert (await adapter.client.list()).json()["total"] == 1
    # The same name and version with another id is another API (spec: adapter-rest §4.3).
    answer = await adapter.client.deploy(adapter.zipped(id="one"), override=True)
    adapter.agrees(answer, 409, "Conflict")


def broken(adapter: Adapter) -> dict[str, bytes]:
    """What cannot be deployed, by what is wrong with it."""
    without = adapter.project(folder="without")
    (without / "api.yaml").unlink()
    undefined = adapter.project(folder="undefined")
    (undefined / "Definitions" / "asyncapi.yaml").unlink()
    unreadable = adapter.project(folder="unreadable")
    (unreadable / "api.yaml").write_text("data: [")
    endpoint = adapter.project(folder="endpoint", endpointConfig={"endpoint_type": "ws"})
    context = adapter.project(folder="context", context="/a b")
    websub = adapter.project(folder="websub", type="WEBSUB")
    found = {
        path.name: packed(path, "chat")
        for path in (without, undefined, unreadable, endpoint, context, websub)
    }
    return found | {"not a zip": b"PK\3\4 and nothing more", "empty": b"", "text": b"hello"}


@pytest.mark.parametrize("override", [False, True], ids=["3.10", "3.11"])
async def test_3_10_and_3_11_what_cannot_be_deployed(adapter: Adapter, override: bool) -> None:
    for name, data in broken(adapter).items():
        answer = await adapter.client.deploy(data, override=override)
        adapter.agrees(answer, 500, "Internal Server Error")
        body = answer.json()
        assert body["code"] == 500, name
        assert any(problem["severity"] == "error" for problem in body["problems"]), name
        assert all(problem["what"] for problem in body["problems"]), name
    assert (await adapter.client.list()).body == b'{"list":null}'
    left = {path.name for path in (adapter.gateway.base / "deployed").iterdir()}
    assert left <= {".lock"}


async def test_problems_name_file_and_line(adapter: Adapter) -> None:
    project = adapter.project(context="no slash")
    answer = await adapter.client.deploy(packed(project, "chat"), filename="chat.zip")
    (problem,) = (one for one in answer.json()["problems"] if one["severity"] == "error")
    assert problem["file"] == "chat.zip/chat/api.yaml"
    assert problem["line"] > 1


async def test_3_12_expired_and_foreign_tokens(adapter: Adapter, base: Path) -> None:
    key = (base / "certs" / "mg.key").read_text()
    claims = {"username": "admin", "scope": "admin", "exp": int(time.time()) - 1}
    for adapter.client.token in (jwt.encode(claims, key, algorithm="RS256"), "a.b.c"):
        answer = await adapter.client.deploy(adapter.zipped())
        adapter.agrees(answer, 401, "Unauthorized")
        assert answer.body == INVALID
    assert await adapter.gateway.status("/chat/1.0.0/x") == 404


async def test_3_19_a_second_vhost(adapter: Adapter) -> None:
    project = adapter.project()
    environments(project, ("Default", ""), ("Default", "us.wso2.com"))
    adapter.agrees(await adapter.client.deploy(packed(project, "chat")), 200, "OK")
    items = (await adapter.client.list()).json()["list"]
    assert sorted(item["vhost"] for item in items) == ["localhost", "us.wso2.com"]
    assert {item["context"] for item in items} == {"/chat/1.0.0"}


async def test_3_20_forty_megabytes(adapter: Adapter) -> None:
    project = adapter.project()
    (project / "Docs").mkdir()
    (project / "Docs" / "manual.pdf").write_bytes(bytes(range(256)) * (40 << 12))
    path = adapter.gateway.base / "large.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as zipped:
        for each in project.rglob("*"):
            zipped.write(each, f"chat/{each.relative_to(project)}")
    data = path.read_bytes()
    assert len(data) > 40 << 20
    with trio.fail_after(10):  # after which apictl gives up
        adapter.agrees(await adapter.client.deploy(data), 200, "OK")
    assert await adapter.gateway.status("/chat/1.0.0/x") == 101


# -- the framing of a deployment -----------------------------------------------------------------


async def test_what_override_may_be(adapter: Adapter) -> None:
    await adapter.client.deploy(adapter.zipped())
    body, kind = form(adapter.zipped())
    headers = {"Authorization": BASIC, "Content-Type": kind}
    yes = ("true", "1", "YES", "ok", "y", "on", "selected", "checked", "t", "enabled")
    for text in (*yes, "", "false", "2", "truely"):
        answer = await adapter.client.ask("POST", f"{BASE}/apis?override={text}", headers, body)
        assert answer.status == (200 if text in yes else 409), text


async def test_no_file_in_the_form(adapter: Adapter) -> None:
    missing = b'{"code":400,"message":"reading file \\"file\\" failed: http: no such file"}'
    answer = await adapter.client.deploy(adapter.zipped(), part="project")
    adapter.agrees(answer, 400, "Bad Request")
    assert answer.body == missing
    answer = await adapter.client.deploy(adapter.zipped(), filename="")
    assert (answer.status, answer.body) == (400, missing)


NO_FORMS = [
    ("application/zip", 415, 'unsupported media type "application/zip", only'),
    ("multipart/form-data", 400, "no multipart boundary param in Content-Type"),
    ("multipart/form-data; boundary=other", 400, 'reading file "file" failed: '),
    (f"multipart/form-data; boundary={'x' * 300}", 400, 'reading file "file" failed: '),
]


async def test_forms_that_are_none(adapter: Adapter) -> None:
    for kind, status, message in NO_FORMS:
        body, _ = form(adapter.zipped())
        headers = {"Authorization": BASIC, "Content-Type": kind}
        answer = await adapter.client.ask("POST", f"{BASE}/apis", headers, body)
        assert answer.status == status
        assert message in answer.json()["message"]


async def test_a_form_that_breaks_off(adapter: Adapter) -> None:
    body, kind = form(adapter.zipped())
    headers = {"Authorization": BASIC, "Content-Type": kind}
    answer = await adapter.client.ask("POST", f"{BASE}/apis", headers, body[:-10])
    adapter.agrees(answer, 400, "Bad Request")
    assert "unexpected EOF" in answer.json()["message"]


# -- §4 list -------------------------------------------------------------------------------------


async def test_4_1_to_4_6_list(adapter: Adapter) -> None:
    client = adapter.client
    answer = await client.list()
    adapter.agrees(answer, 200, "OK")
    assert answer.body == b'{"list":null}'  # 4.5
    await client.deploy(adapter.zipped())
    item = {
        "apiName": "Chat",
        "apiType": "WS",
        "context": "/chat/1.0.0",
        "gateway-envs": ["Default"],
        "version": "1.0.0",
        "vhost": "localhost",
    }
    wanted = {"count": 1, "list": [item], "total": 1}
    for asked in (("25", ""), ("100", ""), ("25", "type:ws")):
        assert (await client.list(*asked)).json() == wanted
    assert (await client.list("25", "type:http")).body == b'{"list":null,"total":1}'  # 4.4
    for odd in ("", "type", "ws", "name:x"):  # no filter
        assert (await client.list("25", odd)).json() == wanted
    await client.deploy(adapter.zipped("Other", "/other"))
    found = (await client.list("1")).json()  # 4.6
    assert (found["total"], found["count"], len(found["list"])) == (2, 1, 1)
    answer = await client.ask("GET", f"{BASE}/apis", {"Authorization": BASIC})
    assert answer.json()["count"] == 2


FORBIDDEN_LISTS = [
    ("0", "", 609, "limit in query should be greater than or equal to 1"),
    ("-3", "", 609, "limit in query should be greater than or equal to 1"),
    ("100000001", "", 608, "limit in query should be less than or equal to 100000000"),
    ("abc", "", 601, 'limit in query must be of type int64: "abc"'),
    ("1.5", "", 601, 'limit in query must be of type int64: "1.5"'),
    ("25", "type:graphql", 603, "query in query should be at most 9 chars long"),
    ("25", "type=ws", 605, "query in query should match '^[a-zA-Z:]*$'"),
]


async def test_4_7_to_4_9_what_the_rules_forbid(adapter: Adapter) -> None:
    for limit, query, code, message in FORBIDDEN_LISTS:
        answer = await adapter.client.list(limit, query)
        adapter.agrees(answer, 422, "Unprocessable Entity")
        assert answer.json() == {"code": code, "message": message}


async def test_4_10_a_bad_token(adapter: Adapter) -> None:
    adapter.client.token += "x"
    answer = await adapter.client.list()
    adapter.agrees(answer, 401, "Unauthorized")
    assert answer.body == INVALID


# -- §5 undeploy ---------------------------------------------------------------------------------


async def test_5_1_and_5_2_undeploy(adapter: Adapter) -> None:
    client = adapter.client
    adapter.agrees(await client.undeploy("Chat"), 404, "Not Found")
    await client.deploy(adapter.zipped())
    answer = await client.undeploy("Chat")
    adapter.agrees(answer, 200, "OK")
    assert answer.body == b""
    assert await adapter.gateway.status("/chat/1.0.0/x") == 404
    answer = await client.undeploy("Chat")  # 404 also the second time
    adapter.agrees(answer, 404, "Not Found")
    assert answer.body == b""
    left = {path.name for path in (adapter.gateway.base / "deployed").iterdir()}
    assert left == {".lock", "history", "index.json", "precedence.json"}


async def two_hosts(adapter: Adapter) -> None:
    project = adapter.project()
    environments(project, ("Default", ""), ("Default", "us.wso2.com"))
    assert (await adapter.client.deploy(packed(project, "chat"))).status == 200


async def test_5_3_and_5_4_from_one_vhost(adapter: Adapter) -> None:
    await two_hosts(adapter)
    adapter.agrees(await adapter.client.undeploy("Chat", vhost="eu.wso2.com"), 404, "Not Found")
    adapter.agrees(await adapter.client.undeploy("Chat", vhost="localhost"), 200, "OK")
    assert await adapter.gateway.status("/chat/1.0.0/x") == 404
    assert await adapter.gateway.status("/chat/1.0.0/x", host="us.wso2.com") == 101
    adapter.agrees(await adapter.client.undeploy("Chat", vhost="localhost"), 404, "Not Found")
    adapter.agrees(await adapter.client.undeploy("Chat", vhost="US.wso2.com"), 200, "OK")
    assert (await adapter.client.list()).body == b'{"list":null}'


ENVIRONMENTS = [
    {"name": "Default", "vhost": "localhost"},
    {"name": "Label1", "vhost": "localhost"},
    {"name": "Production and Sandbox", "vhost": "us.wso2.com"},
]


@pytest.fixture
async def labelled(nursery: trio.Nursery, base: Path) -> Adapter:
    """A gateway with several environments, and an API in all of them."""
    backend = await start_echo(nursery)
    gateway = await start_gateway(nursery, base, admin=True, environments=ENVIRONMENTS)
    client = AdminClient(gateway)
    adapter = Adapter(gateway, client, backend)
    await adapter.client.login()
    project = adapter.project()
    environments(project, *((environment["name"], "") for environment in ENVIRONMENTS))
    assert (await adapter.client.deploy(packed(project, "chat"))).status == 200
    return adapter


async def listed(adapter: Adapter) -> dict[str, list[str]]:
    items = (await adapter.client.list()).json()["list"] or []
    return {item["vhost"]: item["gateway-envs"] for item in items}


async def test_5_5_to_5_7_environments(labelled: Adapter) -> None:
    client = labelled.client
    both = {"localhost": ["Default", "Label1"], "us.wso2.com": ["Production and Sandbox"]}
    assert await listed(labelled) == both
    # None matches: nothing changes, and that is fine.
    labelled.agrees(await client.undeploy("Chat", environments="Nowhere"), 200, "OK")
    assert await listed(labelled) == both
    labelled.agrees(await client.undeploy("Chat", environments="Label1"), 200, "OK")
    assert await listed(labelled) == both | {"localhost": ["Default"]}
    answer = await client.undeploy("Chat", environments="Production and Sandbox")  # 5.6
    labelled.agrees(answer, 200, "OK")
    assert await listed(labelled) == {"localhost": ["Default"]}
    assert await labelled.gateway.status("/chat/1.0.0/x") == 101
    labelled.agrees(await client.undeploy("Chat", environments="Default:Label1"), 200, "OK")
    assert await listed(labelled) == {}
    labelled.agrees(await client.undeploy("Chat"), 404, "Not Found")


async def test_a_vhost_and_some_of_its_environments(labelled: Adapter) -> None:
    client = labelled.client
    answer = await client.undeploy("Chat", vhost="localhost", environments="Label1")
    labelled.agrees(answer, 200, "OK")
    assert (await listed(labelled))["localhost"] == ["Default"]
    # The reference forgets the vhost at this point, and answers 404.
    labelled.agrees(await client.undeploy("Chat", vhost="localhost"), 200, "OK")
    assert await listed(labelled) == {"us.wso2.com": ["Production and Sandbox"]}


async def test_override_replaces_the_environments_of_its_vhosts(labelled: Adapter) -> None:
    project = labelled.project()
    environments(project, ("Label1", ""))
    await labelled.client.deploy(packed(project, "chat"), override=True)
    assert await listed(labelled) == {
        "localhost": ["Label1"],
        "us.wso2.com": ["Production and Sandbox"],
    }


NAME_RULE = "apiName in query should match '^[a-zA-Z0-9_~.-]*$'"


FORBIDDEN_UNDEPLOYS = [
    ("ab", "1", "", "", 604, "apiName in query should be at least 3 chars long"),
    ("x" * 256, "1", "", "", 603, "apiName in query should be at most 255 chars long"),
    ("a/b", "1", "", "", 605, NAME_RULE),
    ("", "1", "", "", 602, "apiName in query is required"),
    ("Chat", "", "", "", 602, "version in query is required"),
    ("Chat", "1" * 16, "", "", 603, "version in query should be at most 15 chars long"),
    ("Chat", "1 0", "", "", 605, "version in query should match '^[a-zA-Z0-9_.-]*$'"),
    ("Chat", "1", "a_b", "", 605, "vhost in query should match '"),
    ("Chat", "1", "x" * 256, "", 603, "vhost in query should be at most 255 chars long"),
    ("Chat", "1", "", "a,b", 605, "environments in query should match '"),
]


async def test_5_8_and_5_9_what_the_rules_forbid(adapter: Adapter) -> None:
    for name, version, vhost, environment, code, message in FORBIDDEN_UNDEPLOYS:
        answer = await adapter.client.undeploy(name, version, vhost, environment)
        adapter.agrees(answer, 422, "Unprocessable Entity")
        assert answer.json()["code"] == code
        assert answer.json()["message"].startswith(message)


ASTERISKS = ["*", "*.example.com", "*-eu.example.com", "api.example.*"]


async def test_vhosts_with_an_asterisk_are_asked_for(adapter: Adapter) -> None:
    for vhost in ASTERISKS:
        adapter.agrees(await adapter.client.undeploy("Chat", vhost=vhost), 404, "Not Found")


async def test_5_10_a_bad_token(adapter: Adapter) -> None:
    await adapter.client.deploy(adapter.zipped())
    token, adapter.client.token = adapter.client.token, "x"
    answer = await adapter.client.undeploy("Chat")
    adapter.agrees(answer, 401, "Unauthorized")
    assert answer.body == INVALID
    adapter.client.token = token
    assert (await adapter.client.list()).json()["total"] == 1


async def test_5_12_and_5_13_what_was_undeployed_is_free_again(adapter: Adapter) -> None:
    for zipped in (adapter.zipped(), adapter.zipped(), adapter.zipped("Other", "/chat")):
        adapter.agrees(await adapter.client.deploy(zipped), 200, "OK")
        name = (await adapter.client.list()).json()["list"][0]["apiName"]
        adapter.agrees(await adapter.client.undeploy(name), 200, "OK")


async def test_a_changed_context_frees_the_old_one(adapter: Adapter) -> None:
    await adapter.client.deploy(adapter.zipped())
    moved = adapter.zipped(context="/talk")
    adapter.agrees(await adapter.client.deploy(moved, override=True), 200, "OK")
    adapter.agrees(await adapter.client.deploy(adapter.zipped("Other", "/chat")), 200, "OK")


# -- §6 cross-cutting ----------------------------------------------------------------------------


async def test_1_8_doubled_slashes(adapter: Adapter) -> None:
    adapter.client.base = f"/{BASE}"
    adapter.agrees(await adapter.client.login(), 200, "OK")
    adapter.agrees(await adapter.client.deploy(adapter.zipped()), 200, "OK")
    assert (await adapter.client.list()).json()["total"] == 1
    adapter.agrees(await adapter.client.undeploy("Chat"), 200, "OK")
    answer = await adapter.client.ask("GET", f"{BASE}/apis/", {"Authorization": BASIC})
    adapter.agrees(answer, 200, "OK")


async def test_6_4_the_full_tour(adapter: Adapter) -> None:
    gateway, client = adapter.gateway, adapter.client
    await client.login()
    await client.deploy(adapter.zipped())
    assert (await client.list()).json()["total"] == 1
    async with gateway.connect("/chat/1.0.0/x", gateway.token()) as connection:
        await connection.send("hello")
        assert await connection.recv() == "hello"
        project = write(
            gateway.base / "projects", "chat", api("Chat", "/chat", adapter.backend.url),
            asyncapi({"/new": {"publish": {}}}),
        )  # fmt: skip
        await client.deploy(packed(project, "chat"), override=True)
        assert await gateway.status("/chat/1.0.0/new") == 101
        await client.undeploy("Chat")
        assert await gateway.status("/chat/1.0.0/new") == 404
        await connection.send("still here")  # as in the reference, it outlives its API
        assert await connection.recv() == "still here"


async def test_6_5_at_the_same_time(adapter: Adapter) -> None:
    answers: list[int] = []

    async def deploy(zipped: bytes) -> None:
        answers.append((await adapter.client.deploy(zipped)).status)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(deploy, adapter.zipped())
        nursery.start_soon(deploy, adapter.zipped("Other", "/other"))
    assert answers == [200, 200]
    answers.clear()
    same = adapter.zipped("Third", "/third")
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(deploy, same)
    assert sorted(answers) == [200, 409, 409, 409]


@pytest.mark.parametrize("persist", [True, False])
async def test_6_6_after_a_restart(base: Path, persist: bool) -> None:
    async with trio.open_nursery() as nursery:
        backend = await start_echo(nursery)
        gateway = await start_gateway(nursery, base, admin=True, persist=persist)
        client = await logged_in(gateway)
        token = client.token
        adapter = Adapter(gateway, client, backend)
        assert (await client.deploy(adapter.zipped())).status == 200
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        gateway = await start_gateway(nursery, base, admin=True, persist=persist)
        client = AdminClient(gateway)
        client.token = token
        assert (await client.list()).json().get("total", 0) == int(persist)
        left = {path.name for path in (base / "deployed").glob("*.zip")}
        assert len(left) == int(persist)
        nursery.cancel_scope.cancel()


async def test_6_7_a_token_runs_out(nursery: trio.Nursery, base: Path) -> None:
    validity = {"token_validity": 1}
    gateway = await start_gateway(nursery, base, admin=True, admin_settings=validity)
    client = await logged_in(gateway)
    expiry = jwt.decode(client.token, options={"verify_signature": False})["exp"]
    assert expiry - time.time() <= 1
    with trio.fail_after(5):
        before = time.time()
        while (answer := await client.list()).status == 200:
            assert before < expiry
            before = time.time()
    assert (answer.status, answer.body) == (401, INVALID)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_6_8_versions_of_tls(
    adapter: Adapter, monkeypatch: pytest.MonkeyPatch, version: ssl.TLSVersion
) -> None:
    trust = adapter.gateway.trust

    def only() -> ssl.SSLContext:
        context = trust()
        context.minimum_version = context.maximum_version = version
        return context

    monkeypatch.setattr(adapter.gateway, "trust", only)
    adapter.agrees(await adapter.client.login(), 200, "OK")


# -- routing (spec: adapter-rest §1, §3) ---------------------------------------------------------


async def test_paths_and_methods_that_are_not_there(adapter: Adapter) -> None:
    answer = await adapter.client.ask("GET", "/x", {"Authorization": BASIC})
    adapter.agrees(answer, 404, "Not Found")
    assert answer.json() == {"code": 404, "message": "path /x was not found"}
    for path in (BASE, f"{BASE}/apis/x", "/api/mgw/adapter/0.2/apis", "/", "/health", "/testkey"):
        assert (await adapter.client.ask("GET", path)).status == 404, path
    answer = await adapter.client.ask("PUT", f"{BASE}/apis", {"Authorization": BASIC})
    adapter.agrees(answer, 405, "Method Not Allowed")
    message = "method PUT is not allowed, but [DELETE,GET,POST] are"
    assert answer.json() == {"code": 405, "message": message}
    assert answer.headers["allow"] == "DELETE,GET,POST"


async def test_other_types_are_not_to_be_had(adapter: Adapter) -> None:
    for accept, status in {
        "text/html": 406,
        "application/json;q=0": 406,
        "*/*": 200,
        "application/*;q=0.5, text/html": 200,
        "text/html, application/json": 200,
    }.items():
        headers = {"Authorization": BASIC, "Accept": accept}
        answer = await adapter.client.ask("GET", f"{BASE}/apis", headers)
        assert answer.status == status, accept
    answer = await adapter.client.ask(
        "GET", f"{BASE}/apis", {"Authorization": BASIC, "Accept": "text/html"}
    )
    adapter.agrees(answer, 406, "Not Acceptable")
    message = "unsupported media type requested, only [application/json] are available"
    assert answer.json() == {"code": 406, "message": message}


async def test_the_description_of_the_api(adapter: Adapter) -> None:
    answer = await adapter.client.ask("GET", "/swagger.json")
    adapter.agrees(answer, 200, "OK")
    found = answer.json()
    assert (found["swagger"], found["basePath"]) == ("2.0", BASE)
    assert {(path, method) for path, each in found["paths"].items() for method in each} == {
        ("/oauth2/token", "post"),
        ("/apis", "post"),
        ("/apis", "get"),
        ("/apis", "delete"),
        ("/apis/lifecycle", "get"),
        ("/apis/lifecycle", "put"),
        ("/apis/revisions", "get"),
        ("/apis/rollback", "post"),
    }


async def test_the_description_for_people(adapter: Adapter) -> None:
    path = f"{BASE}/docs"
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for headers in ({}, browser, {"Accept": "text/html"}):
        answer = await adapter.client.ask("GET", path, headers)
        assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        text = answer.body.decode()
        assert "<script" not in text
        assert "//" not in text.replace("<!DOCTYPE html>", "")  # nothing from elsewhere
        for words in (f"<b>delete</b> {BASE}/apis", "apiName", "the API, or its base path"):
            assert words in text
    answer = await adapter.client.ask("GET", path, {"Accept": "application/json"})
    adapter.agrees(answer, 406, "Not Acceptable")


async def test_nothing_of_it_is_on_the_traffic_ports(adapter: Adapter) -> None:
    for path in (f"{BASE}/apis", "/admin/apis", "/admin/connections", "/swagger.json"):
        header = f"Authorization: {BASIC}\r\n".encode()
        assert (await adapter.gateway.get(path, headers=header)).status == 404
        assert (await adapter.gateway.get(path, headers=header, tls=True)).status == 404
