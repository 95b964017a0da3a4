"""Rules of `[[issuers]]`, `[internal_key]`, `[api_key]`: whose tokens, and by which keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from trio_gw.config.addresses import is_loopback
from trio_gw.config.rules.faults import Fault, KeyPath, dotted, duplicates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.settings import Issuer, Settings

ALGORITHMS = frozenset(
    f"{family}{bits}" for family in ("RS", "PS", "ES") for bits in (256, 384, 512)
) | {"EdDSA"}
"""The JWS algorithms that may be allowed (RFC 7518 §3.1, RFC 8037): asymmetric ones only."""

_HEADER = re.compile(r"[A-Za-z0-9-]+")
# Fields that mean something else to HTTP or to the gateway.
_TAKEN = frozenset(
    (
        *("authorization", "connection", "content-length", "cookie", "host", "origin"),
        *("referer", "te", "trailer", "transfer-encoding", "upgrade"),
    )
)


def check(settings: Settings) -> Iterator[Fault]:
    """Yield every rule about issuers that these settings break."""
    for index, issuer in enumerate(settings.issuers):
        yield from _issuer(("issuers", index), issuer)
    yield from duplicates("issuers", "issuer", [one.issuer for one in settings.issuers])
    for table, name in (
        ("internal_key", settings.internal_key.issuer),
        ("api_key", settings.api_key.issuer),
    ):
        if name:
            yield from _signer(table, name, settings)
    yield from header(("internal_key", "header"), settings.internal_key.header)
    if settings.authorization_header.lower() != "authorization":
        yield from header(("authorization_header",), settings.authorization_header)


def header(path: KeyPath, name: str) -> Iterator[Fault]:
    """Yield a fault if a header of this name cannot carry a credential."""
    if not _HEADER.fullmatch(name) or name.lower() in _TAKEN:
        yield Fault(
            path,
            f"{dotted(path)}: {name!r} cannot be the name of a header for credentials",
            'use letters, digits and -, like "X-Token"',
        )


def _issuer(path: KeyPath, issuer: Issuer) -> Iterator[Fault]:
    where = dotted(path)
    if not issuer.issuer:
        yield Fault((*path, "issuer"), f"{where}.issuer is empty", "give the text of the iss claim")
    if issuer.certificate and issuer.jwks:
        yield _keys(path, "both")
    elif not (issuer.certificate or issuer.jwks or issuer.introspection_url):
        yield _keys(path, "neither")
    if "://" in issuer.jwks and (wrong := _wrong_url(issuer.jwks, "replace the keys")):
        yield Fault((*path, "jwks"), f"{where}.jwks {wrong}", "use https://, or a file")
    if not issuer.algorithms:
        yield Fault((*path, "algorithms"), f"{where}.algorithms is empty", 'for example ["RS256"]')
    for name in issuer.algorithms:
        if name not in ALGORITHMS:
            yield _algorithm(path, name)
    for name in issuer.claims.__struct_fields__:
        if not getattr(issuer.claims, name):
            yield Fault((*path, "claims", name), f"{where}.claims.{name} is empty", "name a claim")
    yield from _introspection(path, issuer)


def _keys(path: KeyPath, both: str) -> Fault:
    return Fault(
        path,
        f"{dotted(path)} has {both} of certificate and jwks",
        "give exactly one: certificate = a PEM file, or jwks = a URL or file; for opaque tokens"
        " alone, introspection_url",
    )


def _introspection(path: KeyPath, issuer: Issuer) -> Iterator[Fault]:
    where = dotted(path)
    url = issuer.introspection_url
    if not url:
        for name in ("client_id", "client_secret"):
            if getattr(issuer, name):
                yield Fault(
                    (*path, name),
                    f"{where}.{name} is only used with introspection_url",
                    "add introspection_url, or remove it",
                )
        return
    if wrong := _wrong_url(url, "read the tokens"):
        yield Fault(
            (*path, "introspection_url"), f"{where}.introspection_url {wrong}", "use https://"
        )
    for name in ("client_id", "client_secret"):
        if not getattr(issuer, name):
            # RFC 7662 §2.1: the endpoint must ask for it, or anyone could try out tokens.
            yield Fault(
                (*path, name) if getattr(issuer, name) else (*path, "introspection_url"),
                f"{where}.introspection_url needs {name}",
                f'give {name}, for example "${{{name.upper()}}}" from the environment',
            )


def _signer(table: str, name: str, settings: Settings) -> Iterator[Fault]:
    found = [one for one in settings.issuers if name in (one.name, one.issuer)]
    if not found:
        yield Fault(
            (table, "issuer"),
            f"{table}.issuer: no entry of issuers has the name or issuer {name!r}",
            "name the entry of [[issuers]] whose keys sign these tokens",
        )
    elif not (found[0].certificate or found[0].jwks):
        yield Fault(
            (table, "issuer"),
            f"{table}.issuer: the entry {name!r} has no keys of its own",
            "give it certificate or jwks",
        )


def _algorithm(path: KeyPath, name: str) -> Fault:
    where = (*path, "algorithms")
    if name.lower() == "none":
        return Fault(where, f"algorithm {name!r} leaves tokens unsigned and is never accepted")
    if name.upper().startswith("HS"):
        return Fault(
            where,
            f"algorithm {name!r} is symmetric (HMAC) and is never accepted: whoever can check"
            " such a token can also make one",
            "let the issuer sign with RS256 or ES256",
        )
    known = ", ".join(sorted(ALGORITHMS))
    return Fault(where, f"algorithm {name!r} is not known", f"use some of {known}")


def _wrong_url(text: str, harm: str) -> str:
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
    except ValueError:
        return "is not a URL"
    if not host:
        return "is not a URL with a host"
    if "@" in url.netloc:
        return "holds credentials, which are not supported there"
    if url.scheme == "https" or (url.scheme == "http" and is_loopback(host)):
        return ""
    if url.scheme == "http":
        return f"uses http://, which lets anyone on the way {harm}"
    return f"uses {url.scheme}://"
