"""Revoked tokens: valid files, faults that must not remove a revocation, and who is notified."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING

import pytest
import trio

from support.logged import logged
from trio_gw.guard import revocations as room
from trio_gw.guard.caller import Caller, signature_id
from trio_gw.guard.revocations import FILE, Revocations, Revoked, from_file, names_of, parse
from trio_gw.watch.files import keep_loaded

if TYPE_CHECKING:
    from pathlib import Path

TEXT = b"""\
# leaked on a shared screen
3f6c61c2-5b8e-4a44-9a2f-6f0f4e5d8c11
 urn:uuid:1#2   # a number sign inside counts
token = subject=odd
subject=alice
consumer_key = Xw9=\r

"""


def caller(token_id: str = "", subject: str = "", consumer_key: str = "") -> Caller:
    return Caller(subject, token_id=token_id, consumer_key=consumer_key)


def test_what_the_file_may_say() -> None:
    revoked, problems = parse(TEXT, "revoked.txt")
    assert problems == ()
    assert revoked == Revoked(
        tokens=frozenset({"3f6c61c2-5b8e-4a44-9a2f-6f0f4e5d8c11", "urn:uuid:1#2", "subject=odd"}),
        subjects=frozenset({"alice"}),
        consumer_keys=frozenset({"Xw9="}),
    )
    assert len(revoked) == 5


@pytest.mark.parametrize("line", [b"a\x00b", b"\xff", b"x" * 1025, b"subject=" + b"x" * 1025])
def test_a_faulty_line_is_named_and_the_others_count(line: bytes) -> None:
    revoked, (problem,) = parse(b"one\n" + line + b"\ntwo\n", "revoked.txt")
    assert revoked.tokens == {"one", "two"}
    assert (problem.file, problem.line) == ("revoked.txt", 2)
    assert problem.hint


def test_faults_are_bounded() -> None:
    assert len(parse(b"\x00\n" * 1000, "f")[1]) == room.MAX_FAULTS


def test_covers_by_token_subject_and_application() -> None:
    revocations = Revocations()
    assert not revocations.covers(caller())
    revocations.publish("a", Revoked(frozenset({"t"}), frozenset({"s"})))
    revocations.publish("b", Revoked(consumer_keys=frozenset({"k"})))
    assert len(revocations) == 3
    for given in (("t", "", ""), ("", "s", ""), ("", "", "k")):
        assert revocations.covers(caller(*given))
    assert not revocations.covers(caller("s", "k", "t"))
    assert revocations.publish("a", Revoked())
    assert not revocations.publish("a", Revoked())
    assert not revocations.covers(caller("t", "s", ""))
    assert revocations.covers(caller("", "", "k"))


def test_single_tokens_are_revoked_until_their_time_is_over() -> None:
    revocations = Revocations()
    revocations.publish(FILE, Revoked(frozenset({"of the file"})))
    first = revocations.changed
    revocations.revoke({"one": 10.0, "two": 20.0})
    assert first.is_set()
    second = revocations.changed
    revocations.revoke({"one": 10.0})
    assert not second.is_set(), "nothing is new"
    assert len(revocations) == 3
    assert revocations.covers(caller("one"))
    assert revocations.covers(caller("of the file"))
    assert revocations.purge(10.0) == 1
    assert not revocations.covers(caller("one"))
    revocations.reinstate(["two", "of the file", "unknown"])
    assert not revocations.covers(caller("two"))
    assert revocations.covers(caller("of the file")), "another source"


def test_a_token_without_an_id_is_named_by_its_signature() -> None:
    signature = bytes(range(64))
    named = Caller("alice", token_id="hash", signature_id=signature_id(signature))
    text = base64.urlsafe_b64encode(signature).decode().rstrip("=")
    for written in (text, text + "=="):
        revocations = Revocations()
        revocations.revoke(dict.fromkeys(names_of(written), 10.0))
        assert revocations.covers(named)
        assert not revocations.covers(caller("other"))
    assert names_of("3f6c61c2-5b8e-4a44-9a2f-6f0f4e5d8c11") == (
        "3f6c61c2-5b8e-4a44-9a2f-6f0f4e5d8c11",
    )


def test_revoking_one_token_among_many_is_cheap() -> None:
    revocations = Revocations()
    revocations.revoke({f"token-{number}": 1e10 for number in range(100_000)})
    began = time.perf_counter()
    for number in range(1000):
        revocations.revoke({f"more-{number}": 1e10})
    assert time.perf_counter() - began < 0.5, "merging all would take seconds"


def test_an_empty_name_is_never_covered() -> None:
    revocations = Revocations()
    revocations.publish("a", Revoked(subjects=frozenset({""}), consumer_keys=frozenset({""})))
    assert not revocations.covers(caller("x"))


async def test_the_file_is_followed_and_lifts_nothing_by_accident(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    path, revocations = tmp_path / "revoked.txt", Revocations()

    async def until(*tokens: str) -> None:
        with trio.fail_after(5):
            while revocations.of(FILE).tokens != set(tokens):
                await revocations.changed.wait()

    with logged("trio_gw") as log:
        await nursery.start(keep_loaded, (from_file(path, revocations),))
        assert len(revocations) == 0
        path.write_text("one\ntwo\n")
        await until("one", "two")
        path.unlink()
        assert "its revocations stay in force" in await log.wait("is missing")
        assert revocations.of(FILE).tokens == {"one", "two"}
        path.write_bytes(b"three\n\x00\n")
        await until("one", "two", "three")
        assert "revoked.txt:2" in await log.wait("is not an entry")
        path.write_text("three\n")
        await until("three")
        path.write_text("")
        await until()
    nursery.cancel_scope.cancel()


async def test_a_file_that_cannot_be_used_changes_nothing(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, revocations = tmp_path / "revoked.txt", Revocations()
    path.write_text("one\n")
    monkeypatch.setattr(room, "MAX_BYTES", 100)
    with logged("trio_gw") as log:
        await nursery.start(keep_loaded, (from_file(path, revocations),))
        assert revocations.of(FILE).tokens == {"one"}
        path.write_text("x" * 101)
        await log.wait("is larger than")
        path.unlink()
        path.mkdir()
        await log.wait("cannot be read")
        assert revocations.of(FILE).tokens == {"one"}
    nursery.cancel_scope.cancel()
