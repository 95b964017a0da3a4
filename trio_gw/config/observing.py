"""The settings of logs, metrics, analytics and traces."""

from __future__ import annotations

import msgspec


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The format and level of log lines, and the form of access log lines.

    `format` is `auto` (text on a terminal, JSON otherwise), `text` or `json`. `access` is `own`,
    `reference` (bare lines on standard output, spec: frames §8) or `off`.
    """

    format: str = "auto"
    level: str = "info"
    access: str = "own"


class MetricsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether metrics are counted, where they are served, and the maximum of series per metric.

    `listen` is `host:port` of a plain listener for `/metrics` alone; empty turns it off.
    """

    enabled: bool = True
    listen: str = ""
    series: int = 1000


class AnalyticsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Events about connections and traffic, and their sinks. Its repr hides the token.

    `detail` is `interval` (totals every `interval` seconds) or `frames` (an event for each data
    frame). `sinks` are `file` and `http`; `format` is that of the file, `json` or `elk`.
    """

    enabled: bool = False
    detail: str = "interval"
    interval: float = 60.0
    sinks: tuple[str, ...] = ("file",)
    queue: int = 10_000  # events waiting for one sink
    batch: int = 500
    file: str = "logs/analytics.jsonl"
    format: str = "json"
    max_bytes: int = 100_000_000  # of the file, before it is rotated
    keep: int = 5  # rotated files
    url: str = ""
    token: str = ""
    region: str = "UNKNOWN"

    def __repr__(self) -> str:
        return f"Analytics(enabled={self.enabled!r}, sinks={self.sinks!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("enabled", self.enabled), ("sinks", self.sinks)]


class TracingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Spans of OpenTelemetry; off without `endpoint`, the URL of the collector (OTLP over HTTP).

    `console` writes them to standard output. `sample_ratio` is the part of new traces that are
    recorded; for traces of clients their sampling flag decides.
    """

    endpoint: str = ""
    sample_ratio: float = 1.0
    service_name: str = "trio-gw"
