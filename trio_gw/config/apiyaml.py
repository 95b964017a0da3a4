"""`api.yaml`: the identity of an API, its context and its backends.

Called by `project`. Returns what the file declares; the AsyncAPI definition and the environment
may still replace the endpoints. The backends themselves are read by `backends`.
spec: project-format §4.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from trio_gw.config import backends, cors, exported_keys, overrides
from trio_gw.config.convert import convert

if TYPE_CHECKING:
    from trio_gw.config.findings import Findings

_BASE_PATH = re.compile(r"/[a-zA-Z0-9~/_.-]*")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

# Headers that belong to the connection or to the upgrade (RFC 9110 §7.6.1, RFC 6455 §4.1): a
# token in one of them would break the request, and the gateway removes the header it reads.
_TAKEN_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "origin",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class _Data(msgspec.Struct, frozen=True, rename="camel"):
    id: str = ""
    name: str = ""
    version: str = ""
    context: str = ""
    type: str = ""
    life_cycle_status: str = "PUBLISHED"
    is_default_version: bool = False
    api_throttling_policy: str = ""
    authorization_header: str = ""
    organization_id: str = ""
    endpoint_implementation_type: str = ""
    endpoint_config: backends.EndpointConfig | None = None
    cors_configuration: cors.CorsConfiguration | None = None
    security_scheme: tuple[str, ...] | None = None
    operations: Any = None  # read for their tiers only, so other content is not a fault


class _ApiYaml(msgspec.Struct, frozen=True):
    data: _Data = _Data()


class DeclaredApi(msgspec.Struct, frozen=True):
    """The content of an api.yaml. `kind` is its type in upper case.

    `tiers` are those of its operations, by topic.
    """

    kind: str
    id: str
    name: str
    version: str
    context: str
    lifecycle: str
    default_version: bool
    tier: str
    authorization_header: str
    organization: str
    mutual_tls: Literal["ignored", "optional", "required"]
    production: backends.SideBackends
    sandbox: backends.SideBackends
    cors: cors.CorsSettings | None = None
    tiers: tuple[tuple[str, str], ...] = ()

    @property
    def title(self) -> str:
        """The API in a message, even when it has no name (spec: project-format §4.3)."""
        return _title(self.name, self.version)

    @property
    def foreign(self) -> bool:
        """Whether this is an API of another type than WebSocket."""
        return self.kind not in ("", "WS")


def read(findings: Findings) -> DeclaredApi:
    """Read an api.yaml and check what a WebSocket API needs; faults go to `findings`.

    spec: project-format §3, §4.1, §4.3, §4.4, §7.
    """
    data = convert(_ApiYaml, findings).data
    kind = data.type.strip().upper()
    config = data.endpoint_config or backends.EndpointConfig()
    declared = DeclaredApi(
        kind=kind,
        id=data.id or overrides.fingerprint(data.name, data.version),
        name=data.name,
        version=data.version,
        context=data.context,
        lifecycle=data.life_cycle_status.upper() or "PUBLISHED",
        default_version=data.is_default_version,
        tier=data.api_throttling_policy or "Unlimited",
        authorization_header=_authorization_header(data, findings),
        organization=data.organization_id or "carbon.super",
        mutual_tls=_mutual_tls(data.security_scheme or ()),
        production=backends.read("production", config, findings),
        sandbox=backends.read("sandbox", config, findings),
        cors=cors.read(data.cors_configuration, findings),
        tiers=_tiers(data.operations),
    )
    if findings.document.value(("data",)) is None:
        hint = "put `name`, `version`, `context`, `type` and `endpointConfig` below `data:`"
        findings.error(("data",), "`data` is missing", hint)
    _check_kind(declared, findings)
    if declared.foreign:
        return declared
    _check_presence(data, findings)
    _check_texts(data, findings)
    _check_base_path(data, findings)
    exported_keys.check(findings.document.value(("data",)), findings)
    _check_schemes(data.security_scheme or (), findings)
    if data.endpoint_implementation_type.upper() == "INLINE":
        findings.error(
            ("data", "endpointImplementationType"),
            "INLINE endpointImplementationType is not supported",
            "write ENDPOINT, and give the backend in `endpointConfig`",
        )
    return declared


def _tiers(operations: object) -> tuple[tuple[str, str], ...]:
    """Find the tiers of topics; of two operations of a topic, that of `publish` counts."""
    found: dict[str, tuple[bool, str]] = {}
    for operation in operations if isinstance(operations, list | tuple) else ():
        if not isinstance(operation, dict):
            continue
        texts = {
            str(key).casefold(): value.partition(" //")[0].strip()
            for key, value in operation.items()
            if isinstance(value, str)
        }
        target, tier = texts.get("target", ""), texts.get("throttlingpolicy", "")
        speaks = texts.get("verb", "").upper() == "PUBLISH"
        name = f"/{target.removeprefix('/')}"
        if target and tier and (speaks or name not in found or not found[name][0]):
            found[name] = speaks, tier
    return tuple((name, tier) for name, (_, tier) in found.items())


def _check_kind(declared: DeclaredApi, findings: Findings) -> None:
    if declared.foreign:
        findings.error(
            ("data", "type"),
            f"the given API type is currently not supported. API type: {declared.kind[:80]}",
            "only `type: WS` is served here; leave this API to API Manager",
        )
    elif not declared.kind and not findings.spoilt(("data", "type")):
        findings.error(("data", "type"), "`data.type` is missing", "write `type: WS` below `data:`")


def _check_presence(data: _Data, findings: Findings) -> None:
    title = _title(data.name, data.version)
    for key, value in (("name", data.name), ("version", data.version), ("context", data.context)):
        if not value.strip() and not findings.spoilt(("data", key)):
            findings.error(
                ("data", key),
                f"API {key.capitalize()} cannot be empty for {title}",
                f"write `{key}: …` below `data:`",
            )


def _check_texts(data: _Data, findings: Findings) -> None:
    for key, value in (
        ("id", data.id),
        ("name", data.name),
        ("lifeCycleStatus", data.life_cycle_status),
        ("apiThrottlingPolicy", data.api_throttling_policy),
        ("organizationId", data.organization_id),
    ):
        if _CONTROL.search(value):
            what = f"`{key}` holds a control character or a line break"
            findings.error(("data", key), what, "write it as plain text on one line")


def _check_base_path(data: _Data, findings: Findings) -> None:
    for key, value, text in (
        ("context", data.context, data.context),
        ("version", data.version, f"/{data.version}"),
    ):
        if not value.strip() or findings.spoilt(("data", key)) or _BASE_PATH.fullmatch(text):
            continue
        hint = "use letters, digits and `~ / _ . -`"
        if key == "context":
            hint = f"begin with `/`; {hint}"
        if "{version}" in value:
            hint = "remove `{version}`: the version is always added after the context"
        findings.error(
            ("data", key),
            "invalid basepath. Does not start with / or includes invalid characters:"
            f" `{key}` is `{value[:80]}`",
            hint,
        )
    if data.context.endswith("/"):
        findings.warn(
            ("data", "context"),
            f"the context ends in `/`: clients must call `{data.context[:80]}/{data.version[:80]}`,"
            " with both slashes",
            "remove the `/` at the end",
        )


def _mutual_tls(schemes: tuple[str, ...]) -> Literal["ignored", "optional", "required"]:
    """Read from `securityScheme` whether client certificates are required.

    The reference does not use `securityScheme` for WebSocket APIs. spec: security §8.
    """
    named = {scheme.strip().lower() for scheme in schemes}
    if "mutualssl_mandatory" in named:
        return "required"
    return "optional" if "mutualssl" in named else "ignored"


def _check_schemes(schemes: tuple[str, ...], findings: Findings) -> None:
    """Warn if API Manager would accept only API keys."""
    named = {scheme.strip().lower() for scheme in schemes}
    if "api_key" in named and "oauth2" not in named:
        findings.warn(
            ("data", "securityScheme"),
            "`securityScheme` allows only API keys, but topics require an OAuth2 token: clients"
            " with an API key get 401",
            "give the server in the definition `security` with a scheme of type httpApiKey, and"
            " name who signs the keys in `[api_key] issuer` of the settings",
        )


def _authorization_header(data: _Data, findings: Findings) -> str:
    header = data.authorization_header.lower()
    path = ("data", "authorizationHeader")
    if header and not _TOKEN.fullmatch(header):
        what = f"`{header[:80]}` is not a valid header name"
        findings.error(path, what, "use letters, digits and hyphens, such as `Authorization`")
    elif header in _TAKEN_HEADERS or header.startswith("sec-websocket-"):
        what = f"the header `{header[:80]}` belongs to the connection and cannot carry a token"
        findings.error(path, what, "choose another header, such as `Authorization`")
    return header


def _title(name: str, version: str) -> str:
    return f"{name[:80] or 'unknownAPIName'} {version[:80] or 'unknownAPIVersion'}"
