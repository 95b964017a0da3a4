"""Reads a topic from its operation and channel: mapping, scopes, security on or off.

Called by `channels`, which chooses the operation. spec: project-format §5.1, §5.3, §5.4.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from trio_gw.config import channel_name, extensions, inspection, mapping, references, requirements
from trio_gw.config.api import Topic, UriMapping
from trio_gw.config.convert import convert
from trio_gw.config.faults import WrongError
from trio_gw.config.nodes import Mapping, Sequence

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trio_gw.config.findings import Findings
    from trio_gw.config.nodes import Node, Path

_NAMES = {
    "mapping": "x-uri-mapping",
    "pass_path": extensions.PASS_PATH,
    "plain_http": extensions.PLAIN_HTTP,
    "scopes": "x-scopes",
    "auth_type": "x-auth-type",
    "disable_security": "x-wso2-disable-security",
    "inspect": "x-trio-gw-inspect",
    "max_message": "x-trio-gw-max-message",
    "tier": "x-throttling-tier",
    "wso2_tier": "x-wso2-throttling-tier",
}


class _Extensions(msgspec.Struct, frozen=True, rename=_NAMES):
    mapping: str | None = None
    pass_path: bool | None = None
    plain_http: bool | None = None
    scopes: tuple[str, ...] | dict[str, str] | None = None
    auth_type: str | None = None
    disable_security: bool | None = None
    inspect: bool | None = None
    max_message: int | None = None
    tier: str | None = None
    wso2_tier: str | None = None


class _Switches(msgspec.Struct, frozen=True, rename=_NAMES):
    """The keys of a channel in AsyncAPI 2; all others are those of its operations."""

    mapping: Any = None
    pass_path: bool | None = None
    plain_http: bool | None = None
    scopes: Any = None
    auth_type: str | None = None
    disable_security: bool | None = None
    inspect: bool | None = None
    max_message: int | None = None
    tier: str | None = None
    wso2_tier: str | None = None


class Rules(NamedTuple):
    """The values that apply to every topic of a definition.

    `server` holds the requirements of the server, for topics without their own; `inspection` and
    `root` hold the keys of the root, as defaults. `server_name` is the server that is the backend,
    if `root` names a WebSocket server.
    """

    schemes: requirements.Schemes
    server: requirements.Asked
    inspection: inspection.InspectionRoot
    root: extensions.RootExtensions
    server_name: str = ""


def read(
    name: str, channel: Path, operations: list[Path], rules: Rules, findings: Findings
) -> Topic:
    """Read a topic from its channel and its operations, one or more.

    Operations that differ are an error: one connection carries all of them.
    """
    topics = [_read(name, channel, each, rules, findings) for each in operations]
    first = topics[0]
    for path, other in zip(operations, topics, strict=True):
        if other != first and not findings.spoilt(path):
            findings.error(
                path,
                f"`{str(operations[0][-1])[:80]}` and `{str(path[-1])[:80]}` are one topic,"
                f" `{name[:80]}`, but their mapping, scopes or security differ",
                "give both the same `x-` keys and `security`",
            )
            break
    return first


def speaks(node: Node | None) -> bool:
    """Return whether an operation has keys that would be lost if it were not read."""
    return isinstance(node, Mapping) and any(
        key.casefold().startswith("x-") or key.casefold() == "security" for key in node.entries
    )


def _read(name: str, channel: Path, at: Path, rules: Rules, findings: Findings) -> Topic:
    operation = convert(_Extensions, findings, at)
    found_mapping, mapping_at = operation.mapping, at
    found_scopes, scopes_at = operation.scopes, at
    above: _Extensions | _Switches
    if rules.schemes.version[0] == 2:
        above = convert(_Switches, findings, channel)
        for key, value in (("x-uri-mapping", above.mapping), ("x-scopes", above.scopes)):
            if value is not None:
                what = f"`{key}` of a channel is not read in AsyncAPI 2"
                findings.warn((*channel, key), what, f"move it to `{at[-1]}`, one level down")
    else:
        above = convert(_Extensions, findings, channel)
        if found_mapping is None:
            found_mapping, mapping_at = above.mapping, channel
        if found_scopes is None:
            found_scopes, scopes_at = above.scopes, channel
    _warn_traits(at, findings)
    secured = _secured(operation, at, findings) & _secured(above, channel, findings)
    scopes = _scopes(found_scopes, (*scopes_at, "x-scopes"), findings)
    if scopes is not None and secured and not rules.schemes.oauth2:
        findings.warn(
            (*scopes_at, "x-scopes"),
            "`x-scopes` without a security scheme of type oauth2: every handshake on"
            f" `{name[:80]}` will be refused",
            "add one below `components.securitySchemes` with `type: oauth2`, or remove `x-scopes`",
        )
    asked = _required(at, rules, findings)
    api_keys = asked.api_keys
    if scopes is None:
        # An API key has no scopes, so that of a server does not open a topic with scopes.
        scopes = asked.scopes or rules.server.scopes
        api_keys = asked.api_keys if asked.given else rules.server.api_keys
    target = _mapping(found_mapping, name, (*mapping_at, "x-uri-mapping"), findings)
    looked_at, most = inspection.read(
        ((operation, at), (above, channel), (rules.inspection, ())), findings
    )
    tier = operation.tier or operation.wso2_tier or above.tier or above.wso2_tier or ""
    pass_path = _pass_path((operation, above, rules.root), target, (at, channel, ()), findings)
    plain = (each.plain_http for each in (operation, above, rules.root))
    plain_http = next((one for one in plain if one is not None), False)
    return Topic(
        name, target, secured, scopes, api_keys, looked_at, tier, most, pass_path, plain_http
    )


def _pass_path(
    declared: tuple[_Extensions, _Extensions | _Switches, extensions.RootExtensions],
    target: UriMapping | None,
    places: tuple[Path, ...],
    findings: Findings,
) -> bool:
    """Read the nearest `x-trio-gw-pass-path`; ignored with a mapping, which names the path."""
    for one, place in zip(declared, places, strict=True):
        if one.pass_path is None:
            continue
        if target is None:
            return one.pass_path
        if one.pass_path and place:
            what = f"`{extensions.PASS_PATH}` has no effect with `x-uri-mapping`"
            findings.warn((*place, extensions.PASS_PATH), what, "remove one of the two")
        break
    return False


def _required(at: Path, rules: Rules, findings: Findings) -> requirements.Asked:
    """Read `security` of an operation, which exists since AsyncAPI 2.4."""
    if rules.schemes.version >= (2, 4):
        return requirements.read(at, findings, rules.schemes)
    if findings.document.node((*at, "security")) is not None:
        what = "`security` of an operation is read from AsyncAPI 2.4 on, so it has no effect here"
        hint = "write `asyncapi: 2.6.0` at the top of the file, or use `x-scopes`"
        findings.warn((*at, "security"), what, hint)
    return requirements.NOTHING


def _warn_traits(at: Path, findings: Findings) -> None:
    traits = findings.document.node((*at, "traits"))
    root = findings.document.root
    for index, item in enumerate(traits.items if isinstance(traits, Sequence) else ()):
        if speaks(references.look(root, item)):
            what = "`traits` are not read, and this one holds `x-` keys or `security`"
            findings.warn((*at, "traits", index), what, "write them at the operation itself")


def _secured(declared: _Extensions | _Switches, path: Path, findings: Findings) -> bool:
    """Read the two switches of spec: project-format §5.1; only the exact `None` counts."""
    written = declared.auth_type or ""
    if written != "None" and written.lower() == "none":
        what = f"`x-auth-type: {written}` does not switch security off"
        findings.warn(
            (*path, "x-auth-type"), what, "write `None` with a capital N to switch it off"
        )
    return declared.disable_security is not True and written != "None"


def _scopes(
    declared: tuple[str, ...] | dict[str, str] | None, path: Path, findings: Findings
) -> tuple[str, ...] | None:
    """Read a list of scopes, or the map of index to name that tools of API Manager write."""
    if declared is None:
        return None
    items: list[tuple[str | int, str]]
    if not isinstance(declared, dict):
        items = list(enumerate(declared))
    else:
        numbers = {key: int(key) for key in declared if re.fullmatch(r"[0-9]{1,9}", key)}
        for key in declared.keys() - numbers.keys():
            what = f"`x-scopes` is a mapping, but its key {key[:80]!r} is not a number"
            findings.error((*path, key), what, "write a list: `x-scopes: [reader, writer]`")
        items = [(key, declared[key]) for key in sorted(numbers, key=lambda key: numbers[key])]
    for step, scope in items:
        requirements.check(scope, "`x-scopes`", (*path, step), findings)
    return tuple(dict.fromkeys(scope for _, scope in items))


def _mapping(text: str | None, name: str, path: Path, findings: Findings) -> UriMapping | None:
    if text is None:
        return None
    try:
        found = mapping.parse(text, channel_name.parameters(name))
    except WrongError as error:
        findings.wrong(path, "`x-uri-mapping`", error)
        return None
    for key, value in found.query or ():
        if mapping.PLACEHOLDER.search(value) and not mapping.PLACEHOLDER.fullmatch(value):
            what = f"`x-uri-mapping`: the text around the placeholder of `{key[:80]}` is not sent"
            findings.warn(path, what, "leave only the placeholder, or move it to the path")
    for key in mapping.repeated(text):
        what = f"`x-uri-mapping`: the parameter `{key[:80]}` is given twice; the last one is sent"
        findings.warn(path, what, "leave one of them")
    return found


def tiered(topics: Iterable[Topic], tiers: Iterable[tuple[str, str]]) -> tuple[Topic, ...]:
    """Set the tier from the api.yaml for topics without their own."""
    named = {channel_name.encoded(name): tier for name, tier in tiers}
    return tuple(
        topic if topic.tier else msgspec.structs.replace(topic, tier=named.get(topic.name, ""))
        for topic in topics
    )
