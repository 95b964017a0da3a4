"""Path and query of the backend request, from endpoint, URI mapping and client query.

Compiled once per route from the `x-uri-mapping` of the topic (spec: routing §5).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, unquote_plus

from trio_gw.errors import router_refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio_gw.config.api import Endpoint, UriMapping

_PLACEHOLDER = re.compile(r"\{uri\.var\.([^{}]*)\}")
# Characters of a path parameter that are not escaped in a query value. All others are, so that a
# value can neither add a parameter nor end the request line. (Some backends still split at `;`.)
_QUERY_SAFE = "!$'()*,-./:=?@_~%"
_LITERAL_SAFE = _QUERY_SAFE + "+;[]|"  # in a mapping, as in the URL of an endpoint
# A segment that backends interpret as `.` or `..`; some treat `;` as the start of a parameter.
_DOT_SEGMENT = re.compile(r"(?:^|[/\\])\.\.?(?:;[^/\\]*)?(?:[/\\]|$)")


class BackendTarget:
    """Builds the request target for the backend of one topic.

    The path of every target, below the path of the endpoint, matches `pattern`, which has the
    syntax of channel names. `fixed` are the query parameters to which the mapping gives a constant
    value. `passes` is true if any part of the client's path is passed on.
    """

    __slots__ = ("_pass_path", "_path", "_query", "fixed", "passes", "pattern")

    def __init__(self, mapping: UriMapping | None, *, passed: str | None = None) -> None:
        """With `passed`, the name of the topic, the whole client path is passed on."""
        self._pass_path = passed is not None
        # Literals and parameter names in turn, or None without a mapping.
        self._path: list[str] | None = None
        self._query: tuple[tuple[str, str, list[str]], ...] | None = None
        self.pattern = "/" if passed is None else passed
        self.fixed: tuple[tuple[str, str], ...] = ()
        self.passes = self._pass_path
        if mapping is not None:
            self._path = _PLACEHOLDER.split(mapping.path)
            self.pattern = _PLACEHOLDER.sub(r"{\1}", mapping.path)
            self.fixed = tuple(
                (unquote_plus(name), unquote_plus(value))
                for name, value in mapping.query or ()
                if not _PLACEHOLDER.search(value)
            )
            self.passes = len(self._path) > 1 or len(self.fixed) < len(mapping.query or ())
            if mapping.query is not None:
                self._query = tuple(
                    (
                        quote(name, safe=_LITERAL_SAFE.replace("=", "")),
                        quote(value, safe=_LITERAL_SAFE),
                        _PLACEHOLDER.findall(value),
                    )
                    for name, value in mapping.query
                )

    def build(
        self, endpoint: Endpoint, parameters: Mapping[str, str], query: str, rest: str = ""
    ) -> str:
        """Return path and query.

        `parameters` are the raw path parameters. `query` is the client's query; it is kept byte
        for byte unless the mapping defines one. `rest` is the raw path below the base path of the
        API. It is appended if the path is passed on; a single `/` means the endpoint itself.
        Without a mapping the path of the endpoint is used exactly as written, or `/` if it is
        empty. Raises `Refusal` (400) when harmless parameters produce a `..` segment in the mapped
        path, for example with `{a}.json` and the request `...json`.
        """
        return self._joined(endpoint, *self.request(parameters, query, rest))

    def url(self, endpoint: Endpoint) -> str:
        """Return the URL of backend requests for display.

        `{name}` stands for a path parameter, `*` for the rest of the client's path. The query of
        the client is not shown.
        """
        query = "&".join(
            f"{name}={{{found[-1]}}}" if found else f"{name}={literal}"
            for name, literal, found in self._query or ()
        )
        return endpoint.origin + self._joined(endpoint, self.pattern.partition("?")[0], query)

    def _joined(self, endpoint: Endpoint, mapped: str, query: str) -> str:
        """Prepend path and query of the endpoint, with one slash between the two paths."""
        base = endpoint.path
        if self._path is None and mapped == "/":
            target = base or "/"
        else:
            target = base.removesuffix("/") + mapped or "/"
        if endpoint.query:
            query = f"{endpoint.query}&{query}" if query else endpoint.query
        return f"{target}?{query}" if query else target

    def request(self, parameters: Mapping[str, str], query: str, rest: str = "") -> tuple[str, str]:
        """Return the path and query that `build` appends to an endpoint; `/` means nothing."""
        path = self._path
        if self._pass_path:
            mapped = rest or "/"
        elif path is None:
            mapped = "/"
        elif len(path) == 1:
            mapped = path[0]
        else:
            mapped = "".join(
                parameters[piece] if index % 2 else piece for index, piece in enumerate(path)
            )
            if _DOT_SEGMENT.search(unquote(mapped)):
                what = "The path must not hold . or .. segments"
                raise router_refusal(400, "400", "Bad Request", what)
        if self._query is not None:
            query = self._mapped_query(parameters) or query
        return mapped, query

    def _mapped_query(self, parameters: Mapping[str, str]) -> str:
        parts: list[str] = []
        for name, literal, placeholders in self._query or ():
            if not placeholders:
                parts.append(f"{name}={literal}")
                continue
            # The placeholder replaces the whole value. The last known one counts; a query
            # parameter without a known placeholder is left out.
            known = [parameters[p] for p in placeholders if p in parameters]
            if known:
                parts.append(f"{name}={quote(known[-1], safe=_QUERY_SAFE)}")
        return "&".join(parts)
