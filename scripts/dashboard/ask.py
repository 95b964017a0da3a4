"""Run each query of the dashboard on a Prometheus that scrapes a gateway under load."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio
from plane import event_hub, start_plane
from traffic import SETTINGS, World, echo, projects

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.commands import Serving, start
from support.peers import Peers

if TYPE_CHECKING:
    from support.rabbitmq import RabbitMQ

DASHBOARD = Path(__file__).resolve().parents[2] / "docs" / "grafana" / "trio-gw.json"
STEP = 1  # Prometheus scrapes every second
RATE = 5  # seconds; what Grafana would put in for $__rate_interval


async def main(arguments: argparse.Namespace) -> int:
    """Run it all; returns the exit code."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as broker:
        base = Path(folder)
        with event_hub(Path(broker, "rabbitmq")) as rabbitmq:
            return await _with_event_hub(arguments, base, rabbitmq)


async def _with_event_hub(arguments: argparse.Namespace, base: Path, rabbitmq: RabbitMQ) -> int:
    async with trio.open_nursery() as nursery:
        code = await _observed(arguments, base, rabbitmq, nursery)
        nursery.cancel_scope.cancel()
    return code


async def _observed(
    arguments: argparse.Namespace, base: Path, rabbitmq: RabbitMQ, nursery: trio.Nursery
) -> int:
    other = (await nursery.start(trio.serve_tcp, echo, 0))[0].socket.getsockname()[1]
    peers = Peers()
    backend = await peers.start_backend(nursery)
    plane = await start_plane(nursery, f"ws://127.0.0.1:{other}", rabbitmq)
    (base / "gateway.toml").write_text(SETTINGS + plane.settings(base))
    projects(base, backend.url, f"ws://127.0.0.1:{other}")
    serving = await start(base, "run", TRIO_GW_LISTEN_HTTPS="", TRIO_GW_LISTEN_ADMIN="")
    watcher = None
    try:
        while serving.err.count(": ready") < 2:
            assert serving.process.stderr is not None
            data = await serving.process.stderr.receive_some()
            assert data, serving.err
            serving.err += data.decode()
        nursery.start_soon(_drain, serving)
        ports = dict(re.findall(r"listening on (http|metrics)://127\.0\.0\.1:(\d+)", serving.err))
        watcher, url = _prometheus(base, int(ports["metrics"]))
        world = World(base, int(ports["http"]), arguments.seconds)
        world.peers = peers
        begin = time.time()
        async with trio.open_nursery() as traffic:
            for topic in "aabb":
                traffic.start_soon(world.visits, "chat", topic)
            for name in ("news", "slow"):
                traffic.start_soon(world.flood, name)
            traffic.start_soon(world.knocks)
            traffic.start_soon(world.changes)
            traffic.start_soon(plane.events, world.until)
        return await trio.to_thread.run_sync(
            _ask, url, begin + RATE, time.time(), arguments.answers
        )
    finally:
        for process in (serving.process, watcher):
            if process is not None:
                process.terminate()
        with trio.CancelScope(shield=True):
            await serving.process.wait()
        if watcher is not None:
            watcher.wait()


async def _drain(serving: Serving) -> None:
    assert serving.process.stderr is not None
    while await serving.process.stderr.receive_some():
        pass


def _prometheus(base: Path, port: int) -> tuple[subprocess.Popen[bytes], str]:
    """Start Prometheus; returns the process and its address."""
    with trio.socket.socket() as found:
        found._sock.bind(("127.0.0.1", 0))
        own = found.getsockname()[1]
    config = base / "prometheus.yml"
    target = {"targets": [f"127.0.0.1:{port}"], "labels": {"instance": "gateway-1"}}
    config.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": f"{STEP}s"},
                "scrape_configs": [{"job_name": "trio-gw", "static_configs": [target]}],
            }
        )
    )
    watcher = subprocess.Popen(
        [os.environ["PROMETHEUS"], f"--config.file={config}",
         f"--web.listen-address=127.0.0.1:{own}", f"--storage.tsdb.path={base / 'data'}",
         "--log.level=error"],
    )  # fmt: skip
    return watcher, f"http://127.0.0.1:{own}"


def _ask(url: str, begin: float, end: float, answers: Path | None) -> int:
    """Run all queries; returns 1 if one has no answer."""
    dashboard = json.loads(DASHBOARD.read_text())
    counts = []

    def report(count: int, what: str) -> None:
        counts.append(count)
        print(f"{count:3} {what}")

    chosen, panels = {}, {}
    for variable in dashboard["templating"]["list"]:
        name = variable["name"]
        chosen[name] = "Prometheus"
        if variable["type"] == "query":
            chosen[name] = "All"
            values = _values(url, variable["definition"])
            report(len(values), f"values  ${name}: {', '.join(values)}")
    for mark in dashboard["annotations"]["list"]:
        series = _answer(url, mark["expr"], begin, end)
        report(len(series), f"series  {mark['name']}: {mark['expr']}")
    for panel in dashboard["panels"]:
        found = panels[panel["id"]] = []
        for target in panel.get("targets", ()):
            found.append(_answer(url, target["expr"], begin, end))
            report(len(found[-1]), f"series  {panel['title']}: {target['expr']}")
    missing = counts.count(0)
    print("every question has an answer" if not missing else f"{missing} have none")
    if answers and not missing:
        told = {"from": begin, "to": end, "step": STEP, "variables": chosen, "panels": panels}
        answers.write_text(json.dumps(told))
    return int(missing > 0)


def _filled(query: str) -> str:
    """Replace the variables as Grafana does when everything is selected."""
    query = query.replace("$__rate_interval", f"{RATE}s")
    return re.sub(r"\$\w+", ".*", query)


def _values(url: str, definition: str) -> list[str]:
    """Find the possible values of a variable."""
    known = re.fullmatch(r"label_values\((.+), (\w+)\)", definition)
    assert known, definition
    found = _get(f"{url}/api/v1/label/{known[2]}/values", {"match[]": _filled(known[1])})
    assert isinstance(found, list)
    return found


def _answer(url: str, query: str, begin: float, end: float) -> list[Any]:
    """Query the time range of the load; returns the series with numbers."""
    asked = {"query": _filled(query), "start": begin, "end": end, "step": STEP}
    found = _get(f"{url}/api/v1/query_range", asked)
    return [one for one in found["result"] if any(value != "NaN" for _, value in one["values"])]


def _get(url: str, asked: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever Prometheus tells
    with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(asked)}", timeout=10) as answer:  # noqa: S310
        told = json.load(answer)
    assert told["status"] == "success", told
    return told["data"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--answers", type=Path, help="write them to this file, for page/draw.mjs")
    sys.exit(trio.run(main, parser.parse_args()))
