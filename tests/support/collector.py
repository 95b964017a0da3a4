"""A collector of traces: takes OTLP over HTTP, and decodes it with the format's own library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)

from support.backends import start_raw
from support.posts import Posts
from support.secrets import wrote

if TYPE_CHECKING:
    from support.backends import Backend


class Collected:
    """One span as it came."""

    def __init__(self, span: Any, resource: dict[str, Any]) -> None:
        self.name: str = span.name
        self.trace_id: str = span.trace_id.hex()
        self.span_id: str = span.span_id.hex()
        self.parent: str = span.parent_span_id.hex()
        self.state: str = span.trace_state
        self.kind: int = span.kind
        self.failed: bool = span.status.code == 2
        self.begun: int = span.start_time_unix_nano
        self.ended: int = span.end_time_unix_nano
        self.resource = resource
        self.attributes = _values(span.attributes)
        wrote(f"{self.name} {span.attributes}", "traces")


class Collector:
    """What has come so far. `deaf` keeps it from answering, `status` is what it answers."""

    def __init__(self) -> None:
        self.spans: list[Collected] = []
        self.deaf = False
        self.status = 200
        self._came = trio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/traces"

    async def wait(self, count: int) -> list[Collected]:
        """Wait until so many spans have come."""
        with trio.fail_after(60):
            while len(self.spans) < count:
                self._came = trio.Event()
                await self._came.wait()
        return self.spans

    async def serve(self, stream: trio.SocketStream) -> None:
        posts = Posts(stream)
        while (post := await posts.next()) is not None:
            lines, body = post
            assert lines[0] == b"post /v1/traces http/1.1"
            assert b"content-type: application/x-protobuf" in lines
            if self.deaf:
                await trio.sleep_forever()
            if self.status == 200:
                self._take(ExportTraceServiceRequest.FromString(body))
            await stream.send_all(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % self.status)

    def _take(self, request: ExportTraceServiceRequest) -> None:
        for group in request.resource_spans:
            resource = _values(group.resource.attributes)
            for scope in group.scope_spans:
                assert scope.scope.name == "trio_gw"
                self.spans += [Collected(span, resource) for span in scope.spans]
        self._came.set()


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in pairs}


async def start_collector(nursery: trio.Nursery) -> Collector:
    """Start one on a free port."""
    collector = Collector()
    backend: Backend = await start_raw(nursery, collector.serve)
    collector.port = backend.port
    return collector
