"""The versions of TLS and the ciphers of a listener, from the settings.

Used by `tls` for each context that it builds. `config.rules.tls` has refused ciphers that OpenSSL
does not accept.
"""

from __future__ import annotations

import ssl
import warnings
from typing import TYPE_CHECKING, NamedTuple

from trio_gw.config.settings import TLS_CIPHERS, TLS_MINIMUM

if TYPE_CHECKING:
    from trio_gw.config.settings import Admin, Tls

_VERSIONS = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}


class Protocol(NamedTuple):
    """The oldest version of TLS, and a list of ciphers in the format of OpenSSL."""

    minimum: str = TLS_MINIMUM
    ciphers: str = TLS_CIPHERS

    def apply(self, context: ssl.SSLContext) -> None:
        """Apply it to a context. Raises `ssl.SSLError` for a list that OpenSSL rejects."""
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # a deprecated version was chosen on purpose
            context.minimum_version = _VERSIONS[self.minimum]
        context.set_ciphers(self.ciphers)


def protocols(settings: Tls, admin: Admin | None = None) -> tuple[Protocol, Protocol]:
    """Return the protocol of the clients' listener, and that of the admin API."""
    clients = Protocol(settings.minimum, settings.ciphers)
    own = Protocol() if admin is None else Protocol(admin.tls_minimum, admin.tls_ciphers)
    return clients, own
