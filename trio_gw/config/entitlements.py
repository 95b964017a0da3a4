"""What a control plane, or the own registry, says of callers: subscriptions, blocks, … Pure.

A frozen value: `Live` holds the current one, `Entitlements.apply` makes the next one. The rows are
those of API Manager (spec: control-plane §4), with the fields that this gateway uses.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import structs

from trio_gw.config.layered_map import LayeredMap

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

GRACE = 60_000  # milliseconds after its expiry for which a revoked token is known

Quota = Literal["eventCount", "requestCount", "bandwidthVolume", ""]
PolicyLevel = Literal["api", "application", "subscription"]


class ApiRow(msgspec.Struct, frozen=True, tag="api"):
    """What is known of an API besides its project. `labels` are the environments it is in."""

    uuid: str
    name: str = ""
    version: str = ""
    context: str = ""
    provider: str = ""
    tier: str = ""
    status: str = ""
    is_default: bool = False
    labels: tuple[str, ...] = ()


class ApplicationRow(msgspec.Struct, frozen=True, tag="application"):
    """An application. `id` is a number as text: it is a part of the keys of limits."""

    uuid: str
    id: str = ""
    name: str = ""
    owner: str = ""
    tier: str = ""
    token_type: str = ""
    attributes: dict[str, str] = {}
    timestamp: int = 0


class KeyMappingRow(msgspec.Struct, frozen=True, tag="key_mapping"):
    """The application that a consumer key of a key manager belongs to."""

    consumer_key: str
    key_manager: str
    application_uuid: str = ""
    key_type: str = "PRODUCTION"
    timestamp: int = 0


class SubscriptionRow(msgspec.Struct, frozen=True, tag="subscription"):
    """The subscription of an application to an API. `tier` is the name of its policy.

    Tokens issued before `since` (epoch seconds) do not have it.
    """

    id: int
    api_uuid: str = ""
    application_uuid: str = ""
    tier: str = ""
    state: str = "UNBLOCKED"
    uuid: str = ""
    timestamp: int = 0
    since: int = 0


class PolicyRow(msgspec.Struct, frozen=True, tag="policy"):
    """A throttling policy. `limit` events or bytes within `per` seconds; a limit of 0 is none."""

    level: PolicyLevel
    id: int
    name: str = ""
    quota: Quota = ""
    limit: int = 0
    per: int = 0
    stop_on_quota: bool = True
    timestamp: int = 0


class KeyManagerRow(msgspec.Struct, frozen=True, tag="key_manager"):
    """A key manager that issues tokens. `certificate` is PEM text or the base64 of DER."""

    name: str
    issuer: str = ""
    enabled: bool = True
    consumer_key_claim: str = ""
    scopes_claim: str = ""
    jwks: str = ""
    certificate: str = ""
    claim_mappings: dict[str, str] = {}


class RevokedRow(msgspec.Struct, frozen=True, tag="revoked"):
    """A revoked token, by its `jti` or its signature. `expires_at` in milliseconds; 0: never."""

    token: str
    expires_at: int = 0


class BlockRow(msgspec.Struct, frozen=True, tag="block"):
    """A blocking condition. `value` is its key, or the addresses `first-last` of an address.

    `id` is the number of a condition on addresses, by which it is removed; else 0.
    """

    kind: Literal["api", "application", "user", "subscription", "custom", "address"]
    value: str
    id: int = 0
    invert: bool = False
    exclusive: bool = False  # both ends of the range are outside of it


class KeyTemplateRow(msgspec.Struct, frozen=True, tag="key_template"):
    """A template of the keys that a custom policy throttles, like `$userId:$apiContext`."""

    template: str


class DecisionRow(msgspec.Struct, frozen=True, tag="decision"):
    """A decision of the Traffic Manager: what has this key is throttled until `expires_at` (ms).

    `conditions` are those under which the decision of an API holds: base64 of JSON, as received.
    Without any (an empty text) the decision of an API has no effect (spec: control-plane §8.3).
    """

    key: str
    expires_at: int = 0
    conditions: str = ""


Row: TypeAlias = (
    ApiRow
    | ApplicationRow
    | KeyMappingRow
    | SubscriptionRow
    | PolicyRow
    | KeyManagerRow
    | RevokedRow
    | BlockRow
    | KeyTemplateRow
    | DecisionRow
)


class Change(msgspec.Struct, frozen=True):
    """Rows to add or replace, and rows to remove. Of the latter only the keys count."""

    put: tuple[Row, ...] = ()
    removed: tuple[Row, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.put or self.removed)


class _Table(NamedTuple):
    """The field of `Entitlements` that holds rows of a type, and the key of a row in it."""

    field: str
    key: Callable[[Any], Hashable]


_TABLES: Mapping[type, _Table] = {
    ApiRow: _Table("apis", lambda row: row.uuid),
    ApplicationRow: _Table("applications", lambda row: row.uuid),
    KeyMappingRow: _Table("key_mappings", lambda row: (row.consumer_key, row.key_manager)),
    SubscriptionRow: _Table("subscriptions", lambda row: row.id),
    PolicyRow: _Table("policies", lambda row: (row.level, row.id)),
    KeyManagerRow: _Table("key_managers", lambda row: row.name.lower()),
    RevokedRow: _Table("revoked", lambda row: row.token),
    # The reference removes conditions on addresses by number, others in any case of letters.
    BlockRow: _Table(
        "blocks", lambda row: (row.kind, row.id) if row.id else (row.kind, row.value.lower())
    ),
    KeyTemplateRow: _Table("key_templates", lambda row: row.template),
    DecisionRow: _Table("decisions", lambda row: row.key),
}


class Entitlements(msgspec.Struct, frozen=True, eq=False):
    """All rows by their keys, and two indexes. Made by `apply`, never changed.

    `subscribed` has the ids of subscriptions by the UUIDs of application and API;
    `policies_by_name` those of policies by level and name. There is one id, or several in
    ascending order while rows are replaced; then the last is meant.
    """

    apis: LayeredMap[str, ApiRow] = LayeredMap()
    applications: LayeredMap[str, ApplicationRow] = LayeredMap()
    key_mappings: LayeredMap[tuple[str, str], KeyMappingRow] = LayeredMap()
    subscriptions: LayeredMap[int, SubscriptionRow] = LayeredMap()
    policies: LayeredMap[tuple[PolicyLevel, int], PolicyRow] = LayeredMap()
    key_managers: LayeredMap[str, KeyManagerRow] = LayeredMap()
    revoked: LayeredMap[str, RevokedRow] = LayeredMap()
    blocks: LayeredMap[tuple[str, int | str], BlockRow] = LayeredMap()
    key_templates: LayeredMap[str, KeyTemplateRow] = LayeredMap()
    decisions: LayeredMap[str, DecisionRow] = LayeredMap()
    subscribed: LayeredMap[tuple[str, str], tuple[int, ...]] = LayeredMap()
    policies_by_name: LayeredMap[tuple[PolicyLevel, str], tuple[int, ...]] = LayeredMap()

    def apply(self, change: Change) -> Entitlements:
        """Return the value after a change. The cost hardly depends on the number of rows."""
        put: dict[str, dict[Hashable, Row]] = defaultdict(dict)
        removed: dict[str, set[Hashable]] = defaultdict(set)
        for row in change.removed:
            table = _TABLES[type(row)]
            removed[table.field].add(table.key(row))
        for row in change.put:
            table = _TABLES[type(row)]
            put[table.field][table.key(row)] = row
        fields: dict[str, LayeredMap[Any, Any]] = {}
        for name in put.keys() | removed.keys():
            before: LayeredMap[Any, Any] = getattr(self, name)
            gone = removed[name] - put[name].keys()
            fields[name] = before.changed(put[name], gone)
            if (index := _INDEXES.get(name)) is not None:
                old = (
                    [before[key] for key in (*gone, *put[name]) if key in before] if before else []
                )
                current: LayeredMap[Any, Any] = getattr(self, index.field)
                fields[index.field] = index.changed(current, old, put[name].values())
        return structs.replace(self, **fields)

    def rows(self) -> Iterator[Row]:
        """Yield all rows."""
        for table in _TABLES.values():
            yield from getattr(self, table.field).values()

    def __len__(self) -> int:
        return sum(len(getattr(self, table.field)) for table in _TABLES.values())


class _Index(NamedTuple):
    """An index of rows: the ids of the rows with the same key."""

    field: str
    key: Callable[[Any], Hashable]

    def changed(
        self, current: LayeredMap[Any, Any], old: Iterable[Any], new: Iterable[Any]
    ) -> LayeredMap[Any, Any]:
        """Return the index without the rows `old`, and with the rows `new`."""
        ids: dict[Hashable, set[int]] = {}
        for row in old:
            key = self.key(row)
            ids.setdefault(key, set(current.get(key, ()))).discard(row.id)
        for row in new:
            key = self.key(row)
            ids.setdefault(key, set(current.get(key, ()))).add(row.id)
        put = {key: tuple(sorted(found)) for key, found in ids.items() if found}
        return current.changed(put, ids.keys() - put.keys())


_INDEXES: Mapping[str, _Index] = {
    "subscriptions": _Index("subscribed", lambda row: (row.application_uuid, row.api_uuid)),
    "policies": _Index("policies_by_name", lambda row: (row.level, row.name)),
}

NOTHING = Entitlements()


def key_of(row: Row) -> Hashable:
    """Return the key of a row among the rows of its type."""
    return _TABLES[type(row)].key(row)


def is_over(row: RevokedRow, now: int) -> bool:
    """Return whether a revoked token cannot be accepted any more, at `now` in milliseconds.

    That is a minute after its expiry: clocks differ, and verification grants some seconds.
    """
    return 0 < row.expires_at < now - GRACE


def expired(current: Entitlements, now: int) -> Change:
    """Return the change that removes the revoked tokens that are over at `now` (milliseconds)."""
    return Change(removed=tuple(row for row in current.revoked.values() if is_over(row, now)))


def of_rows(rows: Iterable[Row]) -> Entitlements:
    """Make a value of all its rows; of two with the same key the last counts."""
    return NOTHING.apply(Change(tuple(rows)))


def difference(before: Entitlements, after: Entitlements) -> Change:
    """Return the change that makes `after` of `before`; empty if they have the same rows."""
    put: list[Row] = []
    removed: list[Row] = []
    for table in _TABLES.values():
        old: LayeredMap[Any, Any] = getattr(before, table.field)
        new: LayeredMap[Any, Any] = getattr(after, table.field)
        if old is new:
            continue
        put += [row for key, row in new.items() if old.get(key) != row]
        removed += [row for key, row in old.items() if key not in new]
    return Change(tuple(put), tuple(removed))
