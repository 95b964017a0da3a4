"""Parses and checks the backend URLs of projects.

Called by `apiyaml` for `endpointConfig` and by `asyncapi` for `servers`. Differences from the
reference are deliberate: the query string is kept, http and https mean ws and wss.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Literal

from trio_gw.config.api import Endpoint
from trio_gw.config.convert import MAX_TEXT
from trio_gw.config.faults import WrongError

_SCHEMES: dict[str, Literal["ws", "wss"]] = {
    "ws": "ws",
    "wss": "wss",
    "http": "ws",
    "https": "wss",
}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SLASH_LOST = re.compile(r"(?:wss?|https?):(?:/|$)", re.IGNORECASE)
_AUTHORITY = re.compile(r"[^/?#]*")
_TARGET = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@/%?\[\]|]*")
# Underscores are not allowed in host names, but common in container networks.
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_EXAMPLE = "write it like `wss://backend.example:8443/chat`"


def parse(text: str) -> Endpoint:
    """Parse a backend URL.

    Without a scheme it is `ws`; without a port 80, or 443 for `wss`. A fragment is dropped; path
    and query are kept as written, but a single `/` counts as no path. Raises `WrongError`.
    spec: project-format §4.5.
    """
    url = text.strip(" \t\r\n")
    if not url or url.startswith("/"):
        what = "relative urls or empty values are not supported for API endpoints"
        raise WrongError(what, _EXAMPLE)
    if len(url) > MAX_TEXT:
        raise WrongError(f"the URL has more than {MAX_TEXT:,} characters", "shorten it")
    if any(ord(character) <= 0x20 or ord(character) == 0x7F for character in url):
        what = "white space or a control character in the URL"
        raise WrongError(what, "remove it, or write it percent-encoded")
    found = _SCHEME.match(url)
    if found is None and _SLASH_LOST.match(url):
        raise WrongError("malformed endpoint: `//` is missing after the scheme", _EXAMPLE)
    scheme = _SCHEMES.get(found[1].lower()) if found else "ws"
    if found is not None and scheme is None:
        what = f"the scheme `{found[1][:40]}` is not supported"
        raise WrongError(what, "use ws, wss, http (read as ws) or https (read as wss)")
    assert scheme is not None
    rest = url[found.end() :] if found else url
    authority = _AUTHORITY.match(rest)
    assert authority is not None
    host, port = _host_and_port(authority[0], 443 if scheme == "wss" else 80)
    target = rest[authority.end() :].partition("#")[0]
    if _TARGET.fullmatch(target) is None:
        bad = next(character for character in target if not _TARGET.fullmatch(character))
        what = f"the character `{bad}` is not allowed in the path or query of a URL"
        raise WrongError(what, "percent-encode it (a placeholder belongs in `x-uri-mapping`)")
    path, _, query = target.partition("?")
    if path == "/":
        path = ""  # the same request (RFC 9112 §3.2.1), and the same certificates
    return Endpoint(scheme, host, port, path, query)


def _host_and_port(authority: str, default: int) -> tuple[str, int]:
    if "@" in authority:
        # The text is not repeated: it holds a password.
        what = "user and password in the URL are not supported"
        raise WrongError(what, "remove everything up to the `@`")
    if authority.startswith("["):
        host, bracket, tail = authority[1:].partition("]")
        colon, port = tail[:1], tail[1:]
        if not bracket or colon not in ("", ":") or not is_address(host, 6):
            what = f"malformed endpoint: invalid host name `{authority[:80]}`"
            raise WrongError(what, "write an IPv6 address like `[2001:db8::1]:8080`")
    else:
        host, _, port = authority.partition(":")
        if ":" in port:
            what = f"malformed endpoint: `{authority[:80]}` has more than one port"
            raise WrongError(what, "put an IPv6 address in brackets: `[2001:db8::1]:8080`")
        _check_name(host)
    if not port:
        return host, default
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        what = f"the port `{port[:40]}` is not a number from 1 to 65535"
        raise WrongError(what, "correct the port, or leave it out for 80 (ws) or 443 (wss)")
    return host, int(port)


def _check_name(host: str) -> None:
    if not host:
        raise WrongError("malformed endpoint: the host name is empty", _EXAMPLE)
    labels = host.removesuffix(".").split(".")
    known = all(_LABEL.fullmatch(label) for label in labels) and len(host) <= 253
    if known and labels[-1].isdigit():
        known = is_address(host, 4)
    if not known:
        what = f"malformed endpoint: invalid host name `{host[:80]}`"
        hint = "use letters, digits, dots and hyphens; write other scripts in their `xn--` form"
        raise WrongError(what, hint)


def is_address(host: str, version: int) -> bool:
    """Return whether this is an IP address of the given version, without a zone."""
    try:
        return ipaddress.ip_address(host).version == version and "%" not in host
    except ValueError:
        return False
