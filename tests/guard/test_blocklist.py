"""Deny conditions from several sources: valid files, and faults that must not lift one."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from support.logged import logged
from trio_gw.config.api import ApiProject, Cluster, Endpoint
from trio_gw.config.conditions import condition
from trio_gw.guard import blocklist as room
from trio_gw.guard.blocklist import FILE, SETTINGS, Blocklist, from_file, parse
from trio_gw.guard.caller import Caller
from trio_gw.guard.denials import Denials
from trio_gw.watch.files import keep_loaded

if TYPE_CHECKING:
    from pathlib import Path

API = ApiProject(
    folder="apis/1", id="1", name="A", version="1", context="/a", topics=(),
    production=Cluster((Endpoint("ws", "h", 80),)),
)  # fmt: skip
TEXT = b"""\
# an attack from last night
address=203.0.113.0/24      # a flood of handshakes
address = ! 10.0.0.0/8
  user=mallory\r
user=a#b=c
application=alice:Chat = client
api=/chat/1.0.0
subscription=/chat/1.0.0:1.0.0:alice-App:PRODUCTION

"""


def test_what_the_file_may_say() -> None:
    conditions, problems = parse(TEXT, "denied.txt")
    assert problems == ()
    assert conditions == (
        condition("address", "203.0.113.0/24", reason="a flood of handshakes"),
        condition("address", "10.0.0.0/8", invert=True),
        condition("user", "mallory"),
        condition("user", "a#b=c"),
        condition("application", "alice:Chat = client"),
        condition("api", "/chat/1.0.0"),
        condition("subscription", "/chat/1.0.0:1.0.0:alice-App:PRODUCTION"),
    )


@pytest.mark.parametrize(
    "line",
    [b"mallory", b"users=x", b"user", b"user=", b"=x", b"user=\xff", b"user=a\x00b",
     b"address=10.0.0.0/33", b"api=chat", b"user=!x\x07", b"x" * 5000],
)  # fmt: skip
def test_a_faulty_line_is_named_and_the_others_count(line: bytes) -> None:
    conditions, (problem,) = parse(b"user=one\n" + line + b"\nuser=two\n", "denied.txt")
    assert [made.key for made in conditions] == ["one@carbon.super", "two@carbon.super"]
    assert (problem.file, problem.line) == ("denied.txt", 2)
    assert problem.hint
    assert len(problem.what) < 300


def test_a_mark_of_utf_8_is_no_part_of_the_first_line() -> None:
    """Some editors write it at the start of a file. The first line must still take effect."""
    conditions, problems = parse(b"\xef\xbb\xbfuser=one\r\nuser=two\r\n", "denied.txt")
    assert problems == ()
    assert [made.key for made in conditions] == ["one@carbon.super", "two@carbon.super"]


def test_what_a_faulty_file_says_again_does_not_pile_up(tmp_path: Path) -> None:
    path, blocklist = tmp_path / "denied.txt", Blocklist()
    load = from_file(path, blocklist).load
    path.write_text("user=gone@x\n")
    blocklist.publish(FILE, load())
    for minute in range(5):
        path.write_text(f"user=one@x # since {minute}\naddress=!::1 # {minute}\nnonsense\n")
        blocklist.publish(FILE, load())
    assert blocklist.of(FILE).conditions == (
        condition("user", "gone@x"),
        condition("user", "one@x", reason="since 4"),
        condition("address", "::1", invert=True, reason="4"),
    )


def test_faults_are_bounded() -> None:
    assert len(parse(b"x\n" * 1000, "f")[1]) == room.MAX_FAULTS


PIECES = st.sampled_from(
    [b"address", b"user", b"api", b"=", b"!", b"#", b" ", b"\n", b"10.0.0.0", b"/8", b"-", b"::",
     b"%eth0", b":", b"\xff", b"\x00", b"/a/1", "ü".encode(), b"999999999999"]
)  # fmt: skip


@given(st.binary(max_size=200) | st.lists(PIECES, max_size=60).map(b"".join))
def test_any_octets_are_conditions_or_problems(data: bytes) -> None:
    conditions, problems = parse(data, "denied.txt")
    denials = Denials(conditions)
    assert len(denials) <= len(conditions)
    for problem in problems:
        assert problem.what
        assert problem.hint
        assert str(problem).isprintable()
    for made in conditions:
        assert str(made)
        if made.range is not None and not made.invert:
            version, first, last = made.range
            address = (IPv4Address, IPv6Address)[version == 6]
            assert denials.place("", str(address(first))) is not None
            assert denials.place("", str(address(last))) is not None


def test_a_file_that_leaves_nobody_is_taken_with_a_warning() -> None:
    conditions, (problem,) = parse(b"address=!10.0.0.0/8\naddress=!::1\n", "denied.txt")
    assert len(conditions) == 2
    assert problem.severity == "warning"


def test_sources_add_up_and_are_replaced_whole() -> None:
    blocklist = Blocklist()
    assert blocklist.current == ()
    first = blocklist.changed
    assert blocklist.publish(SETTINGS, Denials([condition("user", "a")]))
    assert first.is_set()
    assert blocklist.publish(FILE, Denials([condition("user", "b")]))
    second = blocklist.changed
    assert not blocklist.publish(FILE, Denials([condition("user", "b")]))
    assert not second.is_set()
    for name, denied in (("a", True), ("b", True), ("c", False)):
        assert (blocklist.find(API, "", Caller(name)) is not None) is denied
    assert blocklist.find(API, "", None) is None, "nobody knows yet who calls"
    assert blocklist.publish(SETTINGS, Denials())
    assert blocklist.find(API, "", Caller("a")) is None
    assert blocklist.publish(FILE, Denials())
    assert blocklist.current == ()


async def test_the_file_is_followed_and_lifts_nothing_by_accident(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    path, blocklist = tmp_path / "denied.txt", Blocklist()

    async def until(*users: str) -> None:
        with trio.fail_after(5):
            while {made.key for made in blocklist.of(FILE).conditions} != set(users):
                await blocklist.changed.wait()

    with logged("trio_gw") as log:
        await nursery.start(keep_loaded, (from_file(path, blocklist),))
        assert blocklist.current == ()
        path.write_text("user=one@x\nuser=two@x\n")
        await until("one@x", "two@x")
        path.unlink()
        assert "its conditions stay in force" in await log.wait("is missing")
        path.write_bytes(b"user=three@x\nnonsense\n")
        await until("one@x", "two@x", "three@x")
        assert "denied.txt:2" in await log.wait("is no condition")
        path.write_text("user=three@x\n")
        await until("three@x")
        path.write_text("")
        await until()
        assert await log.wait("0 deny conditions are in force")
    nursery.cancel_scope.cancel()


async def test_a_file_that_cannot_be_used_changes_nothing(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, blocklist = tmp_path / "denied.txt", Blocklist()
    path.write_text("user=one\n")
    monkeypatch.setattr(room, "MAX_BYTES", 100)
    with logged("trio_gw") as log:
        await nursery.start(keep_loaded, (from_file(path, blocklist),))
        assert len(blocklist.of(FILE)) == 1
        path.write_text("#" * 101)
        await log.wait("is larger than")
        path.unlink()
        path.mkdir()
        await log.wait("cannot be read")
        assert len(blocklist.of(FILE)) == 1
    nursery.cancel_scope.cancel()
