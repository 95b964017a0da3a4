"""The registry of applications: their keys and subscriptions, and what was revoked. Pure values.

Everything is frozen: `registry_changes` makes the next registry from the current one. No secret is
here: a secret is kept as its SHA-256, which is enough for 32 random bytes. spec: portal §2.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

KeyType = Literal["PRODUCTION", "SANDBOX"]
KEY_TYPES: tuple[KeyType, ...] = ("PRODUCTION", "SANDBOX")
SubscriptionState = Literal["UNBLOCKED", "BLOCKED", "PROD_ONLY_BLOCKED"]
STATES: tuple[SubscriptionState, ...] = ("UNBLOCKED", "BLOCKED", "PROD_ONLY_BLOCKED")

MAX_APPLICATIONS = 10_000
MAX_OWNED = 500  # applications of one user, so that nobody uses up those of all
MAX_SUBSCRIPTIONS = 50  # of one application: its tokens list them
MAX_REVOKED = 10_000  # tokens and names
MAX_REVOKED_OF_USER = 1000  # by one user who is no administrator
SHORTEST_TOKEN, LONGEST_TOKEN = 60, 86_400  # seconds
ISSUER = "Portal"  # the name of the issuer of the tokens of applications


class ConsumerKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """The key of an application for one kind of backends. Its repr hides the digest.

    `secret` is the hexadecimal SHA-256 of the consumer secret, `validity` the life of a token in
    seconds. Times are in epoch seconds.
    """

    consumer_key: str
    secret: str
    validity: int = 3600
    created: int = 0

    def __repr__(self) -> str:
        return f"ConsumerKey({self.consumer_key!r})"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("consumer_key", self.consumer_key)]


class ApiSubscription(msgspec.Struct, frozen=True, omit_defaults=True):
    """The subscription of an application to a version of an API; `api` is the id of its project.

    Tokens issued before `since` (epoch seconds) do not have it: the application had unsubscribed.
    """

    id: int
    api: str
    name: str
    version: str
    context: str = ""
    tier: str = "Unlimited"
    state: SubscriptionState = "UNBLOCKED"
    created: int = 0
    since: int = 0

    @property
    def title(self) -> str:
        """`<name>:<version>`, for people."""
        return f"{self.name}:{self.version}"


class RegisteredApplication(msgspec.Struct, frozen=True, omit_defaults=True):
    """An application; `owner` is the name of a user. `id` is a part of the keys of limits."""

    uuid: str
    id: int
    name: str
    owner: str
    description: str = ""
    tier: str = "Unlimited"
    created: int = 0
    keys: dict[KeyType, ConsumerKey] = {}
    subscriptions: tuple[ApiSubscription, ...] = ()

    def subscription(self, api: str) -> ApiSubscription | None:
        """Return the subscription to an API, None without one."""
        return next((one for one in self.subscriptions if one.api == api), None)


class RevokedToken(msgspec.Struct, frozen=True, omit_defaults=True):
    """A token that is revoked until it has expired anyway, by its claim `jti`.

    With `subject` only a token of that subject is meant: who revokes may not know whose it is.
    """

    jti: str
    until: int
    subject: str = ""
    by: str = ""


class RevokedName(msgspec.Struct, frozen=True, omit_defaults=True):
    """All tokens of a subject or consumer key that were issued before a time (epoch seconds)."""

    kind: Literal["subject", "consumer_key"]
    name: str
    before: int
    by: str = ""


class Registry(msgspec.Struct, frozen=True):
    """All applications by UUID. `serial` counts the changes; `last_id` is the last number given.

    `ended` has, by application and API, the time from which tokens must be for a subscription that
    is made again.
    """

    serial: int = 0
    last_id: int = 0
    applications: dict[str, RegisteredApplication] = {}
    tokens: tuple[RevokedToken, ...] = ()
    names: tuple[RevokedName, ...] = ()
    ended: dict[str, int] = {}

    def owned(self, user: str) -> Iterator[RegisteredApplication]:
        """Yield the applications of a user."""
        return (one for one in self.applications.values() if one.owner == user)


NOTHING = Registry()


def digest(secret: str) -> str:
    """Return what is stored of a consumer secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def ending(application: str, api: str) -> str:
    """Return the key of `Registry.ended`."""
    return f"{application} {api}"
