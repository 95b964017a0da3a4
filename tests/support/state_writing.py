"""Writers of a control plane's state, as processes that can be killed.

Run as a script. For each line of standard input, the name of a folder and the number of the first
change as JSON, it forks a writer, prints its pid, and, when it is gone, its exit code. A writer
makes change after change and writes the number of the last one to `reported`.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path

import trio

from trio_gw.config.entitlements import Change, RevokedRow, SubscriptionRow
from trio_gw.control_plane import appended_file
from trio_gw.control_plane.artifact_folder import ArtifactFolder
from trio_gw.control_plane.state import Artifact, ControlPlaneState, StateChange
from trio_gw.control_plane.state_reader import StateReader
from trio_gw.control_plane.state_writer import StateWriter

SOURCE = "https://apim"
KEYS = 40  # rows that the changes go round


def change_number(number: int) -> StateChange:
    """Return the change with this number: it puts three things, and removes one."""
    row = SubscriptionRow(number % KEYS, "api", "app", timestamp=number)
    gone = RevokedRow(str(number - KEYS))
    artifact = Artifact(str(number % 7), str(number), "0" * 64, (("Default", "localhost"),))
    return StateChange(
        Change((row, RevokedRow(str(number))), (gone,)), {artifact.uuid: (artifact,)}, float(number)
    )


def assert_good(state: ControlPlaneState) -> int:
    """Check that this is the state after one of the changes; return the number of that."""
    last = int(state.pulled_at)
    first = max(1, last - KEYS + 1)
    expected = set(range(first, last + 1))
    assert {row.timestamp for row in state.entitlements.subscriptions.values()} == expected
    assert {int(token) for token in state.entitlements.revoked} == expected
    revisions = {int(found[0].revision) for found in state.artifacts.values()}
    assert revisions == set(range(max(1, last - 6), last + 1))
    return last


def writer_of(folder: Path) -> tuple[StateReader, StateWriter]:
    """Make the reader and the writer of a process."""
    reader = StateReader(folder, SOURCE, "cache")
    return reader, StateWriter(reader, ArtifactFolder(folder / "artifacts"), "cache")


async def write(folder: Path, reported: int) -> None:
    """Make changes for ever."""
    reader, writer = writer_of(folder)
    async with trio.open_nursery() as nursery:
        await nursery.start(reader.run)
        await nursery.start(writer.run)
        await writer.opened.wait()
        number = int(writer.current.pulled_at)
        while True:
            os.pwrite(reported, b"%020d" % number, 0)
            number += 1
            await writer.change(change_number(number))
            await writer.flush()


def main() -> None:
    """Start writers, one after the other."""
    appended_file.GROWN = 2000  # the file is replaced every few changes
    for line in sys.stdin:
        folder = Path(json.loads(line))
        if (pid := os.fork()) == 0:
            reported = os.open(folder / "reported", os.O_WRONLY | os.O_CREAT, 0o600)
            trio.run(partial(write, folder, reported))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
