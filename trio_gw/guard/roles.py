"""The roles of users of the admin API and of the portal, the least first."""

from __future__ import annotations

from enum import IntEnum


class Role(IntEnum):
    """What a user may do: each role may do what the ones before it may."""

    NOBODY = 0  # nobody is logged in
    CONSUMER = 1
    PUBLISHER = 2
    ADMIN = 3


ROLES = tuple(role.name.lower() for role in Role if role)  # as they are named in the settings


def role_of(name: str) -> Role:
    """Return the role that the settings name; an unknown name is no role."""
    return Role[name.upper()] if name in ROLES else Role.NOBODY
