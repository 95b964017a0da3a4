"""Changes of the registry of applications: each makes the next registry, or raises. Pure.

Callers pass the time (epoch seconds) and what is random. A time that ends tokens is later than all
that their owner has had, and later tokens are dated from it: so a change takes effect between two
tokens of the same second, and a clock that is set back brings no token back. spec: portal §2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from msgspec import structs

from trio_gw.config import registry
from trio_gw.config.registry import (
    ApiSubscription,
    ConsumerKey,
    KeyType,
    RegisteredApplication,
    Registry,
    RevokedName,
    RevokedToken,
    SubscriptionState,
    ending,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_NAME, MAX_DESCRIPTION, MAX_ID = 100, 2000, 1024  # characters
REMEMBERED = 31 * 86_400  # seconds for which a revoked token is known


class ChangeError(Exception):
    """A change that is refused. `why` is the kind of the reason, the text is for the caller."""

    def __init__(self, why: Literal["missing", "conflict", "invalid"], what: str) -> None:
        self.why = why
        super().__init__(what)


class SubscribedApi(NamedTuple):
    """The version of an API that an application subscribes to."""

    id: str
    name: str
    version: str
    context: str = ""


def find(current: Registry, uuid: str) -> RegisteredApplication:
    """Return an application. Raises `ChangeError` if there is none."""
    found = current.applications.get(uuid)
    if found is None:
        raise ChangeError("missing", "there is no such application")
    return found


def add(
    current: Registry, uuid: str, owner: str, name: str, *, description: str, tier: str, now: int
) -> Registry:
    """Add an application."""
    if len(current.applications) >= registry.MAX_APPLICATIONS:
        what = f"there are {registry.MAX_APPLICATIONS} applications, which is the maximum"
        raise ChangeError("conflict", what)
    if sum(1 for _ in current.owned(owner)) >= registry.MAX_OWNED:
        what = f"one user has at most {registry.MAX_OWNED} applications"
        raise ChangeError("conflict", what)
    _check_texts(name, description)
    _check_free(current, owner, name)
    number = current.last_id + 1
    made = RegisteredApplication(
        uuid, number, name, owner, description=description, tier=tier, created=now
    )
    return _put(structs.replace(current, last_id=number), made)


def edit(
    current: Registry,
    uuid: str,
    *,
    name: str | None = None,
    description: str | None = None,
    tier: str | None = None,
) -> Registry:
    """Change name, description or tier of an application."""
    before = find(current, uuid)
    after = structs.replace(
        before,
        name=before.name if name is None else name,
        description=before.description if description is None else description,
        tier=before.tier if tier is None else tier,
    )
    _check_texts(after.name, after.description)
    if after.name != before.name:
        _check_free(current, before.owner, after.name, beside=uuid)
    return _put(current, after)


def remove(current: Registry, uuid: str) -> Registry:
    """Remove an application with its keys and subscriptions."""
    find(current, uuid)
    left = {key: one for key, one in current.applications.items() if key != uuid}
    ended = {key: at for key, at in current.ended.items() if not key.startswith(f"{uuid} ")}
    return structs.replace(current, serial=current.serial + 1, applications=left, ended=ended)


def set_key(
    current: Registry,
    uuid: str,
    key_type: KeyType,
    *,
    consumer_key: str,
    secret: str,
    validity: int | None,
    now: int,
    keep_tokens: bool = False,
    by: str = "",
) -> Registry:
    """Give an application a key with this secret; a key that it has gets the secret.

    `secret` is a digest. Tokens made with the secret before end, unless `keep_tokens`.
    """
    if validity is not None and not (registry.SHORTEST_TOKEN <= validity <= registry.LONGEST_TOKEN):
        most = f"{registry.SHORTEST_TOKEN} to {registry.LONGEST_TOKEN}"
        raise ChangeError("invalid", f"a token is valid for {most} seconds")
    application = find(current, uuid)
    before = application.keys.get(key_type)
    if before is None:
        made = ConsumerKey(consumer_key, secret, validity or ConsumerKey("", "").validity, now)
    else:
        made = structs.replace(before, secret=secret, validity=validity or before.validity)
    after = _put(current, structs.replace(application, keys={**application.keys, key_type: made}))
    if before is None or keep_tokens:
        return after
    return revoke_name(after, "consumer_key", before.consumer_key, by=by, now=now)


def remove_key(current: Registry, uuid: str, key_type: KeyType) -> Registry:
    """Take a key away from an application; its tokens end."""
    application = find(current, uuid)
    if key_type not in application.keys:
        raise ChangeError("missing", f"the application has no {key_type} key")
    left = {kind: key for kind, key in application.keys.items() if kind != key_type}
    return _put(current, structs.replace(application, keys=left))


def subscribe(
    current: Registry,
    uuid: str,
    api: SubscribedApi,
    *,
    tier: str | None,
    state: SubscriptionState | None,
    now: int,
) -> Registry:
    """Subscribe an application to an API, or change its subscription. None leaves a value."""
    application = find(current, uuid)
    before = application.subscription(api.id)
    if before is not None:
        after = structs.replace(
            before,
            name=api.name,
            version=api.version,
            context=api.context,
            tier=tier or before.tier,
            state=state or before.state,
        )
        others = (after if one is before else one for one in application.subscriptions)
        return _put(current, structs.replace(application, subscriptions=tuple(others)))
    if len(application.subscriptions) >= registry.MAX_SUBSCRIPTIONS:
        what = f"an application has at most {registry.MAX_SUBSCRIPTIONS} subscriptions"
        raise ChangeError("conflict", what)
    number = current.last_id + 1
    made = ApiSubscription(
        number,
        *api,
        tier=tier or "Unlimited",
        state=state or "UNBLOCKED",
        created=now,
        since=current.ended.get(ending(uuid, api.id), 0),
    )
    return _put(
        structs.replace(current, last_id=number),
        structs.replace(application, subscriptions=(*application.subscriptions, made)),
    )


def unsubscribe(current: Registry, uuid: str, api: str, *, now: int) -> Registry:
    """Take a subscription away; tokens of before do not open the API when it is made again."""
    application = find(current, uuid)
    if application.subscription(api) is None:
        raise ChangeError("missing", "the application is not subscribed to this API")
    left = tuple(one for one in application.subscriptions if one.api != api)
    key = ending(uuid, api)
    over = now - 2 * registry.LONGEST_TOKEN  # no token is as old
    ended = {name: at for name, at in current.ended.items() if at > over}
    ended[key] = _cut(current, application.owner, now)
    return _put(
        structs.replace(current, ended=ended), structs.replace(application, subscriptions=left)
    )


def revoke_token(
    current: Registry, jti: str, *, subject: str, by: str, now: int, most: int
) -> Registry:
    """Revoke one token; with `subject` only if it is a token of that subject.

    `most` is how many tokens and names this user may have revoked.
    """
    if not 1 <= len(jti) <= MAX_ID or not jti.isprintable():
        raise ChangeError("invalid", "`jti` is not the id of a token")
    kept = [one for one in current.tokens if one.until > now]
    kept = [one for one in kept if (one.jti, one.subject) != (jti, subject)]
    _check_room((*kept, *current.names), by, most)
    made = RevokedToken(jti, now + REMEMBERED, subject, by)
    return structs.replace(current, serial=current.serial + 1, tokens=(*kept, made))


def revoke_name(
    current: Registry,
    kind: Literal["subject", "consumer_key"],
    name: str,
    *,
    by: str,
    now: int,
    most: int = registry.MAX_REVOKED,
) -> Registry:
    """Revoke all tokens of a subject or a consumer key that were issued until now."""
    if not 1 <= len(name) <= MAX_ID or not name.isprintable():
        raise ChangeError("invalid", f"`{kind}` is empty or too long")
    kept = [
        one for one in current.names if (one.kind, one.name) != (kind, name) and _counts(one, now)
    ]
    _check_room((*kept, *current.tokens), by, most)
    owner = name if kind == "subject" else _owner(current, name)
    before = _cut(current, owner, now)
    made = RevokedName(kind, name, before, by)
    return structs.replace(current, serial=current.serial + 1, names=(*kept, made))


def _counts(revoked: RevokedName, now: int) -> bool:
    """Return whether tokens that it revokes may still be valid."""
    own = revoked.kind == "consumer_key"  # a key of this registry
    return revoked.before > now - (2 * registry.LONGEST_TOKEN if own else REMEMBERED)


def _owner(current: Registry, consumer_key: str) -> str:
    """Return the owner of a consumer key; empty if there is none."""
    for one in current.applications.values():
        if any(key.consumer_key == consumer_key for key in one.keys.values()):
            return one.owner
    return ""


def _cut(current: Registry, owner: str, now: int) -> int:
    """Return a time that no token of an owner has reached yet."""
    keys: set[str] = set()
    latest = now
    for one in current.owned(owner):
        keys |= {key.consumer_key for key in one.keys.values()}
        latest = max(latest, *(each.since for each in one.subscriptions), latest)
    for each in current.names:
        if each.name == owner if each.kind == "subject" else each.name in keys:
            latest = max(latest, each.before)
    return latest + 1


def _put(current: Registry, application: RegisteredApplication) -> Registry:
    return structs.replace(
        current,
        serial=current.serial + 1,
        applications={**current.applications, application.uuid: application},
    )


def _check_texts(name: str, description: str) -> None:
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable() or name != name.strip():
        raise ChangeError("invalid", f"a name has 1 to {MAX_NAME} printable characters")
    legible = description.replace("\n", "").replace("\r", "").replace("\t", "")
    if len(description) > MAX_DESCRIPTION or not (legible.isprintable() or not legible):
        raise ChangeError("invalid", f"a description has at most {MAX_DESCRIPTION} characters")


def _check_free(current: Registry, owner: str, name: str, *, beside: str = "") -> None:
    for one in current.owned(owner):
        if one.uuid != beside and one.name.casefold() == name.casefold():
            raise ChangeError("conflict", "there is an application with this name already")


def _check_room(revoked: Iterable[RevokedToken | RevokedName], by: str, most: int) -> None:
    """Refuse another entry if there are too many, of all or of this user."""
    kept = list(revoked)
    own = sum(one.by == by for one in kept)
    if len(kept) >= registry.MAX_REVOKED or own >= most:
        what = "too many tokens are revoked here; revoke the consumer key, or use the file"
        raise ChangeError("conflict", what)
