"""One issuer and its keys: from a file, from a certificate, or fetched from its JWKS URL.

`keys` holds one `IssuerKeys` for each issuer that is trusted, and runs `keep_fresh`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import trio

from trio_gw.config import regular
from trio_gw.errors import Problem, UnusableError
from trio_gw.guard import fetch
from trio_gw.guard.certificates import algorithms_for, load_certificate
from trio_gw.guard.fetch import MAX_BYTES, FetchError
from trio_gw.guard.jwks import Key, KeySetError, parse_key_set

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from cryptography import x509

    from trio_gw.config.settings import Issuer

    Loaded = tuple[tuple[Key, ...], x509.Certificate | None]

logger = logging.getLogger("trio_gw.keys")

REFRESH_SECONDS = 300.0  # if the server sends no max-age
MIN_REFRESH, MAX_REFRESH = 60.0, 3600.0  # bounds for max-age
MAX_BACKOFF = 60.0  # between attempts while the server is down


class GivenIssuer(NamedTuple):
    """An issuer of a control plane. Its `jwks` is a URL, else it has the `keys` of a certificate.

    `renamed` are claims with another name for backends.
    """

    issuer: Issuer
    keys: tuple[Key, ...] = ()
    certificate: x509.Certificate | None = None
    renamed: tuple[tuple[str, str], ...] = ()


class IssuerKeys:
    """One issuer and its keys; the fetch state is used only if it has a URL."""

    def __init__(
        self,
        issuer: Issuer,
        given: GivenIssuer | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.issuer = issuer
        self.given = given
        self.renamed = () if given is None else given.renamed
        self.tls = tls
        self.algorithms = frozenset(issuer.algorithms)
        self.url = issuer.jwks if "://" in issuer.jwks else ""
        self.file = issuer.certificate or ("" if self.url else issuer.jwks)
        self.keys: tuple[Key, ...] = () if given is None else given.keys
        self.certificate = None if given is None else given.certificate
        # Busy from the time a fetch is due until it has ended; the first is due at once.
        self.busy = True
        self.asked = trio.Event()
        self.ended = trio.Event()
        self.next_ask = float("-inf")

    def candidates(self, kid: str | None) -> tuple[Key, ...]:
        if kid is None or self.certificate is not None:
            return self.keys  # a certificate is the issuer's only key, whatever the token says
        return tuple(key for key in self.keys if key.kid == kid)

    async def keep_fresh(self, client: fetch.Client, changed: Callable[[], None]) -> None:
        """Fetch the keys of the URL again and again, and call `changed` for new ones."""
        failures = 0
        while True:
            self.asked, self.busy = trio.Event(), True
            try:
                data, max_age = await fetch.get(client, self.url)
                delay = REFRESH_SECONDS
                if max_age is not None:
                    delay = min(max(max_age, MIN_REFRESH), MAX_REFRESH)
                self.replace(parse_key_set(data, self.algorithms), changed)
            except (FetchError, KeySetError) as error:
                delay = min(2.0**failures, MAX_BACKOFF)
                failures += 1
                state = "keeping the last ones" if self.keys else "there are none yet"
                logger.log(
                    logging.WARNING if failures == 1 else logging.DEBUG,
                    "issuer %s: keys not fetched: %s; %s",
                    self.issuer.title,
                    error,
                    state,
                )
            else:
                if failures:
                    logger.info("issuer %s: keys fetched again", self.issuer.title)
                failures = 0
            finally:
                self.busy = False
                ended, self.ended = self.ended, trio.Event()
                ended.set()
            with trio.move_on_after(delay):
                await self.asked.wait()

    def replace(self, keys: tuple[Key, ...], changed: Callable[[], None]) -> None:
        """Use these keys from now on."""
        if keys != self.keys:
            self.keys = keys
            changed()
            logger.info("issuer %s: %d keys", self.issuer.title, len(keys))


def load(trust: IssuerKeys, base: Path) -> Loaded:
    """Read the issuer's keys from its file, and its certificate if it has one.

    Raises UnusableError.
    """
    issuer = trust.issuer
    if issuer.certificate:
        path = base / issuer.certificate
        certificate = load_certificate(path)
        public = certificate.public_key()
        able = algorithms_for(public)
        if not able & trust.algorithms:
            what = f"the certificate's key fits none of the algorithms of issuer {issuer.title}"
            hint = f"add to its algorithms one of {', '.join(sorted(able))}"
            raise UnusableError([Problem(str(path), 0, 0, what, hint)])
        return (key_of(certificate, trust.algorithms),), certificate
    path = base / issuer.jwks
    try:
        data = regular.read(path, MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise KeySetError("it is larger than 1 MiB")
        return parse_key_set(data, trust.algorithms), None
    except OSError as error:
        problem = f"the JWK set of issuer {issuer.title} cannot be read: {error.strerror}"
        raise UnusableError([Problem(str(path), 0, 0, problem, "check the path")]) from None
    except KeySetError as error:
        problem = f"the JWK set of issuer {issuer.title} cannot be used: {error}"
        hint = "put the issuer's JWK set there"
        raise UnusableError([Problem(str(path), 0, 0, problem, hint)]) from None


def key_of(certificate: x509.Certificate, allowed: frozenset[str]) -> Key:
    """Return the key of a certificate that was loaded, for the algorithms that fit."""
    public = certificate.public_key()
    return Key(None, algorithms_for(public) & allowed, public)  # type: ignore[arg-type]
