"""The AsyncAPI definition, 2.x or 3.x: channels become topics, servers become endpoints.

Called by `project`. Here are the version and the order of reading; `references`, `servers`,
`requirements` and `channels` do the rest. spec: project-format §2.3, §5; 3.x: mission §2.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.config import channels, inspection, references, requirements, servers, topic
from trio_gw.config.convert import convert
from trio_gw.config.references import Place

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trio_gw.config.api import Endpoint, Topic
    from trio_gw.config.findings import Findings
    from trio_gw.config.nodes import Path

_VERSION = re.compile(r"([23])(?:\.(?:([0-9]{1,4})(?![0-9]))?.*)?")


class Definition(msgspec.Struct, frozen=True):
    """What a definition declares; `oauth2` tells whether a scheme of that type exists."""

    topics: tuple[Topic, ...] = ()
    oauth2: bool = False
    production: Endpoint | None = None
    sandbox: Endpoint | None = None


def read(findings: Findings, *, lone: bool = False) -> Definition:
    """Read a definition; faults go to `findings`, whose references are followed on the way.

    `lone` tells that a single server of any name counts as production (see `servers.roles`).
    spec: project-format §2.3, §5.
    """
    version = _version(findings)
    if version is None:
        return Definition()
    major = version[0]
    roles = servers.roles(findings, lone=lone)
    references.follow(findings, _places(major, roles.values()), strict=major == 3)
    schemes = requirements.schemes(findings, version, roles.values())
    asked = _asked_by_servers(roles, findings, schemes)
    rules = topic.Rules(schemes, asked, convert(inspection.Root, findings))
    endpoints = {side: servers.read(path, findings, major=major) for side, path in roles.items()}
    return Definition(
        topics=channels.read(findings, rules),
        oauth2=schemes.oauth2,
        production=endpoints.get("production"),
        sandbox=endpoints.get("sandbox"),
    )


class _Kind(msgspec.Struct, frozen=True):
    asyncapi: str = ""
    swagger: Any = None
    openapi: Any = None


def _version(findings: Findings) -> tuple[int, int] | None:
    kind = convert(_Kind, findings)
    for key, value in (("swagger", kind.swagger), ("openapi", kind.openapi)):
        if value is not None:
            findings.error(
                (key,),
                "this is an OpenAPI definition; API version not specified or not supported",
                "a WebSocket API needs an AsyncAPI definition in `Definitions/asyncapi.yaml`",
            )
            return None
    version = kind.asyncapi.strip()
    if found := _VERSION.fullmatch(version):
        return int(found[1]), int(found[2] or 0)
    if not findings.spoilt(("asyncapi",)):
        what = "API version not specified: the key `asyncapi` is missing"
        if version:
            what = f"AsyncAPI version {version[:40]!r} is not supported"
        findings.error(
            ("asyncapi",),
            what,
            "AsyncAPI 2.x (2.0.0 to 2.6.0) and 3.x are read; begin the file with such a version,"
            " like `asyncapi: 2.6.0`",
        )
    return None


def _places(major: int, used: Iterable[Path]) -> Place:
    """Say where the values stand that are read, each of which may be a `$ref`.

    AsyncAPI 2 allows none for `publish` and `subscribe`, and the reference system reads what
    stands beside it there; so it is not followed.
    """
    leaf = Place(True, {})
    each = Place(False, {"*": leaf})
    server = {"variables": each} if major == 2 else {"variables": each, "security": each}
    below = {
        "servers": Place(False, {str(path[-1]).casefold(): Place(True, server) for path in used}),
        "channels": each,
        "components": Place(False, {"securityschemes": each}),
    }
    if major == 3:
        below["operations"] = Place(False, {"*": Place(True, {"security": each})})
    return Place(False, below)


def _asked_by_servers(
    roles: dict[str, Path], findings: Findings, schemes: requirements.Schemes
) -> requirements.Asked:
    """Read what the servers ask for; production speaks for both."""
    asked = {side: requirements.read(path, findings, schemes) for side, path in roles.items()}
    if "production" not in asked:
        return asked.get("sandbox", requirements.NOTHING)
    other = asked.get("sandbox", requirements.NOTHING)
    if other.given and other != asked["production"]:
        what = "`security` of the sandbox server differs from production's: not read"
        mend = "give both servers the same `security`, or the topics `x-scopes` of their own"
        findings.warn((*roles["sandbox"], "security"), what, mend)
    return asked["production"]
