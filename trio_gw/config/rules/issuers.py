"""Rules of `[[issuers]]`: whose tokens are trusted, and by which keys."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from trio_gw.config.rules.faults import Fault, KeyPath, dotted, duplicates
from trio_gw.config.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.settings import Issuer, Settings

ALGORITHMS = frozenset(
    f"{family}{bits}" for family in ("RS", "PS", "ES") for bits in (256, 384, 512)
) | {"EdDSA"}
"""The JWS algorithms that may be allowed (RFC 7518 §3.1, RFC 8037): asymmetric ones only."""


def check(settings: Settings) -> Iterator[Fault]:
    """Yield the broken rules of the issuers."""
    for index, issuer in enumerate(settings.issuers):
        yield from _issuer(("issuers", index), issuer)
    yield from duplicates("issuers", "issuer", [one.issuer for one in settings.issuers])


def _issuer(path: KeyPath, issuer: Issuer) -> Iterator[Fault]:
    where = dotted(path)
    if not issuer.issuer:
        yield Fault((*path, "issuer"), f"{where}.issuer is empty", "give the text of the iss claim")
    if bool(issuer.certificate) == bool(issuer.jwks):
        both = "both" if issuer.jwks else "neither"
        yield Fault(
            path,
            f"{where} has {both} of certificate and jwks",
            "give exactly one: certificate = a PEM file, or jwks = a URL or file",
        )
    if "://" in issuer.jwks and (wrong := _wrong_url(issuer.jwks)):
        yield Fault((*path, "jwks"), f"{where}.jwks {wrong}", "use https://, or a file")
    if not issuer.algorithms:
        yield Fault((*path, "algorithms"), f"{where}.algorithms is empty", 'for example ["RS256"]')
    for name in issuer.algorithms:
        if name not in ALGORITHMS:
            yield _algorithm(path, name)
    if issuer.validate_subscription:
        # A security setting that is not carried out must not look as if it were.
        yield Fault(
            (*path, "validate_subscription"),
            "subscription validation is not available in this version",
            f"set validate_subscription = false for {where}",
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


def _wrong_url(text: str) -> str:
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
        return "uses http://, which lets anyone on the way replace the keys"
    return f"uses {url.scheme}://"
