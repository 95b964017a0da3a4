"""A fake of the REST interface of API Manager for gateways.

It runs in the nursery of the test, over real TLS, and keeps a log of its requests. Its tables are
lists of JSON objects as API Manager has them; a test changes them as it likes.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import io
import json
import ssl
import zipfile
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import h11
import trio
import trustme

from support.projects import api, asyncapi
from support.secrets import secret

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BASE = "/internal/data/v1/"
LISTS = (
    *("subscriptions", "applications", "application-key-mappings"),
    *("application-policies", "subscription-policies", "api-policies"),
)
ARRAYS = ("keymanagers", "revokedjwt", "keyTemplates")
NONE_FOUND = "No Api artifacts found for given criteria"
KEY_MANAGER = "Resident Key Manager"
BLOCKS: dict[str, list[Any]] = {
    name: [] for name in ("api", "application", "user", "subscription", "custom", "ip")
}

_CA = trustme.CA()
_CONTEXT = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
_CA.issue_cert("localhost", "127.0.0.1").configure_cert(_CONTEXT)


class LoggedRequest(NamedTuple):
    """One request: `path` without the common beginning, `query` decoded, `at` on Trio's clock."""

    method: str
    path: str
    query: dict[str, str]
    user: str
    headers: dict[str, str]
    body: bytes
    at: float


@dataclasses.dataclass
class Fault:
    """What goes wrong with the next `times` requests of a path; -1: with all of them.

    `status` answers that; `delay` answers late, in seconds; `reset` closes the connection without
    an answer; `cut` ends the answer in the middle; `body` is sent instead; `huge` sends that many
    octets of JSON; `headers` are added. `gate` holds the answer until it is set.
    """

    times: int = 1
    status: int = 0
    delay: float = 0
    reset: bool = False
    cut: bool = False
    body: bytes | None = None
    huge: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    gate: trio.Event | None = None


@dataclasses.dataclass
class Deployed:
    """A deployed revision of an API: the files of its project and where it is deployed."""

    uuid: str
    revision: str
    files: dict[str, bytes]
    environments: list[tuple[str, str]]
    endpoints: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    raw: bytes | None = None  # of the inner zip, instead of the files
    at: int = 1_700_000_000_000
    organization: str = "carbon.super"
    _zip: bytes | None = None

    @property
    def file(self) -> str:
        """The name of the inner zip."""
        return f"{self.uuid}-{self.revision}.zip"

    def zipped(self) -> bytes:
        """Give the inner zip; the same octets each time, as API Manager keeps them."""
        if self.raw is not None:
            return self.raw
        if self._zip is None:
            self._zip = zipped(self.files)
        return self._zip


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Zip files in memory."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in files.items():
            target.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def project_files(
    uuid: str,
    name: str = "Chat",
    context: str = "/chat",
    backend: str = "ws://127.0.0.1:9",
    channels: Mapping[str, Any] | None = None,
    **data: Any,
) -> dict[str, bytes]:
    """Build the files of a project as API Manager packs them."""
    meta = api(name, context, backend, **{"id": uuid, **data})
    definition = asyncapi(dict(channels) if channels else {"/*": {"publish": {}, "subscribe": {}}})
    folder = f"{name}-{meta['data']['version']}"
    return {
        f"{folder}/api.yaml": json.dumps(meta).encode(),
        f"{folder}/Definitions/asyncapi.yaml": json.dumps(definition).encode(),
    }


def project_folder(root: Path) -> dict[str, bytes]:
    """Read the files of a project from a folder."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {f"{root.name}/{path.relative_to(root)}": path.read_bytes() for path in files}


class FakeApiManager:
    """The tables, the deployments, the log of requests, and the faults by path."""

    def __init__(self, username: str = "admin", password: str = "admin") -> None:  # noqa: S107
        self.username = username
        self.password = password
        self.port = 0
        self.ca = _CA
        self.tables: dict[str, list[Any]] = {name: [] for name in (*LISTS, *ARRAYS)}
        self.apis: list[dict[str, Any]] = []  # with `labels`, which is not sent
        self.block = {name: list(rows) for name, rows in BLOCKS.items()}
        self.deployments: list[Deployed] = []
        self.requests: list[LoggedRequest] = []
        self.faults: dict[str, list[Fault]] = {}
        self.arrived = trio.Event()
        self.none_found = 404  # or 204

    @property
    def url(self) -> str:
        """The value of `control_plane.url`."""
        return f"https://localhost:{self.port}/"

    def settings(self, folder: Path, **more: Any) -> dict[str, Any]:
        """Give the table `[control_plane]` for this API Manager; writes its authority there."""
        path = folder / "apim-ca.pem"
        path.write_bytes(_CA.cert_pem.bytes())
        username, password = self.username, self.password
        table = {"url": self.url, "ca": str(path), "username": username, "password": password}
        return {**table, "retry_interval": 0.1, **more}

    def fault(self, path: str, *faults: Fault) -> None:
        """Let the next requests of a path go wrong, in this order."""
        self.faults.setdefault(path, []).extend(faults)

    def paths(self) -> list[str]:
        """List the paths of all requests."""
        return [request.path for request in self.requests]

    async def wait_requests(self, path: str, count: int) -> list[LoggedRequest]:
        """Wait until a path was asked for so many times; fails after 60 seconds."""
        with trio.fail_after(60):
            while len(found := [each for each in self.requests if each.path == path]) < count:
                await self.arrived.wait()
        return found

    # -- what is deployed and subscribed ------------------------------------------------------

    def deploy(
        self,
        uuid: str,
        *environments: tuple[str, str],
        revision: str = "r1",
        name: str = "Chat",
        context: str = "/chat",
        version: str = "1.0.0",
        endpoints: dict[str, dict[str, str]] | None = None,
        files: dict[str, bytes] | None = None,
        raw: bytes | None = None,
        **project: Any,
    ) -> Deployed:
        """Deploy a revision of an API to (environment, vhost) pairs; replaces the one before."""
        places = list(environments or [("Default", "localhost")])
        if files is None:
            files = project_files(uuid, name, context, version=version, **project)
        deployed = Deployed(uuid, revision, files, places, endpoints or {}, raw)
        self.undeploy(uuid)
        self.deployments.append(deployed)
        self.apis.append(
            {
                "apiId": len(self.apis) + 1,
                "uuid": uuid,
                "provider": "admin",
                "name": name,
                "version": version,
                "context": f"{context}/{version}",
                "policy": "Unlimited",
                "apiType": "WS",
                "isDefaultVersion": False,
                "status": "PUBLISHED",
                "labels": {environment for environment, _ in places},
            }
        )
        return deployed

    def undeploy(self, uuid: str) -> None:
        """Remove an API from all environments."""
        self.deployments = [each for each in self.deployments if each.uuid != uuid]
        self.apis = [each for each in self.apis if each["uuid"] != uuid]

    def api(self, uuid: str) -> dict[str, Any]:
        """Give the row of an API."""
        return next(each for each in self.apis if each["uuid"] == uuid)

    def seed(self, backend: str, uuid: str = "6c1f0e2e-0001-4c5e-9a10-000000000001") -> Deployed:
        """Fill the tables with one API, application, key, subscription (spec )."""
        application = "app-uuid-2"
        tables = self.tables
        tables["applications"] = [
            {
                "uuid": application,
                "id": 2,
                "name": "ChatApp",
                "subName": "alice",
                "policy": "Unlimited",
                "tokenType": "JWT",
                "attributes": {"tier": "gold"},
            }
        ]
        tables["application-key-mappings"] = [
            {
                "applicationId": 2,
                "applicationUUID": application,
                "consumerKey": "client-1",
                "keyType": "PRODUCTION",
                "keyManager": KEY_MANAGER,
                "timeStamp": 1_700_000_000_000,
            }
        ]
        tables["subscriptions"] = [
            {
                "subscriptionId": 1,
                "subscriptionUUID": "sub-uuid-1",
                "apiId": 1,
                "apiUUID": uuid,
                "appId": 2,
                "applicationUUID": application,
                "policyId": "AsyncGold",
                "subscriptionState": "UNBLOCKED",
                "timeStamp": 1_700_000_000_000,
            }
        ]
        tables["application-policies"] = [policy(1, "Unlimited", "requestCount")]
        tables["subscription-policies"] = [
            policy(1, "Unlimited", "requestCount"),
            {**policy(2, "AsyncGold", "eventCount", 10_000), "stopOnQuotaReach": True},
        ]
        return self.deploy(uuid, backend=backend)

    def add_key_manager(self, pem: bytes, issuer: str, name: str = KEY_MANAGER) -> None:
        """Add a key manager with a certificate in PEM."""
        configuration = {
            "self_validate_jwt": True,
            "issuer": issuer,
            "consumer_key_claim": "azp",
            "scopes_claim": "scope",
            "certificate_type": "PEM",
            "certificate_value": base64.b64encode(pem).decode(),
        }
        self.tables["keymanagers"].append(
            {
                "name": name,
                "type": "default",
                "enabled": True,
                "tenantDomain": "carbon.super",
                "configuration": configuration,
            }
        )

    # -- serving ---------------------------------------------------------------------------------

    async def handle(self, tcp: trio.SocketStream) -> None:
        """Serve one connection."""
        stream = trio.SSLStream(tcp, _CONTEXT, server_side=True, https_compatible=True)
        connection = h11.Connection(h11.SERVER)
        with contextlib.suppress(
            trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError, OSError
        ):
            try:
                while await self._exchange(stream, connection):
                    connection.start_next_cycle()
            finally:
                await trio.aclose_forcefully(stream)

    async def _exchange(
        self, stream: trio.SSLStream[trio.SocketStream], connection: h11.Connection
    ) -> bool:
        """Answer one request; return whether the connection stays open."""
        request: h11.Request | None = None
        body = b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some()))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        assert request is not None
        return await self._answer(stream, connection, request, body)

    async def _answer(
        self,
        stream: trio.SSLStream[trio.SocketStream],
        connection: h11.Connection,
        request: h11.Request,
        body: bytes,
    ) -> bool:
        target = urlsplit(request.target.decode())
        path = target.path.removeprefix(BASE)
        headers = {name.decode().lower(): value.decode() for name, value in request.headers}
        query = dict(parse_qsl(target.query, keep_blank_values=True))
        user, allowed = self._user(headers.get("authorization", ""))
        method = request.method.decode()
        logged = LoggedRequest(method, path, query, user, headers, body, trio.current_time())
        self.requests.append(logged)
        self.arrived.set()
        self.arrived = trio.Event()
        fault = self._fault(path)
        if fault.gate is not None:
            await fault.gate.wait()
        if fault.delay:
            await trio.sleep(fault.delay)
        if fault.reset:
            return False
        kind = "application/json"
        if fault.status:
            status, content = fault.status, fault.body or b'{"message":"injected"}'
        elif not allowed:
            status, content = 401, b'{"code":401,"message":"Unauthenticated request"}'
        elif fault.body is not None:
            status, content = 200, fault.body
        elif fault.huge:
            status, content = 200, b'{"list":[' + b" " * fault.huge + b"]}"
        else:
            status, kind, content = self._content(logged)
        content = b"" if status == 204 else content
        fields = [("content-type", kind), ("content-length", str(len(content))), *fault.headers]
        await stream.send_all(
            connection.send(h11.Response(status_code=status, headers=fields)) or b""
        )
        if fault.cut:
            await stream.send_all(content[: len(content) // 2])
            return False
        if content:
            await stream.send_all(connection.send(h11.Data(data=content)) or b"")
        await stream.send_all(connection.send(h11.EndOfMessage()) or b"")
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE

    def _user(self, authorization: str) -> tuple[str, bool]:
        scheme, _, value = authorization.partition(" ")
        try:
            user, _, password = base64.b64decode(value).decode().partition(":")
        except ValueError:
            return "", False
        allowed = (user, password) == (self.username, self.password)
        return user, scheme == "Basic" and allowed

    def _fault(self, path: str) -> Fault:
        faults = self.faults.get(path, [])
        while faults:
            if faults[0].times:
                faults[0].times -= 1
                return faults[0]
            faults.pop(0)
        return Fault()

    def _content(self, request: LoggedRequest) -> tuple[int, str, bytes]:
        path, query = request.path, request.query
        if request.method != "GET":
            known = {"apis/deployed-revisions": "PATCH", "apis/undeployed-revision": "POST"}
            return (200 if known.get(path) == request.method else 404), "application/json", b"{}"
        if path in LISTS:
            return _json({"list": self.tables[path]})
        if path in ARRAYS:
            return _json(self.tables[path])
        if path == "block":
            return _json(self.block)
        if path == "apis":
            return _json({"list": self._apis(query)})
        if path == "runtime-artifacts":
            return self._artifacts(query)
        return 404, "application/json", b'{"code":404,"message":"Not Found"}'

    def _apis(self, query: dict[str, str]) -> list[dict[str, Any]]:
        label = query.get("gatewayLabel", "Default")
        found = [each for each in self.apis if label in each["labels"]]
        for name in ("context", "version"):
            if query.get(name):
                found = [each for each in found if each[name] == query[name]]
        return [{name: each[name] for name in each if name != "labels"} for each in found]

    def _artifacts(self, query: dict[str, str]) -> tuple[int, str, bytes]:
        if query.get("type") != "Envoy":
            return 400, "application/json", b'{"code":400,"message":"unknown type"}'
        labels = base64.b64decode(query.get("gatewayLabel", ""), validate=True).decode().split("|")
        found = [
            (each, places)
            for each in self.deployments
            if not query.get("apiId") or each.uuid == query["apiId"]
            if (places := [place for place in each.environments if place[0] in labels])
        ]
        if not found:
            body = {"code": 900910, "message": NONE_FOUND, "description": NONE_FOUND}
            return self.none_found, "application/json", json.dumps(body).encode()
        deployments = [
            {
                "apiFile": each.file,
                "organizationId": each.organization,
                "environments": [
                    {"name": name, "vhost": vhost, "type": "hybrid", "deployedTimeStamp": each.at}
                    for name, vhost in places
                ],
            }
            for each, places in found
        ]
        overrides = {each.uuid: _environments(each) for each, _ in found if each.endpoints}
        data = {"deployments": deployments}
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
            listed = {"type": "deployments", "version": "v4.1.0", "data": data}
            target.writestr("deployments.json", json.dumps(listed))
            if overrides:
                env = {"type": "env_properties", "apis": overrides}
                target.writestr("env_properties.json", json.dumps(env))
            for each, _ in found:
                if each.file not in target.namelist():
                    target.writestr(each.file, each.zipped())
        return 200, "application/zip", out.getvalue()


def policy(number: int, name: str, quota: str, count: int = 0, unit: str = "min") -> dict[str, Any]:
    """Build the row of a policy as API Manager 4.x has it."""
    row: dict[str, Any] = {"id": number, "tenantId": -1234, "name": name, "quotaType": quota}
    if count:
        window = {"timeUnit": unit, "unitTime": 1}
        limit: dict[str, Any] = {"quotaType": quota}
        if quota == "bandwidthVolume":
            limit["bandwidth"] = {"dataAmount": count, "dataUnit": "KB", **window}
        else:
            limit[quota] = {quota: count, **window}
        row["defaultLimit"] = limit
    return row


def _environments(deployed: Deployed) -> dict[str, Any]:
    items = deployed.endpoints.items()
    return {name: {"envId": name, "configs": configs} for name, configs in items}


def _json(value: object) -> tuple[int, str, bytes]:
    return 200, "application/json", json.dumps(value).encode()


async def start_apim(
    nursery: trio.Nursery,
    username: str = "admin",
    password: str = "admin",  # noqa: S107
    port: int = 0,
) -> FakeApiManager:
    """Start a fake in the test's nursery."""
    fake = FakeApiManager(username, password)
    if password != "admin":
        secret(password)
    (listener,) = await trio.open_tcp_listeners(port, host="127.0.0.1")
    fake.port = listener.socket.getsockname()[1]
    nursery.start_soon(trio.serve_listeners, fake.handle, [listener])
    return fake
