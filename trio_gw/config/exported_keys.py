"""Keys of an exported api.yaml that API Manager uses and this gateway ignores.

Called by `apiyaml`. If ignoring a key would allow more than its owner expects, `WARNED` has a
warning for it. The keys in `MEANINGLESS` do not change how a WebSocket API is served
(docs/compatibility.md lists them). Every other key is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_gw.config.findings import Findings


def _given(value: object) -> bool:
    """Return whether a value, or anything in it, is not empty, false or zero."""
    if isinstance(value, dict):
        return any(map(_given, value.values()))
    if isinstance(value, list):
        return any(map(_given, value))
    return str(value).strip().casefold() not in ("none", "false", "0", "")


def _restricted(value: object) -> bool:
    named = value if isinstance(value, list) else [value]
    return _given(named) and "all" not in named


def _one_transport(value: object) -> bool:
    return isinstance(value, list) and len({str(each).casefold() for each in value}) == 1


def _advertised(value: object) -> bool:
    return isinstance(value, dict) and _given(value.get("advertised"))


def _other_header(value: object) -> bool:
    return _given(value) and str(value).strip().casefold() != "apikey"


# key: condition, what is not done, what to do instead
WARNED: dict[str, tuple[Callable[[Any], bool], str, str]] = {
    "maxTps": (
        _given,
        "the backend gets as much as clients send",
        "name a tier in `apiThrottlingPolicy` that limits the API",
    ),
    "keyManagers": (
        _restricted,
        "tokens of every issuer in the settings are taken",
        "leave only the issuers in the settings that may use the API",
    ),
    "audiences": (
        _restricted,
        "tokens are accepted for any audience that the settings allow",
        "set `audience` of the issuer in the settings",
    ),
    "transport": (
        _one_transport,
        "the API is served on both listeners, plain and TLS",
        "switch the other listener off in the settings, or name `http` and `https`",
    ),
    "apiKeyHeader": (
        _other_header,
        "an API key is taken where the definition's security scheme says",
        "write a scheme of type httpApiKey with this `name` into the definition",
    ),
    "enableSchemaValidation": (
        _given,
        "messages are not validated",
        "have the backend validate them, or write `false`",
    ),
    "threatProtectionPolicies": (
        _given,
        "messages are not looked into",
        "have the backend protect itself, or remove the key",
    ),
    "mediationPolicies": (
        _given,
        "no policy is run",
        "move what the policies do to the backend, or remove them",
    ),
    "apiPolicies": (
        _given,
        "no policy is run",
        "move what the policies do to the backend, or remove them",
    ),
    "advertiseInfo": (
        _advertised,
        "API Manager only advertises this API; here it is served",
        "remove the project if clients are to go to the backend themselves",
    ),
}

# By the key above them; `config` and `endpoint_security` are parts of `endpointConfig`.
MEANINGLESS: dict[str, frozenset[str]] = {
    "data": frozenset(
        (
            *("description", "provider", "displayName", "isRevision", "revisionId"),
            *("revisionedApiId", "revisionDescription", "hasThumbnail", "tags", "categories"),
            *("additionalProperties", "additionalPropertiesMap", "businessInformation"),
            *("accessControl", "accessControlRoles", "visibility", "visibleRoles"),
            *("visibleTenants", "visibleOrganizations", "audience"),
            *("subscriptionAvailability", "subscriptionAvailableTenants"),
            *("enableSubscriberVerification", "enableStore", "policies"),
            *("organizationPolicies", "monetization", "monetizationLabel", "scopes"),
            *("scopePrefix", "websubSubscriptionConfiguration", "asyncTransportProtocols"),
            *("responseCachingEnabled", "cacheTimeout", "destinationStatsEnabled", "testKey"),
            *("wsdlInfo", "wsdlUrl", "serviceInfo", "workflowStatus", "createdTime"),
            *("lastUpdatedTime", "lastUpdatedTimestamp", "gatewayVendor", "gatewayType"),
            *("gatewayEnvironments", "initiatedFromGateway", "subtypeConfiguration", "egress"),
            *("isEgress", "primaryProductionEndpointId", "primarySandboxEndpointId", "labels"),
        )
    ),
    "operations": frozenset(
        (
            *("id", "authType", "scopes", "usedProductIds", "uriMapping", "payloadSchema"),
            *("operationPolicies", "amznResourceName", "amznResourceTimeout"),
            *("operationProxyMapping",),
        )
    ),
    "endpointConfig": frozenset(
        (
            *("endpoint_type", "algoCombo", "algoClassName", "sessionManagement"),
            *("sessionTimeOut", "failOver", "implementation_status", "access_method"),
            *("amznRegion", "amznAccessKey", "amznSecretKey"),
        )
    ),
    "config": frozenset(
        (
            *("suspendErrorCode", "suspendDuration", "suspendMaxDuration", "factor"),
            *("retryErroCode", "retryErrorCode", "retryDelay", "actionSelect"),
        )
    ),
    "endpoint_security": frozenset(
        (
            *("connectionTimeoutDuration", "connectionRequestTimeoutDuration"),
            *("socketTimeoutDuration", "connectionTimeoutConfigType", "proxyConfigs"),
            *("proxyConfigType", "tokenUrl", "clientId", "clientSecret", "grantType"),
            *("customParameters", "additionalProperties", "apiKeyIdentifier", "apiKeyValue"),
            *("apiKeyIdentifierType", "uniqueIdentifier"),
        )
    ),
}


def check(data: object, findings: Findings) -> None:
    """Warn about keys of an api.yaml that are not supported; `data` is its plain value."""
    if not isinstance(data, dict):
        return
    known = {key.casefold(): (key, *rule) for key, rule in WARNED.items()}
    for written, value in data.items():
        if (rule := known.get(written.casefold())) is None:
            continue
        key, matters, what, hint = rule
        if matters(value):
            findings.warn(("data", written), f"`{key}` has no effect: {what}", hint)
