"""Who makes a request to the portal."""

from __future__ import annotations

from typing import NamedTuple

from trio_gw.guard.roles import Role


class Caller(NamedTuple):
    """A user with a session; without one `user` and `session` are empty.

    `expires` is when the session ends if it is not used, in epoch seconds.
    """

    user: str = ""
    role: Role = Role.NOBODY
    session: str = ""
    expires: float = 0.0
