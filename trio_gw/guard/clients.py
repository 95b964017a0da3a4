"""Client certificates (mutual TLS): whose certificate is it, and does this API accept it?

`tls` makes a `ClientPeer` of what the handshake proved; the authentication phase asks `accept`
with what the API wants. Pure. A certificate never stands in for a token: it is asked for beside
the topic's own security. spec: security §8.
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

MAX_SUBJECT = 4096  # characters; a backend takes so much in a header
# What may stand in a header as it is; a `%` is written `%25`, so that the value can be decoded.
_PLAIN = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"


class ClientPeer(msgspec.Struct, frozen=True):
    """Whose certificate the handshake verified.

    `der` is the certificate, `subject` its distinguished name (RFC 4514). `by_ca` tells that it
    leads to `tls.client_ca`; otherwise it is trusted because a project names it.
    """

    der: bytes
    subject: str
    by_ca: bool


def peer_of(der: bytes, *, by_ca: bool) -> ClientPeer | None:
    """Read a verified certificate; None for one whose subject cannot be told."""
    try:
        subject = x509.load_der_x509_certificate(der).subject.rfc4514_string()
    except ValueError:
        return None
    return ClientPeer(der, subject, by_ca) if len(subject) <= MAX_SUBJECT else None


def first_of(pem: str) -> str:
    """Give the first certificate of a PEM text: in a chain, the client's own."""
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
    client's must be one of them; if not, it must lead to `tls.client_ca`. Raises Refusal 401.
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
    why = "is none of the project's" if own else "does not lead to tls.client_ca"
    raise _refusal(
        "The client certificate is not accepted by this API",
        f"client certificate {peer.subject!r} {why}",
    )


def header_value(peer: ClientPeer) -> bytes:
    """Write the subject for a header; whatever is not printable ASCII is percent-encoded."""
    text = urllib.parse.quote(peer.subject, safe=_PLAIN, encoding="utf-8", errors="replace")
    return (f"{text[:-1]}%20" if text.endswith(" ") else text).encode("ascii")


def _refusal(description: str, why: str) -> Refusal:
    return auth_refusal(401, "900901", "Invalid Credentials", description, why=why)
