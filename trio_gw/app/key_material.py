"""Loads the gateway's key material at start, and reloads it together when files change.

Called by `build` and `worker`. The key material is: the certificate of the TLS listener, the keys
of the issuers, the test keys (signed with the first, checked with the second), the trust anchors
for backends, and the client certificates that the route table trusts.
"""

from __future__ import annotations

import datetime
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from trio_gw.guard.anchors import load_anchors
from trio_gw.guard.assertion import Assertions
from trio_gw.guard.certificates import ensure_certificate, load_pair
from trio_gw.guard.keys import KeyRing
from trio_gw.guard.operators import Operators
from trio_gw.guard.testkey import TestKeys
from trio_gw.guard.tls import ServerTls
from trio_gw.watch.files import Reloaded, combined

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from trio_gw.config.settings import Settings
    from trio_gw.guard.certificates import KeyPair
    from trio_gw.guard.token_endpoint import TokenEndpoint
    from trio_gw.proxy.dial import Dialer
    from trio_gw.routing.live import Live

log = logging.getLogger("trio_gw")

BACKEND_CA = "tls.backend_ca"


class KeyMaterial(NamedTuple):
    """The gateway's own key material, and the keys of those who may sign tokens."""

    tls: ServerTls
    ring: KeyRing
    testkeys: TestKeys | None
    operators: Operators
    assertions: Assertions | None
    backend_anchors: tuple[str, ...]


def load_keys(settings: Settings, base: Path) -> KeyMaterial:
    """Read the key material that the settings name. At the first start, create it.

    Raises `UnusableError`. Logs what was created and what expires soon.
    """
    cert, key = base / settings.tls.cert, base / settings.tls.key
    now = datetime.datetime.now(datetime.UTC)
    if ensure_certificate(cert, key, now):
        log.info(
            "made a self-signed certificate for localhost: %s (key: %s); clients have to trust"
            " it, or set your own under [tls] in gateway.toml",
            cert,
            key,
        )
    tls = ServerTls(settings.tls, base, settings.admin)
    ring = KeyRing(settings.trusted_issuers, base)
    for problem in dict.fromkeys((*ring.warnings(now), *tls.warnings(now))):
        log.warning("%s", problem)
    testkeys = TestKeys(settings.testkey, tls.pair) if settings.testkey.enabled else None
    anchors: tuple[str, ...] = ()
    if settings.tls.backend_ca:
        anchors = load_anchors(base / settings.tls.backend_ca, BACKEND_CA)
    operators = Operators(settings.admin, tls.pair)
    return KeyMaterial(
        tls, ring, testkeys, operators, _assertions(settings, base, tls.pair), anchors
    )


def _assertions(settings: Settings, base: Path, own: KeyPair) -> Assertions | None:
    table = settings.backend_jwt
    if not table.enabled:
        return None
    return Assertions(
        table, load_pair(base / table.certificate, base / table.key) if table.key else own
    )


def reloaded_files(
    keys: KeyMaterial,
    dialer: Dialer,
    settings: Settings,
    base: Path,
    signers: Iterable[TokenEndpoint] = (),
) -> list[Reloaded[Any]]:
    """List the files that are reloaded when they change. `signers` sign with the own key, too.

    The default certificate, the tokens signed with its key, and an issuer that is checked with it
    change together, so that a certificate whose key is not copied yet does not separate them.
    """
    default, *others = keys.tls.files()

    async def resign(_: None) -> bool:
        if keys.testkeys is not None:
            keys.testkeys.use(keys.tls.pair)
        keys.operators.use(keys.tls.pair)
        for signer in signers:
            signer.use(keys.tls.pair)
        await trio.lowlevel.checkpoint()
        return False

    own = [default, Reloaded("test keys", (), lambda: None, resign)]
    for item in keys.ring.files():
        (own if item.paths[0] in default.paths else others).append(item)
    if settings.tls.backend_ca:
        path = base / settings.tls.backend_ca

        def load() -> tuple[str, ...]:
            return load_anchors(path, BACKEND_CA)

        async def use(anchors: tuple[str, ...]) -> bool:
            changed, dialer.anchors = anchors != dialer.anchors, anchors
            await trio.lowlevel.checkpoint()
            return changed

        others.append(Reloaded(f"backend trust {path}", (path,), load, use))
    return [combined(default.what, *own), *others]


async def trust_clients(
    tls: ServerTls,
    live: Live,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Make the TLS listener trust the client certificates of the current table, until cancelled.

    Reports that it has started when those of the first table are trusted.
    """
    reported: set[str] = set()
    first = True
    while True:
        generation = live.generation
        apis = [api.project for api in live.table.apis.values()]
        asking = [api for api in apis if api.mutual_tls != "ignored"]
        await tls.pin(one.pem for api in asking for one in api.client_certificates)
        hopeless = {
            api.folder
            for api in asking
            if api.mutual_tls == "required" and not (api.client_certificates or tls.has_client_ca)
        }
        for folder in sorted(hopeless - reported):
            log.warning(
                "%s: requires client certificates but names none, so every client is refused;"
                " put them into `Client-certificates/`, or set tls.client_ca",
                folder,
            )
        reported = hopeless
        if first:
            first = False
            task_status.started()
        if live.generation == generation:
            await live.wait_changed()
