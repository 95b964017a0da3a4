"""What a change of the entitlements does to revoked tokens, deny conditions and readers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import trio

from support.logged import logged
from trio_gw.config.api import ApiProject, Topic
from trio_gw.config.entitlements import (
    NOTHING,
    BlockRow,
    Change,
    KeyManagerRow,
    RevokedRow,
    Row,
    SubscriptionRow,
    difference,
    of_rows,
)
from trio_gw.control_plane.effects import GRACE, PURGE, Effects
from trio_gw.guard.blocklist import CONTROL_PLANE, Blocklist
from trio_gw.guard.caller import Application, Caller, signature_id
from trio_gw.guard.denials import Denials
from trio_gw.guard.keys import KeyRing
from trio_gw.guard.revocations import Revocations
from trio_gw.routing.compiler import EMPTY
from trio_gw.routing.live import Live

NOW = 1_900_000_000.0
API = ApiProject("chat", "id", "Chat", "1.0.0", "/chat", (Topic("/"),))
ALICE = Caller("alice", token_id="t", application=Application("App", owner="owner"))


class World:
    """The parts of one process, and the entitlements that were applied last."""

    def __init__(self) -> None:
        self.live = Live(EMPTY)
        self.revocations = Revocations()
        self.blocklist = Blocklist()
        self.now = NOW
        self.ring = KeyRing([], Path())
        self.effects = Effects(
            self.live, self.revocations, self.blocklist, self.ring, clock=lambda: self.now
        )
        self.current = NOTHING

    def apply(self, *put: Row, removed: tuple[Row, ...] = ()) -> None:
        change = Change(put, removed)
        after = self.current.apply(change)
        self.effects.apply(self.current, after, change)
        self.current = after

    def denied(self, address: str = "", caller: Caller | None = None) -> bool:
        return self.blocklist.find(API, address, caller) is not None


def revoked(token: str, seconds: float = 600) -> RevokedRow:
    return RevokedRow(token, int((NOW + seconds) * 1000))


def test_the_entitlements_become_current_with_their_change() -> None:
    world, row = World(), SubscriptionRow(1, "api", "app")
    changed, upcoming = world.live.entitled, world.live.upcoming
    world.apply(row)
    assert changed.is_set()
    assert world.live.entitlements is world.current
    assert upcoming.change == Change((row,))
    assert upcoming.following is world.live.upcoming
    assert not world.live.entitled.is_set()


def test_revoked_tokens_are_refused_until_they_expire() -> None:
    world = World()
    world.apply(revoked("t"), revoked("old", -GRACE - 1), RevokedRow("for ever"), RevokedRow(""))
    assert world.revocations.covers(ALICE)
    assert len(world.revocations) == 2
    world.revocations.purge(NOW + 600 + GRACE)
    assert not world.revocations.covers(ALICE)
    assert len(world.revocations) == 1
    world.apply(removed=(RevokedRow("for ever"),))
    assert len(world.revocations) == 0


def test_a_revocation_may_name_a_signature() -> None:
    world = World()
    signature = "A" * 342
    named = Caller("alice", token_id="hash", signature_id=signature_id(b"\0" * 256))
    world.apply(revoked(signature))
    assert world.revocations.covers(named)
    world.apply(removed=(revoked(signature),))
    assert not world.revocations.covers(named)


async def test_expired_revocations_are_forgotten(autojump_clock: Any) -> None:
    world = World()
    world.apply(revoked("t", 30))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.effects.run)
        world.now = NOW + 31 + GRACE
        await trio.sleep(PURGE + 1)
        assert len(world.revocations) == 0
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("row", "denied"),
    [
        (BlockRow("api", "/chat/1.0.0"), True),
        (BlockRow("api", "/other/1.0.0"), False),
        (BlockRow("application", "owner:App"), True),
        (BlockRow("user", "alice@carbon.super"), True),
        (BlockRow("user", "bob"), False),
        (BlockRow("subscription", "/chat/1.0.0:1.0.0:owner-App:PRODUCTION"), False),
        (BlockRow("custom", "/chat/1.0.0"), False),
        (BlockRow("address", "10.0.0.9", id=7), True),
        (BlockRow("address", "10.0.0.9", id=7, invert=True), False),
        (BlockRow("address", "10.0.0.1", id=7, invert=True), True),
        (BlockRow("address", "10.0.0.8-10.0.0.10", id=7, exclusive=True), True),
        (BlockRow("address", "10.0.0.9-10.0.0.20", id=7, exclusive=True), False),
        (BlockRow("address", "10.0.0.1-10.0.0.9", id=7, exclusive=True), False),
        (BlockRow("address", "10.0.0.9-10.0.0.20", id=7, invert=True, exclusive=True), True),
        (BlockRow("address", "10.0.0.8-10.0.0.20", id=7, invert=True, exclusive=True), False),
        (BlockRow("address", "10.0.0.9-10.0.0.9", id=7), True),
    ],
)
def test_blocks_become_deny_conditions(row: BlockRow, denied: bool) -> None:
    world = World()
    world.apply(row)
    assert world.denied("10.0.0.9", ALICE) is denied
    assert world.denied("::1", Caller("carol")) is (
        (row.kind == "api" and denied) or (row.kind == "address" and row.invert)
    )
    world.apply(removed=(BlockRow(row.kind, row.value.upper(), id=row.id),))
    assert not world.denied("10.0.0.9", ALICE)
    assert len(world.blocklist.of(CONTROL_PLANE)) == 0


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("no address", "is not an IP address"),
        ("10.0.0.2-10.0.0.1", "ends before it begins"),
        ("10.0.0.1-10.0.0.2", "no address between its ends"),
        ("10.0.0.1\n", ""),
        ("\x1b[31m", "printable"),
        ("", "printable"),
    ],
)
def test_a_block_that_cannot_be_read_is_logged_and_the_others_count(value: str, what: str) -> None:
    world = World()
    with logged("trio_gw.control_plane") as log:
        world.apply(
            BlockRow("address", value, id=1, exclusive="-" in value), BlockRow("user", "alice")
        )
    assert what in "".join(log.texts())
    assert "\x1b" not in "".join(log.texts())
    assert world.denied("192.0.2.9", ALICE)
    world.apply(removed=(BlockRow("address", "", id=1),))


def test_a_condition_stays_while_one_of_its_rows_does() -> None:
    world = World()
    world.apply(BlockRow("user", "alice"), BlockRow("user", "alice@carbon.super"))
    assert len(world.blocklist.of(CONTROL_PLANE)) == 1
    world.apply(removed=(BlockRow("user", "alice"),))
    assert world.denied("", ALICE)
    world.apply(removed=(BlockRow("user", "alice@carbon.super"),))
    assert not world.denied("", ALICE)


def test_a_change_that_denies_the_same_wakes_nobody() -> None:
    world = World()
    world.apply(BlockRow("user", "alice"))
    changed = world.blocklist.changed
    world.apply(BlockRow("user", "alice"))
    world.apply(SubscriptionRow(1))
    assert not changed.is_set()


def test_any_changes_end_in_what_the_rows_deny() -> None:
    dice = random.Random(5)
    rows: list[BlockRow] = [
        *(BlockRow("user", text) for text in ("a", "A", "a@carbon.super", "b", "c")),
        *(
            BlockRow("address", f"10.0.0.{number % 3}", id=number, invert=bool(number % 2))
            for number in range(1, 9)
        ),
    ]
    world = World()
    for _ in range(500):
        some = dice.sample(rows, 4)
        world.apply(*some[:2], removed=tuple(some[2:]))
    fresh = World()
    fresh.effects.apply(NOTHING, world.current, difference(NOTHING, world.current))
    assert set(world.blocklist.of(CONTROL_PLANE).conditions) == set(
        fresh.blocklist.of(CONTROL_PLANE).conditions
    )
    assert isinstance(world.blocklist.of(CONTROL_PLANE), Denials)
    again = of_rows(world.current.rows())
    assert not difference(world.current, again)


def test_key_managers_become_issuers_and_leave_again() -> None:
    world = World()
    row = KeyManagerRow("Resident", "https://am/token", jwks="https://am/jwks")
    with logged("trio_gw.control_plane") as log:
        world.apply(row, KeyManagerRow("Broken\n", "https://broken/token"))
        world.apply(SubscriptionRow(1))
    assert "".join(log.texts()).count("Broken") == 1
    issuer = world.ring.issuer("https://am/token")
    assert issuer is not None
    assert issuer.validate_subscription
    world.apply(KeyManagerRow("RESIDENT", "https://am/token", enabled=False))
    assert world.ring.issuer("https://am/token") is None
    world.apply(row)
    world.apply(removed=(KeyManagerRow("resident"),))
    assert world.ring.issuer("https://am/token") is None
