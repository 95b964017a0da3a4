"""Starts a gateway from the last known state of a large control plane, without API Manager.

    python scripts/bench/control_plane_start.py [APIS] [SUBSCRIPTIONS] [WORKERS]

Prints for each of three starts: seconds until it is ready, its memory, and its processor time.
"""

from __future__ import annotations

import datetime
import os
import sys
import tempfile
import time
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.control_plane import NOWHERE, artifact_folder, store_artifact, write_cache
from support.crashes import children, start
from trio_gw.config.control_plane import ControlPlaneSettings
from trio_gw.config.entitlements import (
    ApiRow,
    ApplicationRow,
    Change,
    KeyMappingRow,
    Row,
    SubscriptionRow,
)
from trio_gw.control_plane.state import StateChange
from trio_gw.guard.certificates import ensure_certificate

STARTS = 3


def large(base: Path, apis: int, subscriptions: int) -> StateChange:
    """Make a state with so many APIs and subscriptions, and a tenth as many applications."""
    folder = artifact_folder(base)
    artifacts = {}
    rows: list[Row] = []
    for number in range(apis):
        name = f"Api{number}"
        artifacts[name] = (store_artifact(folder, base, name),)
        rows.append(ApiRow(name, name, "1.0.0", f"/{name.lower()}/1.0.0", "admin", "Unlimited"))
    applications = max(1, subscriptions // 10)
    for number in range(applications):
        application = f"5f0e0f9c-0000-4000-8000-{number:012}"
        rows.append(ApplicationRow(application, str(number), f"App{number}", "alice", "Gold"))
        rows.append(KeyMappingRow(f"client-{number}", "Resident Key Manager", application))
    for number in range(subscriptions):
        application = f"5f0e0f9c-0000-4000-8000-{number % applications:012}"
        rows.append(
            SubscriptionRow(
                number, f"Api{number % apis}", application, "AsyncGold", uuid=str(number)
            )
        )
    return StateChange(Change(tuple(rows)), artifacts, time.time())


def used(pid: int) -> tuple[float, float]:
    """Return the memory of a process in MiB and its processor time in seconds."""
    status = Path(f"/proc/{pid}/status").read_text()
    memory = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return memory / 1024, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Make the state, and start."""
    apis, subscriptions, workers = (
        int(sys.argv[place]) if len(sys.argv) > place else default
        for place, default in ((1, 2000), (2, 50_000), (3, 1))
    )
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for name in ("apis", "certs"):
            (base / name).mkdir()
        now = datetime.datetime.now(datetime.UTC)
        ensure_certificate(base / "certs" / "mg.pem", base / "certs" / "mg.key", now)
        (base / "gateway.toml").write_text(f'[control_plane]\nurl = "{NOWHERE}"\n')
        table = ControlPlaneSettings(url=NOWHERE)
        trio.run(write_cache, base, table, large(base, apis, subscriptions))
        size = (base / "controlplane" / "state").stat().st_size
        print(f"{apis} APIs, {subscriptions} subscriptions: the state has {size / 1e6:.1f} MB")
        for _ in range(STARTS):
            began = time.monotonic()
            process, _ = start(base, TRIO_GW_WORKERS=str(workers))
            took = time.monotonic() - began
            for pid in (process.pid, *children(process.pid)):
                memory, spent = used(pid)
                print(f"ready after {took:.2f} s; {pid}: {memory:.0f} MiB, {spent:.2f} s")
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
