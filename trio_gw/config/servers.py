"""The `servers` of an AsyncAPI definition: which of them are backends, and where they are.

Called by `asyncapi`. Two names count, `production` and `sandbox`; a server that stands alone
under another name counts as production where nothing else does. spec: project-format §5.1, §6.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from trio_gw.config import endpoint
from trio_gw.config.convert import convert
from trio_gw.config.findings import WrongError
from trio_gw.config.nodes import Mapping

if TYPE_CHECKING:
    from trio_gw.config.api import Endpoint
    from trio_gw.config.findings import Findings
    from trio_gw.config.nodes import Path

SIDES = ("production", "sandbox")

_VARIABLE = re.compile(r"\{([^{}]*)\}")


class _Variable(msgspec.Struct, frozen=True):
    default: str | None = None


class _Server(msgspec.Struct, frozen=True):
    """A server of AsyncAPI 2 (`url`) or of AsyncAPI 3 (`host`, `pathname`, `protocol`)."""

    url: str = ""
    host: str = ""
    pathname: str = ""
    protocol: Any = None
    variables: dict[str, _Variable | None] | None = None


class _Sides(msgspec.Struct, frozen=True):
    # Read for its refusals only: a list, or one name in two spellings.
    production: Any = None
    sandbox: Any = None


class _Root(msgspec.Struct, frozen=True):
    servers: _Sides = _Sides()


def roles(findings: Findings, *, lone: bool) -> dict[str, Path]:
    """Tell which server is which side's backend; name in a warning those that are none.

    With `lone` a single server of any other name is production. Without, it would take the
    place of a backend that `api.yaml` declares, and that the reference system would call.
    """
    convert(_Root, findings)
    node = findings.document.node(("servers",))
    names = list(node.entries) if isinstance(node, Mapping) else []
    found: dict[str, Path] = {
        name.casefold(): ("servers", name) for name in names if name.casefold() in SIDES
    }
    others = [name for name in names if name.casefold() not in SIDES]
    if lone and len(names) == 1 and others:
        return {"production": ("servers", others[0])}
    if others:
        shown = ", ".join(f"`{name[:40]}`" for name in others[:10])
        what = f"only the servers `production` and `sandbox` are backends; not used: {shown}"
        mend = "rename the server to `production` or `sandbox` if it is meant, else leave it"
        findings.warn(("servers", others[0]), what, mend)
    return found


def read(path: Path, findings: Findings, *, major: int) -> Endpoint | None:
    """Read the server at a path; None if it names no backend, or a wrong one."""
    server = convert(_Server, findings, path)
    if findings.document.node(path) is None or findings.spoilt(path):
        return None
    name = str(path[-1])[:80]
    if major == 2:
        if not server.url.strip():
            return None
        return _parse(server.url, name, (*path, "url"), server, findings)
    url = _joined(server, name, path, findings)
    return None if url is None else _parse(url, name, (*path, "host"), server, findings)


def _joined(server: _Server, name: str, path: Path, findings: Findings) -> str | None:
    """Put the URL of an AsyncAPI 3 server together."""
    protocol = server.protocol.strip() if isinstance(server.protocol, str) else ""
    if not server.host.strip():
        what = f"server `{name}` has no `host`"
        mend = "write `host: backend.example:8443` (AsyncAPI 3 has `host` and `pathname`, no `url`)"
        findings.error((*path, "host"), what, mend)
    elif "/" in server.host:
        what = f"server `{name}`: `host` holds more than a host and a port"
        mend = "write the scheme in `protocol` and the path in `pathname`"
        findings.error((*path, "host"), what, mend)
    elif not protocol:
        what = f"server `{name}` has no `protocol`"
        findings.error((*path, "protocol"), what, "write `protocol: wss`, or `ws` without TLS")
    else:
        target = server.pathname.strip()
        slash = "" if target.startswith("/") or not target else "/"
        return f"{protocol}://{server.host.strip()}{slash}{target}"
    return None


def _parse(
    text: str, name: str, path: Path, server: _Server, findings: Findings
) -> Endpoint | None:
    variables = server.variables or {}
    defaults = {key: each.default for key, each in variables.items() if each is not None}
    for key in _VARIABLE.findall(text):
        if defaults.get(key) is None:
            what = f"the variable `{{{key[:80]}}}` in the URL of server `{name}` has no default"
            mend = f"give it a `default` below `variables` of server `{name}`, or write the URL out"
            findings.error(path, what, mend)
            return None
    url = _VARIABLE.sub(lambda found: defaults[found[1]] or "", text)
    try:
        found = endpoint.parse(url)
    except WrongError as error:
        findings.wrong(path, f"server `{name}`", error)
        return None
    if "://" not in url and str(server.protocol).lower() in ("wss", "https"):
        what = f"server `{name}`: `protocol` is not read, and a URL without a scheme means `ws://`"
        findings.warn(path, what, f"write `wss://{url[:80]}` for TLS to the backend")
    return found
