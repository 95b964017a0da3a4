"""The AsyncAPI definition, 2.x or 3.x: channels become topics, servers become endpoints.

Called by `project`. This file determines the version and the order of reading; `references`,
`servers`, `requirements` and `channels` do the rest.
spec: project-format §2.3, §5; 3.x: differences §2.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.config import (
    channels,
    extensions,
    inspection,
    references,
    requirements,
    servers,
    topic,
    unenforced,
)
from trio_gw.config.convert import convert
from trio_gw.config.references import RefPlaces

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trio_gw.config.api import Endpoint, Topic
    from trio_gw.config.findings import Findings
    from trio_gw.config.nodes import Path

_VERSION = re.compile(r"([23])(?:\.(?:([0-9]{1,4})(?![0-9]))?.*)?")


class Definition(msgspec.Struct, frozen=True):
    """The content of a definition; `oauth2`: a scheme of that type exists.

    `unenforced` names constraints that are not enforced; `preserve_host` is that of the root.
    """

    topics: tuple[Topic, ...] = ()
    oauth2: bool = False
    production: Endpoint | None = None
    sandbox: Endpoint | None = None
    unenforced: tuple[str, ...] = ()
    preserve_host: bool | None = None


def read(findings: Findings, *, lone: bool = False) -> Definition:
    """Read a definition; faults go to `findings`, whose references are resolved.

    With `lone` a single server of any name is production (see `servers.roles`), and the server
    named by `x-trio-gw-server` is the backend; otherwise only its `security` is used.
    spec: project-format §2.3, §5.
    """
    found = version(findings)
    if found is None:
        return Definition()
    major = found[0]
    root = _root(findings)
    roles = servers.roles(findings, lone=lone, named=root.server)
    references.follow(findings, places(major, roles.values()), strict=major == 3)
    schemes = requirements.schemes(findings, found, roles.values())
    asked = _asked_by_servers(roles, findings, schemes)
    telling = root.server and all(servers.speaks(path, findings) for path in roles.values())
    rules = topic.Rules(
        schemes,
        asked,
        convert(inspection.InspectionRoot, findings),
        root,
        server_name=root.server if telling else "",
    )
    endpoints = {
        side: servers.read(path, findings, major=major, whole=bool(root.server))
        for side, path in roles.items()
        if lone or not root.server
    }
    return Definition(
        topics=channels.read(findings, rules),
        oauth2=schemes.oauth2,
        production=endpoints.get("production"),
        sandbox=endpoints.get("sandbox"),
        unenforced=unenforced.read(findings),
        preserve_host=root.preserve_host,
    )


def _root(findings: Findings) -> extensions.RootExtensions:
    root = convert(extensions.RootExtensions, findings)
    if root.channel_names in ("", extensions.PATHS, extensions.SUBJECTS):
        return root
    what = f"`{extensions.CHANNEL_NAMES}` is `{root.channel_names[:40]}`"
    hint = f"write `{extensions.PATHS}` or `{extensions.SUBJECTS}`"
    findings.error((extensions.CHANNEL_NAMES,), what, hint)
    return msgspec.structs.replace(root, channel_names="")


class _Dialect(msgspec.Struct, frozen=True):
    asyncapi: str = ""
    swagger: Any = None
    openapi: Any = None


def version(findings: Findings) -> tuple[int, int] | None:
    """Read the version of AsyncAPI, as major and minor; None and an error for other formats."""
    kind = convert(_Dialect, findings)
    for key, value in (("swagger", kind.swagger), ("openapi", kind.openapi)):
        if value is not None:
            findings.error(
                (key,),
                "this is an OpenAPI definition; API version not specified or not supported",
                "a WebSocket API needs an AsyncAPI definition in `Definitions/asyncapi.yaml`",
            )
            return None
    written = kind.asyncapi.strip()
    if found := _VERSION.fullmatch(written):
        return int(found[1]), int(found[2] or 0)
    if not findings.spoilt(("asyncapi",)):
        what = "API version not specified: the key `asyncapi` is missing"
        if written:
            what = f"AsyncAPI version {written[:40]!r} is not supported"
        findings.error(
            ("asyncapi",),
            what,
            "AsyncAPI 2.x (2.0.0 to 2.6.0) and 3.x are read; begin the file with such a version,"
            " like `asyncapi: 2.6.0`",
        )
    return None


def places(major: int, used: Iterable[Path]) -> RefPlaces:
    """Return the places of the values that are read; each may be a `$ref`.

    AsyncAPI 2 does not allow it for `publish` and `subscribe`, and the reference system reads the
    keys next to it; so it is not resolved there.
    """
    leaf = RefPlaces(True, {})
    each = RefPlaces(False, {"*": leaf})
    server = {"variables": each} if major == 2 else {"variables": each, "security": each}
    below = {
        "servers": RefPlaces(
            False, {str(path[-1]).casefold(): RefPlaces(True, server) for path in used}
        ),
        "channels": each,
        "components": RefPlaces(False, {"securityschemes": each}),
    }
    if major == 3:
        below["operations"] = RefPlaces(False, {"*": RefPlaces(True, {"security": each})})
    return RefPlaces(False, below)


def _asked_by_servers(
    roles: dict[str, Path], findings: Findings, schemes: requirements.Schemes
) -> requirements.Asked:
    """Read the requirements of the servers; those of production apply to both sides."""
    asked = {side: requirements.read(path, findings, schemes) for side, path in roles.items()}
    if "production" not in asked:
        return asked.get("sandbox", requirements.NOTHING)
    other = asked.get("sandbox", requirements.NOTHING)
    if other.given and other != asked["production"]:
        what = "`security` of the sandbox server differs from production's: not read"
        hint = "give both servers the same `security`, or the topics `x-scopes` of their own"
        findings.warn((*roles["sandbox"], "security"), what, hint)
    return asked["production"]
