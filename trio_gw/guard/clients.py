"""Client certificates (mutual TLS): their subject, and whether an API accepts them.

`tls` makes a `ClientPeer` from the verified certificate; the authentication phase calls `accept`
with the requirements of the API. Pure. A certificate never replaces a token: it is required in
addition to the security of the topic. spec: security §8.
"""

from __future__ import annotations

import functools
import ssl
import urllib.parse
from typing import TYPE_CHECKING, Literal

import msgspec
from cryptography import x509

from trio_gw.errors import auth_refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trio_gw.errors import Refusal

Demand = Literal["ignored", "optional", "required"]

MAX_SUBJECT = 4096  # characters; backends accept this much in a header
# Allowed in a header unchanged; a `%` is written `%25`, so that the value can be decoded.
_PLAIN = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"


class ClientPeer(msgspec.Struct, frozen=True):
    """The client certificate that the handshake verified.

    `der` is the certificate, `subject` its distinguished name (RFC 4514). `by_ca`: it was
    verified against `tls.client_ca`; otherwise it is trusted because a project names it.
    """

    der: bytes
    subject: str
    by_ca: bool


def peer_of(der: bytes, *, by_ca: bool) -> ClientPeer | None:
    """Read a verified certificate; None if its subject cannot be read."""
    try:
        subject = x509.load_der_x509_certificate(der).subject.rfc4514_string()
    except ValueError:
        return None
    return ClientPeer(der, subject, by_ca) if len(subject) <= MAX_SUBJECT else None


def first_of(pem: str) -> str:
    """Return the first certificate of a PEM text: in a chain, that of the client."""
    end = "-----END CERTIFICATE-----"
    return pem[: pem.index(end) + len(end)] + "\n"


@functools.lru_cache(maxsize=4096)
def _der(pem: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(first_of(pem))


def accept(
    peer: ClientPeer | None, demand: Demand, pinned: Iterable[str], *, tls: bool
) -> ClientPeer | None:
    """Return the client's certificate if this API accepts it, None if it needs and has none.

    `pinned` are the PEM texts of the project's own client certificates: if there are any, the
    client's must be one of them; if not, `tls.client_ca` must have issued it. Raises Refusal 401.
    """
    if demand == "ignored":
        return peer if peer is not None and peer.by_ca else None
    if peer is None:
        if demand == "optional":
            return None
        if not tls:
            where = "Connect to the TLS port with a client certificate that this API accepts"
            raise _refusal(f"A client certificate is required. {where}", "not over TLS")
        what = "Connect with a client certificate that this API accepts"
        raise _refusal(f"A client certificate is required. {what}", "no client certificate")
    own = list(pinned)
    if any(_der(pem) == peer.der for pem in own) or (peer.by_ca and not own):
        return peer
    why = "is not one of the project's" if own else "does not lead to tls.client_ca"
    raise _refusal(
        "The client certificate is not accepted by this API",
        f"client certificate {peer.subject!r} {why}",
    )


def header_value(peer: ClientPeer) -> bytes:
    """Write the subject for a header; all but printable ASCII is percent-encoded."""
    text = urllib.parse.quote(peer.subject, safe=_PLAIN, encoding="utf-8", errors="replace")
    return (f"{text[:-1]}%20" if text.endswith(" ") else text).encode("ascii")


def _refusal(description: str, why: str) -> Refusal:
    return auth_refusal(401, "900901", "Invalid Credentials", description, why=why)
