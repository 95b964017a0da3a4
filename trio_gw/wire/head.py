"""A request head after all checks. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_gw.wire.fields import NONE, by_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_gw.wire.fields import Field


class RequestHead:
    """A checked request head. Header names are in lower case, in their order.

    `host` is in lower case and without port, `authority` is the Host header as sent. `old`: the
    request came over HTTP/1.0. Then both may be empty.
    """

    __slots__ = ("_named", "authority", "headers", "host", "method", "old", "path", "query")

    def __init__(
        self,
        method: str,
        path: str,
        query: str,
        host: str,
        authority: bytes,
        headers: tuple[Field, ...],
        *,
        old: bool = False,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.host = host
        self.authority = authority
        self.headers = headers
        self.old = old
        self._named = by_name(headers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RequestHead) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def _parts(self) -> tuple[object, ...]:
        named = self.method, self.path, self.query, self.host, self.authority
        return *named, self.headers, self.old

    def values(self, name: bytes) -> Sequence[bytes]:
        """Return the values of every field with this (lower-case) name."""
        return self._named.get(name, NONE)

    def replace(
        self, *, query: str | None = None, headers: tuple[Field, ...] | None = None
    ) -> RequestHead:
        """Return the same head with another query or other headers."""
        return RequestHead(
            self.method,
            self.path,
            self.query if query is None else query,
            self.host,
            self.authority,
            self.headers if headers is None else headers,
            old=self.old,
        )
