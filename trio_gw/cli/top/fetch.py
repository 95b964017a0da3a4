"""Requests everything that the view shows from the admin API."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec
import trio

from trio_gw.cli.client import RefusedError
from trio_gw.cli.top.responses import Answers, Listing, Picture, Plane, Stats, picture
from trio_gw.errors import Problem

if TYPE_CHECKING:
    from trio_gw.cli.client import AsyncAdminClient

SAMPLE = 1.0  # seconds over which rates of connections are measured
LISTED = 200  # connections

T = TypeVar("T")


async def look(
    watch: AsyncAdminClient, sort: str, match: str = "", sample: float = SAMPLE
) -> Answers:
    """Get one update; takes a little longer than `sample`. Raises `RefusedError`."""
    faults: list[RefusedError] = []
    problems: list[Problem] = []
    listings: list[Listing] = []
    planes: list[Plane] = []

    async def watch_connections() -> None:
        query = {"sort": sort, "limit": str(LISTED), "sample": str(int(sample * 1000))}
        if match:
            query["match"] = match
        try:
            listings.append(await _get(watch, "/admin/connections", Listing, query))
        except RefusedError as error:
            faults.append(error)

    async def see_problems() -> None:
        try:
            problems.extend(await _get(watch, "/admin/problems", list[Problem]))
        except RefusedError as error:
            faults.append(error)

    async def see_control_plane() -> None:
        try:
            planes.append(await _get(watch, "/admin/control-plane", Plane))
        except RefusedError as error:
            if error.status != 404:  # there is none
                faults.append(error)

    async with trio.open_nursery() as nursery:
        for task in (watch_connections, see_problems, see_control_plane):
            nursery.start_soon(task)
    if faults:
        raise faults[0]
    plane = planes[0] if planes else None
    return Answers(await stats(watch), listings[0], problems, plane)


async def stats(watch: AsyncAdminClient) -> Stats:
    """Get the counters only. Raises `RefusedError`."""
    return await _get(watch, "/admin/stats", Stats)


async def compared(watch: AsyncAdminClient) -> Picture:
    """Get two updates and compare them. Raises `RefusedError`."""
    await watch.login()
    before = await stats(watch)
    return picture(before, await look(watch, "rate"))


async def _get(
    watch: AsyncAdminClient, path: str, kind: type[T], query: dict[str, str] | None = None
) -> T:
    try:
        body = await watch.ask("GET", path, query)
    except RefusedError as error:
        if error.status == 404:
            what = f"{watch.url} has no {path}: it is not trio-gw, or it is too old"
            raise RefusedError(what, status=404) from None
        raise
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RefusedError(f"{watch.url}{path}: unexpected response: {error}") from None
