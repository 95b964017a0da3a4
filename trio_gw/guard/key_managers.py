"""Key managers of a control plane as issuers for the key ring. Pure.

What they say is not trusted to be well-formed: a key manager that cannot be used is left out, with
a problem, and the others count. spec: control-plane §4 (`keymanagers`).
"""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from trio_gw.config.rules.tokens import ALGORITHMS, wrong_url
from trio_gw.config.settings import Claims, Issuer
from trio_gw.errors import Problem, UnusableError
from trio_gw.guard.certificates import parse_certificate
from trio_gw.guard.issuer_keys import GivenIssuer, key_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trio_gw.config.entitlements import KeyManagerRow

MAX_KEY_MANAGERS = 100  # each may have a task that fetches its keys
MAX_TEXT = 1024  # characters of a name, an issuer, a URL or a claim
MAX_CERTIFICATE = 64 << 10  # characters
MAX_MAPPINGS = 100


def given_issuers(
    rows: Iterable[KeyManagerRow],
) -> tuple[tuple[GivenIssuer, ...], tuple[Problem, ...]]:
    """Make an issuer of each key manager that is enabled; of two with one issuer, the first.

    Their tokens need a subscription. The algorithms are all that a configured issuer may have.
    """
    found: dict[str, GivenIssuer] = {}
    problems: list[Problem] = []
    for row in sorted(rows, key=lambda row: row.name):
        if not row.enabled:
            continue
        try:
            if len(found) >= MAX_KEY_MANAGERS:
                raise ValueError(f"there are more than {MAX_KEY_MANAGERS}", "remove some")
            given = _given(row)
            if given.issuer.issuer in found:
                raise ValueError("another one has the same issuer", "give each its own issuer")
            found[given.issuer.issuer] = given
        except ValueError as error:
            what, hint = error.args
            name = row.name if _is_text(row.name) else repr(row.name[:100])
            problems.append(Problem(f"key manager {name}", 0, 0, what, hint))
    return tuple(found.values()), tuple(problems)


def _given(row: KeyManagerRow) -> GivenIssuer:
    """Convert a key manager. Raises ValueError with two texts: what is wrong, how to fix it."""
    texts = {
        "name": row.name,
        "issuer": row.issuer,
        "consumer key claim": row.consumer_key_claim or "azp",
        "scopes claim": row.scopes_claim or "scope",
    }
    for what, text in texts.items():
        if not _is_text(text):
            fault = f"its {what} is empty, too long or not printable"
            raise ValueError(fault, "change it in API Manager")
    issuer = Issuer(
        row.issuer,
        row.name,
        jwks=row.jwks,
        algorithms=tuple(sorted(ALGORITHMS)),
        claims=Claims(scope=row.scopes_claim or "scope"),
        validate_subscription=True,
        consumer_key_claim=row.consumer_key_claim,
    )
    pairs = list(row.claim_mappings.items())[:MAX_MAPPINGS]
    renamed = tuple(sorted(pair for pair in pairs if all(map(_is_text, pair))))
    if row.jwks:
        if len(row.jwks) > MAX_TEXT:
            raise ValueError("its JWKS URL is too long", "use a shorter one")
        if wrong := wrong_url(row.jwks, "replace the keys"):
            raise ValueError(f"its JWKS URL {wrong}", "use https://")
        return GivenIssuer(issuer, renamed=renamed)
    if not row.certificate:
        raise ValueError("it has no certificate and no JWKS URL", "set one of them in API Manager")
    try:
        certificate = parse_certificate(Path(row.name), _pem(row.certificate))
    except UnusableError as error:
        fault = f"its certificate cannot be used: {error.problems[0].what}"
        raise ValueError(fault, "upload a certificate in PEM with an RSA or EC key") from None
    return GivenIssuer(issuer, (key_of(certificate, ALGORITHMS),), certificate, renamed)


def _pem(text: str) -> bytes:
    """Return a certificate as PEM: it is PEM, or the base64 of PEM or of DER."""
    if len(text) > MAX_CERTIFICATE:
        raise ValueError("its certificate is too long", "upload the certificate alone")
    if "-----BEGIN" in text:
        return text.encode("utf-8", "replace")
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        what = "its certificate is neither PEM nor base64"
        raise ValueError(what, "upload a certificate in PEM") from None
    if b"-----BEGIN" in data:
        return data
    return ssl.DER_cert_to_PEM_cert(data).encode()


def _is_text(text: str) -> bool:
    return 0 < len(text) <= MAX_TEXT and text.isprintable()
