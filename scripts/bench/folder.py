"""Measure a folder of 2,000 projects: first load, and the time until an edit is live."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

import trio

from trio_gw.config.settings import Environment
from trio_gw.feed.catalog import Catalog
from trio_gw.feed.folder_source import follow
from trio_gw.routing.compiler import EMPTY
from trio_gw.routing.live import Live

PROJECTS = 2000
EDITS = 10


def write(root: Path, number: int, topic: str) -> None:
    """Write one project of two files."""
    folder = root / f"api-{number}"
    (folder / "Definitions").mkdir(parents=True, exist_ok=True)
    url = "ws://backend:8080"
    data = {
        "name": f"Api{number}",
        "version": "1.0.0",
        "context": f"/api{number}",
        "type": "WS",
        "endpointConfig": {"production_endpoints": {"url": url}},
    }
    (folder / "api.yaml").write_text(json.dumps({"data": data}, indent=1))
    channels = {f"/{topic}{n}": {"publish": {}} for n in range(5)}
    definition = {"asyncapi": "2.6.0", "channels": channels}
    (folder / "Definitions" / "asyncapi.yaml").write_text(json.dumps(definition, indent=1))


async def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number in range(PROJECTS):
            write(root, number, "t")
        live = Live(EMPTY)
        catalog = Catalog(live, [Environment()], origins=("apis",))
        async with trio.open_nursery() as nursery:
            start = time.perf_counter()
            await nursery.start(follow, root, catalog.publish)
            await catalog.ready.wait()
            print(f"\n{PROJECTS} projects, cold load: {time.perf_counter() - start:.2f} s")
            spent = []
            for edit in range(EDITS):
                changed = live.wait_changed
                start = time.perf_counter()
                write(root, edit * 97, f"edited{edit}-")
                while (
                    live.table.match("localhost", f"/api{edit * 97}/1.0.0/edited{edit}-0") is None
                ):
                    await changed()
                spent.append(time.perf_counter() - start)
            print(
                f"one edit among them until live: median {statistics.median(spent):.2f} s,"
                f" worst {max(spent):.2f} s (0.25 s of it is the quiet period)"
            )
            nursery.cancel_scope.cancel()


trio.run(main)
