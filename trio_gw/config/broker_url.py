"""URLs of message brokers, in the two forms that API Manager documents. Pure.

The adapter of the reference system names one broker, the JMS clients name several:

    amqp://user:password@host:5672/vhost?retries='10'&connectdelay='30'
    amqp://user:password@clientId/vhost?brokerlist='tcp://host:5672;tcp://other:5672'

Quotes are optional, and `&` may be written as `%26` or `&amp;` (spec: control-plane §1, §6, §14).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

import msgspec

from trio_gw.config.addresses import parse_address

if TYPE_CHECKING:
    from collections.abc import Iterable

RETRIES, DELAY = 5, 10.0  # attempts, and seconds between them, where the URL says nothing or 0
MOST_RETRIES, LONGEST_DELAY = 10_000, 3600.0
MOST_BROKERS = 64  # of one URL
_LONGEST = 8192  # characters of a URL
_PORTS = {False: 5672, True: 5671}
_QUOTES = " '\""
_SEPARATOR = re.compile(r"&amp;|&|%26")
_BROKER_LIST = re.compile(r"(?:^|&amp;|&|%26)\s*brokerlist\s*=", re.IGNORECASE)
_BROKER = re.compile(r"(tcp|ssl|amqps)://([^?'\"&%/\s]*)(.*)", re.IGNORECASE | re.DOTALL)
_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


class BrokerEndpoint(msgspec.Struct, frozen=True):
    """One broker, and how it is connected to. Its repr hides the password.

    `host` without brackets. `retries` is how often it is tried in a round over all brokers,
    `delay` the seconds between two attempts.
    """

    host: str
    port: int
    tls: bool
    vhost: str
    user: str
    password: str
    retries: int = RETRIES
    delay: float = DELAY

    @property
    def label(self) -> str:
        """The endpoint for logs, without user and password: `amqp://host:5672`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"amqp{'s' if self.tls else ''}://{host}:{self.port}"

    def __repr__(self) -> str:
        return f"BrokerEndpoint({self.label!r}, vhost={self.vhost!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("label", self.label), ("vhost", self.vhost)]


class _Login(NamedTuple):
    vhost: str
    user: str
    password: str


def parse_broker_urls(urls: Iterable[str]) -> tuple[BrokerEndpoint, ...]:
    """Return the brokers of several URLs, in order. Raises ValueError like `parse_broker_url`."""
    return tuple(endpoint for url in urls for endpoint in parse_broker_url(url))


def parse_broker_url(url: str) -> tuple[BrokerEndpoint, ...]:
    """Return the brokers of one URL, at least one, in the order in which they are tried.

    Raises ValueError. The text says what is wrong and contains nothing of the URL: a password
    with a wrong character can be anywhere in it.
    """
    if len(url) > _LONGEST:
        raise ValueError(f"the URL is longer than {_LONGEST} characters")
    scheme, mark, rest = url.strip().partition("://")
    tls = {"amqp": False, "amqps": True}.get(scheme.lower())
    if not mark or tls is None:
        raise ValueError("the URL does not start with amqp:// or amqps://")
    if _CONTROL.search(rest.partition("?")[0]):
        raise ValueError("the URL contains a space or a control character")
    before, _, query = rest.partition("?")
    authority, _, path = before.partition("/")
    if "@" in path or "@" in query or "#" in rest:
        raise ValueError(
            "write / ? # in the user and the password, and @ # after the host, as %2F %3F %23 %40"
        )
    credentials, at, place = authority.rpartition("@")
    user, _, password = credentials.partition(":")
    login = _Login(
        _decoded(path) or "/",
        _decoded(user) if at else "guest",
        _decoded(password) if at else "guest",
    )
    if any(len(text.encode()) > 127 for text in login):
        raise ValueError("the virtual host, the user or the password is longer than 127 octets")
    found = _BROKER_LIST.search(query)
    if found:
        brokers = [part for part in query[found.end() :].split(";") if part.strip(_QUOTES)]
        if not 1 <= len(brokers) <= MOST_BROKERS:
            raise ValueError(f"`brokerlist` does not name 1 to {MOST_BROKERS} brokers")
        return tuple(_listed(broker, tls, login) for broker in brokers)
    host, port = _address(place, tls)
    retries = _number(query, "retries", MOST_RETRIES)
    delay = _number(query, "connectdelay", LONGEST_DELAY)
    return (_endpoint(host, port, tls, login, retries, delay),)


def _listed(text: str, tls: bool, login: _Login) -> BrokerEndpoint:
    """Return one broker of the JMS form: `tcp://host:port?retries='5'&connectdelay='50'`.

    There the delay is in milliseconds. Options of the list may follow its last broker.
    """
    matched = _BROKER.match(text.strip(_QUOTES))
    if matched is None:
        raise ValueError("a broker of `brokerlist` does not start with tcp:// or ssl://")
    scheme, place, options = matched.groups()
    tls = tls or scheme.lower() != "tcp" or _option(options, "ssl").lower() == "true"
    host, port = _address(place, tls)
    retries = _number(options, "retries", MOST_RETRIES)
    delay = _number(options, "connectdelay", LONGEST_DELAY * 1000) / 1000
    return _endpoint(host, port, tls, login, retries, delay)


def _endpoint(
    host: str, port: int, tls: bool, login: _Login, retries: float, delay: float
) -> BrokerEndpoint:
    return BrokerEndpoint(host, port, tls, *login, int(retries) or RETRIES, delay or DELAY)


def _address(text: str, tls: bool) -> tuple[str, int]:
    """Split `host:port`; the port may be missing."""
    bare = text.rpartition("]")[2] if text.startswith("[") else text
    host, port = parse_address(text if ":" in bare else f"{text}:{_PORTS[tls]}")
    if not host:
        raise ValueError("the host is missing")
    if not port:
        raise ValueError("the port is not a number from 1 to 65535")
    return host, port


def _option(text: str, name: str) -> str:
    """Return the value of an option without its quotes; empty if it is missing."""
    for part in _SEPARATOR.split(text):
        key, _, value = part.strip(_QUOTES + "?").partition("=")
        if key.strip().lower() == name:
            return value.strip(_QUOTES)
    return ""


def _number(text: str, name: str, most: float) -> float:
    """Return a number from 0 to `most`; 0 if the option is missing."""
    value = _option(text, name)
    if not value:
        return 0
    if not _NUMBER.fullmatch(value) or float(value) > most:
        raise ValueError(f"`{name}` is not a number from 0 to {most:.0f}")
    return float(value)


def _decoded(text: str) -> str:
    """Decode `%XX`, as UTF-8."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("percent-encoded text in the URL is not UTF-8") from None
