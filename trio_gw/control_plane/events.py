"""The messages of API Manager's event hub, read into events. Pure.

Whatever a message holds, `read_event` returns an event: one that cannot be read is `Useless`.
What an event changes depends on the current state: see `reconcile`. spec: control-plane §6, §13.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

from trio_gw.config.entitlements import (
    ApplicationRow,
    BlockRow,
    Change,
    KeyManagerRow,
    KeyTemplateRow,
    PolicyLevel,
    PolicyRow,
    RevokedRow,
    Row,
)
from trio_gw.control_plane import rest_rows
from trio_gw.control_plane.fields import BadRowError, Fields, packed, parse
from trio_gw.control_plane.throttling.decision import decision, is_decision

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from trio_gw.control_plane.status import EventKind

KEYS = ("notification", "keymanager", "tokenRevocation", "throttleData")  # the routing keys

_LABELS = 64  # environments in one event
_VALUE = 1 << 19  # characters of the configuration of a key manager
_EVENT = 1 << 20  # characters of an inner event


class RowsEvent(msgspec.Struct, frozen=True):
    """Rows that came or went. `what` names the object.

    `key` identifies the object among those that have an order in time, `at` is the time of the
    event in milliseconds; 0: it has none. `level` are policies that are to be read again.
    """

    kind: EventKind
    change: Change
    what: str = ""
    key: Hashable = None
    at: int = 0
    level: PolicyLevel | None = None


class DeployEvent(msgspec.Struct, frozen=True):
    """An API was deployed to these environments; without any: where it is already.

    `context` has the version in it.
    """

    uuid: str
    labels: tuple[str, ...]
    context: str = ""
    version: str = ""
    at: int = 0


class UndeployEvent(msgspec.Struct, frozen=True):
    """An API was removed from these environments."""

    uuid: str
    labels: tuple[str, ...]
    tenant: str = ""
    at: int = 0


class LifecycleEvent(msgspec.Struct, frozen=True):
    """The state of an API in its lifecycle changed."""

    uuid: str
    status: str
    at: int = 0


class Useless(msgspec.Struct, frozen=True):
    """A message without a meaning here. `malformed`: it cannot be read; `what` says why."""

    kind: EventKind
    what: str
    malformed: bool = False


Event: TypeAlias = RowsEvent | DeployEvent | UndeployEvent | LifecycleEvent | Useless


def read_event(routing_key: str, body: bytes) -> Event:
    """Read a message. Never raises."""
    key = routing_key.lower()  # the broker of API Manager writes it in lower case
    kind: EventKind = _KINDS.get(key, "other")
    reader = _READERS.get(key)
    if reader is None:
        return Useless(kind, "the routing key is unknown")
    try:
        event = Fields(parse(body)).inner("event")
        payload = event.inner("payloadData") if event else None
        if payload is None:
            raise BadRowError("`event.payloadData` is missing")
        return reader(payload)
    except (BadRowError, ValueError) as error:
        return Useless(kind, str(error), malformed=True)


# -- notifications -------------------------------------------------------------------------------


def _notification(payload: Fields) -> Event:
    outer = payload.name("eventType")
    inner = Fields(parse(packed("event", payload.text("event", longest=_EVENT))))
    name = outer if outer in _BY_OUTER_NAME else inner.name("type") or outer
    reader = _NOTIFICATIONS.get(name)
    if reader is None:
        return Useless("other", name[:80])
    return reader(inner, name)


def _deploy(inner: Fields, name: str) -> Event:
    del name
    labels = inner.texts("gatewayLabels")[:_LABELS]
    uuid = inner.required("uuid")
    if not labels:
        return Useless("deploy", uuid)
    context, version = inner.text("context"), inner.text("version")
    return DeployEvent(uuid, labels, context, version, inner.number("timeStamp"))


def _undeploy(inner: Fields, name: str) -> Event:
    del name
    labels = inner.texts("gatewayLabels")[:_LABELS]
    tenant = inner.text("tenantDomain")
    return UndeployEvent(inner.required("uuid"), labels, tenant, inner.number("timeStamp"))


def _api_update(inner: Fields, name: str) -> Event:
    if inner.text("action") != "DEFAULT_VERSION":
        return Useless("api", name)
    context, version = inner.text("apiContext"), inner.text("apiVersion")
    return DeployEvent(inner.required("uuid"), (), context, version, inner.number("timeStamp"))


def _lifecycle(inner: Fields, name: str) -> Event:
    del name
    status = inner.name("apiStatus")
    return LifecycleEvent(inner.required("uuid"), status, inner.number("timeStamp"))


def _application(inner: Fields, name: str) -> Event:
    row = ApplicationRow(
        uuid=inner.required("uuid"),
        id=inner.text("applicationId"),
        name=inner.text("applicationName"),
        owner=inner.name("subscriber"),
        tier=inner.name("applicationPolicy"),
        token_type=inner.name("tokenType"),
        attributes=inner.mapping("attributes"),
        timestamp=inner.number("timeStamp"),
    )
    key = ("application", row.uuid)
    return RowsEvent("application", _put_or_remove(name, row), row.uuid, key, row.timestamp)


def _key_mapping(inner: Fields, name: str) -> Event:
    row = rest_rows.key_mapping(inner)
    change = Change(removed=(row,)) if name == "REMOVE_APPLICATION_KEYMAPPING" else Change((row,))
    key = ("key_mapping", row.consumer_key, row.key_manager)
    return RowsEvent("key_mapping", change, row.application_uuid, key, row.timestamp)


def _subscription(inner: Fields, name: str) -> Event:
    row = rest_rows.subscription(inner)
    key = ("subscription", row.id)
    return RowsEvent("subscription", _put_or_remove(name, row), str(row.id), key, row.timestamp)


def _policy(inner: Fields, name: str) -> Event:
    level = _LEVELS.get(inner.text("policyType").upper())
    if level is None:
        return Useless("policy", "its type is unknown")
    row = PolicyRow(
        level=level,
        id=inner.number("policyId", None),
        name=inner.name("policyName"),
        quota=rest_rows.quota(inner.text("quotaType")),
        stop_on_quota=inner.flag("stopOnQuotaReach", default=True),
        timestamp=inner.number("timeStamp"),
    )
    change = _put_or_remove(name, row)
    # The event does not have the limit, so the policies are read again.
    return RowsEvent("policy", change, row.name, ("policy", level, row.id), row.timestamp, level)


def _put_or_remove(name: str, row: Row) -> Change:
    return Change(removed=(row,)) if name.endswith("_DELETE") else Change((row,))


# -- the other kinds -----------------------------------------------------------------------------


def _key_manager(payload: Fields) -> Event:
    name = payload.required("name")
    action = payload.text("action").lower()
    row: Row | None = None
    if action in ("add", "update"):
        value = packed("value", payload.text("value", longest=_VALUE))
        row = rest_rows.configured_key_manager(payload, Fields(parse(value)))
    elif action != "delete":
        return Useless("key_manager", "its action is unknown", malformed=True)
    change = Change(removed=(KeyManagerRow(name),)) if row is None else Change((row,))
    return RowsEvent("key_manager", change, name)


def _revocation(payload: Fields) -> Event:
    row = RevokedRow(payload.required("revokedToken"), payload.number("expiryTime"))
    return RowsEvent("revocation", Change((row,)))


def _throttle_data(payload: Fields) -> Event:
    if is_decision(payload.values):
        return RowsEvent("decision", decision(payload.values))
    if payload.has("keyTemplateValue"):
        template = KeyTemplateRow(payload.required("keyTemplateValue"))
        state = payload.text("keyTemplateState").lower()
        if state not in ("add", "remove"):
            return Useless("key_template", "its state is unknown", malformed=True)
        change = Change((template,)) if state == "add" else Change(removed=(template,))
        return RowsEvent("key_template", change)
    if payload.has("blockingCondition"):
        return _block(payload)
    return Useless("other", "throttleData of an unknown kind")


def _block(payload: Fields) -> Event:
    kind = payload.text("blockingCondition")
    adds = payload.flag("state", default=False)
    number = payload.number("id")
    row: BlockRow
    if kind.upper() in ("IP", "IPRANGE"):
        if not adds:
            # Conditions on addresses are removed by number.
            row = BlockRow("address", "", number)
        else:
            value = Fields(parse(payload.text("conditionValue")))
            row = rest_rows.block_of_address(value.lowered(type=kind, id=number))
    else:
        keyed = _BLOCKS.get(kind.upper())
        if keyed is None:
            return Useless("block", "its kind is unknown")
        row = rest_rows.block_by_key(keyed, payload.text("conditionValue"))
    change = Change((row,)) if adds else Change(removed=(row,))
    return RowsEvent("block", change, f"{kind} {number}")


_KINDS: Mapping[str, EventKind] = {"keymanager": "key_manager", "tokenrevocation": "revocation"}
_READERS: Mapping[str, Callable[[Fields], Event]] = {
    "notification": _notification,
    "keymanager": _key_manager,
    "tokenrevocation": _revocation,
    "throttledata": _throttle_data,
}
_BY_OUTER_NAME = frozenset({"APPLICATION_REGISTRATION_CREATE", "REMOVE_APPLICATION_KEYMAPPING"})
_NOTIFICATIONS: Mapping[str, Callable[[Fields, str], Event]] = {
    "DEPLOY_API_IN_GATEWAY": _deploy,
    "REMOVE_API_FROM_GATEWAY": _undeploy,
    "API_UPDATE": _api_update,
    "API_LIFECYCLE_CHANGE": _lifecycle,
    **dict.fromkeys(
        ("APPLICATION_CREATE", "APPLICATION_UPDATE", "APPLICATION_DELETE"), _application
    ),
    **dict.fromkeys(_BY_OUTER_NAME, _key_mapping),
    **dict.fromkeys(
        ("SUBSCRIPTIONS_CREATE", "SUBSCRIPTIONS_UPDATE", "SUBSCRIPTIONS_DELETE"), _subscription
    ),
    **dict.fromkeys(("POLICY_CREATE", "POLICY_UPDATE", "POLICY_DELETE"), _policy),
}
_LEVELS: Mapping[str, PolicyLevel] = {
    "APPLICATION": "application",
    "SUBSCRIPTION": "subscription",
    "API": "api",
}
_BLOCKS: Mapping[str, rest_rows.KeyedBlock] = {kind.upper(): kind for kind in rest_rows.KEYED}
