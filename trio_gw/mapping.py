"""The backend's path and query for a request: endpoint, URI mapping, client query.

Compiled once per route from the topic's `x-uri-mapping` (spec: routing §5).
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
# Kept of a path parameter in a query value; everything else is escaped, so that it can neither
# add a parameter of its own nor end the request line. (Some backends still take `;` for `&`.)
_QUERY_SAFE = "!$'()*,-./:=?@_~%"
_LITERAL_SAFE = _QUERY_SAFE + "+;[]|"  # of a mapping; as in the URL of an endpoint
# A segment that backends take for `.` or `..`; `;` starts a path parameter for some of them.
_DOT_SEGMENT = re.compile(r"(?:^|[/\\])\.\.?(?:;[^/\\]*)?(?:[/\\]|$)")


class Target:
    """Builds the request target for one topic's backend.

    `pattern` is what the path of every such target matches, below the endpoint's own, in the
    syntax of channel names. `fixed` are the query parameters with a value of the mapping's own.
    `passes` tells whether anything of the client's path is passed on.
    """

    __slots__ = ("_pass_path", "_path", "_query", "fixed", "passes", "pattern")

    def __init__(self, mapping: UriMapping | None, *, passed: str | None = None) -> None:
        """With `passed`, the topic's name, the path that clients ask for is passed on whole."""
        self._pass_path = passed is not None
        # Alternating literal and parameter name, or None without a mapping.
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
        """Build path and query.

        `parameters` are the raw segments of the request path; `query` is the client's, kept
        byte for byte unless the mapping brings its own. `rest` is the raw path below the API's
        base path, appended where the path is passed on; a lone `/` means the endpoint itself.
        Without a mapping the endpoint's path is asked for exactly as it is written, or `/` where
        it is empty. Raises `Refusal` (400) when parameters
        that are harmless in their own segments make up `..` in the mapped path: `{a}.json`, asked
        for as `...json`.
        """
        return self._joined(endpoint, *self.request(parameters, query, rest))

    def url(self, endpoint: Endpoint) -> str:
        """Write the URL that this backend is asked for, for people.

        `{name}` stands for a path parameter, `*` for the rest of the client's path. What the
        client adds to the query is not shown.
        """
        query = "&".join(
            f"{name}={{{found[-1]}}}" if found else f"{name}={literal}"
            for name, literal, found in self._query or ()
        )
        return endpoint.origin + self._joined(endpoint, self.pattern.partition("?")[0], query)

    def _joined(self, endpoint: Endpoint, mapped: str, query: str) -> str:
        """Put the endpoint's path and query in front, with one slash between two paths."""
        base = endpoint.path
        if self._path is None and mapped == "/":
            target = base or "/"
        else:
            target = base.removesuffix("/") + mapped or "/"
        if endpoint.query:
            query = f"{endpoint.query}&{query}" if query else endpoint.query
        return f"{target}?{query}" if query else target

    def request(self, parameters: Mapping[str, str], query: str, rest: str = "") -> tuple[str, str]:
        """Return what `build` adds to the path and the query of an endpoint; `/` for nothing."""
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
            # The parameter replaces the whole value; of several the last known one counts, and
            # a parameter without any known one is left out.
            known = [parameters[p] for p in placeholders if p in parameters]
            if known:
                parts.append(f"{name}={quote(known[-1], safe=_QUERY_SAFE)}")
        return "&".join(parts)
