"""Rules of the keys outside tables, of the deadlines and of the listeners and environments."""

from __future__ import annotations

import ipaddress
import math
from typing import TYPE_CHECKING

from trio_gw.config.addresses import is_host_name, parse_address
from trio_gw.config.rules.faults import Fault, dotted, duplicates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.settings import Settings

MAX_WORKERS = 256
LEAST_WORKER_TIMEOUT = 5.0  # a worker that is busy may be late by some
TRAFFIC = ("http", "https")
LISTENERS = (*TRAFFIC, "admin")


def check(settings: Settings) -> Iterator[Fault]:
    """Yield the broken rules of these."""
    yield from _general(settings)
    yield from _listeners(settings)
    yield from _environments(settings)


def _general(settings: Settings) -> Iterator[Fault]:
    for path, value in (
        (("apis",), settings.apis),
        (("deployed",), settings.deployed),
        (("certs",), settings.certs),
        (("revocations",), settings.revocations),
        (("denials",), settings.denials),
    ):
        if not value:
            yield Fault(path, f"{dotted(path)} is empty", "name a path, or leave the key out")
    if settings.on_token_expiry not in ("close", "ignore"):
        yield Fault(
            ("on_token_expiry",),
            f"on_token_expiry: {settings.on_token_expiry!r} is no way to go on",
            'use "close" to end a connection when its token expires, or "ignore"',
        )
    if not 0 <= settings.workers <= MAX_WORKERS:
        yield Fault(
            ("workers",),
            f"workers must be 0 to {MAX_WORKERS}",
            "set workers = 0 for one on each core, or leave it out for one",
        )
    seconds = settings.worker_timeout
    if seconds and not LEAST_WORKER_TIMEOUT <= seconds < math.inf:
        yield Fault(
            ("worker_timeout",),
            f"worker_timeout must be at least {LEAST_WORKER_TIMEOUT:.0f} seconds, and finite",
            "set it to 0 for workers that are never replaced while they hang",
        )
    for name in settings.timeouts.__struct_fields__:
        seconds = getattr(settings.timeouts, name)
        if not (math.isfinite(seconds) and seconds > 0):
            yield Fault(
                ("timeouts", name), f"timeouts.{name} must be more than 0 seconds, and finite"
            )
    for index, text in enumerate(settings.trusted_proxies):
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            yield Fault(
                ("trusted_proxies", index),
                f"trusted_proxies: {text!r} is not an IP address or network",
                "write it like 10.0.0.7 or 10.0.0.0/8",
            )


def _listeners(settings: Settings) -> Iterator[Fault]:
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
            yield Fault(path, f"listen.{name}: {text!r} is not an address: {error}", hint)
            continue
        if address[1] and address in taken:
            yield Fault(
                path, f"listen.{name} and listen.{taken[address]} ask for the same address {text}"
            )
        taken.setdefault(address, name)
    if not settings.listen.http and not settings.listen.https:
        yield Fault(
            ("listen",),
            "listen.http and listen.https are both off, so no API can be reached",
            "turn one of them on",
            "warning",
        )


def _environments(settings: Settings) -> Iterator[Fault]:
    if not settings.environments:
        yield Fault(("environments",), "environments is empty", "leave it out, or add one")
    for index, environment in enumerate(settings.environments):
        path = ("environments", index)
        if not environment.name:
            yield Fault((*path, "name"), f"{dotted(path)}.name is empty")
        if not is_host_name(environment.vhost.removeprefix("*.")):
            yield Fault(
                (*path, "vhost"),
                f"{dotted(path)}.vhost: {environment.vhost!r} is not a host name",
                'write it like "ws.example.com" or "*.example.com", without a port',
            )
    yield from duplicates("environments", "name", [one.name for one in settings.environments])
