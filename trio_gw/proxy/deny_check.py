"""Checks connections against the deny conditions, at the handshake and while they are open.

`connection` checks twice in the authenticate phase: before the credential is verified, so that a
client denied by address costs little, and again when the caller is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.guard import refusals

if TYPE_CHECKING:
    from trio_gw.config.conditions import Condition
    from trio_gw.guard.blocklist import Blocklist
    from trio_gw.proxy.sessions import Session


def concerning(blocklist: Blocklist, session: Session) -> Condition | None:
    """Return a condition that applies to a session, as far as its route and caller are known."""
    route = session.route
    if route is None:
        return None
    return blocklist.find(route.api, session.info.address, session.caller)


def check(blocklist: Blocklist, session: Session) -> None:
    """Raise `Refusal` if a condition denies the session."""
    found = concerning(blocklist, session)
    if found is not None:
        session.denied = found.kind
        raise refusals.blocked(f"{found} is denied")
