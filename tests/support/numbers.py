"""What `/metrics` says, read by the library's own strict parser."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import trio
from prometheus_client.openmetrics.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Mapping


def samples(text: bytes) -> dict[str, list[tuple[Mapping[str, str], float]]]:
    """Read an exposition: by sample name the labels and values."""
    found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def total(text: bytes, name: str, **labels: str) -> float:
    """Add up the samples of this name that have these labels."""
    return sum(
        value
        for found, value in samples(text).get(name, [])
        if labels.items() <= dict(found).items()
    )


def by(text: bytes, name: str, label: str) -> Counter[str]:
    """Add up the samples of this name by one of their labels."""
    found: Counter[str] = Counter()
    for labels, value in samples(text).get(name, []):
        found[labels[label]] += int(value)
    return found


async def scraped(port: int) -> bytes:
    """Ask a listener for metrics of this machine; returns the exposition."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    answer = bytearray()
    async with stream:
        await stream.send_all(b"GET /metrics HTTP/1.1\r\nHost: m\r\n\r\n")
        async for data in stream:
            answer += data
    return bytes(answer).partition(b"\r\n\r\n")[2]
