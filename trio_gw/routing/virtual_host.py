"""One host name: the APIs it serves, by base path."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from trio_gw.routing.segments import Work, WorkError
from trio_gw.routing.topics import STEPS

if TYPE_CHECKING:
    from trio_gw.config.api import ApiProject
    from trio_gw.routing.api_routes import ApiRoutes
    from trio_gw.routing.route import Match

log = logging.getLogger("trio_gw.routes")


class VirtualHost:
    """The APIs of one host name, by base path."""

    __slots__ = ("bases", "depth", "lengths")

    def __init__(self) -> None:
        # base path → (whether the API is a default version, API)
        self.bases: dict[str, tuple[bool, ApiRoutes]] = {}
        self.depth = 0
        self.lengths: set[int] = set()  # of the base paths

    def add(self, base: str, api: ApiRoutes) -> None:
        """Serve an API at a base path."""
        self.bases[base] = (api.project.default_version, api)
        self.depth = max(self.depth, base.count("/"))
        self.lengths.add(len(base))

    def match(self, path: str) -> Match | None:
        """Find the route for a raw path.

        The cost depends on the depth of the deepest base path, not on the length of the path.
        """
        candidates: list[tuple[bool, int, ApiRoutes]] = []
        end = 0
        for _ in range(self.depth + 1):
            if end in self.lengths and (found := self.bases.get(path[:end])) is not None:
                candidates.append((found[0], -end, found[1]))
            if end == len(path):
                break
            end = path.find("/", end + 1)
            end = len(path) if end < 0 else end
        candidates.sort(key=lambda candidate: candidate[:2])
        work = Work(STEPS)
        spent: list[tuple[int, ApiRoutes]] = []
        for _, start, api in candidates:
            before = work.left
            try:
                if (match := api.match(path[-start:], work)) is not None:
                    return match
            except WorkError:
                # Do not try the next API: it may be open while the intended one is secured.
                _warn_ambiguous(max([*spent, (before, api)], key=lambda each: each[0])[1])
                return None
            spent.append((before - work.left, api))
        return None

    def api_at(self, path: str) -> ApiProject | None:
        """Find the API with the longest base path that is a prefix of a raw path."""
        for length in sorted(self.lengths, reverse=True):
            if path[length : length + 1] in ("", "/") and (found := self.bases.get(path[:length])):
                return found[1].project
        return None


def _warn_ambiguous(api: ApiRoutes) -> None:
    """Log, once per API, that its topics are too similar to match a path in bounded time."""
    if not api.ambiguous:
        api.ambiguous = True
        log.warning(
            "%s: a request was answered with 404 because its path partly matches too many"
            " channels of %s; give these channels different first path segments",
            *(api.project.folder, api.project.title),
        )
