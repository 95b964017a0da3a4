"""The applications of API Manager as the portal shows them, read-only."""

from __future__ import annotations

from trio_gw.config.entitlements import (
    ApiRow,
    ApplicationRow,
    KeyMappingRow,
    SubscriptionRow,
    of_rows,
)
from trio_gw.portal.application_store import ruled_registry


def test_rows_of_a_control_plane_are_shown() -> None:
    found = ruled_registry(
        of_rows(
            [
                ApiRow("api", "Rooms", "1.0.0", "/rooms/1.0.0"),
                ApplicationRow("app", "7", "Shop", "carol", "Gold"),
                ApplicationRow("other", "not a number", "Else", "bob"),
                KeyMappingRow("key", "Resident Key Manager", "app", "sandbox"),
                SubscriptionRow(1, "api", "app", "Gold", "BLOCKED"),
                SubscriptionRow(2, "gone", "app", "Gold", "ON_HOLD"),
            ]
        )
    )
    shop, other = found.applications["app"], found.applications["other"]
    assert (shop.id, shop.owner, other.id) == (7, "carol", 0)
    assert shop.keys["SANDBOX"].consumer_key == "key"
    assert [(one.title, one.state) for one in shop.subscriptions] == [
        ("Rooms:1.0.0", "BLOCKED"),
        (":", "BLOCKED"),
    ]
