"""A gateway in a process of its own that is killed while things are deployed to it.

Also what `scripts/bench/crashes.py` runs for longer.
"""

from __future__ import annotations

import base64
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
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from support.adminapi import BASE, form, packed
from support.commands import environment
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from pathlib import Path

_PORT = re.compile(r"(listening on http|admin API on https)://127\.0\.0\.1:(\d+)")
_LISTENERS = {"listening on http": "http", "admin API on https": "admin"}
NAMES = ("First", "Second", "Third")
HOSTS = ("localhost", "us.wso2.com")
AUTHORIZATION = "Basic " + base64.b64encode(b"admin:admin").decode()
State = dict[tuple[str, str], str]  # (name, host) → its topic, which tells the version


class Crashes:
    """What has been answered, what was under way when the gateway died, and whether it is so."""

    def __init__(self, base: Path, seed: int) -> None:
        self._base = base
        self._random = random.Random(seed)
        self._certain: State = {}
        self._maybe: State = {}
        self._version = 0
        self.kills = self.answered = 0
        context = ssl.create_default_context(cafile=str(base / "certs" / "mg.pem"))
        self._tls = context

    def round(self) -> None:
        """Start, compare with what was answered, change things, kill at a random moment."""
        process, ports = start(self._base)
        port = ports["admin"]
        try:
            found = self._served(port)
            assert found in (self._certain, self._maybe), (found, self._certain, self._maybe)
            self._certain = found
            self._look_for_strays()
            killer = threading.Timer(self._random.uniform(0.02, 0.6), process.kill)
            killer.start()
            while (maybe := self._change(port)) is None:
                pass
            self._maybe = maybe
            killer.join()
        finally:
            process.kill()
            process.wait()
        assert process.returncode == -signal.SIGKILL
        self.kills += 1

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
        try:
            status, body = self._ask(port, *request, headers)
        except (OSError, http.client.HTTPException):
            return after
        assert status in ((200, 404) if request[0] == "DELETE" else (200,)), body
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
        return {
            (one["api"].partition(":")[0], one["host"]): one["topics"][0]
            for one in json.loads(body)
        }

    def _look_for_strays(self) -> None:
        folder = self._base / "deployed"
        if not folder.exists():
            return
        index = folder / "index.json"
        named: set[str] = set()
        if index.exists():
            named = {entry["file"] for entry in json.loads(index.read_text())["entries"]}
        found = set(os.listdir(folder)) - {".lock", "index.json"}
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
    ready = int(variables.get("TRIO_GW_WORKERS", "1"))
    until = time.monotonic() + 60
    while time.monotonic() < until:
        text = log.read_text()
        if ready == 1 or sum(line.endswith(" ready") for line in text.splitlines()) == ready:
            found = dict(_PORT.findall(text))
            ports = {_LISTENERS[name]: int(port) for name, port in found.items()}
            if "admin" in ports:
                return process, ports
        assert process.poll() is None, text
        time.sleep(0.02)
    raise AssertionError(log.read_text())
