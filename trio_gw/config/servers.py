"""The `servers` of an AsyncAPI definition: which of them are backends, and where they are.

Called by `asyncapi`, and by `init`. Servers named `production` and `sandbox` are used. A single
server with another name is production if there is no other source, and a server named by
`x-trio-gw-server` is the only one. spec: project-format §5.1, §6.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from trio_gw.config import endpoint, extensions
from trio_gw.config.convert import convert
from trio_gw.config.faults import WrongError
from trio_gw.config.nodes import Mapping

if TYPE_CHECKING:
    from trio_gw.config.api import Endpoint
    from trio_gw.config.findings import Findings
    from trio_gw.config.nodes import Path

SIDES = ("production", "sandbox")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_WEBSOCKET = ("ws", "wss", "websocket", "websockets")
_VARIABLE = re.compile(r"\{([^{}]*)\}")


class _Variable(msgspec.Struct, frozen=True):
    default: str | None = None


class _ServerObject(msgspec.Struct, frozen=True):
    """A server of AsyncAPI 2 (`url`) or of AsyncAPI 3 (`host`, `pathname`, `protocol`)."""

    url: str = ""
    host: str = ""
    pathname: str = ""
    protocol: Any = None
    variables: dict[str, _Variable | None] | None = None


class _ServerNames(msgspec.Struct, frozen=True):
    # Read only for its errors: a list, or one name in two spellings.
    production: Any = None
    sandbox: Any = None


class _ServersRoot(msgspec.Struct, frozen=True):
    servers: _ServerNames = _ServerNames()


def roles(findings: Findings, *, lone: bool, named: str = "") -> dict[str, Path]:
    """Return the server of each side; warn about servers that are not used.

    With `lone` a single server of any other name is production. Without, it would replace a
    backend that `api.yaml` declares, and that the reference system would call.
    `named` is the server that the document names; then no other is used.
    """
    convert(_ServersRoot, findings)
    node = findings.document.node(("servers",))
    names = list(node.entries) if isinstance(node, Mapping) else []
    if named:
        for name in names:
            if name.casefold() == named.casefold():
                return {"production": ("servers", name)}
        what = f"no server is named `{named[:80]}`"
        findings.error((extensions.SERVER,), what, _one_of(names))
        return {}
    found: dict[str, Path] = {
        name.casefold(): ("servers", name) for name in names if name.casefold() in SIDES
    }
    others = [name for name in names if name.casefold() not in SIDES]
    if lone and len(names) == 1 and others:
        return {"production": ("servers", others[0])}
    if others:
        shown = ", ".join(f"`{name[:40]}`" for name in others[:10])
        what = f"only the servers `production` and `sandbox` are backends; not used: {shown}"
        hint = "rename the server to `production` or `sandbox` if it is meant, else leave it"
        findings.warn(("servers", others[0]), what, hint)
    return found


def _one_of(names: list[str]) -> str:
    shown = ", ".join(f"`{name[:40]}`" for name in names[:10])
    return f"write one of {shown}" if shown else "add it below `servers`, or remove the key"


def speech(protocol: str, url: str) -> Literal["ws", "web", ""]:
    """Return the protocol of a server: WebSocket, HTTP (can be upgraded), or neither (empty).

    The scheme of the URL decides, if there is one: brokers use `wss://`, too.
    """
    found = _SCHEME.match(url.strip())
    said = protocol.strip().casefold()
    scheme = found[1].casefold() if found else said
    if scheme in _WEBSOCKET or (scheme in ("http", "https", "") and said in ("ws", "wss", "")):
        return "ws"
    return "web" if scheme in ("http", "https") else ""


def speaks(path: Path, findings: Findings) -> bool:
    """Return whether WebSockets can be opened to the server at a path."""
    server = convert(_ServerObject, findings, path)
    return bool(speech(_text(server.protocol), server.url or server.host))


def read(path: Path, findings: Findings, *, major: int, whole: bool = False) -> Endpoint | None:
    """Read the server at a path; None if it has no backend, or an invalid one.

    With `whole` a `protocol` next to a URL without a scheme is used, too, and a scheme or a path
    in a `host`. Otherwise it is read as in the reference system.
    """
    server = convert(_ServerObject, findings, path)
    if findings.document.node(path) is None or findings.spoilt(path):
        return None
    name = str(path[-1])[:80]
    if major == 2:
        url = server.url.strip()
        if not url:
            return None
        protocol = _text(server.protocol).casefold()
        if whole and _SCHEME.match(url) is None and protocol in ("ws", "wss", "http", "https"):
            url = f"{protocol}://{url}"
        return _parse(url, name, (*path, "url"), server, findings)
    joined = _joined(server, name, path, findings, whole=whole)
    return None if joined is None else _parse(joined, name, (*path, "host"), server, findings)


def _text(protocol: object) -> str:
    return protocol.strip() if isinstance(protocol, str) else ""


def _joined(
    server: _ServerObject, name: str, path: Path, findings: Findings, *, whole: bool
) -> str | None:
    """Build the URL of an AsyncAPI 3 server."""
    protocol = _text(server.protocol)
    scheme, host, above = "", server.host.strip(), ""
    if whole:
        if found := _SCHEME.match(host):
            scheme, host = found[1], host[found.end() :]
        host, slash, above = host.partition("/")
        above = slash + above
    if not host:
        what = f"server `{name}` has no `host`"
        hint = "write `host: backend.example:8443` (AsyncAPI 3 has `host` and `pathname`, no `url`)"
        findings.error((*path, "host"), what, hint)
    elif "/" in host:
        what = f"server `{name}`: `host` holds more than a host and a port"
        hint = "write the scheme in `protocol` and the path in `pathname`"
        findings.error((*path, "host"), what, hint)
    elif not (scheme or protocol):
        what = f"server `{name}` has no `protocol`"
        findings.error((*path, "protocol"), what, "write `protocol: wss`, or `ws` without TLS")
    else:
        target = server.pathname.strip()
        slash = "" if target.startswith("/") or not target else "/"
        if target:
            above = above.removesuffix("/")
        return f"{scheme or protocol}://{host}{above}{slash}{target}"
    return None


def _parse(
    text: str, name: str, path: Path, server: _ServerObject, findings: Findings
) -> Endpoint | None:
    variables = server.variables or {}
    defaults = {key: each.default for key, each in variables.items() if each is not None}
    for key in _VARIABLE.findall(text):
        if defaults.get(key) is None:
            what = f"the variable `{{{key[:80]}}}` in the URL of server `{name}` has no default"
            hint = f"give it a `default` below `variables` of server `{name}`, or write the URL out"
            findings.error(path, what, hint)
            return None
    url = _VARIABLE.sub(lambda found: defaults[found[1]] or "", text)
    try:
        found = endpoint.parse(url)
    except WrongError as error:
        findings.wrong(path, f"server `{name}`", error)
        return None
    protocol = _text(server.protocol)
    if "://" not in url and protocol.casefold() in ("wss", "https"):
        what = f"server `{name}`: `protocol` is not read, and a URL without a scheme means `ws://`"
        findings.warn(path, what, f"write `wss://{url[:80]}` for TLS to the backend")
    elif not speech(protocol, url):
        what = f"server `{name}` speaks {protocol[:40]}, but is called as `{found.origin}`"
        findings.warn(path, what, "name a server here that speaks WebSocket (`ws` or `wss`)")
    return found
