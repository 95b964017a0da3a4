"""Gateways that are killed while the portal deploys, rolls back, and sets states.

Also what `scripts/bench/lifecycle_crashes.py` runs for longer.
"""

from __future__ import annotations

import http.client
import json
import time
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from support.adminapi import BASE
from support.crashes import AUTHORIZATION, MARKER, NAMES, Crashes, State
from support.projects import api, asyncapi
from trio_gw.config.lifecycle import STEPS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

HOST = "localhost"
KEPT = 20  # the default of `portal.revisions`
Request = tuple[str, str, bytes, dict[str, str]]


class LifecycleCrashes(Crashes):
    """Each API is known by its topic, which tells the version, and by its state.

    After each start every answered revision must be listed, with its zip on the disk.
    """

    def __init__(self, base: Path, seed: int, workers: int = 1) -> None:
        super().__init__(base, seed, workers)
        self._folder = base / "deployed"
        self._revisions: dict[str, dict[int, str]] = {name: {} for name in NAMES}
        self._cookie = ""

    def _served(self, port: int) -> State:
        status, body = self._ask(port, "GET", "/admin/apis", b"", {"Authorization": AUTHORIZATION})
        assert status == 200
        served = {
            (one["api"].partition(":")[0], one["host"]): f"{one['topics'][0]} {one['lifecycle']}"
            for one in json.loads(body)
        }
        return {key: text for key, text in served.items() if key[0] != MARKER}

    def _compare(self, port: int) -> None:
        super()._compare(port)
        for name in NAMES:
            if (name, HOST) in self._certain:
                self._compare_revisions(port, name)

    def _compare_revisions(self, port: int, name: str) -> None:
        """Find every revision that was answered, the latest first, each with its zip."""
        query = urlencode({"apiName": name, "version": "1.0.0"})
        status, body = self._ask(
            *(port, "GET", f"{BASE}/apis/revisions?{query}", b""),
            {"Authorization": AUTHORIZATION},
        )
        assert status == 200, body
        listed = [one["number"] for one in json.loads(body)["list"]]
        assert listed == sorted(set(listed), reverse=True)
        answered = [number for number in self._revisions[name] if number > listed[0] - KEPT]
        assert set(answered) <= set(listed), (name, answered, listed)
        for path in self._folder.glob("history/*/revisions.json"):
            for one in json.loads(path.read_text())["revisions"]:
                assert (path.parent / one["file"]).is_file(), one

    def _deploy_until_killed(self, port: int, kill: Callable[[], None]) -> None:
        self._cookie = self._log_in(port)  # the first request loads the portal
        assert self._change(port) is None  # the first one may be slow: nothing is killed yet
        super()._deploy_until_killed(port, kill)

    def _change(self, port: int) -> State | None:
        name = self._random.choice(NAMES)
        before = self._certain.get((name, HOST), "")
        kinds = ["deploy", "deploy"]
        if before:
            kinds += ["rollback", "state", "state", "undeploy"]
        kind = self._random.choice(kinds)
        after = dict(self._certain)
        topic, _, state = before.partition(" ")
        if kind == "deploy":
            self._version += 1
            topic, state = f"/v{self._version}", state or "PUBLISHED"
            after[name, HOST] = f"{topic} {state}"
            request = self._deploying(port, name, topic)
        elif kind == "undeploy":
            del after[name, HOST]
            query = {"apiName": name, "environments": "", "version": "1.0.0", "vhost": ""}
            request = self._rest("DELETE", "", query)
        elif kind == "rollback":
            number = self._random.choice(list(self._revisions[name])[-5:] or [0])
            topic = self._revisions[name].get(number, "")
            if not topic:
                return None
            after[name, HOST] = f"{topic} {state}"
            request = self._rest("POST", "/rollback", self._named(name, revision=str(number)))
        else:
            state = self._random.choice([one for one in STEPS[state] if one != "RETIRED"])  # type: ignore[index]
            after[name, HOST] = f"{topic} {state}"
            request = self._rest("PUT", "/lifecycle", self._named(name, state=state))
        began = time.monotonic()
        try:
            status, body = self._ask(port, *request)
        except (OSError, http.client.HTTPException):
            return after
        if status == 503 and self._workers > 1:  # others wait for the worker that was killed
            return after
        assert status == 200, body
        if kind in ("deploy", "rollback"):
            self._revisions[name][json.loads(body)["number"]] = topic
        self._pace = (self._pace + time.monotonic() - began) / 2
        self._certain = after
        self.answered += 1
        return None

    def _named(self, name: str, **more: str) -> dict[str, str]:
        return {"apiName": name, "version": "1.0.0", **more}

    def _rest(self, method: str, path: str, query: Mapping[str, str]) -> Request:
        url = f"{BASE}/apis{path}?{urlencode(query)}"
        return method, url, b"", {"Authorization": AUTHORIZATION}

    def _deploying(self, port: int, name: str, topic: str) -> Request:
        """Deploy as the pages of the portal do, with a session."""
        files = {
            "api.yaml": json.dumps(api(name, f"/{name.lower()}", "ws://localhost:1")),
            "Definitions/asyncapi.yaml": json.dumps(asyncapi({topic: {"publish": {}}})),
        }
        headers = {
            "Cookie": self._cookie,
            "Content-Type": "application/json",
            "Origin": f"https://localhost:{port}",
            "X-Trio-GW": "1",
        }
        body = json.dumps({"files": files, "override": True, "note": topic}).encode()
        return "POST", "/portal/api/deployments", body, headers

    def _log_in(self, port: int) -> str:
        connection = http.client.HTTPSConnection("localhost", port, timeout=30, context=self._tls)
        try:
            headers = {
                "Content-Type": "application/x-www-form-urlencoded",
                "Origin": f"https://localhost:{port}",
            }
            body = urlencode({"user": "admin", "password": "admin"})
            connection.request("POST", "/portal/login", body, headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 303
            return (answer.headers["Set-Cookie"] or "").partition(";")[0]
        except (OSError, http.client.HTTPException):
            return ""  # it was killed meanwhile
        finally:
            connection.close()
