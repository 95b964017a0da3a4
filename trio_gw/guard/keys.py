"""The keys that verify token signatures, by issuer.

Each process has one key ring (`check` makes one for its problems only). `tokens` calls `find`,
which never waits. A handshake with an unknown key waits in `wait_for` for one fetch, together with
all others of its issuer. `run` fetches JWKS URLs in the background: at start, before they expire,
and when an unknown `kid` occurs. If a server is down, the last good set stays. Files are reloaded
when they change.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from trio_gw.config import regular
from trio_gw.errors import Problem, UnusableError
from trio_gw.guard import fetch
from trio_gw.guard.certificates import algorithms_for, check_current, expiry, load_certificate
from trio_gw.guard.fetch import MAX_BYTES, FetchError
from trio_gw.guard.jwks import Key, KeySetError, parse_key_set
from trio_gw.supervision.background import BackgroundTasks, TaskName
from trio_gw.watch.files import Reloaded

if TYPE_CHECKING:
    import datetime
    import ssl
    from collections.abc import Iterable
    from pathlib import Path

    from cryptography import x509

    from trio_gw.config.settings import Issuer
    from trio_gw.guard.certificates import PublicKey

    _Loaded = tuple[tuple[Key, ...], x509.Certificate | None]

logger = logging.getLogger("trio_gw.keys")

WAIT_SECONDS = 5.0  # maximum wait of a handshake for a key
COOL_DOWN = 30.0  # between two fetches caused by unknown key ids
REFRESH_SECONDS = 300.0  # if the server sends no max-age
MIN_REFRESH, MAX_REFRESH = 60.0, 3600.0  # bounds for max-age
MAX_BACKOFF = 60.0  # between attempts while the server is down


class NotTrustedError(Exception):
    """The issuer is unknown, or does not use this algorithm or this key."""


class NoKeyError(Exception):
    """The issuer is trusted, but no key with this id is known (yet)."""


class _IssuerKeys:
    """One issuer and its keys; the fetch state is used only if it has a URL."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self.algorithms = frozenset(issuer.algorithms)
        self.url = issuer.jwks if "://" in issuer.jwks else ""
        self.file = issuer.certificate or ("" if self.url else issuer.jwks)
        self.keys: tuple[Key, ...] = ()
        self.certificate: x509.Certificate | None = None
        # Busy from the time a fetch is due until it has ended; the first is due at once.
        self.busy = True
        self.asked = trio.Event()
        self.ended = trio.Event()
        self.next_ask = float("-inf")

    def candidates(self, kid: str | None) -> tuple[Key, ...]:
        if kid is None or self.certificate is not None:
            return self.keys  # a certificate is the issuer's only key, whatever the token says
        return tuple(key for key in self.keys if key.kid == kid)


class KeyRing:
    """All trusted issuers with their keys.

    `generation` changes when the keys of any issuer change, so that results of removed keys can be
    discarded. `tls` replaces the system's trust for fetching JWKS.

    Raises UnusableError with every file that cannot be used.
    """

    def __init__(
        self, issuers: Iterable[Issuer], base: Path, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self.generation = 0
        self._tls = tls
        self._base = base
        self._trusts = {issuer.issuer: _IssuerKeys(issuer) for issuer in issuers}
        problems: list[Problem] = []
        for trust in self._trusts.values():
            try:
                if trust.file:
                    trust.keys, trust.certificate = _load(trust, base)
            except UnusableError as error:
                problems += error.problems
        if problems:
            raise UnusableError(problems)

    def warnings(self, now: datetime.datetime) -> list[Problem]:
        """Return a warning for each issuer's certificate that is not valid at `now` (aware)."""
        found = [
            expiry(self._base / trust.issuer.certificate, trust.certificate, now)
            for trust in self._trusts.values()
            if trust.certificate is not None
        ]
        return [problem for problem in found if problem is not None]

    def files(self) -> list[Reloaded[Any]]:
        """Return the issuers' files, which are reloaded when they change."""
        return [self._item(trust) for trust in self._trusts.values() if trust.file]

    def _item(self, trust: _IssuerKeys) -> Reloaded[_Loaded]:
        path = self._base / trust.file

        def load() -> _Loaded:
            loaded = _load(trust, self._base)
            if loaded[1] is not None:
                check_current(path, loaded[1])
            return loaded

        async def use(loaded: _Loaded) -> bool:
            changed = loaded[0] != trust.keys
            keys, trust.certificate = loaded
            self._replace(trust, keys)
            await trio.lowlevel.checkpoint()
            return changed

        return Reloaded(f"keys of issuer {trust.issuer.title}", (path,), load, use)

    def issuer(self, text: str) -> Issuer | None:
        """Return the settings of the issuer with exactly this `iss` text, None if untrusted."""
        trust = self._trusts.get(text)
        return trust.issuer if trust is not None else None

    def find(self, issuer: str, kid: str | None, alg: str) -> tuple[PublicKey, ...]:
        """Return the keys to try, at least one (spec: security §3.3).

        With a certificate `kid` is ignored; without `kid` every fitting key of a set is
        returned. Raises NotTrustedError or NoKeyError.
        """
        trust = self._trusts.get(issuer)
        if trust is None:
            raise NotTrustedError("the issuer is not trusted")
        if alg not in trust.algorithms:
            raise NotTrustedError("the algorithm is not allowed for this issuer")
        candidates = trust.candidates(kid)
        if not candidates:
            raise NoKeyError("no key of this id is known")
        fitting = tuple(key.public for key in candidates if alg in key.algorithms)
        if not fitting:
            raise NotTrustedError("the key is not for this algorithm")
        return fitting

    async def wait_for(self, issuer: str, kid: str | None) -> None:
        """Wait for the end of a fetch that may bring this key, for at most 5 seconds.

        Requests a fetch unless one is under way or an unknown id has just caused one. Call `find`
        again to see whether the key came.
        """
        trust = self._trusts.get(issuer)
        if trust is None or not trust.url:
            return
        with trio.move_on_after(WAIT_SECONDS):
            while not trust.candidates(kid):
                if not trust.busy:
                    now = trio.current_time()
                    if now < trust.next_ask:
                        return
                    trust.next_ask = now + COOL_DOWN
                    trust.busy = True
                    trust.asked.set()
                await trust.ended.wait()

    async def run(
        self,
        background: BackgroundTasks | None = None,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Keep the keys of all JWKS URLs fresh until cancelled; return if there are none.

        Reports as started before the first fetch: if a JWKS server is down, the gateway must still
        serve other issuers.
        """
        remote = [trust for trust in self._trusts.values() if trust.url]
        task_status.started()
        if not remote:
            return
        async with (
            fetch.client(self._tls) as client,
            trio.open_nursery() as nursery,
        ):
            for trust in remote:
                # Each on its own: a key set with errors must not affect other issuers.
                fresh = partial(self._keep_fresh, client, trust)
                nursery.start_soon((background or BackgroundTasks()).keep, TaskName.KEYS, fresh)

    async def _keep_fresh(self, client: fetch.Client, trust: _IssuerKeys) -> None:
        failures = 0
        while True:
            trust.asked, trust.busy = trio.Event(), True
            try:
                data, max_age = await fetch.get(client, trust.url)
                delay = REFRESH_SECONDS
                if max_age is not None:
                    delay = min(max(max_age, MIN_REFRESH), MAX_REFRESH)
                self._replace(trust, parse_key_set(data, trust.algorithms))
            except (FetchError, KeySetError) as error:
                delay = min(2.0**failures, MAX_BACKOFF)
                failures += 1
                state = "keeping the last ones" if trust.keys else "there are none yet"
                logger.log(
                    logging.WARNING if failures == 1 else logging.DEBUG,
                    "issuer %s: keys not fetched: %s; %s",
                    trust.issuer.title,
                    error,
                    state,
                )
            else:
                if failures:
                    logger.info("issuer %s: keys fetched again", trust.issuer.title)
                failures = 0
            finally:
                trust.busy = False
                ended, trust.ended = trust.ended, trio.Event()
                ended.set()
            with trio.move_on_after(delay):
                await trust.asked.wait()

    def _replace(self, trust: _IssuerKeys, keys: tuple[Key, ...]) -> None:
        if keys != trust.keys:
            trust.keys = keys
            self.generation += 1
            logger.info("issuer %s: %d keys", trust.issuer.title, len(keys))


def _load(trust: _IssuerKeys, base: Path) -> _Loaded:
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
        return (Key(None, able & trust.algorithms, public),), certificate  # type: ignore[arg-type]
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
