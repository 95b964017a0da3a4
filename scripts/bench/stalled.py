"""Measure memory per client that does not read, in plain relaying and in message mode.

    scripts/bench/prepare && .venv/bin/python scripts/bench/stalled.py [--tree TREE] [--readers N]

The backend sends messages of 64 KiB as fast as they are read. The result is the growth of the
gateway's private memory per client when it is stable, after a warm-up with other clients. `--tree`
names another source tree.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path

import processes
from processes import free_port, start, wait_upgraded

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.projects import api, asyncapi, write

ROOT = Path(__file__).resolve().parents[2]
SETTLE = 3.0  # seconds until memory is stable


def measure(work: Path, tree: Path, port: int, inspect: bool, pure: bool, readers: int) -> float:
    """Start a gateway; return its KiB of memory per stalled client."""
    listen = free_port()
    (work / "gateway.toml").write_text(
        f'[listen]\nhttp = "127.0.0.1:{listen}"\nhttps = ""\nadmin = ""\n'
    )
    for name in ("echo", "stream"):
        topic: dict[str, object] = {"x-auth-type": "None", "x-trio-gw-inspect": inspect}
        topic["x-uri-mapping"] = f"/{name}"
        project = api(name.title(), f"/{name}", f"ws://127.0.0.1:{port}")
        write(work / "apis", name, project, asyncapi({f"/{name}": {"publish": topic}}))
    environment = {"PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"}
    if pure:
        environment["TRIO_GW_PURE"] = "1"
    command = [sys.executable, "-m", "trio_gw", "run", "--config", str(work / "gateway.toml")]
    log = work / "log"
    with start(command, cores=processes.PROXY_CORE, log=log, environment=environment) as process:
        wait_upgraded(process, listen, "/echo/1.0.0/echo", "X-None: yes")
        options: dict[str, processes.Option] = {"path": "/stream/1.0.0/stream", "deaf": True}
        with processes.held(listen, log, conns=10, header="X-None: yes", **options):
            time.sleep(SETTLE / 3)
        time.sleep(SETTLE / 3)
        before = processes.memory(process.pid)
        with processes.held(listen, log, conns=readers, header="X-None: yes", **options):
            time.sleep(SETTLE)
            return (processes.memory(process.pid) - before) / readers / 1024


def main() -> int:
    """Measure, and print a table as Markdown."""
    parser = argparse.ArgumentParser(prog="stalled.py", description=__doc__.split("\n")[0])
    parser.add_argument("--tree", type=Path, default=ROOT, help="another source tree")
    parser.add_argument("--readers", type=int, default=100)
    options = parser.parse_args()
    print("KiB per stalled reader\n| | plain | message mode |\n| --- | ---: | ---: |")
    for pure in (False, True):
        cells = []
        for inspect in (False, True):
            with contextlib.ExitStack() as stack:
                work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                port = stack.enter_context(processes.backend(work / "backend.log"))
                found = measure(work, options.tree, port, inspect, pure, options.readers)
                cells.append(f"{found:.0f}")
        print(f"| {'pure' if pure else 'compiled'} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
