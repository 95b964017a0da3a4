"""Soak test: clients connect and disconnect at full speed; each payload is verified.

First the gateway holds many idle connections, then all are closed. Then clients connect, exchange
some messages of 8 bytes to 64 KiB, send Close and reconnect. Meanwhile the script samples the
descriptors, tasks and memory of the gateway. They are flat if none has grown between the second
fifth of the time (the first is warm-up) and the last fifth, and if in the end the descriptors and
tasks are those of the start.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import peers
import processes
from peers import BASE, COMPILED, PURE, Peer
from processes import BenchError

if TYPE_CHECKING:
    from processes import Option

EVERY = 5.0  # seconds between two samples
LEAST_SAMPLES = 10
PER = 10  # messages of a connection, on average
LONGEST = 64 * 1024
SETTLE = 60.0  # seconds for the last connections to be gone: thousands may go at once
GROWTH = 1.05  # growth of a figure that still counts as flat
NOISE = {"descriptors": 20.0, "tasks": 40.0, "memory, MiB": 2.0}


class Sample(NamedTuple):
    """The resources of the gateway at one moment."""

    descriptors: float
    tasks: float
    mebibytes: float


def look(gateway: Peer) -> Sample:
    """Read them from the system; the gateway itself reports its tasks (`watched.py`)."""
    process = gateway.process
    assert process is not None
    assert process.stdout is not None
    os.kill(process.pid, signal.SIGUSR1)
    tasks = int(process.stdout.readline())
    memory = processes.memory(process.pid) / 2**20
    return Sample(processes.descriptors(process.pid), tasks, memory)


def settled(gateway: Peer, before: Sample) -> Sample:
    """Wait, up to a limit, until descriptors and tasks are no more than before."""
    deadline = time.monotonic() + SETTLE
    while not given_back(before, now := look(gateway)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return now


def given_back(before: Sample, after: Sample) -> bool:
    """Return whether all resources have been released."""
    return after.descriptors <= before.descriptors and after.tasks <= before.tasks


def idle(gateway: Peer, conns: int, log: Path) -> tuple[list[str], bool]:
    """Hold idle connections, relay beside them, close them; returns the result."""
    options: dict[str, Option] = {"path": f"{BASE}/echo", "header": gateway.header}
    processes.load("churn", gateway.plain, 1, None, conns=16, **options)
    time.sleep(1)
    before = settled(gateway, look(gateway))
    with processes.held(gateway.plain, log, conns=conns, **options):
        time.sleep(2)
        held = look(gateway)
        beside = processes.load("echo", gateway.plain, 2, gateway.pid, conns=64, **options)
    after = settled(gateway, before)
    all_back = given_back(before, after)
    each = (held.mebibytes - before.mebibytes) * 1024 / conns
    lines = [
        f"{conns} idle connections held by one worker: {each:.1f} KiB each;"
        f" {beside['messages'] / beside['seconds']:.0f} echoes a second on 64 more beside them,"
        f" 99th percentile {beside['p99'] / 1000:.1f} ms.",
        f"Descriptors {before.descriptors:.0f} → {held.descriptors:.0f} → {after.descriptors:.0f},"
        f" tasks {before.tasks:.0f} → {held.tasks:.0f} → {after.tasks:.0f}:"
        f" {'all given back' if all_back else 'NOT ALL GIVEN BACK'}.",
    ]
    return lines, all_back


def churn(
    gateway: Peer, options: argparse.Namespace, log: Path
) -> tuple[dict[str, float], list[Sample]]:
    """Run the load to its end; returns its result, and the samples taken meanwhile."""
    seconds = options.minutes * 60
    load: dict[str, Option] = {"conns": options.conns, "per": PER, "window": 4, "size": 8}
    load |= {"most": LONGEST, "warm": 0, "seconds": seconds}
    load |= {"path": f"{BASE}/echo", "header": gateway.header}
    if options.tls:
        load["tls"] = True
    port = gateway.tls if options.tls else gateway.plain
    command = processes.load_command("churn", port, load)
    samples = []
    every = min(EVERY, seconds / LEAST_SAMPLES)
    deadline = time.monotonic() + seconds + processes.PATIENCE
    with processes.start(
        command, cores=processes.LOAD_CORES, log=log, stdout=subprocess.PIPE
    ) as process:
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(every)
            samples.append(look(gateway))
        if process.poll() != 0:
            raise BenchError(f"the load did not end well: {log.read_text()[-2000:].strip()}")
        assert process.stdout is not None
        done: dict[str, float] = json.loads(process.stdout.read())
    return done, samples[:-1]  # the last sample may have been taken without load


def judge(before: Sample, samples: list[Sample], after: Sample) -> tuple[list[str], bool]:
    """Compare the second fifth with the last one; returns a table, and whether all is flat."""
    lines = [
        "|  | before | warm | at the end | most | after | |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    fifth = max(len(samples) // 5, 1)
    good = True
    for column, title in enumerate(NOISE):
        values = [one[column] for one in samples]
        warm = statistics.median(values[fifth : 2 * fifth])
        end = statistics.median(values[-fifth:])
        flat = end <= warm * GROWTH + NOISE[title]
        if title != "memory, MiB":
            flat = flat and after[column] <= before[column]
        good = good and flat
        row = (before[column], warm, end, max(values), after[column])
        cells = " | ".join(f"{value:.1f}".removesuffix(".0") for value in row)
        lines.append(f"| {title} | {cells} | {'flat' if flat else 'NOT FLAT'} |")
    return lines, good


def main() -> int:
    """Run it; returns 0 when everything is flat."""
    parser = argparse.ArgumentParser(prog="scripts/bench/soak", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--conns", type=int, default=500, help="connections at a time")
    parser.add_argument("--idle", type=int, default=10_000, help="idle connections to hold first")
    parser.add_argument("--tls", action="store_true", help="clients come over TLS")
    parser.add_argument("--pure", action="store_true", help="not the compiled hot path")
    options = parser.parse_args()
    options.idle = min(options.idle, processes.MOST - 100)
    processes.raise_file_limit()
    name = COMPILED if peers.is_compiled() and not options.pure else PURE
    print(f"## Soak of {name}{' over TLS' if options.tls else ''}\n")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        log = work / "log"
        peers.certificate(work)
        with (
            processes.backend(log) as port,
            peers.running(name, work, port, watched=True) as gateway,
        ):
            try:
                before = look(gateway)
                lines, all_back = idle(gateway, options.idle, log) if options.idle else ([], True)
                print("\n".join(lines), flush=True)
                done, samples = churn(gateway, options, log)
                table, flat = judge(before, samples, settled(gateway, before))
            except BenchError as error:
                print(f"error: {error}", file=sys.stderr)
                return 1
            errors = (work / name.replace(" ", "-") / "log").read_text().count(" while serving ")
    print(
        f"\n{options.minutes:g} minutes, {options.conns} connections at a time:"
        f" {done['connections']:.0f} connections ({done['connections'] / done['seconds']:.0f} a"
        f" second), {done['messages']:.0f} messages of 8 bytes to 64 KiB echoed, all verified;"
        f" {errors} internal errors.\n"
    )
    print("\n".join(table))
    return 0 if flat and all_back and not errors else 1


if __name__ == "__main__":
    sys.exit(main())
