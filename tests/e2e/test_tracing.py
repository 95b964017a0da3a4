"""Traces as a collector and a backend see them: phases, parents, and what a client may name."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from support.backends import Backend, start_echo
from support.collector import Collected, Collector, start_collector
from support.commands import Serving, gw, port_of, start
from support.gateway import RunningGateway, start_gateway
from support.numbers import total
from support.projects import api, asyncapi, write

if TYPE_CHECKING:
    from pathlib import Path

TOPICS = {"/a": {"publish": {}, "x-auth-type": "None"}, "/secret": {"publish": {}}}
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
STATE = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
PHASES = ["head", "route", "authenticate", "admit", "dial", "upgrade"]
SERVER, CLIENT = 2, 3  # kinds of spans


@pytest.fixture
async def collector(nursery: trio.Nursery) -> Collector:
    return await start_collector(nursery)


@pytest.fixture
async def echo(nursery: trio.Nursery, base: Path) -> Backend:
    backend = await start_echo(nursery)
    write(base / "apis", "one", api("One", "/one", backend.url), asyncapi(TOPICS))
    write(base / "apis", "gone", api("Gone", "/gone", "ws://127.0.0.1:1"), asyncapi(TOPICS))
    return backend


async def traced(
    nursery: trio.Nursery, base: Path, collector: Collector, **tracing: Any
) -> RunningGateway:
    return await start_gateway(nursery, base, tracing={"endpoint": collector.url, **tracing})


def family(spans: list[Collected]) -> tuple[Collected, dict[str, Collected]]:
    """Find the one span that is nobody's child here, and its children by name."""
    ids = {span.span_id for span in spans}
    assert len(ids) == len(spans)
    (root,) = [span for span in spans if span.parent not in ids]
    children = {span.name: span for span in spans if span is not root}
    assert {span.parent for span in children.values()} <= {root.span_id}
    assert {span.trace_id for span in spans} == {root.trace_id}
    return root, children


async def test_a_handshake(
    collector: Collector, echo: Backend, base: Path, nursery: trio.Nursery
) -> None:
    gateway = await traced(nursery, base, collector, service_name="edge")
    headers = {"traceparent": PARENT, "tracestate": STATE, "x-request-id": "id-1"}
    async with gateway.connect(
        "/one/1.0.0/secret?not=told", gateway.token(), additional_headers=headers
    ) as client:
        await client.send("while it is open")
        assert await client.recv() == "while it is open"
        root, phases = family(await collector.wait(7))
    assert list(phases) == PHASES
    assert (root.trace_id, root.parent, root.state) == (TRACE, SPAN, STATE)
    assert (root.name, root.kind, root.failed) == ("GET /one/1.0.0/secret", SERVER, False)
    assert root.resource["service.name"] == "edge"
    assert (
        root.attributes.items()
        >= {
            "http.request.method": "GET",
            "http.response.status_code": 101,
            "http.route": "/one/1.0.0/secret",
            "url.path": "/one/1.0.0/secret",
            "trio_gw.api": "One",
            "trio_gw.version": "1.0.0",
            "trio_gw.request_id": "id-1",
        }.items()
        or root.attributes["client.address"] == "::1"
    )
    assert "not" not in str(root.attributes)
    assert phases["dial"].kind == CLIENT
    assert phases["dial"].attributes["trio_gw.backend"] == echo.url
    # One after the other, from the first to the last moment.
    assert phases["head"].begun == root.begun
    assert phases["upgrade"].ended == root.ended
    for before, after in itertools.pairwise(PHASES):
        assert phases[before].begun <= phases[before].ended == phases[after].begun
    seen = echo.requests[0].headers
    assert seen.get_all("traceparent") == [f"00-{TRACE}-{phases['dial'].span_id}-01"]
    assert seen.get_all("tracestate") == [STATE]


@pytest.mark.parametrize(
    "named",
    [
        [],
        [("traceparent", "")],
        [("traceparent", PARENT.upper())],
        [("traceparent", PARENT + "-more")],
        [("traceparent", f"ff-{TRACE}-{SPAN}-01")],
        [("traceparent", f"00-{'0' * 32}-{SPAN}-01"), ("tracestate", STATE)],
        [("traceparent", f"00-{TRACE}-{'0' * 16}-01")],
        [("traceparent", f"01-{TRACE}-{SPAN}-01-" + "x" * 4000)],
        [("traceparent", PARENT), ("Traceparent", PARENT)],
        [("tracestate", STATE)],
    ],
)
async def test_what_names_no_trace_begins_a_new_one(
    named: list[tuple[str, str]], collector: Collector, echo: Backend, base: Path,
    nursery: trio.Nursery,
) -> None:  # fmt: skip
    gateway = await traced(nursery, base, collector)
    extra = "".join(f"{name}: {value}\r\n" for name, value in named).encode()
    async with await gateway.upgrade("/one/1.0.0/a", extra=extra):
        root, phases = family(await collector.wait(7))
    assert root.trace_id != TRACE
    assert (root.parent, root.state) == ("", "")
    seen = echo.requests[0].headers
    (told,) = seen.get_all("traceparent")
    # The second bit says that the number is random, which that of a client need not be.
    assert told.startswith(f"00-{root.trace_id}-{phases['dial'].span_id}-0")
    assert int(told[-2:], 16) & 1
    assert seen.get_all("tracestate") == []


async def test_a_state_that_is_too_long_is_left_out(
    collector: Collector, echo: Backend, base: Path, nursery: trio.Nursery
) -> None:
    gateway = await traced(nursery, base, collector)
    state = ",".join(f"key{number}={'v' * 60}" for number in range(20))
    extra = f"traceparent: {PARENT}\r\ntracestate: {state}\r\n".encode()
    async with await gateway.upgrade("/one/1.0.0/a", extra=extra):
        root, _ = family(await collector.wait(7))
    assert (root.trace_id, root.state) == (TRACE, "")
    assert echo.requests[0].headers.get_all("tracestate") == []


async def test_refusals(
    collector: Collector, echo: Backend, base: Path, nursery: trio.Nursery
) -> None:
    gateway = await traced(nursery, base, collector)
    assert (await gateway.get("/health")).status == 200  # not worth a trace

    async def refused(path: str, status: int, last: str) -> Collected:
        del collector.spans[:]
        assert (await gateway.ask(gateway.handshake(path))).status == status
        phases = PHASES[: PHASES.index(last) + 1]
        root, children = family(await collector.wait(len(phases) + 1))
        assert list(children) == phases
        assert root.attributes["http.response.status_code"] == status
        return root

    root = await refused("/one/1.0.0/secret", 401, "authenticate")
    assert root.attributes["error.type"] == root.attributes["trio_gw.error"] == "900901"
    assert not root.failed, "the client's own fault"
    root = await refused("/gone/1.0.0/a", 503, "dial")
    assert root.attributes["trio_gw.error"] == "102503"
    assert root.failed
    root = await refused("/nowhere", 404, "route")
    assert root.name == "GET"


@pytest.mark.parametrize(
    ("ratio", "parent", "sampled"),
    [(0.0, "", 0), (1.0, f"00-{TRACE}-{SPAN}-00", 0), (0.0, PARENT, 1), (1.0, "", 1)],
)
async def test_sampling(
    ratio: float, parent: str, sampled: int, collector: Collector, echo: Backend, base: Path,
    nursery: trio.Nursery,
) -> None:  # fmt: skip
    gateway = await traced(nursery, base, collector, sample_ratio=ratio)
    extra = f"traceparent: {parent}\r\n".encode() if parent else b""
    async with await gateway.upgrade("/one/1.0.0/a", extra=extra):
        (seen,) = echo.requests[0].headers.get_all("traceparent")
        version, trace, span, flags = seen.split("-")
    assert (version, int(flags, 16) & 1) == ("00", sampled)
    assert (trace == TRACE) is bool(parent)
    assert span != SPAN
    gateway.stop.set()
    await collector.wait(7 * sampled)
    with trio.fail_after(10):
        while gateway.running.sessions:
            await trio.testing.wait_all_tasks_blocked(0.01)
    assert len(collector.spans) == 7 * sampled


async def test_a_collector_that_is_down_and_back(
    collector: Collector, echo: Backend, base: Path, nursery: trio.Nursery
) -> None:
    gateway = await traced(nursery, base, collector)
    metrics = gateway.running.metrics
    assert metrics is not None
    collector.status = 400  # not tried again, as 503 would be
    async with await gateway.upgrade("/one/1.0.0/a"):
        pass
    with trio.fail_after(10):
        while total(metrics.exposition(), "trio_gw_dropped_events_total", queue="traces") < 7:
            await trio.testing.wait_all_tasks_blocked(0.01)
    collector.status = 200
    async with await gateway.upgrade("/one/1.0.0/a"):
        family(await collector.wait(7))
    assert total(metrics.exposition(), "trio_gw_dropped_events_total", queue="traces") == 7


async def test_a_stop_sends_what_waits(
    collector: Collector, base: Path, echo: Backend, running: list[Serving]
) -> None:
    environment = {"TRIO_GW_TRACING_ENDPOINT": collector.url, "TRIO_GW_WORKERS": "2"}
    serving = await start(base, "run", **environment)
    running.append(serving)
    port = port_of(await serving.read_until("err", "listening on https://["))
    while serving.err.count(": ready") < 2:
        await serving.read_until("err", "ready")
        assert serving.process.stderr is not None
        if serving.err.count(": ready") < 2:
            serving.err += (await serving.process.stderr.receive_some()).decode()
    for _ in range(5):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.send_all(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 404 ")
    serving.process.terminate()
    with trio.fail_after(20):
        assert await serving.process.wait() == 0
    assert len(await collector.wait(15)) == 15
    assert {span.name for span in collector.spans} == {"GET", "head", "route"}


@pytest.fixture
def without_library(tmp_path: Path) -> str:
    """A folder to be looked in first, whose `opentelemetry` has nothing in it."""
    (tmp_path / "shadow" / "opentelemetry").mkdir(parents=True)
    (tmp_path / "shadow" / "opentelemetry" / "__init__.py").write_text("")
    return str(tmp_path / "shadow")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_without_the_library_it_says_so(workers: str, base: Path, without_library: str) -> None:
    done = gw(
        base, "run", PYTHONPATH=without_library, TRIO_GW_WORKERS=workers,
        TRIO_GW_TRACING_ENDPOINT="http://localhost:4318/v1/traces",
    )  # fmt: skip
    assert done.returncode == 1
    assert (
        "tracing.endpoint is set, but OpenTelemetry is not installed;"
        " run: pip install 'trio-gw[otel]'; or leave [tracing] out"
    ) in done.stderr
    assert "Traceback" not in done.stderr


async def test_without_tracing_the_library_is_not_needed_and_headers_pass(
    base: Path, echo: Backend, without_library: str, running: list[Serving]
) -> None:
    serving = await start(base, "run", PYTHONPATH=without_library)
    running.append(serving)
    port = port_of(await serving.read_until("err", "listening on https://["))
    sent = [("traceparent", "anything"), ("tracestate", "a=1"), ("tracestate", "b=2")]
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent)
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(
            b"GET /one/1.0.0/a HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + lines.encode() + b"\r\n"
        )
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 101 ")
    seen = echo.requests[0].headers
    assert [(name, value) for name, value in seen.raw_items() if name.startswith("trace")] == sent
