"""The handshake of an attempt from the console: what a page may ask for, as bytes.

The credential goes where the topic expects it. A page may set any header but those that would
change what the request is.
"""

from __future__ import annotations

import base64
import re
import secrets
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from trio_gw.guard.credentials import CredentialPlaces

if TYPE_CHECKING:
    from trio_gw.guard.testkey import TestKeys
    from trio_gw.portal.console_messages import AttemptKey, ConnectRequest
    from trio_gw.proxy.topic_policy import TopicPolicies
    from trio_gw.routing.live import Live

MAX_HEADERS = 32
MAX_VALUE = 4096  # octets of a header
AGENT = b"trio-gw console"
DEFLATE = b"permessage-deflate; client_max_window_bits"
# Hop-by-hop headers (RFC 9110 §7.6.1), and those that the handshake itself has.
FORBIDDEN = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization"),
        *(b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
        *(b"content-length", b"host"),
    )
)

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HOST = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
_TARGET = re.compile(r"[!-~]*")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_SCOPE = re.compile(r"[!#-\[\]-~]{1,200}")  # RFC 6749 §3.3


class RequestFaultError(Exception):
    """The page asks for something that may not be sent; contains the explanation."""


class AttemptRequest(NamedTuple):
    """The handshake as bytes, and what the page sees of it. Credentials are not in `shown`."""

    data: bytes
    target: str
    shown: list[tuple[str, str]]
    key: bytes
    protocols: tuple[str, ...]
    request_id: str


class Credentials(NamedTuple):
    """What finds the place of a credential, and mints test keys; `user` is their subject."""

    testkeys: TestKeys | None
    live: Live
    policies: TopicPolicies
    user: str


def build(asked: ConnectRequest, credentials: Credentials) -> AttemptRequest:
    """Build the request. Raises `RequestFaultError`."""
    target = _target(asked)
    if not _HOST.fullmatch(asked.host):
        raise RequestFaultError("the host must be a name or an address, perhaps with a port")
    for protocol in asked.protocols:
        if not _TOKEN.fullmatch(protocol):
            raise RequestFaultError(f"{protocol[:80]!r} is not the name of a subprotocol")
    own = [_header(name, value) for name, value in asked.headers]
    header, parameter = _credential(asked, credentials)
    secret = [header] if header is not None else []
    if header is not None and header[0] in {name for name, _ in own}:
        raise RequestFaultError(f"the header {header[0].decode()} holds the key already")
    given = dict(own)
    request_id = given.get(b"x-request-id", b"").decode("latin-1")
    if not request_id:
        request_id = f"try-{secrets.token_hex(8)}"
        own.append((b"x-request-id", request_id.encode()))
    if b"user-agent" not in given:
        own.append((b"user-agent", AGENT))
    key = base64.b64encode(secrets.token_bytes(16))
    fields = [
        (b"host", asked.host.encode()),
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-key", key),
    ]
    if asked.protocols:
        fields.append((b"sec-websocket-protocol", ", ".join(asked.protocols).encode()))
    if asked.compress:
        fields.append((b"sec-websocket-extensions", DEFLATE))
    fields += own
    sent = target
    if parameter:
        sent += ("&" if "?" in target else "?") + parameter
    lines = [b"GET %s HTTP/1.1" % sent.encode(), *map(b": ".join, [*fields, *secret])]
    shown = [(name.decode(), value.decode("latin-1")) for name, value in fields]
    shown += [(name.decode(), "…") for name, _ in secret]
    data = b"\r\n".join(lines) + b"\r\n\r\n"
    return AttemptRequest(data, target, shown, key, asked.protocols, request_id)


def _target(asked: ConnectRequest) -> str:
    if not asked.path.startswith("/") or not _TARGET.fullmatch(asked.path + asked.query):
        raise RequestFaultError("the path begins with / and is percent-encoded, as the query is")
    if "?" in asked.path or "#" in asked.path + asked.query:
        raise RequestFaultError("`?` and `#` of the path must be percent-encoded")
    return f"{asked.path}?{asked.query}" if asked.query else asked.path


def _header(name: str, value: str) -> tuple[bytes, bytes]:
    """Check a header of the page."""
    if not _TOKEN.fullmatch(name):
        raise RequestFaultError(f"{name[:80]!r} is not the name of a header")
    found = name.lower().encode()
    if found in FORBIDDEN or found.startswith(b"sec-websocket-"):
        raise RequestFaultError(f"the header {name[:80]} belongs to the handshake itself")
    try:
        octets = value.strip().encode("latin-1")
    except UnicodeEncodeError:
        octets = value.strip().encode()
    if not _VALUE.fullmatch(value.strip()) or len(octets) > MAX_VALUE:
        what = f"the value of {name[:80]} holds a control character, or more than {MAX_VALUE} bytes"
        raise RequestFaultError(what)
    return found, octets


def _credential(
    asked: ConnectRequest, credentials: Credentials
) -> tuple[tuple[bytes, bytes] | None, str]:
    """Return the header with the credential, or the parameter of the query; at most one of both."""
    key = asked.key
    if key.kind == "none":
        return None, ""
    host = asked.host.rpartition(":")[0] if re.search(r":\d+$", asked.host) else asked.host
    match = credentials.live.table.match(host.lower(), asked.path)
    places = CredentialPlaces()
    if match is not None:
        places = credentials.policies.of(match.route).places
    value = key.value.strip()
    if key.kind == "test":
        known = (
            None
            if match is None
            else {scope for topic in match.route.api.topics for scope in topic.scopes or ()}
        )
        value = _minted(key, credentials, known)
    if not value or not _TARGET.fullmatch(value):
        raise RequestFaultError("the key is empty, or holds characters that no key has")
    if key.kind == "api-key":
        if places.api_key_parameters and not places.api_key_headers:
            return None, f"{places.api_key_parameters[0]}={quote(value, safe='')}"
        name = places.api_key_headers[0] if places.api_key_headers else b"apikey"
        return (name, value.encode()), ""
    return (places.bearer, b"Bearer " + value.encode()), ""


def _minted(key: AttemptKey, credentials: Credentials, known: set[str] | None) -> str:
    """Mint a test key; `known` are the scopes of the API, None if no API has the path."""
    if credentials.testkeys is None:
        raise RequestFaultError("test keys are turned off here (`testkey.enabled`)")
    for scope in key.scopes:
        if not _SCOPE.fullmatch(scope) or (known is not None and scope not in known):
            raise RequestFaultError(f"no topic of this API asks for the scope {scope[:80]!r}")
    return credentials.testkeys.mint(
        credentials.user,
        " ".join(dict.fromkeys(key.scopes)) or None,
        time.time(),
        key_type=key.key_type,
        validity=key.seconds,
    )
