"""A process that changes the registry of applications until it is killed.

    python -m support.registry_crashes FOLDER

It writes the serial number after each change. Also what `scripts/bench/registry_crashes.py` runs.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from support.commands import environment
from trio_gw.config import registry_changes as changes
from trio_gw.feed.registry_store import FILE, RegistryStore


def write_until_killed(folder: Path) -> None:
    """Add applications, and remove every second one again."""
    store = RegistryStore(folder, "portal")
    number = store.read().read.registry.serial
    while True:
        number += 1
        name = f"app {number}"
        made = store.change(
            lambda current, name=name, number=number: changes.add(  # type: ignore[misc]
                current, name, "ann", name, description="x" * 500, tier="Unlimited", now=number
            )
        )
        print(made.read.registry.serial, flush=True)
        if number % 2:
            made = store.change(lambda current, name=name: changes.remove(current, name))  # type: ignore[misc]
            print(made.read.registry.serial, flush=True)


def kill_writers(folder: Path, rounds: int, seed: int) -> int:
    """Kill a writer as often as asked for; returns how many changes were acknowledged."""
    chance = random.Random(seed)
    store = RegistryStore(folder, "portal")
    acknowledged = 0
    for _ in range(rounds):
        before = store.read().read.registry.serial
        command = [sys.executable, "-m", "support.registry_crashes", str(folder)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, env=environment(), cwd=Path(__file__).parents[1]
        ) as writer:
            assert writer.stdout is not None
            first = writer.stdout.readline()
            assert first, "the writer did not start"
            time.sleep(chance.random() * 0.05)  # the moment of the kill, not a wait
            writer.send_signal(signal.SIGKILL)
            lines = [first, *writer.stdout.read().splitlines()]
        told = int(next(line for line in reversed(lines) if line.strip().isdigit()))
        found = store.read().read.registry
        assert told <= found.serial <= told + 1, (told, found.serial)
        assert (folder / FILE).stat().st_mode & 0o777 == 0o600
        store.sweep()
        assert [one.name for one in folder.iterdir() if one.name.startswith(".coming")] == []
        acknowledged += found.serial - before
    return acknowledged


if __name__ == "__main__":
    write_until_killed(Path(sys.argv[1]))
