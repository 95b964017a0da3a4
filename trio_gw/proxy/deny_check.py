"""Deny conditions as connections meet them: at the handshake, and while they are open.

`connection` asks twice in the authenticate phase: before a credential is looked at, so that who is
denied by address costs next to nothing, and when it is known who calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.guard import refusals

if TYPE_CHECKING:
    from trio_gw.config.conditions import Condition
    from trio_gw.guard.blocklist import Blocklist
    from trio_gw.proxy.sessions import Session


def concerning(blocklist: Blocklist, session: Session) -> Condition | None:
    """Find a condition that concerns a session, as far as it is known where to and whose it is."""
    route = session.route
    if route is None:
        return None
    return blocklist.find(route.api, session.info.address, session.caller)


def check(blocklist: Blocklist, session: Session) -> None:
    """Raise the `Refusal` of whom a condition denies."""
    found = concerning(blocklist, session)
    if found is not None:
        session.denied = found.kind
        raise refusals.blocked(f"{found} is denied")
