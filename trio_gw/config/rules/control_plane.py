"""Rules of `[control_plane]`: addresses, passwords, folders; and of its Traffic Manager."""

from __future__ import annotations

import math
import re
from pathlib import PurePath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from trio_gw.config.addresses import is_loopback, parse_address
from trio_gw.config.broker_url import parse_broker_url
from trio_gw.config.control_plane import ControlPlaneSettings, ThrottlingSettings
from trio_gw.config.faults import SettingsFault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.settings import Settings

LONGEST = 3600.0  # seconds of an interval
MOST_ENVIRONMENTS = 100
MOST_RECEIVERS = 100
_DEFAULT_PASSWORD = "admin"  # noqa: S105 - the default of API Manager
_TABLE = "control_plane"
_THROTTLING = "control_plane.throttling"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_USUAL = "it is the default of API Manager, which everybody knows"


def check(settings: Settings) -> Iterator[SettingsFault]:
    """Yield the broken rules of the control plane; nothing is asked of one that is off."""
    table = settings.control_plane
    if not table.url:
        if table != ControlPlaneSettings():
            what = f"{_TABLE}.url is not given, so [{_TABLE}] has no effect"
            hint = "write the URL of API Manager, or remove the table"
            yield _warning("", what, hint)
        return
    yield from _url(table)
    yield from _login(_TABLE, table.username, table.password)
    yield from _environments(table)
    for key in ("retry_interval", "request_timeout"):
        seconds = getattr(table, key)
        if not (math.isfinite(seconds) and 0 < seconds <= LONGEST):
            what = f"{_TABLE}.{key} must be more than 0 and at most {LONGEST:.0f} seconds"
            yield _fault(key, what)
    if table.ca and table.insecure_skip_verify:
        what = f"{_TABLE}.ca has no effect: {_TABLE}.insecure_skip_verify is true"
        yield _warning("ca", what, "remove one of them")
    yield from _events(table)
    yield from _cache(settings)
    yield from _throttling(table.throttling)


def _url(table: ControlPlaneSettings) -> Iterator[SettingsFault]:
    hint = 'write it like "https://apim.example.com:9443/"'
    try:
        host, secure = _base_url(table.url)
    except ValueError as error:
        # Not the URL itself: there may be a password in it.
        what = f"{_TABLE}.url is not the URL of API Manager: {error}"
        yield _fault("url", what, hint)
        return
    if is_loopback(host):
        return
    if not secure:
        what = f"{_TABLE}.url is http://: the password is sent unencrypted"
        yield _warning("url", what, "use https://")
    if table.password == _DEFAULT_PASSWORD:
        what = f"{_TABLE}.password: {_USUAL}"
        yield _warning("password", what, "change it in API Manager, and set it here")
    if table.events == ControlPlaneSettings().events:
        what = f"{_TABLE}.events is not given: events are expected from this machine"
        yield _warning("events", what, "write the broker of API Manager, port 5672")


def _base_url(url: str) -> tuple[str, bool]:
    """Return the host, and whether it is https. Raises ValueError without any part of the URL."""
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise ValueError("it has a character that URLs do not have")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("its host or its port is wrong") from None
    if parts.scheme not in ("https", "http"):
        raise ValueError("it does not start with https:// or http://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("it has credentials; they are keys of their own")
    if "?" in url or "#" in url:
        raise ValueError("it has a query or a fragment")
    if not host:
        raise ValueError("it has no host")
    if port == 0:
        raise ValueError("its host or its port is wrong")
    return host, parts.scheme == "https"


def _login(table: str, username: str, password: str) -> Iterator[SettingsFault]:
    for key, value in (("username", username), ("password", password)):
        path = (*table.split("."), key)
        if not value:
            yield SettingsFault(path, f"{table}.{key} is empty", "set it")
        elif _CONTROL.search(value):
            yield SettingsFault(path, f"{table}.{key} has a control character in it")
    if ":" in username:
        what = f"{table}.username has a colon, which no login can have"
        yield SettingsFault((*table.split("."), "username"), what, "remove it")


def _environments(table: ControlPlaneSettings) -> Iterator[SettingsFault]:
    key, names = "environments", table.environments
    if not 1 <= len(names) <= MOST_ENVIRONMENTS:
        what = f"{_TABLE}.environments must name 1 to {MOST_ENVIRONMENTS} gateway environments"
        yield _fault(key, what, 'write ["Default"]')
    for index, name in enumerate(names):
        if not name or "|" in name or _CONTROL.search(name):
            what = f"{_TABLE}.environments[{index}] is not the name of a gateway environment"
            yield _fault(key, what, "write the name as in API Manager; it has no | in it")
        elif name in names[:index]:
            yield _fault(key, f"{_TABLE}.environments repeats {name!r}", "keep one of them")


def _events(table: ControlPlaneSettings) -> Iterator[SettingsFault]:
    if not table.events:
        what = f"{_TABLE}.events is empty: changes in API Manager would not be seen"
        yield _fault("events", what, 'write ["amqp://user:password@host:5672/"]')
    usual = False
    for index, url in enumerate(table.events):
        try:
            brokers = parse_broker_url(url)
        except ValueError as error:
            what = f"{_TABLE}.events[{index}] is not the URL of a broker: {error}"
            yield _fault("events", what, 'write it like "amqp://user:password@host:5672/"')
        else:
            usual = usual or any(
                broker.password == _DEFAULT_PASSWORD and not is_loopback(broker.host)
                for broker in brokers
            )
    if usual:
        what = f"the password in {_TABLE}.events: {_USUAL}"
        yield _warning("events", what, "change it in API Manager, and set it here")


def _cache(settings: Settings) -> Iterator[SettingsFault]:
    cache = settings.control_plane.cache
    if not cache:
        return
    folders = {"apis": settings.apis, "deployed": settings.deployed}
    if settings.git.url:
        folders["git.folder"] = settings.git.folder
    for name, folder in folders.items():
        if PurePath(cache).is_relative_to(folder) or PurePath(folder).is_relative_to(cache):
            what = f"{_TABLE}.cache and {name} are one folder, or one is in the other"
            yield _fault("cache", what, "name a folder of its own")


def _throttling(table: ThrottlingSettings) -> Iterator[SettingsFault]:
    if not table.enabled:
        if table != ThrottlingSettings():
            what = f"{_THROTTLING}.enabled is not true, so [{_THROTTLING}] has no effect"
            yield _warning("throttling", what, "set it to true, or remove the table")
        return
    yield from _login(_THROTTLING, table.username, table.password)
    groups = {"publish": _groups(table.publish), "login": _groups(table.login)}
    remote = False
    for key, found in groups.items():
        addresses = [address for group in found for address in group]
        if not addresses or not all(found) or len(addresses) > MOST_RECEIVERS:
            what = f"{_THROTTLING}.{key} must name 1 to {MOST_RECEIVERS} addresses"
            yield _receiver(key, what, 'write ["tcp://host:9611"], and for `login` ["ssl://…"]')
        for address in addresses:
            try:
                host, secure = _receiver_address(address)
            except ValueError as error:
                what = f"{_THROTTLING}.{key} has an entry that is not an address: {error}"
                yield _receiver(key, what, 'write it like "tcp://host:9611" or "ssl://host:9711"')
                continue
            remote = remote or not is_loopback(host)
            if key == "login" and not secure and not is_loopback(host):
                what = f"{_THROTTLING}.login has a tcp:// address: the password is not encrypted"
                yield _receiver(key, what, "use ssl://", warning=True)
    if [len(group) for group in groups["publish"]] != [len(group) for group in groups["login"]]:
        what = f"{_THROTTLING}.publish and {_THROTTLING}.login have different shapes"
        yield _receiver("login", what, "give each receiver its login address, in the same order")
    if remote and table.password == _DEFAULT_PASSWORD:
        what = f"{_THROTTLING}.password: {_USUAL}"
        hint = "change it in API Manager, and set it here"
        yield _receiver("password", what, hint, warning=True)


def _groups(entries: tuple[str | tuple[str, ...], ...]) -> list[tuple[str, ...]]:
    return [(entry,) if isinstance(entry, str) else entry for entry in entries]


def _receiver_address(address: str) -> tuple[str, bool]:
    """Return the host, and whether it is TLS. Raises ValueError without any part of the text."""
    scheme, mark, place = address.partition("://")
    if not mark or scheme not in ("tcp", "ssl"):
        raise ValueError("it does not start with tcp:// or ssl://")
    host, port = parse_address(place.removesuffix("/"))
    if not host:
        raise ValueError("the host is missing")
    if not port:
        raise ValueError("the port is not a number from 1 to 65535")
    return host, scheme == "ssl"


def _fault(key: str, what: str, hint: str = "") -> SettingsFault:
    return SettingsFault((_TABLE, key), what, hint)


def _warning(key: str, what: str, hint: str) -> SettingsFault:
    return SettingsFault((_TABLE, key) if key else (_TABLE,), what, hint, "warning")


def _receiver(key: str, what: str, hint: str, *, warning: bool = False) -> SettingsFault:
    path = (_TABLE, "throttling", key)
    return SettingsFault(path, what, hint, "warning" if warning else "error")
