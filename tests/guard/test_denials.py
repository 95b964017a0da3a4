"""Look-ups of deny conditions: by address and API before authentication, by caller after it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from trio_gw.config.conditions import Condition, Deny, Kind, condition
from trio_gw.guard.caller import Application, Caller, Subscription, anonymous
from trio_gw.guard.denials import Denials, declared

BASE, VERSION = "/chat/1.0.0", "1.0.0"
ALICE = Caller("alice", application=Application("App", id="7", uuid="u7", owner="owner"))


def one(kind: Kind, text: str, **more: Any) -> tuple[Condition, Denials]:
    made = condition(kind, text, **more)
    return made, Denials([made])


def test_nothing_denies_nobody() -> None:
    nothing = Denials()
    assert not nothing
    assert nothing.place(BASE, "10.0.0.1") is None
    assert nothing.caller(BASE, VERSION, ALICE) is None


def test_an_api_is_denied_to_everyone() -> None:
    made, denials = one("api", BASE)
    assert denials.place(BASE, "") is made
    assert denials.place("/chat/1.0.1", "10.0.0.1") is None
    assert denials.caller(BASE, VERSION, ALICE) is None


@pytest.mark.parametrize(
    ("text", "address", "inside"),
    [
        ("10.0.0.0/8", "10.200.0.1", True),
        ("10.0.0.0/8", "::ffff:10.200.0.1", True),
        ("10.0.0.0/8", "11.0.0.0", False),
        ("10.0.0.0/8", "::10.0.0.1", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("2001:db8::1-2001:db8::f", "2001:db8::10", False),
        ("2001:db8::1-2001:db8::f", "2001:db8::f", True),
    ],
)
def test_addresses(text: str, address: str, inside: bool) -> None:
    made, denials = one("address", text)
    assert denials.place(BASE, address) is (made if inside else None)
    made, denials = one("address", text, invert=True)
    assert denials.place(BASE, address) is (None if inside else made)


def test_an_inverted_range_denies_the_other_version_of_ip() -> None:
    made, denials = one("address", "10.0.0.0/8", invert=True)
    assert denials.place(BASE, "2001:db8::1") is made


def test_a_peer_without_an_address_is_not_compared() -> None:
    assert one("address", "0.0.0.0/0")[1].place(BASE, "unix") is None


@pytest.mark.parametrize(
    ("kind", "key", "other"),
    [
        ("user", "alice@carbon.super", {"subject": "Alice"}),
        ("user", "alice", {"subject": "alice@example.com"}),
        ("user", "alice", {"subscription": Subscription("Gold", tenant="t.example")}),
        ("application", "owner:App", {"application": Application("App", owner="other")}),
        ("subscription", f"{BASE}:{VERSION}:owner-App:PRODUCTION", {"key_type": "SANDBOX"}),
    ],
)
def test_callers(kind: Kind, key: str, other: dict[str, Any]) -> None:
    made, denials = one(kind, key)
    assert denials.caller(BASE, VERSION, ALICE) is made
    fields = {"subject": "alice", "application": ALICE.application, **other}
    assert denials.caller(BASE, VERSION, Caller(**fields)) is None
    assert denials.place(BASE, "10.0.0.1") is None


def test_a_subscription_is_to_one_api() -> None:
    _, denials = one("subscription", f"{BASE}:{VERSION}:owner-App:PRODUCTION")
    assert denials.caller("/other/1.0.0", VERSION, ALICE) is None


def test_a_user_has_the_tenant_of_the_subscriber() -> None:
    made, denials = one("user", "alice@t.example")
    tenant = Caller("alice", subscription=Subscription("Gold", tenant="t.example"))
    assert denials.caller(BASE, VERSION, tenant) is made
    assert denials.caller(BASE, VERSION, Caller("alice@t.example")) is made


def test_anonymous_callers_are_named_by_no_condition() -> None:
    denials = Denials([condition("user", "anonymous"), condition("application", ":x")])
    assert denials.caller(BASE, VERSION, anonymous("10.0.0.1")) is None


def test_the_tables_of_the_settings() -> None:
    denials = declared(
        (
            Deny(user="mallory", reason="spam"),
            Deny(address="10.0.0.0/8", invert=True),
            Deny(user="mallory", reason="spam"),
        )
    )
    assert [str(made) for made in denials.conditions] == [
        "user mallory@carbon.super (spam)",
        "address any but 10.0.0.0/8",
    ]
    assert dict(denials.counts) == {"user": 1, "address": 1}


def test_thousands_of_conditions_are_each_found() -> None:
    conditions = [condition("address", f"10.{n >> 8}.{n & 255}.0/24") for n in range(0, 6000, 2)]
    conditions += [condition("user", f"u{n}") for n in range(3000)]
    denials = Denials(conditions)
    for n in range(6000):
        found = denials.place(BASE, f"10.{n >> 8}.{n & 255}.77")
        assert found is (None if n % 2 else conditions[n // 2])
        found = denials.caller(BASE, VERSION, Caller(f"u{n}"))
        assert found is (conditions[3000 + n] if n < 3000 else None)


def test_some_conditions_are_added_and_removed() -> None:
    user, api = condition("user", "alice"), condition("api", BASE)
    network, other = condition("address", "10.0.0.0/8"), condition("address", "192.0.2.1")
    first = Denials([user, network])
    second = first.changed([api, other], [network])
    assert first.conditions == (user, network), "the first stays as it was"
    assert set(second.conditions) == {user, api, other}
    assert second.place(BASE, "192.0.2.7") is api
    assert second.place("/", "192.0.2.1") is other
    assert second.place("/", "10.0.0.1") is None
    third = second.changed([], [user, api, other])
    assert len(third) == 0
    assert not any(third.counts.values())
    assert third.caller(BASE, VERSION, ALICE) is None
    assert third.place(BASE, "192.0.2.1") is None


def test_changes_end_in_what_all_conditions_at_once_are() -> None:
    kinds: list[tuple[Kind, str]] = [("user", "u{}"), ("api", "/a{}"), ("address", "10.0.0.{}")]
    texts = [condition(kind, text.format(n)) for kind, text in kinds for n in range(100)]
    random.Random(7).shuffle(texts)
    changed = Denials()
    for at, one in enumerate(texts):
        changed = changed.changed([one], texts[at - 5 : at - 4] if at > 4 else [])
    whole = Denials(texts[-5:])
    assert set(changed.conditions) == set(whole.conditions)
    assert +changed.counts == whole.counts
    for n in range(100):
        for base, address in ((f"/a{n}", ""), ("", f"10.0.0.{n}")):
            assert changed.place(base, address) is whole.place(base, address)
