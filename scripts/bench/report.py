"""Writes measurements as Markdown tables and as a chart, for docs/performance.md."""

from __future__ import annotations

import os
import platform
import re
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import peers
from chart import Panel, draw
from peers import COMPILED, NONE, OURS, PURE

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

DOCS = Path(__file__).resolve().parents[2] / "docs"
BEGIN = "<!-- from here: written by scripts/bench/relay --write -->"
END = "<!-- to here -->"

TITLES = {
    "ping": "128 B, 1 connection",
    "small": "128 B, 64 connections",
    "pipe": "128 B, 64 connections, 16 under way each",
    "bulk": "64 KiB, 16 connections",
    "fan": "200 connections, 10,000 a second pushed",
    "connect": "connect, echo, Close",
    "beside": "128 B, 64 connections, beside a bulk transfer",
    "tls-small": "TLS: 128 B, 64 connections",
    "tls-pipe": "TLS: 128 B, 64 connections, 16 under way each",
    "tls-bulk": "TLS: 64 KiB, 16 connections",
    "tls-connect": "TLS: connect, echo, Close",
}
# Targets: other proxy's time / gateway's time, by scenario, for (pure, compiled) against nginx
# and for compiled against the others.
TARGETS = {
    "ping": (0.85, 1.0, 1.0),
    "small": (0.75, 1.0, 1.1),
    "pipe": (0.5, 0.95, 1.0),
    "bulk": (0.85, 1.0, 1.0),
    "fan": (0.8, 1.1, 1.0),
    "connect": (0.4, 0.5, 1.2),
    "tls-small": (0.75, 0.9, 1.0),
    "tls-pipe": (0.6, 0.9, 1.0),
    "tls-bulk": (0.85, 0.95, 1.0),
}


class Sample(NamedTuple):
    """One measurement: µs of processor time per message, messages per second, latencies in µs."""

    cost: float
    rate: float
    p50: float
    p99: float


class Report(NamedTuple):
    """All measurements; `sizes` in bytes per connection."""

    names: list[str]
    times: dict[str, dict[str, list[Sample]]]
    sizes: dict[str, dict[str, float]]
    machine: str


def machine(options: argparse.Namespace) -> str:
    """Describe the machine and the method."""
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    versions = {name: _number(peers.version(name)) for name in ("nginx", "haproxy")}
    versions |= {name: _number(peers.version(name)) for name in ("envoy", "traefik", "caddy")}
    programs = ", ".join(f"{name} {number}" for name, number in versions.items())
    return (
        f"{os.cpu_count()} cores ({model[1] if model else platform.machine()}), Linux"
        f" {platform.release()}, CPython {platform.python_version()}; {programs}."
        f" Medians of {options.rounds} rounds of {options.seconds:g} s,"
        f" {options.idle} idle connections."
    )


def _number(text: str) -> str:
    found = re.search(r"\d+\.\d+(?:\.\d+)?", text)
    return found[0] if found else "?"


def ratio(told: Report, scenario: str, peer: str, ours: str) -> float:
    """Divide another proxy's processor time by the gateway's: above 1 the gateway is cheaper."""
    samples = told.times[scenario]
    return statistics.median(
        theirs.cost / own.cost for theirs, own in zip(samples[peer], samples[ours], strict=True)
    )


def median(told: Report, scenario: str, name: str, field: Callable[[Sample], float]) -> float:
    """Return the median over the rounds."""
    return statistics.median(field(sample) for sample in told.times[scenario][name])


def markdown(told: Report) -> str:
    """Write all tables."""
    parts = [told.machine]
    parts += [
        table for table in (_costs(told), _ratios(told), _latency(told), _sizes(told)) if table
    ]
    return "\n\n".join(parts)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _costs(told: Report) -> str:
    """Write the processor time per message of every proxy."""
    shown = [title for title in told.times if title != "beside"]
    if not shown:
        return ""
    rows = [
        [name, *(_figure(median(told, title, name, lambda one: one.cost)) for title in shown)]
        for name in told.names
        if name != NONE
    ]
    text = (
        "Processor time of the proxy in µs, user and system: per relayed message (an echo is two),"
    )
    text += " for `connect` per connection.\n\n"
    return text + _table(["", *(f"`{title}`" for title in shown)], rows)


def _ratios(told: Report) -> str:
    """Write other proxy / gateway for each scenario, with the target if it is missed."""
    tables = []
    for ours in (name for name in OURS if name in told.names):
        others = [name for name in told.names if name not in (*OURS, NONE)]
        rows = []
        for title in told.times:
            if title == "beside" or not others:
                continue
            row = [f"`{title}`"]
            for peer in others:
                reached = ratio(told, title, peer, ours)
                wanted = _target(title, peer, ours)
                mark = f" ({wanted:g} wanted)" if wanted is not None and reached < wanted else ""
                row.append(f"{reached:.2f}{mark}" if reached >= 1 else f"**{reached:.2f}**{mark}")
            rows.append(row)
        if rows:
            text = f"{ours}: the peer's processor time divided by ours. Above 1 the gateway is"
            text += " cheaper; what it loses is bold.\n\n"
            tables.append(text + _table(["", *others], rows))
    return "\n\n".join(tables)


def _target(title: str, peer: str, ours: str) -> float | None:
    """Return the target ratio, if there is one."""
    targets = TARGETS.get(title)
    large = title.endswith("bulk") and peer in ("nginx", "haproxy")
    if targets is None or large:  # bulk is compared with the proxies that have large buffers
        return None
    if peer.startswith("nginx"):
        return targets[0] if ours == PURE else targets[1]
    if ours == PURE or (title == "connect" and peer.startswith("haproxy")):
        return None
    return targets[2]


def _latency(told: Report) -> str:
    shown = [title for title in ("ping", "small", "beside", "fan") if title in told.times]
    if not shown:
        return ""
    rows = []
    for name in told.names:
        row = [name]
        for title in shown:
            p50, p99 = (median(told, title, name, field) for field in (_p50, _p99))
            row.append(f"{p50:.0f} / {p99:.0f}")
        rows.append(row)
    text = "Latency at full speed in µs, median / 99th percentile; `beside`: as `small`, while one"
    text += " more connection transfers 64 KiB messages as fast as it goes.\n\n"
    return text + _table(["", *(f"`{title}`" for title in shown)], rows)


def _p50(sample: Sample) -> float:
    return sample.p50


def _p99(sample: Sample) -> float:
    return sample.p99


def _sizes(told: Report) -> str:
    if not told.sizes:
        return ""
    names = [name for name in told.names if name != NONE]
    rows = [
        [name, *(f"{sizes[name] / 1024:.1f}" for sizes in told.sizes.values())] for name in names
    ]
    heads = {"idle": "idle", "stalled": "client does not read, backend sends at full speed"}
    text = "Memory of the proxy in KiB per connection (resident, its own; the kernel's socket"
    text += " buffers are not counted).\n\n"
    return text + _table(["", *(heads[title] for title in told.sizes)], rows)


def write(told: Report) -> None:
    """Replace the figures in docs/performance.md, and the chart beside it."""
    page = DOCS / "performance.md"
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    figure = "![Processor time per relayed message](performance.svg)"
    page.write_text(f"{before}{BEGIN}\n\n{figure}\n\n{markdown(told)}\n\n{END}{after}")
    names = [name for name in told.names if name != NONE]
    panels = [
        Panel(
            TITLES[title],
            "µs",
            {name: median(told, title, name, lambda one: one.cost) for name in names},
        )
        for title in told.times
        if title != "beside"
    ]
    panels += [
        Panel(f"memory per {title} connection", "KiB", {n: s / 1024 for n, s in sizes.items()})
        for title, sizes in told.sizes.items()
    ]
    (DOCS / "performance.svg").write_text(draw(panels, highlighted=(PURE, COMPILED)))
