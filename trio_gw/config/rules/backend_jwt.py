"""Rules of `[backend_jwt]`: the token that tells backends who calls."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trio_gw.config.rules.faults import Fault
from trio_gw.config.rules.issuers import header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.settings import Settings

_CHOICES = {"encoding": ("base64", "base64url"), "key_id": ("kid", "x5t")}
_OURS = ("x-forwarded-", "sec-websocket-", "x-request-id", "forwarded", "x-real-ip")


def check(settings: Settings) -> Iterator[Fault]:
    """Yield the broken rules of the backend JWT."""
    table = settings.backend_jwt
    path = ("backend_jwt",)
    yield from header((*path, "header"), table.header)
    if table.header.lower().startswith(_OURS):
        what = f"backend_jwt.header: {table.header!r} has another meaning already"
        yield Fault((*path, "header"), what, 'use another, like "X-JWT-Assertion"')
    if not table.issuer:
        yield Fault((*path, "issuer"), "backend_jwt.issuer is empty", "give the text of its iss")
    if table.validity < 1:
        yield Fault((*path, "validity"), "backend_jwt.validity must be 1 second or more")
    for name, choices in _CHOICES.items():
        if getattr(table, name) not in choices:
            one, other = choices
            what = f'backend_jwt.{name} is neither "{one}" nor "{other}"'
            yield Fault((*path, name), what, f'write "{one}" or "{other}"')
    if bool(table.key) != bool(table.certificate):
        given, missing = ("key", "certificate") if table.key else ("certificate", "key")
        yield Fault(
            (*path, given),
            f"backend_jwt.{given} is given without backend_jwt.{missing}",
            "give both, or neither for those of [tls]",
        )
    if table.jwks_limit < 1:
        yield Fault((*path, "jwks_limit"), "backend_jwt.jwks_limit must be 1 or more")
    if not (math.isfinite(table.jwks_window) and table.jwks_window > 0):
        what = "backend_jwt.jwks_window must be more than 0 seconds, and finite"
        yield Fault((*path, "jwks_window"), what)
