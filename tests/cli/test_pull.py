"""`trio-gw pull`: what an operator runs first, against an API Manager and a broker."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trio

from support.apim import FakeApiManager, Fault, start_apim
from support.commands import gw as run_command
from support.databridge import Sink

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from support.rabbitmq import RabbitMQ

pytestmark = pytest.mark.xdist_group("rabbitmq")

BACKEND = "ws://127.0.0.1:9"


class Operator:
    """A folder with settings for this API Manager, and the command."""

    def __init__(self, base: Path, apim: FakeApiManager, events: list[str]) -> None:
        self.base = base
        self.apim = apim
        self.events = events
        self.table: dict[str, Any] = {}
        self.throttling: dict[str, Any] = {}

    async def pull(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        table = self.apim.settings(self.base, events=self.events, **self.table)
        lines = ["[control_plane]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
        lines.append("[control_plane.throttling]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in self.throttling.items()]
        (self.base / "gateway.toml").write_text("\n".join(lines))
        return await trio.to_thread.run_sync(
            lambda: run_command(self.base, "pull", *arguments, **more)
        )


@pytest.fixture
async def operator(tmp_path: Path, nursery: trio.Nursery, rabbitmq: RabbitMQ) -> Operator:
    apim = await start_apim(nursery)
    apim.seed(BACKEND)
    return Operator(tmp_path, apim, [rabbitmq.url()])


async def test_what_would_be_served(operator: Operator) -> None:
    done = await operator.pull()
    assert done.returncode == 0, done.stderr
    assert "localhost/chat/1.0.0/*" in done.stdout
    assert BACKEND in done.stdout
    assert ": connected\n" in done.stderr
    said = "APIs 1, applications 1, key mappings 1, subscriptions 1, policies 3, key managers 0"
    assert said in done.stderr
    # Nothing is left behind.
    assert {path.name for path in operator.base.iterdir()} == {"gateway.toml", "apim-ca.pem"}


async def test_as_json(operator: Operator) -> None:
    operator.table = {"environments": ["Edge"]}
    operator.apim.deploy("uuid", ("Edge", "ws.example"), backend=BACKEND, context="/edge")
    done = await operator.pull("--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"]) == (0, True), report
    assert report["counts"]["apis"] == 1
    assert [(row["host"], row["path"]) for row in report["routes"]] == [
        ("ws.example", "/edge/1.0.0/*")
    ]
    assert [broker["connected"] for broker in report["brokers"]] == [True]
    assert report["problems"] == []


async def test_a_broken_api_is_named_and_the_others_are_listed(operator: Operator) -> None:
    uuid = "6c1f0e2e-0001-4c5e-9a10-000000000002"
    operator.apim.deploy(uuid, name="Broken", context="/broken", backend="no address")
    done = await operator.pull()
    assert done.returncode == 1
    assert "localhost/chat/1.0.0/*" in done.stdout
    assert "/broken" not in done.stdout
    assert "Broken-1.0.0-" in done.stderr


async def test_a_wrong_password_names_its_setting(operator: Operator) -> None:
    operator.table = {"password": "not-this-one"}
    done = await operator.pull("--timeout", "5")
    assert done.returncode == 1
    assert "control_plane.password" in done.stderr
    assert "APIs" not in done.stderr  # nothing is known of them
    assert "not-this-one" not in done.stdout + done.stderr
    # A password from the environment wins.
    done = await operator.pull(TRIO_GW_CONTROL_PLANE_PASSWORD="admin")
    assert done.returncode == 0, done.stderr


async def test_an_api_manager_that_is_away(operator: Operator) -> None:
    operator.table = {"url": "https://localhost:9/"}
    done = await operator.pull("--timeout", "2")
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert "check control_plane.url" in done.stderr
    assert ": connected\n" in done.stderr  # the broker is there
    assert "Traceback" not in done.stderr
    assert "APIs" not in done.stderr


async def test_an_api_manager_that_does_not_answer(operator: Operator) -> None:
    operator.apim.fault("subscriptions", Fault(times=-1, gate=trio.Event()))
    done = await operator.pull("--timeout", "2")
    assert done.returncode == 1
    assert "the pull takes too long" in done.stderr


@pytest.mark.parametrize("second", [True, False])
async def test_a_broker_that_is_away(operator: Operator, second: bool) -> None:
    away = "amqp://admin:hidden-one@localhost:9/?retries='1'&connectdelay='1'"
    operator.events = [away, *(operator.events if second else ())]
    done = await operator.pull("--timeout", "10")
    # Another broker is enough; then the first is only a warning.
    assert done.returncode == (0 if second else 1), done.stderr
    assert f"amqp://localhost:9: {'warning: ' if second else ''}Connection refused" in done.stderr
    assert "control_plane.events" in done.stderr
    assert "hidden-one" not in done.stderr


async def test_a_broker_that_refuses_the_password(operator: Operator) -> None:
    operator.events = [operator.events[0].replace("admin:admin@", "admin:hidden-one@")]
    done = await operator.pull()
    assert done.returncode == 1
    assert "password" in done.stderr
    assert "hidden-one" not in done.stderr


@pytest.mark.parametrize("refuse", [False, True])
async def test_the_receivers_of_the_traffic_manager(
    operator: Operator, nursery: trio.Nursery, refuse: bool
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    operator.apim.ca.issue_cert("localhost").configure_cert(context)
    sink = Sink()
    sink.refuse = refuse
    await nursery.start(sink.run, context)
    operator.throttling = {"enabled": True, "publish": [sink.publish], "login": [sink.login]}
    done = await operator.pull("--json")
    report = json.loads(done.stdout)
    assert [one["connected"] for one in report["receivers"]] == [not refuse]
    assert done.returncode == (1 if refuse else 0), report
    if refuse:
        (problem,) = report["problems"]
        assert problem["what"] == f"localhost:{sink.login_port}: it refuses user or password"
        assert "control_plane.throttling" in problem["hint"]
    assert sink.events == []


def test_without_a_control_plane(tmp_path: Path) -> None:
    done = run_command(tmp_path, "pull")
    assert done.returncode == 1
    assert "control_plane.url is not given" in done.stderr


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "3601", "x"])
def test_a_wrong_timeout(tmp_path: Path, seconds: str) -> None:
    assert run_command(tmp_path, "pull", "--timeout", seconds).returncode == 2
