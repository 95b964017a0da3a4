"""Which key of a Choreo Connect configuration is which setting here: one line each.

Called by `choreo`. A target that `Settings` does not have (yet) is told as such, so a line may be
here before its setting is. Keys are matched as the reference matches them, in any case; `[]` stands
for an index; a line whose key ends in `.*` speaks for all keys below. spec: config §2 to §6.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class To(NamedTuple):
    """The key becomes this setting; `change` turns the value, or says None: it cannot be."""

    target: str
    change: Callable[[Any], Any] | None = None
    cannot: str = ""


class AddressPart(NamedTuple):
    """The key is one part of a listener's address: `enabled`, `host` or `port`."""

    target: str
    part: str


class Switch(NamedTuple):
    """The key says whether a table of ours is wanted at all; without it, or `true`, it is not."""

    target: str


class Drop(NamedTuple):
    """The key has no meaning here; says why."""

    why: str


class Later(NamedTuple):
    """The key will have a meaning here, but not in this version; says what holds until then."""

    why: str


Rule = To | AddressPart | Switch | Drop | Later

ONE_PROCESS = Drop("it joins processes that are one here")
INTERNAL = Drop("there is no such server inside: policy, router and adapter are one process")
HTTP = Drop("it concerns HTTP APIs; this gateway serves WebSocket APIs")
JAVA = Drop("it names a Java class")
LIMITS = Drop("the gateway counts by itself, by the tiers in [tiers]")
CONTROL = Later("projects come from the folder `apis` only")
ANALYTICS = Drop("events have settings of their own: see [analytics]")
TRACING = Drop("name a collector of OpenTelemetry traces (OTLP over HTTP) in tracing.endpoint")
TRIES = Drop("a remote that fails is asked again for ever, with growing pauses")
METRICS = Drop("metrics are always there: see metrics.listen")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _duration(text: Any) -> float | None:  # noqa: ANN401 - whatever the file has
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    return float(found[1]) * _UNITS[found[2]] if found else None


def _number(value: Any) -> float | None:  # noqa: ANN401
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known else None


def _milliseconds(value: Any) -> float | None:  # noqa: ANN401
    number = _number(value)
    return None if number is None else number / 1000


def _apis(value: Any) -> str | None:  # noqa: ANN401
    return f"{value.rstrip('/')}/apis" if isinstance(value, str) and value else None


def _key_id(value: Any) -> str | None:  # noqa: ANN401
    return {True: "kid", False: "x5t"}.get(value) if isinstance(value, bool) else None


def _tls_version(value: Any) -> str | None:  # noqa: ANN401
    """The reference lets Envoy choose where it does not know the text; that begins with TLS 1.2."""
    if not isinstance(value, str):
        return None
    return {"TLS1_0": "1.0", "TLS1_1": "1.1", "TLS1_3": "1.3"}.get(value, "1.2")


def _ciphers(value: Any) -> str | None:  # noqa: ANN401
    parts = re.split(r"[\s,:]+", value.strip()) if isinstance(value, str) else []
    return ":".join(part for part in parts if part) or None


SECONDS = "it must be a number"

KEYS: dict[str, Rule] = {
    "adapter.artifactsDirectory": To("apis", _apis, "it must be a folder"),
    "adapter.soapErrorInXMLEnabled": HTTP,
    "adapter.server.enabled": AddressPart("listen.admin", "enabled"),
    "adapter.server.host": AddressPart("listen.admin", "host"),
    "adapter.server.port": AddressPart("listen.admin", "port"),
    "adapter.server.users[].username": To("admin.users[].username"),
    "adapter.server.users[].password": To("admin.users[].password"),
    "adapter.server.tokenTTL": To("admin.token_validity", _duration, "it must be like 1h or 90s"),
    "adapter.server.tokenPrivateKeyPath": Drop("`tls.key` signs the tokens of the REST API too"),
    "adapter.vhostMapping[].environment": To("environments[].name"),
    "adapter.vhostMapping[].vhost": To("environments[].vhost"),
    "adapter.keystore.*": Drop("one certificate, `tls.cert`, serves all ports"),
    "adapter.truststore.*": ONE_PROCESS,
    "adapter.consul.*": Drop("backends are found by DNS"),
    "adapter.sourceControl.enabled": Switch("git"),
    "adapter.sourceControl.pollInterval": To("git.interval", _number, SECONDS),
    "adapter.sourceControl.retryInterval": TRIES,
    "adapter.sourceControl.maxRetryCount": TRIES,
    "adapter.sourceControl.artifactsDirectory": Drop(
        "`git.folder` is where commits are kept; `apis` need not point there"
    ),
    "adapter.sourceControl.repository.URL": To("git.url"),
    "adapter.sourceControl.repository.branch": To("git.branch"),
    "adapter.sourceControl.repository.username": To("git.username"),
    "adapter.sourceControl.repository.accessToken": To("git.token"),
    "adapter.sourceControl.repository.SSHKeyFile": To("git.ssh_key"),
    "adapter.metrics.*": METRICS,
    "router.listenerHost": AddressPart("listen.http", "host"),
    "router.listenerPort": AddressPart("listen.http", "port"),
    "router.securedListenerHost": AddressPart("listen.https", "host"),
    "router.securedListenerPort": AddressPart("listen.https", "port"),
    "router.listenerCodecType": Drop("WebSocket clients come with HTTP/1.1"),
    "router.clusterTimeoutInSeconds": To("timeouts.connect", _number, SECONDS),
    "router.enforcerResponseTimeoutInSeconds": ONE_PROCESS,
    "router.useRemoteAddress": Drop(
        "X-Forwarded-For always ends with the peer that the gateway saw; name the proxies whose"
        " own is believed in `trusted_proxies`"
    ),
    "router.systemHost": Drop(
        "/health, /ready and /testkey answer on every host, unless `strict_vhosts` is set"
    ),
    "router.perConnectionBufferLimitBytes": Drop("buffers are small and follow backpressure"),
    "router.keystore.certPath": To("tls.cert"),
    "router.keystore.keyPath": To("tls.key"),
    "router.cors.enabled": To("cors.enabled"),
    "router.cors.allowOrigins": To("cors.allow_origins"),
    "router.cors.allowMethods": To("cors.allow_methods"),
    "router.cors.allowHeaders": To("cors.allow_headers"),
    "router.cors.exposeHeaders": To("cors.expose_headers"),
    "router.cors.allowCredentials": To("cors.allow_credentials"),
    "router.upstream.tls.trustedCertPath": Later(
        "backends are checked against the system's certificates, or those of the project"
    ),
    "router.upstream.tls.disableSslVerification": Drop(
        "a backend's certificate is always checked; put its own into `Endpoint-certificates/`"
    ),
    "router.upstream.tls.verifyHostName": Drop("a backend's host name is always checked"),
    "router.upstream.tls.*": Drop("backends are called with TLS 1.2 or newer, and its ciphers"),
    "router.upstream.timeouts.routeTimeoutInSeconds": To("timeouts.handshake", _number, SECONDS),
    "router.upstream.timeouts.maxRouteTimeoutInSeconds": Drop(
        "`timeouts.handshake` is the most that an API may ask for"
    ),
    "router.upstream.timeouts.routeIdleTimeoutInSeconds": To("timeouts.idle", _number, SECONDS),
    "router.upstream.health.timeout": To("health.timeout", _number, SECONDS),
    "router.upstream.health.interval": To("health.interval", _number, SECONDS),
    "router.upstream.health.unhealthyThreshold": To("health.unhealthy"),
    "router.upstream.health.healthyThreshold": To("health.healthy"),
    "router.upstream.retry.maxRetryCount": To("retry.limit"),
    "router.upstream.retry.baseIntervalInMillis": To("retry.backoff", _milliseconds, SECONDS),
    "router.upstream.retry.statusCodes": To("retry.statuses"),
    "router.upstream.dns.dNSRefreshRate": To("dns.refresh", _milliseconds, SECONDS),
    "router.upstream.dns.respectDNSTtl": Drop("`dns.refresh` alone counts"),
    "router.upstream.http2.*": Drop("backends are called with HTTP/1.1"),
    "router.downstream.tls.minimumProtocolVersion": To(
        "tls.minimum", _tls_version, "it must be a text like TLS1_2"
    ),
    "router.downstream.tls.maximumProtocolVersion": Drop(
        "the newest version that both sides speak is used, up to TLS 1.3"
    ),
    "router.downstream.tls.ciphers": To("tls.ciphers", _ciphers, "it must be a list with commas"),
    "router.downstream.tls.*": Drop("see `tls.minimum` and `tls.ciphers`"),
    "router.downstream.tls.trustedCertPath": Drop(
        "it stood for mutual TLS, which was never enforced for WebSockets"
    ),
    "router.downstream.tls.mTLSAPIsEnabled": Drop("mutual TLS was never enforced for WebSockets"),
    "router.connection.timeouts.requestTimeoutInSeconds": Drop(
        "an upgrade request has no body; `timeouts.head` is for all of it"
    ),
    "router.connection.timeouts.requestHeadersTimeoutInSeconds": To(
        "timeouts.head", _number, SECONDS
    ),
    "router.connection.timeouts.streamIdleTimeoutInSeconds": Drop(
        "routeIdleTimeoutInSeconds took its place there, and is `timeouts.idle` here"
    ),
    "router.connection.timeouts.idleTimeoutInSeconds": Drop(
        "a connection without a request ends after `timeouts.head`"
    ),
    "router.connectionTimeout.*": Drop("no such section was read there either"),
    "router.payloadPassingToEnforcer.*": HTTP,
    "router.awsLambda.*": HTTP,
    "router.filters.*": HTTP,
    "enforcer.management.*": INTERNAL,
    "enforcer.restserver.*": Drop("/testkey is on the traffic ports; see `testkey.enabled`"),
    "enforcer.filters.*": JAVA,
    "enforcer.authService.*": INTERNAL,
    "enforcer.cache.*": Drop("verified tokens are always remembered, within bounds"),
    "enforcer.security.authHeader.authorizationHeader": To("authorization_header"),
    "enforcer.security.authHeader.enableOutboundAuthHeader": To("forward_credentials"),
    "enforcer.security.authHeader.testConsoleHeaderName": To("internal_key.header"),
    "enforcer.security.mutualSSL.*": Drop("mutual TLS was never enforced for WebSockets"),
    "enforcer.security.tokenService[].name": To("issuers[].name"),
    "enforcer.security.tokenService[].issuer": To("issuers[].issuer"),
    "enforcer.security.tokenService[].certificateFilePath": To("issuers[].certificate"),
    "enforcer.security.tokenService[].jwksURL": To("issuers[].jwks"),
    "enforcer.security.tokenService[].validateSubscription": To("issuers[].validate_subscription"),
    "enforcer.security.tokenService[].consumerKeyClaim": To("issuers[].consumer_key_claim"),
    "enforcer.security.tokenService[].certificateAlias": Drop(
        "there is no trust store with aliases; `certificate` names a file"
    ),
    "enforcer.security.tokenService[].claimMapping.*": Drop(
        "claims have their own names, or those that `claims` of the issuer gives them"
    ),
    "enforcer.jwtIssuer.enabled": To("testkey.enabled"),
    "enforcer.jwtIssuer.issuer": To("testkey.issuer"),
    "enforcer.jwtIssuer.validityPeriod": To("testkey.validity"),
    "enforcer.jwtIssuer.jwtUser[].username": To("testkey.users[].username"),
    "enforcer.jwtIssuer.jwtUser[].password": To("testkey.users[].password"),
    "enforcer.jwtIssuer.encoding": Drop("it had no effect there either"),
    "enforcer.jwtIssuer.claimDialect": Drop("test keys have the claims `sub` and `keytype`"),
    "enforcer.jwtIssuer.signingAlgorithm": Drop("test keys are signed with RS256, always"),
    "enforcer.jwtIssuer.publicCertificatePath": Drop("`tls.cert` belongs to the key of test keys"),
    "enforcer.jwtIssuer.privateKeyPath": Drop("`tls.key` signs test keys"),
    "enforcer.jwtGenerator.enabled": To("backend_jwt.enabled"),
    "enforcer.jwtGenerator.header": To("backend_jwt.header"),
    "enforcer.jwtGenerator.tokenTTL": To("backend_jwt.validity"),
    "enforcer.jwtGenerator.claimDialect": To("backend_jwt.dialect"),
    "enforcer.jwtGenerator.encoding": To("backend_jwt.encoding"),
    "enforcer.jwtGenerator.signingAlgorithm": Drop("the kind of the key decides; RSA: RS256"),
    "enforcer.jwtGenerator.useKidProperty": To("backend_jwt.key_id", _key_id),
    "enforcer.jwtGenerator.jwksRatelimitQuota": To("backend_jwt.jwks_limit"),
    "enforcer.jwtGenerator.jwksRatelimitTimeWindowInSeconds": To("backend_jwt.jwks_window"),
    "enforcer.jwtGenerator.keypair.*": Drop(
        "name the pair in `backend_jwt.key` and `backend_jwt.certificate`; else that of `tls` signs"
    ),
    "enforcer.jwtGenerator.gatewayGeneratorImpl": JAVA,
    "enforcer.jwtGenerator.claimsExtractorImpl": JAVA,
    "enforcer.jwtGenerator.*": Drop("backends' tokens have no such choice"),
    "enforcer.throttling.jmsConnectionProviderURL": CONTROL,
    "enforcer.throttling.jmsConnectionInitialContextFactory": JAVA,
    "enforcer.throttling.publisher.*": CONTROL,
    "enforcer.throttling.*": LIMITS,
    "enforcer.metrics.*": METRICS,
    "controlPlane.*": CONTROL,
    "globalAdapter.*": ONE_PROCESS,
    "analytics.*": ANALYTICS,
    "tracing.*": TRACING,
}

_BY_LOWER = {key.lower(): rule for key, rule in KEYS.items()}


def rule_for(key: str) -> Rule | None:
    """Find the line for a key such as `router.cors.allowOrigins`, the nearest one if several."""
    lower = key.lower()
    parts = lower.split(".")
    if parts[-1] == "enable":  # a name that is still read there
        parts[-1] = "enabled"
        lower = ".".join(parts)
    if lower in _BY_LOWER:
        return _BY_LOWER[lower]
    for end in range(len(parts) - 1, 0, -1):
        above = ".".join(parts[:end])
        found = _BY_LOWER.get(f"{above}.*") or _BY_LOWER.get(f"{above.removesuffix('[]')}.*")
        if found:
            return found
    return None
