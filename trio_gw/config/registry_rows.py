"""The registry of applications as entitlements: the same rows as those of a control plane. Pure.

So one mechanism finds the subscription of a caller, and ends connections that lose it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.config.entitlements import (
    ApiRow,
    ApplicationRow,
    Change,
    KeyMappingRow,
    SubscriptionRow,
    key_of,
)
from trio_gw.config.registry import ISSUER

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from trio_gw.config.entitlements import Row
    from trio_gw.config.registry import RegisteredApplication, Registry


def rows(application: RegisteredApplication) -> Iterator[Row]:
    """Yield the rows of an application."""
    uuid = application.uuid
    yield ApplicationRow(
        uuid, str(application.id), application.name, application.owner, application.tier
    )
    for key_type, key in application.keys.items():
        yield KeyMappingRow(key.consumer_key, ISSUER, uuid, key_type)
    for one in application.subscriptions:
        yield SubscriptionRow(
            one.id, one.api, uuid, tier=one.tier, state=one.state, since=one.since
        )


def change(before: Registry, after: Registry, known: Container[str]) -> Change:
    """Return the change of the entitlements from one registry to the next.

    `known` are the ids of the APIs that have a row already; these rows stay.
    """
    put: list[Row] = []
    removed: list[Row] = []
    apis: dict[str, ApiRow] = {}
    for uuid in before.applications.keys() | after.applications.keys():
        old, new = before.applications.get(uuid), after.applications.get(uuid)
        if old is new or old == new:
            continue
        gone = {} if old is None else {_key(row): row for row in rows(old)}
        come = {} if new is None else {_key(row): row for row in rows(new)}
        put += [row for key, row in come.items() if gone.get(key) != row]
        removed += [row for key, row in gone.items() if key not in come]
        for one in () if new is None else new.subscriptions:
            if one.api not in known:
                apis[one.api] = ApiRow(one.api, one.name, one.version, one.context)
    return Change((*apis.values(), *put), tuple(removed))


def _key(row: Row) -> tuple[object, ...]:
    return type(row), key_of(row)
