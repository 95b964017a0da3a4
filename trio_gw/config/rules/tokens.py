"""Rules of tokens: `[[issuers]]`, `[internal_key]`, `[api_key]` and `[backend_jwt]`."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from trio_gw.config.addresses import is_loopback
from trio_gw.config.faults import KeyPath, SettingsFault, dotted, duplicates
from trio_gw.config.registry import ISSUER

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


def check(settings: Settings) -> Iterator[SettingsFault]:
    """Yield every rule about issuers that these settings break."""
    for index, issuer in enumerate(settings.issuers):
        yield from _issuer(("issuers", index), issuer)
    yield from duplicates("issuers", "issuer", [one.issuer for one in settings.issuers])
    yield from _own(settings)
    for table, name in (
        ("internal_key", settings.internal_key.issuer),
        ("api_key", settings.api_key.issuer),
    ):
        if name:
            yield from _signer(table, name, settings)
    yield from header(("internal_key", "header"), settings.internal_key.header)
    if settings.authorization_header.lower() != "authorization":
        yield from header(("authorization_header",), settings.authorization_header)


def _own(settings: Settings) -> Iterator[SettingsFault]:
    """Refuse an entry that could stand in for the issuer of registered applications."""
    if not settings.registers_applications:
        return
    for index, issuer in enumerate(settings.issuers):
        for field, own in (("issuer", settings.application_issuer), ("name", ISSUER)):
            if getattr(issuer, field) == own:
                yield SettingsFault(
                    ("issuers", index, field),
                    f"issuers[{index}].{field}: {own!r} is the issuer of the portal's applications",
                    "choose another, or set portal.enabled = false",
                )


def header(path: KeyPath, name: str) -> Iterator[SettingsFault]:
    """Yield a fault if a header of this name cannot carry a credential."""
    if not _HEADER.fullmatch(name) or name.lower() in _TAKEN:
        yield SettingsFault(
            path,
            f"{dotted(path)}: {name!r} cannot be the name of a header for credentials",
            'use letters, digits and -, like "X-Token"',
        )


def _issuer(path: KeyPath, issuer: Issuer) -> Iterator[SettingsFault]:
    where = dotted(path)
    if not issuer.issuer:
        yield SettingsFault(
            (*path, "issuer"), f"{where}.issuer is empty", "give the text of the iss claim"
        )
    if issuer.certificate and issuer.jwks:
        yield _keys(path, "both")
    elif not (issuer.certificate or issuer.jwks or issuer.introspection_url):
        yield _keys(path, "neither")
    if "://" in issuer.jwks and (wrong := wrong_url(issuer.jwks, "replace the keys")):
        yield SettingsFault((*path, "jwks"), f"{where}.jwks {wrong}", "use https://, or a file")
    if not issuer.algorithms:
        yield SettingsFault(
            (*path, "algorithms"), f"{where}.algorithms is empty", 'for example ["RS256"]'
        )
    for name in issuer.algorithms:
        if name not in ALGORITHMS:
            yield _algorithm(path, name)
    for name in issuer.claims.__struct_fields__:
        if not getattr(issuer.claims, name):
            yield SettingsFault(
                (*path, "claims", name), f"{where}.claims.{name} is empty", "name a claim"
            )
    yield from _introspection(path, issuer)


def _keys(path: KeyPath, both: str) -> SettingsFault:
    return SettingsFault(
        path,
        f"{dotted(path)} has {both} of certificate and jwks",
        "give exactly one: certificate = a PEM file, or jwks = a URL or file; for opaque tokens"
        " alone, introspection_url",
    )


def _introspection(path: KeyPath, issuer: Issuer) -> Iterator[SettingsFault]:
    where = dotted(path)
    url = issuer.introspection_url
    if not url:
        for name in ("client_id", "client_secret"):
            if getattr(issuer, name):
                yield SettingsFault(
                    (*path, name),
                    f"{where}.{name} is only used with introspection_url",
                    "add introspection_url, or remove it",
                )
        return
    if wrong := wrong_url(url, "read the tokens"):
        yield SettingsFault(
            (*path, "introspection_url"), f"{where}.introspection_url {wrong}", "use https://"
        )
    for name in ("client_id", "client_secret"):
        if not getattr(issuer, name):
            # RFC 7662 §2.1: the endpoint must ask for it, or anyone could try out tokens.
            yield SettingsFault(
                (*path, name) if getattr(issuer, name) else (*path, "introspection_url"),
                f"{where}.introspection_url needs {name}",
                f'give {name}, for example "${{{name.upper()}}}" from the environment',
            )


def _signer(table: str, name: str, settings: Settings) -> Iterator[SettingsFault]:
    found = [one for one in settings.issuers if name in (one.name, one.issuer)]
    if not found:
        yield SettingsFault(
            (table, "issuer"),
            f"{table}.issuer: no entry of issuers has the name or issuer {name!r}",
            "name the entry of [[issuers]] whose keys sign these tokens",
        )
    elif not (found[0].certificate or found[0].jwks):
        yield SettingsFault(
            (table, "issuer"),
            f"{table}.issuer: the entry {name!r} has no keys of its own",
            "give it certificate or jwks",
        )


def _algorithm(path: KeyPath, name: str) -> SettingsFault:
    where = (*path, "algorithms")
    if name.lower() == "none":
        return SettingsFault(
            where, f"algorithm {name!r} leaves tokens unsigned and is never accepted"
        )
    if name.upper().startswith("HS"):
        return SettingsFault(
            where,
            f"algorithm {name!r} is symmetric (HMAC) and is never accepted: a key that can verify"
            " such a token can also sign one",
            "let the issuer sign with RS256 or ES256",
        )
    known = ", ".join(sorted(ALGORITHMS))
    return SettingsFault(where, f"algorithm {name!r} is not known", f"use some of {known}")


def wrong_url(text: str, harm: str) -> str:
    """Return what is wrong with a URL of keys or tokens; `harm` is what plain HTTP permits."""
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


_CHOICES = {"encoding": ("base64", "base64url"), "key_id": ("kid", "x5t")}
_OURS = ("x-forwarded-", "sec-websocket-", "x-request-id", "forwarded", "x-real-ip")


def backend_jwt(settings: Settings) -> Iterator[SettingsFault]:
    """Yield the broken rules of the backend JWT."""
    table = settings.backend_jwt
    path = ("backend_jwt",)
    yield from header((*path, "header"), table.header)
    if table.header.lower().startswith(_OURS):
        what = f"backend_jwt.header: {table.header!r} has another meaning already"
        yield SettingsFault((*path, "header"), what, 'use another, like "X-JWT-Assertion"')
    if not table.issuer:
        yield SettingsFault(
            (*path, "issuer"), "backend_jwt.issuer is empty", "give the text of its iss"
        )
    if table.validity < 1:
        yield SettingsFault((*path, "validity"), "backend_jwt.validity must be 1 second or more")
    for name, choices in _CHOICES.items():
        if getattr(table, name) not in choices:
            one, other = choices
            what = f'backend_jwt.{name} is neither "{one}" nor "{other}"'
            yield SettingsFault((*path, name), what, f'write "{one}" or "{other}"')
    if bool(table.key) != bool(table.certificate):
        given, missing = ("key", "certificate") if table.key else ("certificate", "key")
        yield SettingsFault(
            (*path, given),
            f"backend_jwt.{given} is given without backend_jwt.{missing}",
            "give both, or neither for those of [tls]",
        )
    if table.jwks_limit < 1:
        yield SettingsFault((*path, "jwks_limit"), "backend_jwt.jwks_limit must be 1 or more")
    if not (math.isfinite(table.jwks_window) and table.jwks_window > 0):
        what = "backend_jwt.jwks_window must be more than 0 seconds, and finite"
        yield SettingsFault((*path, "jwks_window"), what)
