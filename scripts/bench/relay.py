"""Compare the gateway with other proxies, scenario by scenario, in alternating rounds.

All proxies run at the same time on the first core; the load generator and the backend use the
others. The proxies take turns in each round, so that disturbances affect all of them equally.
Results are medians over the rounds; comparisons are medians of the ratios per round.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import peers
import processes
import report
from peers import BASE, COMPILED, NONE, OURS, Peer
from processes import BenchError, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processes import Option

BULK = 64 * 1024
SETTLE = 1.5  # seconds until memory is stable
STALLED = 100  # clients that do not read
PEERS = (*peers.COMMANDS, NONE)


class Scenario(NamedTuple):
    """What the load generator does. `per`: relayed messages for each of its messages."""

    mode: str
    options: dict[str, Option]
    path: str = "echo"
    per: int = 2  # an echo passes the proxy twice
    tls: bool = False
    beside: bool = False  # a bulk transfer


TIMED = {
    "ping": Scenario("echo", {"conns": 1}),
    "small": Scenario("echo", {"conns": 64}),
    "pipe": Scenario("echo", {"conns": 64, "window": 16}),
    "bulk": Scenario("echo", {"conns": 16, "size": BULK}),
    "fan": Scenario("listen", {"conns": 200}, path="push", per=1),
    "connect": Scenario("churn", {"conns": 16}, per=1),
    "beside": Scenario("echo", {"conns": 64}, beside=True),
    "tls-small": Scenario("echo", {"conns": 64}, tls=True),
    "tls-pipe": Scenario("echo", {"conns": 64, "window": 16}, tls=True),
    "tls-bulk": Scenario("echo", {"conns": 16, "size": BULK}, tls=True),
    "tls-connect": Scenario("churn", {"conns": 16}, per=1, tls=True),
}
MEMORY = ("idle", "stalled")


def measure(peer: Peer, scenario: Scenario, seconds: float, log: Path) -> report.Sample:
    """Measure one proxy in one scenario."""
    port = peer.tls if scenario.tls else peer.plain
    options = {**scenario.options, "path": f"{BASE}/{scenario.path}", "header": peer.header}
    if scenario.tls:
        options["tls"] = True
    with _bulk(peer, seconds, log) if scenario.beside else contextlib.nullcontext():
        found = load(scenario.mode, port, seconds, peer.pid, **options)
    done = found["messages"] * scenario.per
    if not done:
        raise BenchError("nothing was relayed")
    cost = found["cpu"] / done * 1e6
    return report.Sample(cost, done / found["seconds"], found["p50"], found["p99"])


@contextlib.contextmanager
def _bulk(peer: Peer, seconds: float, log: Path) -> Iterator[None]:
    """Transfer messages of 64 KiB through the proxy at full speed."""
    options = {"path": f"{BASE}/echo", "header": peer.header, "size": BULK, "window": 2}
    command = processes.load_command("echo", peer.plain, {**options, "seconds": seconds + 60})
    with processes.start(command, cores=processes.LOAD_CORES, log=log) as process:
        time.sleep(0.1)  # the transfer must be in progress
        yield
        if process.poll() is not None:
            raise BenchError(f"the bulk transfer ended: {log.read_text()[-300:].strip()}")


def timed(
    work: Path, names: list[str], scenarios: list[str], rounds: int, seconds: float
) -> dict[str, dict[str, list[report.Sample]]]:
    """Measure each scenario; returns the samples by scenario and proxy."""
    results: dict[str, dict[str, list[report.Sample]]] = {}
    with contextlib.ExitStack() as stack:
        log = work / "log"
        port = stack.enter_context(processes.backend(log))
        proxies = [stack.enter_context(peers.running(name, work, port)) for name in names]
        for title in scenarios:
            # Without a proxy there is no TLS: the backend is plain.
            turns = [proxy for proxy in proxies if not (TIMED[title].tls and proxy.name == NONE)]
            found = results[title] = {proxy.name: [] for proxy in turns}
            for number in range(rounds):
                say(f"{title}: round {number + 1} of {rounds}")
                for proxy in turns:
                    try:
                        sample = measure(proxy, TIMED[title], seconds, log)
                    except BenchError as error:
                        raise BenchError(f"{title}, {proxy.name}: {error}") from None
                    found[proxy.name].append(sample)
    return results


def occupied(work: Path, names: list[str], scenario: str, conns: int) -> dict[str, float]:
    """Measure bytes of memory per connection, with each proxy newly started."""
    found = {}
    options: dict[str, Option] = {"conns": conns}
    if scenario == "stalled":
        options |= {"path": f"{BASE}/stream", "deaf": True}
    else:
        options |= {"path": f"{BASE}/echo"}
    for name in names:
        if name == NONE:
            continue
        say(f"{scenario}: {name}, {conns} connections")
        log = work / "log"
        with processes.backend(log) as port, peers.running(name, work, port) as proxy:
            assert proxy.pid is not None
            load(
                "churn", proxy.plain, 0.3, None, conns=16, path=f"{BASE}/echo", header=proxy.header
            )
            time.sleep(SETTLE)
            before = processes.memory(proxy.pid)
            try:
                with processes.held(proxy.plain, log, header=proxy.header, **options):
                    time.sleep(SETTLE)
                    found[name] = (processes.memory(proxy.pid) - before) / conns
            except BenchError as error:
                raise BenchError(f"{scenario}, {name}: {error}") from None
    return found


def say(text: str) -> None:
    """Print progress."""
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """Read the command line."""

    def names(known: tuple[str, ...]) -> Any:  # noqa: ANN401 - what argparse calls a type
        def read(text: str) -> list[str]:
            wanted = text.split(",")
            if unknown := set(wanted) - set(known):
                choice = f"{', '.join(sorted(unknown))} is not among {', '.join(known)}"
                raise argparse.ArgumentTypeError(choice)
            return wanted

        return read

    parser = argparse.ArgumentParser(prog="scripts/bench/relay", description=__doc__.split("\n")[0])
    scenarios = (*TIMED, *MEMORY)
    parser.add_argument("--only", type=names(scenarios), default=list(scenarios))
    parser.add_argument("--peers", type=names(PEERS), default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each turn")
    parser.add_argument("--idle", type=int, default=2000, help="idle connections")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 0.4 s, 500 idle")
    parser.add_argument("--write", action="store_true", help="put it into docs/performance.md")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.idle = 2, 0.4, 500
    if options.idle > processes.MOST:
        say(f"only {processes.MOST} idle connections: a process may have {processes.FILES} files")
        options.idle = processes.MOST
    return options


def main() -> int:
    """Measure, and print the results as Markdown."""
    options = arguments()
    processes.raise_file_limit()
    names = [name for name in PEERS if name in options.peers or name in OURS]
    if not peers.is_compiled():
        say(f"the gateway here is not compiled: {COMPILED} is left out")
        names.remove(COMPILED)
    kept = processes.BUILD / "relay.json"
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        peers.certificate(work)
        try:
            scenarios = [title for title in TIMED if title in options.only]
            times = timed(work, names, scenarios, options.rounds, options.seconds)
            sizes = {
                title: occupied(work, names, title, options.idle if title == "idle" else STALLED)
                for title in MEMORY
                if title in options.only
            }
        except BenchError as error:
            say(f"error: {error}")
            return 1
    told = report.Report(names, times, sizes, report.machine(options))
    kept.write_text(json.dumps(told._asdict(), indent=1))
    print(report.markdown(told))
    if options.write:
        report.write(told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
