"""`security` in an AsyncAPI definition: the scopes that an operation or a server asks for.

Called by `asyncapi` and `topic`. The reference system reads none of it, so nothing here can
make a topic less protected than there: a topic without `x-scopes` may get scopes, that is all.
`x-scopes` wins; then what the operation asks for; then what its server does.

One matching scope lets a caller in, as with `x-scopes` (spec: security §3.6); where a document
asks for several at once, a warning says so.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from trio_gw.config.convert import convert

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trio_gw.config.findings import Findings
    from trio_gw.config.nodes import Path

_BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")


class _Scheme(msgspec.Struct, frozen=True):
    """A security scheme; `scopes` are those that AsyncAPI 3 writes there."""

    type: str = ""
    scopes: tuple[str, ...] | None = None


class _Type(msgspec.Struct, frozen=True):
    # AsyncAPI 2 has no `scopes` in a scheme, so one of any shape is nobody's fault.
    type: str = ""


class _Components(msgspec.Struct, frozen=True, rename="camel"):
    security_schemes: dict[str, _Type | None] | None = None


class _Root(msgspec.Struct, frozen=True):
    components: _Components = _Components()


class _Named(msgspec.Struct, frozen=True):
    """`security` in AsyncAPI 2: names of schemes with the scopes asked for."""

    security: tuple[dict[str, tuple[str, ...] | None], ...] | None = None


class _Written(msgspec.Struct, frozen=True):
    """`security` in AsyncAPI 3: the schemes themselves, mostly by reference."""

    security: tuple[_Scheme, ...] | None = None


class Schemes(msgspec.Struct, frozen=True):
    """The types of the security schemes by name, whether any is oauth2, and the version.

    `oauth2` also counts the schemes that AsyncAPI 3 may hold where they are asked for.
    """

    types: dict[str, str]
    oauth2: bool
    version: tuple[int, int]


def schemes(findings: Findings, version: tuple[int, int], servers: Iterable[Path]) -> Schemes:
    """Read `components.securitySchemes`; `servers` are those that are backends."""
    found = convert(_Root, findings).components.security_schemes or {}
    types = {name: scheme.type for name, scheme in found.items() if scheme is not None}
    oauth2 = "oauth2" in types.values()
    if version[0] == 3 and not oauth2:
        operations = findings.document.value(("operations",))
        names = operations if isinstance(operations, dict) else ()
        places = (*servers, *(("operations", name) for name in names))
        oauth2 = any(_holds_oauth2(place, findings) for place in places)
    return Schemes(types, oauth2, version)


def _holds_oauth2(path: Path, findings: Findings) -> bool:
    found = findings.document.value((*path, "security"))
    items = found if isinstance(found, list) else ()
    return any(isinstance(item, dict) and item.get("type") == "oauth2" for item in items)


def scopes(path: Path, findings: Findings, known: Schemes) -> tuple[str, ...] | None:
    """Read the scopes that `security` of the value at a path asks for; None when none.

    A requirement that names no scheme of type oauth2 has no effect and gets a warning.
    """
    at = (*path, "security")
    if findings.document.node(at) is None:
        return None
    if known.version[0] == 2:
        named = _named(path, at, findings, known)
    else:
        named = _written(path, at, findings)
    found: dict[str, None] = {}
    for place, asked in named:
        for index, scope in enumerate(asked):
            check(scope, "`security`", (*place, index), findings)
        if len(set(asked)) > 1:
            what = "`security` asks for several scopes at once; any one of them lets a caller in"
            mend = "name the one scope that matters, or one that stands for all of them"
            findings.warn(place, what, mend)
        found |= dict.fromkeys(asked)
    return tuple(found) or None


def check(scope: str, where: str, path: Path, findings: Findings) -> None:
    """Check that a text can be the name of a scope (spec: security §3.6)."""
    if not scope or _BLANK.search(scope):
        what = f"{scope[:80]!r} in {where} is not a scope: it is empty or has white space"
        findings.error(path, what, "write one scope name per item")


def _named(
    path: Path, at: Path, findings: Findings, known: Schemes
) -> list[tuple[Path, tuple[str, ...]]]:
    found = []
    for index, requirement in enumerate(convert(_Named, findings, path).security or ()):
        for name, asked in requirement.items():
            place = (*at, index, name)
            if known.types.get(name) == "oauth2":
                found.append((place, asked or ()))
            elif not findings.spoilt(at):
                what = f"`security` names `{name[:80]}`, which is no security scheme of type oauth2"
                _no_effect(place, what, findings)
    return found


def _written(path: Path, at: Path, findings: Findings) -> list[tuple[Path, tuple[str, ...]]]:
    found = []
    for index, scheme in enumerate(convert(_Written, findings, path).security or ()):
        place = (*at, index)
        if scheme.type == "oauth2":
            found.append(((*place, "scopes"), scheme.scopes or ()))
        elif scheme.type:
            what = f"`security` names a scheme of type `{scheme.type[:80]}`, not oauth2"
            _no_effect(place, what, findings)
        elif not findings.spoilt(at):
            # Perhaps written as in AsyncAPI 2, with scopes that would be lost.
            what = "this item of `security` is no security scheme: it has no `type`"
            mend = "write `$ref: '#/components/securitySchemes/name'`, with `scopes` over there"
            findings.error(place, what, mend)
    return found


def _no_effect(path: Path, what: str, findings: Findings) -> None:
    findings.warn(
        path,
        f"{what}: no effect",
        "a secured topic asks for an OAuth2 token in any case; for scopes name a scheme with"
        " `type: oauth2`",
    )
