"""Gateways in processes of their own that are killed while things are deployed to them.

Also what `scripts/bench/crashes.py` runs for longer.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import random
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from support.adminapi import BASE, form, packed
from support.commands import environment
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PORT = re.compile(r"(listening on http|admin API on https)://127\.0\.0\.1:(\d+)")
_LISTENERS = {"listening on http": "http", "admin API on https": "admin"}
NAMES = ("First", "Second", "Third")
MARKER = "Marker"
HOSTS = ("localhost", "us.wso2.com")
AUTHORIZATION = "Basic " + base64.b64encode(b"admin:admin").decode()
LONGEST = 5  # changes for which things are deployed until something is killed, at most
State = dict[tuple[str, str], str]  # (name, host) → its topic, which tells the version


class Crashes:
    """What has been answered, what was under way when something died, and whether it is so."""

    def __init__(self, base: Path, seed: int, workers: int = 1) -> None:
        self._base = base
        self._workers = workers
        self._random = random.Random(seed)
        self._certain: State = {}
        self._maybe: State = {}
        self._version = 0
        self._pace = 0.1  # seconds that a change takes, about
        self.kills = self.answered = 0
        self.starts: list[float] = []  # seconds until each gateway was ready
        self._tls = ssl.create_default_context(cafile=str(base / "certs" / "mg.pem"))

    def run(self, rounds: int) -> Iterator[int]:
        """Kill as often as asked for; gives the number of rounds after each."""
        with Forked(self._base) as forked:
            for done in range(rounds):
                self._round(forked)
                yield done + 1

    def _round(self, forked: Forked) -> None:
        """Start, compare with what was answered, change things, kill at a random moment.

        With one worker everything is killed; of several the supervisor, so that the workers end
        by themselves, or first a worker, which is replaced, and then everything at once.
        """
        began = time.monotonic()
        pid, port = forked.start(TRIO_GW_WORKERS=str(self._workers))
        self.starts.append(time.monotonic() - began)
        try:
            self._compare(port)
            self._look_for_strays()
            if self._workers == 1:
                self._deploy_until_killed(port, lambda: os.killpg(pid, signal.SIGKILL))
            elif self._random.random() < 0.5:
                self._deploy_until_killed(port, lambda: os.kill(pid, signal.SIGKILL))
            else:
                worker = self._random.choice(children(pid))
                self._deploy_until_killed(port, lambda: os.kill(worker, signal.SIGKILL))
                self._mark(port)
                self._compare(port)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            code = forked.wait()
        assert code == -signal.SIGKILL

    def _deploy_until_killed(self, port: int, kill: Callable[[], None]) -> None:
        killed = threading.Event()

        def strike() -> None:
            kill()
            killed.set()

        killer = threading.Timer(self._random.uniform(0, LONGEST * self._pace), strike)
        killer.start()
        while (maybe := self._change(port)) is None:
            # The other worker may serve on, and never let a change fail.
            if self._workers > 1 and killed.is_set():
                maybe = self._certain
                break
        self._maybe = maybe
        killer.join()
        self.kills += 1

    def _compare(self, port: int) -> None:
        """Find exactly what was answered, perhaps with the change that was under way."""
        found = self._served(port)
        assert found in (self._certain, self._maybe), (found, self._certain, self._maybe)
        self._certain = self._maybe = found

    def _mark(self, port: int) -> None:
        """Make another change: once it is answered, all workers serve the same."""
        body, kind = form(self._zipped(MARKER, "/x", HOSTS))
        headers = {"Authorization": AUTHORIZATION, "Content-Type": kind}
        while True:
            try:
                status, _ = self._ask(port, "POST", f"{BASE}/apis?override=true", body, headers)
            except (OSError, http.client.HTTPException):
                continue  # it waited for the worker that was killed
            assert status == 200
            return

    def _change(self, port: int) -> State | None:
        """Make one change; returns what may be if the gateway died before it answered."""
        name = self._random.choice(NAMES)
        hosts = self._random.choice((HOSTS, HOSTS[:1], HOSTS[1:]))
        after = dict(self._certain)
        headers = {"Authorization": AUTHORIZATION}
        if self._random.random() < 0.25:
            vhost = hosts[0] if len(hosts) == 1 else ""
            for host in hosts:
                after.pop((name, host), None)
            query = {"apiName": name, "environments": "", "version": "1.0.0", "vhost": vhost}
            request = ("DELETE", f"{BASE}/apis?{urlencode(query)}", b"")
        else:
            self._version += 1
            topic = f"/v{self._version}"
            for host in hosts:
                after[name, host] = topic
            body, headers["Content-Type"] = form(self._zipped(name, topic, hosts))
            request = ("POST", f"{BASE}/apis?override=true", body)
        began = time.monotonic()
        try:
            status, body = self._ask(port, *request, headers)
        except (OSError, http.client.HTTPException):
            return after
        assert status in ((200, 404) if request[0] == "DELETE" else (200,)), body
        self._pace = (self._pace + time.monotonic() - began) / 2
        self._certain = after
        self.answered += 1
        return None

    def _zipped(self, name: str, topic: str, hosts: tuple[str, ...]) -> bytes:
        meta = api(name, f"/{name.lower()}", "ws://localhost:1")
        project = write(self._base / "aside", name, meta, asyncapi({topic: {"publish": {}}}))
        data = [{"deploymentEnvironment": "Default", "deploymentVhost": host} for host in hosts]
        (project / "deployment_environments.yaml").write_text(json.dumps({"data": data}))
        return packed(project, name)

    def _served(self, port: int) -> State:
        headers = {"Authorization": AUTHORIZATION}
        status, body = self._ask(port, "GET", "/admin/apis", b"", headers)
        assert status == 200
        served = {
            (one["api"].partition(":")[0], one["host"]): one["topics"][0]
            for one in json.loads(body)
        }
        return {key: topic for key, topic in served.items() if key[0] != MARKER}

    def _look_for_strays(self) -> None:
        folder = self._base / "deployed"
        if not folder.exists():
            return
        index = folder / "index.json"
        named: set[str] = set()
        if index.exists():
            named = {entry["file"] for entry in json.loads(index.read_text())["entries"]}
        found = set(os.listdir(folder)) - {".lock", "history", "index.json", "precedence.json"}
        assert found == named

    def _ask(
        self, port: int, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, Any]:
        connection = http.client.HTTPSConnection("localhost", port, timeout=30, context=self._tls)
        try:
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


class Forked:
    """Starts gateways in `base`, one after the other (`support.forked`)."""

    def __init__(self, base: Path) -> None:
        self._log = base / "log"
        quick = {"TRIO_GW_TIMEOUTS_DRAIN": "0.1", "TRIO_GW_TIMEOUTS_CLOSE": "0.1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("forked.py"))],
            cwd=base,
            env=environment(**quick),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def start(self, **variables: str) -> tuple[int, int]:
        """Start one; returns, when it is ready, its pid and its admin port."""
        assert self._process.stdin is not None
        self._log.unlink(missing_ok=True)
        self._process.stdin.write(json.dumps([str(self._log), variables]) + "\n")
        self._process.stdin.flush()
        pid = self._line()
        workers = int(variables["TRIO_GW_WORKERS"])
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if ports := ready(self._log, workers):
                return pid, ports["admin"]
            time.sleep(0.005)
        os.killpg(pid, signal.SIGKILL)
        raise AssertionError(self._log.read_text())

    def wait(self) -> int:
        """Wait until the one that was started is gone, with its workers; returns its exit code."""
        return self._line()

    def _line(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


def children(pid: int) -> list[int]:
    """List the processes that a process has started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ready(log: Path, workers: int) -> dict[str, int]:
    """Read the ports by listener from the log of a gateway; nothing before all is ready."""
    text = log.read_text() if log.exists() else ""
    if workers > 1 and sum(line.endswith(" ready") for line in text.splitlines()) < workers:
        return {}
    ports = {_LISTENERS[name]: int(port) for name, port in _PORT.findall(text)}
    return ports if "admin" in ports else {}


def start(base: Path, **variables: str) -> tuple[subprocess.Popen[bytes], dict[str, int]]:
    """Start `trio-gw run` in `base`; returns when it is ready, with its ports by listener."""
    log = base / "log"
    quick = {"TRIO_GW_TIMEOUTS_DRAIN": "0.1", "TRIO_GW_TIMEOUTS_CLOSE": "0.1"}
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "trio_gw", "run"],
            cwd=base,
            env=environment(**quick, **variables),
            stdout=file,
            stderr=file,
        )
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if ports := ready(log, int(variables.get("TRIO_GW_WORKERS", "1"))):
            return process, ports
        if process.poll() is not None:
            break
        time.sleep(0.02)
    process.kill()
    process.wait()
    raise AssertionError(log.read_text())
