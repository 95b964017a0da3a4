"""Which versions of TLS and which ciphers a listener speaks, as the settings say.

Used by `tls` for each context that it builds, so that a new certificate changes nothing of it. What
OpenSSL does not take has been refused with the settings (`config.rules.tls`).
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
    """The oldest version of TLS, and a list of ciphers as OpenSSL has it."""

    minimum: str = TLS_MINIMUM
    ciphers: str = TLS_CIPHERS

    def apply(self, context: ssl.SSLContext) -> None:
        """Have a context speak it. Raises `ssl.SSLError` for a list that OpenSSL does not take."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # whoever asks for an old one knows
            context.minimum_version = _VERSIONS[self.minimum]
        context.set_ciphers(self.ciphers)


def protocols(settings: Tls, admin: Admin | None = None) -> tuple[Protocol, Protocol]:
    """Give what the listener of the clients speaks, and that of the admin API."""
    clients = Protocol(settings.minimum, settings.ciphers)
    own = Protocol() if admin is None else Protocol(admin.tls_minimum, admin.tls_ciphers)
    return clients, own
