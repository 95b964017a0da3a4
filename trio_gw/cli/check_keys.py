"""Checks the keys and certificates of the settings, for `trio-gw check`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from trio_gw.errors import Problem, UnusableError
from trio_gw.guard.anchors import load_anchors
from trio_gw.guard.certificates import load_pair
from trio_gw.guard.keys import KeyRing
from trio_gw.guard.protocol import protocols
from trio_gw.guard.tls import read_shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trio_gw.config.settings import Settings


def check_keys(settings: Settings, base: Path) -> list[Problem]:
    """Check keys and certificates. The gateway creates its own at the first start, if needed."""
    made = (base / settings.tls.cert).exists() or (base / settings.tls.key).exists()
    own = base / settings.tls.cert
    issuers = [
        issuer
        for issuer in settings.issuers
        if made or not issuer.certificate or base / issuer.certificate != own
    ]
    tls, supported = settings.tls, protocols(settings.tls, settings.admin)
    looks: list[Callable[[], object]] = [partial(KeyRing, issuers, base)]
    if made:
        looks.append(partial(read_shown, own, base / tls.key, (), supported))
    for one in tls.certificates:
        cert, key = base / one.cert, base / one.key
        looks.append(partial(read_shown, cert, key, one.hosts, supported, further=True))
    looks += [
        partial(load_anchors, base / path, f"tls.{name}")
        for name in ("client_ca", "backend_ca")
        if (path := getattr(tls, name))
    ]
    table = settings.backend_jwt
    if table.enabled and table.key:
        looks.append(partial(load_pair, base / table.certificate, base / table.key))
    problems: list[Problem] = []
    for look in looks:
        try:
            look()
        except UnusableError as error:
            problems += error.problems
    return problems
