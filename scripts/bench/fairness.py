"""Measure what clients that flood the gateway cost another client: its latency beside ten of them.

    scripts/bench/prepare && .venv/bin/python scripts/bench/fairness.py [--beside TREE] ...

Each attack runs against each form of the gateway, with one worker. Ten connections of another
process send as fast as the gateway reads. Meanwhile one client exchanges messages of 32 bytes.
`--beside` names another source tree; its gateway is measured in the same run. The latency is given
as time (compare the line without an attack), and as processor time that the gateway used meanwhile:
the part of the latency that its other connections cause.
"""

from __future__ import annotations

import argparse
import contextlib
import selectors
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import processes
from processes import BenchError, free_port, start, wait_upgraded

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
ATTACKERS = 10
CHUNK = 80 * 1024
MESSAGES, SECONDS = 400, 5.0  # of the client that is measured; the first limit ends it
PAUSE = 0.002  # seconds between two of its messages
WARM_UP = 0.5  # seconds of attack before the measured client begins
SIZE = 32
NICE = 10  # of attackers and their backend: the client must wait for the gateway, not for them
MASK = b"\x00\x00\x00\x00"
TIERS = "".join(
    f'[tiers.{action}]\nevents = {events}\nper = "{per}"\non_exceed = "{action}"\n'
    for action, events, per in (("drop", 10, "31d"), ("close", 10, "31d"), ("pause", 5, "1s"))
)


class Attack(NamedTuple):
    """What each attacker does: it connects to a topic and sends `data` repeatedly.

    With `again` it reconnects when its connection ends. With `early` it sends the data directly
    after its request. With `records` it sends a TLS record for each six octets.
    """

    topic: str
    data: bytes
    again: bool = False
    early: bool = False
    records: bool = False


def _frames(*frames: bytes) -> bytes:
    """Repeat these frames to fill a chunk."""
    once = b"".join(frames)
    return once * (CHUNK // len(once))


def _frame(first: int, size: int = 0) -> bytes:
    return bytes((first, 0x80 | size)) + MASK + bytes(size)


EMPTY, PING, CLOSE = _frame(0x82), _frame(0x89), _frame(0x88, 2)[:6] + b"\x03\xe8"
ATTACKS = {
    "none": Attack("", b""),
    "empty messages": Attack("open", _frames(EMPTY)),
    "one octet": Attack("open", _frames(_frame(0x82, 1))),
    "sizes that differ": Attack("open", _frames(*(_frame(0x82, n % 7) for n in range(29)))),
    "fragments": Attack("open", _frames(_frame(0x02), *[_frame(0x00), _frame(0x00, 1)] * 50,
                                        _frame(0x80))),
    "pings": Attack("open", _frames(PING)),
    "sent behind the request": Attack("open", _frames(PING), again=True, early=True),
    "Close frames": Attack("open", _frames(CLOSE), again=True),
    "tier: drop": Attack("drop", _frames(EMPTY)),
    "tier: drop with pings": Attack("drop", _frames(EMPTY, PING)),
    "tier: close": Attack("close", _frames(EMPTY), again=True),
    "tier: pause": Attack("pause", _frames(EMPTY)),
    "message mode": Attack("inspect", _frames(EMPTY)),
    "message mode: pings": Attack("inspect", _frames(PING)),
    "message mode: fragments": Attack(
        "inspect", _frames(_frame(0x02), *[_frame(0x00)] * 500, _frame(0x80))
    ),
    "tiny TLS records": Attack("open", _frames(PING), records=True),
}  # fmt: skip


def request(topic: str, context: str = "fair") -> bytes:
    """Write an opening handshake."""
    return (
        f"GET /{context}/1.0.0/{topic} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


# -- the attackers' process ------------------------------------------------------------------


class Attacker:
    """One connection that floods; it discards what it reads."""

    def __init__(self, attack: Attack, port: int, choose: selectors.BaseSelector) -> None:
        self._attack, self._port, self._choose = attack, port, choose
        self._connect()

    def _connect(self) -> None:
        attack = self._attack
        sock = socket.create_connection(("127.0.0.1", self._port), 30)
        if attack.records:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            sock = context.wrap_socket(sock)
        sock.sendall(request(attack.topic) + (attack.data if attack.early else b""))
        if not sock.recv(1):
            raise OSError("refused")
        sock.setblocking(False)
        self._sock = sock
        self._data = memoryview(attack.data)
        self._at = 0
        self._choose.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE, self)

    def serve(self, events: int) -> None:
        """Read and send as much as is possible without waiting."""
        try:
            if events & selectors.EVENT_READ and not self._sock.recv(1 << 20):
                raise OSError("closed")
            if events & selectors.EVENT_WRITE:
                step = 6 if self._attack.records else len(self._data)
                for _ in range(200 if self._attack.records else 1):
                    sent = self._sock.send(self._data[self._at : self._at + step])
                    self._at = (self._at + sent) % len(self._data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            self._choose.unregister(self._sock)
            self._sock.close()
            if self._attack.again:
                self._connect()


def attack(name: str, port: int) -> None:
    """Flood until this process is killed."""
    choose = selectors.DefaultSelector()
    for _ in range(ATTACKERS):
        Attacker(ATTACKS[name], port, choose)
    print("ready", flush=True)
    while choose.get_map():
        for key, events in choose.select():
            key.data.serve(events)
    time.sleep(60)  # the gateway refuses all of them


# -- the measured client ---------------------------------------------------------------------------


def converse(port: int, pid: int) -> tuple[list[float], list[float]]:
    """Exchange messages; returns milliseconds for each, elapsed and of the gateway."""
    times: list[float] = []
    spent: list[float] = []
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(request("neighbour", "neighbour"))
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += sock.recv(4096)
        message, due = _frame(0x82, SIZE), time.perf_counter() + SECONDS
        while len(times) < MESSAGES and time.perf_counter() < due:
            sent, before = time.perf_counter(), processes.processor_seconds(pid)
            sock.sendall(message)
            left = 2 + SIZE
            while left:
                data = sock.recv(left)
                if not data:
                    raise BenchError("the neighbour lost its connection")
                left -= len(data)
            times.append((time.perf_counter() - sent) * 1e3)
            spent.append((processes.processor_seconds(pid) - before) * 1e3)
            time.sleep(PAUSE)
    return times, spent


@contextlib.contextmanager
def gateway(work: Path, tree: Path, ports: tuple[int, int], *, pure: bool) -> Iterator[list[int]]:
    """Run the gateway of a source tree with two backends; yields its ports and process id."""
    work.mkdir()
    listen = [free_port(), free_port()]
    (work / "gateway.toml").write_text(
        f'[listen]\nhttp = "127.0.0.1:{listen[0]}"\nhttps = "127.0.0.1:{listen[1]}"\nadmin = ""\n'
        f"{TIERS}"
    )
    topics: dict[str, dict[str, object]] = {
        "open": {}, "inspect": {"x-trio-gw-inspect": True},
        **{name: {"x-throttling-tier": name} for name in ("drop", "close", "pause")},
    }  # fmt: skip
    channels = {
        f"/{name}": {"publish": more, "x-auth-type": "None"} for name, more in topics.items()
    }
    url = f"ws://127.0.0.1:{ports[0]}"
    write(work / "apis", "fair", api("Fair", "/fair", url), asyncapi(channels))
    other = api("Neighbour", "/neighbour", f"ws://127.0.0.1:{ports[1]}")
    quiet = {"/neighbour": {"publish": {}, "x-auth-type": "None"}}
    write(work / "apis", "neighbour", other, asyncapi(quiet))
    environment = {"PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"}
    if pure:
        environment["TRIO_GW_PURE"] = "1"
    command = [sys.executable, "-m", "trio_gw", "run", "--config", str(work / "gateway.toml")]
    with start(
        command, cores=processes.PROXY_CORE, log=work / "log", environment=environment
    ) as process:
        try:
            wait_upgraded(process, listen[0], "/fair/1.0.0/open", "X-None: yes")
        except BenchError as error:
            raise BenchError(f"{error}\n{(work / 'log').read_text()[-2000:]}") from None
        yield [*listen, process.pid]


@contextlib.contextmanager
def attackers(name: str, ports: list[int], log: Path) -> Iterator[None]:
    """Run an attack until the context ends."""
    if name == "none":
        yield
        return
    command = [sys.executable, __file__, "attack", name, str(ports[ATTACKS[name].records])]
    pipes = {"stdout": subprocess.PIPE}
    with start(command, cores=processes.LOAD_CORES, log=log, nice=NICE, **pipes) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise BenchError(f"{name}: the attack failed: {log.read_text()[-1000:]}")
        time.sleep(WARM_UP)
        yield
        if process.poll() is not None:
            raise BenchError(f"{name}: the attack ended: {log.read_text()[-1000:]}")


def percentile(times: list[float], part: float) -> float:
    """Return the smallest time that the given share of the times does not exceed."""
    return sorted(times)[min(len(times) - 1, int(len(times) * part))]


def main() -> int:
    """Measure, and print a table as Markdown."""
    parser = argparse.ArgumentParser(prog="fairness.py", description=__doc__.split("\n")[0])
    parser.add_argument("--beside", type=Path, help="another source tree, such as a worktree")
    parser.add_argument("--only", default=",".join(ATTACKS), help="attacks, with commas between")
    parser.add_argument("--forms", default="compiled,pure")
    options = parser.parse_args()
    forms, names = options.forms.split(","), options.only.split(",")
    trees = {"": ROOT} if options.beside is None else {"before ": options.beside, "now ": ROOT}
    cases = [(f"{when}{form}", tree, form) for form in forms for when, tree in trees.items()]
    print("milliseconds, median / 99th percentile: by the clock, and of the gateway's processor")
    print("| attack |", " | ".join(f"{title} | processor" for title, _, _ in cases), "|")
    print("| --- |" + " ---: | ---: |" * len(cases))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        work = Path(folder)
        log = work / "log"
        ports = (
            stack.enter_context(processes.backend(log, nice=NICE)),
            stack.enter_context(processes.backend(log)),
        )
        for at, name in enumerate(names):
            cells = []
            for title, tree, form in cases:
                place = work / f"{at} {title}"
                pure = form == "pure"
                with (
                    gateway(place, tree, ports, pure=pure) as listen,
                    attackers(name, listen, log),
                ):
                    found = converse(listen[0], listen[2])
                cells += [
                    f"{statistics.median(one):.2f} / {percentile(one, 0.99):.1f}" for one in found
                ]
            print(f"| {name} |", " | ".join(cells), "|", flush=True)
    return 0


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "attack":
        attack(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(main())
