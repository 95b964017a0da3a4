"""Rules of the tables about what a gateway tells of itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from trio_gw.config.addresses import parse_address
from trio_gw.config.faults import SettingsFault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.settings import Settings

MAX_SERIES = 10_000
MAX_KEPT = 1000  # files
MIN_INTERVAL = 0.1  # seconds
_CHOICES = {
    "format": ("auto", "text", "json"),
    "level": ("debug", "info", "warning", "error"),
    "access": ("own", "reference", "off"),
}


def check(settings: Settings) -> Iterator[SettingsFault]:
    """Yield the broken rules of these."""
    for key, choices in _CHOICES.items():
        yield from _choice(("log", key), getattr(settings.log, key), choices)
    yield from _metrics(settings)
    yield from _analytics(settings)
    yield from _tracing(settings)


def _metrics(settings: Settings) -> Iterator[SettingsFault]:
    table = settings.metrics
    if not 1 <= table.series <= MAX_SERIES:
        yield SettingsFault(("metrics", "series"), f"metrics.series must be 1 to {MAX_SERIES}")
    if not table.listen:
        return
    path = ("metrics", "listen")
    try:
        parse_address(table.listen)
    except ValueError as error:
        hint = 'write host:port, like "localhost:9091" or ":9091" for every interface'
        yield SettingsFault(
            path, f"metrics.listen: {table.listen!r} is not an address: {error}", hint
        )
    if not table.enabled:
        what = "metrics.listen is given, but metrics.enabled is false"
        yield SettingsFault(path, what, "leave one of them out")


def _analytics(settings: Settings) -> Iterator[SettingsFault]:
    table = settings.analytics
    yield from _choice(("analytics", "detail"), table.detail, ("interval", "frames"))
    yield from _choice(("analytics", "format"), table.format, ("json", "elk"))
    for name in table.sinks:
        yield from _choice(("analytics", "sinks"), name, ("file", "http"))
    if table.enabled and not table.sinks:
        yield SettingsFault(("analytics", "sinks"), "analytics.sinks is empty", 'write ["file"]')
    if not (math.isfinite(table.interval) and table.interval >= MIN_INTERVAL):
        what = f"analytics.interval must be {MIN_INTERVAL:g} seconds or more"
        yield SettingsFault(("analytics", "interval"), what)
    for key, least in (("queue", 1), ("batch", 1), ("max_bytes", 1)):
        if getattr(table, key) < least:
            yield SettingsFault(("analytics", key), f"analytics.{key} must be {least} or more")
    if not 0 <= table.keep <= MAX_KEPT:
        yield SettingsFault(("analytics", "keep"), f"analytics.keep must be 0 to {MAX_KEPT}")
    if not table.file:
        yield SettingsFault(("analytics", "file"), "analytics.file is empty", "name a path")
    if "http" in table.sinks and not _is_url(table.url):
        what = "analytics.url is not an http:// or https:// URL, but the sink http needs one"
        yield SettingsFault(
            ("analytics", "url"), what, 'write it like "https://collector.example/events"'
        )
    if not (table.token.isascii() and table.token.isprintable()):
        what = "analytics.token holds what no HTTP header can: only printable ASCII goes"
        yield SettingsFault(("analytics", "token"), what, "copy it again, without a line end")


def _tracing(settings: Settings) -> Iterator[SettingsFault]:
    table, path = settings.tracing, ("tracing", "endpoint")
    if table.endpoint not in ("", "console"):
        hint = 'write "http://localhost:4318/v1/traces", or "console"'
        if not _is_url(table.endpoint):
            yield SettingsFault(path, "tracing.endpoint is not an http:// or https:// URL", hint)
        elif "@" in urlsplit(table.endpoint).netloc:
            what = "tracing.endpoint holds a user name or password"
            yield SettingsFault(
                path, what, "set OTEL_EXPORTER_OTLP_HEADERS in the environment instead"
            )
    if not 0 <= table.sample_ratio <= 1:
        yield SettingsFault(("tracing", "sample_ratio"), "tracing.sample_ratio must be 0 to 1")
    if not table.service_name.strip():
        yield SettingsFault(("tracing", "service_name"), "tracing.service_name is empty", "name it")


def _is_url(text: str) -> bool:
    """Return whether somebody can be asked there."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return False
    plain = text.isascii() and text.isprintable() and " " not in text
    return plain and url.scheme in ("http", "https") and bool(url.hostname) and port != 0


def _choice(path: tuple[str, str], value: str, choices: tuple[str, ...]) -> Iterator[SettingsFault]:
    if value not in choices:
        words = ", ".join(f'"{choice}"' for choice in choices)
        yield SettingsFault(
            path, f"{'.'.join(path)}: {value!r} is not known", f"use one of {words}"
        )
