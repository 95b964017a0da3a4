"""`gateway.toml` and the environment, as frozen values.

Every key is optional; the gateway also runs without a file, with the defaults below. Settings are
read at start (`settings_file.load`); a few of them can be reloaded (`renewal`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from trio_gw.config import registry
from trio_gw.config.conditions import Deny  # noqa: TC001 - needed to read the tables
from trio_gw.config.control_plane import ControlPlaneSettings
from trio_gw.config.cors import CorsSettings
from trio_gw.config.git import GitSettings
from trio_gw.config.observing import (
    AnalyticsSettings,
    LogSettings,
    MetricsSettings,
    TracingSettings,
)
from trio_gw.config.portal import PortalSettings
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
    """A certificate chain and key that the TLS listener uses for some host names.

    Without `hosts` these are the DNS names in the certificate; `*.` is a wildcard for one label.
    """

    cert: str
    key: str
    hosts: tuple[str, ...] = ()


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The certificates of the TLS listener (PEM files), and its trust.

    The loader replaces the folder `certs` by the setting of that name if a path is not given.
    `client_ca` and `backend_ca` name a PEM file or a folder of them; `backend_ca` replaces the
    trust of the system for backends of projects without certificates. The header, if named, passes
    the subject of the client certificate to backends. `minimum` is the oldest version of TLS,
    `ciphers` a list in the format of OpenSSL, for versions up to 1.2.
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
    handshake: float = 60.0  # the answer of the backend to the upgrade
    idle: float = 300.0  # no byte in either direction
    lifetime: float = 86400.0  # maximum lifetime of a connection
    close: float = 5.0  # the answer of the peer to a Close frame
    drain: float = 5.0  # the Close frames of a shutdown are spread over this time


class Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The names of the claims that the gateway reads.

    `a.b` is the claim of that name, else the member `b` of the claim `a`.
    """

    subject: str = "sub"
    scope: str = "scope"
    key_type: str = "keytype"
    application: str = "application"
    token_id: str = "jti"  # noqa: S105 - the name of a claim


class Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A trusted token issuer and the place of its keys. Its repr hides the secret.

    At most one of `certificate` (a PEM file) and `jwks` (a URL or a file) is set; neither, if its
    tokens are opaque and verified with `introspection_url` only.
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
        """Its name, else the issuer text itself."""
        return self.name or self.issuer

    def __repr__(self) -> str:
        return f"Issuer(issuer={self.issuer!r}, name={self.name!r})"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("issuer", self.issuer), ("name", self.name)]


class InternalKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Test-console tokens (spec: security §4); off without `issuer`.

    `issuer` is the name or the issuer text of an entry of `issuers`; its keys sign them.
    """

    issuer: str = ""
    header: str = "Internal-Key"


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """API keys in the form of a JWT, for topics with such a scheme; off without `issuer`."""

    issuer: str = ""


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A user of `/testkey` or of the admin API. Its repr hides the password."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"User(username={self.username!r}, password=<hidden>)"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("username", self.username), ("password", "<hidden>")]


class AdminUser(User, frozen=True, forbid_unknown_fields=True):
    """A user of the admin API and of the portal. `role` is `admin`, `publisher` or `consumer`."""

    role: str = "admin"

    def __repr__(self) -> str:
        return f"AdminUser(username={self.username!r}, password=<hidden>, role={self.role!r})"


class TestKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The built-in token issuer at `/testkey`; `validity` in seconds."""

    enabled: bool = True
    issuer: str = "https://localhost:9095/testkey"
    validity: int = 3600
    users: tuple[User, ...] = (User("admin", "admin"),)


class BackendJwt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The token that describes the caller to backends (spec: security §7); `validity` in seconds.

    Without `key` and `certificate` those of `[tls]` are used. Its keys are served at
    `/.wellknown/jwks`, `jwks_limit` times within `jwks_window` seconds.
    """

    enabled: bool = False
    header: str = "X-JWT-Assertion"
    issuer: str = "wso2.org/products/am"
    validity: int = 3600
    dialect: str = "http://wso2.org/claims"  # prefix of the names of the gateway's claims
    encoding: str = "base64"  # or base64url, as in RFC 7515
    key: str = ""
    certificate: str = ""
    key_id: str = "kid"  # or x5t: how the header names the key
    jwks_limit: int = 1000
    jwks_window: float = 10.0


class Admin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The REST API at `listen.admin`: its users and limits.

    `token_validity` and `upload_timeout` in seconds, `max_upload` in MiB. `hosts` are additional
    host names that are accepted; `*.` is a wildcard for one label. `tls_minimum` and `tls_ciphers`
    are like `minimum` and `ciphers` of `[tls]`.
    """

    users: tuple[AdminUser, ...] = (AdminUser("admin", "admin"),)
    hosts: tuple[str, ...] = ()
    token_validity: int = 3600
    max_upload: int = 128
    upload_timeout: float = 300.0
    tls_minimum: str = TLS_MINIMUM
    tls_ciphers: str = TLS_CIPHERS


class Environment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A deployment environment and the host name of its APIs."""

    name: str = "Default"
    vhost: str = "localhost"


class Health(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Health checks of backends, if there are several; times in seconds (spec: routing §8)."""

    interval: float = 10.0
    timeout: float = 1.0
    unhealthy: int = 2  # failures in a row
    healthy: int = 2  # good checks in a row


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which refusals of a backend are retried, for APIs with retries."""

    statuses: tuple[int, ...] = (504,)
    limit: int = 5  # the maximum for an API
    backoff: float = 0.025  # seconds before the first retry, doubled for each further one


class Dns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many seconds the addresses of a backend are cached; 0 resolves every time."""

    refresh: float = 5.0


class RelaySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`bypass`: relay messages inside Trio's wait, without a pass through Trio for each."""

    bypass: bool = True


TOKEN_PATH = "/oauth2/token"  # noqa: S105 - a path
# Those that the gateway's own key may sign with.
OWN_ALGORITHMS = ("RS256", "ES256", "ES384", "ES512", "EdDSA")

MGW = Issuer(name="MGW", issuer="https://localhost:9095/testkey", certificate="certs/mg.pem")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings. Relative paths are relative to `base`.

    Without `[[issuers]]` the loader trusts the test keys of the gateway: `MGW`, with
    `testkey.issuer` and `tls.cert`.
    """

    apis: str = "apis"
    deployed: str = "deployed"
    persist: bool = True
    certs: str = "certs"
    workers: int = 1  # processes; 0 is one for each core
    worker_timeout: float = 30.0  # seconds without a heartbeat until a worker is replaced; 0: never
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
    portal: PortalSettings = PortalSettings()
    git: GitSettings = GitSettings()
    control_plane: ControlPlaneSettings = ControlPlaneSettings()
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

    @property
    def known_environments(self) -> tuple[Environment, ...]:
        """The environments that are served: also those that the control plane deploys to."""
        if not self.control_plane.url:
            return self.environments
        names = {one.name for one in self.environments}
        more = (name for name in self.control_plane.environments if name not in names)
        return (*self.environments, *(Environment(name) for name in more))

    @property
    def registers_applications(self) -> bool:
        """Whether the gateway has applications of its own, and issues tokens to them."""
        return self.portal.enabled and not self.control_plane.url

    @property
    def application_issuer(self) -> str:
        """The issuer of the tokens of registered applications: the URL of their endpoint."""
        if self.portal.public_https:
            return f"{self.portal.public_https.rstrip('/')}{TOKEN_PATH}"
        host, _, port = self.listen.https.rpartition(":")
        if host in ("", "0.0.0.0", "[::]", "*"):  # noqa: S104 - nothing is bound here
            host = "localhost"
        return f"https://{host}:{port or '9095'}{TOKEN_PATH}"

    @property
    def trusted_issuers(self) -> tuple[Issuer, ...]:
        """The issuers whose tokens are accepted: those of the settings, and applications' own."""
        if not self.registers_applications:
            return self.issuers
        own = Issuer(
            name=registry.ISSUER,
            issuer=self.application_issuer,
            certificate=self.tls.cert,
            algorithms=OWN_ALGORITHMS,
            validate_subscription=True,
        )
        return (*self.issuers, own)

    def path(self, base: Path, name: str) -> Path:
        """Resolve a path relative to the folder of the settings file."""
        return base / name
