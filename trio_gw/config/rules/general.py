"""Rules of the top-level keys, listeners, environments, backends and CORS."""

from __future__ import annotations

import ipaddress
import math
from typing import TYPE_CHECKING

from trio_gw.config import cors as origins
from trio_gw.config.addresses import is_host_name, parse_address
from trio_gw.config.faults import SettingsFault, dotted, duplicates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.settings import Settings

MAX_WORKERS = 256
LEAST_WORKER_TIMEOUT = 5.0  # a worker that is busy may be late by some
TRAFFIC = ("http", "https")
LISTENERS = (*TRAFFIC, "admin")


def check(settings: Settings) -> Iterator[SettingsFault]:
    """Yield the broken rules of these."""
    yield from _general(settings)
    yield from _listeners(settings)
    yield from _environments(settings)


def _general(settings: Settings) -> Iterator[SettingsFault]:
    for path, value in (
        (("apis",), settings.apis),
        (("deployed",), settings.deployed),
        (("certs",), settings.certs),
        (("revocations",), settings.revocations),
        (("denials",), settings.denials),
    ):
        if not value:
            yield SettingsFault(
                path, f"{dotted(path)} is empty", "name a path, or leave the key out"
            )
    if settings.on_token_expiry not in ("close", "ignore"):
        yield SettingsFault(
            ("on_token_expiry",),
            f"on_token_expiry: {settings.on_token_expiry!r} is not a valid value",
            'use "close" to end a connection when its token expires, or "ignore"',
        )
    if not 0 <= settings.workers <= MAX_WORKERS:
        yield SettingsFault(
            ("workers",),
            f"workers must be 0 to {MAX_WORKERS}",
            "set workers = 0 for one on each core, or leave it out for one",
        )
    seconds = settings.worker_timeout
    if seconds and not LEAST_WORKER_TIMEOUT <= seconds < math.inf:
        yield SettingsFault(
            ("worker_timeout",),
            f"worker_timeout must be at least {LEAST_WORKER_TIMEOUT:.0f} seconds, and finite",
            "set it to 0 for workers that are never replaced while they hang",
        )
    for name in settings.timeouts.__struct_fields__:
        seconds = getattr(settings.timeouts, name)
        if not (math.isfinite(seconds) and seconds > 0):
            yield SettingsFault(
                ("timeouts", name), f"timeouts.{name} must be more than 0 seconds, and finite"
            )
    for index, text in enumerate(settings.trusted_proxies):
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            yield SettingsFault(
                ("trusted_proxies", index),
                f"trusted_proxies: {text!r} is not an IP address or network",
                "write it like 10.0.0.7 or 10.0.0.0/8",
            )


def _listeners(settings: Settings) -> Iterator[SettingsFault]:
    taken: dict[tuple[str, int], str] = {}
    for name in LISTENERS:
        text = getattr(settings.listen, name)
        if not text:
            continue
        path = ("listen", name)
        try:
            address = parse_address(text)
        except ValueError as error:
            hint = 'write host:port, like "localhost:9090" or ":9090" for every interface'
            yield SettingsFault(path, f"listen.{name}: {text!r} is not an address: {error}", hint)
            continue
        if address[1] and address in taken:
            yield SettingsFault(
                path, f"listen.{name} and listen.{taken[address]} use the same address {text}"
            )
        taken.setdefault(address, name)
    if not settings.listen.http and not settings.listen.https:
        yield SettingsFault(
            ("listen",),
            "listen.http and listen.https are both off, so no API can be reached",
            "turn one of them on",
            "warning",
        )


def _environments(settings: Settings) -> Iterator[SettingsFault]:
    if not settings.environments:
        yield SettingsFault(("environments",), "environments is empty", "leave it out, or add one")
    for index, environment in enumerate(settings.environments):
        path = ("environments", index)
        if not environment.name:
            yield SettingsFault((*path, "name"), f"{dotted(path)}.name is empty")
        if not is_host_name(environment.vhost.removeprefix("*.")):
            yield SettingsFault(
                (*path, "vhost"),
                f"{dotted(path)}.vhost: {environment.vhost!r} is not a host name",
                'write it like "ws.example.com" or "*.example.com", without a port',
            )
    yield from duplicates("environments", "name", [one.name for one in settings.environments])


def backends(settings: Settings) -> Iterator[SettingsFault]:
    """Yield the broken rules of `[health]`, `[retry]` and `[dns]`."""
    for path, number, least in (
        (("health", "interval"), settings.health.interval, 0.1),
        (("health", "timeout"), settings.health.timeout, 0.01),
        (("health", "unhealthy"), settings.health.unhealthy, 1),
        (("health", "healthy"), settings.health.healthy, 1),
        (("retry", "limit"), settings.retry.limit, 0),
        (("retry", "backoff"), settings.retry.backoff, 0),
        (("dns", "refresh"), settings.dns.refresh, 0),
    ):
        if not (math.isfinite(number) and number >= least):
            yield SettingsFault(path, f"{dotted(path)} must be {least} or more, and finite")
    for index, status in enumerate(settings.retry.statuses):
        if not 400 <= status <= 599:
            yield SettingsFault(
                ("retry", "statuses", index),
                f"retry.statuses: {status} is not the status of a refusal",
                "use 400 to 599, such as 503 or 504",
            )


def cors(settings: Settings) -> Iterator[SettingsFault]:
    """Yield the broken rules of `[cors]`."""
    for fault in origins.faults(settings.cors):
        path = ("cors", fault.field, fault.index)
        yield SettingsFault(path, f"cors.{fault.field}: {fault.what}", fault.hint)
    if settings.cors.allow_credentials and "*" in settings.cors.allow_origins:
        yield SettingsFault(
            ("cors", "allow_credentials"),
            'cors.allow_credentials with cors.allow_origins = ["*"] lets every web page act'
            " for its visitors",
            "name the origins that may",
        )
