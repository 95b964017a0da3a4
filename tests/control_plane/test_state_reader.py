"""What a reader of the state does about large changes, and about what it could not read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from support.state_writing import SOURCE, change_number, writer_of
from trio_gw.config.entitlements import Change, SubscriptionRow
from trio_gw.control_plane import state_file, state_reader
from trio_gw.control_plane.state import EMPTY_STATE, PART, StateChange, difference
from trio_gw.control_plane.state_file import Prefix
from trio_gw.control_plane.state_reader import STATE, StateReader

if TYPE_CHECKING:
    from pathlib import Path


async def test_what_a_reader_could_not_read_comes_with_the_next_file(tmp_path: Path) -> None:
    reader = StateReader(tmp_path, SOURCE, "cache")
    path = tmp_path / STATE
    first, lost, last = ([*state_file.encode(change_number(n))] for n in (1, 2, 3))
    damaged = [b"\0" * len(record) for record in lost]
    path.write_bytes(file_of(first, replaces=None) + b"".join([*damaged, *last]))
    async with reader.exclusive:
        await reader.refresh()
    assert set(reader.current.entitlements.subscriptions) == {1, 3}
    before = path.read_bytes()
    path.unlink()  # its place on the disk may not be used again at once: the reader has it open
    path.write_bytes(file_of([*first, *lost, *last], replaces=before))
    async with reader.exclusive:
        await reader.refresh()
    assert set(reader.current.entitlements.subscriptions) == {1, 2, 3}
    assert reader.file is not None
    reader.file.file.close()


def file_of(records: list[bytes], *, replaces: bytes | None) -> bytes:
    """Return a file with these records as its state."""
    octets = state_file.PREFIX_OCTETS
    old = bytes(16) if replaces is None else state_file.decode_prefix(replaces[:octets]).identity
    end = octets + sum(map(len, records))
    source = state_reader.source_id(SOURCE)
    prefix = Prefix(state_file.new_identity(), old, len(replaces or b""), end, source)
    return b"".join((state_file.encode_prefix(prefix), *records))


async def test_a_large_pull_and_a_small_one(tmp_path: Path) -> None:
    many = tuple(SubscriptionRow(n, timestamp=n) for n in range(3 * PART))
    large = EMPTY_STATE.apply(StateChange(Change(many), {}, 1.0))
    small = large.apply(StateChange(Change((SubscriptionRow(1),), (many[2],)), {}, 2.0))
    reader, writer = writer_of(tmp_path)
    other = StateReader(tmp_path, SOURCE, "cache")
    async with trio.open_nursery() as nursery:
        await nursery.start(reader.run)
        await nursery.start(writer.run)
        await writer.opened.wait()
        await nursery.start(other.run)
        for state in (large, small, EMPTY_STATE.apply(StateChange(pulled_at=3.0))):
            await writer.replace(state)
            assert not difference(writer.current, state)
            with trio.fail_after(20):
                while other.current.pulled_at < state.pulled_at:
                    await other.wait_changed()
                    other.take()
            assert not difference(other.current, state)
        nursery.cancel_scope.cancel()
