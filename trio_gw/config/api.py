"""One API project as a value: the content of `api.yaml` and of the AsyncAPI definition.

Made by `config.project`, read by `routing`. Everything is frozen: a project is replaced, never
edited.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from trio_gw.config.cors import CorsSettings  # noqa: TC001 - needed to decode a project
from trio_gw.config.lifecycle import Managed  # noqa: TC001 - needed to decode a project


class BasicAuth(msgspec.Struct, frozen=True):
    """The credential that the gateway sends to the backends of a cluster. Its repr hides it."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"BasicAuth({self.username!r})"


class Endpoint(msgspec.Struct, frozen=True):
    """One backend URL. `path` is as written, empty or with a leading slash; `query` has no `?`.

    `trust` holds the PEM certificates that anchor TLS to it; empty means the system's.
    """

    scheme: Literal["ws", "wss"]
    host: str
    port: int
    path: str = ""
    query: str = ""
    trust: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """The URL without path and query, which may hold secrets."""
        return f"{self.scheme}://{self._name}:{self.port}"

    @property
    def authority(self) -> str:
        """Its `Host`: with the port, unless that is the default of the scheme (RFC 9110 §7.2)."""
        usual = 443 if self.scheme == "wss" else 80
        return self._name if self.port == usual else f"{self._name}:{self.port}"

    @property
    def _name(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def __str__(self) -> str:
        query = f"?{self.query}" if self.query else ""
        return f"{self.origin}{self.path}{query}"


class Cluster(msgspec.Struct, frozen=True):
    """The backends of one kind, production or sandbox; never empty (spec: project-format §4.4).

    They share the load in turn; with `failover` the first healthy one gets all of it. `timeout`
    is the time in seconds for the answer to the upgrade, None for that of the settings; `retries`
    is the number of retries.
    """

    endpoints: tuple[Endpoint, ...]
    failover: bool = False
    timeout: float | None = None
    retries: int = 0
    basic: BasicAuth | None = None


class UriMapping(msgspec.Struct, frozen=True):
    """A topic's own backend path (spec: project-format §5.4).

    `path` starts with `/` and may hold `{uri.var.<name>}` placeholders.
    `query` is None when the mapping has no query part (the client's query is kept then), else
    the name and value pairs in their order. Both are percent-encoded as they are written.
    """

    path: str
    query: tuple[tuple[str, str], ...] | None = None


class ApiKeyPlace(msgspec.Struct, frozen=True):
    """Where a topic accepts an API key; `name` of a header is in lower case."""

    place: Literal["header", "query"]
    name: str


class Inspection(msgspec.Struct, frozen=True):
    """That a topic's messages are looked at, one by one, and how many bytes one may have."""

    max_message: int


class Topic(msgspec.Struct, frozen=True):
    """One AsyncAPI channel; over WebSockets a channel *is* the connection.

    `scopes` is None when the topic declares none; an empty tuple is declared but asks for
    nothing (the difference matters when no oauth2 scheme exists, spec: project-format §5.3).
    `api_keys` is empty when the topic takes none. `tier` is empty when it has none of its own.
    `max_message` is the size of a message in bytes where none is looked at, None if not given.
    With `pass_path` the backend gets the path of the client below the base path; a topic with a
    `mapping` never has it.
    With `plain_http` GET, HEAD and POST without an upgrade are proxied, too.
    """

    name: str
    mapping: UriMapping | None = None
    secured: bool = True
    scopes: tuple[str, ...] | None = None
    api_keys: tuple[ApiKeyPlace, ...] = ()
    inspection: Inspection | None = None
    tier: str = ""
    max_message: int | None = None
    pass_path: bool = False
    plain_http: bool = False


class Deployment(msgspec.Struct, frozen=True):
    """Where the project wants to be served; an empty `vhost` means that of the environment."""

    environment: str
    vhost: str = ""


class ClientCertificate(msgspec.Struct, frozen=True):
    """A client certificate that the project names for mutual TLS; `pem` is the certificate."""

    alias: str
    pem: str
    tier: str = ""


class ApiProject(msgspec.Struct, frozen=True):
    """One API, ready to be compiled into routes.

    `folder` is the project's path as shown in messages. `oauth2` tells whether the definition
    has a security scheme of type oauth2. `authorization_header` is lower-case and empty when
    the gateway's default applies. `cors` is None unless the API has a policy of its own. An empty
    `deployments` means the environment `Default`. `mutual_tls` tells whether clients may or must
    show a certificate (spec: security §8). `unenforced` names constraints of the definition
    that are not enforced. `preserve_host`: backends get the client's `Host`; None leaves it to the
    settings.
    """

    folder: str
    id: str
    name: str
    version: str
    context: str
    topics: tuple[Topic, ...]
    production: Cluster | None = None
    sandbox: Cluster | None = None
    lifecycle: str = "PUBLISHED"
    default_version: bool = False
    tier: str = "Unlimited"
    authorization_header: str = ""
    organization: str = "carbon.super"
    oauth2: bool = True
    cors: CorsSettings | None = None
    deployments: tuple[Deployment, ...] = ()
    client_certificates: tuple[ClientCertificate, ...] = ()
    mutual_tls: Literal["ignored", "optional", "required"] = "ignored"
    unenforced: tuple[str, ...] = ()
    preserve_host: bool | None = None
    managed: Managed | None = None

    @property
    def base_path(self) -> str:
        """`<context>/<version>` (spec: project-format §7)."""
        return f"{self.context}/{self.version}"

    @property
    def title(self) -> str:
        """`<name>:<version>`, for people."""
        return f"{self.name}:{self.version}"
