"""The AsyncAPI 2.x definition: channels become topics, two server names become endpoints.

Called by `project`. A channel is one connection that carries both directions, so of `publish`
and `subscribe` only one speaks for it. spec: project-format §2.3, §5.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.config import channel_name, endpoint, mapping
from trio_gw.config.api import Endpoint, Topic, UriMapping
from trio_gw.config.convert import convert
from trio_gw.config.findings import WrongError

if TYPE_CHECKING:
    from trio_gw.config.findings import Findings
    from trio_gw.config.nodes import Path

_VARIABLE = re.compile(r"\{([^{}]*)\}")
_BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")


class _Operation(
    msgspec.Struct,
    frozen=True,
    rename={
        "mapping": "x-uri-mapping",
        "scopes": "x-scopes",
        "auth_type": "x-auth-type",
        "disable_security": "x-wso2-disable-security",
    },
):
    mapping: str | None = None
    scopes: tuple[str, ...] | dict[str, str] | None = None
    auth_type: str | None = None
    disable_security: bool | None = None


class _Channel(
    msgspec.Struct,
    frozen=True,
    rename={"auth_type": "x-auth-type", "disable_security": "x-wso2-disable-security"},
):
    # The losing operation is not read, so neither is typed before it is known which one wins.
    publish: dict[str, Any] | None = None
    subscribe: dict[str, Any] | None = None
    auth_type: str | None = None
    disable_security: bool | None = None


class _Variable(msgspec.Struct, frozen=True):
    default: str | None = None


class _Server(msgspec.Struct, frozen=True):
    url: str = ""
    protocol: Any = None
    variables: dict[str, _Variable | None] | None = None


class _Servers(msgspec.Struct, frozen=True):
    production: _Server = _Server()
    sandbox: _Server = _Server()


class _Scheme(msgspec.Struct, frozen=True):
    type: str = ""


class _Components(msgspec.Struct, frozen=True, rename="camel"):
    security_schemes: dict[str, _Scheme | None] | None = None


class _AsyncApi(msgspec.Struct, frozen=True):
    servers: _Servers = _Servers()
    channels: dict[str, _Channel | None] | None = None
    components: _Components = _Components()


class Definition(msgspec.Struct, frozen=True):
    """What a definition declares; `oauth2` tells whether a scheme of that type exists."""

    topics: tuple[Topic, ...] = ()
    oauth2: bool = False
    production: Endpoint | None = None
    sandbox: Endpoint | None = None


def read(findings: Findings) -> Definition:
    """Read a definition; faults go to `findings`. spec: project-format §2.3, §5."""
    if not _check_version(findings):
        return Definition()
    root = convert(_AsyncApi, findings)
    schemes = (root.components.security_schemes or {}).values()
    oauth2 = any(scheme is not None and scheme.type == "oauth2" for scheme in schemes)
    return Definition(
        topics=_topics(root.channels or {}, findings, oauth2=oauth2),
        oauth2=oauth2,
        production=_server("production", root.servers.production, findings),
        sandbox=_server("sandbox", root.servers.sandbox, findings),
    )


class _Kind(msgspec.Struct, frozen=True):
    asyncapi: str = ""
    swagger: Any = None
    openapi: Any = None


def _check_version(findings: Findings) -> bool:
    kind = convert(_Kind, findings)
    for key, value in (("swagger", kind.swagger), ("openapi", kind.openapi)):
        if value is not None:
            findings.error(
                (key,),
                "this is an OpenAPI definition; API version not specified or not supported",
                "a WebSocket API needs an AsyncAPI 2.x definition in `Definitions/asyncapi.yaml`",
            )
            return False
    version = kind.asyncapi.strip()
    if version == "2" or version.startswith("2."):
        return True
    if not findings.spoilt(("asyncapi",)):
        what = "API version not specified: the key `asyncapi` is missing"
        if version:
            what = f"AsyncAPI version {version[:40]!r} is not supported"
        findings.error(
            ("asyncapi",),
            what,
            "AsyncAPI 2.x is read (2.0.0 to 2.6.0); begin the file with such a version, like"
            " `asyncapi: 2.6.0`",
        )
    return False


def _topics(
    channels: dict[str, _Channel | None], findings: Findings, *, oauth2: bool
) -> tuple[Topic, ...]:
    topics: dict[str, Topic] = {}
    for key, channel in channels.items():
        path: Path = ("channels", key)
        name = key.partition("?")[0]
        if not channel_name.check(key, name, path, findings):
            continue
        topic = _topic(name, channel or _Channel(), path, findings, oauth2=oauth2)
        if topic is None:
            continue
        if name in topics:
            what = f"two channels are `{name[:80]}` once what follows `?` is cut off"
            findings.error(path, what, "remove one of the two")
        topics[name] = topic
    if not topics and not findings.spoilt(("channels",)):
        findings.error(
            ("channels",),
            "no topic: there is no channel with `publish` or `subscribe`",
            "add a channel, for example `/chat:` with `publish: {}` below it",
        )
    return tuple(topics.values())


def _topic(
    name: str, channel: _Channel, path: Path, findings: Findings, *, oauth2: bool
) -> Topic | None:
    """Make a channel a topic, or nothing of it (spec: project-format §5.2)."""
    if channel.publish is None and channel.subscribe is None:
        if not findings.spoilt(path):
            what = f"the channel `{name[:80]}` has neither `publish` nor `subscribe`: discarded"
            if isinstance(content := findings.document.value(path), dict) and "$ref" in content:
                what += " (`$ref` is not followed)"
            findings.warn(path, what, "add `publish: {}` below it, or remove the channel")
        return None
    wins = "subscribe" if channel.publish is None else "publish"
    if wins == "publish" and any(key.startswith("x-") for key in channel.subscribe or {}):
        findings.warn(
            (*path, "subscribe"),
            f"`publish` speaks for the channel `{name[:80]}`: the `x-` keys of `subscribe` are"
            " not read",
            "move them to `publish`, or remove them",
        )
    at = (*path, wins)
    operation = convert(_Operation, findings, at)
    secured = _secured(operation, at, findings) & _secured(channel, path, findings)
    scopes = _scopes(operation.scopes, (*at, "x-scopes"), findings)
    if scopes is not None and secured and not oauth2:
        findings.warn(
            (*at, "x-scopes"),
            "`x-scopes` without a security scheme of type oauth2: every handshake on"
            f" `{name[:80]}` will be refused",
            "add one below `components.securitySchemes` with `type: oauth2`, or remove `x-scopes`",
        )
    return Topic(name, _mapping(operation, name, at, findings), secured, scopes)


def _secured(declared: _Operation | _Channel, path: Path, findings: Findings) -> bool:
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
    """Read a list of scopes, or the map of index to name that API Manager's tools may write."""
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
        if not scope or _BLANK.search(scope):
            what = f"{scope[:80]!r} in `x-scopes` is not a scope: it is empty or has white space"
            findings.error((*path, step), what, "write one scope name per item")
    return tuple(dict.fromkeys(scope for _, scope in items))


def _mapping(operation: _Operation, name: str, at: Path, findings: Findings) -> UriMapping | None:
    if operation.mapping is None:
        return None
    path = (*at, "x-uri-mapping")
    try:
        found = mapping.parse(operation.mapping, channel_name.parameters(name))
    except WrongError as error:
        findings.wrong(path, "`x-uri-mapping`", error)
        return None
    for key, value in found.query or ():
        if mapping.PLACEHOLDER.search(value) and not mapping.PLACEHOLDER.fullmatch(value):
            what = f"`x-uri-mapping`: the text around the placeholder of `{key[:80]}` is not sent"
            findings.warn(path, what, "leave only the placeholder, or move it to the path")
    return found


def _server(side: str, server: _Server, findings: Findings) -> Endpoint | None:
    path: Path = ("servers", side, "url")
    if not server.url.strip() or findings.spoilt(("servers", side)):
        return None
    variables = server.variables or {}
    defaults = {name: each.default for name, each in variables.items() if each is not None}
    for name in _VARIABLE.findall(server.url):
        if defaults.get(name) is None:
            what = f"the variable `{{{name[:80]}}}` in the URL of server `{side}` has no default"
            mend = f"give it a `default` below `variables` of server `{side}`, or write the URL out"
            findings.error(path, what, mend)
            return None
    url = _VARIABLE.sub(lambda found: defaults[found[1]] or "", server.url)
    try:
        found = endpoint.parse(url)
    except WrongError as error:
        findings.wrong(path, f"server `{side}`", error)
        return None
    if "://" not in url and str(server.protocol).lower() in ("wss", "https"):
        what = f"server `{side}`: `protocol` is not read, and a URL without a scheme means `ws://`"
        findings.warn(path, what, f"write `wss://{url[:80]}` for TLS to the backend")
    return found
