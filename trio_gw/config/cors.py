"""CORS: which web pages may use an API, by the settings or by the API.

`[cors]` in the settings applies to all APIs; an enabled `corsConfiguration` in an api.yaml replaces
it for its API. `proxy.cors_policy` applies the policy. spec: security §9.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.findings import Findings
    from trio_gw.config.nodes import Path

CONFIG: Path = ("data", "corsConfiguration")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ORIGIN = re.compile(r"\*|null|[A-Za-z*][A-Za-z0-9+.*-]*://[A-Za-z0-9.*_\[\]:-]+")


class CorsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The allowed origins, and the headers sent to browsers; `*` matches any text."""

    enabled: bool = True
    allow_origins: tuple[str, ...] = ("*",)
    allow_methods: tuple[str, ...] = ("GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS")
    allow_headers: tuple[str, ...] = (
        *("authorization", "Access-Control-Allow-Origin", "Content-Type", "SOAPAction"),
        *("apikey", "testKey", "Internal-Key"),
    )
    expose_headers: tuple[str, ...] = ()
    allow_credentials: bool = False


class CorsConfiguration(msgspec.Struct, frozen=True, rename="camel"):
    """The part of an api.yaml that is read here; None for missing keys."""

    cors_configuration_enabled: bool = False
    access_control_allow_origins: tuple[str, ...] | None = None
    access_control_allow_credentials: bool = False
    access_control_allow_headers: tuple[str, ...] | None = None
    access_control_allow_methods: tuple[str, ...] | None = None


_KEYS = {
    "allow_origins": "accessControlAllowOrigins",
    "allow_headers": "accessControlAllowHeaders",
    "allow_methods": "accessControlAllowMethods",
}


class CorsFault(msgspec.Struct, frozen=True):
    """An invalid value of a policy: its field, its index in the list, and a hint."""

    field: str
    index: int
    what: str
    hint: str


def faults(cors: CorsSettings) -> Iterator[CorsFault]:
    """Yield every invalid name and origin of a policy."""
    for name in ("allow_methods", "allow_headers", "expose_headers"):
        for index, text in enumerate(getattr(cors, name)):
            if not _TOKEN.fullmatch(text):
                what = f"{text[:80]!r} is not a name as HTTP has them"
                yield CorsFault(name, index, what, "letters, digits and - only")
    for index, origin in enumerate(cors.allow_origins):
        if not _ORIGIN.fullmatch(origin):
            hint = 'write scheme and host, like "https://app.example", with * where any text may'
            hint += ' stand, or "null"'
            yield CorsFault("allow_origins", index, f"{origin[:80]!r} is not an origin", hint)


def read(config: CorsConfiguration | None, findings: Findings) -> CorsSettings | None:
    """Make the policy of an api.yaml; None if it has none.

    Invalid values are left out with a warning: the policy is then stricter, never looser.
    """
    if config is None or not config.cors_configuration_enabled:
        return None
    given = {
        field: values
        for field in _KEYS
        if (values := getattr(config, f"access_control_{field}")) is not None
    }
    cors = CorsSettings(allow_credentials=config.access_control_allow_credentials, **given)
    dropped: set[tuple[str, int]] = set()
    for fault in faults(cors):
        findings.warn((*CONFIG, _KEYS[fault.field], fault.index), fault.what, fault.hint)
        dropped.add((fault.field, fault.index))
    kept = {
        field: tuple(
            value
            for index, value in enumerate(getattr(cors, field))
            if (field, index) not in dropped
        )
        for field in _KEYS
    }
    cors = msgspec.structs.replace(cors, **kept)
    if cors.allow_credentials and "*" in cors.allow_origins:
        what = "credentials for every origin would let each web page act for its visitors: no"
        what += " credentials are allowed"
        hint = "name the origins that may, instead of `*`"
        findings.warn((*CONFIG, "accessControlAllowCredentials"), what, hint)
        cors = msgspec.structs.replace(cors, allow_credentials=False)
    return cors
