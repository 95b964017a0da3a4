"""Which key of a Choreo Connect configuration is which key of `[control_plane]`.

A part of the table in `choreo_keys`. spec: control-plane §1.
"""

from __future__ import annotations

from trio_gw.config import choreo_change as change
from trio_gw.config.choreo_rules import Drop, GroupPart, Rule, Switch, To

AZURE = Drop("it concerns Azure Service Bus, which is not supported")
POOL = Drop("requests run side by side, without a pool whose queue can be full")
SENDER = Drop("each receiver has one connection and a bounded queue, without such options")
SECONDS = "it must be a number of seconds"
BOOLEAN = "it must be true or false"

CONTROL_KEYS: dict[str, Rule] = {
    "controlPlane.enabled": Switch("control_plane"),
    "controlPlane.serviceURL": To("control_plane.url"),
    "controlPlane.username": To("control_plane.username"),
    "controlPlane.password": To("control_plane.password"),
    "controlPlane.environmentLabels": To(
        "control_plane.environments", change.labels, "it must be a list of names"
    ),
    "controlPlane.retryInterval": To(
        "control_plane.retry_interval", change.seconds_or_five, SECONDS
    ),
    "controlPlane.skipSSLVerification": To("control_plane.insecure_skip_verify", cannot=BOOLEAN),
    "controlPlane.sendRevisionUpdate": To("control_plane.revision_updates", cannot=BOOLEAN),
    "controlPlane.brokerConnectionParameters.eventListeningEndpoints": To(
        "control_plane.events", cannot="it must be a list of URLs"
    ),
    "controlPlane.brokerConnectionParameters.reconnectInterval": AZURE,
    "controlPlane.brokerConnectionParameters.reconnectRetryCount": AZURE,
    "controlPlane.httpClient.requestTimeOut": To(
        "control_plane.request_timeout", change.number, SECONDS
    ),
    "controlPlane.requestWorkerPool.*": POOL,
    # The truststore of the adapter holds the authorities of API Manager.
    "adapter.truststore.location": To("control_plane.ca"),
    "enforcer.throttling.enableGlobalEventPublishing": Switch("control_plane.throttling"),
    "enforcer.throttling.enableHeaderConditions": To(
        "control_plane.throttling.header_conditions", cannot=BOOLEAN
    ),
    "enforcer.throttling.enableQueryParamConditions": To(
        "control_plane.throttling.query_conditions", cannot=BOOLEAN
    ),
    "enforcer.throttling.enableJwtClaimConditions": To(
        "control_plane.throttling.claim_conditions", cannot=BOOLEAN
    ),
    "enforcer.throttling.jmsConnectionProviderURL": Drop(
        "decisions arrive through the brokers in `control_plane.events`, with the other events"
    ),
    "enforcer.throttling.publisher.username": To("control_plane.throttling.username"),
    "enforcer.throttling.publisher.password": To("control_plane.throttling.password"),
    "enforcer.throttling.publisher.URLGroup[].receiverURLs": GroupPart("publish"),
    "enforcer.throttling.publisher.URLGroup[].authURLs": GroupPart("login"),
    "enforcer.throttling.publisher.URLGroup[].type": GroupPart("kind"),
    "enforcer.throttling.publisher.*": SENDER,
}
