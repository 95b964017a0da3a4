"""The tables of API Manager as rows: what is read, and what is skipped."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from support.apim import FakeApiManager, policy
from support.examples import examples
from trio_gw.config.entitlements import (
    ApiRow,
    ApplicationRow,
    BlockRow,
    KeyManagerRow,
    KeyMappingRow,
    KeyTemplateRow,
    PolicyRow,
    RevokedRow,
    SubscriptionRow,
    of_rows,
)
from trio_gw.control_plane import rest_rows
from trio_gw.control_plane.fields import MAPPED, BadRowError, Fields

if TYPE_CHECKING:
    from collections.abc import Callable

PARSERS: dict[str, Callable[[Fields], Any]] = {
    "subscriptions": rest_rows.subscription,
    "applications": rest_rows.application,
    "application-key-mappings": rest_rows.key_mapping,
    "application-policies": rest_rows.policy("application"),
    "subscription-policies": rest_rows.policy("subscription"),
    "keymanagers": rest_rows.key_manager,
    "revokedjwt": rest_rows.revoked,
    "apis": rest_rows.api("Default"),
}
CA = trustme.CA()


def listed(*rows: Any) -> bytes:
    return json.dumps({"list": rows}).encode()


def one(name: str, row: Any) -> Any:
    """Read a table of one row; it must be good."""
    found = rest_rows.table(listed(row), PARSERS[name])
    assert found.skipped == 0, found.reason
    (only,) = found.rows
    return only


def test_the_seed() -> None:
    fake = FakeApiManager()
    fake.seed("ws://127.0.0.1:9", "api-1")
    rows = [
        one("subscriptions", fake.tables["subscriptions"][0]),
        one("applications", fake.tables["applications"][0]),
        one("application-key-mappings", fake.tables["application-key-mappings"][0]),
    ]
    assert rows == [
        SubscriptionRow(
            *(1, "api-1", "app-uuid-2", "AsyncGold", "UNBLOCKED", "sub-uuid-1", 1_700_000_000_000)
        ),
        ApplicationRow(
            *("app-uuid-2", "2", "ChatApp", "alice", "Unlimited", "JWT", {"tier": "gold"})
        ),
        KeyMappingRow(
            *("client-1", "Resident Key Manager", "app-uuid-2", "PRODUCTION", 1_700_000_000_000)
        ),
    ]


def test_an_api() -> None:
    row = {"apiId": 3, "uuid": "u", "provider": "p", "name": "Chat", "version": "1"}
    row |= {"context": "/c/1", "policy": "Gold", "isDefaultVersion": True, "status": "BLOCKED"}
    assert one("apis", row) == ApiRow(
        *("u", "Chat", "1", "/c/1", "p", "Gold", "BLOCKED", True, ("Default",))
    )


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (policy(2, "Gold", "eventCount", 100), ("eventCount", 100, 60)),
        (policy(2, "Gold", "requestCount", 5, "sec"), ("requestCount", 5, 1)),
        (policy(2, "Gold", "bandwidthVolume", 3, "hour"), ("bandwidthVolume", 3072, 3600)),
        (policy(2, "Gold", "eventCount", 7, "day"), ("eventCount", 7, 86400)),
        (policy(2, "Gold", "eventCount", 7, "month"), ("eventCount", 7, 30 * 86400)),
        (policy(2, "Gold", "eventCount", 7, "aeon"), ("eventCount", 0, 0)),
        (policy(2, "Gold", "eventCount"), ("eventCount", 0, 0)),
        (policy(2, "Gold", "EVENTCOUNT"), ("eventCount", 0, 0)),
        (policy(2, "Gold", "something"), ("", 0, 0)),
        ({"id": 2, "name": "Gold", "defaultLimit": None}, ("", 0, 0)),
        ({"id": 2, "name": "Gold", "defaultLimit": {"quotaType": "eventCount"}}, None),
        ({"id": 2, "name": "Gold", "defaultLimit": {"quotaType": "bandwidthVolume"}}, None),
        ({"id": 2, "name": "Gold", "defaultLimit": {}}, ("", 0, 0)),
    ],
)
def test_the_limit_of_a_policy(row: dict[str, Any], expected: tuple[str, int, int] | None) -> None:
    expected = expected or (row["defaultLimit"]["quotaType"], 0, 0)
    found = one("subscription-policies", row)
    assert isinstance(found, PolicyRow)
    assert (found.level, found.id, found.name) == ("subscription", 2, "Gold")
    assert (found.quota, found.limit, found.per) == expected


def test_units_of_time_and_data() -> None:
    limit = {"dataAmount": 2, "dataUnit": "MB", "timeUnit": "min", "unitTime": 5}
    row = {"id": 1, "quotaType": "bandwidthVolume", "defaultLimit": {"bandwidth": limit}}
    found = one("application-policies", row | {"stopOnQuotaReach": False})
    assert found == PolicyRow("application", 1, "", "bandwidthVolume", 2 << 20, 300, False)


def test_texts_numbers_and_truth_values_in_each_others_form() -> None:
    row = {"subscriptionId": "7", "policyId": 5, "timeStamp": 1.7e12, "subscriptionUUID": None}
    found = one("subscriptions", row)
    assert found == SubscriptionRow(7, tier="5", timestamp=1_700_000_000_000)
    found = one("subscription-policies", {"id": 1, "stopOnQuotaReach": "false"})
    assert found.stop_on_quota is False


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("subscriptions", {}, "`subscriptionId` is not an integer"),
        ("subscriptions", {"subscriptionId": True}, "`subscriptionId` is not an integer"),
        ("subscriptions", {"subscriptionId": 1.5}, "`subscriptionId` is not an integer"),
        ("subscriptions", {"subscriptionId": "9" * 5000}, "`subscriptionId` is not an integer"),
        ("subscriptions", {"subscriptionId": 1 << 70}, "`subscriptionId` is not a number of 64"),
        ("subscriptions", {"subscriptionId": 1, "apiUUID": []}, "`apiUUID` is not a text"),
        ("subscriptions", [], "it is not an object"),
        ("applications", {"uuid": ""}, "`uuid` is missing"),
        ("applications", {"uuid": "u" * 5000}, "`uuid` is longer than 4,096 characters"),
        ("applications", {"uuid": "u", "attributes": 1}, "`attributes` is not an object"),
        ("apis", {"uuid": "u", "isDefaultVersion": 3}, "`isDefaultVersion` is not true or false"),
        ("revokedjwt", {"expiry_time": 1}, "`jwt_signature` is missing"),
        ("keymanagers", {"configuration": 5}, "it is not an object"),
    ],
)
def test_a_broken_row_is_skipped(name: str, row: Any, reason: str) -> None:
    good = {"subscriptionId": 1, "uuid": "u", "jwt_signature": "j", "consumerKey": "k", "id": 1}
    configuration = {"self_validate_jwt": True, "issuer": "i"}
    good |= {"name": "n", "configuration": configuration}
    found = rest_rows.table(listed(row, good, row), PARSERS[name])
    assert len(found.rows) == 1
    assert found.skipped == 2
    assert reason in found.reason


def test_a_row_with_broken_octets_is_skipped() -> None:
    body = b'{"list":[{"uuid":"\xff"},{"uuid":1e400},{"uuid":"u"}]}'
    found = rest_rows.table(body, rest_rows.application)
    assert ([*found.rows], found.skipped) == ([ApplicationRow("u")], 2)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[", b"5", b'{"list":5}', b"[" * 100_000, b'"x"', b"nul"]
)
def test_a_body_that_is_no_table(body: bytes) -> None:
    with pytest.raises(BadRowError, match="the answer is not the JSON of a list"):
        rest_rows.table(body, rest_rows.application)


@pytest.mark.parametrize("body", [b'{"list":[]}', b"[]", b'{"list":null}', b"{}", b" [ ] "])
def test_an_empty_table(body: bytes) -> None:
    assert rest_rows.table(body, rest_rows.application) == ((), 0, "")


def test_too_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_rows, "MAX_VALUES", 10)
    body = b"[" + b"1," * 11 + b"1]"
    for read in (rest_rows.blocks, rest_rows.key_templates):
        with pytest.raises(BadRowError, match="more than 10 values"):
            read(body)


def manager(**configuration: Any) -> dict[str, Any]:
    configuration = {"self_validate_jwt": True, "issuer": "https://am", **configuration}
    return {"name": "KM", "enabled": True, "configuration": configuration}


def test_key_managers() -> None:
    pem = CA.cert_pem.bytes()
    coded = base64.b64encode(pem).decode()
    more = {
        "consumer_key_claim": "azp",
        "scopes_claim": "scope",
        "jwks_endpoint": "https://am/jwks",
        "certificate_type": "PEM",
        "certificate_value": coded,
        "claim_mappings": [{"remoteClaim": "given_name", "localClaim": "http://x"}],
        "TokenURL": ["anything"],
    }
    assert one("keymanagers", manager(**more)) == KeyManagerRow(
        *("KM", "https://am", True, "azp", "scope", "https://am/jwks", pem.decode()),
        {"given_name": "http://x"},
    )


def test_key_sets_of_key_managers() -> None:
    found = one("keymanagers", manager(certificate_type="JWKS", certificate_value="https://k"))
    assert (found.jwks, found.certificate) == ("https://k", "")
    found = one("keymanagers", manager(certificate_type="JWKS", jwks_endpoint="https://j"))
    assert found.jwks == "https://j"


def test_a_certificate_as_pem_or_der() -> None:
    pem = CA.cert_pem.bytes().decode()
    assert one("keymanagers", manager(certificate_value=pem)).certificate == pem
    der = base64.b64encode(b"\x30\x82der").decode()
    spread = "\n".join((der[:4], der[4:]))
    assert one("keymanagers", manager(certificate_value=spread)).certificate == der


@pytest.mark.parametrize(
    "configuration",
    [
        {"issuer": ""},
        {"certificate_value": "&&&"},
        {"certificate_value": base64.b64encode(b"-----BEGIN \xff").decode()},
        {"certificate_value": "A" * (1 << 19)},
        {"claim_mappings": [5]},
    ],
)
def test_key_managers_that_are_broken(configuration: dict[str, Any]) -> None:
    found = rest_rows.table(listed(manager(**configuration)), rest_rows.key_manager)
    assert (found.rows, found.skipped) == ((), 1)


@pytest.mark.parametrize(
    "row",
    [{"name": "x"}, manager(self_validate_jwt=False), manager(self_validate_jwt=None)],
)
def test_key_managers_whose_tokens_are_validated_elsewhere(row: dict[str, Any]) -> None:
    assert rest_rows.table(listed(row), rest_rows.key_manager) == ((), 0, "")


def test_revoked_tokens() -> None:
    body = b'[{"jwt_signature":"j-1","expiry_time":1700000000000},{"jwt_signature":"j-2"}]'
    found = rest_rows.table(body, rest_rows.revoked)
    assert found.rows == (RevokedRow("j-1", 1_700_000_000_000), RevokedRow("j-2", 0))


def test_templates() -> None:
    found = rest_rows.key_templates(b'["$userId:$apiContext", 5, ""]')
    assert (found.rows, found.skipped) == ((KeyTemplateRow("$userId:$apiContext"),), 2)


def test_blocks() -> None:
    body = {
        "api": ["/websocket/1.0.0"],
        "application": ["alice:ChatApp"],
        "user": ["bob@carbon.super"],
        "subscription": ["/websocket/1.0.0:1.0.0:alice-ChatApp:PRODUCTION"],
        "custom": [7],
        "ip": [
            {"type": "IP", "id": 7, "fixedIp": "10.0.0.9", "startingIp": "", "invert": False},
            {"TYPE": "iprange", "ID": 8, "STARTINGIP": "::1", "EndingIp": "::9", "invert": True},
            {"type": "IP", "id": 9, "fixedIp": "10.0.0"},
            {"type": "NET", "id": 10},
            5,
        ],
    }
    found = rest_rows.blocks(json.dumps(body).encode())
    assert found.rows == (
        BlockRow("api", "/websocket/1.0.0"),
        BlockRow("application", "alice:ChatApp"),
        BlockRow("user", "bob@carbon.super"),
        BlockRow("subscription", "/websocket/1.0.0:1.0.0:alice-ChatApp:PRODUCTION"),
        BlockRow("address", "10.0.0.9", 7),
        BlockRow("address", "::1-::9", 8, True, True),
    )
    assert found.skipped == 4


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(-1e20, 1e20) | st.text(max_size=9)
JSON = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=3), SCALARS)
NAMES = st.sampled_from(
    [
        "subscriptionId",
        "apiUUID",
        "policyId",
        "uuid",
        "id",
        "name",
        "attributes",
        "isDefaultVersion",
        "timeStamp",
        "consumerKey",
        "quotaType",
        "defaultLimit",
        "bandwidth",
        "dataAmount",
        "timeUnit",
        "unitTime",
        "eventCount",
        "configuration",
        "self_validate_jwt",
        "issuer",
        "certificate_value",
        "claim_mappings",
        "jwt_signature",
        "expiry_time",
        "list",
        "api",
        "ip",
        "type",
        "fixedip",
    ]
)
INNER = st.dictionaries(NAMES, JSON | st.just(True), max_size=8)
OBJECTS = st.dictionaries(NAMES, JSON | INNER | st.lists(INNER, max_size=2), max_size=8)


@given(rows=st.lists(OBJECTS | JSON, max_size=4), name=st.sampled_from(sorted(PARSERS)))
@settings(max_examples=examples(2000), deadline=None)
def test_any_json_is_read_or_skipped(rows: list[Any], name: str) -> None:
    found = rest_rows.table(listed(*rows), PARSERS[name])
    assert len(found.rows) + found.skipped <= len(rows)
    of_rows(found.rows)  # their keys can be hashed


@given(body=OBJECTS | JSON)
@settings(max_examples=examples(1000), deadline=None)
def test_any_json_is_blocks_or_refused(body: Any) -> None:
    try:
        found = rest_rows.blocks(json.dumps(body).encode())
    except BadRowError:
        return
    of_rows(found.rows)


@given(body=st.binary())
@settings(max_examples=examples(1000), deadline=None)
def test_any_octets_are_read_or_refused(body: bytes) -> None:
    for read in (rest_rows.blocks, rest_rows.key_templates):
        try:
            read(body)
        except BadRowError:
            continue


def test_a_map_is_bounded() -> None:
    many = {f"{number:08}": "v" * 992 for number in range(100)}
    found = Fields({"attributes": {"a": 5, **many}}).mapping("attributes")
    assert list(found) == list(many)[: MAPPED // 1000]
