"""Measure the cost of limits and metrics: processor time per message, with and without both.

Two gateways run at the same time on one core, and take turns in each round. The result is the
median of the ratios per round.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
from pathlib import Path

import peers
import processes
import relay

SCENARIOS = ("ping", "small", "pipe", "bulk")


def main() -> int:
    """Measure, and print a table as Markdown."""
    parser = argparse.ArgumentParser(prog="scripts/bench/limits", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each turn")
    options = parser.parse_args()
    forms = ["compiled", "pure"] if peers.is_compiled() else ["pure"]
    print("| | |", " | ".join(f"`{title}`" for title in SCENARIOS), "|")
    print("| --- | --- |" + " ---: |" * len(SCENARIOS))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        work = Path(folder)
        peers.certificate(work)
        log = work / "log"
        port = stack.enter_context(processes.backend(log))
        for form in forms:
            pair = [
                stack.enter_context(peers.running(f"{kind} {form}", work, port))
                for kind in ("counting", "bare")
            ]
            costs: list[list[str]] = [[], [], []]
            for title in SCENARIOS:
                relay.say(f"{form}: {title}")
                rounds = [
                    [
                        relay.measure(peer, relay.TIMED[title], options.seconds, log).cost
                        for peer in pair
                    ]
                    for _ in range(options.rounds)
                ]
                for at in range(2):
                    costs[at].append(f"{statistics.median(one[at] for one in rounds):.3g}")
                ratio = statistics.median(one[0] / one[1] for one in rounds)
                costs[2].append(f"{ratio:.2f}")
            for kind, cells in zip(("with, µs", "without, µs", "ratio"), costs, strict=True):
                print(f"| {form} | {kind} |", " | ".join(cells), "|")
    return 0


if __name__ == "__main__":
    sys.exit(main())
