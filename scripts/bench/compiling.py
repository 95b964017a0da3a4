"""Measure how long the compilation of projects, or an unmatched request, blocks the event loop.

Two folders: one project of 12,000 channels `/{a}-kN`, and 2,000 projects of five topics. A task
measures the time between two of its turns. The script prints the longest times, and those of an
idle loop. The argument is the interpreter's switch interval in seconds; the default is that of the
gateway.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import trio

from trio_gw.cli.run import SWITCH_INTERVAL
from trio_gw.config.settings import Environment
from trio_gw.feed.catalog import Catalog
from trio_gw.feed.folder_source import follow
from trio_gw.routing.compiler import EMPTY
from trio_gw.routing.live import Live

CHANNELS, PROJECTS, REQUESTS = 12_000, 2_000, 200
TICK = 0.001


def write(root: Path, name: str, channels: list[str]) -> None:
    """Write one project of two files."""
    (root / name / "Definitions").mkdir(parents=True, exist_ok=True)
    data = {
        "name": name,
        "version": "1.0.0",
        "context": f"/{name}",
        "type": "WS",
        "endpointConfig": {"production_endpoints": {"url": "ws://backend:8080"}},
    }
    (root / name / "api.yaml").write_text(json.dumps({"data": data}))
    definition = {"asyncapi": "2.6.0", "channels": {each: {"publish": {}} for each in channels}}
    (root / name / "Definitions" / "asyncapi.yaml").write_text(json.dumps(definition))


async def lag(found: list[float]) -> None:
    """Collect the delay of each turn."""
    while True:
        before = time.perf_counter()
        await trio.sleep(TICK)
        found.append(time.perf_counter() - before - TICK)


def told(found: list[float]) -> str:
    """Describe the delays, in milliseconds."""
    found.sort()
    at = [found[int(len(found) * part)] * 1e3 for part in (0.5, 0.99)]
    return f"median {at[0]:.1f}, p99 {at[1]:.1f}, longest {found[-1] * 1e3:.1f} ms"


async def main() -> None:
    """Print the figures."""
    sys.setswitchinterval(float(sys.argv[1]) if len(sys.argv) > 1 else SWITCH_INTERVAL)
    for what in ("idle", "channels", "projects"):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            if what == "channels":
                write(root, "big", [f"/{{a}}-k{number}" for number in range(CHANNELS)])
            elif what == "projects":
                for number in range(PROJECTS):
                    write(root, f"api{number}", [f"/t{each}" for each in range(5)])
            live = Live(EMPTY)
            catalog = Catalog(live, [Environment()], origins=("apis",))
            loading: list[float] = []
            compiling: list[float] = []
            snapshots: list[tuple[object, ...]] = []

            def publish(*snapshot: object, into: list[tuple[object, ...]] = snapshots) -> None:
                into.append(snapshot)

            async with trio.open_nursery() as nursery:
                await nursery.start(catalog.run)
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as measured:
                        measured.start_soon(lag, loading)
                        await nursery.start(follow, root, publish)
                        scope.cancel()
                async with trio.open_nursery() as measured:
                    measured.start_soon(lag, compiling)
                    await trio.sleep(0.05)
                    before = time.perf_counter()
                    catalog.publish(*snapshots[0])  # type: ignore[arg-type]
                    await catalog.applied()
                    took = time.perf_counter() - before
                    measured.cancel_scope.cancel()
                before = time.process_time()
                for number in range(REQUESTS):
                    live.table.match("localhost", f"/big/1.0.0/{number}")
                request = (time.process_time() - before) / REQUESTS
                nursery.cancel_scope.cancel()
            print(f"{what}: loading, lag {told(loading)}" if loading else what)
            print(f"  compiled in {took * 1e3:.0f} ms, lag {told(compiling)}")
            print(f"  an unmatched request: {request * 1e6:.0f} µs")


trio.run(main)
