"""Who makes a request to the portal."""

from __future__ import annotations

from typing import NamedTuple

from trio_gw.guard.roles import Role

MOST_ROLE = "trio_gw.most_role"  # name of a value in the ASGI scope: the listener allows no more


class Caller(NamedTuple):
    """A user with a session; without one `user` and `session` are empty.

    `expires` is when the session ends if it is not used, in epoch seconds.
    """

    user: str = ""
    role: Role = Role.NOBODY
    session: str = ""
    expires: float = 0.0
