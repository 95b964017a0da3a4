"""TLS handshakes with clients, and explanations of their failures (`TlsHandshakeError`).

Used for the TLS listener and for the admin listener. The first bytes of a client are peeked at
(`MSG_PEEK`) before OpenSSL reads them. That costs one receive, but it replaces a first attempt that
would find no data. The bytes are parsed only if the handshake fails. A client that does not speak
TLS never reaches OpenSSL: a plain HTTP request is answered in plain text.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
from typing import TYPE_CHECKING

import trio

from trio_gw.relay.lingering_close import BROKEN
from trio_gw.wire import hello
from trio_gw.wire.http import response

if TYPE_CHECKING:
    from trio_gw.relay.secure import SecureStream

LINGER = 1.0  # seconds a client has to read the alert
SHOWN = 4  # offered cipher suites to name

HTTP = "This port speaks TLS: use wss:// or https://, or connect to the plain port."
PROXY = (
    "This port does not accept the PROXY protocol: send plain TLS"
    " (HAProxy: no send-proxy; nginx: proxy_protocol off), and name the proxy in trusted_proxies."
)

REASONS = (
    *("alert", "client_certificate", "closed", "malformed", "no_common_parameters"),
    *("no_shared_cipher", "not_tls", "other", "plain_http", "proxy_protocol", "server_certificate"),
    *("timeout", "unsupported_version"),
)

_SHOWN_CERTIFICATE = "the client does not trust the gateway's certificate"
_NO_PARAMETERS = "no key exchange group or signature algorithm in common"
# Keys are OpenSSL's error names (`ssl.SSLError.reason`).
_BY_REASON = {
    "NO_SHARED_CIPHER": ("no_shared_cipher", "no cipher suite in common"),
    "UNSUPPORTED_PROTOCOL": ("unsupported_version", "no TLS version in common"),
    "VERSION_TOO_LOW": ("unsupported_version", "no TLS version in common"),
    "NO_PROTOCOLS_AVAILABLE": ("unsupported_version", "no TLS version in common"),
    "UNKNOWN_PROTOCOL": ("unsupported_version", "no TLS version in common"),
    "WRONG_SSL_VERSION": ("unsupported_version", "no TLS version in common"),
    "INAPPROPRIATE_FALLBACK": (
        "unsupported_version",
        "the client fell back to an older TLS version than both sides speak",
    ),
    "NO_SUITABLE_KEY_SHARE": ("no_common_parameters", _NO_PARAMETERS),
    "NO_SUITABLE_GROUPS": ("no_common_parameters", _NO_PARAMETERS),
    "NO_SHARED_GROUPS": ("no_common_parameters", _NO_PARAMETERS),
    "NO_SUITABLE_SIGNATURE_ALGORITHM": ("no_common_parameters", _NO_PARAMETERS),
    "NO_SHARED_SIGNATURE_ALGORITHMS": ("no_common_parameters", _NO_PARAMETERS),
    "CALLBACK_FAILED": ("malformed", "the client asks for a host name that is not ASCII"),
    "NO_CIPHERS_SPECIFIED": ("malformed", "the client offers no cipher suites"),
    "UNEXPECTED_EOF_WHILE_READING": ("closed", ""),
}
_UNTRUSTED = (
    *("UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_UNKNOWN", "CERTIFICATE_EXPIRED"),
    *("CERTIFICATE_REVOKED", "UNSUPPORTED_CERTIFICATE", "BAD_CERTIFICATE_STATUS_RESPONSE"),
)
_HUNG_UP = (
    "the client closed the connection during the handshake; some clients do that if they do not"
    " trust the certificate"
)
_MALFORMED = ("DECODE_ERROR", "LENGTH", "RECORD", "WRONG_VERSION_NUMBER", "UNEXPECTED", "BAD_")


class TlsHandshakeError(trio.BrokenResourceError):
    """A handshake failed: one of `REASONS`, an explanation, and the first bytes of the client.

    With an empty `reason` it is not worth reporting: the client left without sending anything.
    """

    def __init__(self, reason: str, why: str, sent: bytes, answer: bytes = b"") -> None:
        super().__init__(why)
        self.answer = answer  # for a client that does not speak TLS
        self.reason = reason
        self.why = why
        self.sent = sent


async def shake_hands(stream: SecureStream, due: float, seconds: float) -> bytes:
    """Do the handshake before `due`; `seconds` is the whole timeout, for the message.

    Returns the first bytes that the client sent. Raises `TlsHandshakeError`, or
    `ClosedResourceError` if the stream was closed in the meantime. With TLS 1.3 a client with a
    refused certificate believes that it is connected until it reads.
    """
    sent, failed = b"", None
    with trio.move_on_at(due) as deadline:
        sent = await _peek(stream)
        if sent and not hello.is_tls(sent):
            failed = await _no_tls(stream)
        else:
            try:
                await stream.do_handshake()
            except trio.BrokenResourceError as error:
                failed = _explain(error, sent)
                failed.__cause__ = error.__cause__
    if deadline.cancelled_caught:
        raise TlsHandshakeError("timeout", f"no TLS handshake within {seconds:g} seconds", sent)
    if failed is None:
        return sent
    if failed.answer or isinstance(failed.__cause__, ssl.SSLError):
        # Unread data from the client would reset the connection, and the response or alert be lost.
        with trio.move_on_after(LINGER), contextlib.suppress(*BROKEN):
            if failed.answer:
                # Nothing has been sent yet, so the socket buffer has space for a few lines.
                socket.socket.send(stream.tls, failed.answer)
            await stream.send_eof()
            while await stream.receive_raw():
                pass
    raise failed


def alerted(error: BaseException, sent: bytes = b"") -> TlsHandshakeError | None:
    """Explain an error directly after the handshake, if the client sent an alert; otherwise None.

    With TLS 1.3 the client may check the certificate when the handshake is over for the gateway.
    """
    cause = error.__cause__
    if isinstance(cause, ssl.SSLError) and "ALERT" in str(cause.reason):
        return _explain(error, sent)
    return None


def offer(sent: bytes) -> dict[str, str]:
    """Return what a client offered, as far as it can be read."""
    if (found := hello.read(sent)) is None:
        return {}
    fields = {"versions": ", ".join(found.versions)} if found.versions else {}
    if found.ciphers:
        names = [_cipher_name(code) for code in found.ciphers]
        fields["ciphers"] = ", ".join(names[:SHOWN])
        if len(names) > SHOWN:
            fields["ciphers"] += f" and {len(names) - SHOWN} more"
    if found.name:
        fields["sni"] = found.name
    return fields


async def _peek(stream: SecureStream) -> bytes:
    """Peek at the first bytes of the client; empty if it closed the connection."""
    while stream.tls.fileno() >= 0:
        try:
            # Not the method of the TLS socket, which accepts no flags.
            return socket.socket.recv(stream.tls, hello.MAX_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(stream.tls)
        except OSError:
            return b""
    raise trio.ClosedResourceError


async def _no_tls(stream: SecureStream) -> TlsHandshakeError:
    """Read what a client sent that is not TLS, and find out what it is."""
    data = b""
    while hello.needs_more(data):
        await trio.lowlevel.wait_readable(stream.tls)
        with contextlib.suppress(BlockingIOError):
            try:
                more = socket.socket.recv(stream.tls, hello.MAX_BYTES)
            except ConnectionError:
                more = b""
            if not more:
                break
            data += more
    if hello.is_proxy(data):
        why, hint = "the PROXY protocol, which is not accepted here", PROXY
    elif hello.is_http(data):
        why, hint = "plain HTTP on a port that speaks TLS", HTTP
    else:
        why = f"what the client sent is not TLS: {data[: hello.MIN_BYTES]!r}"
        return TlsHandshakeError("not_tls", why, data)
    kind = ((b"content-type", b"text/plain"),)
    answer = response(400, kind, f"{hint}\n".encode(), head_only=data[:5].upper() == b"HEAD ")
    reason = "plain_http" if hint is HTTP else "proxy_protocol"
    return TlsHandshakeError(reason, why, data, answer)


def _explain(error: BaseException, sent: bytes) -> TlsHandshakeError:
    cause = error.__cause__
    if not sent:
        return TlsHandshakeError("", "the client sent nothing", sent)
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = f"client certificate refused: {cause.verify_message}"
        return TlsHandshakeError("client_certificate", why, sent)
    if not isinstance(cause, ssl.SSLError) or isinstance(cause, ssl.SSLEOFError):
        return TlsHandshakeError("closed", _HUNG_UP, sent)
    code = str(cause.reason or "")
    words = code.lower().replace("_", " ")
    if "ALERT" in code:
        alert = code.rpartition("ALERT_")[2]
        words = f"alert: {alert.lower().replace('_', ' ')}"
        if alert in _UNTRUSTED:
            return TlsHandshakeError("server_certificate", f"{_SHOWN_CERTIFICATE} ({words})", sent)
        if alert == "PROTOCOL_VERSION":
            why = f"no TLS version in common ({words})"
            return TlsHandshakeError("unsupported_version", why, sent)
        return TlsHandshakeError("alert", f"the client ended the handshake ({words})", sent)
    if code in _BY_REASON:
        reason, why = _BY_REASON[code]
        return TlsHandshakeError(reason, why or _HUNG_UP, sent)
    if any(part in code for part in _MALFORMED):
        return TlsHandshakeError("malformed", f"the handshake is malformed ({words})", sent)
    return TlsHandshakeError("other", f"OpenSSL refused the handshake ({words or cause})", sent)


def _cipher_name(code: int) -> str:
    return _names().get(code, f"0x{code:04X}")


@functools.cache
def _names() -> dict[int, str]:
    """Return the names of the cipher suites that this OpenSSL knows, by code point."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    return {cipher["id"] & 0xFFFF: cipher["name"] for cipher in context.get_ciphers()}
