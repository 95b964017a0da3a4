"""The tables of API Manager's REST interface as rows of the entitlements. Pure.

Each row is read by itself: one that cannot be used is skipped and counted, and the others stay.
The parsers of single rows also serve messages that carry such a row.
spec: control-plane §4, §13.
"""

from __future__ import annotations

import base64
import ipaddress
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

import msgspec

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
)
from trio_gw.control_plane.fields import BadRowError, Fields, packed, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from trio_gw.config.entitlements import PolicyLevel, Quota, Row

T = TypeVar("T")

MAX_VALUES = 4_000_000  # commas in one answer; 50,000 subscriptions have 500,000
KeyedBlock = Literal["api", "application", "user", "subscription", "custom"]
KEYED: tuple[KeyedBlock, ...] = ("api", "application", "user", "subscription", "custom")

_CERTIFICATE = 1 << 18  # characters
_KEYS = 1024  # characters of a key of a block

_SECONDS: Mapping[str, int] = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86400),
    **dict.fromkeys(("month", "months"), 30 * 86400),
    **dict.fromkeys(("y", "year", "years"), 365 * 86400),
}
_BYTES: Mapping[str, int] = {"": 1, "b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}
_QUOTAS: Mapping[str, Quota] = {
    "eventcount": "eventCount",
    "requestcount": "requestCount",
    "bandwidthvolume": "bandwidthVolume",
    "bandwidth": "bandwidthVolume",
}


class TableRows(NamedTuple):
    """The rows of one answer, the number of those skipped, and why the first one was."""

    rows: tuple[Row, ...]
    skipped: int = 0
    reason: str = ""


class _Listed(msgspec.Struct, rename={"rows": "list"}):
    rows: list[msgspec.Raw] | None = None


def table(body: bytes, parser: Callable[[Fields], Row | None]) -> TableRows:
    """Read a table, `{"list": [...]}` or a bare array; rows without meaning here are left out.

    Raises `BadRowError` if it is neither.
    """
    return _rows(_elements(body), lambda raw: parser(Fields(parse(raw))))


def key_templates(body: bytes) -> TableRows:
    """Read the templates of custom policies. Raises `BadRowError`."""

    def row(raw: msgspec.Raw) -> Row:
        value = parse(raw)
        if not isinstance(value, str) or not value or len(value) > _KEYS:
            raise BadRowError("it is not a text")
        return KeyTemplateRow(value)

    return _rows(_elements(body), row)


def blocks(body: bytes) -> TableRows:
    """Read the blocking conditions. Raises `BadRowError` unless it is an object."""
    _check_count(body)
    found = Fields(parse(body))
    rows: list[Row] = []
    skipped, reason = 0, ""
    for kind in KEYED:
        read = _rows(found.items(kind), partial(block_by_key, kind))
        rows += read.rows
        skipped, reason = skipped + read.skipped, reason or read.reason
    # Releases differ in upper and lower case here.
    addresses = found.items("ip") or found.items("IP")
    read = _rows(addresses, lambda value: block_of_address(Fields(value).lowered()))
    return TableRows((*rows, *read.rows), skipped + read.skipped, reason or read.reason)


def _elements(body: bytes) -> list[msgspec.Raw]:
    _check_count(body)
    try:
        if body.lstrip()[:1] == b"[":
            return msgspec.json.decode(body, type=list[msgspec.Raw])
        return msgspec.json.decode(body, type=_Listed).rows or []
    except (ValueError, RecursionError):
        raise BadRowError("the answer is not the JSON of a list") from None


def _check_count(body: bytes) -> None:
    if body.count(b",") > MAX_VALUES:
        raise BadRowError(f"the answer has more than {MAX_VALUES:,} values")


def _rows(elements: Iterable[T], parser: Callable[[T], Row | None]) -> TableRows:
    rows: list[Row] = []
    skipped, reason = 0, ""
    for element in elements:
        try:
            row = parser(element)
        except BadRowError as error:
            skipped += 1
            reason = reason or str(error)
        else:
            if row is not None:
                rows.append(row)
    return TableRows(tuple(rows), skipped, reason)


# -- single rows ---------------------------------------------------------------------------------


def subscription(fields: Fields) -> SubscriptionRow:
    """Read a subscription; messages have the same fields."""
    return SubscriptionRow(
        id=fields.number("subscriptionId", None),
        api_uuid=fields.name("apiUUID"),
        application_uuid=fields.name("applicationUUID"),
        tier=fields.name("policyId"),
        state=fields.name("subscriptionState", "UNBLOCKED"),
        uuid=fields.text("subscriptionUUID"),
        timestamp=fields.number("timeStamp"),
    )


def application(fields: Fields) -> ApplicationRow:
    """Read an application."""
    return ApplicationRow(
        uuid=fields.required("uuid"),
        id=fields.text("id"),
        name=fields.text("name"),
        owner=fields.name("subName"),
        tier=fields.name("policy"),
        token_type=fields.name("tokenType"),
        attributes=fields.mapping("attributes"),
        timestamp=fields.number("timeStamp"),
    )


def key_mapping(fields: Fields) -> KeyMappingRow:
    """Read the mapping of a consumer key; messages have the same fields."""
    return KeyMappingRow(
        consumer_key=fields.required("consumerKey"),
        key_manager=fields.name("keyManager"),
        application_uuid=fields.name("applicationUUID"),
        key_type=fields.name("keyType", "PRODUCTION"),
        timestamp=fields.number("timeStamp"),
    )


def api(label: str) -> Callable[[Fields], ApiRow]:
    """Make the parser of APIs in an environment."""

    def parser(fields: Fields) -> ApiRow:
        return ApiRow(
            uuid=fields.required("uuid"),
            name=fields.text("name"),
            version=fields.name("version"),
            context=fields.text("context"),
            provider=fields.name("provider"),
            tier=fields.name("policy"),
            status=fields.name("status"),
            is_default=fields.flag("isDefaultVersion", default=False),
            labels=(label,),
        )

    return parser


def policy(level: PolicyLevel) -> Callable[[Fields], PolicyRow]:
    """Make the parser of policies of a level."""

    def parser(fields: Fields) -> PolicyRow:
        default = fields.inner("defaultLimit")
        kind = fields.text("quotaType") or (default.text("quotaType") if default else "")
        counted = quota(kind)
        limit, per = _limit(counted, default) if default else (0, 0)
        return PolicyRow(
            level=level,
            id=fields.number("id", None),
            name=fields.name("name"),
            quota=counted,
            limit=limit,
            per=per,
            stop_on_quota=fields.flag("stopOnQuotaReach", default=True),
            timestamp=fields.number("timeStamp"),
        )

    return parser


def quota(text: str) -> Quota:
    """Return what a policy counts, in the spelling of the rows; empty if it is unknown."""
    return _QUOTAS.get(text.lower(), "")


def _limit(kind: Quota, default: Fields) -> tuple[int, int]:
    """Return the number of events or bytes, and of seconds; zeros without a usable limit."""
    if kind == "bandwidthVolume":
        limit = default.inner("bandwidth")
        if limit is None:
            return 0, 0
        unit = limit.text("dataUnit").strip().lower()
        amount = limit.number("dataAmount") * _BYTES.get(unit, 0)
    else:
        limit = default.inner(kind) if kind else None
        if limit is None:
            return 0, 0
        amount = limit.number(kind)
    seconds = _SECONDS.get(limit.text("timeUnit").strip().lower(), 0) * limit.number("unitTime", 1)
    return (amount, seconds) if amount > 0 and seconds > 0 else (0, 0)


def key_manager(fields: Fields) -> KeyManagerRow | None:
    """Read a key manager; None if its tokens are not validated here."""
    configuration = fields.inner("configuration")
    return None if configuration is None else configured_key_manager(fields, configuration)


def configured_key_manager(fields: Fields, configuration: Fields) -> KeyManagerRow | None:
    """Read a key manager whose configuration is apart from it, as in messages."""
    if not configuration.flag("self_validate_jwt", default=False):
        return None
    jwks = configuration.text("jwks_endpoint")
    certificate = configuration.text("certificate_value", longest=_CERTIFICATE)
    if configuration.text("certificate_type").upper() == "JWKS":
        jwks, certificate = certificate or jwks, ""
    elif certificate:
        certificate = _certificate(certificate)
    mappings: dict[str, str] = {}
    for each in configuration.items("claim_mappings")[:256]:
        mapping = Fields(each)
        mappings[mapping.text("remoteClaim")] = mapping.text("localClaim")
    return KeyManagerRow(
        name=fields.required("name"),
        issuer=configuration.required("issuer"),
        enabled=fields.flag("enabled", default=True),
        consumer_key_claim=configuration.text("consumer_key_claim"),
        scopes_claim=configuration.text("scopes_claim"),
        jwks=jwks,
        certificate=certificate,
        claim_mappings=mappings,
    )


def _certificate(text: str) -> str:
    """Return PEM as it is, and the base64 of DER without spaces."""
    if "-----BEGIN" in text:
        return text
    data = packed("certificate_value", "".join(text.split()))
    if b"-----BEGIN" not in data:
        return base64.b64encode(data).decode()
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise BadRowError("`certificate_value` is not a certificate") from None


def revoked(fields: Fields) -> RevokedRow:
    """Read a revoked token."""
    return RevokedRow(fields.required("jwt_signature"), fields.number("expiry_time"))


def block_by_key(kind: KeyedBlock, value: object) -> BlockRow:
    """Make a condition of one of the kinds that have a key."""
    if not isinstance(value, str) or not value or len(value) > _KEYS:
        raise BadRowError("the key of a condition is not a text")
    return BlockRow(kind, value)


def block_of_address(fields: Fields) -> BlockRow:
    """Read a condition on addresses; names of fields in lower case. spec: control-plane §13.

    A range has its ends outside of it.
    """
    kind = fields.text("type").upper()
    number = fields.number("id")
    invert = fields.flag("invert", default=False)
    if kind == "IP":
        return BlockRow("address", _address(fields, "fixedip"), number, invert)
    if kind == "IPRANGE":
        ends = f"{_address(fields, 'startingip')}-{_address(fields, 'endingip')}"
        return BlockRow("address", ends, number, invert, exclusive=True)
    raise BadRowError("`type` is neither IP nor IPRANGE")


def _address(fields: Fields, name: str) -> str:
    try:
        return str(ipaddress.ip_address(fields.text(name).strip()))
    except ValueError:
        raise BadRowError(f"`{name}` is not an IP address") from None
