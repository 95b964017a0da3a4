"""The keys that verify token signatures, by issuer.

Each process has one key ring (`check` makes one for its problems only). `tokens` calls `find`,
which never waits. A handshake with an unknown key waits in `wait_for` for one fetch, together with
all others of its issuer. `run` fetches JWKS URLs in the background: at start, before they expire,
and when an unknown `kid` occurs. If a server is down, the last good set stays. Files are reloaded
when they change. A control plane may add issuers while the gateway runs (`replace`).
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from trio_gw.errors import Problem, UnusableError
from trio_gw.guard import fetch
from trio_gw.guard.certificates import check_current, expiry
from trio_gw.guard.issuer_keys import GivenIssuer, IssuerKeys, load
from trio_gw.supervision.background import BackgroundTasks, TaskName
from trio_gw.watch.files import Reloaded

if TYPE_CHECKING:
    import datetime
    import ssl
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from trio_gw.config.settings import Issuer
    from trio_gw.guard.certificates import PublicKey
    from trio_gw.guard.issuer_keys import Loaded

WAIT_SECONDS = 5.0  # maximum wait of a handshake for a key
COOL_DOWN = 30.0  # between two fetches caused by unknown key ids


class NotTrustedError(Exception):
    """The issuer is unknown, or does not use this algorithm or this key."""


class NoKeyError(Exception):
    """The issuer is trusted, but no key with this id is known (yet)."""


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
        self._base = base
        self._configured = {issuer.issuer: IssuerKeys(issuer, tls=tls) for issuer in issuers}
        self._given: dict[str, dict[str, IssuerKeys]] = {}  # by origin and issuer
        self._trusts = self._configured
        self._replaced = trio.Event()
        problems: list[Problem] = []
        for trust in self._configured.values():
            try:
                if trust.file:
                    trust.keys, trust.certificate = load(trust, base)
            except UnusableError as error:
                problems += error.problems
        if problems:
            raise UnusableError(problems)

    def warnings(self, now: datetime.datetime) -> list[Problem]:
        """Return a warning for each issuer's certificate that is not valid at `now` (aware)."""
        found = [
            expiry(self._base / trust.issuer.certificate, trust.certificate, now)
            for trust in self._configured.values()
            if trust.certificate is not None
        ]
        return [problem for problem in found if problem is not None]

    def files(self) -> list[Reloaded[Any]]:
        """Return the issuers' files, which are reloaded when they change."""
        return [self._item(trust) for trust in self._configured.values() if trust.file]

    def _item(self, trust: IssuerKeys) -> Reloaded[Loaded]:
        path = self._base / trust.file

        def read() -> Loaded:
            loaded = load(trust, self._base)
            if loaded[1] is not None:
                check_current(path, loaded[1])
            return loaded

        async def use(loaded: Loaded) -> bool:
            changed = loaded[0] != trust.keys
            keys, trust.certificate = loaded
            trust.replace(keys, self._renew)
            await trio.lowlevel.checkpoint()
            return changed

        return Reloaded(f"keys of issuer {trust.issuer.title}", (path,), read, use)

    def replace(
        self, origin: str, issuers: Iterable[GivenIssuer], tls: ssl.SSLContext | None = None
    ) -> bool:
        """Replace the issuers of an origin; return whether that changed anything.

        Each takes the place of the configured issuer with the same `iss` text until it is removed.
        An unchanged one keeps its keys. `tls` replaces the system's trust for their JWKS.
        """
        before = self._given.get(origin, {})
        after: dict[str, IssuerKeys] = {}
        for given in issuers:
            text = given.issuer.issuer
            kept = before.get(text)
            if kept is not None and kept.given == given and kept.tls is tls:
                after[text] = kept
            else:
                after[text] = IssuerKeys(given.issuer, given, tls)
        if before == after:
            return False
        self._given[origin] = after
        self._trusts = self._configured.copy()
        for one in self._given.values():
            self._trusts |= one
        self.generation += 1
        replaced, self._replaced = self._replaced, trio.Event()
        replaced.set()
        return True

    def renamed(self, text: str) -> tuple[tuple[str, str], ...]:
        """Return the claims of an issuer that have another name for backends."""
        trust = self._trusts.get(text)
        return trust.renamed if trust is not None else ()

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
            while not trust.candidates(kid) and self._trusts.get(issuer) is trust:
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
        """Keep the keys of all JWKS URLs fresh, also of issuers that come later; never returns.

        Reports as started before the first fetch: if a JWKS server is down, the gateway must still
        serve other issuers.
        """
        task_status.started()
        clients: dict[ssl.SSLContext | None, fetch.Client] = {}
        tasks: dict[IssuerKeys, trio.CancelScope] = {}
        async with contextlib.AsyncExitStack() as open_clients, trio.open_nursery() as nursery:
            while True:
                replaced = self._replaced
                remote = {trust for trust in self._trusts.values() if trust.url}
                for gone in tasks.keys() - remote:
                    tasks.pop(gone).cancel()
                for trust in remote - tasks.keys():
                    if trust.tls not in clients:
                        client = fetch.client(trust.tls)
                        clients[trust.tls] = await open_clients.enter_async_context(client)
                    tasks[trust] = trio.CancelScope()
                    # Each on its own: a key set with errors must not affect other issuers.
                    fresh = partial(trust.keep_fresh, clients[trust.tls], self._renew)
                    keep = partial((background or BackgroundTasks()).keep, TaskName.KEYS, fresh)
                    nursery.start_soon(_within, tasks[trust], keep)
                await replaced.wait()

    def _renew(self) -> None:
        self.generation += 1


async def _within(scope: trio.CancelScope, task: Callable[[], Awaitable[None]]) -> None:
    with scope:
        await task()
