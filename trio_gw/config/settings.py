"""`gateway.toml` and the environment, as frozen values.

Every key is optional; with no file at all the defaults below run the gateway. Settings are
read at start (`settings_file.load`), and little of them again (`renewal`); API projects are what
changes while it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from trio_gw.config.conditions import Deny  # noqa: TC001 - needed to read the tables
from trio_gw.config.cors import CorsSettings
from trio_gw.config.git import GitSettings
from trio_gw.config.observing import (
    AnalyticsSettings,
    LogSettings,
    MetricsSettings,
    TracingSettings,
)
from trio_gw.config.tiers import LimitSettings, TierTable

if TYPE_CHECKING:
    from pathlib import Path


TLS_MINIMUM = "1.2"
# TLS 1.2 with forward secrecy and authenticated encryption only; TLS 1.3 has nothing else.
TLS_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`host:port` of each listener; empty turns it off, port 0 picks a free one."""

    http: str = "localhost:9090"
    https: str = "localhost:9095"
    admin: str = "localhost:9843"


class Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A certificate chain and key that the TLS listener shows for some host names.

    Without `hosts` these are the DNS names in the certificate; `*.` stands for one label.
    """

    cert: str
    key: str
    hosts: tuple[str, ...] = ()


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The certificates of the TLS listener (PEM files), and who is trusted.

    The loader replaces the folder `certs` by the setting of that name when a path is not given.
    `client_ca` and `backend_ca` name a PEM file or a folder of them; `backend_ca` replaces the
    system's trust for backends whose project has no certificate. The header, if named, tells
    backends the subject of the client's certificate. `minimum` is the oldest version of TLS that is
    spoken, `ciphers` a list as OpenSSL takes it, for versions up to 1.2.
    """

    cert: str = "certs/mg.pem"
    key: str = "certs/mg.key"
    certificates: tuple[Certificate, ...] = ()
    client_ca: str = ""
    client_certificate_header: str = ""
    backend_ca: str = ""
    minimum: str = TLS_MINIMUM
    ciphers: str = TLS_CIPHERS


class Timeouts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Deadlines in seconds."""

    head: float = 10.0  # TLS handshake and request head together
    connect: float = 20.0  # backend TCP and TLS
    handshake: float = 60.0  # the backend's answer to the upgrade
    idle: float = 300.0  # no byte in either direction
    lifetime: float = 86400.0  # longest life of a connection
    close: float = 5.0  # the peer's answer to a Close frame
    drain: float = 5.0  # over which the Close frames of a shutdown are spread


class Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which claims of an issuer hold what the gateway wants to know.

    `a.b` means the claim of that name, else the member `b` of the claim `a`.
    """

    subject: str = "sub"
    scope: str = "scope"
    key_type: str = "keytype"
    application: str = "application"
    token_id: str = "jti"  # noqa: S105 - the name of a claim


class Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token issuer that is trusted, and where its keys are. Its repr hides the secret.

    At most one of `certificate` (a PEM file) and `jwks` (a URL or a file) is set; neither, if
    its tokens are opaque and only its `introspection_url` can tell what they are worth.
    """

    issuer: str
    name: str = ""
    certificate: str = ""
    jwks: str = ""
    algorithms: tuple[str, ...] = ("RS256",)
    audience: tuple[str, ...] = ()  # one of them must be in the claim aud; empty: any
    claims: Claims = Claims()
    validate_subscription: bool = False
    consumer_key_claim: str = ""
    introspection_url: str = ""
    client_id: str = ""
    client_secret: str = ""

    @property
    def title(self) -> str:
        """The name people gave it, else the issuer text itself."""
        return self.name or self.issuer

    def __repr__(self) -> str:
        return f"Issuer(issuer={self.issuer!r}, name={self.name!r})"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("issuer", self.issuer), ("name", self.name)]


class InternalKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Test-console tokens (spec: security §4); off without `issuer`.

    `issuer` is the name or the issuer text of the entry of `issuers` whose keys sign them.
    """

    issuer: str = ""
    header: str = "Internal-Key"


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """API keys in the shape of a JWT, for topics that name such a scheme; off without `issuer`."""

    issuer: str = ""


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A user of `/testkey` or of the admin API. Its repr leaves the password out, for the logs."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"User(username={self.username!r}, password=<hidden>)"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("username", self.username), ("password", "<hidden>")]


class TestKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The built-in token issuer at `/testkey`; `validity` in seconds."""

    enabled: bool = True
    issuer: str = "https://localhost:9095/testkey"
    validity: int = 3600
    users: tuple[User, ...] = (User("admin", "admin"),)


class BackendJwt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The token that tells backends who calls (spec: security §7); `validity` in seconds.

    Without `key` and `certificate` those of `[tls]` sign it. Its keys are served at
    `/.wellknown/jwks`, `jwks_limit` times within `jwks_window` seconds.
    """

    enabled: bool = False
    header: str = "X-JWT-Assertion"
    issuer: str = "wso2.org/products/am"
    validity: int = 3600
    dialect: str = "http://wso2.org/claims"  # in front of the names of the gateway's claims
    encoding: str = "base64"  # or base64url, as RFC 7515 has it
    key: str = ""
    certificate: str = ""
    key_id: str = "kid"  # or x5t: how its head names the key
    jwks_limit: int = 1000
    jwks_window: float = 10.0


class Admin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The REST API at `listen.admin`: who may use it, and what it takes.

    `token_validity` and `upload_timeout` in seconds, `max_upload` in MiB. `hosts` are further
    names that requests may be made to; `*.` stands for one label. `tls_minimum` and `tls_ciphers`
    are for this listener what `minimum` and `ciphers` of `[tls]` are for that of the clients.
    """

    users: tuple[User, ...] = (User("admin", "admin"),)
    hosts: tuple[str, ...] = ()
    token_validity: int = 3600
    max_upload: int = 128
    upload_timeout: float = 300.0
    tls_minimum: str = TLS_MINIMUM
    tls_ciphers: str = TLS_CIPHERS


class Environment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A deployment environment and the host name its APIs answer on."""

    name: str = "Default"
    vhost: str = "localhost"


class Health(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How backends are watched where there is a choice; times in seconds (spec: routing §8)."""

    interval: float = 10.0
    timeout: float = 1.0
    unhealthy: int = 2  # failures in a row
    healthy: int = 2  # good checks in a row


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which refusals of a backend are tried again, for APIs that ask for it."""

    statuses: tuple[int, ...] = (504,)
    limit: int = 5  # what an API may ask for at most
    backoff: float = 0.025  # seconds before the first, doubled for each further one


class Dns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For how many seconds a backend's addresses are remembered; 0 asks every time."""

    refresh: float = 5.0


class RelaySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`bypass`: relay messages inside Trio's wait, without a pass through Trio for each."""

    bypass: bool = True


MGW = Issuer(name="MGW", issuer="https://localhost:9095/testkey", certificate="certs/mg.pem")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of `gateway.toml`. Relative paths are relative to `base`.

    Without `[[issuers]]` the loader trusts the gateway's own test keys: `MGW`, following
    `testkey.issuer` and `tls.cert`.
    """

    apis: str = "apis"
    deployed: str = "deployed"
    persist: bool = True
    certs: str = "certs"
    workers: int = 1  # processes; 0 is one for each core
    worker_timeout: float = 30.0  # seconds without a heartbeat, then it is replaced; 0: never
    strict_vhosts: bool = False
    forward_credentials: bool = False
    preserve_host: bool = False
    authorization_header: str = "Authorization"
    query_token: bool = False
    strict_subprotocols: bool = False
    trusted_proxies: tuple[str, ...] = ()
    revocations: str = "certs/revoked.txt"
    denials: str = "certs/denied.txt"
    on_token_expiry: str = "close"  # noqa: S105 - or "ignore"
    evict: bool = False
    listen: Listen = Listen()
    tls: Tls = Tls()
    timeouts: Timeouts = Timeouts()
    issuers: tuple[Issuer, ...] = (MGW,)
    internal_key: InternalKey = InternalKey()
    api_key: ApiKey = ApiKey()
    testkey: TestKey = TestKey()
    backend_jwt: BackendJwt = BackendJwt()
    admin: Admin = Admin()
    git: GitSettings = GitSettings()
    environments: tuple[Environment, ...] = (Environment(),)
    health: Health = Health()
    retry: Retry = Retry()
    dns: Dns = Dns()
    relay: RelaySettings = RelaySettings()
    cors: CorsSettings = CorsSettings()
    tiers: dict[str, TierTable] = {}
    limits: LimitSettings = LimitSettings()
    deny: tuple[Deny, ...] = ()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    analytics: AnalyticsSettings = AnalyticsSettings()
    tracing: TracingSettings = TracingSettings()

    def path(self, base: Path, name: str) -> Path:
        """Resolve a path of the settings against the folder of their file."""
        return base / name
