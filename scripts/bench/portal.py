"""The portal beside connections: what its use does to messages, and to the event loop.

    python scripts/bench/portal.py [APIS] [CONNECTIONS] [SECONDS]

Needs `scripts/bench/prepare`. Starts a gateway, and prints the times of messages on connections,
alone and while pages of the portal are asked for without a pause; also how late the event loop woke
its tasks meanwhile. The load generator verifies each message: one that is lost or changed ends it.
"""

from __future__ import annotations

import base64
import datetime
import http.client
import json
import re
import ssl
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlencode

import trio
from processes import backend, load_command

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.crashes import start
from support.projects import api, asyncapi, write
from trio_gw.guard.certificates import ensure_certificate

PAUSE = 250  # milliseconds between two messages of a connection
OPEN = {f"/topic{number}": {"publish": {}, "x-auth-type": "None"} for number in range(20)}
PAGES = (
    *("/", "/?q=api1", "/apis/Api0", "/apis/Api0/topics", "/apis/Api0/topics/0"),
    *("/apis/Api0/document", "/apis/Api0/revisions", "/apis/Api0/try", "/operate"),
    *("/operate/connections", "/operate/endings", "/api/apis", "/api/stats", "/api/history"),
)
_LAG = re.compile(r"^trio_gw_event_loop_lag_seconds_bucket\{le=\"([^\"]+)\"\} (\d+)", re.MULTILINE)


class Visitor(threading.Thread):
    """One user of the portal, who asks for page after page."""

    def __init__(self, port: int, tls: ssl.SSLContext) -> None:
        super().__init__(daemon=True)
        self._port, self._tls = port, tls
        self._ended = threading.Event()
        self.warm = threading.Event()  # every page was asked for once
        self.times: list[float] = []
        self.statuses: dict[str, int] = {}

    def run(self) -> None:
        """Log in, and ask until the end."""
        connection = http.client.HTTPSConnection(
            "localhost", self._port, timeout=60, context=self._tls
        )
        form = urlencode({"user": "admin", "password": "admin"})
        headers = {
            "Origin": f"https://localhost:{self._port}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        connection.request("POST", "/portal/login", form, headers)
        answer = connection.getresponse()
        answer.read()
        cookie = (answer.getheader("Set-Cookie") or "").partition(";")[0]
        while not self._ended.is_set():
            for page in PAGES:
                began = time.perf_counter()
                connection.request("GET", f"/portal{page}", headers={"Cookie": cookie})
                answer = connection.getresponse()
                answer.read()
                self.times.append((time.perf_counter() - began) * 1000)
                self.statuses[page] = answer.status
            self.warm.set()

    def end(self) -> None:
        """End after the current round."""
        self._ended.set()
        self.join()


def lags(port: int, tls: ssl.SSLContext) -> dict[str, int]:
    """Return how often the event loop was at most so late, by seconds."""
    login = "Basic " + base64.b64encode(b"admin:admin").decode()
    connection = http.client.HTTPSConnection("localhost", port, timeout=60, context=tls)
    connection.request("GET", "/metrics", headers={"Authorization": login})
    text = connection.getresponse().read().decode()
    return {bound: int(count) for bound, count in _LAG.findall(text)}


async def load(port: int, connections: int, seconds: float) -> str:
    """Exchange messages on all connections; return their times."""
    options = {"conns": connections, "pause": PAUSE, "seconds": seconds}
    command = load_command("echo", port, {"path": "/api0/1.0.0/topic0", **options})
    done = await trio.run_process(command, capture_stdout=True)
    found = json.loads(done.stdout)
    times = ", ".join(
        f"{found[key] / 1000:.2f} ms ({name})"
        for key, name in (("p50", "median"), ("p99", "p99"), ("max", "worst"))
    )
    return f"{found['messages']} messages, {times}"


def main() -> None:
    """Start a gateway and an echo server, and measure."""
    apis, connections, seconds = (
        int(sys.argv[place]) if len(sys.argv) > place else default
        for place, default in ((1, 2000), (2, 1000), (3, 20))
    )
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for name in ("apis", "certs"):
            (base / name).mkdir()
        certificate = base / "certs" / "mg.pem"
        now = datetime.datetime.now(datetime.UTC)
        ensure_certificate(certificate, base / "certs" / "mg.key", now)
        tls = ssl.create_default_context(cafile=str(certificate))
        with backend(base / "echo.log") as echo:
            for number in range(apis):
                name = f"Api{number}"
                meta = api(name, f"/{name.lower()}", f"ws://localhost:{echo}", id=name)
                write(base / "apis", f"{name}-1.0.0", meta, asyncapi(OPEN))
            process, ports = start(base)
            try:
                visitor = Visitor(ports["admin"], tls)
                print("alone:", trio.run(load, ports["http"], connections, seconds), flush=True)
                visitor.start()
                first = trio.run(load, ports["http"], connections, seconds)
                print("beside its first requests:", first)
                visitor.warm.wait()
                before = lags(ports["admin"], tls)
                beside = trio.run(load, ports["http"], connections, seconds)
                visitor.end()
                after = lags(ports["admin"], tls)
                print("beside the portal:", beside)
                mean = sum(visitor.times) / len(visitor.times)
                print(f"{len(visitor.times)} pages, {mean:.0f} ms each; {visitor.statuses}")
                late = {bound: after[bound] - before.get(bound, 0) for bound in after}
                print("lag, at most so many seconds:", late)
            finally:
                process.terminate()
                process.wait()


if __name__ == "__main__":
    main()
