"""`security` in an AsyncAPI definition: the requirements of an operation or a server.

Called by `asyncapi` and `topic`. The reference system does not read it. A topic without `x-scopes`
may get scopes from it, and every topic an API key as an alternative, which works only if the
settings name an issuer of API keys. `x-scopes` has priority, then the operation, then its server.

One matching scope is sufficient, as with `x-scopes` (spec: security §3.6); if a document requires
several at once, there is a warning.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.config.api import ApiKeyPlace
from trio_gw.config.convert import convert

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trio_gw.config.findings import Findings
    from trio_gw.config.nodes import Path

API_KEY = "apikey"  # the place in the reference system
_API_KEYS = ("httpApiKey", "apiKey")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,128}")
# Header fields with another meaning for the gateway.
_TAKEN = frozenset(
    (
        *("authorization", "connection", "content-length", "host", "origin", "transfer-encoding"),
        *("upgrade", "sec-websocket-key", "sec-websocket-protocol", "sec-websocket-version"),
    )
)
_BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")


class _Scheme(msgspec.Struct, frozen=True, rename={"place": "in"}):
    """A security scheme; AsyncAPI 3 has `scopes` in it."""

    type: str = ""
    scopes: tuple[str, ...] | None = None
    place: Any = None
    name: Any = None


class _Type(msgspec.Struct, frozen=True, rename={"place": "in"}):
    # AsyncAPI 2 has no `scopes` in a scheme, so any value of it is accepted.
    type: str = ""
    place: Any = None
    name: Any = None


class _Components(msgspec.Struct, frozen=True, rename="camel"):
    security_schemes: dict[str, _Type | None] | None = None


class _SchemesRoot(msgspec.Struct, frozen=True):
    components: _Components = _Components()


class _Named(msgspec.Struct, frozen=True):
    """`security` in AsyncAPI 2: names of schemes with the scopes asked for."""

    security: tuple[dict[str, tuple[str, ...] | None], ...] | None = None


class _Written(msgspec.Struct, frozen=True):
    """`security` in AsyncAPI 3: the schemes themselves, mostly by reference."""

    security: tuple[_Scheme, ...] | None = None


class Schemes(msgspec.Struct, frozen=True):
    """The security schemes by name, whether any is oauth2, and the version.

    `oauth2` also covers schemes that AsyncAPI 3 allows inline in `security`.
    """

    by_name: dict[str, _Type]
    oauth2: bool
    version: tuple[int, int]


class Asked(msgspec.Struct, frozen=True):
    """The requirements of `security`: scopes, None without any, or one of the API keys.

    `given`: there was a `security`.
    """

    scopes: tuple[str, ...] | None = None
    api_keys: tuple[ApiKeyPlace, ...] = ()
    given: bool = False


NOTHING = Asked()


def schemes(findings: Findings, version: tuple[int, int], servers: Iterable[Path]) -> Schemes:
    """Read `components.securitySchemes`; `servers` are those that are backends."""
    found = convert(_SchemesRoot, findings).components.security_schemes or {}
    by_name = {name: scheme for name, scheme in found.items() if scheme is not None}
    oauth2 = any(scheme.type == "oauth2" for scheme in by_name.values())
    if version[0] == 3 and not oauth2:
        operations = findings.document.value(("operations",))
        names = operations if isinstance(operations, dict) else ()
        places = (*servers, *(("operations", name) for name in names))
        oauth2 = any(_holds_oauth2(place, findings) for place in places)
    return Schemes(by_name, oauth2, version)


def _holds_oauth2(path: Path, findings: Findings) -> bool:
    found = findings.document.value((*path, "security"))
    items = found if isinstance(found, list) else ()
    return any(isinstance(item, dict) and item.get("type") == "oauth2" for item in items)


def read(path: Path, findings: Findings, known: Schemes) -> Asked:
    """Read the requirements in `security` of the value at a path.

    A requirement without a scheme of type oauth2 or an API key has no effect and causes a warning.
    """
    at = (*path, "security")
    if findings.document.node(at) is None:
        return NOTHING
    if known.version[0] == 2:
        scopes, keys = _named(path, at, findings, known)
    else:
        scopes, keys = _written(path, at, findings)
    found: dict[str, None] = {}
    for place, asked in scopes:
        for index, scope in enumerate(asked):
            check(scope, "`security`", (*place, index), findings)
        if len(set(asked)) > 1:
            what = "`security` requires several scopes at once; here any one of them is sufficient"
            hint = "name only the scope that matters, or one that includes all of them"
            findings.warn(place, what, hint)
        found |= dict.fromkeys(asked)
    return Asked(tuple(found) or None, tuple(dict.fromkeys(keys)), given=True)


def check(scope: str, where: str, path: Path, findings: Findings) -> None:
    """Check that a text can be the name of a scope (spec: security §3.6)."""
    if not scope or _BLANK.search(scope):
        what = f"{scope[:80]!r} in {where} is not a scope: it is empty or has white space"
        findings.error(path, what, "write one scope name per item")


_Scopes = list[tuple["Path", tuple[str, ...]]]


def _named(
    path: Path, at: Path, findings: Findings, known: Schemes
) -> tuple[_Scopes, list[ApiKeyPlace]]:
    scopes: _Scopes = []
    keys: list[ApiKeyPlace] = []
    for index, requirement in enumerate(convert(_Named, findings, path).security or ()):
        for name, asked in requirement.items():
            place = (*at, index, name)
            scheme = known.by_name.get(name, _Type())
            if scheme.type == "oauth2":
                scopes.append((place, asked or ()))
            elif scheme.type in _API_KEYS:
                if len(requirement) > 1:
                    what = f"`security` asks for `{name[:80]}` together with another credential"
                    _no_effect(place, what, findings)
                else:
                    keys += _places(scheme, name, place, findings)
            elif not findings.spoilt(at):
                what = (
                    f"`security` names `{name[:80]}`, which is not a security scheme of type oauth2"
                )
                _no_effect(place, what, findings)
    return scopes, keys


def _written(path: Path, at: Path, findings: Findings) -> tuple[_Scopes, list[ApiKeyPlace]]:
    scopes: _Scopes = []
    keys: list[ApiKeyPlace] = []
    for index, scheme in enumerate(convert(_Written, findings, path).security or ()):
        place = (*at, index)
        if scheme.type == "oauth2":
            scopes.append(((*place, "scopes"), scheme.scopes or ()))
        elif scheme.type in _API_KEYS:
            keys += _places(scheme, scheme.type, place, findings)
        elif scheme.type:
            what = f"`security` names a scheme of type `{scheme.type[:80]}`, not oauth2"
            _no_effect(place, what, findings)
        elif not findings.spoilt(at):
            # Perhaps in the form of AsyncAPI 2, with scopes that would be ignored.
            what = "this item of `security` is not a security scheme: it has no `type`"
            hint = "write `$ref: '#/components/securitySchemes/name'`, with `scopes` over there"
            findings.error(place, what, hint)
    return scopes, keys


def _places(
    scheme: _Scheme | _Type, name: str, path: Path, findings: Findings
) -> tuple[ApiKeyPlace, ...]:
    """Read the place of an API key; for `apiKey`, which names none for HTTP, the usual two."""
    if scheme.type == "apiKey":
        return (ApiKeyPlace("header", API_KEY), ApiKeyPlace("query", API_KEY))
    key = scheme.name if isinstance(scheme.name, str) else ""
    if scheme.place == "query" and key:
        return (ApiKeyPlace("query", key),)
    if scheme.place == "header" and _HEADER.fullmatch(key) and key.lower() not in _TAKEN:
        return (ApiKeyPlace("header", key.lower()),)
    what = f"the API key of `{name[:80]}` is in no place that is read"
    _no_effect(path, what, findings, "write `in: header` or `in: query` with a `name`")
    return ()


def _no_effect(path: Path, what: str, findings: Findings, hint: str = "") -> None:
    findings.warn(
        path,
        f"{what}: no effect",
        hint
        or "a secured topic requires an OAuth2 token in any case; for scopes name a scheme with"
        " `type: oauth2`",
    )
