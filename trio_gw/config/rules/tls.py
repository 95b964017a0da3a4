"""Rules of `[tls]`: certificates, trust, what is spoken, the header of the client certificate."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING

from trio_gw.config.addresses import is_host_name
from trio_gw.config.faults import SettingsFault, dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.faults import KeyPath
    from trio_gw.config.settings import Settings

VERSIONS = ("1.0", "1.1", "1.2", "1.3")
_OLD = VERSIONS[:2]
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
# Headers that mean something else to a backend, or that belong to the upgrade.
_TAKEN = frozenset(
    {
        *("accept", "age", "authorization", "connection", "cookie", "date", "expect", "forwarded"),
        *("apikey", "content-length", "content-type", "host", "internal-key", "keep-alive"),
        *("origin", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te"),
        *("trailer", "transfer-encoding", "upgrade", "user-agent", "via", "x-forwarded-for"),
        *("x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix", "x-forwarded-proto"),
        *("x-forwarded-server", "x-jwt-assertion", "x-real-ip", "x-request-id"),
    }
)


def check(settings: Settings) -> Iterator[SettingsFault]:
    """Yield the broken rules of these."""
    tls = settings.tls
    for path, value in ((("tls", "cert"), tls.cert), (("tls", "key"), tls.key)):
        if not value:
            yield SettingsFault(
                path, f"{dotted(path)} is empty", "name a path, or leave the key out"
            )
    for index, pair in enumerate(tls.certificates):
        place = ("tls", "certificates", index)
        for name, value in (("cert", pair.cert), ("key", pair.key)):
            if not value:
                yield SettingsFault(
                    (*place, name), f"{dotted((*place, name))} is empty", "name a PEM file"
                )
        for host in pair.hosts:
            if not is_host_name(host.removeprefix("*.")):
                yield SettingsFault(
                    (*place, "hosts"),
                    f"{dotted(place)}.hosts: {host!r} is not a host name",
                    'write it like "ws.example.com" or "*.example.com"',
                )
    yield from _protocol(("tls", "minimum"), tls.minimum, ("tls", "ciphers"), tls.ciphers)
    admin = settings.admin
    versions, ciphers = ("admin", "tls_minimum"), ("admin", "tls_ciphers")
    yield from _protocol(versions, admin.tls_minimum, ciphers, admin.tls_ciphers)
    header = tls.client_certificate_header
    path = ("tls", "client_certificate_header")
    if header and not _NAME.fullmatch(header.lower()):
        yield SettingsFault(
            path,
            f"tls.client_certificate_header: {header!r} is not a name for a header",
            "use letters, digits and hyphens, like x-client-certificate-subject",
        )
    elif header.lower() in _TAKEN or header.lower().startswith("sec-"):
        yield SettingsFault(
            path,
            f"tls.client_certificate_header: {header!r} is the name of another header",
            "choose a name of its own, like x-client-certificate-subject",
        )


def _protocol(
    minimum_path: KeyPath, minimum: str, ciphers_path: KeyPath, ciphers: str
) -> Iterator[SettingsFault]:
    """Ask OpenSSL, so that no handshake finds out first."""
    name, listed = dotted(minimum_path), dotted(ciphers_path)
    if minimum not in VERSIONS:
        known = ", ".join(VERSIONS)
        yield SettingsFault(
            minimum_path,
            f"{name}: {minimum[:40]!r} is not a version of TLS",
            f"write one of {known}",
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if (what := _unusable(context, ciphers)) is not None:
        yield SettingsFault(
            ciphers_path,
            f"{listed}: {what}",
            "write it as `openssl ciphers` takes it, like"
            " ECDHE-RSA-AES128-GCM-SHA256:ECDHE+CHACHA20",
        )
    elif minimum in _OLD:
        has = ssl.HAS_TLSv1 if minimum == "1.0" else ssl.HAS_TLSv1_1
        level = context.security_level if ssl.OPENSSL_VERSION_INFO >= (3,) else 0
        old = any(one["protocol"] not in ("TLSv1.2", "TLSv1.3") for one in context.get_ciphers())
        if not (has and level == 0 and old):
            why = "there is none that it can use, or their security level is too high"
            hint = f"end the list with @SECLEVEL=0 and add ciphers like ECDHE+AES to {listed}"
            if not has:
                why, hint = "it was built without", "write 1.2"
            yield SettingsFault(
                minimum_path,
                f"{name}: {ssl.OPENSSL_VERSION} does not speak TLS {minimum} with the ciphers in"
                f" {listed}: {why}",
                f"{hint}; or write 1.2, for older versions are not safe (RFC 8996)",
            )


def _unusable(context: ssl.SSLContext, ciphers: str) -> str | None:
    """Take a list of ciphers for a context; say what is wrong with it, if something is."""
    for part in re.split(r"[:, ]+", ciphers):
        if not part or part[0] in "!-+@":
            continue  # these take away, or say how; they add nothing
        if part.startswith("TLS_"):
            return f"{part[:80]} is a cipher suite of TLS 1.3, which are always on"
        if not _takes(context, part):
            return f"OpenSSL knows no cipher {part[:80]!r}"
    return (
        None if _takes(context, ciphers) else f"OpenSSL does not accept the list {ciphers[:200]!r}"
    )


def _takes(context: ssl.SSLContext, ciphers: str) -> bool:
    try:
        context.set_ciphers(ciphers)
    except (ssl.SSLError, ValueError):
        return False
    return True
