"""What settings must satisfy beyond their types.

Called by `settings_file.load` with decoded settings. Pure: it opens no file and resolves no
name. A `Fault` points at a key by its path; the loader knows the file and the line of it.
"""

from __future__ import annotations

import ipaddress
import math
import re
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import msgspec

from trio_gw.config.settings import Issuer, is_host_name, is_loopback, parse_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_gw.config.settings import Settings

KeyPath = tuple[str | int, ...]

ALGORITHMS = frozenset(
    f"{family}{bits}" for family in ("RS", "PS", "ES") for bits in (256, 384, 512)
) | {"EdDSA"}
"""The JWS algorithms that may be allowed (RFC 7518 §3.1, RFC 8037): asymmetric ones only."""

_DEFAULT_PASSWORD = "admin"  # noqa: S105 - known to everyone, hence the rule below
_LISTENERS = ("http", "https", "admin")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ORIGIN = re.compile(r"\*|null|[A-Za-z*][A-Za-z0-9+.*-]*://[A-Za-z0-9.*_\[\]:-]+")


class Fault(msgspec.Struct, frozen=True):
    """A broken rule: the path of its key, what is wrong, how to mend it."""

    path: KeyPath
    what: str
    mend: str = ""
    severity: Literal["error", "warning"] = "error"


def dotted(path: KeyPath) -> str:
    """Write a key path as people do: `issuers[0].jwks`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def check(settings: Settings) -> Iterator[Fault]:
    """Yield every rule that these settings break."""
    yield from _general(settings)
    yield from _listeners(settings)
    for index, issuer in enumerate(settings.issuers):
        yield from _issuer(("issuers", index), issuer)
    yield from _duplicates("issuers", "issuer", [one.issuer for one in settings.issuers])
    yield from _testkey(settings)
    yield from _default_password(settings)
    yield from _environments(settings)
    yield from _backends(settings)
    yield from _cors(settings)


def _general(settings: Settings) -> Iterator[Fault]:
    for path, value in (
        (("apis",), settings.apis),
        (("certs",), settings.certs),
        (("tls", "cert"), settings.tls.cert),
        (("tls", "key"), settings.tls.key),
    ):
        if not value:
            yield Fault(path, f"{dotted(path)} is empty", "name a path, or leave the key out")
    if settings.workers < 1:
        yield Fault(("workers",), "workers is less than 1", "set workers = 1")
    elif settings.workers > 1:
        yield Fault(
            ("workers",),
            "more than one worker is not available in this version",
            "set workers = 1; several workers come later",
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
    for name in _LISTENERS:
        text = getattr(settings.listen, name)
        if not text:
            continue
        path = ("listen", name)
        try:
            address = parse_address(text)
        except ValueError as error:
            mend = 'write host:port, like "localhost:9090" or ":9090" for every interface'
            yield Fault(path, f"listen.{name}: {text!r} is not an address: {error}", mend)
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


def _issuer(path: KeyPath, issuer: Issuer) -> Iterator[Fault]:
    where = dotted(path)
    if not issuer.issuer:
        yield Fault((*path, "issuer"), f"{where}.issuer is empty", "give the text of the iss claim")
    if bool(issuer.certificate) == bool(issuer.jwks):
        both = "both" if issuer.jwks else "neither"
        yield Fault(
            path,
            f"{where} has {both} of certificate and jwks",
            "give exactly one: certificate = a PEM file, or jwks = a URL or file",
        )
    if "://" in issuer.jwks and (wrong := _wrong_url(issuer.jwks)):
        yield Fault((*path, "jwks"), f"{where}.jwks {wrong}", "use https://, or a file")
    if not issuer.algorithms:
        yield Fault((*path, "algorithms"), f"{where}.algorithms is empty", 'for example ["RS256"]')
    for name in issuer.algorithms:
        if name not in ALGORITHMS:
            yield _algorithm(path, name)
    if issuer.validate_subscription:
        # A security setting that is not carried out must not look as if it were.
        yield Fault(
            (*path, "validate_subscription"),
            "subscription validation is not available in this version",
            f"set validate_subscription = false for {where}",
        )


def _algorithm(path: KeyPath, name: str) -> Fault:
    where = (*path, "algorithms")
    if name.lower() == "none":
        return Fault(where, f"algorithm {name!r} leaves tokens unsigned and is never accepted")
    if name.upper().startswith("HS"):
        return Fault(
            where,
            f"algorithm {name!r} is symmetric (HMAC) and is never accepted: whoever can check"
            " such a token can also make one",
            "let the issuer sign with RS256 or ES256",
        )
    known = ", ".join(sorted(ALGORITHMS))
    return Fault(where, f"algorithm {name!r} is not known", f"use some of {known}")


def _wrong_url(text: str) -> str:
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
    except ValueError:
        return "is not a URL"
    if not host:
        return "is not a URL with a host"
    if "@" in url.netloc:
        return "holds credentials, which are not supported there"
    if url.scheme == "https" or (url.scheme == "http" and is_loopback(host)):
        return ""
    if url.scheme == "http":
        return "uses http://, which lets anyone on the way replace the keys"
    return f"uses {url.scheme}://"


def _duplicates(table: str, key: str, values: list[str]) -> Iterator[Fault]:
    for index, value in enumerate(values):
        if value and (first := values.index(value)) < index:
            yield Fault(
                (*table.split("."), index, key),
                f"{table}[{index}].{key} repeats {value!r} of {table}[{first}]",
                "keep one of them",
            )


def _testkey(settings: Settings) -> Iterator[Fault]:
    testkey = settings.testkey
    if not testkey.issuer:
        yield Fault(("testkey", "issuer"), "testkey.issuer is empty")
    if testkey.validity < 1:
        yield Fault(("testkey", "validity"), "testkey.validity must be 1 second or more")
    for index, user in enumerate(testkey.users):
        path = ("testkey", "users", index)
        if not user.username or ":" in user.username:
            # RFC 7617 §2: Basic credentials end the user name at the first colon.
            yield Fault(
                (*path, "username"), f"{dotted(path)}.username is empty or has a colon in it"
            )
        if not user.password:
            yield Fault((*path, "password"), f"{dotted(path)}.password is empty")
    names = [user.username for user in testkey.users]
    yield from _duplicates("testkey.users", "username", names)
    if not testkey.enabled:
        return
    if not testkey.users:
        yield Fault(
            ("testkey", "users"),
            "testkey has no users, so nobody can get a test key",
            "add [[testkey.users]], or set testkey.enabled = false",
            "warning",
        )
    if testkey.issuer not in [one.issuer for one in settings.issuers]:
        yield Fault(
            ("testkey", "issuer"),
            f"no entry of issuers trusts the test keys' issuer {testkey.issuer!r},"
            " so test keys open no API",
            f'add [[issuers]] with that issuer and certificate = "{settings.tls.cert}",'
            " or set testkey.enabled = false",
            "warning",
        )


def _default_password(settings: Settings) -> Iterator[Fault]:
    """Refuse default credentials where others can reach them (spec: mission §2)."""
    open_listeners = []
    for name in _LISTENERS:
        try:
            host, _ = parse_address(getattr(settings.listen, name))
        except ValueError:
            continue  # off, or already reported
        if not is_loopback(host):
            open_listeners.append(name)
    if not settings.testkey.enabled or not open_listeners:
        return
    listeners = " and ".join(f"listen.{name}" for name in open_listeners)
    for index, user in enumerate(settings.testkey.users):
        if user.password == _DEFAULT_PASSWORD:
            yield Fault(
                ("listen", open_listeners[0]),
                f"{listeners} can be reached from other machines while the test-key user"
                f" {user.username!r} still has the default password",
                f"set a password with TRIO_GW_TESTKEY_USERS_{index}_PASSWORD or in"
                " [[testkey.users]], or listen on localhost",
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
    yield from _duplicates("environments", "name", [one.name for one in settings.environments])


def _backends(settings: Settings) -> Iterator[Fault]:
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
            yield Fault(path, f"{dotted(path)} must be {least} or more, and finite")
    for index, status in enumerate(settings.retry.statuses):
        if not 400 <= status <= 599:
            yield Fault(
                ("retry", "statuses", index),
                f"retry.statuses: {status} is not the status of a refusal",
                "use 400 to 599, such as 503 or 504",
            )


def _cors(settings: Settings) -> Iterator[Fault]:
    for name in ("allow_methods", "allow_headers", "expose_headers"):
        for index, text in enumerate(getattr(settings.cors, name)):
            if not _TOKEN.fullmatch(text):
                yield Fault(
                    ("cors", name, index),
                    f"cors.{name}: {text!r} is not a name as HTTP has them",
                    "letters, digits and - only",
                )
    for index, origin in enumerate(settings.cors.allow_origins):
        if not _ORIGIN.fullmatch(origin):
            yield Fault(
                ("cors", "allow_origins", index),
                f"cors.allow_origins: {origin!r} is not an origin",
                'write scheme and host, like "https://app.example", with * where any text may'
                ' stand, or "null"',
            )
    if settings.cors.allow_credentials and "*" in settings.cors.allow_origins:
        yield Fault(
            ("cors", "allow_credentials"),
            'cors.allow_credentials with cors.allow_origins = ["*"] lets every web page act'
            " for its visitors",
            "name the origins that may",
        )
