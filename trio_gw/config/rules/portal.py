"""Rules of the table `[portal]`."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from trio_gw.config.addresses import is_host_name, is_loopback, parse_address
from trio_gw.config.faults import SettingsFault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.settings import Settings

MOST_REVISIONS = 1000  # of one API


def check(settings: Settings) -> Iterator[SettingsFault]:
    """Yield the broken rules of the portal."""
    table = settings.portal
    yield from _local(table.local)
    if table.listen:
        try:
            parse_address(table.listen)
        except ValueError as error:
            yield SettingsFault(("portal", "listen"), f"portal.listen {table.listen!r}: {error}")
    for index, name in enumerate(table.hosts):
        if not is_host_name(name.removeprefix("*.")):
            yield SettingsFault(
                ("portal", "hosts", index),
                f"{name[:80]!r} is not a host name",
                'write it without scheme and port, like "gateway.example" or "*.example.com"',
            )
    for key, schemes in (("public_http", ("http", "ws")), ("public_https", ("https", "wss"))):
        if (text := getattr(table, key)) and not _is_origin(text, schemes):
            yield SettingsFault(
                ("portal", key),
                f"portal.{key} is not a URL without a path",
                f'write scheme, host and port, like "{schemes[-1]}://ws.example.com"',
            )
    if not table.folder:
        yield SettingsFault(("portal", "folder"), "portal.folder is empty")
    elif table.folder in (settings.apis, settings.deployed):
        what = "portal.folder is also the folder of API projects"
        yield SettingsFault(("portal", "folder"), what, "name a separate folder")
    if not 1 <= table.revisions <= MOST_REVISIONS:
        yield SettingsFault(
            ("portal", "revisions"), f"portal.revisions must be from 1 to {MOST_REVISIONS}"
        )


def _local(text: str) -> Iterator[SettingsFault]:
    if not text:
        return
    try:
        host, _ = parse_address(text)
    except ValueError as error:
        yield SettingsFault(("portal", "local"), f"portal.local {text!r}: {error}")
        return
    if not is_loopback(host):
        yield SettingsFault(
            ("portal", "local"),
            "portal.local has no TLS, so it must be a loopback address",
            'use "localhost:9844"; from other machines the portal is reached at listen.admin',
        )


def _is_origin(text: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    name = (parts.hostname or "").strip("[]")
    known = is_host_name(name) or ":" in name
    plain = text.rstrip("/") == f"{parts.scheme}://{parts.netloc}" and "@" not in parts.netloc
    return parts.scheme in schemes and known and plain and (port is None or port > 0)
