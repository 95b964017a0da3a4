"""Decisions of the Traffic Manager: their keys, groups, conditions and order."""

from __future__ import annotations

import base64
import ipaddress
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_gw.config.entitlements import DecisionRow
from trio_gw.config.tiers import Tier
from trio_gw.guard import condition_groups, decisions
from trio_gw.guard.condition_groups import ConditionSettings, HandshakeFacts, parse_conditions
from trio_gw.guard.decisions import Decisions, LevelTiers, ThrottleKeys, custom_key, watched_key
from trio_gw.guard.patterns import Budget

ALL = ConditionSettings(headers=True, query=True, claims=True)
API = "/ws/1.0.0:1.0.0"
KEYS = ThrottleKeys(API, f"2:{API}", "2:alice@carbon.super")
TIERS = LevelTiers(Tier("10KPerMin"), Tier("AsyncGold"), Tier("50PerMin"))
NOW = 1_700_000_000.0
LATER = int(NOW * 1000) + 60_000


def encoded(*conditions: Any) -> str:
    return base64.b64encode(json.dumps(conditions).encode()).decode()


EMPTY = encoded()
assert EMPTY == "W10="


def number(address: str) -> int:
    return int(ipaddress.ip_address(address))


def facts(address: str = "10.0.0.7", **values: dict[str, str]) -> HandshakeFacts:
    return HandshakeFacts(number(address), **{name: known.get for name, known in values.items()})


def levels(found: Decisions, tiers: LevelTiers = TIERS, **more: Any) -> list[str]:
    return [one.level for one in found.find(KEYS, tiers, facts(**more), NOW)]


def holding(*rows: DecisionRow, chosen: ConditionSettings = ALL) -> Decisions:
    made = Decisions(chosen)
    for row in rows:
        made.put(row)
    return made


def test_the_order_is_api_subscription_application() -> None:
    rows = [DecisionRow(KEYS.application, LATER), DecisionRow(KEYS.subscription, LATER + 5)]
    made = holding(*rows, DecisionRow(f"{API}_default", LATER + 9, EMPTY))
    found = made.find(KEYS, TIERS, facts(), NOW)
    assert [(one.level, one.tier.name) for one in found] == [
        ("API", "10KPerMin"),
        ("subscription", "AsyncGold"),
        ("application", "50PerMin"),
    ]
    assert [one.until for one in found] == [(LATER + more) / 1000 for more in (9, 5, 0)]
    assert found[0].reason == "API limit 10KPerMin exceeded"


def test_a_decision_ends_at_its_time_or_when_it_is_withdrawn() -> None:
    made = holding(DecisionRow(KEYS.application, LATER))
    assert made.find(KEYS, TIERS, facts(), LATER / 1000 - 0.001)
    assert not made.find(KEYS, TIERS, facts(), LATER / 1000)
    made.remove(KEYS.application)
    assert levels(made) == []


def test_an_empty_key_is_not_looked_up() -> None:
    made = holding(DecisionRow("", LATER), DecisionRow(KEYS.subscription, LATER))
    keys = KEYS._replace(subscription="")
    assert made.find(keys, TIERS, facts(), NOW) == ()


def test_an_unlimited_api_is_not_throttled() -> None:
    made = holding(DecisionRow(f"{API}_default", LATER, EMPTY))
    assert levels(made) == ["API"]
    assert levels(made, TIERS._replace(api=Tier("Unlimited"))) == []


def test_without_conditions_a_decision_about_an_api_has_no_effect() -> None:
    made = holding(DecisionRow(f"{API}_default", LATER), DecisionRow(API, LATER, EMPTY))
    assert levels(made) == []
    made.put(DecisionRow(f"{API}_default", LATER, EMPTY))
    assert levels(made) == ["API"]
    made.remove(f"{API}_default")
    assert levels(made) == []


SPECIFIC = {"ipspecific": {"specificIp": number("10.0.0.7"), "invert": False}}
RANGE = {
    "iprange": {"startingIp": number("10.0.0.7"), "endingIp": number("10.0.0.9"), "invert": False}
}


def test_default_counts_if_no_other_group_does() -> None:
    made = holding(
        DecisionRow(f"{API}_condition_1", LATER, encoded(SPECIFIC)),
        DecisionRow(f"{API}_default", LATER + 1000, encoded(SPECIFIC)),
    )
    (mine,) = made.find(KEYS, TIERS, facts("10.0.0.7"), NOW)
    (other,) = made.find(KEYS, TIERS, facts("10.0.0.8"), NOW)
    assert (mine.until, other.until) == (LATER / 1000, LATER / 1000 + 1)
    made.remove(f"{API}_condition_1")
    assert levels(made, address="10.0.0.7") == []  # the conditions of `default` exclude it
    assert levels(made, address="10.0.0.8") == ["API"]


@pytest.mark.parametrize(
    ("address", "throttled"),
    [("10.0.0.6", False), ("10.0.0.7", True), ("10.0.0.9", True), ("10.0.0.10", False)],
)
def test_a_range_includes_both_ends(address: str, throttled: bool) -> None:
    made = holding(DecisionRow(f"{API}_condition_0", LATER, encoded(RANGE)))
    assert bool(levels(made, address=address)) is throttled
    inverted = {"iprange": {**RANGE["iprange"], "invert": True}}
    made.put(DecisionRow(f"{API}_condition_0", LATER, encoded(inverted)))
    assert bool(levels(made, address=address)) is not throttled


def test_addresses_of_128_bits() -> None:
    six = "2001:db8::ff"
    for value in (number(six), str(number(six))):
        condition = {"ipspecific": {"specificIp": value}}
        made = holding(DecisionRow(f"{API}_condition_0", LATER, encoded(condition)))
        assert levels(made, address=six) == ["API"]
        assert levels(made, address="2001:db8::fe") == []


VALUES = [
    ("header", "headers", {"User-Agent": "^curl"}, {"user-agent": "curl/8"}),
    ("queryparametertype", "query", {"plan": "^(free|trial)$"}, {"plan": "free"}),
    ("jwtclaims", "claims", {"role": "adm.*"}, {"role": "admin"}),
]


@pytest.mark.parametrize(("kind", "name", "patterns", "values"), VALUES)
def test_values_must_match_their_expressions(
    kind: str, name: str, patterns: dict[str, str], values: dict[str, str]
) -> None:
    made = holding(DecisionRow(f"{API}_condition_0", LATER, encoded({kind: {"values": patterns}})))
    matching: dict[str, Any] = {name: values}
    assert levels(made, **matching) == ["API"]
    other: dict[str, Any] = {name: dict.fromkeys(values, "other")}
    assert levels(made, **other) == []
    assert levels(made) == []
    turned = encoded({kind: {"values": patterns, "invert": True}})
    made.put(DecisionRow(f"{API}_condition_0", LATER, turned))
    assert levels(made, **matching) == []
    assert levels(made) == ["API"]


@pytest.mark.parametrize(("kind", "name", "patterns", "values"), VALUES)
def test_conditions_that_are_off_do_not_count(
    kind: str, name: str, patterns: dict[str, str], values: dict[str, str]
) -> None:
    condition = {kind: {"values": patterns}, **SPECIFIC}
    row = DecisionRow(f"{API}_condition_0", LATER, encoded(condition))
    made = holding(row, chosen=ConditionSettings())
    assert levels(made) == ["API"]  # the address alone
    assert levels(made, address="10.0.0.8") == []


def test_all_parts_of_an_entry_must_match_and_one_entry_is_enough() -> None:
    both = {**SPECIFIC, "header": {"values": {"x-plan": "free"}}}
    other = {"header": {"values": {"x-plan": "^gold$"}}}
    made = holding(DecisionRow(f"{API}_condition_0", LATER, encoded(both, other)))
    assert levels(made, headers={"x-plan": "free"}) == ["API"]
    assert levels(made, address="10.0.0.8", headers={"x-plan": "free"}) == []
    assert levels(made, address="10.0.0.8", headers={"x-plan": "gold"}) == ["API"]


def test_a_hostile_expression_does_not_match_and_ends() -> None:
    hostile = {"header": {"values": {"x": "(a*)*" * 20 + "b"}, "invert": True}}
    rows = [DecisionRow(f"{API}_condition_{at}", LATER, encoded(hostile)) for at in range(60)]
    made = holding(*rows, DecisionRow(f"{API}_default", LATER, encoded(hostile)))
    assert levels(made, headers={"x": "a" * 1000}) == []


BROKEN = ["%", "e30=", "bnVsbA==", encoded(1), encoded({"ipspecific": 1}), encoded({"iprange": {}})]
BROKEN += [
    encoded({"ipspecific": {"specificIp": value}}) for value in (-1, 1.5, True, "x", 1 << 128)
]
BROKEN += [encoded({"header": {"values": {"x": value}}}) for value in (1, "(?=a)", "(")]
BROKEN += [encoded(*[{}] * 33), "A" * (condition_groups.MAX_CONDITIONS + 4)]
BROKEN += [base64.b64encode(b"[" * 100_000).decode()[:16_000]]


@pytest.mark.parametrize("text", BROKEN)
def test_conditions_that_cannot_be_read_have_no_effect(text: str) -> None:
    assert parse_conditions(text) is None
    assert levels(holding(DecisionRow(f"{API}_default", LATER, text))) == []


@given(
    st.text(max_size=60) | st.binary(max_size=60).map(lambda data: base64.b64encode(data).decode())
)
def test_any_text_is_read_or_refused(text: str) -> None:
    if (group := parse_conditions(text)) is not None:
        group.match(facts(), ALL, Budget())


def test_the_number_of_groups_is_bounded() -> None:
    made = holding(
        *(DecisionRow(f"{API}_condition_{at}", LATER, encoded(SPECIFIC)) for at in range(200))
    )
    assert len(made._groups[API]) == decisions.MAX_GROUPS
    for at in range(200):
        made.remove(f"{API}_condition_{at}")
    assert made._groups == {}
    assert len(made) == 0


def test_what_a_decision_is_about() -> None:
    assert watched_key(f"{API}_default") == API
    assert watched_key(f"{API}_condition_12") == API
    assert watched_key(KEYS.application) == KEYS.application
    assert watched_key("/t/a/ws/1:1_condition_x") == "/t/a/ws/1:1_condition_x"


VARIABLES = {
    "resourceKey": API,
    "userId": "alice@carbon.super",
    "apiContext": "/ws/1.0.0",
    "apiVersion": "1.0.0",
    "appTenant": "carbon.super",
    "apiTenant": "t",
    "appId": "2",
    "clientIp": "167772167",
    "customProperty.plan": "gold",
}


def test_templates_are_filled() -> None:
    template = "$userId:$apiContext:$apiVersion:$appTenant:$apiTenant:$appId:$clientIp"
    filled = "alice@carbon.super:/ws/1.0.0:1.0.0:carbon.super:t:2:167772167"
    assert custom_key(template, VARIABLES) == filled
    assert custom_key("$resourceKey", VARIABLES) == API
    assert custom_key("$customProperty.plan:x", VARIABLES) == "gold:x"
    assert custom_key("$customProperty.other:$nothing", VARIABLES) == (
        "$customProperty.other:$nothing"
    )
    assert custom_key("$userId" * 200, VARIABLES) == ""


def test_a_value_is_not_filled_again() -> None:
    assert custom_key("$userId", {**VARIABLES, "userId": r"$appId\1"}) == r"$appId\1"


def test_the_first_custom_policy_with_a_decision_counts() -> None:
    made = holding(DecisionRow("alice@carbon.super", LATER), DecisionRow("2", LATER))
    templates = ["$clientIp", "$appId", "$userId"]
    ((key, one),) = made.find_custom(templates, VARIABLES, Tier("Unlimited"), NOW)
    assert (key, one.until) == ("2", LATER / 1000)
    assert not made.find_custom(templates, VARIABLES, Tier("Unlimited"), LATER / 1000)


@pytest.mark.parametrize(("action", "until"), [("drop", 60), ("close", 60), ("pause", 1)])
def test_a_message_that_waits_asks_again_soon(action: Any, until: float) -> None:
    tier = Tier("T", on_exceed=action)
    reached = decisions.Decided("API", tier, NOW + 60).limit_reached(NOW)
    assert (reached.until, reached.action, reached.lasts) == (NOW + until, action, True)
