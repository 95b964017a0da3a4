"""Which key of a Choreo Connect configuration is which setting here: one line each.

Called by `choreo`. A target that `Settings` does not have is reported as unavailable. Keys match
regardless of case, as in the reference; `[]` is any index; a key that ends in `.*` covers all keys
below it. spec: config §2 to §6.
"""

from __future__ import annotations

from trio_gw.config import choreo_change as change
from trio_gw.config.choreo_control_keys import CONTROL_KEYS
from trio_gw.config.choreo_rules import AddressPart, Drop, Later, Rule, Switch, To

ONE_PROCESS = Drop("it connects processes; here there is only one")
INTERNAL = Drop("there is no internal server: adapter, router and enforcer are one process")
HTTP = Drop("it concerns HTTP APIs; this gateway serves WebSocket APIs")
JAVA = Drop("it names a Java class")
LIMITS = Drop("it tunes the enforcer of the reference; the gateway has its own limits")
ANALYTICS = Drop("events are configured in [analytics]")
TRACING = Drop("set tracing.endpoint to a collector of OpenTelemetry traces (OTLP over HTTP)")
TRIES = Drop("a remote that fails is retried without end, after growing pauses")
METRICS = Drop("see `metrics.enabled` and `metrics.listen`")
SECONDS = "it must be a number"

KEYS: dict[str, Rule] = {
    "adapter.artifactsDirectory": To("apis", change.apis, "it must be a folder"),
    "adapter.soapErrorInXMLEnabled": HTTP,
    "adapter.server.enabled": AddressPart("listen.admin", "enabled"),
    "adapter.server.host": AddressPart("listen.admin", "host"),
    "adapter.server.port": AddressPart("listen.admin", "port"),
    "adapter.server.users[].username": To("admin.users[].username"),
    "adapter.server.users[].password": To("admin.users[].password"),
    "adapter.server.tokenTTL": To(
        "admin.token_validity", change.duration, "it must be like 1h or 90s"
    ),
    "adapter.server.tokenPrivateKeyPath": Drop("`tls.key` signs the tokens of the REST API too"),
    "adapter.vhostMapping[].environment": To("environments[].name"),
    "adapter.vhostMapping[].vhost": To("environments[].vhost"),
    "adapter.keystore.*": Drop("the certificates of [tls] serve all TLS ports"),
    "adapter.truststore.*": ONE_PROCESS,
    "adapter.consul.*": Drop("backends are found by DNS"),
    "adapter.sourceControl.enabled": Switch("git"),
    "adapter.sourceControl.pollInterval": To("git.interval", change.number, SECONDS),
    "adapter.sourceControl.retryInterval": TRIES,
    "adapter.sourceControl.maxRetryCount": TRIES,
    "adapter.sourceControl.artifactsDirectory": Drop(
        "commits are kept in `git.folder`; `apis` does not have to name it"
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
    "router.listenerCodecType": Drop("WebSocket clients use HTTP/1.1"),
    "router.clusterTimeoutInSeconds": To("timeouts.connect", change.number, SECONDS),
    "router.enforcerResponseTimeoutInSeconds": ONE_PROCESS,
    "router.useRemoteAddress": Drop(
        "X-Forwarded-For always ends with the address of the peer; list proxies whose header is"
        " trusted in `trusted_proxies`"
    ),
    "router.systemHost": Drop(
        "/health, /ready and /testkey answer on every host, unless `strict_vhosts` is set"
    ),
    "router.perConnectionBufferLimitBytes": Drop("buffers are small; backpressure limits them"),
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
        "the certificate of a backend is always checked; put it into `Endpoint-certificates/`"
    ),
    "router.upstream.tls.verifyHostName": Drop("the host name of a backend is always checked"),
    "router.upstream.tls.*": Drop(
        "backends are called with TLS 1.2 or newer and the default ciphers"
    ),
    "router.upstream.timeouts.routeTimeoutInSeconds": To(
        "timeouts.handshake", change.number, SECONDS
    ),
    "router.upstream.timeouts.maxRouteTimeoutInSeconds": Drop(
        "`timeouts.handshake` is the upper limit for every API"
    ),
    "router.upstream.timeouts.routeIdleTimeoutInSeconds": To(
        "timeouts.idle", change.number, SECONDS
    ),
    "router.upstream.health.timeout": To("health.timeout", change.number, SECONDS),
    "router.upstream.health.interval": To("health.interval", change.number, SECONDS),
    "router.upstream.health.unhealthyThreshold": To("health.unhealthy"),
    "router.upstream.health.healthyThreshold": To("health.healthy"),
    "router.upstream.retry.maxRetryCount": To("retry.limit"),
    "router.upstream.retry.baseIntervalInMillis": To("retry.backoff", change.milliseconds, SECONDS),
    "router.upstream.retry.statusCodes": To("retry.statuses"),
    "router.upstream.dns.dNSRefreshRate": To("dns.refresh", change.milliseconds, SECONDS),
    "router.upstream.dns.respectDNSTtl": Drop("only `dns.refresh` is used"),
    "router.upstream.http2.*": Drop("backends are called with HTTP/1.1"),
    "router.downstream.tls.minimumProtocolVersion": To(
        "tls.minimum", change.tls_version, "it must be a text like TLS1_2"
    ),
    "router.downstream.tls.maximumProtocolVersion": Drop(
        "the newest version that both sides speak is used, up to TLS 1.3"
    ),
    "router.downstream.tls.ciphers": To(
        "tls.ciphers", change.ciphers, "it must be a list with commas"
    ),
    "router.downstream.tls.*": Drop("see `tls.minimum` and `tls.ciphers`"),
    "router.downstream.tls.trustedCertPath": Drop(
        "it was for mutual TLS, which was never enforced for WebSockets"
    ),
    "router.downstream.tls.mTLSAPIsEnabled": Drop("mutual TLS was never enforced for WebSockets"),
    "router.connection.timeouts.requestTimeoutInSeconds": Drop(
        "`timeouts.head` limits the time for a request head; an upgrade request has no body"
    ),
    "router.connection.timeouts.requestHeadersTimeoutInSeconds": To(
        "timeouts.head", change.number, SECONDS
    ),
    "router.connection.timeouts.streamIdleTimeoutInSeconds": Drop(
        "routeIdleTimeoutInSeconds overrode it; that is `timeouts.idle` here"
    ),
    "router.connection.timeouts.idleTimeoutInSeconds": Drop(
        "a connection without a request ends after `timeouts.head`"
    ),
    "router.connectionTimeout.*": Drop("the reference did not read this section either"),
    "router.payloadPassingToEnforcer.*": HTTP,
    "router.awsLambda.*": HTTP,
    "router.filters.*": HTTP,
    "enforcer.management.*": INTERNAL,
    "enforcer.restserver.*": Drop("/testkey is on the traffic ports; see `testkey.enabled`"),
    "enforcer.filters.*": JAVA,
    "enforcer.authService.*": INTERNAL,
    "enforcer.cache.*": Drop("verified tokens are always cached, up to a fixed number"),
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
        "set the names of claims in `claims` of the issuer"
    ),
    "enforcer.jwtIssuer.enabled": To("testkey.enabled"),
    "enforcer.jwtIssuer.issuer": To("testkey.issuer"),
    "enforcer.jwtIssuer.validityPeriod": To("testkey.validity"),
    "enforcer.jwtIssuer.jwtUser[].username": To("testkey.users[].username"),
    "enforcer.jwtIssuer.jwtUser[].password": To("testkey.users[].password"),
    "enforcer.jwtIssuer.encoding": Drop("it had no effect in the reference either"),
    "enforcer.jwtIssuer.claimDialect": Drop("test keys have the claims `sub` and `keytype`"),
    "enforcer.jwtIssuer.signingAlgorithm": Drop(
        "the type of the key decides; with RSA it is RS256"
    ),
    "enforcer.jwtIssuer.publicCertificatePath": Drop(
        "test keys are signed with `tls.key`; its certificate is `tls.cert`"
    ),
    "enforcer.jwtIssuer.privateKeyPath": Drop("`tls.key` signs test keys"),
    "enforcer.jwtGenerator.enabled": To("backend_jwt.enabled"),
    "enforcer.jwtGenerator.header": To("backend_jwt.header"),
    "enforcer.jwtGenerator.tokenTTL": To("backend_jwt.validity"),
    "enforcer.jwtGenerator.claimDialect": To("backend_jwt.dialect"),
    "enforcer.jwtGenerator.encoding": To("backend_jwt.encoding"),
    "enforcer.jwtGenerator.signingAlgorithm": Drop(
        "the type of the key decides; with RSA it is RS256"
    ),
    "enforcer.jwtGenerator.useKidProperty": To("backend_jwt.key_id", change.key_id),
    "enforcer.jwtGenerator.jwksRatelimitQuota": To("backend_jwt.jwks_limit"),
    "enforcer.jwtGenerator.jwksRatelimitTimeWindowInSeconds": To("backend_jwt.jwks_window"),
    "enforcer.jwtGenerator.keypair.*": Drop(
        "set `backend_jwt.key` and `backend_jwt.certificate`; the default is the pair of [tls]"
    ),
    "enforcer.jwtGenerator.gatewayGeneratorImpl": JAVA,
    "enforcer.jwtGenerator.claimsExtractorImpl": JAVA,
    "enforcer.jwtGenerator.*": Drop("the backend JWT has no such option"),
    "enforcer.throttling.jmsConnectionInitialContextFactory": JAVA,
    "enforcer.throttling.*": LIMITS,
    "enforcer.metrics.*": METRICS,
    "globalAdapter.*": ONE_PROCESS,
    "analytics.*": ANALYTICS,
    "tracing.*": TRACING,
    **CONTROL_KEYS,
}

_BY_LOWER = {key.lower(): rule for key, rule in KEYS.items()}


def rule_for(key: str) -> Rule | None:
    """Find the rule for a key such as `router.cors.allowOrigins`; the nearest of several."""
    lower = key.lower()
    parts = lower.split(".")
    if parts[-1] == "enable":  # an old name that the reference still reads
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
