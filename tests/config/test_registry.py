"""The registry of applications as a value: changes, text, and the rows it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.examples import examples
from trio_gw.config import registry_changes as changes
from trio_gw.config import registry_rows, registry_text
from trio_gw.config.entitlements import NOTHING as NO_ROWS
from trio_gw.config.entitlements import difference, of_rows
from trio_gw.config.registry import (
    KEY_TYPES,
    MAX_APPLICATIONS,
    MAX_OWNED,
    MAX_SUBSCRIPTIONS,
    NOTHING,
    STATES,
    RegisteredApplication,
    Registry,
    digest,
)
from trio_gw.config.registry_changes import ChangeError, SubscribedApi
from trio_gw.guard.entitlement import Grant, find

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1_800_000_000
APIS = [SubscribedApi(f"api{n}", f"Api{n}", "1.0.0", f"/api{n}/1.0.0") for n in range(3)]
UUIDS = ["a", "b", "c"]
UUID = st.sampled_from(UUIDS)
KIND = st.sampled_from(KEY_TYPES)
API = st.sampled_from(APIS)

Step = tuple[str, tuple[Any, ...]]
STEP = st.one_of(
    st.tuples(st.just("add"), st.tuples(UUID, st.sampled_from(["ann", "bob"]))),
    st.tuples(st.just("remove"), st.tuples(UUID)),
    st.tuples(st.just("edit"), st.tuples(UUID, st.sampled_from(["Gold", "Silver"]))),
    st.tuples(st.just("key"), st.tuples(UUID, KIND, st.booleans())),
    st.tuples(st.just("no_key"), st.tuples(UUID, KIND)),
    st.tuples(st.just("subscribe"), st.tuples(UUID, API, st.sampled_from([None, *STATES]))),
    st.tuples(st.just("unsubscribe"), st.tuples(UUID, API)),
    st.tuples(st.just("token"), st.tuples(st.sampled_from(["t1", "t2"]))),
    st.tuples(st.just("name"), st.tuples(st.sampled_from(["ann", "bob"]))),
)


def step(current: Registry, what: str, given: tuple[Any, ...], now: int) -> Registry:
    """Make one change."""
    made: dict[str, Callable[[], Registry]] = {
        "add": lambda: changes.add(
            current, given[0], given[1], f"App {given[0]}", description="", tier="Gold", now=now
        ),
        "remove": lambda: changes.remove(current, given[0]),
        "edit": lambda: changes.edit(current, given[0], tier=given[1]),
        "key": lambda: changes.set_key(
            current,
            *given[:2],
            consumer_key=f"key {current.serial}",
            secret=digest(str(now)),
            validity=None,
            now=now,
            keep_tokens=given[2],
        ),
        "no_key": lambda: changes.remove_key(current, *given),
        "subscribe": lambda: changes.subscribe(
            current, given[0], given[1], tier=None, state=given[2], now=now
        ),
        "unsubscribe": lambda: changes.unsubscribe(current, given[0], given[1].id, now=now),
        "token": lambda: changes.revoke_token(
            current, given[0], subject="", by="ann", now=now, most=100
        ),
        "name": lambda: changes.revoke_name(current, "subject", given[0], by="ann", now=now),
    }
    return made[what]()


@settings(max_examples=examples(1000), deadline=None)
@given(st.lists(STEP, max_size=30))
def test_any_changes_leave_a_registry_that_is_read_back(steps: list[Step]) -> None:
    current, read = NOTHING, registry_text.NOTHING
    entitlements = NO_ROWS
    for now, (what, arguments) in enumerate(steps, NOW):
        before = current
        try:
            current = step(before, what, arguments, now)
        except ChangeError:
            continue
        assert current.serial > before.serial
        read = registry_text.decode(registry_text.encode(current), read)
        assert read.registry == current
        # The rows that follow changes are the rows of the whole.
        change = registry_rows.change(before, current, entitlements.apis)
        entitlements = entitlements.apply(change)
        for application in current.applications.values():
            for key in application.keys.values():
                for one in application.subscriptions:
                    found = find(entitlements, key.consumer_key, "Portal", one.api, issued_at=now)
                    allowed = one.state == "UNBLOCKED" and one.since <= now
                    assert not isinstance(found, Grant) or allowed or one.state.startswith("PROD")
    whole = registry_rows.change(NOTHING, current, ())
    kept = [row for row in entitlements.rows() if row.__class__.__name__ != "ApiRow"]
    expected = [row for row in whole.put if row.__class__.__name__ != "ApiRow"]
    assert not difference(of_rows(kept), of_rows(expected))
    numbers = [one.id for app in current.applications.values() for one in app.subscriptions]
    assert len(set(numbers)) == len(numbers)


def with_application(**more: Any) -> Registry:
    given = {"description": "", "tier": "Unlimited", "now": NOW, **more}
    return changes.add(NOTHING, "a", "ann", "App", **given)


def test_a_subscription_made_again_is_not_for_tokens_of_before() -> None:
    current = changes.subscribe(with_application(), "a", APIS[0], tier=None, state=None, now=NOW)
    assert current.applications["a"].subscriptions[0].since == 0
    gone = changes.unsubscribe(current, "a", "api0", now=NOW)
    again = changes.subscribe(gone, "a", APIS[0], tier=None, state=None, now=NOW)
    assert again.applications["a"].subscriptions[0].since == NOW + 1
    with pytest.raises(ChangeError, match="not subscribed"):
        changes.unsubscribe(gone, "a", "api0", now=NOW)


def test_a_new_secret_ends_the_tokens_of_the_one_before() -> None:
    def keyed(current: Registry, now: int, **more: Any) -> Registry:
        given = {"consumer_key": f"k{now}", "secret": digest(str(now)), "validity": None, **more}
        return changes.set_key(current, "a", "PRODUCTION", now=now, **given)

    first = keyed(with_application(), NOW)
    assert not first.names
    second = keyed(first, NOW + 5, validity=60)
    (name,) = second.names
    assert (name.kind, name.name, name.before) == ("consumer_key", f"k{NOW}", NOW + 6)
    key = second.applications["a"].keys["PRODUCTION"]
    assert (key.consumer_key, key.validity) == (f"k{NOW}", 60)
    assert keyed(first, NOW + 5, keep_tokens=True).names == ()
    # A clock that is set back brings no token back.
    assert keyed(second, NOW - 100).names[0].before > NOW + 6
    for wrong in (59, 86_401, 0, -1):
        with pytest.raises(ChangeError, match="60 to 86400"):
            keyed(first, NOW, validity=wrong)


@pytest.mark.parametrize("name", ["", " x", "x" * 101, "a\nb", "a\u202eb"])
def test_names_are_legible(name: str) -> None:
    with pytest.raises(ChangeError) as caught:
        changes.add(NOTHING, "a", "ann", name, description="", tier="", now=NOW)
    assert caught.value.why == "invalid"


def test_names_are_unique_for_each_owner() -> None:
    current = with_application()
    with pytest.raises(ChangeError, match="this name already"):
        changes.add(current, "b", "ann", "APP", description="", tier="", now=NOW)
    current = changes.add(current, "b", "bob", "APP", description="", tier="", now=NOW)
    current = changes.add(current, "c", "ann", "Other", description="", tier="", now=NOW)
    with pytest.raises(ChangeError, match="this name already"):
        changes.edit(current, "c", name="app")
    assert changes.edit(current, "a", name="app").applications["a"].name == "app"


def test_everything_is_bounded() -> None:
    full = Registry(
        applications={
            str(n): RegisteredApplication(str(n), n, str(n), "x") for n in range(MAX_APPLICATIONS)
        }
    )
    with pytest.raises(ChangeError, match="10000 applications"):
        changes.add(full, "new", "ann", "App", description="", tier="", now=NOW)
    own = {str(n): RegisteredApplication(str(n), n, str(n), "ann") for n in range(MAX_OWNED)}
    with pytest.raises(ChangeError, match="at most 500"):
        changes.add(
            Registry(applications=own), "new", "ann", "App", description="", tier="", now=NOW
        )
    current = with_application()
    for n in range(MAX_SUBSCRIPTIONS):
        api = SubscribedApi(str(n), str(n), "1")
        current = changes.subscribe(current, "a", api, tier=None, state=None, now=NOW)
    with pytest.raises(ChangeError, match="at most 50"):
        changes.subscribe(current, "a", APIS[0], tier=None, state=None, now=NOW)
    for n in range(3):
        current = changes.revoke_token(current, str(n), subject="", by="ann", now=NOW, most=3)
    with pytest.raises(ChangeError, match="too many tokens"):
        changes.revoke_token(current, "more", subject="", by="ann", now=NOW, most=3)
    changes.revoke_token(current, "more", subject="", by="bob", now=NOW, most=3)
    # Once they have expired they are forgotten.
    later = changes.revoke_token(
        current, "more", subject="", by="ann", now=NOW + changes.REMEMBERED, most=3
    )
    assert [one.jti for one in later.tokens] == ["more"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"", "truncated"),
        (b"[]", "object"),
        (b'{"more": 1}', "unknown field"),
        (b'{"applications": [{"uuid": "a"}]}', "application 1"),
        (
            b'{"last_id": 9, "applications": [{"uuid": "a", "id": 1, "name": "", "owner": ""},'
            b'{"uuid": "a", "id": 2, "name": "", "owner": ""}]}',
            "that of another",
        ),
        (
            b'{"last_id": 0, "applications": [{"uuid": "a", "id": 1, "name": "", "owner": ""}]}',
            "larger than `last_id`",
        ),
    ],
)
def test_a_damaged_text_is_refused(text: bytes, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        registry_text.decode(text)


def test_what_has_not_changed_is_the_same_object() -> None:
    current = changes.add(with_application(), "b", "bob", "B", description="", tier="", now=NOW)
    first = registry_text.decode(registry_text.encode(current))
    current = changes.edit(first.registry, "b", tier="Gold")
    second = registry_text.decode(registry_text.encode(current), first)
    before, after = first.registry.applications, second.registry.applications
    assert after["a"] is before["a"]
    assert after["b"].tier == "Gold"


def test_no_secret_is_shown() -> None:
    current = changes.set_key(
        with_application(),
        "a",
        "SANDBOX",
        consumer_key="key",
        secret=digest("secret"),
        validity=None,
        now=NOW,
    )
    assert digest("secret") not in repr(current)
    assert b"secret" in msgspec.json.encode(current)  # the digest, under this name
