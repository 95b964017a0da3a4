"""Messages of the event hub: what each kind means, and that none raises."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.examples import examples
from support.publisher import key_manager, notification, payload, revocation
from trio_gw.config.entitlements import (
    ApplicationRow,
    BlockRow,
    Change,
    DecisionRow,
    KeyManagerRow,
    KeyMappingRow,
    KeyTemplateRow,
    PolicyRow,
    RevokedRow,
    SubscriptionRow,
)
from trio_gw.control_plane.events import (
    KEYS,
    DeployEvent,
    LifecycleEvent,
    RowsEvent,
    UndeployEvent,
    Useless,
    read_event,
)

AT = 1_700_000_000_000


def notified(kind: str, **members: Any) -> Any:
    return read_event("notification", notification(kind, timeStamp=AT, **members))


def test_deploy_and_undeploy() -> None:
    members = {"uuid": "u", "gatewayLabels": ["Default", 5, "Edge"], "context": "/c/1", "apiId": 3}
    members |= {"version": "1"}
    event = notified("DEPLOY_API_IN_GATEWAY", associatedApis=[], **members)
    assert event == DeployEvent("u", ("Default", "Edge"), "/c/1", "1", AT)
    event = notified("REMOVE_API_FROM_GATEWAY", **members)
    assert event == UndeployEvent("u", ("Default", "Edge"), "carbon.super", AT)


def test_the_default_version() -> None:
    members = {"uuid": "u", "apiContext": "/c/1", "apiVersion": "1"}
    event = notified("API_UPDATE", action="DEFAULT_VERSION", **members)
    assert event == DeployEvent("u", (), "/c/1", "1", AT)
    assert notified("API_UPDATE", uuid="u", action="OTHER") == Useless("api", "API_UPDATE")
    assert notified("API_UPDATE", uuid="u") == Useless("api", "API_UPDATE")


def test_the_lifecycle() -> None:
    event = notified("API_LIFECYCLE_CHANGE", uuid="u", apiStatus="BLOCKED")
    assert event == LifecycleEvent("u", "BLOCKED", AT)


@pytest.mark.parametrize("action", ["CREATE", "UPDATE", "DELETE"])
def test_applications(action: str) -> None:
    event = notified(
        f"APPLICATION_{action}",
        uuid="u",
        applicationId=2,
        applicationName="ChatApp",
        tokenType="JWT",
        applicationPolicy="Gold",
        subscriber="alice",
    )
    row = ApplicationRow("u", "2", "ChatApp", "alice", "Gold", "JWT", {}, AT)
    change = Change(removed=(row,)) if action == "DELETE" else Change((row,))
    assert event == RowsEvent("application", change, "u", ("application", "u"), AT)


@pytest.mark.parametrize("inner", ["APPLICATION_REGISTRATION_CREATE", "anything"])
def test_key_mappings_go_by_the_outer_name(inner: str) -> None:
    members = {"consumerKey": "k", "keyManager": "KM", "keyType": "SANDBOX", "timeStamp": AT}
    value = {**members, "applicationUUID": "a", "type": inner}
    row = KeyMappingRow("k", "KM", "a", "SANDBOX", AT)
    encoded = base64.b64encode(json.dumps(value).encode()).decode()
    for name, change in (
        ("APPLICATION_REGISTRATION_CREATE", Change((row,))),
        ("REMOVE_APPLICATION_KEYMAPPING", Change(removed=(row,))),
    ):
        event = read_event("notification", payload(eventType=name, event=encoded))
        assert event == RowsEvent("key_mapping", change, "a", ("key_mapping", "k", "KM"), AT)


@pytest.mark.parametrize("action", ["CREATE", "UPDATE", "DELETE"])
def test_subscriptions(action: str) -> None:
    event = notified(
        f"SUBSCRIPTIONS_{action}",
        subscriptionId=7,
        subscriptionUUID="s",
        apiUUID="u",
        applicationUUID="a",
        policyId="Gold",
        subscriptionState="BLOCKED",
    )
    row = SubscriptionRow(7, "u", "a", "Gold", "BLOCKED", "s", AT)
    change = Change(removed=(row,)) if action == "DELETE" else Change((row,))
    assert event == RowsEvent("subscription", change, "7", ("subscription", 7), AT)


@pytest.mark.parametrize("level", ["application", "subscription", "api"])
def test_policies(level: Any) -> None:
    members = {"policyId": 2, "policyName": "Gold", "quotaType": "eventCount"}
    members |= {"policyType": level.upper(), "stopOnQuotaReach": False}
    row = PolicyRow(level, 2, "Gold", "eventCount", 0, 0, False, AT)
    for action, change in (
        ("CREATE", Change((row,))),
        ("UPDATE", Change((row,))),
        ("DELETE", Change(removed=(row,))),
    ):
        event = notified(f"POLICY_{action}", **members)
        assert event == RowsEvent("policy", change, "Gold", ("policy", level, 2), AT, level)


def test_policies_of_another_kind() -> None:
    event = notified("POLICY_CREATE", policyId=2, policyType="GLOBAL")
    assert event == Useless("policy", "its type is unknown")


@pytest.mark.parametrize("kind", ["SCOPE_CREATE", "HEALTH_CHECK", "API_CREATE", ""])
def test_notifications_without_a_meaning(kind: str) -> None:
    event = notified(kind, uuid="u")
    assert isinstance(event, Useless)
    assert not event.malformed


@pytest.mark.parametrize("tenant", [-1234, "-1234", None])
@pytest.mark.parametrize("action", ["add", "update"])
def test_key_managers(action: str, tenant: Any) -> None:
    value = {"self_validate_jwt": True, "issuer": "https://am"}
    body = key_manager("KM", action, value, tenantId=tenant, enabled=False)
    row = KeyManagerRow("KM", "https://am", enabled=False)
    assert read_event("keymanager", body) == RowsEvent("key_manager", Change((row,)), "KM")


def test_key_managers_that_go() -> None:
    removed = RowsEvent("key_manager", Change(removed=(KeyManagerRow("KM"),)), "KM")
    assert read_event("keymanager", key_manager("KM", "delete", None)) == removed
    body = key_manager("KM", "update", {"issuer": "https://am"})
    assert read_event("keymanager", body) == removed


@pytest.mark.parametrize("expiry", [AT, str(AT), float(AT)])
def test_revocations(expiry: Any) -> None:
    event = read_event("tokenRevocation", revocation("jti-1", expiry, ttl=5))
    assert event == RowsEvent("revocation", Change((RevokedRow("jti-1", AT),)))


def condition(kind: str, value: Any, state: str = "true", **more: Any) -> Any:
    body = payload(
        id=7, blockingCondition=kind, conditionValue=value, state=state, tenantDomain="x", **more
    )
    return read_event("throttleData", body)


@pytest.mark.parametrize("kind", ["API", "APPLICATION", "USER", "SUBSCRIPTION", "CUSTOM"])
def test_blocks(kind: Any) -> None:
    row = BlockRow(kind.lower(), "/chat/1.0.0")
    added, removed = Change((row,)), Change(removed=(row,))
    assert condition(kind, "/chat/1.0.0") == RowsEvent("block", added, f"{kind} 7")
    assert condition(kind, "/chat/1.0.0", "false") == RowsEvent("block", removed, f"{kind} 7")


def test_blocks_of_addresses() -> None:
    value = json.dumps({"fixedIp": "10.0.0.9", "startingIp": "", "endingIp": "", "invert": True})
    row = BlockRow("address", "10.0.0.9", 7, True)
    assert condition("IP", value).change == Change((row,))
    value = json.dumps({"fixedIp": "", "startingIp": "10.0.0.1", "endingIp": "10.0.0.9"})
    row = BlockRow("address", "10.0.0.1-10.0.0.9", 7, False, True)
    assert condition("IPRANGE", value).change == Change((row,))
    removed = Change(removed=(BlockRow("address", "", 7),))
    assert condition("IP", "not read", "false").change == removed


def test_key_templates() -> None:
    row = KeyTemplateRow("$userId")
    for state, change in (("add", Change((row,))), ("remove", Change(removed=(row,)))):
        body = payload(keyTemplateValue="$userId", keyTemplateState=state)
        assert read_event("throttleData", body) == RowsEvent("key_template", change)


def test_decisions() -> None:
    body = payload(throttleKey="2:/c:1", isThrottled=True, expiryTimeStamp=AT)
    change = Change((DecisionRow("2:/c:1", AT),))
    assert read_event("throttleData", body) == RowsEvent("decision", change)
    body = payload(throttleKey="2:/c:1", isThrottled=False)
    change = Change(removed=(DecisionRow("2:/c:1"),))
    assert read_event("throttleData", body) == RowsEvent("decision", change)


def test_keys_in_lower_case() -> None:
    body = revocation("jti-1", AT)
    assert read_event("tokenrevocation", body) == read_event("tokenRevocation", body)


ENCODED = base64.b64encode(b"{").decode()


@pytest.mark.parametrize(
    ("key", "body", "text"),
    [
        *((key, b"{", "it is not valid JSON") for key in KEYS),
        *((key, b"[]", "it is not an object") for key in KEYS),
        *((key, b"{}", "`event.payloadData` is missing") for key in KEYS),
        *((key, b'{"event":{"payloadData":5}}', "it is not an object") for key in KEYS),
        ("notification", payload(eventType="API_UPDATE", event="&"), "`event` is not base64"),
        ("notification", payload(eventType="API_UPDATE", event=ENCODED), "it is not valid JSON"),
        ("notification", payload(eventType="API_UPDATE", event=5), "`event` is not base64"),
        ("notification", notification("SUBSCRIPTIONS_CREATE"), "`subscriptionId` is not an"),
        ("notification", notification("DEPLOY_API_IN_GATEWAY", uuid={}), "`uuid` is not a text"),
        ("keymanager", payload(action="add"), "`name` is missing"),
        ("keymanager", payload(action="other", name="KM"), "its action is unknown"),
        ("keymanager", payload(action="add", name="KM", value=""), "it is not valid JSON"),
        ("tokenRevocation", payload(revokedToken=""), "`revokedToken` is missing"),
        ("tokenRevocation", payload(revokedToken="j", expiryTime="x"), "`expiryTime` is not an"),
        ("throttleData", payload(throttleKey=5), "throttleKey is not a text"),
        ("throttleData", payload(keyTemplateValue="x"), "its state is unknown"),
        ("throttleData", payload(blockingCondition="IP", state=True), "it is not valid JSON"),
        ("throttleData", payload(blockingCondition="API", state="true"), "is not a text"),
    ],
)
def test_malformed_messages(key: str, body: bytes, text: str) -> None:
    event = read_event(key, body)
    assert isinstance(event, Useless)
    assert event.malformed
    assert text in event.what


def test_unknown_keys() -> None:
    assert read_event("other", b"{}") == Useless("other", "the routing key is unknown")
    event = read_event("throttleData", payload(something=1))
    assert event == Useless("other", "throttleData of an unknown kind")
    event = read_event("throttleData", payload(blockingCondition="X", state="true"))
    assert event == Useless("block", "its kind is unknown")


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(-1e20, 1e20) | st.text(max_size=9)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=3), SCALARS)
NAMES = st.sampled_from(
    [
        "uuid",
        "gatewayLabels",
        "timeStamp",
        "action",
        "apiStatus",
        "applicationId",
        "consumerKey",
        "subscriptionId",
        "policyType",
        "policyId",
        "name",
        "value",
        "enabled",
        "revokedToken",
        "expiryTime",
        "throttleKey",
        "isThrottled",
        "expiryTimeStamp",
        "evaluatedConditions",
        "keyTemplateValue",
        "keyTemplateState",
        "blockingCondition",
        "conditionValue",
        "state",
        "id",
        "eventType",
        "event",
        "attributes",
        "quotaType",
    ]
)
WORDS = st.sampled_from(
    [
        "DEPLOY_API_IN_GATEWAY",
        "REMOVE_API_FROM_GATEWAY",
        "API_UPDATE",
        "API_LIFECYCLE_CHANGE",
        "POLICY_UPDATE",
        "APPLICATION_UPDATE",
        "APPLICATION_REGISTRATION_CREATE",
        "REMOVE_APPLICATION_KEYMAPPING",
        "SUBSCRIPTIONS_UPDATE",
        "SUBSCRIPTIONS_DELETE",
        "add",
        "delete",
        "true",
        "API",
        "IP",
        "IPRANGE",
        "e30=",
        "DEFAULT_VERSION",
        "SUBSCRIPTION",
    ]
)
MEMBERS = st.dictionaries(NAMES, WORDS | VALUES, max_size=9)


@given(key=st.sampled_from(KEYS), members=MEMBERS, kind=WORDS)
@settings(max_examples=examples(3000), deadline=None)
def test_any_members_are_an_event(key: str, members: dict[str, Any], kind: str) -> None:
    for body in (payload(**members), notification(kind, **members)):
        event = read_event(key, body)
        if isinstance(event, RowsEvent):
            hash(event.key)


@given(key=st.sampled_from(KEYS), body=st.binary(max_size=60))
@settings(max_examples=examples(2000), deadline=None)
def test_any_octets_are_an_event(key: str, body: bytes) -> None:
    encoded = base64.b64encode(body).decode()
    for octets in (body, payload(eventType="API_UPDATE", event=encoded), payload(value=encoded)):
        read_event(key, octets)


def test_deep_nesting() -> None:
    nested = b"[" * 200_000
    encoded = base64.b64encode(nested).decode()
    for body in (nested, payload(eventType="API_UPDATE", event=encoded)):
        event = read_event("notification", body)
        assert isinstance(event, Useless)
        assert event.malformed
